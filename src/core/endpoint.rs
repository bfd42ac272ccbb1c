//! One core's connections to one endpoint: pools by key, permits, back-off, and the waiting for a
//! lease.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::FixedState;

use super::dial;
use super::kill::{self, Reaper};
use super::lend;
use super::world::World;
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::ident::{CoreId, EndpointId};
use crate::net::{SocketOptions, Stream};
use crate::pool::{
    Backoff, Counts, Demand, Effect, Ended, Key, Lease, LeaseEnd, OnReturn, Patience, Permits,
    Pool, PoolLimits, WaiterId,
};
use crate::session::mysql::connect::ConnectConfig;
use crate::session::mysql::upstream::{Tally, Upstream};
use crate::telemetry::metrics::EndpointSeries;

/// Set in [`Key::capabilities`] for connections that were never in a schema: a session without one
/// must not find itself in somebody's.
pub(super) const WITHOUT_SCHEMA: u64 = 1 << 63;

/// The first and the longest pause after failed connects: a server that is back is used again
/// within two seconds, however long it was away.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_500));

/// An upstream connection: its socket and its session.
pub(super) struct UpstreamConnection {
    pub(super) stream: Stream,
    pub(super) session: Upstream,
}

/// What a waiting session is given in the end.
type Delivery = Result<Lease<Box<UpstreamConnection>>, Event>;

/// One core's side of one endpoint.
pub(super) struct EndpointState {
    pub(super) id: EndpointId,
    pub(super) name: Arc<str>,
    pub(super) addresses: RefCell<Vec<SocketAddr>>,
    pub(super) socket: SocketOptions,
    pub(super) permits: RefCell<Permits>,
    pub(super) backoff: RefCell<Backoff>,
    pub(super) pools: RefCell<Vec<Rc<PoolState>>>,
    pub(super) metrics: Rc<EndpointSeries>,
    pub(super) limits: PoolLimits,
    pub(super) statements_max: usize,
    /// The node-wide budget.
    pub(super) budget: Cell<u32>,
    /// Leases held by this core's sessions: the load that balancing compares.
    pub(super) leased: Cell<u32>,
    /// What the permits have decided and is not carried out yet.
    pub(super) effects: RefCell<Vec<Effect>>,
}

/// One pool with those who wait at it.
pub(super) struct PoolState {
    pub(super) key: Key,
    pub(super) endpoint: Rc<EndpointState>,
    pub(super) pool: RefCell<Pool<Box<UpstreamConnection>>>,
    pub(super) login: Arc<ConnectConfig>,
    deliveries: RefCell<HashMap<u64, Waiting, FixedState>>,
    pub(super) reaper: Reaper,
}

struct Waiting {
    waker: Option<Waker>,
    delivery: Option<Delivery>,
}

/// What an endpoint is made of.
pub(super) struct EndpointSeed {
    pub(super) id: EndpointId,
    pub(super) name: Arc<str>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) socket: SocketOptions,
    pub(super) budget: u32,
    pub(super) limits: PoolLimits,
    pub(super) statements_max: usize,
    pub(super) metrics: Rc<EndpointSeries>,
}

impl EndpointState {
    pub(super) fn new(seed: EndpointSeed, core: CoreId, cores: u16) -> Rc<Self> {
        let permits = Permits::new(seed.id, core, cores, seed.budget, Patience::default());
        seed.metrics.permits.set(u64::from(permits.owned()));
        Rc::new(Self {
            id: seed.id,
            name: seed.name,
            addresses: RefCell::new(seed.addresses),
            socket: seed.socket,
            permits: RefCell::new(permits),
            backoff: RefCell::new(Backoff::new(BACKOFF.0, BACKOFF.1)),
            pools: RefCell::default(),
            metrics: seed.metrics,
            limits: seed.limits,
            statements_max: seed.statements_max,
            budget: Cell::new(seed.budget),
            leased: Cell::new(0),
            effects: RefCell::default(),
        })
    }

    /// Whether connects may be tried, or something is open already.
    pub(super) fn is_usable(&self, now: Now) -> bool {
        let has_address = !self.addresses.borrow().is_empty();
        has_address
            && (!self.backoff.borrow().is_waiting(now) || self.permits.borrow().in_use() > 0)
    }

