//! A simulated client's driver: the product's own conversation, with the sockets and the clock of a
//! simulation.

use std::rc::Rc;

use ringgate::base::clock::Now;
use ringgate::base::drain::Drain;
use ringgate::session::mysql::conversation::{
    Action, Conversation, Input, Io, LeaseEnd, Limits, Notes,
};
use ringgate::session::mysql::downstream::{Session, SessionFacts};
use ringgate::session::mysql::output::{Output, Span};

use super::site::{Leased, Site, Waiting, login_vector};

/// Limits that no world reaches by itself.
const LIMITS: Limits = Limits {
    pool_wait: std::time::Duration::from_secs(100_000),
    statement: Some(std::time::Duration::from_secs(200_000)),
    write_stall: std::time::Duration::from_secs(150_000),
    idle_client: None,
    transaction_idle: None,
};

/// After this every limit is over.
const LATE_NANOS: u64 = 250_000 * 1_000_000_000;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a reply, the server's or the gateway's own.
    Served,
    /// An error of the gateway's took the place of the reply, or of its rest.
    Failed,
    /// The reply was cut off, and the connection with it.
    Cut,
}

/// Reasons in the gateway's own errors that say that a command was not answered.
const FAILURES: &[&str] = &[
    "pool_wait",
    "outcome_unknown",
    "session_lost",
    "statement_deadline",
    "deadline_unknown",
    "command_stalled",
    "command_slow",
];

/// Those that tell of a wait that was ended by time.
pub const LATE: &[&str] = &[
    "pool_wait",
    "statement_deadline",
    "deadline_unknown",
    "command_stalled",
    "command_slow",
];

/// One client's driver.
pub struct Driver {
    pub number: usize,
    pub conversation: Conversation,
    pub pending: Vec<u8>,
    pub lease: Option<Leased>,
    pub waiting: Option<Waiting>,
    is_closed: bool,
    is_forgotten: bool,
    /// The client's end has come behind `pending`.
    pub sees_end: bool,
    pub knows_end: bool,
    /// It has said that it waits for what another session reads out.
    awaits: bool,
    /// What a command without a reply, or an idle connection, carried is lost.
    pub owes: bool,
    /// What the client has got for the request in progress.
    pub reply: Vec<u8>,
    /// Requests that have ended, in order.
    pub ended: Vec<(Vec<u8>, Ended)>,
}

/// What the driver finds to have happened.
enum Happened {
    Go,
    End,
    Leaving,
    Leased,
    Reply(Vec<u8>),
    UpstreamGone,
    Settled,
    Deadline,
    Gone,
}

impl Driver {
    pub fn new(number: usize, session: Session) -> Self {
        let id = u32::try_from(number).unwrap();
        Self {
            number,
            conversation: Conversation::new(session, id, Now(0)),
            pending: Vec::new(),
            lease: None,
            waiting: None,
            is_closed: false,
            is_forgotten: false,
            sees_end: false,
            knows_end: false,
            awaits: false,
            owes: false,
            reply: Vec::new(),
            ended: Vec::new(),
        }
    }

    pub fn session(&self) -> &Session {
        self.conversation.session()
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// What the conversation is at.
    pub fn stage(&self) -> &'static str {
        match self.is_closed {
            true => "closed",
            false => self.conversation.stage(),
        }
    }

    fn client(&self) -> u64 {
        self.number as u64
    }

    /// Does what can be done; returns whether anything was. `len` bounds the bytes taken from the
    /// link.
    pub fn poll(&mut self, site: &mut Site, len: usize) -> bool {
        if self.is_closed {
            return false;
        }
        let Some(happened) = self.look(site, len) else {
            return false;
        };
        self.drive(site, happened, site.now)
    }

