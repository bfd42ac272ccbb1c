//! A leased connection as one owned value, and the one function in which a lease ends.
//!
//! Whoever lets go of a lease without saying how, by a panic too, has its connection closed: what
//! state it is in is not known.

use std::rc::Rc;

use super::dial;
use super::endpoint::{PoolState, UpstreamConnection};
use super::lend;
use super::world::World;
use crate::base::close::CloseReason;
use crate::net;
use crate::pool::{Lease, LeaseEnd, OnReturn};

/// A connection as pools keep it.
pub(super) type PooledLease = Lease<Box<UpstreamConnection>>;

/// How a lease ends.
#[must_use]
pub(super) enum Ending {
    /// At a command boundary with all state known: the next one may have the connection.
    Return,
    /// As `Return`, of a connection that has come into a schema, and so into another pool.
    Move(Rc<PoolState>),
    /// The connection is closed; a statement that still runs on it is killed.
    Discard(CloseReason),
    /// The connection is closed, whatever runs on it.
    Close(CloseReason),
}

/// Who has a connection: replies come in the order of this queue. It holds one lease at most as long
/// as a connection serves one session at a time; statements of several sessions that share a
/// connection would stand here one behind the other.
#[derive(Debug, Default)]
pub(super) struct LeaseQueue(Option<u64>);

impl LeaseQueue {
    fn enter(&mut self, owner: u64) {
        debug_assert!(self.0.is_none(), "one lease at a time");
        self.0 = Some(owner);
    }

    /// The oldest lease ends; gives its owner.
    fn leave(&mut self) -> u64 {
        self.0.take().unwrap_or_default()
    }
}

/// A leased connection with its pool and its permit. Dropping it discards the connection.
#[must_use = "dropped, its connection is closed"]
pub(super) struct Leased {
    world: Rc<World>,
    pool: Rc<PoolState>,
    /// Here until the lease ends.
    lease: Option<PooledLease>,
}

impl Leased {
    /// A connection that its pool counts as leased, for `owner`: a session's number, 0 for the
    /// gateway itself.
    pub(super) fn new(
        world: &Rc<World>,
        pool: &Rc<PoolState>,
        mut lease: PooledLease,
        owner: u64,
    ) -> Self {
        let endpoint = &pool.endpoint;
        endpoint.leased.set(endpoint.leased.get().saturating_add(1));
        endpoint.metrics.leases.inc();
        lease.connection.leases.enter(owner);
        if owner != 0 {
            lease.connection.session.claimed_by(owner);
        }
        Self {
            world: Rc::clone(world),
            pool: Rc::clone(pool),
            lease: Some(lease),
        }
    }

    /// The connection.
    pub(super) fn connection(&self) -> &UpstreamConnection {
        match &self.lease {
            Some(lease) => &lease.connection,
            None => unreachable!("a lease that has ended is gone"),
        }
    }

    /// The connection, to be used.
    pub(super) fn connection_mut(&mut self) -> &mut UpstreamConnection {
        match &mut self.lease {
            Some(lease) => &mut lease.connection,
            None => unreachable!("a lease that has ended is gone"),
        }
    }

    /// The one way in which a lease ends.
    pub(super) fn end(mut self, ending: Ending) {
        if let Some(lease) = self.lease.take() {
            end(&self.world, &self.pool, lease, ending);
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        if !std::thread::panicking() {
            let ending = Ending::Discard(CloseReason::ClientGone);
            return end(&self.world, &self.pool, lease, ending);
        }
        // What a panic has interrupted may still be borrowed here, and is not in the next turn.
        let (world, pool) = (Rc::clone(&self.world), Rc::clone(&self.pool));
        net::spawn("upstream discard", async move {
            end(&world, &pool, lease, Ending::Discard(CloseReason::Panic));
        })
        .detach();
    }
}

fn end(world: &Rc<World>, pool: &Rc<PoolState>, mut lease: PooledLease, ending: Ending) {
    let endpoint = &pool.endpoint;
    endpoint.leased.set(endpoint.leased.get().saturating_sub(1));
    let owner = lease.connection.leases.leave();
    lease.connection.session.unclaimed();
    world.wake_settled();
    let now = world.net.now();
    match ending {
        Ending::Return if pool.reaper.takes() => {
            let leased = Leased::new(world, pool, lease, 0);
            pool.reaper.give(leased);
        }
        Ending::Return => {
            let given = pool.on_return(now);
            if given != OnReturn::Keep {
                let lease = pool.pool.borrow_mut().give_up(lease, owner);
                return lend::give_returned(world, pool, lease, &given);
            }
            // Only a session that left something on the connection wants this very one back.
            let is_wanted = lease.connection.session.holds_for(owner);
            let mark = if is_wanted { owner } else { 0 };
            let ended = pool
                .pool
                .borrow_mut()
                .end(lease, mark, LeaseEnd::Return, now);
            pool.place(world, ended);
        }
        Ending::Move(other) => {
            let lease = pool.pool.borrow_mut().give_up(lease, owner);
            let ended = other.pool.borrow_mut().lent(lease, now);
            other.place(world, ended);
            endpoint.settle(world);
        }
        Ending::Discard(reason) => {
            let end = LeaseEnd::Discard(reason);
            let ended = pool.pool.borrow_mut().end(lease, owner, end, now);
            pool.place(world, ended);
        }
        Ending::Close(reason) => {
            let lease = pool.pool.borrow_mut().give_up(lease, owner);
            dial::close(world, endpoint, lease.connection, reason);
        }
    }
}