    /// The pool under `key`, made if it is new.
    pub(super) fn pool(
        self: &Rc<Self>,
        key: &Key,
        login: impl FnOnce() -> Arc<ConnectConfig>,
    ) -> Rc<PoolState> {
        if let Some(pool) = self.known_pool(key) {
            return pool;
        }
        let pool = Rc::new(PoolState {
            key: key.clone(),
            endpoint: Rc::clone(self),
            pool: RefCell::new(Pool::new(self.limits)),
            login: login(),
            deliveries: RefCell::default(),
            reaper: Reaper::default(),
        });
        self.pools.borrow_mut().push(Rc::clone(&pool));
        pool
    }

    /// The pool under `key`, if there is one.
    pub(super) fn known_pool(&self, key: &Key) -> Option<Rc<PoolState>> {
        let pools = self.pools.borrow();
        pools.iter().find(|pool| pool.key == *key).cloned()
    }

    /// Applies the rules of permits and starts the connects that waiters need. Call it whenever
    /// something changed.
    pub(super) fn settle(self: &Rc<Self>, world: &Rc<World>) {
        let now = world.net.now();
        let is_resting = self.backoff.borrow().is_waiting(now);
        {
            let pools = self.pools.borrow();
            let demand = demand(&pools, is_resting);
            let mut permits = self.permits.borrow_mut();
            if !permits.is_quiet(&demand) {
                permits.settle(now, &demand, &mut self.effects.borrow_mut());
            }
        }
        self.apply_effects(world);
        self.start_connects(world, now);
    }

    fn start_connects(self: &Rc<Self>, world: &Rc<World>, now: Now) {
        let pools = self.pools.borrow();
        for pool in pools.iter() {
            loop {
                let counts = pool.pool.borrow().counts();
                let wanted = pool
                    .pool
                    .borrow()
                    .connects_wanted(self.permits.borrow().spare());
                let may_try = self.backoff.borrow().may_try(now, counts.connecting);
                if wanted == 0 || !may_try || !self.permits.borrow_mut().try_take() {
                    break;
                }
                pool.pool.borrow_mut().connect_started();
                dial::start(world, pool);
            }
        }
    }

    /// Closes idle connections that are dead, too old or idle for too long; fails waiters that no
    /// connection will come for. Returns whether there is anything left to look after.
    pub(super) fn sweep(self: &Rc<Self>, world: &Rc<World>) -> bool {
        let now = world.net.now();
        let mut ended = Vec::new();
        for pool in self.pools.borrow().iter() {
            pool.pool.borrow_mut().sweep(
                now,
                |connection| connection.stream.is_disturbed(),
                &mut ended,
            );
        }
        for (lease, reason) in ended {
            dial::close(world, self, lease.connection, reason);
        }
        self.settle(world);
        self.fail_hopeless(now);
        self.gauge() > 0 || self.backoff.borrow().is_waiting(now)
    }

    /// Writes the state of the pools into the metrics; how many sessions wait.
    pub(super) fn gauge(&self) -> u32 {
        let mut total = Counts::default();
        for pool in self.pools.borrow().iter() {
            let counts = pool.pool.borrow().counts();
            total.idle += counts.idle;
            total.leased += counts.leased;
            total.connecting += counts.connecting;
            total.waiting += counts.waiting;
        }
        self.metrics.idle.set(u64::from(total.idle));
        self.metrics.leased.set(u64::from(total.leased));
        self.metrics.connecting.set(u64::from(total.connecting));
        self.metrics.waiting.set(u64::from(total.waiting));
        self.metrics
            .open
            .set(u64::from(self.permits.borrow().in_use()));
        total.waiting
    }

    /// Whether statements are being killed.
    pub(super) fn is_reaping(&self) -> bool {
        let pools = self.pools.borrow();
        pools.iter().any(|pool| pool.reaper.is_running())
    }

    /// Counts what was done for a client on a leased connection.
    pub(super) fn count(&self, tally: Tally) {
        if tally != Tally::default() {
            self.metrics.prepares.add(u64::from(tally.prepares));
            self.metrics.restores.add(u64::from(tally.restores));
        }
    }

    /// Fails the waiters of pools to which no connection can come for now.
    pub(super) fn fail_hopeless(&self, now: Now) {
        for pool in self.pools.borrow().iter() {
            loop {
                let waiter = {
                    let mut inner = pool.pool.borrow_mut();
                    if !inner.is_hopeless(&self.backoff.borrow(), now) {
                        break;
                    }
                    inner.pop_waiter()
                };
                let Some(waiter) = waiter else { break };
                pool.deliver(waiter.owner, Err(Event::NoEndpoint));
            }
        }
    }
}

