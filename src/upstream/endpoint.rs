//! One core's connections to one endpoint: pools by key, permits, back-off.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::dial;
use super::permit::Permit;
use super::pool::PoolState;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::address::Address;
use crate::base::clock::Now;
use crate::base::ident::EndpointName;
use crate::net::SocketOptions;
use crate::pool::{Backoff, Counts, Demand, Effect, Key, NodePlace, Patience, Permits, PoolLimits};
use crate::telemetry::metrics::EndpointSeries;

/// The first and the longest pause after failed connects: a server that is back is used again
/// within two seconds, however long it was away.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(1_500));

/// One core's side of one endpoint.
pub struct Endpoint<P: Protocol> {
    pub(super) site: Rc<Upstreams<P>>,
    /// What it is.
    pub name: EndpointName,
    pub(super) addresses: RefCell<Vec<Address>>,
    pub(super) socket: SocketOptions,
    pub(super) permits: RefCell<Permits>,
    pub(super) backoff: RefCell<Backoff>,
    pub(super) pools: RefCell<Vec<Rc<PoolState<P>>>>,
    /// Its metrics.
    pub metrics: Rc<EndpointSeries>,
    pub(super) limits: PoolLimits,
    /// The node-wide budget.
    pub(super) budget: Cell<u32>,
    /// Leases held by this core's sessions: the load that balancing compares.
    pub(super) leased: Cell<u32>,
    /// Whether the current configuration has it.
    pub(super) is_current: Cell<bool>,
    /// The node's place for a connection beyond the budget.
    pub(super) place: RefCell<NodePlace>,
    /// What the permits have decided and is not carried out yet.
    pub(super) effects: RefCell<Vec<Effect>>,
}

/// What an endpoint is made of.
pub(super) struct EndpointSeed {
    pub(super) name: EndpointName,
    pub(super) addresses: Vec<Address>,
    pub(super) socket: SocketOptions,
    pub(super) budget: u32,
    pub(super) limits: PoolLimits,
    pub(super) metrics: Rc<EndpointSeries>,
}

impl<P: Protocol> Endpoint<P> {
    pub(super) fn new(site: &Rc<Upstreams<P>>, seed: EndpointSeed) -> Rc<Self> {
        let (core, cores) = (site.core.id, site.core.cores);
        let permits = Permits::new(
            seed.name.clone(),
            core,
            cores,
            seed.budget,
            Patience::default(),
        );
        seed.metrics.permits.set(u64::from(permits.owned()));
        Rc::new(Self {
            site: Rc::clone(site),
            name: seed.name,
            addresses: RefCell::new(seed.addresses),
            socket: seed.socket,
            permits: RefCell::new(permits),
            backoff: RefCell::new(Backoff::new(BACKOFF.0, BACKOFF.1)),
            pools: RefCell::default(),
            metrics: seed.metrics,
            limits: seed.limits,
            budget: Cell::new(seed.budget),
            leased: Cell::new(0),
            is_current: Cell::new(true),
            place: RefCell::new(NodePlace::new(core)),
            effects: RefCell::default(),
        })
    }

    /// Whether connects may be tried, or something is open already.
    pub fn is_usable(&self, now: Now) -> bool {
        let has_address = !self.addresses.borrow().is_empty();
        has_address
            && (!self.backoff.borrow().is_waiting(now) || self.permits.borrow().in_use() > 0)
    }

    /// The pool under `key`, made if it is new.
    pub fn pool(
        self: &Rc<Self>,
        key: &Key,
        login: impl FnOnce() -> Rc<P::Login>,
    ) -> Rc<PoolState<P>> {
        if let Some(pool) = self.known_pool(key) {
            return pool;
        }
        let pool = PoolState::new(self, key, login());
        self.pools.borrow_mut().push(Rc::clone(&pool));
        pool
    }

    /// The pool under `key`, if there is one.
    pub(super) fn known_pool(&self, key: &Key) -> Option<Rc<PoolState<P>>> {
        let pools = self.pools.borrow();
        pools.iter().find(|pool| pool.key == *key).cloned()
    }

