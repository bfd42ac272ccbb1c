//! One simulated world: clients, gateway, server, faults, and the oracles that watch them.

use std::collections::BTreeSet;
use std::rc::Rc;

use ringgate::base::prng::Prng;
use ringgate::session::mysql::left_behind::Settled;
use ringgate::wire::mysql::flags::caps;

use super::cancel::{self, Cut, Ending};
use super::client::{Client, show};
use super::gateway::{Ended, failure};
use super::site::{Leased, Site};
use super::workload::{Reads, pick};

/// The time that a step takes.
const STEP_NANOS: u64 = 20_000;

/// Failures that say that nothing was changed for good.
const UNDONE: &[&str] = &[
    "pool_wait",
    "statement_deadline",
    "command_slow",
    "command_stalled",
];

/// What goes wrong in a world.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Links and clients may fail, deadlines may pass.
    pub losses: bool,
    /// A schema may be dropped under its users.
    pub drops: bool,
    /// Clients do little but set their sessions up, prepare and execute.
    pub settings: bool,
}

pub struct World {
    clients: Vec<Client>,
    site: Site,
    prng: Prng,
    faults: Faults,
    /// Largest pieces in which bytes travel.
    piece: u64,
    losses: u32,
    steps: u32,
    /// The client whose waits are noted.
    watched: Option<usize>,
    /// Steps after which the watched client waited anew, and for what.
    pub waits: Vec<(u32, Option<&'static str>)>,
    /// When a client's wait ends otherwise.
    pub cut: Option<Cut>,
    /// The client of the cut was reading out what another waited for.
    pub leaves_waiting: bool,
    /// Reasons of the gateway's own why commands were not answered.
    pub told: BTreeSet<&'static str>,
    /// Commands whose clients were told that they have changed nothing.
    undone: Vec<(&'static str, Vec<u8>)>,
}

/// Runs one world to its end. `trace` keeps what happened, for the report of a failure.
pub fn run(seed: u64, faults: Faults, trace: &mut Vec<String>) {
    World::new(seed, faults).run_traced(trace);
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut prng = Prng::new(seed);
        let shared = caps::PROTOCOL_41 | caps::TRANSACTIONS | caps::MULTI_RESULTS;
        let framing = match prng.below(2) {
            0 => caps::DEPRECATE_EOF,
            _ => 0,
        };
        let several = match prng.below(3) {
            0 => 0,
            _ => caps::MULTI_STATEMENTS,
        };
        // Clients and servers may know DEPRECATE_EOF or not, each on its own.
        let mut server = shared | caps::SESSION_TRACK;
        if prng.below(4) > 0 {
            server |= caps::DEPRECATE_EOF;
        }
        let settled = Rc::new(Settled::default());
        let count = 1 + prng.below(5);
        let clients = (0..count)
            .map(|number| {
                let tracks = if prng.below(2) == 0 {
                    caps::SESSION_TRACK
                } else {
                    0
                };
                let eofs = match number % 2 {
                    0 => framing,
                    _ => framing ^ caps::DEPRECATE_EOF,
                };
                // One in three wants another than the rest.
                let several = match number % 3 {
                    1 => several ^ caps::MULTI_STATEMENTS,
                    _ => several,
                };
                let mut client = Client::new(
                    usize::try_from(number).unwrap() + 1,
                    shared | tracks | eofs | several,
                    Rc::clone(&settled),
                    &mut prng,
                );
                if faults.settings {
                    client.workload.keep_to_settings();
                }
                client
            })
            .collect();
        let links_max = usize::try_from(1 + prng.below(3)).unwrap();
        let piece = pick(&mut prng, &[1, 7, 64, 4096, 1 << 20]);
        let site = Site::new(seed, server, links_max, settled);
        Self {
            clients,
            site,
            prng,
            faults,
            piece,
            losses: 0,
            steps: 0,
            watched: None,
            waits: Vec::new(),
            cut: None,
            leaves_waiting: false,
            told: BTreeSet::new(),
            undone: Vec::new(),
        }
    }

    /// Makes a world that takes little time: a few clients and requests, in larger pieces.
    pub fn shrink(&mut self) {
        self.clients.truncate(3);
        for client in &mut self.clients {
            client.left = client.left.min(7);
        }
        self.piece = self.piece.max(64);
        self.site.shrink(2);
    }

    /// Notes the waits of one client, and gives its number.
    pub fn watch(&mut self, seed: u64) -> usize {
        let count = self.clients.len() as u64;
        let watched = usize::try_from(seed / 2 % count).unwrap();
        self.watched = Some(watched);
        watched
    }

    /// Runs to the end. `trace` gets what happened.
    pub fn run_traced(&mut self, trace: &mut Vec<String>) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run()));
        *trace = std::mem::take(&mut self.site.trace);
        if let Err(panic) = result {
            if let Some(cut) = self.cut {
                trace.push(format!("{cut:?}"));
            }
            std::panic::resume_unwind(panic);
        }
    }

    fn run(&mut self) {
        let mut idle_rounds = 0;
        while !self.clients.iter().all(Client::is_over) {
            if let Some(cut) = self.cut
                && cut.step == self.steps
            {
                self.cut(cut);
            }
            let moved = self.step();
            if moved {
                self.check_conserved();
            }
            self.steps += 1;
            assert!(self.steps < 100_000_000, "no end: {}", self.standing());
            idle_rounds = if moved { 0 } else { idle_rounds + 1 };
            assert!(idle_rounds < 10_000, "nothing moves: {}", self.standing());
        }
        for number in 0..self.clients.len() {
            self.clients[number].driver.vanish(&mut self.site);
            self.clients[number].driver.forget();
        }
        let data = &self.site.data;
        for (tag, times) in &data.ran {
            assert!(*times == 1, "{tag} ran {times} times");
        }
        self.check_undone();
        self.check_conserved();
        self.site.check_left();
    }

    /// What clients were told not to be done is not done. A statement that was ended may have run in
    /// a transaction that was undone.
    fn check_undone(&self) {
        let data = &self.site.data;
        let rows = data.tables.values().flat_map(|table| &table.rows);
        for (reason, raw) in &self.undone {
            let wrote = |value: &&String| writes(raw, value);
            let done = match *reason {
                "statement_deadline" => rows.clone().find(wrote),
                _ => data.ran.keys().find(wrote),
            };
            assert_eq!(done, None, "{reason} was told of what is done");
        }
    }

    /// A client's wait ends otherwise than it did.
    fn cut(&mut self, cut: Cut) {
        let line = format!("client {}: {:?}", cut.client + 1, cut.ending);
        self.site.trace.push(line);
        self.leaves_waiting = self.reads_for_another(cut.client);
        let client = &mut self.clients[cut.client];
        let mut prng = Prng::new(u64::from(cut.step));
        let is_even = prng.below(2) == 0;
        if cut.ending != Ending::Late {
            client.left = 0;
        }
        match cut.ending {
            Ending::Late => {
                self.pass_deadline(cut.client, is_even);
                if self.clients[cut.client].driver.stage() == "streaming" {
                    // The pace has been looked at, and nothing comes until it is again.
                    self.pass_deadline(cut.client, false);
                }
            }
            Ending::Stalled => client.stop(&mut prng),
            Ending::Fin => {
                client.is_leaving = true;
                // It may have come no further than the middle of a command.
                if is_even {
                    let len = prng.below(client.wire.len() as u64 + 1);
                    client.wire.truncate(usize::try_from(len).unwrap());
                }
            }
            Ending::Reset => {
                client.driver.vanish(&mut self.site);
                client.driver.forget();
                client.wire.clear();
                client.sent.clear();
            }
        }
        self.check_conserved();
    }

    /// Whether what a client reads out is waited for by another.
    fn reads_for_another(&self, client: usize) -> bool {
        let settles = |client: &Client| client.driver.stage() == "settling";
        self.clients[client].driver.stage() == "ahead" && self.clients.iter().any(settles)
    }

    /// Every connection is in the pool or leased once; those in the pool are owed nothing and
    /// owe nothing; who waits for one is known, and nobody else.
    fn check_conserved(&self) {
        let drivers = self.clients.iter().map(|client| &client.driver);
        let leased = drivers.clone().filter_map(|driver| driver.lease.as_ref());
        self.site.check_conserved(leased.map(Leased::link));
        let waiting = drivers.filter(|driver| driver.waiting.is_some()).count();
        let queued = self.site.waiting() as usize + self.site.on_their_way().count();
        assert_eq!(waiting, queued, "others are queued: {}", self.standing());
    }

    fn standing(&self) -> String {
        let stages = self.clients.iter().map(|client| {
            let lease = client.driver.lease.as_ref().map(Leased::link);
            let sent = client.sent.front().map(|request| request.text.clone());
            format!("{} lease {lease:?} {sent:?}", client.driver.stage())
        });
        stages.collect::<Vec<_>>().join("; ")
    }

    /// Lets one of all that may move move.
    fn step(&mut self) -> bool {
        self.site.now.0 += STEP_NANOS;
        let number = usize::try_from(self.prng.below(self.clients.len() as u64)).unwrap();
        let len = usize::try_from(1 + self.prng.below(self.piece)).unwrap();
        match self.prng.below(16) {
            0..=3 => self.send(number),
            4..=6 => self.arrive(number, len),
            7..=10 => {
                let moved = self.clients[number].driver.poll(&mut self.site, len)
                    || self.clients[number].has_stopped() && self.stall(number);
                if moved && self.watched == Some(number) {
                    let driver = &self.clients[number].driver;
                    let kind = cancel::kind(driver.stage());
                    self.waits.push((self.steps, kind));
                }
                self.settle(number);
                moved
            }
            11..=14 => self.serve(len) | self.site.connect(),
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
        self.site
            .trace
            .push(format!("client {} sends {}", number + 1, request.text));
        client.wire.extend_from_slice(&request.raw);
        client.sent.push_back(request);
        true
    }

    /// Bytes of a client come to the gateway.
    fn arrive(&mut self, number: usize, len: usize) -> bool {
        let client = &mut self.clients[number];
        if client.wire.is_empty() && client.is_leaving && !client.driver.sees_end {
            client.driver.sees_end = true;
            return true;
        }
        if client.wire.is_empty() || !client.driver.pending.is_empty() {
            return false;
        }
        // A long command in short pieces would take all the time.
        let len = len.max(client.wire.len() / 64).min(client.wire.len());
        client.driver.pending.extend(client.wire.drain(..len));
        true
    }

    fn serve(&mut self, len: usize) -> bool {
        let busy: Vec<u64> = self
            .site
            .links
            .iter()
            .filter(|(_, link)| !link.to_server.is_empty() && !link.is_dead)
            .map(|(id, _)| *id)
            .collect();
        if busy.is_empty() {
            return false;
        }
        let id = pick(&mut self.prng, &busy);
        let waiting = self.site.links[&id].to_server.len();
        let len = len.max(waiting / 64).min(waiting);
        self.site.serve(id, len);
        true
    }

    fn fault(&mut self, number: usize) -> bool {
        self.site.sweep();
        if self.faults.drops && self.prng.below(200) == 0 {
            self.site.data.dropped_schemas.insert("s3".to_owned());
            for client in &mut self.clients {
                client.see_drop();
            }
        }
        let driver = &mut self.clients[number].driver;
        if driver.knows_end
            && matches!(driver.stage(), "ahead" | "replying")
            && self.prng.below(8) == 0
        {
            // The grace in which the reply was still of use is over.
            driver.pass_deadline(&mut self.site, false);
            self.settle(number);
            return true;
        }
        if !self.faults.losses || self.losses >= 4 || self.prng.below(12) > 0 {
            return false;
        }
        self.losses += 1;
        match self.prng.below(4) {
            0 | 1 => {
                let alive: Vec<u64> = self
                    .site
                    .links
                    .iter()
                    .filter(|(_, link)| !link.is_dead)
                    .map(|(id, _)| *id)
                    .collect();
                if alive.is_empty() {
                    return false;
                }
                let id = pick(&mut self.prng, &alive);
                self.site.kill(id);
            }
            2 => {
                self.site
                    .trace
                    .push(format!("client {} vanishes", number + 1));
                let client = &mut self.clients[number];
                client.driver.vanish(&mut self.site);
                client.sent.clear();
            }
            _ => self.pass_deadline(number, false),
        }
        true
    }

    /// Time passes for a client that has stopped; whether it was waited for.
    fn stall(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        match client.driver.stage() {
            "streaming" | "skipping" => {}
            "idle" if client.is_cut_short() => {}
            "idle" => {
                client.driver.vanish(&mut self.site);
                return true;
            }
            _ => return false,
        }
        let is_last = self.prng.below(2) == 0;
        client.driver.pass_deadline(&mut self.site, is_last);
        true
    }

    fn pass_deadline(&mut self, number: usize, is_last: bool) {
        let client = &mut self.clients[number];
        // A PREPARE whose head has passed has given out an id that the reference would not know.
        let prepares = client
            .sent
            .front()
            .is_some_and(|request| request.prepares.is_some());
        match client.driver.stage() {
            "leasing" | "settling" | "streaming" => {}
            "ahead" | "replying" if !prepares || client.driver.reply.is_empty() => {}
            _ => return,
        }
        client.driver.pass_deadline(&mut self.site, is_last);
        self.site
            .trace
            .push(format!("a deadline of client {} passes", number + 1));
        self.settle(number);
    }

    /// Judges what a client has got.
    fn settle(&mut self, number: usize) {
        let others = self.clients.len();
        let client = &mut self.clients[number];
        let is_late = self.cut.is_some_and(|cut| cut.is_deadline_of(number));
        for (reply, ended) in std::mem::take(&mut client.driver.ended) {
            let is_cut_short = client.is_cut_short();
            let request = client.sent.pop_front().expect("an answer to nothing");
            if let Some(reason) = failure(&reply) {
                self.told.insert(reason);
                if UNDONE.contains(&reason) {
                    self.undone.push((reason, request.raw.clone()));
                }
            }
            self.site.trace.push(format!(
                "client {} has {ended:?}, {} bytes, to {}",
                number + 1,
                reply.len(),
                request.text
            ));
            check_foreign(&reply, number + 1, others);
            // What a statement reads may be gone with a connection, and then a pinned session is.
            let may_fail = self.faults.losses || is_late || request.reads != Reads::default();
            assert!(
                may_fail || ended == Ended::Served,
                "client {} suffers from what others did: {ended:?}",
                number + 1
            );
            if is_cut_short {
                let is_refused = reply.is_empty() || ended == Ended::Failed;
                assert!(is_refused, "an answer to a part of {}", request.text);
                continue;
            }
            client.check(&self.site, &request, &reply, ended);
        }
        if client.left == 0 && client.sent.is_empty() && !client.driver.is_closed() {
            client.driver.vanish(&mut self.site);
        }
        if client.driver.is_closed() {
            assert!(client.driver.reply.is_empty(), "said after the end");
            client.sent.clear();
            if self.cut.is_some() {
                client.driver.forget();
            }
        }
    }
}

/// Whether a command writes this value: no two write the same one, and none of them is another's end.
fn writes(raw: &[u8], value: &str) -> bool {
    let goes_on = |next: Option<&u8>| {
        next.is_some_and(|next| matches!(next, b'0'..=b'9' | b'a'..=b'z' | b'.' | b'-'))
    };
    let mut found = raw.windows(value.len()).enumerate();
    found.any(|(at, text)| text == value.as_bytes() && !goes_on(raw.get(at + value.len())))
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
