//! SHOW WARNINGS and `@@warning_count`: a session's own list or an error, never another one's, and never a
//! list that is not what a server would say.

use crate::support::{Client, ClientError};
use crate::{Form, Scene, ask, send};

const TABLE: &str = "CREATE OR REPLACE TABLE test.n (v INT);\n\
     INSERT INTO test.n VALUES (5);";

/// Statements that leave a list.
const LEAVE: &[&str] = &[
    "SELEC",
    "SELECT nosuch",
    "SELECT 1/0, CAST('x' AS INT)",
    "INSERT INTO n VALUES ('x')",
];

/// Statements that leave the list as it is, or empty it; and whether their texts tell.
const FOLLOW: &[(&str, bool)] = &[
    ("SELECT 5", true),
    ("DO 1", false),
    ("BEGIN", true),
    ("SET NAMES utf8mb4", true),
    ("USE test", true),
    ("SELECT v FROM n", true),
    ("DELETE FROM n WHERE v = 6", true),
    ("INSERT INTO n VALUES (6)", true),
    ("REPLACE INTO n VALUES (6)", true),
];

const READS: [&str; 2] = ["SHOW WARNINGS", "SELECT @@warning_count"];

/// What a client reads, all rows; the number of an error.
fn read(client: &mut Client, form: Form, sql: &str) -> Result<String, u16> {
    match send(client, form, sql) {
        Ok(answer) => Ok(format!("{:?}", answer.rows)),
        Err(error @ ClientError::Server { .. }) => Err(error.errno()),
        Err(error) => panic!("{form:?} {sql}: {error}"),
    }
}

#[test]
fn a_list_outlives_statements_that_use_no_table() {
    let scene = Scene::new(1, TABLE);
    check_lists(&scene);
}

#[test]
fn a_list_on_mysql_outlives_no_statement() {
    let table = "CREATE TABLE test.n (v INT);\n INSERT INTO test.n VALUES (5);";
    if let Some(scene) = Scene::on_mysql(1, table, "") {
        check_lists(&scene);
    }
}

/// What is read after two statements, with and without turns of another session in between.
fn check_lists(scene: &Scene) {
    let (mut own, mut other) = (scene.client(true), scene.client(false));
    let mut direct = scene.direct();
    for (leaves, (follows, is_known), reads) in LEAVE
        .iter()
        .flat_map(|leaves| FOLLOW.iter().map(move |follows| (leaves, follows)))
        .flat_map(|(leaves, follows)| READS.map(|reads| (leaves, follows, reads)))
    {
        for turns in [[false, false], [true, false], [false, true], [true, true]] {
            let what = format!("{leaves}; {follows}; {reads} {turns:?}");
            let mut run = |client: &mut Client, turns: [bool; 2]| {
                for (sql, turn) in [leaves, follows].into_iter().zip(turns) {
                    let _ = send(client, Form::Text, sql);
                    if turn && *follows != "BEGIN" {
                        ask(&mut other, Form::Text, "SELECT 5");
                        let others = ask(&mut other, Form::Text, "SELECT @@warning_count");
                        assert_eq!(others, "0", "{what}");
                    }
                }
                let seen = read(client, Form::Text, reads);
                ask(client, Form::Text, "ROLLBACK");
                ask(client, Form::Text, "INSERT INTO n VALUES (5)");
                seen
            };
            let expect = run(&mut direct, [false; 2]);
            let seen = run(&mut own, turns);
            // Only SHOW WARNINGS itself can be answered from what was read out.
            let may_be_refused = turns.contains(&true) && (!is_known || reads != READS[0]);
            let is_refused = may_be_refused && seen == Err(1235);
            assert!(is_refused || seen == expect, "{what}: {seen:?} {expect:?}");
        }
    }
}

#[test]
fn a_prepare_empties_the_list_on_mysql() {
    let table = "CREATE TABLE test.n (v INT);";
    let Some(scene) = Scene::on_mysql(1, table, "") else {
        return;
    };
    let (mut own, mut other) = (scene.client(true), scene.client(false));
    for turn in [false, true] {
        for client in [&mut scene.direct(), &mut own] {
            let _ = send(client, Form::Text, "SELECT nosuch");
            if turn {
                ask(&mut other, Form::Text, "SELECT 5");
            }
            client.prepare("SELECT 5").expect("prepared");
            assert_eq!(
                read(client, Form::Text, READS[0]),
                Ok("[]".to_owned()),
                "{turn}"
            );
        }
    }
}

#[test]
fn what_the_gateway_sets_warns_nobody() {
    let scene = Scene::new(1, TABLE);
    for sets in [
        "SET @@storage_engine = MyISAM",
        "SET optimizer_switch = 'engine_condition_pushdown=on'",
        "SET sql_mode = 'NO_ZERO_DATE'",
    ] {
        let (mut own, mut other) = (scene.client(true), scene.client(false));
        let _ = send(&mut own, Form::Text, sets);
        for form in Form::ALL {
            for reads in READS {
                for before in ["SELECT 5", "SELECT v FROM n", "INSERT INTO n VALUES (5)"] {
                    let none = match reads == READS[0] {
                        true => "[]",
                        false => "[[Some([48])]]",
                    };
                    for _ in 0..2 {
                        ask(&mut own, form, before);
                        let seen = read(&mut other, Form::Text, reads);
                        assert_eq!(seen.as_deref(), Ok(none), "{sets}; {before}; {reads}");
                    }
                    ask(&mut own, form, "INSERT INTO n VALUES (5)");
                    ask(&mut other, form, before);
                    let seen = read(&mut own, Form::Text, reads);
                    assert_eq!(seen.as_deref(), Ok(none), "own: {sets}; {before}; {reads}");
                }
            }
        }
    }
}
