//! Clients with and without CLIENT_DEPRECATE_EOF share connections, and each is answered packet by packet as
//! its server answers it directly.

#![allow(clippy::expect_used, reason = "a test that prints its figures")]

mod support;

use support::{ACCOUNT, Client, Gateway, Login, Options, PASSWORD, Server, Shape};

const MULTI_STATEMENTS: u32 = 1 << 16;
const SESSION_TRACK: u32 = 1 << 23;

const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const FETCH: u8 = 0x1c;
const RESET: u8 = 0x1a;

/// Flags that an EOF ahead of rows may lack or have beside what a server says there: it is known only at
/// the rows' end whether more follow, whether an index was used, or a transaction began, and whether a
/// procedure has left the flag of a cursor of its own.
const KNOWN_LATER: u16 = 0x0001 | MORE_RESULTS | 0x0010 | 0x0020 | 0x0040 | 0x0800 | 0x2000;

const MORE_RESULTS: u16 = 0x0008;
/// MySQL says so, and that an OK follows, only ahead of the row and not behind it.
const OUT_PARAMS: u16 = 0x1000;

type Packets = Vec<(u8, Vec<u8>)>;

const PROGRAMS: &[&str] = &[
    "CREATE TABLE test.t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20))",
    "INSERT INTO test.t (a) VALUES ('x'), ('y'), (NULL)",
    "CREATE FUNCTION test.fails_at(x INT, at INT) RETURNS INT NO SQL BEGIN \
     IF x = at THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'here'; END IF; RETURN x; END",
    "CREATE PROCEDURE test.nothing() BEGIN END",
    "CREATE PROCEDURE test.two() BEGIN SELECT a FROM t; SELECT id, a FROM t WHERE id > 99; END",
    "CREATE PROCEDURE test.outs(IN i INT, OUT o INT, INOUT p VARCHAR(20)) \
     BEGIN SET o = i + 1; SET p = CONCAT(p, '!'); END",
    "CREATE PROCEDURE test.rows_and_outs(OUT o INT) BEGIN SELECT a FROM t; SET o = 5; END",
    "CREATE PROCEDURE test.one_row() BEGIN SELECT 1; END",
    "CREATE PROCEDURE test.fetches() BEGIN DECLARE x INT; DECLARE c CURSOR FOR SELECT id FROM t; \
     OPEN c; FETCH c INTO x; SELECT x; END",
    "CREATE PROCEDURE test.fails() BEGIN SELECT a FROM t; SIGNAL SQLSTATE '45000'; END",
];

/// A server with programs, and a gateway with one connection to it.
struct Scene {
    server: Server,
    gateway: Gateway,
}

impl Scene {
    fn of(server: Server) -> Self {
        let programs: Vec<_> = PROGRAMS.iter().map(|sql| (*sql).to_owned()).collect();
        server.run(&programs);
        let shape = Shape {
            budget: 1,
            ..Shape::default()
        };
        let gateway = Gateway::in_shape(server.port(), &shape);
        Self { server, gateway }
    }

    /// The same client, directly and through the gateway.
    fn pair(&self, knows_eofs: bool, capabilities: u32) -> [Client; 2] {
        let direct = Login {
            port: self.server.port(),
            user: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            schema: "test".to_owned(),
            deprecate_eof: !knows_eofs,
        };
        let through = Login {
            deprecate_eof: !knows_eofs,
            ..self.gateway.login()
        };
        [direct, through].map(|login| {
            Client::connect_with(&login, MULTI_STATEMENTS | capabilities).expect("a login")
        })
    }
}

fn options() -> Options {
    Options::with_test_schema("")
}

/// A definition names its character set by one of the set's collations: on MySQL by that of the login, or by
/// the server's own once the set was set.
fn settle_charset(definition: &mut [u8]) {
    let mut at = 0;
    for _ in 0..6 {
        at += 1 + usize::from(definition[at]);
    }
    let charset = &mut definition[at + 1..at + 3];
    if charset == [255, 0] {
        charset.copy_from_slice(&[45, 0]);
    }
}

/// Compares two replies: `what` was asked. Of an EOF behind definitions, what only the end can tell is
/// left out.
fn compare(what: &str, [direct, through]: [Packets; 2]) {
    let settle = |packets: Packets| {
        let (mut behind_definition, mut has_outs) = (false, false);
        let mut settled = Vec::new();
        let last = packets.len() - 1;
        for (index, (sequence, mut payload)) in packets.into_iter().enumerate() {
            let is_eof = payload.first() == Some(&0xfe) && payload.len() == 5;
            if is_eof && index < last {
                let mut flags = u16::from_le_bytes([payload[3], payload[4]]);
                if behind_definition {
                    flags &= !KNOWN_LATER;
                    has_outs = flags & OUT_PARAMS != 0;
                } else if has_outs {
                    flags &= !(OUT_PARAMS | MORE_RESULTS);
                }
                payload[3..5].copy_from_slice(&flags.to_le_bytes());
            }
            // Codes are the server's own, words need not be.
            if payload.first() == Some(&0xff) {
                payload.truncate(9);
            }
            behind_definition = payload.starts_with(b"\x03def");
            if behind_definition {
                settle_charset(&mut payload);
            }
            settled.push((sequence, payload));
        }
        settled
    };
    assert_eq!(settle(through), settle(direct), "{what}");
}

