//! Pools and permits of several cores, simulated from a seed on a virtual clock: messages take
//! random times, connects fail, clients come and go, mailboxes are full, connections that are handed
//! over turn out to be dead. Nothing polls: a core acts only on an event
//! or when `Permits::next_look` says so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a simulation stops at its first surprise"
)]

use std::collections::HashMap;
use std::time::Duration;

use ringgate::base::{
    clock::{Deadline, Now},
    ident::{CoreId, EndpointName},
    prng::Prng,
};
use ringgate::pool::{
    Demand, Effect, Ended, Facts, Gate, Key, Lease, LeaseEnd, OnReturn, Patience, PermitBody,
    PermitMessage, Permits, Pool, PoolId, PoolLimits,
};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Shape {
    pub cores: u16,
    pub budget: u32,
    /// Clients per core.
    pub clients: Vec<u32>,
    pub keys: usize,
    /// Longest exchange.
    pub exchange: u64,
    /// Of 100 exchanges, how many last fifty times as long.
    pub long_ones: u64,
    /// Longest pause of a client between exchanges.
    pub think: u64,
    /// Of 100 connects, messages and hand-overs, how many fail.
    pub failures: u64,
    pub until: u64,
}

pub enum Travel {
    Message(PermitMessage),
    Lent(CoreId, usize, Lease<u64>),
}

pub struct Client {
    pub key: usize,
    /// When it next asks; `None` while it waits or works.
    pub next: Option<u64>,
    pub waits_since: Option<u64>,
    /// Asks no more once its exchange is over.
    pub is_leaving: bool,
}

pub struct CoreSim {
    pub permits: Permits,
    pub pools: Vec<Pool<u64>>,
    pub gate: Gate,
    /// The pools' places at the gate.
    pub places: Vec<PoolId>,
    pub clients: Vec<Client>,
    /// Connects under way: when done, for which key.
    pub connects: Vec<(u64, usize)>,
    /// Sockets being closed: when done.
    pub closes: Vec<u64>,
    /// Connections that leave for another core: when they do, where to, key.
    pub lendings: Vec<(u64, CoreId, usize, Lease<u64>)>,
    /// Exchanges: when done, key, client.
    pub exchanges: Vec<(u64, usize, usize, Lease<u64>)>,
    pub look: Deadline,
}

pub struct Sim {
    pub seed: u64,
    pub shape: Shape,
    pub keys: Vec<Key>,
    pub budget: u32,
    pub now: u64,
    pub prng: Prng,
    pub cores: Vec<CoreSim>,
    /// Messages on their way: arrival, receiver.
    pub wire: Vec<(u64, u16, Travel)>,
    /// The latest arrival so far from one core at another: order is kept.
    pub latest: HashMap<(u16, u16), u64>,
    pub connection: u64,
    pub served: u64,
    /// The same by key.
    pub served_by_key: Vec<u64>,
    pub longest_wait: u64,
    pub opened: u64,
    /// Connections that went to another core and were good there.
    pub lent: u64,
    pub most_on_core: Vec<u32>,
}

/// Removes and returns what is due.
fn due<T>(list: &mut Vec<T>, is_due: impl Fn(&T) -> bool) -> Vec<T> {
    let (mut ready, mut rest) = (Vec::new(), Vec::new());
    for item in list.drain(..) {
        if is_due(&item) {
            ready.push(item);
        } else {
            rest.push(item);
        }
    }
    *list = rest;
    ready
}

/// What the pools tell the gate.
fn facts<'a>(pools: &'a [Pool<u64>], places: &'a [PoolId]) -> impl Fn(PoolId) -> Facts + 'a {
    |id| {
        let at = places.iter().position(|place| *place == id);
        at.map_or_else(Facts::default, |at| pools[at].facts())
    }
}

impl CoreSim {
    /// Tells the gate what the pools have; a driver does so after each change.
    fn sync(&mut self, now: u64) {
        for (pool, place) in self.pools.iter().zip(&self.places) {
            self.gate.changed(*place, pool.counts(), Now(now));
        }
    }
}

