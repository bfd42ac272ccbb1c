//! A session whose schema somebody drops goes on as on a connection of its own.

use std::time::Duration;

use crate::support::{Client, Login, wait_for};
use crate::{Form, Scene, ask, fails, send};

/// Unknown database, No such table, as a server says it of a schema that is gone.
const GONE: [u16; 2] = [1049, 1146];

const MULTI_STATEMENTS: u32 = 1 << 16;

const MAKE: &str = "CREATE OR REPLACE TABLE test.u (a INT);\nCREATE OR REPLACE TABLE test.v (a INT) ENGINE=InnoDB;";

/// A client whose schema has just been dropped, and another one on the same connection.
fn trapped(scene: &Scene) -> (Client, Client) {
    scene
        .server
        .sql("CREATE DATABASE IF NOT EXISTS gone; CREATE TABLE IF NOT EXISTS gone.t (a INT)");
    let (mut own, mut other) = (scene.client(true), scene.client(false));
    ask(&mut own, Form::Text, "USE gone");
    ask(&mut own, Form::Text, "SELECT * FROM t");
    ask(&mut other, Form::Text, "SELECT 1");
    scene.server.sql("DROP DATABASE gone");
    (own, other)
}

#[test]
fn what_needs_no_schema_works_in_one_that_is_gone() {
    let scene = Scene::new(1, MAKE);
    for form in Form::ALL {
        let (mut own, mut other) = trapped(&scene);
        for _ in 0..3 {
            for (sql, value) in [
                ("SELECT 1", "1"),
                ("SELECT DATABASE()", "gone"),
                ("SELECT CONCAT(SCHEMA(), '.', database ( ))", "gone.gone"),
                ("SET sql_notes = 1", ""),
                ("DO 1", ""),
                ("SELECT COUNT(*) FROM test.u", "0"),
                ("SELECT 'DATABASE()'", "DATABASE()"),
                ("SELECT @@sql_notes", "1"),
            ] {
                assert_eq!(ask(&mut own, form, sql), value, "{form:?} {sql}");
                assert_eq!(ask(&mut other, form, "SELECT DATABASE()"), "test", "{sql}");
            }
            for sql in [
                "SELECT * FROM t",
                "INSERT INTO t VALUES (1)",
                "SHOW TABLES",
                "DELETE FROM u",
            ] {
                let errno = fails(&mut own, form, sql);
                assert!(GONE.contains(&errno), "{form:?} {sql}: {errno}");
            }
            assert_eq!(ask(&mut other, form, "SELECT COUNT(*) FROM u"), "0");
        }
        let is_free = || scene.pinned() < 0.5;
        assert!(wait_for(Duration::from_secs(5), is_free), "{form:?}");
    }
}

#[test]
fn a_session_leaves_a_schema_that_is_gone_or_makes_it_again() {
    let scene = Scene::new(1, MAKE);
    for form in Form::ALL {
        let (mut own, mut other) = trapped(&scene);
        ask(&mut own, form, "USE test");
        assert_eq!(ask(&mut own, form, "SELECT COUNT(*) FROM u"), "0");
        assert_eq!(ask(&mut other, form, "SELECT DATABASE()"), "test");

        let (mut own, mut other) = trapped(&scene);
        ask(&mut own, form, "CREATE DATABASE gone");
        ask(&mut own, form, "CREATE TABLE t (a INT)");
        ask(&mut own, form, "INSERT INTO t VALUES (7)");
        assert_eq!(ask(&mut other, form, "SELECT COUNT(*) FROM u"), "0");
        assert_eq!(ask(&mut own, form, "SELECT a FROM t"), "7");

        // Somebody else makes it again.
        let (mut own, mut other) = trapped(&scene);
        assert_eq!(ask(&mut own, form, "SELECT DATABASE()"), "gone");
        scene
            .server
            .sql("CREATE DATABASE gone; CREATE TABLE gone.t AS SELECT 8 a");
        assert_eq!(ask(&mut own, form, "SELECT a FROM t"), "8");
        assert_eq!(ask(&mut other, form, "SELECT COUNT(*) FROM u"), "0");
    }
}

