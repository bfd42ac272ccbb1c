//! Pools of upstream connections: pure bookkeeping of idle lists, waiters and permits.
//!
//! No sockets and no clock: `C` is whatever the driver calls a connection, time comes in as
//! [`Now`]. One [`Pool`] per core, endpoint and [`Key`]; one [`Permits`], one [`NodePlace`]
//! and one [`Backoff`] per core and endpoint. Invariants: every open connection (connecting, leased or idle) holds one
//! permit of its core; a lease ends exactly once; no queue without a bound.

mod backoff;
mod bound;
mod chain;
mod codel;
mod demand;
mod effect;
mod gate;
mod idle;
mod key;
mod lease;
mod permits;
mod place;
mod waiters;

use std::time::Duration;

pub use backoff::{Backoff, Sign};
pub use bound::Counted;
pub use demand::{Demand, Patience};
pub use effect::{Effect, OnReturn, PermitBody, PermitMessage};
pub use gate::{Facts, Gate, PoolId};
pub use idle::IdleId;
pub use key::Key;
pub use lease::{Lease, LeaseEnd};
pub use permits::{Permits, split};
pub use place::{NodePlace, PlaceBody, PlaceMessage, Whereabouts};
pub use waiters::{Full, Waiter, WaiterId};

use crate::base::{
    clock::{Deadline, Now},
    close::CloseReason,
    prng::Prng,
};
use idle::Idle;
use waiters::Waiters;

/// The bounds of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Sessions that may wait at once.
    pub waiters_max: u32,
    /// How long each may wait where their queue stands; `None`: as long as it likes.
    pub wait_target: Option<Duration>,
    /// How long a connection may be idle.
    pub idle_max: Duration,
    /// How old a connection may become; each one's own limit is up to a tenth shorter, so that
    /// connections opened together do not end together.
    pub age_max: Duration,
}

/// What became of a connection whose lease ended.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Ended<C> {
    /// It is idle in the pool, at this place.
    Idle(IdleId),
    /// It belongs to the longest waiter now; the driver wakes that session.
    HandedOver {
        /// The waiter, already out of the queue.
        to: Waiter,
        /// Its lease.
        lease: Lease<C>,
    },
    /// The driver closes it, and calls [`Permits::released`] when the socket is closed.
    Close(C, CloseReason),
}

/// The connections of one core to one endpoint under one [`Key`].
#[derive(Debug)]
pub struct Pool<C> {
    limits: PoolLimits,
    idle: Idle<C>,
    waiters: Waiters,
    connecting: u32,
    leased: u32,
    is_held_back: bool,
}

