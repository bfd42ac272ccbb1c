//! Tests of conversations over a connection whose server says what a test tells it to: what the
//! simulation does not decide by a rule of its own, each in its smallest form.

use std::rc::Rc;
use std::time::Duration;

use super::{Action, Conversation, Input, Io, LeaseEnd, Limits, Notes};
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

fn until(seconds: u64) -> Deadline {
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
fn waits_end_at_their_deadlines_and_are_told() {
    let mut talk = Talk::new();
    talk.now = seconds(10);
    talk.unread = query("SELECT 1");
    assert!(matches!(talk.go(Input::Go), Action::Lease(wish) if wish.until == until(13)));
    talk.now = seconds(13);
    talk.go(over(false));
    assert_eq!(talk.said(), ["pool_wait"]);
    talk.ask("SELECT 2");
    assert_eq!(talk.conversation.deadline(&LIMITS), until(113));
    talk.now = seconds(113);
    talk.go(over(false));
    assert_eq!(talk.said(), ["pool_wait", "statement_deadline"]);
    // A client that says nothing more.
    assert_eq!(talk.conversation.deadline(&LIMITS), until(713));
    talk.now = seconds(713);
    let action = talk.go(over(false));
    assert!(
        closes(&action, CloseReason::ClientIdle, false),
        "{action:?}"
    );
}

#[test]
fn a_deadline_that_is_not_over_changes_nothing() {
    let mut talk = Talk::new();
    talk.ask("SELECT 1");
    let before = talk.conversation.deadline(&LIMITS);
    assert!(matches!(talk.go(over(true)), Action::Wait));
    assert_eq!(talk.conversation.deadline(&LIMITS), before);
    assert!(talk.held.is_some() && talk.down.is_empty());
}

#[test]
fn a_client_that_has_closed_its_side_has_half_a_second_for_what_runs() {
    let mut talk = Talk::new();
    talk.now = seconds(1);
    talk.ask("SELECT 1");
    talk.go(Input::Leaving);
    let deadline = talk.conversation.deadline(&LIMITS);
    assert_eq!(deadline, Deadline(1_500_000_000));
    talk.now = Now(deadline.0);
    let action = talk.go(over(false));
    assert!(
        closes(&action, CloseReason::ClientGone, false),
        "{action:?}"
    );
    // One that has it in time is served to the end of what it has sent.
    let mut talk = Talk::new();
    talk.ask("SELECT 1");
    talk.go(Input::Leaving);
    talk.reply(ok(status::AUTOCOMMIT));
    assert!(closes(&talk.go(Input::End), CloseReason::ClientGone, false));
    assert_eq!(talk.down, ok(status::AUTOCOMMIT));
}

#[test]
fn who_leaves_while_it_waits_has_as_long() {
    let mut talk = Talk::new();
    talk.unread = query("SELECT 1");
    talk.go(Input::Go);
    assert!(matches!(talk.go(Input::Leaving), Action::Wait));
    talk.now = Now(talk.conversation.deadline(&LIMITS).0);
    assert_eq!(talk.now, Now(500_000_000));
    let action = talk.go(over(false));
    assert!(
        closes(&action, CloseReason::ClientGone, false),
        "{action:?}"
    );
    // All that it has sent is answered if connections come in time.
    let mut talk = Talk::new();
    talk.unread = [query("SELECT 1"), query("SELECT 2")].concat();
    talk.go(Input::Go);
    for _ in 0..2 {
        talk.go(Input::Leaving);
        talk.lease();
        talk.reply(ok(status::AUTOCOMMIT));
    }
    assert_eq!(talk.down, ok(status::AUTOCOMMIT).repeat(2));
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
fn a_server_that_does_not_read_is_not_the_clients_fault() {
    let mut talk = half_of_a_long_command();
    for _ in 0..300 {
        talk.now = Now(talk.conversation.deadline(&LIMITS).0);
        let held_up = Input::Deadline {
            is_wanted: true,
            is_held_up: true,
        };
        if talk.now >= seconds(100) {
            // Its own deadline is all that ends it.
            break;
        }
        assert!(matches!(talk.go(held_up), Action::Wait));
    }
    assert!(talk.now >= seconds(100) && talk.held.is_some() && talk.said().is_empty());
}

/// A command of 128 KiB, of which the first 70,000 bytes have come.
fn half_of_a_long_command() -> Talk {
    let mut talk = Talk::new();
    let whole = query(&format!("INSERT INTO t VALUES ('{}')", "x".repeat(131_072)));
    talk.unread = whole[..70_000].to_vec();
    assert!(matches!(talk.go(Input::Go), Action::Lease(_)));
    talk.lease();
    assert_eq!(talk.up, whole[..70_000]);
    talk.unread = Vec::new();
    talk
}

#[test]
fn a_command_that_stops_half_way_gives_its_connection_to_those_who_wait() {
    let mut talk = half_of_a_long_command();
    talk.now = Now(talk.conversation.deadline(&LIMITS).0);
    talk.go(over(false));
    assert!(talk.held.is_some(), "nobody wants it");
    let looked_again = talk.conversation.deadline(&LIMITS);
    assert!(looked_again.0 > talk.now.0);
    talk.now = Now(looked_again.0);
    let action = talk.step(over(true));
    // Nothing runs on the server: there is nothing to kill.
    let expect = CloseReason::ClientStalled;
    assert!(
        matches!(action, Action::EndLease(LeaseEnd::Abandon(reason)) if reason == expect),
        "{action:?}"
    );
    talk.held = None;
    talk.go(Input::Go);
    // Should the rest come, the client is told behind it, and kept.
    let rest = query(&format!("INSERT INTO t VALUES ('{}')", "x".repeat(131_072)));
    talk.unread = rest[70_000..].to_vec();
    assert!(matches!(talk.go(Input::Go), Action::Wait));
    assert_eq!(talk.said(), ["command_slow"]);
    talk.ask("SELECT 1");
}

#[test]
fn a_command_that_comes_at_a_pace_keeps_its_connection() {
    let mut talk = half_of_a_long_command();
    talk.now = seconds(1) /* half a second later it is looked at */;
    talk.unread = vec![b'x'; 10_000];
    talk.go(Input::Go);
    talk.go(over(true));
    assert!(talk.held.is_some() && talk.said().is_empty());
}

#[test]
fn half_a_command_is_waited_for_no_longer_than_a_peer_that_does_not_read() {
    let whole = query("SELECT 'a text that is cut'");
    for talk in [half_of_a_long_command(), Talk::new()] {
        let mut talk = talk;
        if talk.held.is_none() {
            talk.unread = whole[..9].to_vec();
            talk.go(Input::Go);
        }
        talk.now = seconds(60);
        let action = talk.go(over(false));
        assert!(
            closes(&action, CloseReason::ClientStalled, false),
            "{action:?}"
        );
        assert_eq!(
            talk.said().last().map(String::as_str),
            Some("command_stalled")
        );
    }
}

#[test]
fn a_drain_takes_clients_between_commands_and_its_end_takes_all() {
    let mut talk = Talk::new();
    talk.drain = Drain::Draining;
    assert!(closes(&talk.go(Input::Drain), CloseReason::Drain, false));
    assert_eq!(talk.said(), ["drain"]);
    let mut talk = Talk::new();
    talk.ask("SELECT 1");
    talk.drain = Drain::Draining;
    assert!(
        matches!(talk.go(Input::Drain), Action::Wait),
        "it is answered first"
    );
    talk.drain = Drain::Now;
    assert!(closes(&talk.go(Input::Drain), CloseReason::Drain, false));
    // Who waits for a connection, sends a command, or one that has failed already.
    for (at, expect) in [(0, "drain"), (1, "drain"), (2, "command_slow")] {
        let mut talk = match at {
            0 => Talk::new(),
            _ => half_of_a_long_command(),
        };
        if at == 0 {
            talk.unread = query("SELECT 1");
            talk.go(Input::Go);
        } else if at == 2 {
            talk.now = seconds(1);
            talk.go(over(true));
            assert!(talk.held.is_none() && talk.said().is_empty());
        }
        talk.drain = Drain::Now;
        let action = talk.go(Input::Drain);
        assert!(closes(&action, CloseReason::Drain, false), "{action:?}");
        assert_eq!(talk.said(), [expect]);
        assert!(talk.held.is_none());
    }
}

/// A transaction ends by its own time also where a command has begun to come.
#[test]
fn half_a_command_does_not_prolong_a_transaction_that_is_idle() {
    let long = query(&format!("INSERT INTO t VALUES ('{}')", "x".repeat(131_072)));
    for part in [&long[..2], &query("SELECT 1")[..7], &long[..70_000]] {
        let mut talk = Talk::new();
        talk.ask("BEGIN");
        talk.reply(ok(status::AUTOCOMMIT | status::IN_TRANS));
        assert!(talk.held.is_some());
        talk.now = seconds(50);
        talk.unread = part.to_vec();
        talk.go(Input::Go);
        talk.unread.clear();
        talk.now = until_over(&talk);
        let mut action = talk.go(over(false));
        while matches!(action, Action::Wait) {
            talk.now = until_over(&talk);
            action = talk.go(over(false));
        }
        assert_eq!(talk.now, seconds(90), "{} bytes", part.len());
        let expect = CloseReason::TransactionIdle;
        assert!(closes(&action, expect, false), "{action:?}");
        assert_eq!(talk.said(), ["transaction_idle"]);
        assert!(talk.held.is_none());
    }
}

fn until_over(talk: &Talk) -> Now {
    Now(talk.conversation.deadline(&LIMITS).0)
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