#[test]
fn transactions_and_statements_outlive_the_schema() {
    let scene = Scene::new(2, MAKE);
    let (mut own, mut other) = trapped(&scene);
    let text = Form::Text;
    ask(&mut own, text, "BEGIN");
    ask(&mut own, text, "INSERT INTO test.v VALUES (1)");
    assert_eq!(ask(&mut own, text, "SELECT COUNT(*) FROM test.v"), "1");
    assert!(GONE.contains(&fails(&mut own, text, "INSERT INTO v VALUES (2)")));
    assert_eq!(ask(&mut other, text, "SELECT COUNT(*) FROM v"), "0");
    ask(&mut own, text, "COMMIT");
    assert_eq!(ask(&mut other, text, "SELECT COUNT(*) FROM v"), "1");

    scene.server.sql("CREATE DATABASE gone");
    ask(&mut own, text, "USE gone");
    let one = own
        .prepare("SELECT CONCAT(?, DATABASE())")
        .expect("a statement");
    let run = |client: &mut Client| client.execute(one, &[b"x"]).map(|answer| answer.text(0, 0));
    assert_eq!(run(&mut own).expect("a row").as_deref(), Some("xgone"));
    ask(&mut other, text, "SELECT 1");
    scene.server.sql("DROP DATABASE gone");
    for _ in 0..2 {
        assert_eq!(run(&mut own).expect("a row").as_deref(), Some("xgone"));
        ask(&mut other, text, "SELECT 1");
    }
    scene.server.sql("CREATE DATABASE gone");
    assert_eq!(run(&mut own).expect("a row").as_deref(), Some("xgone"));
    let answer = send(&mut own, text, "SELECT DATABASE(), DATABASE() AS d");
    assert_eq!(answer.expect("a row").text(0, 1).as_deref(), Some("gone"));
}

/// In one text, so that the connection comes into a schema in which its session has been all the time.
#[test]
fn a_schema_that_is_made_and_entered_in_one_text_is_not_anothers() {
    let scene = Scene::new(1, MAKE);
    let login = Login {
        schema: "test".to_owned(),
        ..scene.gateway.login()
    };
    let mut own = Client::connect_with(&login, MULTI_STATEMENTS).expect("a login");
    let mut none = Client::connect_with(&login, MULTI_STATEMENTS).expect("a login");
    for sql in ["CREATE DATABASE mine", "USE mine", "DROP DATABASE mine"] {
        ask(&mut none, Form::Text, sql);
    }
    for entering in ["USE gone", "USE test; USE gone"] {
        scene.server.sql("CREATE DATABASE IF NOT EXISTS gone");
        ask(&mut own, Form::Text, "USE gone");
        assert_eq!(ask(&mut none, Form::Text, "SELECT DATABASE()"), "");
        scene.server.sql("DROP DATABASE gone");
        assert_eq!(ask(&mut own, Form::Text, "SELECT DATABASE()"), "gone");
        own.query(&format!("CREATE DATABASE gone; {entering}"))
            .expect("both");
        for _ in 0..2 {
            assert_eq!(
                ask(&mut none, Form::Text, "SELECT DATABASE()"),
                "",
                "{entering}"
            );
            assert_eq!(ask(&mut own, Form::Text, "SELECT DATABASE()"), "gone");
        }
    }
}

#[test]
fn a_statement_of_another_schema_leaves_nobody_in_that() {
    let scene = Scene::new(2, MAKE);
    let mut own = scene.client(true);
    let set = own.prepare("SET time_zone = '+03:00'").expect("prepared");
    // From now on there is one connection, which does not have it.
    let mut crowd = scene.client(true);
    ask(&mut crowd, Form::Text, "BEGIN");
    scene
        .server
        .sql("CREATE DATABASE gone; CREATE DATABASE its");
    let mut other = scene.client(true);
    ask(&mut own, Form::Text, "USE gone");
    ask(&mut other, Form::Text, "USE its");
    ask(&mut other, Form::Text, "DROP DATABASE its");
    scene.server.sql("DROP DATABASE gone");
    ask(&mut own, Form::Text, "SELECT 1");
    own.execute(set, &[]).expect("an OK");
    for form in Form::ALL {
        assert_eq!(ask(&mut other, form, "SELECT DATABASE()"), "", "{form:?}");
        assert_eq!(fails(&mut other, form, "SELECT * FROM u"), 1046);
        assert_eq!(ask(&mut own, form, "SELECT @@time_zone"), "+03:00");
    }
}

#[test]
fn what_is_prepared_in_a_schema_that_is_gone_names_it_wherever_its_session_goes() {
    let scene = Scene::new(1, MAKE);
    for is_kept in [false, true] {
        let (mut own, mut other) = trapped(&scene);
        ask(&mut own, Form::Text, "SELECT 1");
        let statement = own.prepare("SELECT DATABASE(), ?").expect("prepared");
        if is_kept {
            ask(&mut own, Form::Text, "BEGIN");
        }
        ask(&mut own, Form::Text, "USE test");
        let answer = own.execute(statement, &[b"1"]).expect("a row");
        assert_eq!(answer.text(0, 0).as_deref(), Some("gone"), "{is_kept}");
        assert_eq!(ask(&mut own, Form::Text, "SELECT DATABASE()"), "test");
        if is_kept {
            ask(&mut own, Form::Text, "COMMIT");
        }
        assert_eq!(ask(&mut other, Form::Text, "SELECT DATABASE()"), "test");
    }
}