fn run(clients: &mut [Client; 2], what: &str, command: u8, bodies: [&[u8]; 2]) -> [Packets; 2] {
    let [direct, through] = clients;
    [(direct, bodies[0]), (through, bodies[1])].map(|(client, body)| {
        let packets = client.packets(command, body);
        packets.unwrap_or_else(|error| panic!("{what}: {error}"))
    })
}

fn in_text(clients: &mut [Client; 2], sql: &str) {
    let packets = run(clients, sql, 3, [sql.as_bytes(); 2]);
    compare(sql, packets);
}

/// The statement's number on each side; its id is the only thing in which the replies differ.
fn prepare(clients: &mut [Client; 2], sql: &str) -> [u32; 2] {
    let mut packets = run(clients, sql, PREPARE, [sql.as_bytes(); 2]);
    let ids = packets.each_mut().map(|packets| {
        let id: &mut [u8; 4] = packets[0].1[1..].first_chunk_mut().expect("an id");
        u32::from_le_bytes(std::mem::take(id))
    });
    compare(sql, packets);
    ids
}

/// Executes with these parameters as strings, with or without a cursor; FETCHes one by one.
fn in_binary(clients: &mut [Client; 2], sql: &str, parameters: &[&str], has_cursor: bool) {
    let ids = prepare(clients, sql);
    let bodies = ids.map(|id| {
        let mut body = id.to_le_bytes().to_vec();
        body.extend_from_slice(&[u8::from(has_cursor), 1, 0, 0, 0]);
        if !parameters.is_empty() {
            body.extend_from_slice(&[0, 1]);
            body.extend(parameters.iter().flat_map(|_| [253, 0]));
            for value in parameters {
                body.push(u8::try_from(value.len()).expect("short"));
                body.extend_from_slice(value.as_bytes());
            }
        }
        body
    });
    for _ in 0..2 {
        let packets = run(clients, sql, EXECUTE, [&bodies[0], &bodies[1]]);
        let status = packets[0].last().map(|(_, payload)| payload.clone());
        compare(sql, packets);
        let is_open = status.is_some_and(|payload| {
            payload.len() >= 5 && payload[0] == 0xfe && payload[3] & 0x40 != 0
        });
        for _ in 0..if has_cursor && is_open { 4 } else { 0 } {
            let bodies = ids.map(|id| [id.to_le_bytes(), 1_u32.to_le_bytes()].concat());
            let packets = run(clients, sql, FETCH, [&bodies[0], &bodies[1]]);
            compare(&format!("FETCH of {sql}"), packets);
        }
        let bodies = ids.map(u32::to_le_bytes);
        let packets = run(clients, sql, RESET, [&bodies[0], &bodies[1]]);
        compare(&format!("RESET of {sql}"), packets);
    }
}

fn every_reply_is_as_directly(scene: &Scene, knows_eofs: bool, capabilities: u32) {
    let mut clients = scene.pair(knows_eofs, capabilities);
    for sql in [
        "SELECT 1",
        "SELECT id, a FROM t ORDER BY id",
        "SELECT a FROM t WHERE id > 99",
        "SELECT test.fails_at(id, 2) FROM t ORDER BY id",
        "SELECT nothing_like_that",
        "SHOW TABLES",
        "SELECT CAST('x' AS SIGNED), CAST('y' AS SIGNED)",
        "SHOW WARNINGS",
        "UPDATE t SET a = 'z' WHERE id = 99",
        "BEGIN",
        "SELECT COUNT(*) FROM t LOCK IN SHARE MODE",
        "ROLLBACK",
        "SET autocommit = 0",
        "SELECT MAX(id) FROM t",
        "COMMIT",
        "SET autocommit = 1",
        "CALL nothing()",
        "CALL two()",
        "CALL fetches()",
        "CALL fails()",
        "SELECT 1; SELECT 2 FROM t WHERE id > 99; DO 0; SELECT 3",
        "SELECT 1; SELECT nothing_like_that",
        "USE test",
        "DELETE FROM t WHERE a = 'none'",
    ] {
        in_text(&mut clients, sql);
    }
    for (sql, parameters) in [
        ("DO 1", &[][..]),
        ("DO ?", &["1"][..]),
        ("SELECT 1", &[]),
        ("SELECT ?, ?", &["a", "b"]),
        ("SELECT id, a FROM t WHERE id < ? ORDER BY id", &["3"]),
        ("SELECT id, a FROM t WHERE id > ?", &["99"]),
        ("SELECT test.fails_at(id, 2) FROM t ORDER BY id", &[]),
        ("SHOW TABLES", &[]),
        ("CALL nothing()", &[]),
        ("CALL two()", &[]),
        ("CALL one_row()", &[]),
        ("CALL fetches()", &[]),
        ("CALL fails()", &[]),
        ("CALL outs(?, ?, ?)", &["1", "2", "c"]),
        ("CALL rows_and_outs(?)", &["1"]),
    ] {
        in_binary(&mut clients, sql, parameters, false);
        in_binary(&mut clients, sql, parameters, true);
    }
}

