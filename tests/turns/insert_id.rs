//! LAST_INSERT_ID() after statements whose answer does not tell it, and what a session last took from a
//! sequence: on whatever connection it is asked for.

use std::time::Duration;

use crate::support::{Client, wait_for};
use crate::{Form, Scene, ask, send};

const TABLES: &str = "CREATE OR REPLACE TABLE test.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT) AUTO_INCREMENT=100;\n\
     CREATE OR REPLACE TABLE test.n (v INT);\n\
     CREATE OR REPLACE SEQUENCE test.s START 10 INCREMENT 1;\n\
     CREATE OR REPLACE SEQUENCE test.r START 70 INCREMENT 1;";

/// Of an engine that is quick to empty them.
const DOUBT_TABLES: &str = "CREATE OR REPLACE TABLE test.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=MyISAM;\n\
     CREATE OR REPLACE TABLE test.u (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=MyISAM;\n\
     CREATE OR REPLACE TABLE test.w (id INT AUTO_INCREMENT PRIMARY KEY, v INT UNIQUE) ENGINE=MyISAM;\n\
     CREATE OR REPLACE TABLE test.n (v BIGINT UNSIGNED) ENGINE=MyISAM;";

/// Statements that leave an id, or that leave it alone.
const STATEMENTS: &[&str] = &[
    "INSERT INTO t (v) VALUES (1) RETURNING id",
    "INSERT INTO t (v) VALUES (1), (2), (3) RETURNING id",
    "REPLACE INTO t (v) VALUES (1) RETURNING v, id",
    "INSERT INTO t (v) SELECT 1 RETURNING id",
    "INSERT INTO t (id, v) VALUES (900, 1) ON DUPLICATE KEY UPDATE v = 2 RETURNING id",
    "INSERT INTO t (id, v) VALUES (900, 1) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id) RETURNING id",
    "INSERT IGNORE INTO t (id, v) VALUES (900, 1) RETURNING id",
    "INSERT INTO n VALUES (1) RETURNING v",
    "ANALYZE INSERT INTO t (v) VALUES (1)",
    "ANALYZE FORMAT=JSON REPLACE INTO t (v) VALUES (1)",
    "EXPLAIN INSERT INTO t (v) VALUES (1)",
    "DELETE FROM t WHERE v = 5 RETURNING id",
    "DELETE FROM n RETURNING LAST_INSERT_ID(99)",
    "SELECT LAST_INSERT_ID(12345)",
    "INSERT INTO t (id, v) VALUES (NULL, 1), (900, 1)",
    "INSERT INTO t (v) VALUES (1), (2), (1 / (SELECT 1 UNION SELECT 2)) RETURNING id",
    "INSERT INTO t (v) VALUES (1), (2), (1 / (SELECT 1 UNION SELECT 2))",
    "SELECT LAST_INSERT_ID(3) FROM n WHERE v = 6",
    "INSERT INTO nosuch VALUES (1) RETURNING id",
    "INSERT INTO t (v) VALUES (1",
    "/*!50000 INSERT */ INTO t (v) VALUES (1) /*M!100500 RETURNING id */",
    "SET STATEMENT max_statement_time = 9 FOR INSERT INTO t (v) VALUES (1) RETURNING id",
    "INSERT INTO t (v) VALUES (1)",
];

/// The tables as they are before each statement.
fn prepare(direct: &mut Client) {
    for sql in [
        "DELETE FROM n",
        "INSERT INTO n VALUES (5)",
        "TRUNCATE t",
        "INSERT INTO t VALUES (900, 1)",
    ] {
        ask(direct, Form::Text, sql);
    }
}

#[test]
fn the_insert_id_is_that_of_a_direct_connection_after_any_answer() {
    let scene = Scene::new(1, TABLES);
    let mut direct = scene.direct();
    let reads = ["SELECT LAST_INSERT_ID()", "SELECT @@identity"];
    for deprecate_eof in [false, true] {
        let (mut own, mut other) = (scene.client(deprecate_eof), scene.client(deprecate_eof));
        for (index, sql) in STATEMENTS.iter().enumerate() {
            for form in Form::ALL {
                let reads = reads[(index + usize::from(deprecate_eof)) % 2];
                prepare(&mut direct);
                let expect = last_id(&mut direct, None, form, sql, reads);
                prepare(&mut direct);
                let seen = last_id(&mut own, Some(&mut other), form, sql, reads);
                assert_eq!(seen, expect, "{form:?} {sql}; {reads}");
                assert_eq!(ask(&mut other, form, reads), "7", "the other's: {sql}");
            }
        }
    }
}