impl Sim {
    pub fn new(seed: u64, shape: Shape) -> Self {
        let mut prng = Prng::new(seed);
        let limits = PoolLimits {
            waiters_max: 10_000,
            wait_target: None,
            idle_max: Duration::from_secs(600),
            age_max: Duration::from_secs(3600),
        };
        let keys = (0..shape.keys).map(|n| Key {
            tenant: format!("tenant{n}").into(),
            user: "upstream".into(),
            credential_version: 1,
            capabilities: 0,
        });
        let keys: Vec<Key> = keys.collect();
        let cores = (0..shape.cores).map(|core| CoreSim {
            permits: Permits::new(
                EndpointName {
                    placement: "shard".into(),
                    address: "127.0.0.1:3306".into(),
                },
                CoreId(core),
                shape.cores,
                shape.budget,
                Patience::default(),
            ),
            pools: (0..shape.keys).map(|_| Pool::new(limits)).collect(),
            gate: Gate::default(),
            places: Vec::new(),
            clients: (0..shape.clients[usize::from(core)])
                .map(|_| Client {
                    key: usize::try_from(prng.below(shape.keys as u64)).unwrap(),
                    next: Some(prng.below(shape.think + 1)),
                    waits_since: None,
                    is_leaving: false,
                })
                .collect(),
            connects: Vec::new(),
            closes: Vec::new(),
            lendings: Vec::new(),
            exchanges: Vec::new(),
            look: Deadline::NEVER,
        });
        let mut cores: Vec<CoreSim> = cores.collect();
        for core in &mut cores {
            let places = keys.iter().map(|key| core.gate.join(&key.tenant, || None));
            core.places = places.collect();
        }
        Self {
            keys,
            cores,
            seed,
            budget: shape.budget,
            now: 0,
            wire: Vec::new(),
            latest: HashMap::new(),
            connection: 0,
            served: 0,
            served_by_key: vec![0; shape.keys],
            longest_wait: 0,
            opened: 0,
            lent: 0,
            most_on_core: vec![0; usize::from(shape.cores)],
            shape,
            prng,
        }
    }

