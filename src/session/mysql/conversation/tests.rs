//! Tests of conversations over a connection whose server says what a test tells it to: what the
//! simulation does not decide by a rule of its own, each in its smallest form.

use std::rc::Rc;
use std::time::Duration;

use super::{Action, Conversation, Input, Io, Limits, Notes};
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::drain::Drain;
use crate::session::mysql::baseline::{Answer, Baselines};
use crate::session::mysql::downstream::{Session, SessionFacts};
use crate::session::mysql::output::{Output, Span};
use crate::session::mysql::state::{Vector, number_of};
use crate::session::mysql::statements::Texts;
use crate::session::mysql::upstream::{LoginFacts, Upstream};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com, status};
use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

const CAPABILITIES: u32 = caps::PROTOCOL_41 | caps::DEPRECATE_EOF;
pub(super) const LIMITS: Limits = Limits {
    pool_wait: Duration::from_secs(3),
    statement: Some(Duration::from_secs(100)),
    write_stall: Duration::from_secs(60),
    idle_client: Some(Duration::from_secs(600)),
    transaction_idle: Some(Duration::from_secs(90)),
};

pub(super) fn seconds(seconds: u64) -> Now {
    Now(seconds * 1_000_000_000)
}

pub(super) fn until(seconds: u64) -> Deadline {
    Deadline(seconds * 1_000_000_000)
}

/// A conversation with all that a driver has.
pub(super) struct Talk {
    pub(super) conversation: Conversation,
    pub(super) held: Option<Upstream>,
    pub(super) texts: Texts,
    pub(super) unread: Vec<u8>,
    pub(super) now: Now,
    pub(super) drain: Drain,
    /// What the client, and the server, were sent.
    pub(super) down: Vec<u8>,
    pub(super) up: Vec<u8>,
    pub(super) notes: Notes,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self::in_schema(b"")
    }

    pub(super) fn in_schema(schema: &[u8]) -> Self {
        let session = Session::new(SessionFacts {
            owner: 7,
            capabilities: CAPABILITIES,
            vector: Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci").with_schema(schema)),
            statements_max: 9,
            settled: Rc::default(),
        });
        Self {
            conversation: Conversation::new(session, 7, Now(0)),
            held: None,
            texts: Texts::default(),
            unread: Vec::new(),
            now: Now(0),
            drain: Drain::Serving,
            down: Vec::new(),
            up: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// One step, as a driver takes it.
    pub(super) fn step(&mut self, input: Input<'_>) -> Action {
        let (mut down, mut up) = (Output::default(), Output::default());
        self.notes = Notes::default();
        let mut io = Io {
            now: self.now,
            unread: &mut self.unread,
            used: 0,
            held: self.held.as_mut(),
            texts: &mut self.texts,
            down: &mut down,
            up: &mut up,
            notes: &mut self.notes,
            limits: &LIMITS,
            drain: self.drain,
            is_removed: false,
        };
        let (action, reply) = match input {
            Input::Reply(reply) => {
                let action = self.conversation.step(Input::Reply(reply), &mut io);
                (action, reply.to_vec())
            }
            input => (self.conversation.step(input, &mut io), Vec::new()),
        };
        let used = io.used;
        gather(&up, &self.unread, &mut self.up);
        gather(&down, &reply, &mut self.down);
        self.unread.drain(..used);
        action
    }

    /// Steps on with what the action asks for that needs no peer.
    pub(super) fn go(&mut self, input: Input<'_>) -> Action {
        let mut action = self.step(input);
        loop {
            action = match action {
                Action::Go => self.step(Input::Go),
                Action::EndLease(_) => {
                    self.held = None;
                    self.step(Input::Go)
                }
                action => return action,
            };
        }
    }

    /// The client sends a text statement; a connection is leased at once.
    pub(super) fn ask(&mut self, sql: &str) {
        self.unread.extend(query(sql));
        assert!(matches!(self.go(Input::Go), Action::Lease(_)), "{sql}");
        self.lease();
    }

    pub(super) fn lease(&mut self) {
        self.held = Some(upstream());
        let action = self.go(Input::Leased { has_waited: false });
        assert!(matches!(action, Action::Wait), "{action:?}");
    }

    pub(super) fn reply(&mut self, mut reply: Vec<u8>) -> Action {
        self.go(Input::Reply(&mut reply))
    }

    /// The reason words of the gateway's own errors that the client was sent.
    pub(super) fn said(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.down);
        let words = text.split("[ringgate ").skip(1);
        let reasons = words.filter_map(|word| word.split(' ').next());
        reasons.map(str::to_owned).collect()
    }
}