pub(super) fn demand<'a>(pools: &'a [Rc<PoolState>], is_resting: bool) -> Demand<'a> {
    let mut demand = Demand::default();
    for state in pools {
        let pool = state.pool.borrow();
        let counts = pool.counts();
        demand.idle += counts.idle;
        demand.idle_since = [demand.idle_since, pool.idle_since()]
            .into_iter()
            .flatten()
            .min();
        let uncovered = if is_resting { 0 } else { pool.uncovered() };
        if uncovered == 0 {
            continue;
        }
        demand.waiters += uncovered;
        let since = pool.oldest_waiter().map(|waiter| waiter.since);
        if since.is_some() && (demand.oldest.is_none() || since < demand.oldest) {
            demand.oldest = since;
            demand.key = Some(&state.key);
        }
    }
    demand
}

impl PoolState {
    /// An idle connection at once, or a place in the queue.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(super) fn acquire(
        self: &Rc<Self>,
        world: &Rc<World>,
        owner: u64,
        prefer_last: bool,
        deadline: Deadline,
    ) -> Result<Acquired, Event> {
        // Only a statement that reads what the last one left minds which connection it gets.
        let wanted = if prefer_last { owner } else { 0 };
        if let Some(lease) = self.take_idle(world, wanted) {
            lease.connection.session.claimed_by(owner);
            return Ok(Acquired::Now(lease));
        }
        let now = world.net.now();
        if self
            .pool
            .borrow()
            .is_hopeless(&self.endpoint.backoff.borrow(), now)
            || self.endpoint.addresses.borrow().is_empty()
        {
            return Err(Event::NoEndpoint);
        }
        let enqueued = self.pool.borrow_mut().enqueue(owner, now, deadline);
        let Ok(waiter) = enqueued else {
            self.endpoint.metrics.leases_refused.inc();
            return Err(Event::PoolFull);
        };
        let waiting = Waiting {
            waker: None,
            delivery: None,
        };
        self.deliveries.borrow_mut().insert(owner, waiting);
        self.endpoint.settle(world);
        let pool = Rc::clone(self);
        let wait = LeaseWait {
            world: Rc::clone(world),
            pool,
            waiter,
            owner,
            since: now,
        };
        Ok(Acquired::Later(wait))
    }

    /// Leases an idle connection: the one that `wanted` used last, else the one used last by anybody.
    pub(super) fn take_idle(
        self: &Rc<Self>,
        world: &Rc<World>,
        wanted: u64,
    ) -> Option<Lease<Box<UpstreamConnection>>> {
        loop {
            let lease = self.pool.borrow_mut().take(wanted)?;
            if !lease.connection.stream.is_disturbed() {
                self.lease_counts(1);
                return Some(lease);
            }
            // A readable byte on an idle connection: the server has ended it (trap 22).
            let lease = self.pool.borrow_mut().give_up(lease, 0);
            let reason = CloseReason::UpstreamLost;
            dial::close(world, &self.endpoint, lease.connection, reason);
        }
    }

    /// Takes in a connection that was not opened for anybody who waits, with its permit.
    pub(super) fn adopt(self: &Rc<Self>, world: &Rc<World>, connection: Box<UpstreamConnection>) {
        let ended = {
            let mut pool = self.pool.borrow_mut();
            pool.connect_started();
            pool.connected(connection, world.net.now(), &mut world.prng.borrow_mut())
        };
        self.place(world, ended);
    }

    pub(super) fn lease_counts(&self, by: i32) {
        let leased = &self.endpoint.leased;
        leased.set(leased.get().saturating_add_signed(by));
        if by > 0 {
            self.endpoint.metrics.leases.inc();
        }
    }

    /// Ends a lease.
    pub(super) fn end(
        self: &Rc<Self>,
        world: &Rc<World>,
        lease: Lease<Box<UpstreamConnection>>,
        owner: u64,
        end: LeaseEnd,
    ) {
        self.lease_counts(-1);
        lease.connection.session.unclaimed();
        world.wake_settled();
        let now = world.net.now();
        let lease = match end {
            LeaseEnd::Return => match self.reaper.take(lease) {
                Some(lease) => lease,
                None => return,
            },
            LeaseEnd::Discard(_) => lease,
        };
        if end == LeaseEnd::Return {
            let given = self.on_return(now);
            if given != OnReturn::Keep {
                let lease = self.pool.borrow_mut().give_up(lease, owner);
                return lend::give_returned(world, self, lease, &given);
            }
        }
        // Only a session that left something on the connection wants this very one back.
        let mark = if lease.connection.session.holds_for(owner) {
            owner
        } else {
            0
        };
        let ended = self.pool.borrow_mut().end(lease, mark, end, now);
        self.place(world, ended);
    }

    /// What is to become of a returned connection: another core or pool may be due it.
    fn on_return(&self, now: Now) -> OnReturn {
        let oldest = self.pool.borrow().oldest_waiter();
        let pools = self.endpoint.pools.borrow();
        let demand = demand(&pools, self.endpoint.backoff.borrow().is_waiting(now));
        let mut permits = self.endpoint.permits.borrow_mut();
        permits.on_return(now, oldest.map(|waiter| waiter.since), &demand)
    }

    /// Ends a lease by closing its connection, whatever runs on it.
    pub(super) fn close(
        &self,
        world: &Rc<World>,
        lease: Lease<Box<UpstreamConnection>>,
        owner: u64,
        reason: CloseReason,
    ) {
        self.lease_counts(-1);
        let lease = self.pool.borrow_mut().give_up(lease, owner);
        dial::close(world, &self.endpoint, lease.connection, reason);
    }

    /// Ends a lease whose connection has come into a schema, and belongs to another pool now.
    pub(super) fn end_into(
        self: &Rc<Self>,
        world: &Rc<World>,
        other: &Rc<PoolState>,
        lease: Lease<Box<UpstreamConnection>>,
        owner: u64,
    ) {
        self.lease_counts(-1);
        lease.connection.session.unclaimed();
        world.wake_settled();
        let lease = self.pool.borrow_mut().give_up(lease, owner);
        let ended = other.pool.borrow_mut().lent(lease, world.net.now());
        other.place(world, ended);
        self.endpoint.settle(world);
    }

    /// Carries out what the bookkeeping decided for a connection.
    pub(super) fn place(self: &Rc<Self>, world: &Rc<World>, ended: Ended<Box<UpstreamConnection>>) {
        match ended {
            Ended::Idle(_) => {
                let quiet = {
                    let pools = self.endpoint.pools.borrow();
                    let is_resting = false;
                    self.endpoint
                        .permits
                        .borrow()
                        .is_quiet(&demand(&pools, is_resting))
                };
                if !quiet {
                    self.endpoint.settle(world);
                }
            }
            Ended::HandedOver { to, lease } => self.deliver(to.owner, Ok(lease)),
            Ended::Close(connection, reason) => kill::end(world, self, connection, reason),
        }
    }

    fn deliver(&self, owner: u64, delivery: Delivery) {
        let mut deliveries = self.deliveries.borrow_mut();
        // A waiter is cancelled in the queue before it leaves, so its entry is still here.
        if let Some(waiting) = deliveries.get_mut(&owner) {
            if let Ok(lease) = &delivery {
                lease.connection.session.claimed_by(owner);
            }
            waiting.delivery = Some(delivery);
            if let Some(waker) = waiting.waker.take() {
                waker.wake();
            }
        }
    }
}

