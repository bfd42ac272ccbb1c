//! The server's side of the simulated gateway: links to mock servers in the product's own pools, with
//! the product's own permits.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ringgate::base::clock::{Deadline, Now};
use ringgate::base::close::CloseReason;
use ringgate::base::ident::{CoreId, EndpointName};
use ringgate::base::prng::Prng;
use ringgate::pool::{
    Effect, Ended, Facts, Gate, Key, Lease, LeaseEnd, OnReturn, Patience, Permits, Pool, PoolId,
    PoolLimits, WaiterId,
};
use ringgate::session::mysql::downstream::Session;
use ringgate::session::mysql::left_behind::Settled;
use ringgate::session::mysql::state::Vector;
use ringgate::session::mysql::statements::Texts;
use ringgate::session::mysql::upstream::{LoginFacts, Upstream};
use ringgate::wire::mysql::flags::caps;

use super::mock::{Conn, Data};
use super::variables::default_collation;

/// Statements that a link keeps prepared: few, so that they are often given up.
const STATEMENTS_MAX: usize = 3;
const LIMITS: PoolLimits = PoolLimits {
    waiters_max: 100,
    wait_target: None,
    idle_max: std::time::Duration::from_secs(3600),
    age_max: std::time::Duration::from_secs(3600),
};

/// An upstream connection: its session, and the server at its other end.
pub struct Link {
    pub session: Upstream,
    pub conn: Conn,
    pub to_server: Vec<u8>,
    pub to_gateway: Vec<u8>,
    pub is_dead: bool,
    /// Nobody has leased it.
    pub is_idle: bool,
}

/// A lease of a link, from the pool for sessions with or without a schema.
pub struct Leased {
    pub lease: Lease<u64>,
    pool: usize,
}

impl Leased {
    pub fn link(&self) -> u64 {
        self.lease.connection
    }
}

/// A place in a pool's queue.
#[derive(Clone, Copy)]
pub struct Waiting {
    pool: usize,
    id: WaiterId,
}

/// All links to the server.
pub struct Site {
    pub links: BTreeMap<u64, Link>,
    pools: [Pool<u64>; 2],
    keys: [Key; 2],
    gate: Gate,
    places: [PoolId; 2],
    pub permits: Permits,
    effects: Vec<Effect>,
    /// Pools for which a link is being opened.
    connecting: Vec<usize>,
    /// Leases that waiters have been given and not taken yet, by client.
    delivered: BTreeMap<u64, Leased>,
    /// Where sessions are told of what they wait for, and who has been told.
    pub settled: Rc<Settled>,
    told: BTreeSet<u64>,
    pub texts: Texts,
    pub data: Data,
    pub prng: Prng,
    pub capabilities: u32,
    pub links_max: usize,
    next_link: u64,
    pub now: Now,
    /// Counts links that ended: what others left on them is lost.
    pub ended: u64,
    pub trace: Vec<String>,
}

fn key(capabilities: u64) -> Key {
    Key {
        tenant: "tenant".into(),
        user: "user".into(),
        credential_version: 1,
        capabilities,
    }
}

fn pool_of(has_schema: bool) -> usize {
    usize::from(has_schema)
}

impl Site {
    pub fn new(seed: u64, capabilities: u32, links_max: usize, settled: Rc<Settled>) -> Self {
        let keys = [key(0), key(1)];
        let mut gate = Gate::default();
        let places = [0, 1].map(|pool: usize| gate.join(&keys[pool].tenant, || None));
        Self {
            links: BTreeMap::new(),
            pools: [Pool::new(LIMITS), Pool::new(LIMITS)],
            keys,
            gate,
            places,
            permits: permits(links_max),
            effects: Vec::new(),
            connecting: Vec::new(),
            delivered: BTreeMap::new(),
            settled,
            told: BTreeSet::new(),
            texts: Texts::default(),
            data: Data::default(),
            prng: Prng::new(seed ^ 0x5eed),
            capabilities,
            links_max,
            next_link: 0,
            now: Now(1),
            ended: 0,
            trace: Vec::new(),
        }
    }

    /// Fewer links, before any is open.
    pub fn shrink(&mut self, links_max: usize) {
        self.links_max = self.links_max.min(links_max);
        self.permits = permits(self.links_max);
    }

    /// Whether a session has been told that what it waits for has settled.
    pub fn is_told(&mut self, client: u64) -> bool {
        let mut owners = Vec::new();
        self.settled.take(&mut owners);
        self.told.extend(owners);
        self.told.remove(&client)
    }