/// Directly it would stay in none; a connection that has come into a schema cannot leave it.
#[test]
fn a_session_that_is_kept_in_no_schema_is_never_found_in_one() {
    let scene = Scene::new(6, MAKE);
    scene.server.sql("CREATE DATABASE IF NOT EXISTS gone");
    let mut own = scene.client(true);
    ask(&mut own, Form::Text, "USE gone");
    let statement = own.prepare("SELECT DATABASE()").expect("prepared");
    let _crowd: Vec<Client> = (0..2)
        .map(|_| {
            let mut one = scene.client(true);
            ask(&mut one, Form::Text, "BEGIN");
            one
        })
        .collect();
    ask(&mut own, Form::Text, "DROP DATABASE gone");
    scene.server.sql("CREATE DATABASE gone");
    ask(&mut own, Form::Text, "BEGIN");
    let executed = own.execute(statement, &[]);
    match own.query_one("SELECT DATABASE()") {
        Ok(answer) => assert_eq!(answer.text(0, 0), None),
        Err(error) => assert_eq!(error.errno(), 0, "{error}"),
    }
    assert!(executed.is_err(), "nothing can be prepared there");
}

/// What may come between an error and SHOW WARNINGS, and whether the list is never lost by it: where the
/// client was told another error than the server's, and where not.
const BETWEEN: &[(&str, bool, bool)] = &[
    ("nothing", true, true),
    ("ping", true, true),
    ("count", true, false),
    ("SELECT 5", false, true),
    ("BEGIN", false, true),
    ("DO 0", false, false),
    ("SET sql_notes = 1", false, false),
    ("prepare", false, false),
    ("init_db", false, false),
    ("made again", false, false),
    ("made again; SELECT 5", false, false),
];

fn go_between(scene: &Scene, client: &mut Client, what: &str) {
    match what {
        "nothing" => {}
        "count" => match client.query_one("SELECT @@warning_count") {
            Ok(count) => assert_eq!(count.text(0, 0).as_deref(), Some("1")),
            Err(error) => assert_eq!(error.errno(), 1235, "{error}"),
        },
        "ping" => drop(client.run_raw(0x0e, b"").expect("an OK")),
        "prepare" => drop(
            client
                .prepare("SELECT LAST_INSERT_ID(), ?")
                .expect("prepared"),
        ),
        "init_db" => drop(client.run_raw(0x02, b"test").expect("an OK")),
        sql => {
            if sql.starts_with("made again") {
                scene.server.sql("CREATE DATABASE IF NOT EXISTS gone");
            }
            if let Some(sql) = sql.trim_start_matches("made again").split("; ").last()
                && !sql.is_empty()
            {
                ask(client, Form::Text, sql);
            }
        }
    }
}

fn lists_what_was_told(scene: &Scene, fails_by: &str, other_in_turn: bool) {
    for &(between, is_kept_told, is_kept) in BETWEEN {
        let what = format!("{fails_by}; {between}; {other_in_turn}");
        let mut direct = scene.direct();
        scene.server.sql("CREATE DATABASE IF NOT EXISTS gone");
        ask(&mut direct, Form::Text, "USE gone");
        let (mut own, mut other) = trapped(scene);
        fails(&mut direct, Form::Text, fails_by);
        ask(&mut own, Form::Text, "SELECT 1");
        let told = fails(&mut own, Form::Text, fails_by);
        if other_in_turn {
            assert_eq!(ask(&mut other, Form::Text, "SELECT @@warning_count"), "0");
        }
        go_between(scene, &mut direct, between);
        go_between(scene, &mut own, between);
        let expect = direct.query_one("SHOW WARNINGS").expect("a list");
        let is_kept = if fails_by == "SELECT nosuch" {
            is_kept
        } else {
            is_kept_told
        };
        match own.query_one("SHOW WARNINGS") {
            Ok(list) => {
                assert_eq!(list.rows.len(), expect.rows.len(), "{what} {:?}", list.rows);
                let number = expect.text(0, 1).map(|_| told.to_string());
                assert_eq!(list.text(0, 1), number, "{what}");
            }
            Err(error) => assert!(!is_kept && error.errno() == 1235, "{what}: {error}"),
        }
        drop(own);
        assert_eq!(ask(&mut other, Form::Text, "SELECT @@warning_count"), "0");
    }
}

#[test]
fn what_a_client_was_told_is_listed_until_something_empties_the_list() {
    let scene = Scene::new(1, MAKE);
    for fails_by in ["INSERT INTO t VALUES (1)", "SELECT nosuch"] {
        for other_in_turn in [false, true] {
            lists_what_was_told(&scene, fails_by, other_in_turn);
        }
    }
}

#[test]
fn what_a_client_was_told_is_listed_before_mysql_too() {
    let Some(scene) = Scene::on_mysql(1, "CREATE TABLE test.u (a INT)", "") else {
        return;
    };
    for other_in_turn in [false, true] {
        lists_what_was_told(&scene, "INSERT INTO t VALUES (1)", other_in_turn);
    }
}
