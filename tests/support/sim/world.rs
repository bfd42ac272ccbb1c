//! One simulated world: clients, gateway, server, faults, and the oracles that watch them.

use std::collections::VecDeque;

use ringgate::base::prng::Prng;
use ringgate::session::mysql::downstream::{Session, SessionFacts};
use ringgate::session::mysql::statements::Texts;
use ringgate::wire::mysql::flags::caps;

use super::gateway::{Driver, Ended, Phase, Pool, believed, login_vector};
use super::mock::{Conn, Data};
use super::workload::{Known, Reads, Request, Workload, pick};

/// What goes wrong in a world.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Links and clients may fail, deadlines may pass.
    pub losses: bool,
    /// A schema may be dropped under its users.
    pub drops: bool,
}

/// One client, with a connection of its own to a server of its own as the reference.
struct Client {
    driver: Driver,
    workload: Workload,
    reference: Conn,
    data: Data,
    left: u32,
    sent: VecDeque<Request>,
    /// On its way to the gateway.
    wire: Vec<u8>,
    depth: usize,
    /// What was lost with a link and not set anew since.
    lost: Reads,
    seen_ends: u64,
}

pub struct World {
    clients: Vec<Client>,
    pool: Pool,
    prng: Prng,
    faults: Faults,
    /// Largest pieces in which bytes travel.
    piece: u64,
    losses: u32,
}