    /// A link for a session, or a place in the queue.
    pub fn acquire(&mut self, session: &Session, prefers_last: bool) -> Result<Leased, Waiting> {
        let pool = pool_of(session.wants_schema());
        let wanted = if prefers_last { session.owner() } else { 0 };
        while let Some(lease) = self.pools[pool].take(wanted) {
            let link = self.links.get_mut(&lease.connection).expect("it lives");
            link.is_idle = false;
            if link.is_dead || !link.to_gateway.is_empty() {
                let lease = self.pools[pool].give_up(lease, 0);
                self.end(lease.connection);
                continue;
            }
            link.session.claimed_by(session.owner());
            return Ok(Leased { lease, pool });
        }
        let queue = &mut self.pools[pool];
        let id = queue.enqueue(session.owner(), self.now, Deadline::NEVER);
        self.settle();
        Err(Waiting {
            pool,
            id: id.expect("there is room"),
        })
    }

    /// Who waits has been given a link.
    pub fn delivered(&mut self, client: u64) -> Option<Leased> {
        self.delivered.remove(&client)
    }

    /// Leaves the queue, with the link that was given meanwhile.
    pub fn leave(&mut self, waiting: Waiting, client: u64) {
        self.pools[waiting.pool].cancel(waiting.id, self.now);
        if let Some(leased) = self.delivered.remove(&client) {
            self.give_back(leased, client);
        }
        self.settle();
    }

    /// Whether anybody waits for a link.
    pub fn is_wanted(&self) -> bool {
        self.pools.iter().any(|pool| pool.counts().waiting > 0)
    }

    /// Whether a client waits for a link and has been given none.
    pub fn waiting(&self) -> u32 {
        self.pools.iter().map(|pool| pool.counts().waiting).sum()
    }

    /// Links in nobody's hands yet.
    pub fn on_their_way(&self) -> impl Iterator<Item = u64> {
        self.delivered.values().map(Leased::link)
    }

    /// Ends a lease by closing its link.
    pub fn discard(&mut self, leased: Leased, client: u64) {
        let end = LeaseEnd::Discard(CloseReason::UpstreamLost);
        let (pool, id) = (leased.pool, leased.link());
        let ended = self.pools[pool].end(leased.lease, client, end, self.now);
        self.place(pool, id, ended);
    }

    /// Takes a link back; only a clean one may come.
    pub fn give_back(&mut self, leased: Leased, client: u64) {
        let id = leased.link();
        let waiting = self.links[&id].to_server.len();
        self.serve(id, waiting);
        let link = &self.links[&id];
        link.session.unclaimed();
        if link.is_dead || !link.to_gateway.is_empty() || !link.session.is_idle() {
            return self.discard(leased, client);
        }
        self.trace
            .push(format!("client {client} returns link {id}"));
        check_clean(&self.links[&id]);
        let home = pool_of(self.links[&id].session.has_schema());
        if home != leased.pool {
            let lease = self.pools[leased.pool].give_up(leased.lease, client);
            let ended = self.pools[home].lent(lease, self.now);
            self.place(home, id, ended);
            return self.settle();
        }
        let oldest = self.pools[home].oldest_waiter().map(|waiter| waiter.since);
        self.gate.lease_ended();
        self.sync();
        let facts = facts(&self.pools, &self.places);
        let demand = self.gate.demand(None, self.now, &facts);
        let gives_way = self.gate.gives_way(self.places[home], self.now, &facts);
        let given = self.permits.on_return(self.now, oldest, &demand, gives_way);
        drop(facts);
        if given != OnReturn::Keep {
            if given == OnReturn::MakeRoom {
                self.gate.moved();
            }
            let lease = self.pools[home].give_up(leased.lease, client);
            return self.end(lease.connection);
        }
        let mark = match self.links[&id].session.holds_for(client) {
            true => client,
            false => 0,
        };
        let ended = self.pools[home].end(leased.lease, mark, LeaseEnd::Return, self.now);
        self.place(home, id, ended);
    }

    fn place(&mut self, pool: usize, id: u64, ended: Ended<u64>) {
        match ended {
            Ended::Idle(_) => {
                self.links.get_mut(&id).expect("it lives").is_idle = true;
                self.settle();
            }
            Ended::HandedOver { to, lease } => {
                self.links[&id].session.claimed_by(to.owner);
                self.delivered.insert(to.owner, Leased { lease, pool });
            }
            Ended::Close(id, _) => self.end(id),
        }
    }