/// What [`PoolState::acquire`] gives.
pub(super) enum Acquired {
    /// An idle connection.
    Now(Lease<Box<UpstreamConnection>>),
    /// A place in the queue.
    Later(LeaseWait),
}

/// A place in a pool's queue. Dropping it leaves the queue.
pub(super) struct LeaseWait {
    world: Rc<World>,
    pool: Rc<PoolState>,
    waiter: WaiterId,
    owner: u64,
    since: Now,
}

impl LeaseWait {
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Delivery> {
        let mut deliveries = self.pool.deliveries.borrow_mut();
        let Some(waiting) = deliveries.get_mut(&self.owner) else {
            return Poll::Ready(Err(Event::PoolWait));
        };
        let Some(delivery) = waiting.delivery.take() else {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        deliveries.remove(&self.owner);
        drop(deliveries);
        if delivery.is_ok() {
            self.pool.lease_counts(1);
            let waited = self.world.net.now().since(self.since);
            self.pool.endpoint.metrics.lease_wait.record(waited);
        }
        Poll::Ready(delivery)
    }
}

impl Drop for LeaseWait {
    fn drop(&mut self) {
        self.pool.pool.borrow_mut().cancel(self.waiter);
        let waiting = self.pool.deliveries.borrow_mut().remove(&self.owner);
        if let Some(Waiting {
            delivery: Some(Ok(lease)),
            ..
        }) = waiting
        {
            // Delivered to somebody who left in the same turn: the next one has it.
            self.pool.lease_counts(1);
            self.pool
                .end(&self.world, lease, self.owner, LeaseEnd::Return);
        } else {
            self.pool.endpoint.settle(&self.world);
        }
    }
}