fn every_client(scene: &Scene) {
    for knows_eofs in [true, false] {
        for capabilities in [0, SESSION_TRACK] {
            every_reply_is_as_directly(scene, knows_eofs, capabilities);
        }
    }
}

#[test]
fn every_reply_of_mariadb_has_the_form_that_its_client_knows() {
    every_client(&Scene::of(Server::start(options())));
}

#[test]
fn every_reply_of_mysql_has_the_form_that_its_client_knows() {
    if let Some(server) = Server::mysql(options()) {
        every_client(&Scene::of(server));
    }
}

/// OUT parameters that are longer than what is held back come as a row like any other.
#[test]
fn long_first_rows_arrive_whole() {
    let scene = Scene::of(Server::start(options()));
    scene.server.run(&[
        "CREATE PROCEDURE test.long_row(IN n INT) BEGIN SELECT REPEAT('x', n); END".to_owned(),
        "CREATE PROCEDURE test.long_rows(IN n INT) BEGIN SELECT REPEAT('x', n) FROM t; END"
            .to_owned(),
    ]);
    let login = Login {
        deprecate_eof: false,
        ..scene.gateway.login()
    };
    let mut client = Client::connect(&login).expect("a login");
    for length in [1 << 10, (1 << 20) - 30, 1 << 20, 5 << 20] {
        for (name, rows) in [("long_row", 1), ("long_rows", 3)] {
            let sql = format!("CALL test.{name}({length})");
            let statement = client.prepare(&sql).expect(&sql);
            let answers = client.run_all(
                EXECUTE,
                &[&statement.id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat(),
            );
            let answers = answers.expect(&sql);
            assert_eq!(answers[0].rows.len(), rows, "{sql}");
            for row in 0..rows {
                let value = answers[0].text(row, 0).expect("a value");
                assert_eq!(value.len(), length, "{sql}");
            }
            client.close_statement(statement).expect("closed");
        }
    }
}

#[test]
fn clients_with_and_without_legacy_eofs_take_turns_on_one_connection() {
    let scene = Scene::of(Server::start(options()));
    let before = scene.server.status("Connections");
    let mut clients: Vec<_> = [true, false, true, false]
        .into_iter()
        .map(|deprecate_eof| {
            let login = Login {
                deprecate_eof,
                ..scene.gateway.login()
            };
            Client::connect(&login).expect("a login")
        })
        .collect();
    for round in 1..=20 {
        for client in &mut clients {
            let sql = format!("SELECT {round}, a FROM t WHERE id = 1");
            let answer = client.query_one(&sql).expect("an answer");
            assert_eq!(answer.text(0, 0), Some(round.to_string()));
        }
    }
    // The login of the status question itself is one.
    assert_eq!(scene.server.status("Connections") - before, 2);
}

/// Whoever reads an ERR with another number takes it for a broken protocol, and never sees what it says.
#[test]
fn an_error_between_two_results_has_the_next_number() {
    let server = Server::start(options());
    let shape = Shape {
        extra: "[deadlines]\nstatement = \"500ms\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    for deprecate_eof in [false, true] {
        for (sql, packets_before) in [
            (
                "SELECT 1; SELECT SLEEP(5)",
                if deprecate_eof { 4 } else { 5 },
            ),
            ("DO 1; SELECT SLEEP(5)", 1),
        ] {
            let login = Login {
                deprecate_eof,
                ..gateway.login()
            };
            let mut client = Client::connect_with(&login, MULTI_STATEMENTS).expect("a login");
            let packets = client.packets(3, sql.as_bytes()).expect(sql);
            let sequences: Vec<_> = packets.iter().map(|(sequence, _)| *sequence).collect();
            let wanted: Vec<_> = (1..=packets_before + 1).collect();
            assert_eq!(sequences, wanted, "{sql}: {packets:?}");
            let (_, last) = packets.last().expect("an error");
            assert_eq!(last.first(), Some(&0xff), "{sql}: {packets:?}");
        }
    }
}
