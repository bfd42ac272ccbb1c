//! The gateway between simulated clients and mock servers: a driver per client that uses the session
//! layer as the real one (`door::mysql::client`, `door::mysql::exchange`) does, and a small pool of links.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Waker};

use ringgate::base::codes::{self, Event};
use ringgate::base::prng::Prng;
use ringgate::session::mysql::downstream::{Next, Session, SessionFacts, write_event};
use ringgate::session::mysql::exchange::{After, Begin, Fault, Progress};
use ringgate::session::mysql::intake::{Intake, Taken};
use ringgate::session::mysql::output::{Output, Span};
use ringgate::session::mysql::state::Vector;
use ringgate::session::mysql::statements::Texts;
use ringgate::session::mysql::upstream::{LoginFacts, Upstream};
use ringgate::wire::mysql::flags::{caps, com};
use ringgate::wire::mysql::frame::HEADER_LEN;

use super::mock::{Conn, Data};
use super::variables::default_collation;

/// The longest read-only command that is kept for a second attempt.
const AGAIN_LEN_MAX: usize = 512;
/// Statements that a link keeps prepared: few, so that they are often given up.
const STATEMENTS_MAX: usize = 3;

/// An upstream connection: its session, and the server at its other end.
pub struct Link {
    pub session: Upstream,
    pub conn: Conn,
    pub to_server: Vec<u8>,
    pub to_gateway: Vec<u8>,
    pub is_dead: bool,
}

/// All links to the server.
pub struct Pool {
    pub links: BTreeMap<u64, Link>,
    /// Free links, the one used last at the end.
    pub idle: Vec<u64>,
    pub waiters: VecDeque<usize>,
    pub texts: Texts,
    pub data: Data,
    pub prng: Prng,
    pub capabilities: u32,
    pub links_max: usize,
    pub next_link: u64,
    /// Counts links that ended: what others left on them is lost.
    pub ended: u64,
    pub trace: Vec<String>,
}

impl Pool {
    /// A free link for a session, or `None` if it has to wait.
    fn take(&mut self, session: &Session, prefer_last: bool) -> Option<u64> {
        let id = self.find(session, prefer_last)?;
        self.links[&id].session.claimed_by(session.owner());
        Some(id)
    }

    fn find(&mut self, session: &Session, prefer_last: bool) -> Option<u64> {
        let dead: Vec<u64> = self
            .idle
            .iter()
            .copied()
            .filter(|id| self.links[id].is_dead || !self.links[id].to_gateway.is_empty())
            .collect();
        for id in dead {
            self.end(id);
        }
        let has_schema = session.vector().schema().is_some();
        let fits: Vec<u64> = self
            .idle
            .iter()
            .copied()
            .filter(|id| self.links[id].session.has_schema() == has_schema)
            .collect();
        let own = fits
            .iter()
            .rev()
            .copied()
            .find(|id| prefer_last && self.links[id].session.last_owner() == session.owner());
        if let Some(id) = own.or(fits.last().copied()) {
            self.idle.retain(|idle| *idle != id);
            return Some(id);
        }
        if self.links.len() >= self.links_max {
            let other = *self.idle.first()?;
            self.end(other);
        }
        Some(self.open())
    }

    fn open(&mut self) -> u64 {
        self.next_link += 1;
        let facts = LoginFacts {
            thread_id: 1,
            deprecates_eof: self.capabilities & caps::DEPRECATE_EOF != 0,
            vector: login_vector(None),
            statements_max: STATEMENTS_MAX,
        };
        let mut conn = Conn::new(self.capabilities, true, None);
        conn.next_statement = u32::try_from(self.next_link * 1000).unwrap();
        let link = Link {
            session: Upstream::new(facts),
            conn,
            to_server: Vec::new(),
            to_gateway: Vec::new(),
            is_dead: false,
        };
        self.links.insert(self.next_link, link);
        self.trace.push(format!("link {} opens", self.next_link));
        self.next_link
    }

