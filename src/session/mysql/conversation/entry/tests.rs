//! A session's login and its reset, over a connection whose server says what a test tells it to.

use super::super::Input;
use super::super::tests::{LIMITS, Talk, closes, ok, over, query, seconds, upstream, upstream_of};
use super::*;
use crate::session::mysql::baseline::{Answer, Baselines, Origin};
use crate::session::mysql::left_behind::residue::Kind;
use crate::session::mysql::state::{Vector, number_of};
use crate::session::mysql::tests::{answer, base, rows};
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{com, status};
use crate::wire::mysql::response::{ErrPacket, encode_err};

#[test]
fn a_login_learns_what_its_server_says_of_its_schema() {
    let mut unknown = Vec::new();
    let err = ErrPacket::new(1049, "42000", b"Unknown database 'nosuch'");
    packet(&mut unknown, 1, |out| encode_err(out, &err));
    for (reply, expect) in [
        (ok(status::AUTOCOMMIT), Entered::Yes),
        (unknown.clone(), Entered::Refused(unknown[4..].into())),
    ] {
        let mut talk = Talk::in_schema(b"nosuch");
        talk.conversation.enter_server(
            Entry::at_login(Schema::Unknown, Lack::Nothing, Now(0)),
            Now(0),
        );
        assert!(matches!(talk.go(Input::Go), Action::Lease(_)));
        talk.lease();
        assert_eq!(talk.up[4..], *b"\x02nosuch");
        let action = talk.reply(reply);
        assert!(
            matches!(&action, Action::Entered(entered) if *entered == expect),
            "{action:?}"
        );
        assert!(talk.down.is_empty() && talk.held.is_none());
    }
    // Two dead connections are enough.
    let mut talk = Talk::in_schema(b"nosuch");
    talk.conversation.enter_server(
        Entry::at_login(Schema::Again, Lack::Nothing, Now(0)),
        Now(0),
    );
    assert!(matches!(talk.go(Input::Go), Action::Lease(wish) if wish.only_idle));
    talk.lease();
    assert!(matches!(talk.go(Input::UpstreamGone), Action::Lease(_)));
    talk.lease();
    assert!(matches!(
        talk.go(Input::UpstreamGone),
        Action::Entered(Entered::Lost)
    ));
    let mut talk = Talk::in_schema(b"nosuch");
    talk.conversation.enter_server(
        Entry::at_login(Schema::Again, Lack::Nothing, Now(0)),
        Now(0),
    );
    talk.go(Input::Go);
    let action = talk.go(Input::Refused(Event::PoolWait));
    let expect = Entered::Unknown(Event::PoolWait);
    assert!(
        matches!(&action, Action::Entered(entered) if *entered == expect),
        "{action:?}"
    );
}

/// What another session has left on the connection is read out first; the schema is asked for all the same.
#[test]
fn a_login_on_a_connection_with_something_left_asks_for_its_schema_behind_that() {
    let mut talk = Talk::in_schema(b"nosuch");
    let entry = Entry::at_login(Schema::Unknown, Lack::Nothing, Now(0));
    talk.conversation.enter_server(entry, Now(0));
    talk.go(Input::Go);
    let mut held = upstream();
    let left = held.left.leave(Kind::FoundRows, 4);
    talk.held = Some(held);
    let action = talk.go(Input::Leased { has_waited: false });
    assert!(matches!(action, Action::Wait), "{action:?}");
    assert!(talk.up.ends_with(b"FOUND_ROWS()"), "{:?}", talk.up);
    let read_out = [
        &b"\x01\0\0\x01\x01"[..],
        b"\x17\0\0\x02\x03def\0\0\0\x01x\0\x0c\x3f\0\x14\0\0\0\x08\x81\0\0\0\0",
        b"\x03\0\0\x03\x0242",
        b"\x07\0\0\x04\xfe\0\0\x02\0\0\0",
    ];
    let action = talk.reply(read_out.concat());
    assert!(matches!(action, Action::Wait), "{action:?}");
    assert!(talk.up.ends_with(b"\x02nosuch"), "{:?}", talk.up);
    let action = talk.reply(ok(status::AUTOCOMMIT));
    assert!(
        matches!(action, Action::Entered(Entered::Yes)),
        "{action:?}"
    );
    drop(left);
}

/// What is known of a MariaDB whose logins, and globals, have this `sql_mode`.
fn known(mode: &str) -> Rc<Baselines> {
    let baselines = Rc::<Baselines>::default();
    let modes = [("sql_mode", mode)];
    baselines.logged_in(base(&modes), Some(b"kept"), answer(&modes), false);
    baselines
}

