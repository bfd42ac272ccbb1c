//! Texts of several statements that change how the rest of them is read, and those with what holds for
//! one of their statements alone.

use crate::support::{Client, Login};
use crate::{Form, Scene, ask, fails, send};

const TABLES: &str = "CREATE OR REPLACE TABLE test.t (a INT) ENGINE=InnoDB;\n\
     CREATE OR REPLACE SEQUENCE test.s;";

/// The gateway's refusal.
const REFUSED: u16 = 1235;

/// A client that sends several statements in a text, in the schema `test`.
fn several(scene: &Scene, deprecate_eof: bool) -> Client {
    const MULTI_STATEMENTS: u32 = 1 << 16;
    let login = Login {
        schema: "test".to_owned(),
        deprecate_eof,
        ..scene.gateway.login()
    };
    Client::connect_with(&login, MULTI_STATEMENTS).expect("a login")
}

/// Texts that hide a statement from whoever reads all of them in one mode.
fn hiding(hidden: &str) -> [String; 5] {
    [
        format!("SET sql_mode='NO_BACKSLASH_ESCAPES'; SELECT '\\'; {hidden}; -- '"),
        format!("SET @@session.sql_mode='NO_BACKSLASH_ESCAPES'; SELECT \"\\\"; {hidden}; -- \""),
        format!("SET sql_mode='ANSI_QUOTES'; SELECT 1 AS \"\\\"; {hidden}; -- \""),
        // In gbk the last byte of the letter and the backslash are one character.
        format!("SET NAMES gbk; SELECT '日\\'; {hidden}; -- '"),
        format!("EXECUTE IMMEDIATE 'SET NAMES gbk'; SELECT '日\\'; {hidden}; -- '"),
    ]
}

/// A statement, what shows what it did, and what that says to who has done it.
const HIDDEN: &[(&str, &str, &str)] = &[
    ("SET @a = 5", "SELECT @a IS NULL", "0"),
    (
        "SELECT GET_LOCK('reread', 9)",
        "SELECT COALESCE(IS_USED_LOCK('reread') <> CONNECTION_ID(), 1)",
        "0",
    ),
    (
        "SET session_track_system_variables = ''; SET time_zone = '+07:00'",
        "SELECT @@time_zone <> '+07:00'",
        "0",
    ),
    ("SELECT NEXTVAL(s)", "SELECT LASTVAL(s) IS NULL", "0"),
    ("SET timestamp = 1000", "SELECT NOW() > '2000-01-01'", "0"),
];

/// Statements that fail for everybody who has not done the first one.
const BINDING: &[(&str, &str)] = &[
    ("CREATE TEMPORARY TABLE own (a INT)", "SELECT * FROM own"),
    ("HANDLER t OPEN AS h", "HANDLER h READ FIRST"),
];

#[test]
fn what_a_changed_reading_hides_stays_with_its_session() {
    let scene = Scene::new(2, TABLES);
    for deprecate_eof in [false, true] {
        for (hidden, shows, own_answer) in HIDDEN {
            for text in hiding(hidden) {
                let mut own = several(&scene, deprecate_eof);
                let mut other = several(&scene, deprecate_eof);
                own.query(&text)
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
                for form in Form::ALL {
                    assert_eq!(ask(&mut other, form, shows), "1", "{text}");
                    assert_eq!(ask(&mut own, form, shows), *own_answer, "{text}");
                }
            }
        }
        for (hidden, shows) in BINDING {
            for text in hiding(hidden) {
                let mut own = several(&scene, deprecate_eof);
                let mut other = several(&scene, deprecate_eof);
                own.query(&text)
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
                assert!(send(&mut other, Form::Text, shows).is_err(), "{text}");
                ask(&mut own, Form::Text, shows);
            }
        }
    }
}

#[test]
fn what_is_refused_is_refused_behind_a_changed_reading() {
    let scene = Scene::new(2, TABLES);
    let mut client = several(&scene, true);
    for hidden in [
        "SET PASSWORD = PASSWORD('x')",
        "ALTER USER CURRENT_USER() ACCOUNT LOCK",
        "EXECUTE IMMEDIATE 0x5345542050415353574f5244203d202778270a",
        "KILL 1",
        "KILL QUERY 1",
    ] {
        for text in hiding(hidden) {
            let error = client.query(&text).expect_err(&text);
            assert_eq!(error.errno(), REFUSED, "{text}: {error}");
        }
    }
    // Out of sight of whoever tells of changes: the reading is anybody's guess from then on.
    ask(
        &mut client,
        Form::Text,
        "SET session_track_system_variables = CONCAT('')",
    );
    ask(&mut client, Form::Text, "SET NAMES gbk");
    let text = "SELECT '日\\'; SET PASSWORD = PASSWORD('x'); -- '";
    let error = client.query(text).expect_err(text);
    assert_eq!(error.errno(), REFUSED, "{text}: {error}");
    assert_eq!(ask(&mut client, Form::Text, "SELECT 'a\\'b'"), "a'b");
}