    /// Ends a link. What was on its way may still reach the server.
    pub fn end(&mut self, id: u64) {
        let mut link = self.links.remove(&id).expect("a link ends once");
        self.idle.retain(|idle| *idle != id);
        if !link.is_dead {
            let len = u64::try_from(link.to_server.len()).unwrap();
            let arrives = usize::try_from(self.prng.below(len + 1)).unwrap();
            link.conn.feed(&mut self.data, &link.to_server[..arrives]);
        }
        link.conn.close(&mut self.data);
        self.ended += 1;
        self.trace.push(format!("link {id} ends"));
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

    /// Takes a link back; only a clean one may come.
    fn give_back(&mut self, id: u64, session: &Session) {
        let waiting = self.links[&id].to_server.len();
        self.serve(id, waiting);
        let link = &self.links[&id];
        if link.is_dead || !link.to_gateway.is_empty() || !link.session.is_idle() {
            return self.end(id);
        }
        link.session.unclaimed();
        let line = format!("client {} returns link {id}", session.owner());
        self.trace.push(line);
        check_clean(&self.links[&id]);
        self.idle.push(id);
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

/// A client's command.
pub struct Command {
    bytes: Vec<u8>,
    is_whole: bool,
}

pub enum Phase {
    /// Waits for the client's next command.
    Idle,
    /// Waits for state that another session reads out.
    Settling(Command),
    /// Waits for a link.
    Queued(Command, bool),
    /// Waits for the replies to what went ahead of the command.
    Ahead(Command),
    /// The rest of a long command is on its way.
    Streaming,
    /// Waits for the reply.
    Main,
    Closed,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a reply, the server's or the gateway's own.
    Served,
    /// An event took the place of the reply, or of its rest.
    Failed(Event),
    /// The reply was cut off, and the connection with it.
    Cut,
}

/// One client's driver.
pub struct Driver {
    pub number: usize,
    pub session: Session,
    pub intake: Intake,
    pub pending: Vec<u8>,
    pub lease: Option<u64>,
    pub phase: Phase,
    again: Vec<u8>,
    is_lease_lost: bool,
    reply_sequence: Option<u8>,
    pub has_answered: bool,
    was_pinned: bool,
    prefers_last: bool,
    pub is_skipping: bool,
    /// The client's end was seen behind `pending`.
    pub sees_end: bool,
    /// An ERR that the client gets at its next command that has a reply.
    pub owed: Option<Vec<u8>>,
    /// What the client has got for the request in progress.
    pub reply: Vec<u8>,
    /// Requests that have ended, in order.
    pub ended: Vec<(Vec<u8>, Ended)>,
}

impl Driver {
    pub fn new(number: usize, session: Session) -> Self {
        Self {
            number,
            session,
            intake: Intake::default(),
            pending: Vec::new(),
            lease: None,
            phase: Phase::Idle,
            again: Vec::new(),
            is_lease_lost: false,
            reply_sequence: Some(1),
            has_answered: false,
            was_pinned: false,
            prefers_last: false,
            is_skipping: false,
            sees_end: false,
            owed: None,
            reply: Vec::new(),
            ended: Vec::new(),
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Does what can be done; returns whether anything was. `len` bounds the bytes taken from the
    /// link.
    pub fn poll(&mut self, pool: &mut Pool, len: usize) -> bool {
        let reads = matches!(
            self.phase,
            Phase::Idle | Phase::Queued(..) | Phase::Streaming
        );
        if reads && self.sees_end && self.pending.is_empty() {
            self.vanish(pool);
            return true;
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.poll_idle(pool),
            Phase::Settling(command) => {
                let context = Context::from_waker(Waker::noop());
                if self.session.poll_settled(&context).is_pending() {
                    self.phase = Phase::Settling(command);
                    return false;
                }
                self.run(pool, command);
                true
            }
            Phase::Queued(command, prefers_last) => {
                if pool.waiters.front() != Some(&self.number) {
                    self.phase = Phase::Queued(command, prefers_last);
                    return false;
                }
                let Some(link) = pool.take(&self.session, prefers_last) else {
                    self.phase = Phase::Queued(command, prefers_last);
                    return false;
                };
                pool.waiters.pop_front();
                self.lease = Some(link);
                if prefers_last {
                    // What it reads may have moved meanwhile.
                    self.run(pool, command);
                } else {
                    self.attempt(pool, command);
                }
                true
            }
            Phase::Ahead(command) => match self.receive(pool, len) {
                None => {
                    self.phase = Phase::Ahead(command);
                    false
                }
                Some(Ok(Progress::More)) => {
                    self.phase = Phase::Ahead(command);
                    true
                }
                Some(Ok(Progress::Ready)) => {
                    self.begin(pool, command);
                    true
                }
                Some(Ok(Progress::Done)) => panic!("a reply to a command that was kept"),
                Some(Err(error)) => {
                    self.fail(pool, error);
                    true
                }
            },
            Phase::Streaming => self.poll_streaming(pool),
            Phase::Main => match self.receive(pool, len) {
                None => {
                    self.phase = Phase::Main;
                    false
                }
                Some(Ok(Progress::More)) => {
                    self.phase = Phase::Main;
                    true
                }
                Some(Ok(Progress::Done)) => {
                    self.finish(pool);
                    true
                }
                Some(Ok(Progress::Ready)) => panic!("ready without a command"),
                Some(Err(error)) => {
                    self.fail(pool, error);
                    true
                }
            },
            Phase::Closed => {
                self.phase = Phase::Closed;
                false
            }
        }
    }

    fn poll_idle(&mut self, pool: &mut Pool) -> bool {
        if self.is_skipping {
            return self.skip_rest();
        }
        if !self.pending.is_empty() {
            let taken = self.intake.next(&self.pending).expect("good framing");
            let (used, is_whole) = match taken {
                Taken::Starved => {
                    self.pending.clear();
                    return true;
                }
                Taken::Inline(n) => {
                    let bytes = self.pending.drain(..n).collect();
                    self.run(
                        pool,
                        Command {
                            bytes,
                            is_whole: true,
                        },
                    );
                    return true;
                }
                Taken::Collected(n) => (n, true),
                Taken::Large(n) => (n, false),
            };
            self.pending.drain(..used);
            let bytes = self.intake.head().to_vec();
            self.run(pool, Command { bytes, is_whole });
            return true;
        }
        if let Some(id) = self.lease {
            let link = &pool.links[&id];
            if link.is_dead || !link.to_gateway.is_empty() {
                assert!(link.is_dead, "a byte nobody asked for");
                self.is_lease_lost = true;
                self.discard(pool);
                return true;
            }
        }
        false
    }

    fn skip_rest(&mut self) -> bool {
        let n = self.intake.stream(&self.pending).expect("good framing");
        self.pending.drain(..n);
        if !self.intake.is_streaming() {
            self.is_skipping = false;
        }
        n > 0
    }

    /// Runs a command.
    fn run(&mut self, pool: &mut Pool, mut command: Command) {
        if self.is_lease_lost {
            self.is_lease_lost = false;
            self.tell(Event::SessionLost, 1);
            return self.close(pool, Ended::Failed(Event::SessionLost));
        }
        if let Some(owed) = self.owed.take() {
            return self.settle_owed(pool, owed, &command);
        }
        let (mut out, mut upstream_out) = (Output::default(), Vec::new());
        let payload = command.bytes.get(HEADER_LEN..).unwrap_or_default().to_vec();
        let held = self
            .lease
            .and_then(|id| pool.links.get_mut(&id))
            .map(|link| &mut link.session);
        let is_whole = command.is_whole;
        let next = self
            .session
            .accept(&payload, is_whole, held, &mut out, &mut upstream_out);
        self.reply.extend_from_slice(out.own());
        if let Some(id) = self.lease {
            self.send(pool, id, &upstream_out);
        }
        match next {
            Next::Answered => {
                self.release_if_free(pool);
                self.end(Ended::Served);
            }
            Next::Lease { prefer_last } => {
                self.keep_for_another_attempt(&mut command);
                self.exchange(pool, command, prefer_last);
            }
            Next::Wait => {
                // Two sessions that hold what the other waits for would wait for ever.
                self.release_if_free(pool);
                self.phase = Phase::Settling(command);
            }
            Next::Reset => {
                self.discard(pool);
                let mut out = Output::default();
                self.session.reset(&mut out);
                self.reply.extend_from_slice(out.own());
                self.end(Ended::Served);
            }
            Next::Quit => self.close(pool, Ended::Served),
        }
    }

    fn settle_owed(&mut self, pool: &mut Pool, owed: Vec<u8>, command: &Command) {
        match command.bytes.get(HEADER_LEN) {
            Some(&(com::STMT_SEND_LONG_DATA | com::STMT_CLOSE)) => {
                self.owed = Some(owed);
                self.end(Ended::Served);
            }
            _ => {
                self.reply = owed;
                self.close(pool, Ended::Failed(Event::SessionLost));
            }
        }
    }

    fn release_if_free(&mut self, pool: &mut Pool) {
        if self.session.pins().is_empty()
            && let Some(id) = self.lease.take()
        {
            pool.give_back(id, &self.session);
        }
    }

    fn keep_for_another_attempt(&mut self, command: &mut Command) {
        self.again.clear();
        let is_free = self.lease.is_none() && !self.session.vector().is_autocommit_off();
        if is_free
            && self.session.effects().is_read_only
            && command.is_whole
            && command.bytes.len() <= AGAIN_LEN_MAX
        {
            self.again.extend_from_slice(&command.bytes);
        }
    }

    fn exchange(&mut self, pool: &mut Pool, command: Command, prefer_last: bool) {
        self.prefers_last = prefer_last;
        if self.lease.is_none() {
            if !pool.waiters.is_empty() {
                pool.waiters.push_back(self.number);
                self.phase = Phase::Queued(command, prefer_last);
                return;
            }
            match pool.take(&self.session, prefer_last) {
                Some(link) => self.lease = Some(link),
                None => {
                    pool.waiters.push_back(self.number);
                    self.phase = Phase::Queued(command, prefer_last);
                    return;
                }
            }
        }
        self.attempt(pool, command);
    }

    fn attempt(&mut self, pool: &mut Pool, command: Command) {
        let line = format!("client {} has link {:?}", self.number, self.lease);
        pool.trace.push(line);
        self.was_pinned = !self.session.pins().is_empty();
        self.reply_sequence = Some(1);
        self.has_answered = false;
        self.begin(pool, command);
    }

    fn begin(&mut self, pool: &mut Pool, mut command: Command) {
        let id = self.lease.expect("leased");
        let link = pool.links.get_mut(&id).expect("the link lives");
        let mut out = Vec::new();
        let begin = self.session.begin(
            &mut link.session,
            &mut pool.texts,
            &mut command.bytes,
            command.is_whole,
            &mut out,
        );
        self.send(pool, id, &out);
        match begin {
            Ok(Begin::Wait) => self.phase = Phase::Ahead(command),
            Ok(begin) => {
                if begin == Begin::Send {
                    self.send(pool, id, &command.bytes);
                }
                if command.is_whole {
                    self.sent(pool);
                } else {
                    self.phase = Phase::Streaming;
                }
            }
            Err(fault) => self.fail(pool, Failure::Fault(fault)),
        }
    }

    fn send(&mut self, pool: &mut Pool, id: u64, bytes: &[u8]) {
        let link = pool.links.get_mut(&id).expect("the link lives");
        link.to_server.extend_from_slice(bytes);
    }

    fn sent(&mut self, pool: &mut Pool) {
        let id = self.lease.expect("leased");
        if pool.links[&id].session.is_idle() {
            self.finish(pool);
        } else {
            self.phase = Phase::Main;
        }
    }

    fn poll_streaming(&mut self, pool: &mut Pool) -> bool {
        let id = self.lease.expect("leased");
        if pool.links[&id].is_dead {
            self.fail(pool, Failure::Gone);
            return true;
        }
        let n = self.intake.stream(&self.pending).expect("good framing");
        let piece: Vec<u8> = self.pending.drain(..n).collect();
        self.send(pool, id, &piece);
        if self.intake.is_streaming() {
            self.phase = Phase::Streaming;
            return n > 0;
        }
        let sequence = self.intake.last_sequence();
        self.session.set_command_sequence(sequence);
        self.sent(pool);
        true
    }

    /// Takes in some of the reply; `None` if nothing has come.
    fn receive(&mut self, pool: &mut Pool, len: usize) -> Option<Result<Progress, Failure>> {
        let id = self.lease.expect("leased");
        let link = pool.links.get_mut(&id).expect("the link lives");
        if link.to_gateway.is_empty() {
            return link.is_dead.then_some(Err(Failure::Gone));
        }
        let len = len.clamp(1, link.to_gateway.len());
        let mut bytes: Vec<u8> = link.to_gateway.drain(..len).collect();
        let (mut out, mut upstream_out) = (Output::default(), Vec::new());
        let result =
            self.session
                .on_reply(&mut link.session, &mut bytes, &mut out, &mut upstream_out);
        for span in out.spans() {
            match span {
                Span::Own(range) => self.reply.extend_from_slice(&out.own()[range.clone()]),
                Span::Input(range) => self.reply.extend_from_slice(&bytes[range.clone()]),
            }
        }
        self.has_answered |= !out.is_empty();
        self.send(pool, id, &upstream_out);
        Some(result.map_err(Failure::Fault))
    }

    /// Remembers where an ERR could stand; whether any of the reply has passed.
    fn note_sequence(&mut self, pool: &Pool) -> bool {
        let Some(link) = self.lease.and_then(|id| pool.links.get(&id)) else {
            return false;
        };
        let is_at_boundary = link.session.is_at_boundary();
        self.reply_sequence = is_at_boundary.then(|| link.session.next_sequence());
        !link.session.is_unanswered()
    }

    fn fail(&mut self, pool: &mut Pool, failure: Failure) {
        let was_answered = self.note_sequence(pool) || self.has_answered;
        match failure {
            Failure::Gone => {
                let may_repeat = !was_answered && !self.was_pinned && !self.again.is_empty();
                self.discard(pool);
                if may_repeat {
                    let bytes = std::mem::take(&mut self.again);
                    let prefers_last = self.prefers_last;
                    return self.exchange(
                        pool,
                        Command {
                            bytes,
                            is_whole: true,
                        },
                        prefers_last,
                    );
                }
                self.lose(pool, was_answered);
            }
            Failure::Fault(Fault::Refused) => {
                self.discard(pool);
                if !self.session.awaits_reply() {
                    self.owed = Some(std::mem::take(&mut self.reply));
                    return self.end(Ended::Failed(Event::OutcomeUnknown));
                }
                if self.was_pinned {
                    return self.close(pool, Ended::Served);
                }
                self.end(Ended::Served);
            }
            Failure::Fault(Fault::StateLost) => {
                let answered = self.has_answered;
                let dropped = !pool.data.dropped_schemas.is_empty();
                assert!(dropped, "state was lost, though no server refused any");
                self.discard(pool);
                self.lose(pool, answered);
            }
            Failure::Fault(Fault::LastStatementLost) => {
                self.discard(pool);
                if self.was_pinned {
                    self.tell(Event::SessionLost, 1);
                    return self.close(pool, Ended::Failed(Event::SessionLost));
                }
                self.tell(Event::LastStatementLost, 1);
                self.end(Ended::Served);
            }
            Failure::Fault(fault) => panic!("{fault:?}, though the server did nothing wrong"),
        }
    }

    /// A command without a reply has failed: the next one that has a reply is told, and the client
    /// is closed.
    fn owe(&mut self, event: Event) {
        let mut out = Output::default();
        write_event(event, "", self.session.owner(), 1, &mut out);
        self.owed = Some(out.own().to_vec());
        self.end(Ended::Failed(event));
    }

    fn lose(&mut self, pool: &mut Pool, answered: bool) {
        if answered && self.reply_sequence.is_none() {
            return self.close(pool, Ended::Cut);
        }
        let event = match answered || self.was_pinned {
            true => Event::SessionLost,
            false => Event::OutcomeUnknown,
        };
        if !self.session.awaits_reply() {
            return self.owe(event);
        }
        self.tell(event, self.reply_sequence.unwrap_or(1));
        if event == Event::SessionLost {
            self.close(pool, Ended::Failed(event));
        } else {
            self.end(Ended::Failed(event));
        }
    }

    /// The statement's deadline passes.
    pub fn interrupt(&mut self, pool: &mut Pool) {
        self.note_sequence(pool);
        let loses_state = !self.session.pins().is_empty();
        self.discard(pool);
        let Some(sequence) = self.reply_sequence else {
            return self.close(pool, Ended::Cut);
        };
        let ended = Ended::Failed(Event::StatementDeadline);
        if !self.session.awaits_reply() {
            return self.owe(Event::StatementDeadline);
        }
        self.tell(Event::StatementDeadline, sequence);
        if codes::code(Event::StatementDeadline).keep && !loses_state {
            self.end(ended);
        } else {
            self.close(pool, ended);
        }
    }

    /// The wait for a link takes too long.
    pub fn give_up_waiting(&mut self, pool: &mut Pool) {
        pool.waiters.retain(|number| *number != self.number);
        if !self.session.awaits_reply() {
            return self.owe(Event::PoolWait);
        }
        self.tell(Event::PoolWait, 1);
        self.end(Ended::Failed(Event::PoolWait));
    }

    fn finish(&mut self, pool: &mut Pool) {
        self.has_answered = false;
        let id = self.lease.expect("leased");
        let link = pool.links.get_mut(&id).expect("the link lives");
        let after = self.session.end(&mut link.session, &mut link.to_server);
        match after {
            After::Return => {
                self.lease = None;
                pool.give_back(id, &self.session);
            }
            After::Keep => {}
            After::Discard => panic!("the server announced no end"),
        }
        self.end(Ended::Served);
    }

    fn tell(&mut self, event: Event, sequence: u8) {
        self.session.told(event);
        let mut out = Output::default();
        write_event(event, "", self.session.owner(), sequence, &mut out);
        self.reply.extend_from_slice(out.own());
    }

    fn discard(&mut self, pool: &mut Pool) {
        if let Some(id) = self.lease.take() {
            pool.end(id);
        }
        self.session.lose_lease();
    }

    /// The request is over.
    fn end(&mut self, ended: Ended) {
        self.phase = Phase::Idle;
        // What is left of a long command that was answered early is read over.
        self.is_skipping = self.intake.is_streaming();
        let reply = std::mem::take(&mut self.reply);
        self.ended.push((reply, ended));
    }

    fn close(&mut self, pool: &mut Pool, ended: Ended) {
        self.end(ended);
        self.vanish(pool);
    }

    /// The client's connection is gone, whatever it waited for.
    pub fn vanish(&mut self, pool: &mut Pool) {
        pool.waiters.retain(|number| *number != self.number);
        if let Some(id) = self.lease.take() {
            pool.end(id);
        }
        self.reply.clear();
        self.phase = Phase::Closed;
    }

    /// Drops the session of a client that is gone.
    pub fn forget(&mut self) {
        self.session = Session::new(SessionFacts {
            owner: self.number as u64,
            capabilities: 0,
            vector: login_vector(None),
            statements_max: 1,
        });
    }
}

/// Why an exchange cannot go on.
enum Failure {
    /// The server, or its network, is gone.
    Gone,
    Fault(Fault),
}
