//! One simulated client, and the oracle that judges what it gets.

use std::collections::VecDeque;
use std::rc::Rc;

use ringgate::base::pin::PinReason;
use ringgate::base::prng::Prng;
use ringgate::session::mysql::downstream::{Session, SessionFacts};
use ringgate::session::mysql::left_behind::Settled;
use ringgate::wire::mysql::flags::com;

use super::gateway::{Driver, Ended};
use super::mock::{Conn, Data};
use super::reply::{ends_transaction, settled};
use super::site::{Leased, Site, believed, login_vector};
use super::workload::{Known, Reads, Request, Workload, pick};

/// One client, with a connection of its own to a server of its own as the reference.
pub struct Client {
    pub driver: Driver,
    pub workload: Workload,
    /// The reference. After a request that failed there are several, which differ in what that
    /// request may have left behind; answers tell which of them are right.
    references: Vec<Conn>,
    pub data: Data,
    pub left: u32,
    pub sent: VecDeque<Request>,
    /// On its way to the gateway.
    pub wire: Vec<u8>,
    /// Its end comes behind what is on its way.
    pub is_leaving: bool,
    /// It has stopped, and never sends these last bytes of what it was to send.
    pub withheld: Option<usize>,
    pub depth: usize,
    /// What may be lost with a link and was not set anew since: the gateway may refuse to answer,
    /// but not say anything else.
    lost: Reads,
    /// What FOUND_ROWS() says of a cursor nobody relies on.
    has_vague_counts: bool,
    /// A schema was dropped while this many of its requests were on their way: each of them may
    /// have run before that.
    before_drop: usize,
    seen_ends: u64,
    /// A command without a reply has failed.
    is_owed: bool,
}

const ALL: Reads = Reads {
    insert_id: true,
    counts: true,
    conditions: true,
};

impl Client {
    pub fn new(number: usize, capabilities: u32, settled: Rc<Settled>, prng: &mut Prng) -> Self {
        let schema = pick(prng, &[None, Some("s1"), Some("s2"), Some("s3")]);
        let facts = SessionFacts {
            owner: number as u64,
            capabilities,
            vector: login_vector(schema),
            statements_max: 100,
            settled,
        };
        Self {
            driver: Driver::new(number, Session::new(facts)),
            workload: Workload::new(number, capabilities, prng),
            references: vec![Conn::new(capabilities, false, schema)],
            data: Data::default(),
            left: 6 + u32::try_from(prng.below(20)).unwrap(),
            sent: VecDeque::new(),
            wire: Vec::new(),
            is_leaving: false,
            withheld: None,
            depth: pick(prng, &[1, 1, 2, 5]),
            // FOUND_ROWS() before the first SELECT means nothing.
            lost: Reads {
                counts: true,
                ..Reads::default()
            },
            has_vague_counts: false,
            before_drop: 0,
            seen_ends: 0,
            is_owed: false,
        }
    }

    pub fn is_over(&self) -> bool {
        self.driver.is_closed()
    }

    /// It sends nothing from somewhere in what is on its way on.
    pub fn stop(&mut self, prng: &mut Prng) {
        let len = prng.below(self.wire.len() as u64 + 1);
        let len = usize::try_from(len).unwrap();
        self.withheld = Some(self.wire.len() - len);
        self.wire.truncate(len);
    }

    /// Whether it has stopped, and all that it sent has come.
    pub fn has_stopped(&self) -> bool {
        self.withheld.is_some() && self.wire.is_empty() && self.driver.pending.is_empty()
    }

    /// Whether a part of its first request is there, and the rest never comes.
    pub fn is_cut_short(&self) -> bool {
        let withheld = self.withheld.unwrap_or_default();
        let behind = self.sent.iter().skip(1).map(|request| request.raw.len());
        let behind: usize = behind.sum();
        let first = self.sent.front().map_or(0, |request| request.raw.len());
        (behind + 1..behind + first).contains(&withheld)
    }

    /// A schema is dropped now.
    pub fn see_drop(&mut self) {
        if self.data.dropped_schemas.is_empty() && self.before_drop == 0 {
            self.before_drop = self.sent.len();
            self.learn_of_drop();
        }
    }

