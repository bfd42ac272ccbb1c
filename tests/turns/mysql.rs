//! What differs on MySQL: its accounts, what it reports of a session, and what its defaults are.

use std::time::Duration;

use crate::support::Client;
use crate::{Form, Scene, ask, fails, send};

/// The server remembers who has logged in with the password itself, until it is told to forget.
#[test]
fn an_account_of_caching_sha2_password_logs_in_by_the_servers_key() {
    let Some(scene) = Scene::on_mysql(2, "", "") else {
        return;
    };
    let plugin = "SELECT plugin FROM mysql.user WHERE user = 'rg'";
    assert_eq!(scene.server.sql(plugin).trim(), "caching_sha2_password");
    scene.server.sql("FLUSH PRIVILEGES");
    let fast = scene.server.try_client();
    assert!(fast.is_err(), "the server still remembers");
    let (mut first, mut second) = (scene.client(true), scene.client(false));
    let me = "SELECT CURRENT_USER()";
    assert_eq!(ask(&mut first, Form::Text, me), "rg@%");
    scene.server.try_client().expect("the server remembers now");
    // A second connection, by the fast path: the first one is kept.
    ask(&mut first, Form::Text, "BEGIN");
    assert_eq!(ask(&mut second, Form::Binary, me), "rg@%");
    assert_eq!(scene.server.connections(), 2);
}

/// Statements that set nothing of a session, each with a table `written` there.
const PLAIN: &[&str] = &[
    "SELECT 1",
    "DO 1",
    "USE test",
    "INSERT INTO written (note) VALUES ('a'), ('b')",
    "INSERT INTO written (note) SELECT note FROM written LIMIT 1",
    "REPLACE INTO written VALUES (1, 'c')",
    "UPDATE written SET note = 'd'",
    "SELECT COUNT(*) FROM written",
    "SELECT * FROM written ORDER BY id LIMIT 1 FOR UPDATE",
    "BEGIN",
    "INSERT INTO written (note) VALUES ('e')",
    "COMMIT",
    "START TRANSACTION READ ONLY",
    "SELECT COUNT(*) FROM written",
    "ROLLBACK",
    "CREATE TABLE other (id INT)",
    "ALTER TABLE other ADD COLUMN more INT",
    "TRUNCATE TABLE other",
    "ANALYZE TABLE other",
    "CREATE INDEX at_more ON other (more)",
    "CREATE OR REPLACE VIEW seen AS SELECT id FROM other",
    "SELECT * FROM seen",
    "DROP VIEW seen",
    "DROP TABLE other",
    "SHOW TABLES",
    "SHOW VARIABLES LIKE 'port'",
    "EXPLAIN SELECT * FROM written",
    "DELETE FROM written",
];

/// The most that sessions can have done to a server and be none of those that keep a connection.
fn nobody_is_pinned(scene: &Scene) {
    let mut clients: Vec<_> = (0..5).map(|at| scene.client(at % 2 == 0)).collect();
    for client in &mut clients {
        for form in Form::ALL {
            let mut is_in_transaction = false;
            for sql in PLAIN {
                match *sql {
                    "BEGIN" | "START TRANSACTION READ ONLY" => is_in_transaction = true,
                    "COMMIT" | "ROLLBACK" => is_in_transaction = false,
                    _ => {}
                }
                // Not everything can be prepared.
                match send(client, form, sql) {
                    Err(error) if error.errno() == 1295 => ask(client, Form::Text, sql),
                    answer => answer.map(|_| String::new()).expect(sql),
                };
                let pinned = scene.pinned() > 0.0;
                assert_eq!(pinned, is_in_transaction, "{form:?} {sql}");
            }
        }
    }
}

const WRITTEN: &str = "CREATE TABLE IF NOT EXISTS test.written \
    (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(9)) ENGINE=InnoDB;";

#[test]
fn what_a_server_counts_by_itself_pins_nobody() {
    let Some(scene) = Scene::on_mysql(1, WRITTEN, "") else {
        return;
    };
    nobody_is_pinned(&scene);
}

#[test]
fn nor_does_it_on_mariadb() {
    nobody_is_pinned(&Scene::new(1, WRITTEN));
}

/// Still, what a session does beside it is seen.
#[test]
fn what_a_server_counts_by_itself_hides_nothing() {
    let Some(scene) = Scene::on_mysql(2, WRITTEN, "") else {
        return;
    };
    for (form, sql, reason) in [
        (Form::Text, "SET timestamp = 5", "variable"),
        (
            Form::Text,
            "CREATE TEMPORARY TABLE t (id INT)",
            "temporary_table",
        ),
        (Form::Binary, "SET @x = 5", "user_variable"),
    ] {
        let mut client = scene.client(true);
        ask(&mut client, form, sql);
        assert!(scene.pinned() > 0.0, "{sql}: not pinned by {reason}");
        client.reset().expect("an OK");
        assert!(scene.is_free(), "{sql}");
    }
}

