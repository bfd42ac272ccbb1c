//! A session that leaves state on its connection: the connection is cleansed of it and goes on, or ends.

use std::time::Duration;

use crate::support::{Client, Login, wait_for};
use crate::{Form, Scene, ask, fails, send};

const TABLES: &str = "CREATE OR REPLACE TABLE test.t (a INT) ENGINE=InnoDB;\n\
    CREATE SEQUENCE test.s;\n\
    CREATE DATABASE greek CHARACTER SET greek COLLATE greek_bin;\n\
    CREATE TABLE greek.t (a INT);";

/// How a session ends, for its client.
#[derive(Clone, Copy, Debug)]
enum Way {
    Quit,
    Vanish,
    Reset,
}

impl Way {
    const ALL: [Self; 3] = [Self::Quit, Self::Vanish, Self::Reset];

    /// What is left of the client is to be kept until the others have looked.
    fn go(self, mut client: Client) -> Option<Client> {
        match self {
            Self::Quit => client.quit().expect("a QUIT"),
            Self::Vanish => drop(client),
            Self::Reset => {
                client.reset().expect("an OK");
                return Some(client);
            }
        }
        None
    }
}

fn cleansed(scene: &Scene) -> f64 {
    scene
        .gateway
        .metric("ringgate_upstream_connections_cleansed_total", &[])
}

fn connects(scene: &Scene) -> f64 {
    scene
        .gateway
        .metric("ringgate_upstream_connects_total", &[])
}

/// Waits for the one connection to be nobody's.
fn wait_until_free(scene: &Scene) {
    let idle = || {
        scene
            .gateway
            .metric("ringgate_upstream_connections_idle", &[])
    };
    assert!(wait_for(Duration::from_secs(5), || idle() > 0.5));
}

/// Leaves state of every kind that is undone.
fn litter(client: &mut Client, form: Form) {
    for sql in [
        "SET time_zone = '+07:00', sql_mode = 'ANSI', max_statement_time = 77, sql_notes = 0",
        "SET NAMES latin1",
        "SET @mine = 'secret', @other = 2",
        "CREATE TEMPORARY TABLE mine SELECT 'secret' a",
        "SELECT GET_LOCK('mine', 1)",
        "SELECT NEXTVAL(test.s)",
        "SELECT CONNECTION_ID()",
        "SET autocommit = 0",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "INSERT INTO test.t VALUES (7)",
        "DROP TEMPORARY TABLE IF EXISTS nothing",
    ] {
        ask(client, form, sql);
    }
    ask(client, Form::Text, "HANDLER test.t OPEN AS mine_too");
    let statement = client.prepare("SELECT ?").expect("a statement");
    client
        .send_long_data(statement, 0, b"secret")
        .expect("no answer");
}

/// All variables of a session, but for those that differ between any two.
fn variables(client: &mut Client) -> Vec<(String, String)> {
    const OWN: &[&str] = &["pseudo_thread_id", "rand_seed1", "rand_seed2", "timestamp"];
    let answer = client.query_one("SHOW SESSION VARIABLES").expect("rows");
    (0..answer.rows.len())
        .map(|row| {
            let text = |column| answer.text(row, column).unwrap_or_default();
            (text(0), text(1))
        })
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect()
}

#[test]
fn nothing_of_a_session_is_left_on_its_connection() {
    let scene = Scene::new(1, TABLES);
    for schema in ["test", "greek"] {
        let login = Login {
            schema: schema.to_owned(),
            ..scene.gateway.login()
        };
        let mut other = Client::connect(&login).expect("a login");
        let fresh = variables(&mut other);
        for (way, form) in Way::ALL
            .into_iter()
            .zip([Form::Text, Form::Binary, Form::Text])
        {
            let (before, connected) = (cleansed(&scene), connects(&scene));
            let mut own = Client::connect(&login).expect("a login");
            litter(&mut own, form);
            let _kept = way.go(own);
            assert_eq!(ask(&mut other, form, "SELECT DATABASE()"), schema);
            for (sql, value) in [
                ("SELECT IS_FREE_LOCK('mine')", "1"),
                ("SELECT COUNT(*) FROM test.t", "0"),
                ("SELECT @@autocommit, @@in_transaction", "1"),
                ("SELECT @@tx_isolation", "REPEATABLE-READ"),
            ] {
                assert_eq!(ask(&mut other, form, sql), value, "{way:?} {sql}");
            }
            assert_eq!(variables(&mut other), fresh, "{way:?} {schema}");
            // Nothing of this keeps the connection before it is seen whether it was cleansed.
            let undone = cleansed(&scene) - before;
            assert!(
                (0.5..1.5).contains(&undone),
                "{way:?}: cleansed {undone} times"
            );
            assert!((connects(&scene) - connected).abs() < 0.5, "{way:?}");
            assert_eq!(ask(&mut other, form, "SELECT @mine"), "", "{way:?}");
            assert_eq!(
                fails(&mut other, form, "SELECT * FROM mine"),
                1146,
                "{way:?}"
            );
            assert_eq!(
                ask(&mut other, form, "SELECT LASTVAL(test.s)"),
                "",
                "{way:?}"
            );
            assert_eq!(
                fails(&mut other, Form::Text, "HANDLER mine_too READ FIRST"),
                1109,
                "{way:?}"
            );
            other.reset().expect("an OK");
            wait_until_free(&scene);
        }
    }
}