    fn look(&mut self, site: &mut Site, len: usize) -> Option<Happened> {
        let wants = self.conversation.wants();
        if wants.bytes && !self.pending.is_empty() {
            return Some(Happened::Go);
        }
        if wants.bytes && self.sees_end {
            return Some(Happened::End);
        }
        if wants.end && self.sees_end && !self.knows_end {
            self.knows_end = true;
            return Some(Happened::Leaving);
        }
        if self.waiting.is_some()
            && let Some(leased) = site.delivered(self.client())
        {
            self.waiting = None;
            self.lease = Some(leased);
            return Some(Happened::Leased);
        }
        if wants.settled {
            let is_told = site.is_told(self.client());
            if self.session().is_settled() {
                assert!(!self.awaits || is_told, "settled, and nobody was told");
                self.awaits = false;
                return Some(Happened::Settled);
            }
            self.session().await_settled();
            self.awaits = true;
        }
        if wants.reply
            && let Some(leased) = &self.lease
        {
            let link = site.links.get_mut(&leased.link()).expect("it lives");
            if !link.to_gateway.is_empty() {
                let len = len.clamp(1, link.to_gateway.len());
                return Some(Happened::Reply(link.to_gateway.drain(..len).collect()));
            }
            if link.is_dead {
                return Some(Happened::UpstreamGone);
            }
        }
        if wants.upstream_room
            && let Some(leased) = &self.lease
            && site.links[&leased.link()].is_dead
        {
            return Some(Happened::UpstreamGone);
        }
        let deadline = self.conversation.deadline(&LIMITS);
        if !deadline.is_over(site.now) {
            return None;
        }
        self.stop_waiting(site);
        Some(Happened::Deadline)
    }