/// It is the server's thread's, and nobody reports it.
#[test]
fn a_resource_group_is_its_sessions() {
    let Some(scene) = Scene::on_mysql(2, "", "") else {
        return;
    };
    for sql in [
        "SET RESOURCE GROUP USR_default",
        "set /* a */ resource group `USR_default`",
        "/*!80000 SET RESOURCE GROUP USR_default */",
        "DO 0; SET RESOURCE GROUP USR_default",
    ] {
        for form in Form::ALL {
            let mut client = scene.multi_client();
            // Not everything can be prepared.
            let set = match form {
                Form::Text => client.query(sql).map(|_| ()),
                Form::Binary => send(&mut client, form, sql).map(|_| ()),
            };
            match set {
                Ok(()) => assert!(scene.pinned() > 0.0, "{form:?} {sql}"),
                Err(error) => {
                    let is_no_prepared = [1064, 1295].contains(&error.errno());
                    assert!(form == Form::Binary && is_no_prepared, "{sql}: {error}");
                }
            }
            client.reset().expect("an OK");
            assert!(scene.is_free(), "{form:?} {sql}");
        }
    }
}

const FAMILY: &str = "CREATE TABLE IF NOT EXISTS test.parent (id INT PRIMARY KEY) ENGINE=InnoDB;\n\
    CREATE TABLE IF NOT EXISTS test.child (id INT, FOREIGN KEY (id) REFERENCES parent (id)) ENGINE=InnoDB;";

fn is_orphan_refused(client: &mut Client, form: Form) {
    assert_eq!(fails(client, form, "INSERT INTO child VALUES (1)"), 1452);
    let checks = "SELECT CONCAT(@@foreign_key_checks, @@unique_checks)";
    assert_eq!(ask(client, form, checks), "11");
}

/// There `SET foreign_key_checks = DEFAULT` means 0, whatever the global is: what nobody has set goes
/// back as a value.
#[test]
fn the_checks_of_a_session_end_with_it() {
    let Some(scene) = Scene::on_mysql(1, FAMILY, "") else {
        return;
    };
    let mut direct = scene.direct();
    ask(&mut direct, Form::Text, "SET foreign_key_checks = DEFAULT");
    let read = "SELECT @@foreign_key_checks";
    assert_eq!(
        ask(&mut direct, Form::Text, read),
        "0",
        "not what this is about"
    );
    drop(direct);
    let mut other = scene.client(true);
    is_orphan_refused(&mut other, Form::Text);
    for form in Form::ALL {
        for set in [
            "SET foreign_key_checks = 0, unique_checks = 0",
            "SET @@foreign_key_checks = OFF",
            "SET foreign_key_checks = DEFAULT, unique_checks = DEFAULT",
        ] {
            let mut own = scene.client(true);
            ask(&mut own, form, set);
            assert!(scene.is_free(), "{set}");
            let checks = ask(&mut own, form, read);
            is_orphan_refused(&mut other, form);
            assert_eq!(ask(&mut own, form, read), checks, "{set}");
            own.reset().expect("an OK");
            is_orphan_refused(&mut own, form);
            let orphan = send(
                &mut scene.client(false),
                form,
                "INSERT INTO child VALUES (2)",
            );
            assert!(orphan.is_err(), "{set}");
        }
    }
    assert_eq!(
        scene.server.sql("SELECT COUNT(*) FROM test.child").trim(),
        "0"
    );
}

/// With a budget of one and four clients of which each has written.
#[test]
fn clients_that_write_take_turns() {
    let Some(scene) = Scene::on_mysql(1, WRITTEN, "") else {
        return;
    };
    let mut clients: Vec<_> = (0..4).map(|at| scene.client(at % 2 == 0)).collect();
    let count = "SELECT COUNT(*) FROM written";
    for round in 0..3 {
        for (at, client) in clients.iter_mut().enumerate() {
            for form in Form::ALL {
                let insert = format!("INSERT INTO written (note) VALUES ('{round}-{at}')");
                ask(client, form, &insert);
                ask(client, form, count);
            }
        }
    }
    assert_eq!(ask(&mut clients[0], Form::Text, count), "24");
}

/// COM_RESET_CONNECTION leaves what was traced, also once tracing is off again.
#[test]
fn what_the_optimizer_has_traced_is_nobody_elses() {
    let Some(scene) = Scene::on_mysql(1, "CREATE TABLE IF NOT EXISTS test.t (a INT);", "") else {
        return;
    };
    let traces = "SELECT COUNT(*) FROM information_schema.OPTIMIZER_TRACE";
    for form in Form::ALL {
        let mut own = scene.client(true);
        ask(&mut own, form, "SET optimizer_trace = 'enabled=on'");
        ask(&mut own, form, "SELECT a + 777 FROM t WHERE a = 5");
        assert_eq!(ask(&mut own, form, traces), "1");
        ask(&mut own, form, "SET optimizer_trace = 'enabled=off'");
        drop(own);
        let mut other = scene.client(false);
        assert_eq!(ask(&mut other, form, traces), "0");
    }
}

/// Where `autocommit` is off, what the gateway asks for its own sake begins a transaction of nobody's.
#[test]
fn what_the_gateway_asks_is_in_nobodys_transaction() {
    let Some(scene) = Scene::on_mysql(2, "SET GLOBAL autocommit = 0;\n", "") else {
        return;
    };
    let level = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    for turn in 0..3 {
        let mut client = scene.client(true);
        for other in [scene.client(true), scene.client(false)].iter_mut() {
            ask(other, Form::Text, "DO 0");
            assert!(scene.is_free(), "{turn}");
        }
        ask(&mut client, Form::Text, level);
        ask(&mut client, Form::Text, "SELECT 1");
        client.reset().expect("an OK");
        ask(&mut client, Form::Text, level);
        // Longer than what is known of globals holds.
        std::thread::sleep(Duration::from_millis(1_050));
    }
}
