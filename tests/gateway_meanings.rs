//! A prepared statement means what it meant under the settings of its PREPARE, whoever else prepared
//! the same bytes, whatever its session has set since, and on every connection.

#![allow(clippy::expect_used, reason = "a test that prints its figures")]

mod support;

use support::{ACCOUNT, Answer, Client, ClientError, Gateway, Login, MariaDb, PASSWORD, Shape};

/// CLIENT_MULTI_STATEMENTS.
const MULTI_STATEMENTS: u32 = 1 << 16;

/// Two ways to set a session up, and a text that means two things then.
struct Case {
    ways: [&'static str; 2],
    text: &'static str,
}

const fn case(ways: [&'static str; 2], text: &'static str) -> Case {
    Case { ways, text }
}

const MODES: [&str; 2] = ["SET sql_mode = 'ANSI_QUOTES'", "SET sql_mode = ''"];

const READS: &[Case] = &[
    case(MODES, "SELECT \"a\" FROM t"),
    case(MODES, "SELECT LENGTH(\"aa\") FROM (SELECT 1 AS aa) AS d"),
    case(
        ["SET sql_mode = 'PIPES_AS_CONCAT'", "SET sql_mode = ''"],
        "SELECT CONCAT('', '1' || '0')",
    ),
    case(
        ["SET sql_mode = 'NO_BACKSLASH_ESCAPES'", "SET sql_mode = ''"],
        "SELECT LENGTH('\\n')",
    ),
    case(
        ["SET sql_mode = 'HIGH_NOT_PRECEDENCE'", "SET sql_mode = ''"],
        "SELECT NOT 1 BETWEEN -5 AND 5",
    ),
    case(
        ["SET sql_mode = 'ANSI'", "SET sql_mode = DEFAULT"],
        "SELECT 'a' || 'b'",
    ),
    case(
        ["SET sql_mode = 'IGNORE_SPACE'", "SET sql_mode = ''"],
        "SELECT curdate () = CURDATE()",
    ),
    case(
        ["SET NAMES latin1", "SET NAMES utf8mb4"],
        "SELECT CHAR_LENGTH('é'), HEX(CONVERT('é' USING utf8mb4))",
    ),
    case(
        [
            "SET character_set_client = latin1",
            "SET character_set_client = utf8mb4",
        ],
        "SELECT HEX(CONVERT('é' USING utf8mb4))",
    ),
    case(
        [
            "SET collation_connection = utf8mb4_bin",
            "SET collation_connection = utf8mb4_general_ci",
        ],
        "SELECT 'a' = 'A', COLLATION('x')",
    ),
    case(
        ["SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET NAMES utf8mb4"],
        "SELECT 'a' LIKE 'A'",
    ),
    case(
        ["SET old_mode = 'UTF8_IS_UTF8MB3'", "SET old_mode = ''"],
        "SELECT CHARSET(CONVERT('a' USING utf8))",
    ),
    case(["USE other", "USE test"], "SELECT a, DATABASE() FROM t"),
    // What is not taken at PREPARE: as the session is now.
    case(
        ["SET time_zone = '+01:00'", "SET time_zone = '+05:00'"],
        "SELECT CONCAT(FROM_UNIXTIME(0))",
    ),
    case(
        [
            "SET group_concat_max_len = 4",
            "SET group_concat_max_len = 9",
        ],
        "SELECT GROUP_CONCAT('aaaaa', 'bbbbb')",
    ),
    case(
        [
            "SET div_precision_increment = 0",
            "SET div_precision_increment = 9",
        ],
        "SELECT CONCAT(1 / 3)",
    ),
];

fn pair(budget: u32) -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema(
        "CREATE DATABASE IF NOT EXISTS other;\n\
         CREATE OR REPLACE TABLE test.t (a INT);\n\
         INSERT INTO test.t VALUES (7);\n\
         CREATE OR REPLACE TABLE other.t (a INT);\n\
         INSERT INTO other.t VALUES (8);",
    );
    let shape = Shape {
        budget,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    (server, gateway)
}

/// Rows, or the error number.
fn seen(result: Result<Answer, ClientError>) -> String {
    match result {
        Ok(answer) => {
            let text = |value: &Option<Vec<u8>>| {
                value
                    .as_ref()
                    .map(|v| String::from_utf8_lossy(v).into_owned())
            };
            let rows = answer
                .rows
                .iter()
                .map(|row| row.iter().map(text).collect::<Vec<_>>());
            format!("{} {:?}", answer.affected, rows.collect::<Vec<_>>())
        }
        Err(error) if error.errno() != 0 => format!("error {}", error.errno()),
        Err(error) => panic!("{error}"),
    }
}

fn direct(server: &MariaDb) -> Client {
    let mut client = server.client();
    client.query("USE test").expect("a schema");
    client
}

/// What a session of its own sees: as it prepares, after it has changed over, and again.
fn turns(client: &mut Client, first: &str, then: &str, text: &str) -> Vec<String> {
    let mut all = Vec::new();
    client.query(first).expect(first);
    let statement = match client.prepare(text) {
        Ok(statement) => statement,
        Err(error) => return vec![format!("no statement, {}", error.errno())],
    };
    all.push(seen(client.execute(statement, &[])));
    client.query(then).expect(then);
    all.push(seen(client.execute(statement, &[])));
    all
}

#[test]
fn two_sessions_with_the_same_bytes_get_their_own_meaning() {
    let (server, gateway) = pair(1);
    for Case { ways, text } in READS {
        for order in [[0, 1], [1, 0]] {
            let mut clients = order.map(|way| (gateway.client(), ways[way]));
            let expect = order.map(|way| {
                let mut client = direct(&server);
                client.query(ways[way]).expect(ways[way]);
                let prepared = client.prepare(text);
                seen(prepared.and_then(|statement| client.execute(statement, &[])))
            });
            let statements: Vec<_> = clients
                .iter_mut()
                .map(|(client, way)| {
                    client.query(way).expect(way);
                    client.prepare(text)
                })
                .collect();
            for _ in 0..2 {
                for (at, statement) in statements.iter().enumerate() {
                    let Ok(statement) = statement else { continue };
                    let (client, way) = &mut clients[at];
                    let got = seen(client.execute(*statement, &[]));
                    assert_eq!(got, expect[at], "{way}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_statement_keeps_its_meaning_when_its_session_changes_and_moves() {
    let (server, gateway) = pair(2);
    for Case { ways, text } in READS {
        for (first, then) in [(ways[0], ways[1]), (ways[1], ways[0])] {
            let expect = turns(&mut direct(&server), first, then, text);
            let mut client = gateway.client();
            client.query(first).expect(first);
            let Ok(statement) = client.prepare(text) else {
                continue;
            };
            let mut got = vec![seen(client.execute(statement, &[]))];
            client.query(then).expect(then);
            // The other connection, which may have the text with the other meaning.
            let mut crowd = gateway.client();
            crowd.query("BEGIN").expect("a transaction");
            let mut other = gateway.client();
            other.query(then).expect(then);
            drop(other.prepare(text));
            got.push(seen(client.execute(statement, &[])));
            assert_eq!(got, expect, "{first}, {then}: {text}");
            // What the session has set now holds again for its texts.
            client.query("SELECT 1").expect("an answer");
            crowd.query("COMMIT").expect("done");
            assert_eq!(seen(client.execute(statement, &[])), expect[1], "{text}");
        }
    }
}

#[test]
fn rows_are_changed_as_the_session_that_prepared_meant_it() {
    let (server, gateway) = pair(1);
    let table = || {
        server.sql(
            "CREATE OR REPLACE TABLE test.n (name VARCHAR(9)); INSERT INTO test.n VALUES ('a'), ('b')",
        );
    };
    let delete = "DELETE FROM n WHERE name = \"name\"";
    let insert = "INSERT INTO n SELECT CONVERT('é' USING utf8mb4)";
    for order in [[0, 1], [1, 0]] {
        table();
        let mut clients = order.map(|way| {
            let mut client = gateway.client();
            client.query(MODES[way]).expect("a mode");
            let statement = client.prepare(delete).expect("prepared");
            (client, statement, way)
        });
        for (client, statement, way) in &mut clients {
            table();
            let answer = client.execute(*statement, &[]).expect("done");
            assert_eq!(answer.affected, if *way == 0 { 2 } else { 0 }, "{order:?}");
        }
        table();
        let mut clients = ["SET NAMES latin1", "SET NAMES utf8mb4"].map(|names| {
            let mut client = gateway.client();
            client.query(names).expect("names");
            let statement = client.prepare(insert).expect("prepared");
            (client, statement)
        });
        for at in order {
            let (client, statement) = &mut clients[at];
            client.execute(*statement, &[]).expect("done");
            let hex = server.sql("SELECT HEX(name) FROM test.n WHERE name NOT IN ('a', 'b')");
            assert_eq!(hex.trim(), ["C383C2A9", "C3A9"][at]);
            table();
        }
    }
}

#[test]
fn a_parameter_is_in_the_character_set_of_now() {
    let (server, gateway) = pair(2);
    let text = "SELECT HEX(CONVERT(? USING utf8mb4))";
    let run = |client: &mut Client, gateway: Option<&Gateway>| {
        client.query("SET NAMES latin1").expect("names");
        let statement = client.prepare(text).expect("prepared");
        let mut all = vec![seen(client.execute(statement, &[b"\xe9"]))];
        client.query("SET NAMES utf8mb4").expect("names");
        let crowd = gateway.map(|gateway| {
            let mut crowd = gateway.client();
            crowd.query("BEGIN").expect("a transaction");
            crowd
        });
        all.push(seen(client.execute(statement, &["é".as_bytes()])));
        drop(crowd);
        all
    };
    let expect = run(&mut direct(&server), None);
    assert_eq!(run(&mut gateway.client(), Some(&gateway)), expect);
}

/// What gives the session a collation that no text in sight tells, and no report of the server's.
const UNTOLD: &[&str] = &[
    "CALL danish()",
    "EXECUTE IMMEDIATE 'SET NAMES latin1 COLLATE latin1_danish_ci'",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET @u = 1, NAMES latin1 COLLATE latin1_danish_ci",
    "SET NAMES utf8mb4; SET character_set_connection = latin1; SET NAMES latin1 COLLATE latin1_bin",
];

/// What a statement was prepared under before.
const EARLIER: &[&str] = &[
    "SET sql_mode = 'ANSI_QUOTES'",
    "SET NAMES utf8mb4",
    "SET NAMES latin1",
    "SET NAMES latin1 COLLATE latin1_german1_ci",
    "SET old_mode = ''",
    "USE other",
];

/// All that a PREPARE under other settings has to move there and back, and its neighbours.
const STATE: &str = "SELECT CONCAT_WS('|', @@collation_connection, @@character_set_connection, \
     @@character_set_client, @@character_set_results, @@sql_mode, @@old_mode, @@time_zone, \
     IFNULL(DATABASE(), 'none'))";

/// What a session sees whose collation is untold, of statements prepared before that and behind it.
/// `between` is called where another connection may come into it.
fn untold(
    client: &mut Client,
    earlier: &str,
    untold: &str,
    mut between: impl FnMut(),
) -> Vec<String> {
    const READS: &str = "SELECT COLLATION('x'), 'a' = 'A', DATABASE()";
    let mut all = Vec::new();
    let ask = |client: &mut Client, sql: &str| seen(client.query_one(sql));
    client.query(earlier).expect(earlier);
    let first = client.prepare(READS).expect("prepared");
    client
        .query("SET sql_mode = DEFAULT, time_zone = '+02:00', character_set_results = NULL")
        .expect("settings");
    client.query("USE test").expect("a schema");
    between();
    client.query(untold).expect(untold);
    all.push(ask(client, STATE));
    all.push(seen(client.execute(first, &[])));
    all.push(ask(client, STATE));
    let second = client.prepare(READS).expect("prepared");
    client
        .query("SET sql_mode = 'ANSI_QUOTES'")
        .expect("a mode");
    all.push(seen(client.execute(second, &[])));
    for statement in [second, first] {
        all.push(seen(client.execute(statement, &[])));
        all.push(ask(client, STATE));
    }
    all
}

#[test]
fn a_collation_that_nothing_tells_outlives_what_is_prepared_behind_it() {
    let (server, gateway) = pair(2);
    server
        .sql("CREATE OR REPLACE PROCEDURE test.danish() SET NAMES latin1 COLLATE latin1_danish_ci");
    let several = |login: Login| {
        let login = Login {
            schema: "test".to_owned(),
            ..login
        };
        Client::connect_with(&login, MULTI_STATEMENTS).expect("a login")
    };
    let directly = || Login {
        port: server.port(),
        user: ACCOUNT.to_owned(),
        password: PASSWORD.to_owned(),
        ..gateway.login()
    };
    for sql in UNTOLD {
        for earlier in EARLIER {
            let expect = untold(&mut several(directly()), earlier, sql, || ());
            let mut crowd = several(gateway.login());
            let got = untold(&mut several(gateway.login()), earlier, sql, || {
                crowd.query("BEGIN").expect("a transaction");
            });
            assert_eq!(got, expect, "{earlier}; {sql}");
        }
    }
}
