//! Endpoints that a reload took away. Clients that are still on one are served there to their end;
//! after that its connections are closed. One that comes back before that goes on with its permits:
//! the budget holds over reloads.

use std::rc::Rc;

use super::dial;
use super::endpoint::Endpoint;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::close::CloseReason;
use crate::pool::Counts;

/// Remembers the endpoints of `old` that are no longer current, and forgets those that are back.
pub(super) fn note<P: Protocol>(site: &Upstreams<P>, old: &[Rc<Endpoint<P>>]) {
    let current = site.current.borrow();
    let is_back = |endpoint: &Rc<Endpoint<P>>| {
        let mut endpoints = current.iter();
        endpoints.any(|kept| Rc::ptr_eq(kept, endpoint))
    };
    let mut leaving = site.leaving.borrow_mut();
    leaving.extend(old.iter().cloned());
    leaving.retain(|endpoint| !is_back(endpoint));
}

/// Closes what nobody uses any more.
pub(super) fn look<P: Protocol>(site: &Upstreams<P>) {
    let leaving = site.leaving.take();
    let left = leaving.into_iter().filter(|endpoint| !is_over(endpoint));
    let left: Vec<_> = left.collect();
    site.leaving.borrow_mut().extend(left);
}

fn is_over<P: Protocol>(endpoint: &Rc<Endpoint<P>>) -> bool {
    endpoint.sweep();
    let mut idle = Vec::new();
    // A pool that only its endpoint knows has no clients.
    endpoint.pools.borrow_mut().retain(|pool| {
        if Rc::strong_count(pool) > 1 {
            return true;
        }
        let mut inner = pool.pool.borrow_mut();
        while let Some(lease) = inner.take_longest_idle() {
            idle.push(lease.connection);
        }
        inner.counts() != Counts::default()
    });
    for connection in idle {
        dial::close(endpoint, *connection, CloseReason::PoolReclaimed);
    }
    endpoint.gauge();
    let is_over = endpoint.pools.borrow().is_empty() && endpoint.permits.borrow().in_use() == 0;
    if is_over {
        endpoint.metrics.permits.set(0);
    }
    is_over
}
