//! Endpoints that a reload took away. Clients that are still on one are served there to their end;
//! after that its connections are closed. Its permits stay: other cores may hold more or fewer of them
//! than their part, and may be done with it sooner or later, so that an endpoint which comes back must
//! go on with what each core had. What is left of one that does not come back is a few hundred bytes.

use std::rc::Rc;

use super::dial;
use super::endpoint::Endpoint;
use super::pool::PoolState;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::close::CloseReason;
use crate::pool::Pool;

/// Remembers the endpoints of `old` that are no longer current, and forgets those that are back.
pub(super) fn note<P: Protocol>(site: &Upstreams<P>, old: &[Rc<Endpoint<P>>]) {
    let current = site.current.borrow();
    let is_back = |endpoint: &Rc<Endpoint<P>>| {
        let mut endpoints = current.iter();
        endpoints.any(|kept| Rc::ptr_eq(kept, endpoint))
    };
    old.iter()
        .for_each(|endpoint| endpoint.is_current.set(false));
    current
        .iter()
        .for_each(|endpoint| endpoint.is_current.set(true));
    let mut former = site.former.borrow_mut();
    former.extend(old.iter().cloned());
    former.retain(|endpoint| !is_back(endpoint));
}

/// Closes what nobody uses any more.
pub(super) fn look<P: Protocol>(site: &Upstreams<P>) {
    let former = site.former.borrow().clone();
    former.iter().for_each(clear);
}

fn clear<P: Protocol>(endpoint: &Rc<Endpoint<P>>) {
    let mut idle = Vec::new();
    // A pool that only its endpoint knows has no clients.
    let unknown = |pool: &&Rc<PoolState<P>>| Rc::strong_count(pool) == 1;
    for pool in endpoint.pools.borrow().all().filter(unknown) {
        while let Some(lease) = pool.change(Pool::take_longest_idle) {
            idle.push(lease.connection);
        }
    }
    endpoint.remove_unused();
    for connection in idle {
        dial::close(endpoint, *connection, CloseReason::PoolReclaimed);
    }
    endpoint.gauge();
}