    /// The reference's server drops the schema too, once nothing is on its way that may have run
    /// before.
    fn learn_of_drop(&mut self) {
        if self.before_drop == 0 {
            self.data.dropped_schemas.insert("s3".to_owned());
        }
    }

    fn table(&self) -> String {
        format!("t{}", self.driver.number)
    }

    /// Judges a reply.
    pub fn check(&mut self, site: &Site, request: &Request, reply: &[u8], ended: Ended) {
        let has_lost = site.ended != self.seen_ends;
        self.seen_ends = site.ended;
        if has_lost {
            // Whatever was left on a link is lost with it.
            self.lost = ALL;
        }
        if self.before_drop > 0 {
            self.before_drop -= 1;
            let runs_before = |reference: &Conn| {
                let mut before = reference.clone();
                before.feed(&mut self.data.clone(), &request.raw);
                settled(&before.outbox) == settled(reply)
            };
            if !self.variants(request).iter().any(runs_before) {
                self.before_drop = 0;
                self.learn_of_drop();
            }
        }
        let has_reply = !matches!(
            request.raw.get(4),
            Some(&(com::STMT_SEND_LONG_DATA | com::STMT_CLOSE))
        );
        if self.driver.owes || self.is_owed {
            // The data of a command without a reply is lost, and no EXECUTE may run without it.
            assert!(!has_reply || self.is_over(), "no word of a lost command");
            self.is_owed = true;
            return;
        }
        let is_silent = has_reply || reply.is_empty() || self.is_over();
        assert!(is_silent, "a reply to {}", request.text);
        match ended {
            Ended::Served => self.check_served(site, request, reply),
            Ended::Failed | Ended::Cut => {
                assert!(has_reply || self.is_over(), "{} was lost", request.text);
                self.check_failed(site, request, reply);
            }
        }
        if !site.data.dropped_schemas.is_empty() {
            self.learn_of_drop();
        }
        if has_lost {
            // The link may have ended after the reply.
            self.lost = ALL;
        }
    }

    /// The reply must be the one that a connection of its own would have given.
    fn check_served(&mut self, site: &Site, request: &Request, reply: &[u8]) {
        let may_be_moved = self.is_dropped(site, request, reply);
        let own = own_error(reply);
        if let Some(reason @ ("diagnostics_moved" | "last_statement_lost")) = own {
            // It was not run.
            let may = self.may_refuse(reason, request, &[]);
            assert!(may, "{reason} told to {}", request.text);
            self.doubt_types(request);
            return self.doubt();
        }
        let Some(expected) = self.compare(request, reply, own) else {
            assert!(may_be_moved, "{}", self.difference(request, reply));
            return self.follow(site);
        };
        if may_be_moved {
            self.doubt();
        }
        if self.references[0].sets_insert_id {
            self.lost.insert_id = false;
        }
        if self.references[0].sets_conditions {
            self.lost.conditions = false;
        }
        self.judge_counts(request, &expected);
        if own.is_some() {
            // The server does not know of the gateway's own errors.
            self.doubt();
        }
        self.learn(request, &expected);
        let is_dying = |id: u64| site.links.get(&id).is_some_and(|link| link.is_dead);
        if self
            .driver
            .lease
            .as_ref()
            .map(Leased::link)
            .is_some_and(is_dying)
        {
            // Its transaction is undone already, which the client learns of next.
            return;
        }
        let shared = site.data.tables.get(&self.table());
        assert_eq!(
            shared,
            self.data.tables.get(&self.table()),
            "the table differs"
        );
    }

    /// Asks the references. Those that say the same remain; gives what the first of them said.
    fn compare(&mut self, request: &Request, reply: &[u8], own: Option<&str>) -> Option<Vec<u8>> {
        let mut right = Vec::new();
        for mut reference in self.variants(request) {
            let mut data = self.data.clone();
            reference.feed(&mut data, &request.raw);
            let said = std::mem::take(&mut reference.outbox);
            let is_right = settled(&said) == settled(reply)
                || self.has_vague_counts && request.reads.counts && reply.get(4) != Some(&0xff)
                || own.is_some_and(|reason| self.may_refuse(reason, request, &said));
            if is_right {
                right.push((reference, data, said));
            }
        }
        let (_, data, expected) = right.first()?;
        let expected = expected.clone();
        self.data = data.clone();
        self.references = right.into_iter().map(|(reference, ..)| reference).collect();
        for statement in self
            .references
            .iter_mut()
            .flat_map(|r| r.statements.values_mut())
        {
            if statement.was_moved {
                (statement.schema, statement.was_moved) = (None, false);
            }
        }
        self.forget_twins();
        Some(expected)
    }