    /// Tells the gate what the pools have; a driver does so after each change.
    fn sync(&mut self) {
        for (pool, place) in self.pools.iter().zip(&self.places) {
            self.gate.changed(*place, pool.counts(), self.now);
        }
    }

    /// Applies the rules of permits and starts the connects that waiters need.
    pub fn settle(&mut self) {
        let mut makes_room = true;
        while makes_room {
            self.sync();
            let mut demand = self
                .gate
                .demand(None, self.now, facts(&self.pools, &self.places));
            demand.key = demand.due.map(|id| &self.keys[id.index()]);
            makes_room = self.permits.settle(self.now, &demand, &mut self.effects);
            self.apply();
        }
        while self.permits.spare() > 0 {
            self.sync();
            let due = self.gate.due(self.now, facts(&self.pools, &self.places));
            let Some(pool) = due.map(PoolId::index) else {
                break;
            };
            assert!(self.permits.try_take(), "a spare permit is there");
            self.pools[pool].connect_started();
            self.connecting.push(pool);
        }
    }

    fn apply(&mut self) {
        // All that are to end are taken before the first end settles anything, as in the product.
        let mut ending = Vec::new();
        for effect in std::mem::take(&mut self.effects) {
            let Effect::CloseIdle { makes_room } = effect else {
                panic!("there is no other core");
            };
            self.sync();
            let facts = facts(&self.pools, &self.places);
            let from = self.gate.victim(self.now, &facts).expect("an idle one");
            if makes_room {
                self.gate.moved();
            }
            drop(facts);
            let lease = self.pools[from.index()].take_longest_idle();
            ending.extend(lease.map(|lease| lease.connection));
        }
        for id in ending {
            self.end(id);
        }
    }

    /// Takes out idle links that have died.
    pub fn sweep(&mut self) {
        let mut dead = Vec::new();
        for pool in &mut self.pools {
            let links = &self.links;
            pool.sweep(self.now, |id| links[id].is_dead, &mut dead);
        }
        for (lease, _) in dead {
            self.end(lease.connection);
        }
        self.settle();
    }

    /// One of the links that are being opened is open; whether there was one.
    pub fn connect(&mut self) -> bool {
        if self.connecting.is_empty() {
            return false;
        }
        let pool = self.connecting.remove(0);
        let id = self.open();
        let ended = self.pools[pool].connected(id, self.now, &mut self.prng);
        self.place(pool, id, ended);
        self.settle();
        true
    }

    fn open(&mut self) -> u64 {
        self.next_link += 1;
        let facts = LoginFacts {
            thread_id: 1,
            deprecates_eof: self.capabilities & caps::DEPRECATE_EOF != 0,
            vector: login_vector(None),
            statements_max: STATEMENTS_MAX,
            baselines: Rc::default(),
        };
        let mut conn = Conn::new(self.capabilities, true, None);
        conn.next_statement = u32::try_from(self.next_link * 1000).unwrap();
        let link = Link {
            session: Upstream::new(facts),
            conn,
            to_server: Vec::new(),
            to_gateway: Vec::new(),
            is_dead: false,
            is_idle: false,
        };
        self.links.insert(self.next_link, link);
        self.trace.push(format!("link {} opens", self.next_link));
        self.next_link
    }

    /// Ends a link. What was on its way may still reach the server.
    fn end(&mut self, id: u64) {
        let mut link = self.links.remove(&id).expect("a link ends once");
        if !link.is_dead {
            let len = u64::try_from(link.to_server.len()).unwrap();
            let arrives = usize::try_from(self.prng.below(len + 1)).unwrap();
            link.conn.feed(&mut self.data, &link.to_server[..arrives]);
        }
        link.conn.close(&mut self.data);
        self.ended += 1;
        self.trace.push(format!("link {id} ends"));
        self.permits.released(&mut self.effects);
        self.apply();
        self.settle();
    }

    /// The server takes some bytes and answers.
    pub fn serve(&mut self, id: u64, len: usize) {
        let link = self.links.get_mut(&id).expect("the link lives");
        if link.is_dead {
            return;
        }
        let bytes: Vec<u8> = link.to_server.drain(..len).collect();
        link.conn.feed(&mut self.data, &bytes);
        link.to_gateway.append(&mut link.conn.outbox);
        assert_eq!(link.conn.complaint, None, "the server complains");
    }

