//! What a session's first packets tell holds: the status flags of a login's and a reset's OK are those of a direct
//! session, on a server of either family, and what a reset undoes is undone when its OK comes.

use std::time::Duration;

use crate::support::{Client, Gateway, Kind, Login, Options, Server, Shape};
use crate::{Form, Scene, ask};

/// Longer than a changed global may stay unknown to sessions that begin.
const UNTIL_KNOWN: Duration = Duration::from_millis(1_050);

const COM_PING: u8 = 14;
const COM_STMT_PREPARE: u8 = 22;
const COM_RESET_CONNECTION: u8 = 31;

const AUTOCOMMIT: u16 = 2;
const NO_BACKSLASH_ESCAPES: u16 = 0x200;
/// MariaDB's only.
const ANSI_QUOTES: u16 = 0x8000;
const SETTINGS: u16 = AUTOCOMMIT | NO_BACKSLASH_ESCAPES | ANSI_QUOTES;

const GLOBALS: &[&str] = &[
    "sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "autocommit = 0",
    "autocommit = 1",
    "sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "sql_mode = 'ANSI_QUOTES'",
    "sql_mode = DEFAULT",
];

fn on_each(check: impl Fn(&Scene)) {
    check(&Scene::before(Server::start(options("")), 2, ""));
    if let Some(server) = Server::mysql(options("")) {
        check(&Scene::before(server, 2, ""));
    }
}

fn options(sql: &str) -> Options {
    Options::with_test_schema(sql)
}

/// What a session is told from its login on, ahead of any statement and behind some.
fn told(login: &Login) -> Vec<(&'static str, u16)> {
    let mut client = Client::connect(login).expect("a login");
    let mut told = vec![("login", client.login_status)];
    let mut run = |name, client: &mut Client, command, body: &[u8]| {
        let answer = client.run_raw(command, body);
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        told.push((name, answer.status));
    };
    run("ping", &mut client, COM_PING, b"");
    run("reset", &mut client, COM_RESET_CONNECTION, b"");
    run("ping behind a reset", &mut client, COM_PING, b"");
    // Of a prepared statement without parameters and rows, the OK has no flags.
    let packets = client.packets(COM_STMT_PREPARE, b"SELECT ?");
    let last = packets.expect("a statement").pop().expect("a packet").1;
    if let [0xfe, _, _, low, high] = *last {
        told.push(("prepare", u16::from_le_bytes([low, high])));
    }
    let other = "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', autocommit = 0";
    client.query_one(other).expect("an OK");
    let mut run = |name, client: &mut Client, command, body: &[u8]| {
        let answer = client.run_raw(command, body);
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        told.push((name, answer.status));
    };
    run("ping behind SET", &mut client, COM_PING, b"");
    run("reset of SET", &mut client, COM_RESET_CONNECTION, b"");
    let _ = client.query_one("BEGIN").expect("an OK");
    run("reset of BEGIN", &mut client, COM_RESET_CONNECTION, b"");
    run("ping at last", &mut client, COM_PING, b"");
    told.iter()
        .map(|(name, status)| (*name, status & SETTINGS))
        .collect()
}

#[test]
fn each_ok_tells_the_settings_that_a_direct_one_tells() {
    on_each(|scene| {
        for global in [&["sql_mode = DEFAULT"], GLOBALS].concat() {
            scene.server.sql(&format!("SET GLOBAL {global}"));
            std::thread::sleep(UNTIL_KNOWN);
            for deprecate_eof in [true, false] {
                for schema in ["", "test"] {
                    let as_here = |login: Login| Login {
                        schema: schema.to_owned(),
                        deprecate_eof,
                        ..login
                    };
                    let direct = told(&as_here(scene.direct_login()));
                    let through = told(&as_here(scene.gateway.login()));
                    let shown = format!("{global}, {deprecate_eof}, schema {schema:?}");
                    // MySQL tells AUTOCOMMIT to sessions that begin without it.
                    let is_wrong = scene.server.kind() == Kind::MySql && global.ends_with("= 0");
                    let [direct, through] = [direct, through].map(|told| {
                        let flags = |flags: u16| if is_wrong { flags & !AUTOCOMMIT } else { flags };
                        let told = told.into_iter().map(|(name, told)| (name, flags(told)));
                        told.collect::<Vec<_>>()
                    });
                    assert_eq!(through, direct, "{shown}\n{}", scene.gateway.log());
                }
            }
        }
    });
}