    /// Steps until the conversation waits.
    fn drive(&mut self, site: &mut Site, happened: Happened, now: Now) -> bool {
        if matches!(happened, Happened::UpstreamGone) && self.stage() == "idle" {
            self.owes = true;
        }
        let is_wanted = site.is_wanted();
        let mut reply = match &happened {
            Happened::Reply(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        let has_vanished = matches!(happened, Happened::End | Happened::Leaving | Happened::Gone);
        let mut input = match happened {
            Happened::Go => Input::Go,
            Happened::End => Input::End,
            Happened::Leaving => Input::Leaving,
            Happened::Leased => Input::Leased { has_waited: true },
            Happened::Reply(_) => Input::Reply(&mut reply),
            Happened::UpstreamGone => Input::UpstreamGone,
            Happened::Settled => Input::Settled,
            Happened::Deadline => Input::Deadline {
                is_wanted,
                is_held_up: false,
            },
            Happened::Gone => Input::Gone,
        };
        let mut moved = !matches!(input, Input::Go);
        loop {
            let before = self.stage();
            let (action, used) = self.step(site, input, now);
            moved |= used || !matches!(action, Action::Wait);
            input = match action {
                Action::Wait => return moved || before != self.stage(),
                // What has ended is judged before the next command changes anything.
                Action::Go if self.pending.is_empty() || !self.ended.is_empty() => return true,
                Action::Go => Input::Go,
                Action::Lease(wish) => {
                    match site.acquire(self.conversation.session(), wish.prefers_last) {
                        Ok(leased) => {
                            let line = format!("client {} has link {}", self.number, leased.link());
                            site.trace.push(line);
                            self.lease = Some(leased);
                            Input::Leased { has_waited: false }
                        }
                        Err(waiting) => {
                            self.waiting = Some(waiting);
                            return true;
                        }
                    }
                }
                Action::EndLease(LeaseEnd::Return) => {
                    let leased = self.lease.take().expect("leased");
                    site.give_back(leased, self.client());
                    Input::Go
                }
                Action::EndLease(_) => {
                    let leased = self.lease.take().expect("leased");
                    site.discard(leased, self.client());
                    Input::Go
                }
                Action::Entered(_) => panic!("no schema was asked for"),
                Action::Close { is_cut, .. } => {
                    let ended = match is_cut {
                        true => Ended::Cut,
                        false => self.how_ended(false),
                    };
                    let has_ended = before != "idle" || !self.reply.is_empty() || is_cut;
                    if has_ended && !has_vanished && !self.is_given_up(before) {
                        self.end(ended);
                    }
                    self.close(site);
                    return true;
                }
            };
        }
    }

    /// Nobody waited any more for what was going on.
    fn is_given_up(&self, before: &str) -> bool {
        self.knows_end
            && matches!(before, "ahead" | "replying" | "leasing" | "settling")
            && !self.says_failure()
    }

    fn says_failure(&self) -> bool {
        failure(&self.reply).is_some()
    }

    /// One step. Gives what to do next, and whether bytes of the client were used.
    fn step(&mut self, site: &mut Site, input: Input<'_>, now: Now) -> (Action, bool) {
        let (mut down, mut up) = (Output::default(), Output::default());
        let mut notes = Notes::default();
        let id = self.lease.as_ref().map(Leased::link);
        // As above: only a close may follow.
        let mut hidden = Vec::new();
        if !self.ended.is_empty() {
            hidden = std::mem::take(&mut self.pending);
        }
        let mut chunk = std::mem::take(&mut self.pending);
        let (action, used, passed) = {
            let held = id.and_then(|id| site.links.get_mut(&id));
            let mut io = Io {
                now,
                unread: &mut chunk,
                used: 0,
                held: held.map(|link| &mut link.session),
                texts: &mut site.texts,
                down: &mut down,
                up: &mut up,
                notes: &mut notes,
                limits: &LIMITS,
                drain: Drain::Serving,
                is_removed: false,
            };
            let (action, passed) = match input {
                Input::Reply(reply) => {
                    let action = self.conversation.step(Input::Reply(reply), &mut io);
                    (action, reply.to_vec())
                }
                input => (self.conversation.step(input, &mut io), Vec::new()),
            };
            (action, io.used, passed)
        };
        if let Some(link) = id.and_then(|id| site.links.get_mut(&id)) {
            gather(&up, &chunk, &mut link.to_server);
        }
        gather(&down, &passed, &mut self.reply);
        chunk.drain(..used);
        chunk.extend(hidden);
        self.pending = chunk;
        if notes.is_over {
            self.knows_end = false;
            let ended = self.how_ended(notes.failed.is_some());
            self.end(ended);
        }
        (action, used > 0)
    }

    /// How the request has ended, from what its client has got.
    fn how_ended(&mut self, has_failed: bool) -> Ended {
        if self.says_failure() {
            return Ended::Failed;
        }
        if has_failed && self.reply.is_empty() {
            self.owes = true;
            return Ended::Failed;
        }
        Ended::Served
    }

    fn end(&mut self, ended: Ended) {
        let reply = std::mem::take(&mut self.reply);
        self.ended.push((reply, ended));
    }

    /// The next deadline passes, for this client alone, or every one that there is.
    pub fn pass_deadline(&mut self, site: &mut Site, is_last: bool) {
        let now = match is_last {
            true => Now(site.now.0 + LATE_NANOS),
            false => Now(self.conversation.deadline(&LIMITS).0),
        };
        self.stop_waiting(site);
        self.drive(site, Happened::Deadline, now);
    }

    fn stop_waiting(&mut self, site: &mut Site) {
        if let Some(waiting) = self.waiting.take() {
            site.leave(waiting, self.client());
        }
    }

    /// The client's connection is gone, whatever it waited for.
    pub fn vanish(&mut self, site: &mut Site) {
        if !self.is_closed {
            self.drive(site, Happened::Gone, site.now);
            assert!(self.is_closed, "it goes on without its client");
        }
    }

    fn close(&mut self, site: &mut Site) {
        self.stop_waiting(site);
        if let Some(leased) = self.lease.take() {
            site.discard(leased, self.client());
        }
        self.reply.clear();
        self.is_closed = true;
    }

    /// Drops the session of a client that is gone.
    pub fn forget(&mut self) {
        if std::mem::replace(&mut self.is_forgotten, true) {
            return;
        }
        let session = Session::new(SessionFacts {
            owner: self.client(),
            capabilities: 0,
            vector: login_vector(None),
            statements_max: 1,
            settled: Rc::default(),
        });
        self.conversation = Conversation::new(session, 0, Now(0));
    }
}

/// Appends what is to be sent.
fn gather(out: &Output, input: &[u8], to: &mut Vec<u8>) {
    for span in out.spans() {
        match span {
            Span::Own(range) => to.extend_from_slice(&out.own()[range.clone()]),
            Span::Input(range) => to.extend_from_slice(&input[range.clone()]),
        }
    }
}

/// Why the gateway has not answered a command, if a reply says so.
pub fn failure(reply: &[u8]) -> Option<&'static str> {
    let reason = last_own_error(reply)?;
    FAILURES.iter().find(|known| **known == reason).copied()
}

/// The reason word of the gateway's own error at the end of a reply, if it ends in one.
fn last_own_error(reply: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(reply.get(reply.len().saturating_sub(60)..)?);
    let tail = match text {
        Ok(text) => text,
        Err(_) => {
            let lossy = reply.iter().rposition(|byte| !byte.is_ascii())?;
            std::str::from_utf8(reply.get(lossy + 1..)?).ok()?
        }
    };
    let (_, tail) = tail.rsplit_once("[ringgate ")?;
    let (reason, rest) = tail.split_once(' ')?;
    (rest.ends_with(']') && !rest.contains(' ')).then_some(reason)
}