/// Runs one world to its end. `trace` keeps what happened, for the report of a failure.
pub fn run(seed: u64, faults: Faults, trace: &mut Vec<String>) {
    let mut world = World::new(seed, faults);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    *trace = std::mem::take(&mut world.pool.trace);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut prng = Prng::new(seed);
        let mut shared = caps::PROTOCOL_41 | caps::TRANSACTIONS | caps::MULTI_RESULTS;
        if prng.below(2) == 0 {
            shared |= caps::DEPRECATE_EOF;
        }
        if prng.below(3) > 0 {
            shared |= caps::MULTI_STATEMENTS;
        }
        // A server may not know DEPRECATE_EOF though the clients do.
        let mut server = shared | caps::SESSION_TRACK;
        if prng.below(4) == 0 {
            server &= !caps::DEPRECATE_EOF;
        }
        let count = 1 + prng.below(5);
        let clients = (0..count)
            .map(|number| {
                let tracks = if prng.below(2) == 0 {
                    caps::SESSION_TRACK
                } else {
                    0
                };
                Client::new(
                    usize::try_from(number).unwrap() + 1,
                    shared | tracks,
                    &mut prng,
                )
            })
            .collect();
        let links_max = usize::try_from(1 + prng.below(3)).unwrap();
        let piece = pick(&mut prng, &[1, 7, 64, 4096, 1 << 20]);
        let pool = Pool {
            links: std::collections::BTreeMap::new(),
            idle: Vec::new(),
            waiters: VecDeque::new(),
            texts: Texts::default(),
            data: Data::default(),
            prng: Prng::new(seed ^ 0x5eed),
            capabilities: server,
            links_max,
            next_link: 0,
            ended: 0,
            trace: Vec::new(),
        };
        Self {
            clients,
            pool,
            prng,
            faults,
            piece,
            losses: 0,
        }
    }

    fn run(&mut self) {
        let (mut idle_rounds, mut rounds) = (0, 0_u32);
        while !self.clients.iter().all(Client::is_over) {
            let moved = self.step();
            rounds += 1;
            assert!(rounds < 100_000_000, "no end: {}", self.standing());
            idle_rounds = if moved { 0 } else { idle_rounds + 1 };
            assert!(idle_rounds < 10_000, "nothing moves: {}", self.standing());
        }
        for number in 0..self.clients.len() {
            self.clients[number].driver.vanish(&mut self.pool);
        }
        let data = &self.pool.data;
        for (tag, times) in &data.ran {
            assert!(*times == 1, "{tag} ran {times} times");
        }
        assert!(
            self.pool.links.len() <= self.pool.links_max,
            "too many links"
        );
    }

    fn standing(&self) -> String {
        let phases = self.clients.iter().map(|client| {
            let phase = match client.driver.phase {
                Phase::Idle => "idle",
                Phase::Settling(_) => "settling",
                Phase::Queued(..) => "queued",
                Phase::Ahead(_) => "ahead",
                Phase::Streaming => "streaming",
                Phase::Main => "main",
                Phase::Closed => "closed",
            };
            let sent = client.sent.front().map(|request| request.text.clone());
            format!("{phase} lease {:?} {sent:?}", client.driver.lease)
        });
        phases.collect::<Vec<_>>().join("; ")
    }

    /// Lets one of all that may move move.
    fn step(&mut self) -> bool {
        let number = usize::try_from(self.prng.below(self.clients.len() as u64)).unwrap();
        let len = usize::try_from(1 + self.prng.below(self.piece)).unwrap();
        match self.prng.below(16) {
            0..=3 => self.send(number),
            4..=6 => self.arrive(number, len),
            7..=10 => {
                let moved = self.clients[number].driver.poll(&mut self.pool, len);
                self.settle(number);
                moved
            }
            11..=14 => self.serve(len),
            _ => self.fault(number),
        }
    }

    /// A client sends its next request.
    fn send(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        if client.left == 0 || client.sent.len() >= client.depth || client.driver.is_closed() {
            return false;
        }
        client.left -= 1;
        let request = client.workload.next(&mut self.prng);
        self.pool
            .trace
            .push(format!("client {} sends {}", number + 1, request.text));
        client.wire.extend_from_slice(&request.raw);
        client.sent.push_back(request);
        true
    }

    /// Bytes of a client come to the gateway.
    fn arrive(&mut self, number: usize, len: usize) -> bool {
        let client = &mut self.clients[number];
        if client.wire.is_empty() || !client.driver.pending.is_empty() {
            return false;
        }
        let len = len.min(client.wire.len());
        client.driver.pending.extend(client.wire.drain(..len));
        true
    }

    fn serve(&mut self, len: usize) -> bool {
        let busy: Vec<u64> = self
            .pool
            .links
            .iter()
            .filter(|(_, link)| !link.to_server.is_empty() && !link.is_dead)
            .map(|(id, _)| *id)
            .collect();
        if busy.is_empty() {
            return false;
        }
        let id = pick(&mut self.prng, &busy);
        let len = len.min(self.pool.links[&id].to_server.len());
        self.pool.serve(id, len);
        true
    }

    fn fault(&mut self, number: usize) -> bool {
        if self.faults.drops && self.prng.below(200) == 0 {
            self.pool.data.dropped_schemas.insert("s3".to_owned());
            for client in &mut self.clients {
                client.data.dropped_schemas.insert("s3".to_owned());
            }
        }
        if !self.faults.losses || self.losses >= 4 || self.prng.below(12) > 0 {
            return false;
        }
        self.losses += 1;
        match self.prng.below(4) {
            0 | 1 => {
                let alive: Vec<u64> = self
                    .pool
                    .links
                    .iter()
                    .filter(|(_, link)| !link.is_dead)
                    .map(|(id, _)| *id)
                    .collect();
                if alive.is_empty() {
                    return false;
                }
                let id = pick(&mut self.prng, &alive);
                self.pool.kill(id);
            }
            2 => {
                self.pool
                    .trace
                    .push(format!("client {} vanishes", number + 1));
                let client = &mut self.clients[number];
                client.driver.vanish(&mut self.pool);
                client.sent.clear();
            }
            _ => self.pass_deadline(number),
        }
        true
    }

    fn pass_deadline(&mut self, number: usize) {
        let client = &mut self.clients[number];
        // A PREPARE whose head has passed has given out an id that the reference would not know.
        let prepares = client
            .sent
            .front()
            .is_some_and(|request| request.prepares.is_some());
        match client.driver.phase {
            Phase::Queued(..) => client.driver.give_up_waiting(&mut self.pool),
            Phase::Ahead(_) | Phase::Main if !(prepares && client.driver.has_answered) => {
                client.driver.interrupt(&mut self.pool);
            }
            _ => return,
        }
        self.pool
            .trace
            .push(format!("a deadline of client {} passes", number + 1));
        self.settle(number);
    }

    /// Judges what a client has got.
    fn settle(&mut self, number: usize) {
        let others = self.clients.len();
        let client = &mut self.clients[number];
        for (reply, ended) in std::mem::take(&mut client.driver.ended) {
            let request = client.sent.pop_front().expect("an answer to nothing");
            self.pool.trace.push(format!(
                "client {} has {ended:?}, {} bytes, to {}",
                number + 1,
                reply.len(),
                request.text
            ));
            check_foreign(&reply, number + 1, others);
            client.check(&self.pool, &request, &reply, ended);
        }
        if client.left == 0 && client.sent.is_empty() && !client.driver.is_closed() {
            client.driver.vanish(&mut self.pool);
        }
        if client.driver.is_closed() {
            assert!(client.driver.reply.is_empty(), "said after the end");
            client.sent.clear();
        }
    }
}