    fn demand<'a>(keys: &'a [Key], core: &mut CoreSim, now: u64) -> Demand<'a> {
        core.sync(now);
        let facts = facts(&core.pools, &core.places);
        let mut demand = core.gate.demand(None, Now(now), facts);
        demand.key = demand.due.map(|id| &keys[id.index()]);
        demand
    }

    fn send(&mut self, from: u16, to: u16, travel: Travel) {
        let latest = self.latest.entry((from, to)).or_insert(0);
        let at = (self.now + 5 * US + self.prng.below(300 * US)).max(*latest);
        *latest = at;
        self.wire.push((at, to, travel));
    }

    fn begin(&mut self, core: usize, key: usize, client: usize, lease: Lease<u64>) {
        let mut lasts = 1 + self.prng.below(self.shape.exchange);
        if self.prng.below(100) < self.shape.long_ones {
            lasts *= 50;
        }
        let sim = &mut self.cores[core];
        if let Some(since) = sim.clients[client].waits_since.take() {
            self.longest_wait = self.longest_wait.max(self.now - since);
        }
        self.served += 1;
        self.served_by_key[key] += 1;
        sim.exchanges.push((self.now + lasts, key, client, lease));
    }

    fn place(&mut self, core: usize, key: usize, ended: Ended<u64>) {
        match ended {
            Ended::Idle(_) => {}
            Ended::HandedOver { to, lease } => {
                self.begin(core, key, usize::try_from(to.owner).unwrap() - 1, lease);
            }
            Ended::Close(..) => self.close(core),
        }
    }

    fn close(&mut self, core: usize) {
        let at = self.now + self.prng.below(500 * US);
        self.cores[core].closes.push(at);
    }

    fn give(&mut self, core: usize, key: usize, lease: Lease<u64>, to: CoreId, want: Option<Key>) {
        if want.as_ref() == Some(&self.keys[key]) {
            let at = self.now + self.prng.below(300 * US);
            self.cores[core].permits.lent(to);
            self.cores[core].lendings.push((at, to, key, lease));
        } else {
            self.close(core);
        }
    }

    fn run_effects(&mut self, core: usize, effects: &mut Vec<Effect>) {
        let from = u16::try_from(core).unwrap();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(to, message) if self.fails() => {
                    self.cores[core].permits.not_sent(to, &message.body);
                }
                Effect::Send(to, message) => self.send(from, to.0, Travel::Message(message)),
                Effect::CloseIdle { makes_room } => self.close_idle(core, makes_room),
                Effect::GiveIdle { to, key } => {
                    let (at, lease) = self.longest_idle(core, key.as_ref());
                    self.give(core, at, lease, to, key);
                }
            }
        }
    }

    fn close_idle(&mut self, core: usize, makes_room: bool) {
        let (now, sim) = (self.now, &mut self.cores[core]);
        sim.sync(now);
        let facts = facts(&sim.pools, &sim.places);
        let from = sim.gate.victim(Now(now), &facts).expect("an idle one");
        if makes_room {
            sim.gate.moved();
        }
        drop(facts);
        drop(sim.pools[from.index()].take_longest_idle().unwrap());
        self.close(core);
    }

    fn fails(&mut self) -> bool {
        self.prng.below(100) < self.shape.failures
    }

    /// Connections ready to leave do, unless something has come on them or nobody takes them.
    fn hand_over(&mut self, core: usize) {
        let now = self.now;
        for (_, to, key, lease) in due(&mut self.cores[core].lendings, |l| l.0 <= now) {
            if self.fails() {
                drop(lease);
                self.cores[core].permits.not_lent(to);
                self.close(core);
            } else {
                let from = u16::try_from(core).unwrap();
                self.send(from, to.0, Travel::Lent(CoreId(from), key, lease));
            }
        }
    }

    fn longest_idle(&mut self, core: usize, key: Option<&Key>) -> (usize, Lease<u64>) {
        let wanted = self.keys.iter().position(|k| Some(k) == key);
        let pools = &mut self.cores[core].pools;
        let wanted = wanted.filter(|at| pools[*at].idle_since().is_some());
        let at = wanted.unwrap_or_else(|| {
            (0..pools.len())
                .filter(|at| pools[*at].idle_since().is_some())
                .min_by_key(|at| pools[*at].idle_since())
                .expect("an order to give an idle connection comes only when there is one")
        });
        (at, pools[at].take_longest_idle().unwrap())
    }

    fn returned(&mut self, core: usize, key: usize, client: usize, lease: Lease<u64>) {
        let think = self.prng.below(self.shape.think + 1);
        let sim = &mut self.cores[core];
        let leaving = sim.clients[client].is_leaving;
        sim.clients[client].next = (!leaving).then_some(self.now + think);
        let owner = client as u64 + 1;
        sim.gate.lease_ended();
        let demand = Self::demand(&self.keys, sim, self.now);
        let place = sim.places[key];
        let gives_way = sim
            .gate
            .gives_way(place, Now(self.now), facts(&sim.pools, &sim.places));
        let oldest = sim.pools[key].oldest_waiter().map(|w| w.since);
        match sim
            .permits
            .on_return(Now(self.now), oldest, &demand, gives_way)
        {
            OnReturn::Keep => {
                let ended = sim.pools[key].end(lease, owner, LeaseEnd::Return, Now(self.now));
                self.place(core, key, ended);
            }
            OnReturn::Give { to, key: want } => {
                let lease = sim.pools[key].give_up(lease, owner);
                self.give(core, key, lease, to, want);
            }
            given @ (OnReturn::Close | OnReturn::MakeRoom) => {
                if given == OnReturn::MakeRoom {
                    sim.gate.moved();
                }
                drop(sim.pools[key].give_up(lease, owner));
                self.close(core);
            }
        }
    }

    /// Everything due on one core, then the rules, then the connects.
    pub fn turn(&mut self, core: usize) {
        let now = self.now;
        let mut effects = Vec::new();
        let id = u16::try_from(core).unwrap();
        let mut messages = due(&mut self.wire, |(at, to, _)| *at <= now && *to == id);
        messages.sort_by_key(|(at, ..)| *at);
        for (.., travel) in messages {
            match travel {
                Travel::Message(message) => self.cores[core].permits.on_message(message),
                Travel::Lent(from, key, lease) => {
                    self.cores[core].permits.received(from);
                    if self.fails() {
                        drop(lease);
                        self.close(core);
                        continue;
                    }
                    self.lent += 1;
                    let ended = self.cores[core].pools[key].lent(lease, Now(now));
                    self.place(core, key, ended);
                }
            }
        }
        for _ in due(&mut self.cores[core].closes, |at| *at <= now) {
            self.cores[core].permits.released(&mut effects);
        }
        for (_, key) in due(&mut self.cores[core].connects, |(at, _)| *at <= now) {
            if self.fails() {
                self.cores[core].pools[key].connect_failed();
                self.cores[core].permits.released(&mut effects);
            } else {
                self.connection += 1;
                let pool = &mut self.cores[core].pools[key];
                let ended = pool.connected(self.connection, Now(now), &mut self.prng);
                self.place(core, key, ended);
            }
        }
        for (_, key, client, lease) in due(&mut self.cores[core].exchanges, |e| e.0 <= now) {
            self.returned(core, key, client, lease);
        }
        self.run_effects(core, &mut effects);
        self.hand_over(core);
        self.serve_clients(core);
        let mut makes_room = true;
        while makes_room {
            let sim = &mut self.cores[core];
            let demand = Self::demand(&self.keys, sim, now);
            makes_room = sim.permits.settle(Now(now), &demand, &mut effects);
            self.run_effects(core, &mut effects);
        }
        self.open(core);
        let sim = &mut self.cores[core];
        let demand = Self::demand(&self.keys, sim, now);
        sim.look = sim.permits.next_look(Now(now), &demand);
    }

    fn serve_clients(&mut self, core: usize) {
        for client in 0..self.cores[core].clients.len() {
            let sim = &mut self.cores[core];
            if sim.clients[client].next.is_none_or(|at| at > self.now) {
                continue;
            }
            sim.clients[client].next = None;
            let key = sim.clients[client].key;
            let owner = client as u64 + 1;
            if let Some(lease) = sim.pools[key].take(owner) {
                self.begin(core, key, client, lease);
            } else {
                sim.clients[client].waits_since = Some(self.now);
                let pool = &mut sim.pools[key];
                pool.enqueue(owner, Now(self.now), Deadline::NEVER).unwrap();
            }
        }
    }

    /// Opens connections for the pools that are due them.
    fn open(&mut self, core: usize) {
        let sim = &mut self.cores[core];
        while sim.permits.spare() > 0 {
            sim.sync(self.now);
            let due = sim.gate.due(Now(self.now), facts(&sim.pools, &sim.places));
            let Some(key) = due.map(PoolId::index) else {
                break;
            };
            assert!(sim.permits.try_take());
            sim.pools[key].connect_started();
            let at = self.now + MS + self.prng.below(2 * MS);
            sim.connects.push((at, key));
            self.opened += 1;
        }
    }

    pub fn check(&mut self) {
        let mut total: i64 = 0;
        let mut open = 0;
        for (core, sim) in self.cores.iter().enumerate() {
            let idle: u32 = sim.pools.iter().map(|p| p.counts().idle).sum();
            let others = sim.exchanges.len() + sim.connects.len() + sim.closes.len();
            let here = idle + u32::try_from(others).unwrap();
            let seed = self.seed;
            assert_eq!(
                here,
                sim.permits.in_use(),
                "seed {seed}: a permit per connection"
            );
            assert!(
                here <= sim.permits.owned(),
                "seed {seed}: only what is owned is used"
            );
            // What leaves has its permit with it.
            let leaving = u32::try_from(sim.lendings.len()).unwrap();
            total += i64::from(sim.permits.owned() + leaving) - i64::from(sim.permits.debt());
            open += here + leaving;
            self.most_on_core[core] = self.most_on_core[core].max(here);
        }
        let mut debt = 0;
        for (.., travel) in &self.wire {
            total += match travel {
                Travel::Lent(..) => {
                    open += 1;
                    1
                }
                Travel::Message(message) => match message.body {
                    PermitBody::Grant { count } => i64::from(count),
                    _ => 0,
                },
            };
        }
        for sim in &self.cores {
            debt += sim.permits.debt();
        }
        let (seed, now) = (self.seed, self.now);
        assert_eq!(
            total,
            i64::from(self.budget),
            "seed {seed} at {now}: permits owned and travelling"
        );
        assert!(
            open <= self.budget + debt,
            "seed {seed} at {now}: {open} connections"
        );
    }

    fn next_event(&self) -> u64 {
        let mut next = u64::MAX;
        for core in &self.cores {
            next = core.connects.iter().map(|c| c.0).fold(next, u64::min);
            next = core.closes.iter().copied().fold(next, u64::min);
            next = core.lendings.iter().map(|l| l.0).fold(next, u64::min);
            next = core.exchanges.iter().map(|e| e.0).fold(next, u64::min);
            next = core
                .clients
                .iter()
                .filter_map(|c| c.next)
                .fold(next, u64::min);
            next = next.min(core.look.0);
        }
        self.wire.iter().map(|w| w.0).fold(next, u64::min)
    }

    fn is_due(&self, core: usize) -> bool {
        let (now, sim) = (self.now, &self.cores[core]);
        let id = u16::try_from(core).unwrap();
        sim.look.0 <= now
            || sim.connects.iter().any(|c| c.0 <= now)
            || sim.closes.iter().any(|at| *at <= now)
            || sim.lendings.iter().any(|l| l.0 <= now)
            || sim.exchanges.iter().any(|e| e.0 <= now)
            || sim
                .clients
                .iter()
                .any(|c| c.next.is_some_and(|at| at <= now))
            || self.wire.iter().any(|w| w.0 <= now && w.1 == id)
    }

    pub fn run(&mut self, until: u64) {
        loop {
            // Events within ten microseconds share a turn, as they do on a ring.
            let next = self.next_event();
            if next > until {
                self.now = until;
                return;
            }
            self.now = next.max(self.now + 10 * US);
            for core in 0..self.cores.len() {
                if self.is_due(core) {
                    self.turn(core);
                    self.check();
                }
            }
        }
    }

    /// The longest wait so far, of those served and those still waiting.
    pub fn worst_wait(&self) -> u64 {
        let clients = self.cores.iter().flat_map(|core| &core.clients);
        clients
            .filter_map(|client| client.waits_since)
            .map(|since| self.now - since)
            .fold(self.longest_wait, u64::max)
    }
}