/// What a client reads as its last id after a statement, while another one has the connection in
/// between.
fn last_id(
    client: &mut Client,
    mut other: Option<&mut Client>,
    form: Form,
    sql: &str,
    reads: &str,
) -> String {
    let mut take_turns = || {
        if let Some(other) = &mut other {
            ask(other, form, "SELECT LAST_INSERT_ID(7)");
        }
    };
    ask(client, Form::Text, "SELECT LAST_INSERT_ID(42)");
    take_turns();
    // Some of them fail.
    let _ = send(client, form, sql);
    take_turns();
    ask(client, form, reads)
}

/// Statements whose OK has an id that may be the statement's own, and that fail behind their first row.
const IN_DOUBT: &[&str] = &[
    "INSERT INTO t (id, v) VALUES (900, 1)",
    "INSERT INTO t (id, v) VALUES (899, 1), (900, 2)",
    "INSERT INTO t (id, v) VALUES (900, 1), (NULL, 2)",
    "INSERT INTO t (id, v) VALUES (-5, 1)",
    "INSERT INTO t SET id = 900, v = 1",
    "INSERT INTO t (id, v) SELECT 900, 1",
    "REPLACE INTO t (id, v) VALUES (900, 1)",
    "INSERT INTO w VALUES (900, 5) ON DUPLICATE KEY UPDATE v = 6",
    "INSERT INTO w (v) VALUES (5) ON DUPLICATE KEY UPDATE v = 6",
    "INSERT INTO w (v) VALUES (5) ON DUPLICATE KEY UPDATE v = 5",
    "INSERT INTO w (v) VALUES (5) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
    "INSERT IGNORE INTO w (v) VALUES (5)",
    "INSERT IGNORE INTO w (v) VALUES (5), (6)",
    "INSERT INTO w (v) VALUES (6), (5)",
    "INSERT INTO w (id, v) VALUES (1, 6), (2, 5)",
    "INSERT INTO w (v) VALUES (5)",
    "INSERT INTO t (v) VALUES (6)",
    "INSERT INTO n VALUES (6)",
    "SET STATEMENT max_statement_time = 9 FOR INSERT INTO t (id, v) VALUES (900, 1)",
    "CREATE OR REPLACE TABLE made (id INT AUTO_INCREMENT PRIMARY KEY) SELECT 900 AS id",
    "CREATE OR REPLACE TABLE made (id INT AUTO_INCREMENT PRIMARY KEY) SELECT 1 AS v",
    "UPDATE w SET v = 7",
];

/// The tables as they are before each of them; `u` gives the ids that they have in their texts.
fn prepare_doubt(server: &mut Client) {
    for sql in [
        "DELETE FROM n",
        "INSERT INTO n VALUES (5)",
        "TRUNCATE t",
        "TRUNCATE w",
        "INSERT INTO w VALUES (900, 5)",
        "TRUNCATE u",
        "INSERT INTO u VALUES (898, 1)",
    ] {
        ask(server, Form::Text, sql);
    }
}

/// What two clients read who take turns, one of whom sends `sql`.
fn read_in_turns(
    (own, other): (&mut Client, &mut Client),
    form: Form,
    sql: &str,
    (has_own, is_between): (bool, bool),
) -> Vec<String> {
    const READS: &str = "SELECT LAST_INSERT_ID()";
    if has_own {
        ask(own, form, "INSERT INTO t (v) VALUES (9), (9)");
    }
    ask(other, form, "INSERT INTO u (v) VALUES (1)");
    ask(other, form, "INSERT INTO u (v) VALUES (1)");
    // Some of them fail.
    let _ = send(own, form, sql);
    let mut seen = Vec::new();
    if is_between {
        seen.push(ask(other, form, "SELECT 5"));
    }
    seen.push(ask(own, form, READS));
    seen.push(ask(other, form, READS));
    ask(own, form, "INSERT INTO n VALUES (LAST_INSERT_ID())");
    seen.push(ask(other, form, "SELECT MAX(v) FROM n"));
    let _ = send(own, form, sql);
    ask(own, form, "INSERT INTO n VALUES (1000 + LAST_INSERT_ID())");
    seen.push(ask(own, form, "SELECT MAX(v) FROM n"));
    seen.push(ask(own, form, "SELECT @@identity"));
    seen
}

#[test]
fn an_id_that_a_statement_gave_itself_is_nobodys_last() {
    let scene = Scene::new(1, DOUBT_TABLES);
    let mut direct = scene.direct();
    let mut last = scene.client(true);
    for (index, sql) in IN_DOUBT.iter().enumerate() {
        for form in Form::ALL {
            let is_text = form == Form::Text;
            let how = (is_text, is_text == (index % 2 == 0));
            prepare_doubt(&mut direct);
            let (mut own, mut other) = (scene.direct(), scene.direct());
            let expect = read_in_turns((&mut own, &mut other), form, sql, how);
            prepare_doubt(&mut direct);
            let (mut own, mut other) = (scene.client(true), scene.client(false));
            let seen = read_in_turns((&mut own, &mut other), form, sql, how);
            assert_eq!(seen, expect, "{form:?} {how:?} {sql}");
            // What sessions leave that have gone is nobody's either.
            drop((own, other));
            ask(&mut last, form, "INSERT INTO w (id) VALUES (77)");
            assert_eq!(
                ask(&mut last, form, "SELECT LAST_INSERT_ID()"),
                "0",
                "{sql}"
            );
        }
    }
}