impl<C> Pool<C> {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        let mut waiters = Waiters::new(limits.waiters_max);
        waiters.set_target(limits.wait_target);
        Self {
            limits,
            idle: Idle::default(),
            waiters,
            connecting: 0,
            leased: 0,
            is_held_back: false,
        }
    }

    /// Whether connections that come go to the idle list though some wait here, until this is called again:
    /// their tenant has more than it may ([`Gate::is_over_bound`]), or another of its pools is to have the
    /// place of the one that comes ([`Gate::leaves_place`]).
    pub fn hold_back(&mut self, is_held_back: bool) {
        self.is_held_back = is_held_back;
    }

    /// Other bounds from now on. Connections that are here already keep their age where the new one is longer.
    pub fn set_limits(&mut self, limits: PoolLimits) {
        self.limits = limits;
        self.waiters.set_max(limits.waiters_max);
        self.waiters.set_target(limits.wait_target);
        self.idle.retire_by(limits.age_max);
    }

    /// An idle connection for the session `owner` (never 0): the one it used last, else the one
    /// used last by anybody. `None` when none is idle: enqueue, and open one if a waiter is
    /// [uncovered](Pool::uncovered).
    pub fn take(&mut self, owner: u64) -> Option<Lease<C>> {
        let lease = self.idle.take(owner)?;
        self.leased += 1;
        Some(lease)
    }

    /// Ends a lease of the session `owner`: returned to the longest waiter, else to the idle
    /// list; or discarded. A connection beyond its age is not kept. Ask [`Permits::on_return`]
    /// first whether another core is due this connection, and use [`Pool::give_up`] if so.
    pub fn end(&mut self, mut lease: Lease<C>, owner: u64, end: LeaseEnd, now: Now) -> Ended<C> {
        self.leased = self.leased.saturating_sub(1);
        lease.last_owner = owner;
        lease.retire_by(self.limits.age_max);
        match end {
            LeaseEnd::Discard(reason) => Ended::Close(lease.connection, reason),
            LeaseEnd::Return if lease.retires_at.is_over(now) => {
                Ended::Close(lease.connection, CloseReason::PoolAge)
            }
            LeaseEnd::Return => self.place(lease, now),
        }
    }

    /// Ends a lease whose connection leaves this pool to be closed or lent to another core.
    pub fn give_up(&mut self, mut lease: Lease<C>, owner: u64) -> Lease<C> {
        self.leased = self.leased.saturating_sub(1);
        lease.last_owner = owner;
        lease
    }

    /// A connect began; the driver took a permit for it.
    pub fn connect_started(&mut self) {
        self.connecting += 1;
    }

    /// The connect failed; the driver gives its permit back.
    pub fn connect_failed(&mut self) {
        self.connecting = self.connecting.saturating_sub(1);
    }

    /// The connect succeeded: the connection goes to the longest waiter, else to the idle list.
    pub fn connected(&mut self, connection: C, now: Now, prng: &mut Prng) -> Ended<C> {
        self.connecting = self.connecting.saturating_sub(1);
        let age = self.limits.age_max;
        let tenth = u64::try_from((age / 10).as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(prng.below(tenth.saturating_add(1)));
        let lease = Lease {
            connection,
            opened_at: now,
            retires_at: now.plus(age.saturating_sub(jitter)),
            last_owner: 0,
        };
        self.place(lease, now)
    }

    /// A connection lent by another core joins this pool, with its permit (see
    /// [`Permits::received`]).
    pub fn lent(&mut self, mut lease: Lease<C>, now: Now) -> Ended<C> {
        // Session numbers are a core's own.
        lease.last_owner = 0;
        lease.retire_by(self.limits.age_max);
        self.place(lease, now)
    }

    fn place(&mut self, lease: Lease<C>, now: Now) -> Ended<C> {
        if !self.is_held_back
            && let Some(to) = self.waiters.pop_oldest(now)
        {
            self.leased += 1;
            return Ended::HandedOver { to, lease };
        }
        Ended::Idle(self.idle.put(lease, now))
    }

    /// Queues the session `owner`.
    ///
    /// # Errors
    /// [`Full`] when `waiters_max` sessions wait.
    pub fn enqueue(&mut self, owner: u64, now: Now, deadline: Deadline) -> Result<WaiterId, Full> {
        self.waiters.enqueue(owner, now, deadline)
    }

    /// Frees the place of a session that left; `false` when it was served before.
    pub fn cancel(&mut self, id: WaiterId, now: Now) -> bool {
        self.waiters.cancel(id, now)
    }

    /// The session that waits longest.
    pub fn oldest_waiter(&self) -> Option<Waiter> {
        self.waiters.oldest()
    }

    /// Takes the longest waiter out, to fail it.
    pub fn pop_waiter(&mut self, now: Now) -> Option<Waiter> {
        self.waiters.pop_oldest(now)
    }

    /// Has the queue's clock run while a connection is in use here and more wait than connections come for. Call
    /// it after whatever changes the pool.
    pub fn follow(&mut self, now: Now) {
        if self.limits.wait_target.is_some() {
            let runs = self.leased > 0 && self.uncovered() > 0;
            self.waiters.run(runs, now);
        }
    }

    /// Takes the longest waiter out if the queue stands and it waits for longer than is right. Call it until
    /// `None` before a connection is given to anybody who waits, and at [`Pool::turns_away`].
    pub fn pop_turned_away(&mut self, now: Now) -> Option<Waiter> {
        self.waiters.pop_turned_away(now)
    }

    /// When [`Pool::pop_turned_away`] will next find somebody by time alone.
    pub fn turns_away(&self) -> Deadline {
        self.waiters.turns_away()
    }

    /// Waiters that no connect under way will serve, nor an idle connection, which waits here for their
    /// tenant's bound alone.
    pub fn uncovered(&self) -> u32 {
        let coming = self.connecting.saturating_add(self.idle.len());
        self.waiters.len().saturating_sub(coming)
    }

    /// Whether somebody waits here though a connection is idle.
    pub fn is_held_up(&self) -> bool {
        self.waiters.len() > 0 && !self.idle.is_empty()
    }

    /// Whether no connection exists, or is being made, that could come to those who wait.
    pub fn is_without(&self) -> bool {
        self.connecting == 0 && self.leased == 0 && self.idle.is_empty()
    }

    /// Takes the connection idle for longest, to close it or to lend it.
    pub fn take_longest_idle(&mut self) -> Option<Lease<C>> {
        self.idle.take_oldest()
    }

    /// Since when the longest-idle connection is idle.
    pub fn idle_since(&self) -> Option<Now> {
        self.idle.oldest_since()
    }

    /// Takes out an idle connection that became readable or was closed by its server.
    pub fn remove_idle(&mut self, id: IdleId) -> Option<Lease<C>> {
        self.idle.remove(id)
    }

    /// Takes out every idle connection that is dead, too old or idle for too long at `now`, with
    /// the reason. Costs a look at each: call it at [`Pool::next_sweep`] or every second or so.
    pub fn sweep(
        &mut self,
        now: Now,
        is_dead: impl FnMut(&C) -> bool,
        out: &mut Vec<(Lease<C>, CloseReason)>,
    ) {
        let limit = u64::try_from(self.limits.idle_max.as_nanos()).unwrap_or(u64::MAX);
        let idle_before = now.0.checked_sub(limit).map(Now);
        self.idle.sweep(now, idle_before, is_dead, out);
    }

    /// When [`Pool::sweep`] will next find something by time alone.
    pub fn next_sweep(&self) -> Deadline {
        self.idle.next_expiry(self.limits.idle_max)
    }

    /// What the gate asks of it.
    pub fn facts(&self) -> Facts {
        let oldest = self.oldest_waiter();
        Facts {
            uncovered: self.uncovered(),
            oldest: oldest.map(|waiter| waiter.since),
            until: oldest.map(|waiter| waiter.deadline),
            idle_since: self.idle_since(),
        }
    }

    /// Connections idle, in leases and being opened, and sessions waiting: for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            idle: self.idle.len(),
            leased: self.leased,
            connecting: self.connecting,
            waiting: self.waiters.len(),
        }
    }
}