#[test]
fn what_is_read_alike_in_all_modes_keeps_no_connection() {
    let scene = Scene::new(1, TABLES);
    let mut own = several(&scene, true);
    let mut other = several(&scene, true);
    for text in [
        "SET NAMES utf8mb4; SELECT 'a', `a` FROM t",
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 'a'",
        "SET sql_mode = ''; SELECT 'a\\\\b', '日本'",
        "SET @@autocommit = 1; SELECT 'a\\'b', \"c\"",
    ] {
        own.query(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(ask(&mut other, Form::Text, "SELECT 1"), "1", "{text}");
        assert!(scene.pinned() < 0.5, "{text}");
    }
}

/// Variables that a text sets for one of its statements, and what they are without.
const PASSING: &[(&str, &str)] = &[
    ("sql_mode = 'ANSI_QUOTES'", "@@sql_mode"),
    ("time_zone = '+05:00'", "@@time_zone"),
    ("sql_select_limit = 1", "@@sql_select_limit"),
];

fn mixed(passing: &str) -> [String; 4] {
    [
        format!("SET STATEMENT {passing} FOR SELECT 1; SELECT 2"),
        format!("SELECT 2; SET STATEMENT {passing} FOR SELECT 1"),
        format!("/*!999999 SELECT */ SET STATEMENT {passing} FOR SELECT 1"),
        format!("BEGIN NOT ATOMIC SET STATEMENT {passing} FOR DO 1; DO 2; END"),
    ]
}

fn both(client: &mut Client, sql: &str) -> [String; 2] {
    Form::ALL.map(|form| ask(client, form, sql))
}

#[test]
fn what_is_set_for_one_statement_of_a_text_is_nobodys_afterwards() {
    for deprecate_eof in [false, true] {
        let scene = Scene::new(2, TABLES);
        for (passing, shows) in PASSING {
            let shows = format!("SELECT CONCAT({shows})");
            for text in mixed(passing) {
                let mut own = several(&scene, deprecate_eof);
                let mut others = [0; 2].map(|_| several(&scene, deprecate_eof));
                let before = ask(&mut own, Form::Text, &shows);
                for other in &mut others {
                    ask(other, Form::Text, &format!("SET {passing}"));
                }
                let of_others = ask(&mut others[0], Form::Text, &shows);
                assert_ne!(before, of_others);
                ask(&mut own, Form::Text, "SELECT 1");
                own.query(&text)
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(both(&mut others[0], &shows), [&*of_others; 2], "{text}");
                assert_eq!(both(&mut own, &shows), [&*before; 2], "{text}");
                drop(own);
                // On both connections at once.
                for other in &mut others {
                    ask(other, Form::Text, "BEGIN");
                    assert_eq!(both(other, &shows), [&*of_others; 2], "{text}");
                }
                drop(others);
                let mut next = several(&scene, deprecate_eof);
                assert_eq!(both(&mut next, &shows), [&*before; 2], "{text}");
            }
        }
    }
}

#[test]
fn a_mode_for_one_statement_is_not_that_of_the_next_text() {
    let scene = Scene::new(2, TABLES);
    let mut own = several(&scene, true);
    let mut other = several(&scene, true);
    for form in Form::ALL {
        let passing = "SET STATEMENT sql_mode = 'NO_BACKSLASH_ESCAPES' FOR SELECT 1";
        ask(&mut own, form, passing);
        // One string, and a second statement that the server runs.
        let text = "SELECT '\\' ; -- ' AS a; SET @a = 5";
        own.query(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(ask(&mut other, Form::Text, "SELECT @a IS NULL"), "1");
        assert_eq!(ask(&mut own, Form::Text, "SELECT @a"), "5");
    }
    assert_eq!(fails(&mut own, Form::Text, "KILL 1"), REFUSED);
}