pub(super) fn over(is_wanted: bool) -> Input<'static> {
    Input::Deadline {
        is_wanted,
        is_held_up: false,
    }
}

fn gather(out: &Output, input: &[u8], to: &mut Vec<u8>) {
    for span in out.spans() {
        match span {
            Span::Own(range) => to.extend_from_slice(&out.own()[range.clone()]),
            Span::Input(range) => to.extend_from_slice(&input[range.clone()]),
        }
    }
}

/// Its server says that texts are read otherwise than its sessions' logins told.
pub(super) fn upstream() -> Upstream {
    let baselines = Rc::<Baselines>::default();
    let mode = number_of(b"sql_mode").map(|number| (number, b"ANSI_QUOTES"[..].into()));
    baselines.logged_in(mode.into_iter().collect(), None, Answer::new(true), true);
    let vector = Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci"));
    upstream_of(vector, &baselines)
}

/// A connection in this state to a server of whose logins this is known.
pub(super) fn upstream_of(vector: Rc<Vector>, baselines: &Rc<Baselines>) -> Upstream {
    Upstream::new(LoginFacts {
        thread_id: 1,
        deprecates_eof: true,
        vector,
        statements_max: 2,
        baselines: Rc::clone(baselines),
    })
}

pub(super) fn query(sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    packet(&mut out, 0, |out| {
        encode_text_command(out, com::QUERY, sql.as_bytes());
    });
    out
}

pub(super) fn ok(status: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let ok = OkPacket {
        status,
        ..OkPacket::default()
    };
    packet(&mut out, 1, |out| encode_ok(out, CAPABILITIES, &ok));
    out
}

pub(super) fn closes(action: &Action, expect: CloseReason, cut: bool) -> bool {
    matches!(action, Action::Close { reason, is_cut } if *reason == expect && *is_cut == cut)
}

#[test]
fn a_statement_goes_up_and_its_reply_comes_down_as_they_are() {
    let mut talk = Talk::new();
    talk.ask("SELECT 1");
    assert_eq!(talk.up, query("SELECT 1"));
    let answer = ok(status::AUTOCOMMIT);
    let (head, tail) = answer.split_at(5);
    assert!(matches!(talk.reply(head.to_vec()), Action::Wait));
    assert!(matches!(talk.reply(tail.to_vec()), Action::Wait));
    assert_eq!(talk.down, answer);
    assert!(talk.held.is_none(), "returned");
}

#[test]
fn a_kept_lease_stays_until_its_transaction_ends() {
    let mut talk = Talk::new();
    talk.ask("BEGIN");
    let in_transaction = status::AUTOCOMMIT | status::IN_TRANS;
    assert!(matches!(talk.reply(ok(in_transaction)), Action::Wait));
    assert!(talk.held.is_some(), "kept");
    talk.unread.extend(query("COMMIT"));
    assert!(matches!(talk.go(Input::Go), Action::Wait), "no new lease");
    talk.reply(ok(status::AUTOCOMMIT));
    assert!(talk.held.is_none());
}

#[test]
fn only_a_read_without_an_answer_is_repeated_and_only_where_nothing_is_kept() {
    for (sql, prefix, is_repeated) in [
        ("SELECT 1", 0, true),
        ("SELECT 1", 5, false),
        ("SELECT f()", 0, false),
        ("SELECT a FROM t_or_view", 0, false),
        ("INSERT INTO t VALUES (1)", 0, false),
    ] {
        let mut talk = Talk::new();
        talk.ask(sql);
        let sent = talk.up.len();
        let rows = b"\x01\0\0\x01\x01".get(..prefix).unwrap_or_default();
        talk.reply(rows.to_vec());
        let action = talk.go(Input::UpstreamGone);
        assert_eq!(matches!(action, Action::Lease(_)), is_repeated, "{sql}");
        if is_repeated {
            talk.lease();
            assert_eq!(talk.up[sent..], query(sql)[..]);
            // Once: the second loss is told.
            talk.go(Input::UpstreamGone);
        }
        let expect = if prefix > 0 {
            "session_lost"
        } else {
            "outcome_unknown"
        };
        assert_eq!(talk.said(), [expect], "{sql}");
    }
}

#[test]
fn a_reply_that_ends_in_the_middle_of_a_packet_is_cut() {
    let mut talk = Talk::new();
    talk.ask("SELECT 1");
    talk.reply(b"\x01\0\0\x01\x01\x20\0\0\x02\x03de".to_vec());
    let action = talk.go(Input::UpstreamGone);
    assert!(
        closes(&action, CloseReason::UpstreamLost, true),
        "{action:?}"
    );
    assert!(talk.said().is_empty());
}