/// A session that is reset in a transaction, on a connection that could be brought back to what its login gave.
/// It is the second 10.
fn reset_in_transaction(baselines: &Rc<Baselines>) -> Talk {
    let at_login = Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci"));
    let at_login = baselines.adopt(&at_login, Origin::default());
    let mut talk = Talk::new();
    let newest = Rc::<Newest>::default();
    newest.set(baselines);
    talk.conversation.relies_on(&newest);
    // Its first statement looks at the globals.
    talk.now = seconds(10);
    talk.unread.extend(query("BEGIN"));
    talk.go(Input::Go);
    talk.held = Some(upstream_of(at_login.expect("it is known"), baselines));
    talk.go(Input::Leased { has_waited: false });
    talk.reply(rows(&[("sql_mode", "")], true));
    talk.reply(ok(status::IN_TRANS | status::AUTOCOMMIT));
    assert!(talk.conversation.session().is_in_transaction());
    (talk.down, talk.up) = (Vec::new(), Vec::new());
    packet(&mut talk.unread, 0, |out| out.push(com::RESET_CONNECTION));
    assert!(matches!(talk.go(Input::Go), Action::Wait));
    assert!(talk.held.is_some() && talk.down.is_empty(), "it waits");
    talk.up.clear();
    talk
}

/// The server has undone all.
fn undone(talk: &mut Talk) -> Action {
    let oks = [ok(status::AUTOCOMMIT), ok(status::AUTOCOMMIT)].concat();
    let kept = rows(&[("kept", "kept")], true);
    talk.reply([oks, kept, rows(&[("sql_mode", "")], true)].concat())
}