    fn difference(&self, request: &Request, reply: &[u8]) -> String {
        let said = self.variants(request).into_iter().map(|mut reference| {
            reference.feed(&mut self.data.clone(), &request.raw);
            show(&reference.outbox)
        });
        format!(
            "client {} asked {}\n   got {}\nexpect {}",
            self.driver.number,
            request.text,
            show(reply),
            said.collect::<Vec<_>>().join("\n    or ")
        )
    }

    /// The references, and what they would be where the gateway cannot do better.
    fn variants(&self, request: &Request) -> Vec<Conn> {
        let mut variants = self.references.clone();
        for reference in &self.references {
            // A statement that was prepared without a schema runs in the one that its connection
            // was in when it was prepared there: connections cannot leave their schema for none.
            for schema in ["s1", "s2", "s3"] {
                let mut moved = reference.clone();
                let id = request.executes;
                if let Some(statement) = id.and_then(|id| moved.statements.get_mut(&id))
                    && statement.schema.is_none()
                    && moved.state.schema.is_some()
                {
                    statement.schema = Some(schema.to_owned());
                    statement.was_moved = true;
                    variants.push(moved);
                }
            }
        }
        variants
    }

    fn judge_counts(&mut self, request: &Request, expected: &[u8]) {
        let has_rows = expected
            .get(4)
            .is_some_and(|first| (1..0xfb).contains(first));
        if has_rows
            && request.executes.is_none()
            && !request.reads.conditions
            && request.prepares.is_none()
        {
            self.lost.counts = false;
            self.has_vague_counts = false;
        }
        // Only the server can tell whether these set FOUND_ROWS().
        let may_count = ["select ", "show tables"].map(|word| request.text.contains(word));
        self.lost.counts |= request.text.contains("show privileges")
            || is_error_at_the_end(expected) && may_count.contains(&true);
        self.has_vague_counts |=
            request.text.ends_with("cursor 1") || request.text.starts_with("fetch ");
    }

    fn learn(&mut self, request: &Request, expected: &[u8]) {
        if let Some(sql) = &request.prepares
            && expected.get(4) == Some(&0)
        {
            let id = self.references[0].next_statement;
            let params = self.references[0].statements[&id].params;
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
            "unknown_statement" => errno == Some(1243),
            "no_cursor" => errno == Some(1421),
            "diagnostics_moved" => request.reads.conditions && request.text != "show warnings",
            "last_statement_lost" => {
                let (lost, reads) = (self.lost, request.reads);
                // A list that others have read out may have been emptied since, or not.
                let is_old = self.references.iter().any(|one| !one.has_fresh_conditions);
                (lost.conditions || is_old) && reads.conditions
                    || lost.counts && reads.counts
                    || lost.insert_id && reads.insert_id
            }
            "empty_query" => errno == Some(1065),
            _ => false,
        }
    }

    /// The schema of the client, or of the statement it executes, was dropped, and the server said
    /// so when the gateway moved there.
    fn is_dropped(&self, site: &Site, request: &Request, reply: &[u8]) -> bool {
        let current = self.references[0].state.schema.as_deref();
        let own = request
            .executes
            .and_then(|id| self.references[0].statements.get(&id))
            .and_then(|statement| statement.schema.as_deref());
        let is_unknown = reply.get(4..7) == Some(&[0xff, 0x19, 0x04]);
        let is_gone = |schema: &str| {
            let is_named = show(reply).contains(&format!("'{schema}'").escape_debug().to_string());
            is_named && site.data.dropped_schemas.contains(schema)
        };
        is_unknown && [current, own].into_iter().flatten().any(is_gone)
    }

