//! One core's connections to one endpoint: pools by key, permits, back-off.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::dial;
use super::permit::Permit;
use super::pool::PoolState;
use super::pools::Pools;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::address::Address;
use crate::base::clock::{Deadline, Now};
use crate::base::ident::EndpointName;
use crate::net::SocketOptions;
use crate::pool::{
    Backoff, Counts, Demand, Effect, Facts, Gate, Key, NodePlace, Patience, Permits, PoolLimits,
};
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
    /// Of connections that are opened from now on.
    pub(super) socket: RefCell<SocketOptions>,
    pub(super) permits: RefCell<Permits>,
    pub(super) backoff: RefCell<Backoff>,
    pub(super) pools: RefCell<Pools<P>>,
    /// Which of them is due a connection.
    pub(super) gate: RefCell<Gate>,
    /// Its metrics.
    pub metrics: Rc<EndpointSeries>,
    pub(super) limits: Cell<PoolLimits>,
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
            socket: RefCell::new(seed.socket),
            permits: RefCell::new(permits),
            backoff: RefCell::new(Backoff::new(BACKOFF.0, BACKOFF.1)),
            pools: RefCell::default(),
            gate: RefCell::default(),
            metrics: seed.metrics,
            limits: Cell::new(seed.limits),
            budget: Cell::new(seed.budget),
            leased: Cell::new(0),
            is_current: Cell::new(true),
            place: RefCell::new(NodePlace::new(core)),
            effects: RefCell::default(),
        })
    }

    /// Other bounds from now on.
    pub(super) fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
        for pool in self.pools.borrow().all() {
            pool.change(|pool| pool.set_limits(limits));
        }
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
        self.pools.borrow_mut().add(&pool);
        pool
    }

    /// The pool under `key`, if there is one.
    pub(super) fn known_pool(&self, key: &Key) -> Option<Rc<PoolState<P>>> {
        self.pools.borrow().find(key).cloned()
    }

    /// Applies the rules of permits and starts the connects that waiters need. Call it whenever
    /// something changed.
    pub(super) fn settle(self: &Rc<Self>) {
        if self.site.core.is_over() {
            return;
        }
        let now = self.site.core.net.now();
        self.turn_away(now);
        let is_resting = self.backoff.borrow().is_waiting(now);
        loop {
            let makes_room = {
                let pools = self.pools.borrow();
                let demand = self.demand(&pools, is_resting, now);
                let mut effects = self.effects.borrow_mut();
                self.permits.borrow_mut().settle(now, &demand, &mut effects)
            };
            self.apply_effects();
            if !makes_room {
                break;
            }
        }
        // The rules may have given some away.
        self.show_permits();
        self.serve_waiting(now);
    }

    /// Ends the waits that are too long where queues stand.
    fn turn_away(&self, now: Now) {
        if self.limits.get().wait_target.is_none() {
            return;
        }
        let waiting = self.gate.borrow().waiting().to_vec();
        let pools = self.pools.borrow();
        for pool in waiting.into_iter().filter_map(|id| pools.get(id)) {
            pool.turn_away(now);
        }
    }

    /// When the next wait becomes too long.
    pub(super) fn turns_away(&self) -> Deadline {
        if self.limits.get().wait_target.is_none() {
            return Deadline::NEVER;
        }
        let (gate, pools) = (self.gate.borrow(), self.pools.borrow());
        let waiting = gate.waiting().iter().filter_map(|id| pools.get(*id));
        let next = waiting.map(|pool| pool.turns_away()).min();
        next.unwrap_or(Deadline::NEVER)
    }

    /// What this core's pools need now.
    pub(super) fn demand<'a>(&self, pools: &'a Pools<P>, is_resting: bool, now: Now) -> Demand<'a> {
        let mut gate = self.gate.borrow_mut();
        let mut demand = gate.demand(None, now, |id| pools.facts(id, is_resting, now));
        let due = demand.due.and_then(|id| pools.get(id));
        demand.key = due.map(|pool| &pool.key);
        demand
    }

    /// Opens connections for those who wait, as they are due them, and gives those that are idle to who has
    /// waited for his tenant's bound.
    fn serve_waiting(self: &Rc<Self>, now: Now) {
        let pools = self.pools.borrow();
        loop {
            let has_spare = self.permits.borrow().spare() > 0;
            let totals = self.gate.borrow().totals();
            // Whoever was held up by a bound may be so no more, nor anybody.
            if totals.waiting == 0 || !has_spare && totals.idle == 0 {
                break;
            }
            let due = self.gate.borrow_mut().due(now, |id| {
                let pool = pools.get(id);
                let pool = pool.filter(|pool| pool.can_be_served(has_spare, now));
                pool.map_or_else(Facts::default, |pool| pool.facts_served(now))
            });
            let Some(pool) = due.and_then(|id| pools.get(id)) else {
                break;
            };
            if pool.serve_idle() {
                continue;
            }
            let Some(permit) = Permit::take(self, &pool.key.tenant) else {
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
        for pool in self.pools.borrow().all() {
            pool.change(|pool| {
                pool.sweep(now, |open| open.stream.is_disturbed(), &mut ended);
            });
        }
        for (lease, reason) in ended {
            dial::close(self, *lease.connection, reason);
        }
        self.settle();
        self.fail_hopeless(now);
        self.remove_unused();
        self.gauge() > 0 || self.backoff.borrow().is_waiting(now)
    }

    /// Whether any connection is leased or idle.
    pub(super) fn serves_any(&self) -> bool {
        let totals = self.gate.borrow().totals();
        totals.leased > 0 || totals.idle > 0
    }

    /// Forgets pools that are empty and that no session can come back to.
    pub(super) fn remove_unused(&self) {
        let is_unused = |pool: &Rc<PoolState<P>>| {
            Rc::strong_count(pool) == 1 && pool.counts() == Counts::default()
        };
        let mut gate = self.gate.borrow_mut();
        for pool in self.pools.borrow_mut().remove_where(is_unused) {
            gate.leave(pool.id);
        }
        gate.forget_unused();
    }

    /// Writes the state of the pools into the metrics; how many sessions wait.
    pub(super) fn gauge(&self) -> u32 {
        let total = self.gate.borrow().totals();
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

    /// Whether statements are being killed.
    pub(super) fn is_reaping(&self) -> bool {
        let pools = self.pools.borrow();
        pools.all().any(|pool| pool.reaper.is_running())
    }

    /// Fails the waiters of pools to which no connection can come for now.
    pub(super) fn fail_hopeless(&self, now: Now) {
        for pool in self.pools.borrow().all() {
            if pool.counts().waiting == 0 {
                continue;
            }
            let Some(event) = pool.is_hopeless(now) else {
                continue;
            };
            while let Some(waiter) = pool.change(|pool| pool.pop_waiter(now)) {
                pool.deliver(waiter.owner, Err(event));
            }
        }
    }
}