/// The first client of a node is told too, be it one that never says a word.
#[test]
fn so_does_the_first_one_of_a_node() {
    let options = |mode: &str| Options {
        arguments: vec![format!("--sql-mode={mode}")],
        ..options("")
    };
    let servers = [
        Some(Server::start(options("NO_BACKSLASH_ESCAPES"))),
        Server::mysql(options("NO_BACKSLASH_ESCAPES")),
    ];
    for server in servers.into_iter().flatten() {
        let scene = Scene::before(server, 2, "");
        let client = Client::connect(&scene.gateway.login()).expect("a login");
        let flag = client.login_status & NO_BACKSLASH_ESCAPES;
        assert_eq!(flag, NO_BACKSLASH_ESCAPES, "{}", scene.gateway.log());
    }
}

/// A client logs in while its server is away, which then comes with these modes.
fn client_of_one_that_comes_later(mode: &str) -> (Client, Server, Gateway) {
    let mut server = Server::start(Options {
        arguments: vec![format!("--sql-mode={mode}")],
        ..options("")
    });
    server.kill9();
    let extra = "[deadlines]\npool_wait = \"20s\"\n";
    let shape = Shape {
        budget: 2,
        extra,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let client = Client::connect(&gateway.login()).expect("a login");
    assert_eq!(client.login_status & SETTINGS, AUTOCOMMIT);
    server.restart();
    (client, server, gateway)
}

/// Its strings would be read in another way than it was told.
#[test]
fn a_session_that_was_told_otherwise_goes_no_further() {
    let (mut client, _server, gateway) = client_of_one_that_comes_later("NO_BACKSLASH_ESCAPES");
    let error = client.query_one("SELECT 'it\\'s'").expect_err("an error");
    assert_eq!(error.errno(), 1053, "{error}");
    assert!(error.to_string().contains("mode_untold"), "{error}");
    assert!(client.is_ended_within(Duration::from_secs(5)));
    let mut next = Client::connect(&gateway.login()).expect("a login");
    assert_eq!(
        next.login_status & SETTINGS,
        AUTOCOMMIT | NO_BACKSLASH_ESCAPES
    );
    assert_eq!(ask(&mut next, Form::Text, "SELECT 'it''s \\'"), "it's \\");
}

/// What it was told makes no difference to how it quotes; its text is read as the server reads it.
#[test]
fn another_mode_than_it_was_told_is_followed() {
    let (mut client, _server, gateway) = client_of_one_that_comes_later("ANSI_QUOTES");
    let sql = "SELECT 1 AS \"\\\", GET_LOCK('hidden', 9) -- \"";
    let answer = client.query_one(sql).expect("two columns");
    assert_eq!(answer.text(0, 1).as_deref(), Some("1"), "{}", gateway.log());
    let leased = gateway.metric("ringgate_upstream_connections_leased", &[]);
    assert!(leased > 0.5, "{}", gateway.log());
}

#[test]
fn what_a_session_held_is_free_when_its_reset_is_answered() {
    const HELD: &[(&str, &str)] = &[
        ("DO GET_LOCK('held', 0)", "SELECT GET_LOCK('held', 0)"),
        (
            "UPDATE t SET n = n + 1",
            "SELECT COUNT(*) FROM t FOR UPDATE",
        ),
        ("LOCK TABLES t WRITE", "SELECT 1 FROM t"),
    ];
    let sql = "CREATE TABLE test.t (n INT) ENGINE=InnoDB;\nINSERT INTO test.t VALUES (0);\n\
        SET GLOBAL innodb_lock_wait_timeout = 1;\nSET GLOBAL lock_wait_timeout = 1;\n";
    let servers = [
        Some(Server::start(options(sql))),
        Server::mysql(options(sql)),
    ];
    for server in servers.into_iter().flatten() {
        let scene = Scene::before(server, 4, "");
        let mut client = scene.client(true);
        for (holds, needs) in HELD {
            for _ in 0..20 {
                let mut direct = scene.direct();
                ask(&mut client, Form::Text, "BEGIN");
                ask(&mut client, Form::Text, holds);
                client.reset().expect("an OK");
                // It would wait for a second, or get 0.
                let answer = direct.query_one(needs);
                let answer = answer.unwrap_or_else(|error| panic!("{holds}: {error}"));
                assert_eq!(answer.text(0, 0).as_deref(), Some("1"), "{holds}");
                // A server goes on with what it held for a little after its end.
                direct.reset().expect("an OK");
                direct.quit().expect("an end");
            }
        }
    }
}