    /// The server, or its network, fails.
    pub fn kill(&mut self, id: u64) {
        let link = self.links.get_mut(&id).expect("the link lives");
        link.is_dead = true;
        link.conn.close(&mut self.data);
        let len = u64::try_from(link.to_gateway.len()).unwrap();
        let arrives = usize::try_from(self.prng.below(len + 1)).unwrap();
        link.to_gateway.truncate(arrives);
        self.trace.push(format!("link {id} dies"));
    }

    /// Every permit is one link's, or free; every link is in one place.
    pub fn check_conserved(&self, held: impl Iterator<Item = u64>) {
        let open = self.links.len() + self.connecting.len();
        assert!(open <= self.links_max, "too many links");
        assert_eq!(self.permits.in_use() as usize, open, "permits in use");
        assert_eq!(self.permits.owned() as usize, self.links_max, "permits");
        let idle = self.links.iter().filter(|(_, link)| link.is_idle);
        let idle: Vec<u64> = idle.map(|(id, _)| *id).collect();
        let pooled: u32 = self.pools.iter().map(|pool| pool.counts().idle).sum();
        assert_eq!(pooled as usize, idle.len(), "idle links");
        let mut all: Vec<u64> = held
            .chain(self.on_their_way())
            .chain(idle.clone())
            .collect();
        all.sort_unstable();
        assert!(all.iter().eq(self.links.keys()), "links {all:?} are held");
        for id in idle {
            let link = &self.links[&id];
            let is_awaited = !link.session.is_idle() || !link.to_server.is_empty();
            assert!(!is_awaited, "link {id} is idle and awaits replies");
            assert!(link.to_gateway.is_empty(), "link {id} holds a reply");
        }
    }

    /// Nobody is left: no link is anybody's, and nothing holds on to a session that is gone.
    pub fn check_left(&self) {
        let idle = self.links.values().filter(|link| link.is_idle).count();
        assert_eq!(idle, self.links.len(), "links that nobody has given back");
        for (id, link) in &self.links {
            assert!(link.session.pack().is_some(), "link {id} is held");
        }
    }
}

fn permits(links_max: usize) -> Permits {
    let budget = u32::try_from(links_max).unwrap();
    let name = EndpointName {
        placement: "shard".into(),
        address: "server".into(),
    };
    Permits::new(name, CoreId(0), 1, budget, Patience::default())
}

/// What the pools tell the gate.
fn facts<'a>(pools: &'a [Pool<u64>; 2], places: &'a [PoolId; 2]) -> impl Fn(PoolId) -> Facts + 'a {
    |id| {
        let at = places.iter().position(|place| *place == id);
        at.map_or_else(Facts::default, |at| pools[at].facts())
    }
}

/// A connection in the pool is idle, clean, and in the state that the gateway believes.
fn check_clean(link: &Link) {
    let state = &link.conn.state;
    assert!(!link.conn.has_partial_command(), "half a command was sent");
    assert!(!state.in_transaction, "returned in a transaction");
    assert!(state.temporary.is_empty(), "returned with temporary tables");
    assert!(state.user_variables.is_empty(), "returned with variables");
    assert!(state.locks.is_empty(), "returned with locks");
    let vector = link.session.vector();
    let schema = state.schema.as_deref().map(str::as_bytes);
    assert_eq!(vector.schema(), schema, "returned in another schema");
    for (name, value) in state.variables.all() {
        assert_eq!(
            believed(vector, name),
            value,
            "returned with another {name}"
        );
    }
    let count = link.conn.statements.len();
    assert!(count <= STATEMENTS_MAX, "{count} statements stay prepared");
}

/// A variable's value as the gateway's vector has it.
pub fn believed(vector: &Vector, name: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if name == "character_set_connection"
        && let Some(collation) = vector.value("collation_connection")
    {
        // Setting the collation sets the character set, which is not reported.
        let collation = text(collation);
        return collation.split('_').next().unwrap_or_default().to_owned();
    }
    if let Some(value) = vector.value(name) {
        return text(value);
    }
    if name == "collation_connection"
        && let Some(charset) = vector.value("character_set_connection")
    {
        return default_collation(&text(charset)).to_owned();
    }
    let defaults = super::variables::Variables::default();
    defaults.get(name).unwrap_or_default().to_owned()
}

/// The state after a login.
pub fn login_vector(schema: Option<&str>) -> Rc<Vector> {
    let vector = Vector::at_login("utf8mb4", "utf8mb4_general_ci");
    Rc::new(vector.with_schema(schema.unwrap_or_default().as_bytes()))
}