/// A pool's numbers at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections nobody uses.
    pub idle: u32,
    /// Connections in leases.
    pub leased: u32,
    /// Connections being opened.
    pub connecting: u32,
    /// Sessions that wait.
    pub waiting: u32,
}

impl Counts {
    /// Connections: each has a permit.
    pub fn held(&self) -> u32 {
        self.idle + self.leased + self.connecting
    }

    /// One part of a sum has changed.
    fn replace(&mut self, from: &Self, to: &Self) {
        let part = |sum: &mut u32, from: u32, to: u32| *sum = sum.saturating_sub(from) + to;
        part(&mut self.idle, from.idle, to.idle);
        part(&mut self.leased, from.leased, to.leased);
        part(&mut self.connecting, from.connecting, to.connecting);
        part(&mut self.waiting, from.waiting, to.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PoolLimits = PoolLimits {
        waiters_max: 2,
        wait_target: None,
        idle_max: Duration::from_nanos(100),
        age_max: Duration::from_nanos(1000),
    };

    fn opened(pool: &mut Pool<u32>, connection: u32, now: u64) -> Ended<u32> {
        pool.connect_started();
        pool.connected(connection, Now(now), &mut Prng::new(u64::from(connection)))
    }

    fn is_idle(ended: &Ended<u32>) -> bool {
        matches!(ended, Ended::Idle(_))
    }

    #[test]
    fn a_new_connection_serves_the_waiter_it_was_opened_for() {
        let mut pool = Pool::new(LIMITS);
        assert_eq!(pool.take(7), None);
        pool.enqueue(7, Now(0), Deadline::NEVER).unwrap();
        pool.enqueue(8, Now(1), Deadline::NEVER).unwrap();
        assert_eq!(pool.enqueue(9, Now(2), Deadline::NEVER), Err(Full));
        assert_eq!(pool.uncovered(), 2);
        pool.connect_started();
        assert_eq!(pool.uncovered(), 1, "one waiter is covered");
        let Ended::HandedOver { to, lease } = pool.connected(1, Now(3), &mut Prng::new(1)) else {
            panic!("somebody waits");
        };
        assert_eq!((to.owner, lease.connection), (7, 1));
        assert_eq!(pool.uncovered(), 1);
        let ended = pool.end(lease, 7, LeaseEnd::Return, Now(4));
        let Ended::HandedOver { to, lease } = ended else {
            panic!("somebody waits");
        };
        assert_eq!((to.owner, lease.last_owner), (8, 7));
        let ended = pool.end(lease, 8, LeaseEnd::Return, Now(5));
        assert!(is_idle(&ended));
        let counts = Counts {
            idle: 1,
            ..Counts::default()
        };
        assert_eq!(pool.counts(), counts);
    }

    #[test]
    fn who_waits_for_a_turn_or_for_a_connect_is_not_turned_away() {
        const MS: u64 = 1_000_000;
        let mut pool = Pool::new(PoolLimits {
            waiters_max: 9,
            wait_target: Some(Duration::from_millis(50)),
            ..LIMITS
        });
        let mut prng = Prng::new(1);
        // Nothing is in use: it is another one's turn.
        pool.enqueue(7, Now(0), Deadline::NEVER).unwrap();
        pool.follow(Now(0));
        assert_eq!(pool.turns_away(), Deadline::NEVER);
        // A connection comes for each.
        pool.connect_started();
        pool.follow(Now(400 * MS));
        let first = pool.connected(1, Now(500 * MS), &mut prng);
        assert!(matches!(first, Ended::HandedOver { .. }));
        pool.enqueue(8, Now(500 * MS), Deadline::NEVER).unwrap();
        pool.connect_started();
        pool.follow(Now(500 * MS));
        assert_eq!(pool.turns_away(), Deadline::NEVER);
        // One more than come: now it is the queue that is too long.
        pool.enqueue(9, Now(700 * MS), Deadline::NEVER).unwrap();
        pool.follow(Now(700 * MS));
        assert_eq!(pool.turns_away(), Deadline(850 * MS));
        let away = pool.pop_turned_away(Now(850 * MS));
        assert_eq!(away.map(|waiter| waiter.owner), Some(8));
        pool.follow(Now(850 * MS));
        assert_eq!(pool.turns_away(), Deadline::NEVER);
    }

    #[test]
    fn a_discarded_or_aged_connection_never_comes_back() {
        let mut pool = Pool::new(LIMITS);
        for (connection, end, now, expect) in [
            (
                1,
                LeaseEnd::Discard(CloseReason::StateLost),
                1,
                CloseReason::StateLost,
            ),
            (2, LeaseEnd::Return, 2000, CloseReason::PoolAge),
        ] {
            assert!(is_idle(&opened(&mut pool, connection, 0)));
            let lease = pool.take(5).unwrap();
            let ended = pool.end(lease, 5, end, Now(now));
            assert_eq!(ended, Ended::Close(connection, expect));
            assert_eq!(pool.counts(), Counts::default());
        }
    }

    #[test]
    fn a_discard_leaves_the_waiter_in_the_queue_and_wants_a_connect() {
        let mut pool = Pool::new(LIMITS);
        assert!(is_idle(&opened(&mut pool, 1, 0)));
        let lease = pool.take(5).unwrap();
        let waiter = pool.enqueue(6, Now(1), Deadline(50)).unwrap();
        let ended = pool.end(
            lease,
            5,
            LeaseEnd::Discard(CloseReason::UpstreamLost),
            Now(2),
        );
        assert_eq!(ended, Ended::Close(1, CloseReason::UpstreamLost));
        assert_eq!(pool.uncovered(), 1);
        assert_eq!(pool.pop_waiter(Now(50)).map(|w| w.id), Some(waiter));
        assert_eq!(pool.uncovered(), 0);
    }

    #[test]
    fn sweeping_is_due_by_idle_time_or_age_whichever_is_first() {
        let mut pool = Pool::new(LIMITS);
        assert!(is_idle(&opened(&mut pool, 1, 0)));
        let mut out = Vec::new();
        assert_eq!(pool.next_sweep(), Deadline(100));
        pool.sweep(Now(99), |_| false, &mut out);
        assert!(out.is_empty());
        pool.sweep(Now(100), |_| false, &mut out);
        let found = out.pop().map(|(lease, reason)| (lease.connection, reason));
        assert_eq!(found, Some((1, CloseReason::PoolIdle)));
        assert_eq!(pool.next_sweep(), Deadline::NEVER);
    }

    #[test]
    fn ages_differ_by_up_to_a_tenth() {
        let mut ages = std::collections::BTreeSet::new();
        let mut pool = Pool::new(LIMITS);
        for connection in 0..100 {
            assert!(is_idle(&opened(&mut pool, connection, 0)));
            let lease = pool.take_longest_idle().unwrap();
            assert!((900..=1000).contains(&lease.retires_at.0));
            ages.insert(lease.retires_at.0);
        }
        assert!(ages.len() > 30, "{} different ages", ages.len());
    }

    #[test]
    fn an_idle_connection_that_became_readable_is_taken_out() {
        let mut pool = Pool::new(LIMITS);
        let Ended::Idle(id) = opened(&mut pool, 1, 0) else {
            panic!("nobody waits");
        };
        assert_eq!(pool.remove_idle(id).map(|l| l.connection), Some(1));
        assert_eq!(pool.remove_idle(id), None);
        assert_eq!(pool.take(1), None);
    }

    #[test]
    fn a_connect_or_a_connection_is_something_to_wait_for() {
        let mut pool = Pool::new(LIMITS);
        assert!(pool.is_without());
        pool.connect_started();
        assert!(!pool.is_without());
        pool.connect_failed();
        assert!(pool.is_without());
        assert!(is_idle(&pool.lent(pool_lease(), Now(1))));
        assert!(!pool.is_without());
    }

    fn pool_lease() -> Lease<u32> {
        Lease {
            connection: 9,
            opened_at: Now(0),
            retires_at: Deadline::NEVER,
            last_owner: 4,
        }
    }

    #[test]
    fn a_lent_connection_forgets_its_owner_on_the_other_core() {
        let mut pool = Pool::new(LIMITS);
        assert!(is_idle(&pool.lent(pool_lease(), Now(1))));
        assert!(is_idle(&opened(&mut pool, 1, 2)));
        assert_eq!(pool.take(4).map(|l| l.connection), Some(1));
    }
}