#[test]
fn an_id_that_was_returned_can_be_used_by_the_next_insert() {
    let scene = Scene::new(1, TABLES);
    let (mut own, mut other) = (scene.client(true), scene.client(false));
    for form in Form::ALL {
        let id = ask(&mut own, form, "INSERT INTO t (v) VALUES (1) RETURNING id");
        ask(&mut other, form, "INSERT INTO t (v) VALUES (2)");
        ask(
            &mut own,
            form,
            "INSERT INTO t (v) VALUES (LAST_INSERT_ID())",
        );
        let last = "SELECT v FROM t ORDER BY id DESC LIMIT 1";
        assert_eq!(ask(&mut other, form, last), id, "{form:?}");
    }
}

/// Statements without the word, that run a text which has it.
const BY_NAME: &[&[&str]] = &[
    &["PREPARE ps FROM 'SELECT LAST_INSERT_ID()'", "EXECUTE ps"],
    &["PREPARE ps FROM 'SELECT @@identity'", "EXECUTE ps"],
    &["EXECUTE IMMEDIATE 'SELECT LAST_INSERT_ID()'"],
];

#[test]
fn what_runs_by_its_name_reads_its_own_sessions_id() {
    let scene = Scene::new(1, TABLES);
    for form in Form::ALL {
        for statements in BY_NAME {
            let (mut own, mut other) = (scene.client(true), scene.client(false));
            ask(&mut own, form, "INSERT INTO t (v) VALUES (1), (2)");
            let id = ask(&mut own, form, "SELECT LAST_INSERT_ID()");
            ask(&mut other, form, "SELECT LAST_INSERT_ID(7)");
            let mut seen = String::new();
            for sql in *statements {
                seen = ask(&mut own, Form::Text, sql);
            }
            assert_eq!(seen, id, "{form:?} {statements:?}");
            own.reset().expect("an OK");
            assert_eq!(ask(&mut other, form, "SELECT LAST_INSERT_ID()"), "7");
        }
    }
}

#[test]
fn what_was_taken_from_a_sequence_is_its_sessions() {
    let scene = Scene::new(3, TABLES);
    for (form, takes, reads) in [
        (Form::Text, "SELECT NEXTVAL(s)", "SELECT LASTVAL(s)"),
        (Form::Binary, "SELECT NEXT VALUE FOR s", "SELECT LASTVAL(s)"),
        (
            Form::Text,
            "SELECT NEXT /* the */ VALUE FOR test.s",
            "SELECT PREVIOUS VALUE FOR s",
        ),
        (
            Form::Binary,
            "DO NEXTVAL(`test`.`s`)",
            "SELECT PREVIOUS VALUE FOR `s`",
        ),
        (
            Form::Text,
            "INSERT INTO n VALUES (NEXTVAL(s))",
            "SELECT PREVIOUS VALUE FOR s",
        ),
        (
            Form::Text,
            "SELECT /*!50000 NEXTVAL(s) */",
            "SELECT LASTVAL(s)",
        ),
        (
            Form::Binary,
            "SET STATEMENT max_statement_time = 9 FOR SELECT NEXTVAL(s)",
            "SELECT LASTVAL(s)",
        ),
    ] {
        let (mut own, mut other) = (scene.client(true), scene.client(true));
        ask(&mut own, form, takes);
        let (mine, theirs) = (next(&scene), ask(&mut other, form, "SELECT NEXTVAL(s)"));
        assert_ne!(ask(&mut own, form, reads), theirs, "{takes}");
        assert_eq!(
            ask(&mut own, form, reads),
            (mine - 1).to_string(),
            "{takes}"
        );
        assert_eq!(ask(&mut other, form, reads), theirs, "{takes}");
        assert_eq!(
            ask(&mut own, form, "SELECT LASTVAL(r)"),
            "",
            "never taken from"
        );
        drop((own, other));
        let is_free = || scene.pinned() < 0.5;
        assert!(wait_for(Duration::from_secs(5), is_free), "{takes}");
        let mut third = scene.client(true);
        assert_eq!(
            ask(&mut third, form, reads),
            "",
            "{takes}: of one that has left"
        );
    }
}

/// The value that the sequence gives next.
fn next(scene: &Scene) -> u64 {
    let sql = "SELECT NEXTVAL(test.s)";
    let value = scene.server.sql(sql);
    value.trim().parse().expect("a number")
}