#[test]
fn a_statement_that_may_have_written_is_not_called_interrupted() {
    for (sql, expect) in [
        ("SELECT 1", "statement_deadline"),
        ("UPDATE t SET a = 1", "deadline_unknown"),
    ] {
        let mut talk = Talk::new();
        talk.ask(sql);
        talk.now = Now(talk.conversation.deadline(&LIMITS).0);
        talk.go(over(false));
        assert_eq!(talk.said(), [expect], "{sql}");
    }
    for (sql, expect) in [
        // The transaction is undone with its connection, unless this is its end.
        ("UPDATE t SET a = 1", "statement_deadline"),
        ("COMMIT", "deadline_unknown"),
    ] {
        let mut talk = Talk::new();
        talk.ask("BEGIN");
        talk.reply(ok(status::AUTOCOMMIT | status::IN_TRANS));
        talk.unread = query(sql);
        talk.go(Input::Go);
        talk.now = Now(talk.conversation.deadline(&LIMITS).0);
        let action = talk.go(over(false));
        assert!(
            closes(&action, CloseReason::StatementTimeout, false),
            "{sql}"
        );
        assert_eq!(talk.said(), [expect], "{sql} in a transaction");
    }
    // One that was never sent has done nothing.
    let mut talk = Talk::new();
    talk.unread = query("UPDATE t SET a = 1");
    talk.go(Input::Go);
    talk.now = seconds(200);
    talk.go(over(false));
    assert_eq!(talk.said(), ["statement_deadline"]);
}

#[test]
fn a_long_command_is_refused_behind_its_last_packet() {
    let mut talk = Talk::new();
    let mut body = vec![com::STMT_EXECUTE];
    body.resize((1 << 24) + 5, 1);
    let mut whole = Vec::new();
    packet(&mut whole, 0, |out| out.extend_from_slice(&body));
    for piece in whole.chunks(1 << 20) {
        assert!(talk.down.is_empty(), "before its last packet");
        talk.unread.extend_from_slice(piece);
        talk.go(Input::Go);
    }
    assert_eq!(
        (talk.down[3], talk.said()),
        (2, vec!["unknown_statement".to_owned()])
    );
}

#[test]
fn what_a_kept_connection_lost_is_told_at_the_next_command() {
    let mut talk = Talk::new();
    talk.ask("BEGIN");
    talk.reply(ok(status::AUTOCOMMIT | status::IN_TRANS));
    assert!(matches!(talk.go(Input::UpstreamGone), Action::Wait));
    assert!(talk.said().is_empty());
    talk.unread = query("SELECT 1");
    let action = talk.go(Input::Go);
    assert!(
        closes(&action, CloseReason::UpstreamLost, false),
        "{action:?}"
    );
    assert_eq!(talk.said(), ["session_lost"]);
}

#[test]
fn a_client_that_takes_nothing_is_cut_whatever_it_is_at() {
    for runs in [false, true] {
        let mut talk = Talk::new();
        if runs {
            talk.ask("SELECT 1");
        }
        let action = talk.go(Input::ClientStalled);
        assert!(closes(&action, CloseReason::WriteStall, true), "{action:?}");
    }
}

/// What looks like several statements goes with the option that it needs. If that is refused, several do nothing,
/// but this one may have run.
#[test]
fn a_write_behind_a_refused_option_has_an_unknown_outcome() {
    let mut refusal = Vec::new();
    let err = ErrPacket::new(1047, "08S01", b"Unknown command");
    packet(&mut refusal, 1, |out| encode_err(out, &err));
    for (sql, expect) in [
        ("INSERT INTO t VALUES ('a;b')", &["outcome_unknown"][..]),
        ("SELECT 'a;b'", &[]),
    ] {
        let mut talk = Talk::new();
        packet(&mut talk.unread, 0, |out| {
            out.extend_from_slice(&[com::SET_OPTION, 0, 0]);
        });
        assert!(matches!(talk.go(Input::Go), Action::Wait), "answered here");
        talk.down.clear();
        talk.ask(sql);
        assert!(talk.up.ends_with(&query(sql)), "{sql} is in the same write");
        talk.reply(refusal.clone());
        assert_eq!(talk.said(), expect, "{sql}");
        let is_refusal = talk.down == refusal;
        assert_eq!(is_refusal, expect.is_empty(), "{sql}");
        assert!(talk.held.is_none());
    }
}
