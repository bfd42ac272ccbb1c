//! What a session has set goes with it, in whatever form it was set, and keeps no connection.

use crate::support::{ACCOUNT, Client, Login, PASSWORD};
use crate::{Form, Scene, ask, fails};

#[test]
fn what_holds_for_a_statement_is_neither_the_sessions_nor_the_connections() {
    let scene = Scene::new(1, "");
    let reads = "SELECT CONCAT(@@max_statement_time, @@sql_notes, @@time_zone)";
    for deprecate_eof in [false, true] {
        let (mut own, mut other) = (scene.client(deprecate_eof), scene.client(deprecate_eof));
        let before = ask(&mut other, Form::Text, reads);
        for form in Form::ALL {
            for sql in ["SELECT 1", "DO 1", "SELECT @@version"] {
                let passing = "max_statement_time = 9, sql_notes = 0, time_zone = '+03:00'";
                ask(
                    &mut own,
                    form,
                    &format!("SET STATEMENT {passing} FOR {sql}"),
                );
                assert_eq!(ask(&mut other, form, reads), before, "the other's: {sql}");
                assert_eq!(ask(&mut own, form, reads), before, "its own: {sql}");
            }
        }
    }
}

const CHARSETS: &str =
    "CREATE DATABASE IF NOT EXISTS dutch CHARACTER SET latin1 COLLATE latin1_danish_ci;";

/// First statements of connectors, and siblings of them; the last says that it is none of these.
const LISTS: &[&str] = &[
    "set autocommit=1, session_track_schema=1, \
     session_track_system_variables='auto_increment_increment', \
     sql_mode=concat(@@sql_mode,',STRICT_TRANS_TABLES')",
    "SET SESSION session_track_system_variables='', session_track_state_change=0, session_track_schema=0",
    "SET @@session.session_track_schema = OFF, time_zone = '+04:00', session_track_schema := 1",
    "SET sql_notes = 0, session_track_system_variables = DEFAULT, sql_notes = 1, sql_mode = 'ANSI_QUOTES'",
    "SET sql_mode=(SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION')),\
     time_zone='+00:00',NAMES utf8mb4 COLLATE utf8mb4_unicode_ci;",
    "SET NAMES utf8mb4, @@SESSION.sql_mode = 'STRICT_ALL_TABLES', @@SESSION.wait_timeout = 2147483",
    "SET NAMES latin1, time_zone='+01:00', collation_connection=latin1_bin",
    "SET collation_connection=utf8mb4_bin, NAMES utf8mb4 COLLATE utf8mb4_unicode_520_ci",
    "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_danish_ci', sql_notes = 0, NAMES latin1",
    "SET CHARACTER SET latin1",
    "SET time_zone = '+01:00', CHARSET 'utf8mb4', sql_notes = 0",
    "SET CHAR SET latin1, NAMES utf8mb4",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin, CHARACTER SET utf8mb4, session_track_schema = 0",
    "/* app */ SET NAMES latin1 /* why */ COLLATE latin1_bin, sql_notes = 0 -- so",
    "SET NAMES latin1, sql_mode = REPLACE(@@sql_mode, 'x', ',NAMES utf8mb4')",
];

const STATE: &str = "SELECT CONCAT_WS('|', @@collation_connection, @@character_set_client, \
     @@character_set_results, @@character_set_connection, @@time_zone, @@sql_mode, @@sql_notes, \
     @@wait_timeout, @@autocommit, DATABASE())";

