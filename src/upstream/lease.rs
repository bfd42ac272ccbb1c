//! A leased connection as one owned value, and the one function in which a lease ends.
//!
//! Whoever lets go of a lease without saying how, by a panic too, has its connection closed: what
//! state it is in is not known.

use std::rc::Rc;

use super::cleanse;
use super::dial;
use super::lend;
use super::permit::Permit;
use super::pool::PoolState;
use super::protocol::Protocol;
use crate::base::close::CloseReason;
use crate::net::{self, Stream};
use crate::pool::{Lease, LeaseEnd, OnReturn};

/// An upstream connection: its socket, its session and its permit.
pub struct Connection<P: Protocol> {
    /// Its socket.
    pub stream: Stream,
    /// Its session.
    pub session: P::Session,
    /// Free when all else is gone.
    pub(super) permit: Permit<P>,
    /// Who has it.
    pub(super) leases: LeaseQueue,
}

impl<P: Protocol> Connection<P> {
    /// A connection that nobody has leased.
    pub(super) fn new(stream: Stream, session: P::Session, permit: Permit<P>) -> Box<Self> {
        Box::new(Self {
            stream,
            session,
            permit,
            leases: LeaseQueue::default(),
        })
    }
}

/// A connection as pools keep it.
pub(super) type PooledLease<P> = Lease<Box<Connection<P>>>;

/// How a lease ends.
#[must_use]
pub enum Ending<P: Protocol> {
    /// At a command boundary with all state known: the next one may have the connection.
    Return,
    /// As `Return`, of a connection that has come into a schema, and so into another pool.
    Move(Rc<PoolState<P>>),
    /// At a command boundary, with state that can be undone: the next one may have the connection after
    /// that, in the pool given if it has come into or out of a schema. For what reason it is closed if it
    /// cannot be undone.
    Cleanse(Option<Rc<PoolState<P>>>, CloseReason),
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
pub struct Leased<P: Protocol> {
    pool: Rc<PoolState<P>>,
    /// Here until the lease ends.
    lease: Option<PooledLease<P>>,
}

impl<P: Protocol> Leased<P> {
    /// A connection that its pool counts as leased, for `owner`: a session's number, 0 for the
    /// gateway itself.
    pub(super) fn new(pool: &Rc<PoolState<P>>, mut lease: PooledLease<P>, owner: u64) -> Self {
        let endpoint = &pool.endpoint;
        endpoint.leased.set(endpoint.leased.get().saturating_add(1));
        endpoint.metrics.leases.inc();
        lease.connection.leases.enter(owner);
        if owner != 0 {
            P::claim(&lease.connection.session, owner);
        }
        Self {
            pool: Rc::clone(pool),
            lease: Some(lease),
        }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection<P> {
        match &self.lease {
            Some(lease) => &lease.connection,
            None => unreachable!("a lease that has ended is gone"),
        }
    }

    /// Its pool.
    pub(super) fn pool(&self) -> &Rc<PoolState<P>> {
        &self.pool
    }

    /// The connection, to be used.
    pub fn connection_mut(&mut self) -> &mut Connection<P> {
        match &mut self.lease {
            Some(lease) => &mut lease.connection,
            None => unreachable!("a lease that has ended is gone"),
        }
    }

    /// The one way in which a lease ends.
    pub fn end(mut self, ending: Ending<P>) {
        if let Some(lease) = self.lease.take() {
            end(&self.pool, lease, ending);
        }
    }
}

impl<P: Protocol> Drop for Leased<P> {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        if self.pool.endpoint.site.core.is_over() {
            return;
        }
        if !std::thread::panicking() {
            let ending = Ending::Discard(CloseReason::ClientGone);
            return end(&self.pool, lease, ending);
        }
        // What a panic has interrupted may still be borrowed here, and is not in the next turn.
        let pool = Rc::clone(&self.pool);
        net::spawn("upstream discard", async move {
            end(&pool, lease, Ending::Discard(CloseReason::Panic));
        })
        .detach();
    }
}

fn end<P: Protocol>(pool: &Rc<PoolState<P>>, mut lease: PooledLease<P>, ending: Ending<P>) {
    let endpoint = &pool.endpoint;
    if endpoint.site.core.is_over() {
        return;
    }
    endpoint.leased.set(endpoint.leased.get().saturating_sub(1));
    let owner = lease.connection.leases.leave();
    P::unclaim(&lease.connection.session);
    endpoint.site.tell_others();
    let now = endpoint.site.core.net.now();
    match ending {
        Ending::Return if pool.reaper.takes() => {
            let leased = Leased::new(pool, lease, 0);
            pool.reaper.give(leased);
        }
        Ending::Return => {
            pool.turn_away(now);
            let given = pool.on_return(now);
            if given != OnReturn::Keep {
                let lease = pool.change(|pool| pool.give_up(lease, owner));
                return lend::give_returned(pool, lease, &given);
            }
            // Only a session that left something on the connection wants this very one back.
            let is_wanted = P::holds_for(&lease.connection.session, owner);
            let mark = if is_wanted { owner } else { 0 };
            let leaves_place = pool.leaves_place(now);
            let ended = pool.change(|pool| {
                if leaves_place {
                    pool.hold_back(true);
                }
                pool.end(lease, mark, LeaseEnd::Return, now)
            });
            pool.place(ended);
        }
        Ending::Move(other) => {
            let lease = pool.change(|pool| pool.give_up(lease, owner));
            let ended = other.change(|pool| pool.lent(lease, now));
            other.place(ended);
            endpoint.settle();
        }
        Ending::Cleanse(other, reason) => {
            let leased = Leased::new(pool, lease, 0);
            cleanse::start(leased, other, reason);
        }
        Ending::Discard(reason) => {
            let end = LeaseEnd::Discard(reason);
            let ended = pool.change(|pool| pool.end(lease, owner, end, now));
            pool.place(ended);
        }
        Ending::Close(reason) => {
            let lease = pool.change(|pool| pool.give_up(lease, owner));
            dial::close(endpoint, *lease.connection, reason);
        }
    }
}