/// A reset does not undo these, or may not.
#[test]
fn what_a_reset_does_not_undo_ends_with_its_connection() {
    let scene = Scene::new(1, "");
    scene.server.sql(
        "CREATE ROLE clerk; GRANT clerk TO 'rg'@'%'; GRANT ALL ON *.* TO clerk; \
         CREATE PROCEDURE test.p() SQL SECURITY INVOKER SET ROLE clerk",
    );
    let mut other = scene.client(true);
    for sql in [
        "SET ROLE clerk",
        "CALL p()",
        "EXECUTE IMMEDIATE 'SET ROLE clerk'",
        "SET profiling = 1",
        "XA START 'x'",
    ] {
        let mut own = scene.client(true);
        send(&mut own, Form::Text, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        ask(&mut own, Form::Text, "SELECT 'secret'");
        let (before, connected) = (cleansed(&scene), connects(&scene));
        drop(own);
        assert_eq!(
            ask(&mut other, Form::Text, "SELECT CURRENT_ROLE()"),
            "",
            "{sql}"
        );
        assert_eq!(ask(&mut other, Form::Text, "SHOW PROFILES"), "", "{sql}");
        assert!(cleansed(&scene) - before < 0.5, "{sql}");
        assert!(connects(&scene) - connected > 0.5, "{sql}");
        other.reset().expect("an OK");
    }
}

/// What `init_connect` does a reset does not do again.
#[test]
fn where_logins_run_statements_no_connection_is_cleansed() {
    let scene = Scene::new(
        1,
        "REVOKE SUPER, CONNECTION ADMIN ON *.* FROM 'rg'@'%';\n\
         SET GLOBAL init_connect = 'SET @by_login = 5';",
    );
    for _ in 0..2 {
        let mut client = scene.client(true);
        assert_eq!(ask(&mut client, Form::Text, "SELECT @by_login"), "5");
        ask(&mut client, Form::Text, "SET @by_login = 6");
    }
    assert!(cleansed(&scene) < 0.5);
}

#[test]
fn an_accounts_own_limits_hold_on_a_cleansed_connection() {
    let scene = Scene::new(
        1,
        "ALTER USER 'rg'@'%' WITH MAX_STATEMENT_TIME 55;\nSET GLOBAL sql_notes = OFF;",
    );
    let mut other = scene.client(true);
    for _ in 0..3 {
        let mut own = scene.client(true);
        ask(&mut own, Form::Text, "SET @a = 1, max_statement_time = 3");
        drop(own);
        for (sql, value) in [
            ("SELECT @@max_statement_time", "55.000000"),
            ("SELECT @@sql_notes", "0"),
        ] {
            assert_eq!(ask(&mut other, Form::Text, sql), value);
        }
    }
    assert!(cleansed(&scene) > 2.5);
}

/// The schema is gone when its connection is cleansed.
#[test]
fn a_connection_whose_schema_is_gone_is_not_cleansed() {
    let scene = Scene::new(1, "CREATE DATABASE gone;");
    let mut own = scene.client(true);
    let mut other = scene.client(true);
    ask(&mut own, Form::Text, "USE gone");
    ask(&mut own, Form::Text, "SET @a = 1");
    scene.server.sql("DROP DATABASE gone");
    drop(own);
    assert_eq!(ask(&mut other, Form::Text, "SELECT DATABASE()"), "test");
    assert!(cleansed(&scene) < 0.5);
}

/// A server that does not answer: the connection ends, and the budget is whole.
#[test]
fn a_server_that_stops_while_it_cleanses_keeps_no_permit() {
    let scene = Scene::new(1, "");
    let mut own = scene.client(true);
    ask(&mut own, Form::Text, "SET @a = 1");
    scene.server.pause();
    drop(own);
    std::thread::sleep(Duration::from_millis(2500));
    scene.server.resume();
    let mut other = scene.client(true);
    assert_eq!(ask(&mut other, Form::Text, "SELECT @a"), "");
    assert!(cleansed(&scene) < 0.5);
}
