//! What a client asks of its connection beside statements, as on a server: several statements in one
//! text, the collation of its login, and cursors, whatever flags a procedure leaves.

#![allow(clippy::expect_used, reason = "a test that prints its figures")]

mod support;

use std::io::Read;

use support::{
    Answer, Client, ClientError, Gateway, Login, MariaDb, Options, Server, Shape, Statement,
};

const SEVERAL: u16 = 0;
const ONE: u16 = 1;
const MULTI_STATEMENTS: u32 = 1 << 16;

fn pair(budget: u32) -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema("CREATE OR REPLACE TABLE test.t (a INT);");
    let shape = Shape {
        budget,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

fn direct(port: u16) -> Login {
    Login {
        port,
        user: support::ACCOUNT.to_owned(),
        password: support::PASSWORD.to_owned(),
        schema: "test".to_owned(),
        deprecate_eof: true,
    }
}

/// Whether two statements in one text are taken; if not, neither is run.
fn takes_several(client: &mut Client, server: &MariaDb) -> bool {
    let result = client.query("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)");
    let rows = server.sql("SELECT COUNT(*) FROM test.t");
    client.query("DELETE FROM t").expect("done");
    match result {
        Ok(answers) => {
            assert_eq!(answers.len(), 2);
            true
        }
        Err(error) => {
            assert_eq!((error.errno(), rows.trim()), (1064, "0"), "{error}");
            false
        }
    }
}

#[test]
fn several_statements_are_for_who_asked_for_them() {
    let (server, gateway) = pair(1);
    for deprecate_eof in [false, true] {
        let login = Login {
            deprecate_eof,
            ..gateway.login()
        };
        let mut asks = Client::connect(&login).expect("a login");
        let mut other = Client::connect(&login).expect("a login");
        let mut born = Client::connect_with(&login, MULTI_STATEMENTS).expect("a login");
        for _ in 0..2 {
            assert!(!takes_several(&mut asks, &server));
            asks.set_option(ONE).expect("as it is");
            assert!(!takes_several(&mut asks, &server));
            asks.set_option(SEVERAL).expect("on");
            asks.set_option(SEVERAL).expect("as it is");
            assert!(takes_several(&mut asks, &server));
            // The only connection goes from one to the other and back.
            assert!(!takes_several(&mut other, &server));
            assert!(takes_several(&mut born, &server));
            assert!(takes_several(&mut asks, &server));
            asks.reset().expect("a reset");
            assert!(takes_several(&mut asks, &server), "as on a server");
            asks.set_option(ONE).expect("off");
            assert!(!takes_several(&mut asks, &server));
        }
        born.set_option(ONE).expect("off");
        assert!(!takes_several(&mut born, &server));
    }
}

#[test]
fn a_pinned_session_changes_its_own_connection_and_no_other_session_has_what_it_asked_for() {
    let (server, gateway) = pair(1);
    for deprecate_eof in [false, true] {
        let login = Login {
            deprecate_eof,
            ..gateway.login()
        };
        let mut client = Client::connect(&login).expect("a login");
        client.query("BEGIN").expect("a transaction");
        client.query("INSERT INTO t VALUES (5)").expect("a row");
        client.set_option(SEVERAL).expect("on");
        let answers = client.query("INSERT INTO t VALUES (6); SELECT COUNT(*) FROM t");
        let answers = answers.expect("two statements of the transaction");
        assert_eq!(answers[1].text(0, 0).as_deref(), Some("2"));
        client.query("COMMIT").expect("done");
        let mut other = Client::connect(&login).expect("a login");
        let several = other.query("SELECT 1; DELETE FROM t");
        assert_eq!(several.expect_err("one is allowed").errno(), 1064);
        assert_eq!(server.sql("SELECT COUNT(*) FROM test.t").trim(), "2");
        assert!(takes_several(&mut client, &server));
        client.query("BEGIN").expect("a transaction");
        client.set_option(ONE).expect("off");
        client.set_option(SEVERAL).expect("on");
        client.set_option(ONE).expect("off");
        client.query("COMMIT").expect("done");
        assert!(!takes_several(&mut client, &server));
    }
}

/// A client of the gateway's and a direct one get the same.
fn both_see(pair: &mut [Client; 2], sql: &str, shown: &str) {
    let [through, direct] = pair.each_mut().map(|client| {
        let answers = client.query(sql).map_err(|error| error.errno())?;
        Ok::<_, u16>(values(&answers))
    });
    assert_eq!(through, direct, "{shown} {sql}");
}

/// A server decides before it runs a procedure whether its client could take what it gives: a connection that takes
/// several results is no good for a client that does not know them.
#[test]
fn a_procedure_is_called_as_its_client_may() {
    const MULTI_RESULTS: u32 = 1 << 17;
    const PS_MULTI_RESULTS: u32 = 1 << 18;
    let procedures = "CREATE OR REPLACE TABLE test.t (a INT);\n\
        CREATE PROCEDURE test.gives() SELECT 1;\nCREATE PROCEDURE test.writes() INSERT INTO t VALUES (1);\n\
        CREATE PROCEDURE test.tells(OUT o INT) SET o = 7;";
    let server = MariaDb::with_test_schema(procedures);
    let shape = Shape {
        // A session that has called something keeps its connection.
        budget: 4,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let known = [
        0,
        MULTI_RESULTS,
        PS_MULTI_RESULTS,
        MULTI_RESULTS | PS_MULTI_RESULTS,
    ];
    let mut pairs = known.map(|less| {
        [gateway.login(), direct(server.port())]
            .map(|login| Client::connect_without(&login, less).expect("a login"))
    });
    for _ in 0..2 {
        for (pair, less) in pairs.iter_mut().zip(known) {
            for sql in [
                "CALL gives()",
                "CALL writes()",
                "SELECT COUNT(*) > 0 FROM t",
            ] {
                both_see(pair, sql, &format!("without {less:#x}"));
            }
            let told = pair.each_mut().map(|client| {
                let statement = client.prepare("CALL tells(?)").expect("prepared");
                let answer = client
                    .execute(statement, &[b"1"])
                    .map_err(|error| error.errno());
                client.close_statement(statement).expect("closed");
                answer.map(|answer| values(&[answer]))
            });
            let [through, direct] = told;
            assert_eq!(through, direct, "without {less:#x}");
        }
    }
    // What was told directly is what was to be told apart.
    let mut without =
        Client::connect_without(&direct(server.port()), MULTI_RESULTS).expect("a login");
    let error = without.query("CALL gives()").expect_err("no rows for it");
    assert_eq!(error.errno(), 1312, "{error}");
}

/// What a session agreed on goes with it: those who agreed on this and that share connections.
#[test]
fn what_is_agreed_on_moves_with_its_session() {
    const IGNORE_SPACE: u32 = 1 << 8;
    const INTERACTIVE: u32 = 1 << 10;
    let flags = [0, MULTI_STATEMENTS, IGNORE_SPACE, INTERACTIVE];
    let flags = flags.into_iter().chain([flags.iter().sum()]);
    let servers = [
        Some(Server::start(Options::with_test_schema(""))),
        Server::mysql(Options::with_test_schema("")),
    ];
    for server in servers.into_iter().flatten() {
        server.sql("SET GLOBAL interactive_timeout = 777, wait_timeout = 888;");
        server.sql("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_ZERO_DATE';");
        server.sql("CREATE TABLE test.t (a INT);");
        let gateway = Gateway::in_shape(server.port(), &Shape::default());
        let logins = [gateway.login(), direct(server.port())];
        let mut clients: Vec<[Client; 2]> = flags
            .clone()
            .map(|flags| {
                logins
                    .each_ref()
                    .map(|login| Client::connect_with(login, flags).expect("a login"))
            })
            .collect();
        for turn in 0..20 {
            for (pair, flags) in clients.iter_mut().zip(flags.clone()) {
                let shown = format!("{flags:#x} {turn}");
                for sql in [
                    "SELECT CONCAT_WS(' ', @@sql_mode, @@wait_timeout, @@interactive_timeout)",
                    "SELECT COUNT (*) FROM t",
                    "SELECT 1; SELECT 2",
                    "INSERT INTO t VALUES (1), (2)",
                    "SELECT ROW_COUNT(); SELECT 3",
                    "SELECT 4 ; ",
                ] {
                    both_see(pair, sql, &shown);
                }
                for client in pair.iter_mut() {
                    let option = if turn % 2 == 0 { SEVERAL } else { ONE };
                    client.set_option(option).expect("as it is told");
                }
                both_see(pair, "SELECT ROW_COUNT()", &shown);
                both_see(pair, "SELECT 5; SELECT 6", &shown);
            }
            if turn == 10 {
                let all = clients.iter_mut().flatten();
                all.for_each(|client| client.reset().expect("a reset"));
            }
        }
        let connects = gateway.metric("ringgate_upstream_connects_total", &[]);
        assert!(connects < 1.5, "{connects}\n{}", gateway.metrics());
    }
}

/// Whatever a session is at, the answer tells of its transaction and settings what a server tells.
#[test]
fn an_option_is_answered_with_the_flags_of_a_server() {
    const FLAGS: u16 = 0x1 | 0x2 | 0x200 | 0x8000;
    let table = "CREATE TABLE test.t (a INT PRIMARY KEY); INSERT INTO test.t VALUES (1);";
    let options = || Options::with_test_schema(table);
    let servers = [Some(Server::start(options())), Server::mysql(options())];
    for server in servers.into_iter().flatten() {
        let gateway = Gateway::in_shape(server.port(), &Shape::default());
        for deprecate_eof in [false, true] {
            let logins = [gateway.login(), direct(server.port())].map(|login| Login {
                deprecate_eof,
                ..login
            });
            let mut pair = logins.map(|login| Client::connect(&login).expect("a login"));
            for sql in [
                "SELECT 1",
                "SET autocommit = 0",
                "SELECT * FROM nosuch",
                // It has begun a transaction, of which its error tells nothing.
                "INSERT INTO t VALUES (1)",
                "COMMIT",
                "SELECT * FROM t",
                "SELECT * FROM nosuch",
                "COMMIT",
                "SET autocommit = 1, sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'",
                "BEGIN",
                "SELECT * FROM nosuch",
                "COMMIT",
            ] {
                both_see(&mut pair, sql, "text");
                for option in [SEVERAL, ONE] {
                    let told = pair
                        .each_mut()
                        .map(|client| client.set_option(option).expect("an answer") & FLAGS);
                    assert_eq!(told[0], told[1], "{sql}: {told:x?}");
                }
            }
            // This one keeps its connection.
            for client in &mut pair {
                let statement = client
                    .prepare("SELECT CONNECTION_ID() > 0")
                    .expect("a statement");
                client.execute(statement, &[]).expect("a row");
            }
            for option in [SEVERAL, ONE, SEVERAL] {
                let told = pair
                    .each_mut()
                    .map(|client| client.set_option(option).expect("an answer") & FLAGS);
                assert_eq!(told[0], told[1], "kept: {told:x?}");
                both_see(&mut pair, "SELECT ROW_COUNT()", "kept");
                both_see(&mut pair, "SELECT 5; SELECT 6", "kept");
            }
        }
    }
}

/// A text that may be several, and is none or is long, behind whatever the connection was last told.
#[test]
fn what_only_looks_like_several_statements_runs_as_directly() {
    let (server, gateway) = pair(1);
    let pad = "x".repeat(100_000);
    let long = format!("SELECT LENGTH('{pad}'); SELECT 'a;b'");
    let long_one = format!("SELECT CONCAT(LENGTH('{pad}'), 'a;b')");
    let texts = [
        "INSERT INTO t VALUES (CHAR_LENGTH('a;b'))",
        "SELECT COUNT(*) FROM t",
        "SELECT CAST('1;2' AS INT)",
        "SHOW WARNINGS",
        "SELECT CAST('1;2' AS INT);",
        "SHOW WARNINGS /* ; */",
        "SELECT 'a;b'; DO 0",
        &long_one,
        &long,
    ];
    let capabilities = [0, MULTI_STATEMENTS];
    let mut pairs = capabilities.map(|capabilities| {
        [gateway.login(), direct(server.port())]
            .map(|login| Client::connect_with(&login, capabilities).expect("a login"))
    });
    for sql in texts {
        // The only connection goes from those who take one to those who take several, and back.
        for _ in 0..2 {
            for (pair, capabilities) in pairs.iter_mut().zip(capabilities) {
                both_see(pair, sql, &format!("{capabilities:#x}"));
            }
        }
    }
}

#[test]
fn an_option_that_there_is_none_of_is_refused_as_directly() {
    let (server, gateway) = pair(1);
    for login in [direct(server.port()), gateway.login()] {
        let mut client = Client::connect(&login).expect("a login");
        for option in [2, 5, 0xffff] {
            let error = client.set_option(option).expect_err("no such option");
            assert_eq!(error.errno(), 1047, "{option}");
        }
        assert!(!takes_several(&mut client, &server));
    }
}

#[test]
fn a_login_in_any_collation_is_as_directly() {
    let (server, gateway) = pair(1);
    let state = "SELECT @@character_set_client, @@character_set_connection, \
                 @@character_set_results, @@collation_connection";
    let seen = |login: &Login, collation| match Client::connect_in(login, collation) {
        Ok(mut client) => Ok(client.query_one(state).expect("a row").rows),
        Err(ClientError::Server { errno, state, text }) => Err((errno, state, text)),
        // An ERR in place of the login's OK.
        Err(error) => Err((0, String::new(), error.to_string())),
    };
    let direct = direct(server.port());
    for collation in 0..=u8::MAX {
        let [expect, got] = [&direct, &gateway.login()].map(|login| seen(login, collation));
        assert_eq!(got, expect, "{collation}");
    }
}

/// Programs that leave CURSOR_EXISTS in the status, and a table for cursors.
fn programs(server: &MariaDb) {
    let walk = "DECLARE x INT; DECLARE c CURSOR FOR SELECT 1; OPEN c; FETCH c INTO x;";
    server.run(&[
        format!("CREATE PROCEDURE test.closed() BEGIN {walk} CLOSE c; SELECT x; END"),
        format!("CREATE PROCEDURE test.open() BEGIN {walk} SELECT x; END"),
        format!("CREATE PROCEDURE test.twice() BEGIN {walk} SELECT x; SELECT x + 1, 2; END"),
        format!("CREATE PROCEDURE test.silent() BEGIN {walk} CLOSE c; END"),
        format!("CREATE PROCEDURE test.nested() BEGIN {walk} CALL test.twice(); END"),
        format!("CREATE FUNCTION test.f() RETURNS INT BEGIN {walk} CLOSE c; RETURN x; END"),
        "INSERT INTO test.t VALUES (1), (2), (3)".to_owned(),
    ]);
}

fn values(answers: &[Answer]) -> Vec<Option<String>> {
    answers.iter().map(|answer| answer.text(0, 0)).collect()
}

#[test]
fn a_procedure_that_fetches_from_its_own_cursor_harms_nobody() {
    let (server, gateway) = pair(1);
    programs(&server);
    for deprecate_eof in [false, true] {
        let logins = [direct(server.port()), gateway.login()].map(|login| Login {
            deprecate_eof,
            ..login
        });
        for sql in [
            "CALL closed()",
            "CALL open()",
            "CALL twice()",
            "CALL silent()",
            "CALL nested()",
            "SELECT f()",
            "SELECT f() FROM t",
        ] {
            let [expect, got] = [0, 1].map(|at| {
                let mut client = Client::connect(&logins[at]).expect("a login");
                let text = values(&client.query(sql).expect(sql));
                let after = values(&client.query("SELECT 7").expect("an answer"));
                let statement = client.prepare(sql).expect(sql);
                let body = [&statement.id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat();
                let binary = client.run_all(0x17, &body).expect(sql);
                let binary = (binary.len(), values(&binary));
                client.query("SELECT 8").expect("an answer");
                client.close_statement(statement).expect("a write");
                (text, after, binary)
            });
            assert_eq!(got, expect, "{sql} {deprecate_eof}");
        }
    }
    let pins = gateway.metric("ringgate_pins_total", &["reason=\"cursor\""]);
    assert!(pins < 0.5, "nobody asked for a cursor");
}

const CURSOR: u8 = 1;

fn execute(client: &mut Client, statement: Statement, flags: u8) -> Answer {
    let body = [&statement.id.to_le_bytes()[..], &[flags, 1, 0, 0, 0]].concat();
    client.run_raw(0x17, &body).expect("an answer")
}

/// How many rows a FETCH of up to `count` gives, by their packets.
fn fetch(client: &mut Client, statement: Statement, count: u32) -> usize {
    let body = [
        &[9, 0, 0, 0, 0x1c][..],
        &statement.id.to_le_bytes(),
        &count.to_le_bytes(),
    ]
    .concat();
    client.send_raw(&body).expect("a write");
    for rows in 0.. {
        let mut header = [0; 4];
        client.stream().read_exact(&mut header).expect("a header");
        let mut payload = vec![0; usize::from(header[0])];
        client.stream().read_exact(&mut payload).expect("a packet");
        assert_ne!(payload.first(), Some(&0xff), "{payload:?}");
        if payload.first() == Some(&0xfe) {
            return rows;
        }
    }
    unreachable!("an endless answer")
}

#[test]
fn a_cursor_is_one_only_where_a_client_asks_for_it() {
    let (server, gateway) = pair(2);
    programs(&server);
    let pinned = || gateway.metric("ringgate_pins_total", &["reason=\"cursor\""]);
    let mut client = gateway.client();
    for sql in ["SELECT a FROM t", "SELECT f() FROM t"] {
        let before = pinned();
        let statement = client.prepare(sql).expect(sql);
        assert_eq!(execute(&mut client, statement, 0).rows.len(), 3);
        assert!(pinned() - before < 0.5, "no cursor yet");
        assert!(execute(&mut client, statement, CURSOR).rows.is_empty());
        assert_eq!(fetch(&mut client, statement, 2), 2);
        let mut crowd = gateway.client();
        crowd.query("BEGIN").expect("the other connection");
        assert_eq!(fetch(&mut client, statement, 2), 1);
        assert!(pinned() - before > 0.5, "it was pinned");
        client.close_statement(statement).expect("a write");
    }
    // What a procedure sends is no cursor, whoever asks for one.
    let statement = client.prepare("CALL silent()").expect("prepared");
    let before = pinned();
    execute(&mut client, statement, CURSOR);
    assert!(pinned() - before < 0.5);
}