    /// Whatever the request did, it may not look complete.
    fn check_failed(&mut self, site: &Site, request: &Request, reply: &[u8]) {
        if let [reference] = &self.references[..] {
            let mut probe = reference.clone();
            probe.feed(&mut self.data.clone(), &request.raw);
            let expected = probe.outbox;
            let is_exact = self.lost == Reads::default();
            assert!(
                expected.is_empty() || !reply.starts_with(&expected) || !is_exact,
                "a lost reply to {} looks complete: {}",
                request.text,
                show(reply)
            );
        }
        self.doubt_types(request);
        self.follow(site);
        if !self.is_over() && !self.driver.session().pins().has(PinReason::Transaction) {
            self.leave_transaction(reply);
        }
    }

    /// The client goes on without the transaction that it was in: the request has ended it, as the part of
    /// the reply that came has told.
    fn leave_transaction(&mut self, reply: &[u8]) {
        let is_told = ends_transaction(reply, self.workload.capabilities);
        for reference in &mut self.references {
            let is_open = std::mem::take(&mut reference.state.in_transaction);
            assert!(
                is_told || !is_open,
                "a transaction is lost: {}",
                show(reply)
            );
        }
    }

    /// The last request was not answered by a server: ROW_COUNT() and the conditions may be those of
    /// the statement before, or those of an error.
    fn doubt(&mut self) {
        for at in 0..self.references.len() {
            let mut failed = self.references[at].clone();
            failed.row_count = -1;
            let mut cleared = failed.clone();
            cleared.conditions.clear();
            cleared.has_fresh_conditions = false;
            self.references.extend([failed, cleared]);
        }
        self.forget_twins();
    }

    /// An EXECUTE that was lost may have bound the types that it carries, which one that is on its way
    /// already relies on.
    fn doubt_types(&mut self, request: &Request) {
        let Some(id) = request.binds else { return };
        for at in 0..self.references.len() {
            let mut bound = self.references[at].clone();
            let mut ran = bound.clone();
            ran.feed(&mut self.data.clone(), &request.raw);
            let types = ran.statements.get(&id).and_then(|s| s.types.clone());
            if let Some(statement) = bound.statements.get_mut(&id) {
                statement.types = types;
                self.references.push(bound);
            }
        }
    }

    fn forget_twins(&mut self) {
        let mut seen = Vec::new();
        self.references.retain(|reference| {
            let left = (
                reference.row_count,
                reference.found_rows,
                reference.insert_id,
                reference.conditions.clone(),
                reference.has_fresh_conditions,
                reference.types_bound(),
            );
            let is_new = !seen.contains(&left);
            seen.push(left);
            is_new
        });
    }

    /// Takes over what a request whose outcome is unknown has done to the client's table and to
    /// its session.
    fn follow(&mut self, site: &Site) {
        self.lost = ALL;
        for known in &mut self.workload.known {
            known.is_bound = false;
        }
        let name = self.table();
        match site.data.tables.get(&name) {
            Some(table) => self.data.tables.insert(name, table.clone()),
            None => self.data.tables.remove(&name),
        };
        let vector = self.driver.session().vector().clone();
        for reference in &mut self.references {
            let state = &mut reference.state;
            let names: Vec<_> = state.variables.all().map(|(name, _)| name).collect();
            for name in names.iter().filter(|name| **name != "collation_connection") {
                state.variables.set(name, Some(&believed(&vector, name)));
            }
            let collation = believed(&vector, "collation_connection");
            state
                .variables
                .set("collation_connection", Some(&collation));
            let schema = vector.schema();
            state.schema = schema.map(|schema| String::from_utf8_lossy(schema).into_owned());
        }
        self.doubt();
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

/// Whether the last packet of a reply is ERR.
fn is_error_at_the_end(reply: &[u8]) -> bool {
    let (mut rest, mut is_error) = (reply, false);
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let len = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        is_error = tail.first() == Some(&0xff);
        rest = tail.get(len..).unwrap_or_default();
    }
    is_error
}

pub fn show(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(3000)
        .flat_map(|byte| byte.escape_ascii())
        .map(char::from)
        .collect()
}