/// No byte of another client's.
fn check_foreign(reply: &[u8], number: usize, count: usize) {
    for other in (1..=count).filter(|other| *other != number) {
        let tag = format!("c{other}:");
        let found = reply
            .windows(tag.len())
            .any(|window| window == tag.as_bytes());
        assert!(
            !found,
            "client {number} reads what client {other} wrote: {}",
            show(reply)
        );
    }
}

fn show(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(3000)
        .flat_map(|byte| byte.escape_ascii())
        .map(char::from)
        .collect()
}

impl Client {
    fn new(number: usize, capabilities: u32, prng: &mut Prng) -> Self {
        let schema = pick(prng, &[None, Some("s1"), Some("s2"), Some("s3")]);
        let facts = SessionFacts {
            owner: number as u64,
            capabilities,
            vector: login_vector(schema),
            statements_max: 100,
        };
        Self {
            driver: Driver::new(number, Session::new(facts)),
            workload: Workload::new(number, capabilities, prng),
            reference: Conn::new(capabilities, false, schema),
            data: Data::default(),
            left: 6 + u32::try_from(prng.below(20)).unwrap(),
            sent: VecDeque::new(),
            wire: Vec::new(),
            depth: pick(prng, &[1, 1, 2, 5]),
            // FOUND_ROWS() before the first SELECT means nothing.
            lost: Reads {
                counts: true,
                ..Reads::default()
            },
            seen_ends: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.driver.is_closed()
    }

    fn table(&self) -> String {
        format!("t{}", self.driver.number)
    }

    fn check(&mut self, pool: &Pool, request: &Request, reply: &[u8], ended: Ended) {
        if pool.ended != self.seen_ends {
            // Whatever was left on a link is lost with it.
            self.seen_ends = pool.ended;
            self.lost = Reads {
                insert_id: true,
                counts: true,
                conditions: true,
            };
        }
        self.lost.conditions |= !pool.data.dropped_schemas.is_empty();
        match ended {
            Ended::Served => self.check_served(pool, request, reply),
            Ended::Failed(_) | Ended::Cut => self.check_failed(pool, request, reply),
        }
    }

    /// The reply must be the one that a connection of its own would have given.
    fn check_served(&mut self, pool: &Pool, request: &Request, reply: &[u8]) {
        if self.is_dropped(pool, reply) {
            return self.follow(pool);
        }
        let own = own_error(reply);
        if let Some("diagnostics_moved" | "last_statement_lost") = own {
            // It was not run.
            assert!(
                self.may_refuse(own.unwrap_or_default(), request, &[]),
                "refused {}",
                request.text
            );
            return self.follow(pool);
        }
        // An old list of conditions may be gone: servers differ in when they clear it.
        let mut cleared = self.reference.clone();
        cleared.conditions.clear();
        let was_fresh = self.reference.has_fresh_conditions;
        cleared.feed(&mut self.data.clone(), &request.raw);
        self.reference.feed(&mut self.data, &request.raw);
        let expected = std::mem::take(&mut self.reference.outbox);
        let is_lost = |lost: Reads, reads: Reads| {
            lost.insert_id && reads.insert_id
                || lost.counts && reads.counts
                || lost.conditions && reads.conditions
        };
        let is_right = reply == expected
            || request.reads.conditions && !was_fresh && reply == cleared.outbox
            || is_lost(self.lost, request.reads)
            || own.is_some_and(|reason| self.may_refuse(reason, request, &expected))
            || self.is_without_schema(request);
        assert!(
            is_right,
            "client {} asked {}\n   got {}\nexpect {}",
            self.driver.number,
            request.text,
            show(reply),
            show(&expected)
        );
        if self.reference.sets_insert_id {
            self.lost.insert_id = false;
        }
        // A refused move to a dropped schema is an error that only the gateway's link knows of.
        if self.reference.sets_conditions && pool.data.dropped_schemas.is_empty() {
            self.lost.conditions = false;
        }
        let has_rows = expected
            .get(4)
            .is_some_and(|first| (1..0xfb).contains(first));
        if has_rows
            && request.executes.is_none()
            && !request.reads.conditions
            && request.prepares.is_none()
        {
            self.lost.counts = false;
        }
        if own.is_some() {
            // The server does not know of the gateway's own errors.
            self.lost.conditions = true;
            self.lost.counts = true;
        }
        if request.text.ends_with("cursor 1") || request.text.starts_with("fetch ") {
            // What FOUND_ROWS() says of a cursor nobody relies on.
            self.lost.counts = true;
        }
        self.learn(request, &expected);
        let is_dying = |id: u64| pool.links.get(&id).is_some_and(|link| link.is_dead);
        if self.driver.lease.is_some_and(is_dying) {
            // Its transaction is undone already, which the client learns of next.
            return;
        }
        let shared = pool.data.tables.get(&self.table());
        assert_eq!(
            shared,
            self.data.tables.get(&self.table()),
            "the table differs"
        );
    }

    fn learn(&mut self, request: &Request, expected: &[u8]) {
        if let Some(sql) = &request.prepares
            && expected.get(4) == Some(&0)
        {
            let id = self.reference.next_statement;
            let params = self.reference.statements[&id].params;
            self.workload.known.push(Known {
                id,
                sql: sql.clone(),
                params,
                is_bound: false,
                has_long_data: false,
                types: Vec::new(),
            });
        }
        if let Some(id) = request.binds
            && let Some(known) = self.workload.known.iter_mut().find(|known| known.id == id)
        {
            known.is_bound = true;
        }
        if request.text == "reset connection" {
            self.workload.known.clear();
        }
    }

    /// Whether the code policy gives a good reason for an error of the gateway's own.
    fn may_refuse(&self, reason: &str, request: &Request, expected: &[u8]) -> bool {
        let errno = (expected.get(4) == Some(&0xff))
            .then(|| expected.get(5..7).map(|b| u16::from_le_bytes([b[0], b[1]])))
            .flatten();
        match reason {
            "unknown_statement" => matches!(errno, Some(1243 | 1421)),
            "diagnostics_moved" => request.reads.conditions && request.text != "show warnings",
            "last_statement_lost" => {
                let (lost, reads) = (self.lost, request.reads);
                lost.conditions && reads.conditions || lost.counts && reads.counts
            }
            "empty_query" => errno == Some(1065),
            _ => false,
        }
    }

    /// A statement that was prepared without a schema runs in the current one: connections cannot
    /// leave their schema for none.
    fn is_without_schema(&self, request: &Request) -> bool {
        let statement = request
            .executes
            .and_then(|id| self.reference.statements.get(&id));
        statement.is_some_and(|statement| statement.schema.is_none())
            && self.reference.state.schema.is_some()
    }

    /// The client's schema was dropped, and the server said so.
    fn is_dropped(&self, pool: &Pool, reply: &[u8]) -> bool {
        let schema = self.reference.state.schema.as_deref().unwrap_or_default();
        let is_unknown = reply.get(4..7) == Some(&[0xff, 0x19, 0x04]);
        pool.data.dropped_schemas.contains(schema) && is_unknown
    }

    /// Whatever the request did, it may not look complete.
    fn check_failed(&mut self, pool: &Pool, request: &Request, reply: &[u8]) {
        let mut probe = self.reference.clone();
        probe.feed(&mut self.data.clone(), &request.raw);
        let expected = probe.outbox;
        let is_exact = !self.lost.insert_id && !self.lost.conditions && !self.lost.counts;
        assert!(
            expected.is_empty() || !reply.starts_with(&expected) || !is_exact,
            "a lost reply to {} looks complete: {}",
            request.text,
            show(reply)
        );
        self.follow(pool);
    }

    /// Takes over what a request whose outcome is unknown has done to the client's table and to
    /// its session.
    fn follow(&mut self, pool: &Pool) {
        self.lost = Reads {
            insert_id: true,
            counts: true,
            conditions: true,
        };
        for known in &mut self.workload.known {
            known.is_bound = false;
        }
        let name = self.table();
        match pool.data.tables.get(&name) {
            Some(table) => self.data.tables.insert(name, table.clone()),
            None => self.data.tables.remove(&name),
        };
        let vector = self.driver.session.vector().clone();
        let names: Vec<_> = self
            .reference
            .state
            .variables
            .all()
            .map(|(name, _)| name)
            .collect();
        for name in names.iter().filter(|name| **name != "collation_connection") {
            self.reference
                .state
                .variables
                .set(name, Some(&believed(&vector, name)));
        }
        let collation = believed(&vector, "collation_connection");
        self.reference
            .state
            .variables
            .set("collation_connection", Some(&collation));
        let schema = vector
            .schema()
            .map(|schema| String::from_utf8_lossy(schema).into_owned());
        self.reference.state.schema = schema;
    }
}

/// The reason word of an error that the gateway made itself, if the reply is one.
fn own_error(reply: &[u8]) -> Option<&str> {
    if reply.get(4) != Some(&0xff) {
        return None;
    }
    let text = std::str::from_utf8(reply.get(7..)?).ok()?;
    let (_, tail) = text.rsplit_once("[ringgate ")?;
    tail.split(' ').next()
}