#[test]
fn lists_with_character_sets_and_trackers_move() {
    let scene = Scene::new(1, CHARSETS);
    for schema in ["test", "dutch"] {
        for (index, list) in LISTS.iter().enumerate() {
            let form = Form::ALL[index % 2];
            for form in [form, Form::Text] {
                let deprecate_eof = index % 3 == 0;
                let mut direct = scene.direct();
                let (mut own, mut other) =
                    (scene.client(deprecate_eof), scene.client(deprecate_eof));
                let before = ask(&mut other, Form::Text, STATE);
                for client in [&mut direct, &mut own] {
                    ask(client, Form::Text, &format!("USE {schema}"));
                    ask(client, form, list);
                }
                let expect = ask(&mut direct, Form::Text, STATE);
                for _ in 0..2 {
                    assert_eq!(ask(&mut other, form, STATE), before, "the other's: {list}");
                    assert_eq!(
                        ask(&mut own, form, STATE),
                        expect,
                        "{form:?} {schema}: {list}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_client_that_wants_to_be_told_nothing_is_seen_by_the_gateway_all_the_same() {
    let scene = Scene::new(1, CHARSETS);
    let (mut own, mut other) = (scene.client(true), scene.client(false));
    let before = ask(&mut other, Form::Text, STATE);
    for form in Form::ALL {
        for sql in [
            "SET session_track_system_variables = '', session_track_schema = 0",
            "SET session_track_state_change = 0",
            "SET time_zone = '+05:30'",
            "SET sql_notes = 0",
            "USE dutch",
        ] {
            ask(&mut own, form, sql);
            assert_eq!(ask(&mut other, form, STATE), before, "{sql}");
        }
        let state = "SELECT CONCAT_WS('|', @@time_zone, @@sql_notes, DATABASE())";
        assert_eq!(ask(&mut own, form, state), "+05:30|OFF|dutch");
        ask(&mut own, form, "USE test");
        own.reset().expect("an OK");
        assert_eq!(ask(&mut own, form, STATE), before);
    }
}

/// Which of these statements the client is told a change of its session by, as directly.
#[test]
fn a_client_is_told_what_it_wants_to_be_told_in_either_form() {
    const SESSION_TRACK: u32 = 1 << 23;
    const STATE_CHANGED: u16 = 1 << 14;
    let scene = Scene::new(1, CHARSETS);
    let login = |port, user: &str, password: &str| Login {
        port,
        user: user.to_owned(),
        password: password.to_owned(),
        schema: "test".to_owned(),
        deprecate_eof: true,
    };
    let gateway = scene.gateway.login();
    let ways = [
        login(scene.server.port(), ACCOUNT, PASSWORD),
        login(gateway.port, &gateway.user, &gateway.password),
    ];
    let mut other = scene.client(true);
    for form in Form::ALL {
        for wants in [
            "SET session_track_schema = 0",
            "SET session_track_schema = 0, session_track_system_variables = 'sql_notes'",
            "SET sql_notes = 1, session_track_system_variables = '', session_track_schema = 1",
            "SET session_track_schema = 0, session_track_schema = 1",
            "DO 0",
        ] {
            let told = ways.each_ref().map(|way| {
                let mut client = Client::connect_with(way, SESSION_TRACK).expect("a login");
                ask(&mut client, form, wants);
                let changes = ["USE dutch", "SET sql_notes = 0", "SET time_zone = '+01:00'"];
                changes.map(|sql| {
                    ask(&mut other, Form::Text, "SELECT 1");
                    let answer = client.query_one(sql).expect("an OK");
                    answer.status & STATE_CHANGED != 0
                })
            });
            assert_eq!(told[1], told[0], "{form:?} {wants}");
        }
    }
}

#[test]
fn trackers_that_cannot_be_set_back_keep_their_connection_and_their_errors() {
    let scene = Scene::new(2, CHARSETS);
    let (mut own, mut other) = (scene.client(true), scene.client(true));
    for form in Form::ALL {
        let unknown = "SET session_track_system_variables = 'nosuch'";
        assert_eq!(fails(&mut own, form, unknown), 1193);
        let wrong = "SET time_zone = '+02:00', session_track_schema = 5";
        assert_eq!(fails(&mut own, form, wrong), 1231);
        for list in [
            "SET session_track_transaction_info = 'STATE'",
            "SET session_track_system_variables = CONCAT('sql', '_mode')",
        ] {
            let before = ask(&mut other, form, STATE);
            ask(&mut own, form, list);
            ask(&mut own, form, "SET time_zone = '+07:00'");
            assert_eq!(ask(&mut other, form, STATE), before, "{list}");
            assert_eq!(
                ask(&mut own, form, "SELECT @@time_zone"),
                "+07:00",
                "{list}"
            );
            own.reset().expect("an OK");
        }
    }
}
