//! When waits end, over a connection whose server says what a test tells it to.

use super::super::tests::{LIMITS, Talk, closes, ok, over, query, seconds, until};
use super::super::{Input, LeaseEnd};
use super::*;
use crate::wire::mysql::flags::status;

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