    /// Applies the rules of permits and starts the connects that waiters need. Call it whenever
    /// something changed.
    pub(super) fn settle(self: &Rc<Self>) {
        if self.site.core.is_over() {
            return;
        }
        let now = self.site.core.net.now();
        let is_resting = self.backoff.borrow().is_waiting(now);
        {
            let pools = self.pools.borrow();
            let demand = demand(&pools, is_resting, now);
            let mut permits = self.permits.borrow_mut();
            if !permits.is_quiet(&demand) {
                permits.settle(now, &demand, &mut self.effects.borrow_mut());
            }
        }
        // The rules may have given some away.
        self.show_permits();
        self.apply_effects();
        self.start_connects(now);
    }

    /// Opens connections for those who wait, the longest waiter's pool first: a permit that one pool
    /// has given up for another must not come back to it.
    fn start_connects(self: &Rc<Self>, now: Now) {
        let pools = self.pools.borrow();
        loop {
            let spare = self.permits.borrow().spare();
            let next = pools
                .iter()
                .filter(|pool| {
                    let inner = pool.pool.borrow();
                    let connecting = inner.counts().connecting;
                    inner.connects_wanted(spare) > 0
                        && self.backoff.borrow().may_try(now, connecting)
                        && pool.refusals.may_try(now, connecting)
                })
                .min_by_key(|pool| {
                    let oldest = pool.pool.borrow().oldest_waiter();
                    oldest.map(|waiter| waiter.since)
                });
            let Some(pool) = next else { break };
            let Some(permit) = Permit::take(self) else {
                break;
            };
            dial::start(pool, permit);
        }
    }

    /// Closes idle connections that are dead, too old or idle for too long; fails waiters that no
    /// connection will come for. Returns whether there is anything left to look after.
    pub(super) fn sweep(self: &Rc<Self>) -> bool {
        let now = self.site.core.net.now();
        let mut ended = Vec::new();
        for pool in self.pools.borrow().iter() {
            pool.pool.borrow_mut().sweep(
                now,
                |connection| connection.stream.is_disturbed(),
                &mut ended,
            );
        }
        for (lease, reason) in ended {
            dial::close(self, *lease.connection, reason);
        }
        self.settle();
        self.fail_hopeless(now);
        self.gauge() > 0 || self.backoff.borrow().is_waiting(now)
    }

    /// Whether any connection is leased or idle.
    pub(super) fn serves_any(&self) -> bool {
        let pools = self.pools.borrow();
        pools.iter().any(|pool| {
            let counts = pool.pool.borrow().counts();
            counts.leased > 0 || counts.idle > 0
        })
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
        self.show_permits();
        self.metrics.idle.set(u64::from(total.idle));
        self.metrics.leased.set(u64::from(total.leased));
        self.metrics.connecting.set(u64::from(total.connecting));
        self.metrics.waiting.set(u64::from(total.waiting));
        self.metrics
            .open
            .set(u64::from(self.permits.borrow().in_use()));
        total.waiting
    }

    /// Whether anybody waits for a connection, here or on another core that has asked for a permit.
    pub fn is_wanted(&self) -> bool {
        let pools = self.pools.borrow();
        let waits = |pool: &Rc<PoolState<P>>| pool.pool.borrow().counts().waiting > 0;
        pools.iter().any(waits) || self.permits.borrow().is_wanted()
    }

    /// Whether statements are being killed.
    pub(super) fn is_reaping(&self) -> bool {
        let pools = self.pools.borrow();
        pools.iter().any(|pool| pool.reaper.is_running())
    }

    /// Fails the waiters of pools to which no connection can come for now.
    pub(super) fn fail_hopeless(&self, now: Now) {
        for pool in self.pools.borrow().iter() {
            let Some(event) = pool.is_hopeless(now) else {
                continue;
            };
            loop {
                let waiter = pool.pool.borrow_mut().pop_waiter();
                let Some(waiter) = waiter else { break };
                pool.deliver(waiter.owner, Err(event));
            }
        }
    }
}

pub(super) fn demand<'a, P: Protocol>(
    pools: &'a [Rc<PoolState<P>>],
    is_resting: bool,
    now: Now,
) -> Demand<'a> {
    let mut demand = Demand::default();
    for state in pools {
        let pool = state.pool.borrow();
        let counts = pool.counts();
        demand.idle += counts.idle;
        demand.idle_since = [demand.idle_since, pool.idle_since()]
            .into_iter()
            .flatten()
            .min();
        let is_left_alone = is_resting || state.refusals.is_waiting(now);
        let uncovered = if is_left_alone { 0 } else { pool.uncovered() };
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