/// The client is told that its session is new once the connection on which it is not has gone.
fn is_answered(talk: &Talk) {
    assert!(talk.held.is_none());
    let told = [7, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
    assert_eq!(talk.down, told);
    assert!(!talk.conversation.session().is_in_transaction());
}

#[test]
fn what_cannot_be_undone_is_closed_before_a_reset_is_answered() {
    let mut refusal = Vec::new();
    let err = ErrPacket::new(1047, "08S01", b"Unknown command");
    packet(&mut refusal, 1, |out| encode_err(out, &err));
    let mut talk = reset_in_transaction(&known(""));
    talk.reply(refusal);
    is_answered(&talk);

    let mut talk = reset_in_transaction(&known(""));
    talk.go(Input::UpstreamGone);
    is_answered(&talk);

    let mut talk = reset_in_transaction(&known(""));
    talk.now = Now(talk.conversation.deadline(&LIMITS).0);
    talk.go(over(true));
    // That was 2 s, and what is known is no older than 1.
    assert!(talk.down.is_empty());
    talk.go(Input::Refused(Event::NoEndpoint));
    is_answered(&talk);
}

#[test]
fn who_leaves_while_it_is_reset_is_not_answered() {
    let mut talk = reset_in_transaction(&known(""));
    let action = talk.go(Input::Gone);
    assert!(matches!(action, Action::Close { .. }), "{action:?}");
    assert!(talk.held.is_none() && talk.down.is_empty());
    // Nor while the server is asked.
    let mut talk = reset_in_transaction(&known(""));
    talk.now = seconds(12);
    assert!(matches!(undone(&mut talk), Action::Wait));
    let action = talk.go(Input::Gone);
    assert!(matches!(action, Action::Close { .. }), "{action:?}");
    assert!(talk.held.is_none() && talk.down.is_empty());
}

#[test]
fn a_reset_on_its_own_connection_asks_there_what_may_have_changed() {
    let mut talk = reset_in_transaction(&known(""));
    undone(&mut talk);
    is_answered(&talk);

    let mut talk = reset_in_transaction(&known(""));
    talk.now = seconds(12);
    assert!(matches!(undone(&mut talk), Action::Wait));
    let asked = String::from_utf8_lossy(&talk.up).into_owned();
    assert!(asked.contains("SHOW GLOBAL VARIABLES"), "{asked}");
    assert!(talk.down.is_empty());
    talk.reply(rows(&[("sql_mode", "NO_BACKSLASH_ESCAPES")], true));
    assert!(talk.held.is_none());
    let told = status::AUTOCOMMIT | status::NO_BACKSLASH_ESCAPES;
    assert_eq!(talk.down, ok(told));
}

#[test]
fn a_reset_whose_connection_was_closed_asks_on_another_one_for_a_second() {
    let begun = |baselines: &Rc<Baselines>| {
        let mut talk = reset_in_transaction(baselines);
        talk.now = seconds(12);
        let action = talk.go(Input::UpstreamGone);
        (talk, action)
    };
    let baselines = known("");
    let (mut talk, action) = begun(&baselines);
    let expect = talk.now.plus(PATIENCE);
    assert!(
        matches!(&action, Action::Lease(wish) if wish.until == expect && !wish.prefers_last),
        "{action:?}"
    );
    talk.held = Some(upstream_of(Rc::default(), &baselines));
    talk.go(Input::Leased { has_waited: true });
    talk.reply(rows(&[("sql_mode", "ANSI_QUOTES")], true));
    assert!(talk.held.is_none());
    assert_eq!(talk.down, ok(status::AUTOCOMMIT | status::ANSI_QUOTES));

    let (mut talk, _) = begun(&known(""));
    talk.now = Now(expect.0);
    talk.go(over(false));
    assert_eq!(talk.down, ok(status::AUTOCOMMIT), "what was known");
}

#[test]
fn a_reset_that_meets_the_end_of_a_drain_asks_nobody() {
    let mut talk = reset_in_transaction(&known(""));
    (talk.now, talk.drain) = (seconds(12), Drain::Now);
    let action = talk.go(Input::Drain);
    assert!(closes(&action, CloseReason::Drain, false), "{action:?}");
    assert!(talk.held.is_none());
    let reset = ok(status::AUTOCOMMIT);
    assert!(talk.down.starts_with(&reset));
    assert_eq!(talk.said(), ["drain"]);
}

/// A reload has brought the session's statements to another server.
#[test]
fn a_reset_begins_with_what_the_server_gives_where_the_next_statement_runs() {
    for (mode, expect) in [("ANSI_QUOTES", status::ANSI_QUOTES), ("", 0)] {
        let mut talk = Talk::new();
        let newest = Rc::<Newest>::default();
        newest.set(&known("NO_BACKSLASH_ESCAPES"));
        talk.conversation.relies_on(&newest);
        talk.conversation.begin_session(Now(0));
        let moved = Rc::<Newest>::default();
        moved.set(&known(mode));
        let _ = moved.get().map(|known| known.is_due(Now(0)));
        talk.conversation.relies_on(&moved);
        packet(&mut talk.unread, 0, |out| out.push(com::RESET_CONNECTION));
        talk.go(Input::Go);
        assert_eq!(talk.down, ok(status::AUTOCOMMIT | expect));
    }
}

#[test]
fn a_login_waits_as_for_a_statement_only_for_a_schema_that_is_not_known() {
    let second = Now(0).plus(PATIENCE);
    let pool_wait = Now(0).plus(LIMITS.pool_wait);
    for (schema, lack, only_idle, until) in [
        (Schema::Unknown, Lack::Nothing, false, pool_wait),
        (Schema::Unknown, Lack::Renewal, false, pool_wait),
        (Schema::Again, Lack::Nothing, true, second),
        (Schema::Again, Lack::Renewal, false, second),
        (Schema::Settled, Lack::All, false, second),
    ] {
        let mut talk = Talk::in_schema(b"known");
        let entry = Entry::at_login(schema, lack, Now(0));
        talk.conversation.enter_server(entry, Now(0));
        let action = talk.go(Input::Go);
        assert!(
            matches!(&action, Action::Lease(wish) if wish.only_idle == only_idle && wish.until == until),
            "{schema:?} {lack:?}: {action:?}"
        );
    }
}

/// Its time begins with the command, whatever was asked before.
#[test]
fn what_an_earlier_statement_could_take_limits_no_reset() {
    let mut talk = Talk::new();
    talk.ask("SELECT 1");
    talk.reply(ok(status::AUTOCOMMIT));
    talk.down.clear();
    talk.now = seconds(500);
    packet(&mut talk.unread, 0, |out| out.push(com::RESET_CONNECTION));
    let action = talk.go(Input::Go);
    let until = talk.now.plus(PATIENCE);
    assert!(
        matches!(&action, Action::Lease(wish) if wish.until == until),
        "{action:?}"
    );
}

/// A login's flags were told; the first statement finds that strings are quoted otherwise.
#[test]
fn who_was_told_otherwise_is_closed_before_its_text_is_sent() {
    let baselines = Rc::<Baselines>::default();
    let mode = number_of(b"sql_mode").map(|n| (n, b"NO_BACKSLASH_ESCAPES"[..].into()));
    baselines.logged_in(mode.into_iter().collect(), None, Answer::new(true), true);
    let mut talk = Talk::new();
    talk.unread.extend(query("SELECT 'it\\'s'"));
    talk.go(Input::Go);
    talk.held = Some(upstream_of(Rc::default(), &baselines));
    let action = talk.go(Input::Leased { has_waited: false });
    assert!(matches!(action, Action::Close { .. }), "{action:?}");
    assert_eq!(talk.said(), ["mode_untold"]);
    assert!(talk.up.is_empty());
}
