//! SET TRANSACTION is for the next transaction of its own session, whatever runs before that begins.

use crate::support::{Client, wait_for};
use crate::{Form, Scene, ask, fails, send};
use std::time::Duration;

const TABLES: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY, b INT) ENGINE=InnoDB;\n\
     INSERT INTO test.t VALUES (1, 0), (2, 0);\n\
     CREATE OR REPLACE TABLE test.plain (a INT) ENGINE=MyISAM;";

/// Cannot execute statement in a READ ONLY transaction.
const ER_READ_ONLY: u16 = 1792;

/// What gives the next transaction something.
const GIVES: &[&str] = &[
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
    "SET @@tx_read_only = 1",
    "/*!50000 SET TRANSACTION*/ READ /* not WRITE */ ONLY",
    "SET STATEMENT max_statement_time = 9 FOR SET TRANSACTION READ ONLY",
    "SET sql_notes = 1, @@tx_read_only = 1",
];

/// What leaves it as it is. MyISAM knows no transactions.
const LEAVES: &[&str] = &[
    "SELECT 1",
    "DO 1",
    "SET sql_notes = 1",
    "SHOW TABLES",
    "SELECT * FROM plain",
    "SELECT * FROM nosuch",
    "USE test",
    "SET autocommit = 1",
    "SAVEPOINT a",
    "UNLOCK TABLES",
    "/*!999999 COMMIT */ DO 1",
    "SELECT ';COMMIT'",
    "SELECT 1 -- ;COMMIT",
    "ROLLBACK TO nosuch",
];

/// Whether the client's next transaction is read-only; none is open before or after.
fn is_read_only(client: &mut Client, form: Form) -> bool {
    ask(client, form, "START TRANSACTION");
    let written = send(client, form, "UPDATE t SET b = b + 1 WHERE a = 1");
    if let Err(error) = &written {
        assert_eq!(error.errno(), ER_READ_ONLY, "{error}");
    }
    ask(client, form, "ROLLBACK");
    written.is_err()
}

#[test]
fn what_begins_no_transaction_leaves_it_to_its_own_session() {
    let scene = Scene::new(2, TABLES);
    for deprecate_eof in [false, true] {
        let mut own = scene.client(deprecate_eof);
        let mut other = scene.client(deprecate_eof);
        for (index, between) in LEAVES.iter().enumerate() {
            let gives = GIVES[index % GIVES.len()];
            let form = Form::ALL[(index + usize::from(deprecate_eof)) % 2];
            ask(&mut own, form, gives);
            // An error or not: nothing begins.
            let _ = send(&mut own, form, between);
            let name = format!("{form:?} {gives}; {between}");
            assert!(!is_read_only(&mut other, form), "the other's: {name}");
            assert!(is_read_only(&mut own, form), "its own: {name}");
            assert!(!is_read_only(&mut own, form), "only the next: {name}");
        }
    }
}

#[test]
fn every_way_to_give_it_is_kept_and_given_up_with_its_transaction() {
    let scene = Scene::new(2, TABLES);
    let (mut own, mut other) = (scene.client(true), scene.client(true));
    for form in Form::ALL {
        for gives in GIVES {
            ask(&mut own, form, gives);
            assert!(!is_read_only(&mut other, form), "{form:?} {gives}");
            assert!(is_read_only(&mut own, form), "{form:?} {gives}");
            let is_free = || scene.pinned() < 0.5;
            let is_freed = wait_for(Duration::from_secs(5), is_free);
            assert!(is_freed, "kept after {form:?} {gives}");
        }
    }
}

#[test]
fn it_outlives_a_deadlock_and_the_end_of_autocommit_0() {
    let scene = Scene::new(3, TABLES);
    let (mut own, mut rival) = (scene.client(true), scene.client(true));
    let mut other = scene.client(true);
    let text = Form::Text;
    for sql in [
        "SET autocommit = 0",
        "SET TRANSACTION READ ONLY",
        "SELECT * FROM t",
        "SET autocommit = 1",
        "SELECT 1",
    ] {
        ask(&mut own, text, sql);
    }
    assert!(!is_read_only(&mut other, text));
    assert!(is_read_only(&mut own, text));

    ask(
        &mut own,
        text,
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    );
    for client in [&mut own, &mut rival] {
        ask(client, text, "BEGIN");
    }
    ask(
        &mut rival,
        text,
        "INSERT INTO t VALUES (5, 0), (6, 0), (7, 0)",
    );
    ask(&mut rival, text, "UPDATE t SET b = 1 WHERE a = 2");
    ask(&mut own, text, "UPDATE t SET b = 1 WHERE a = 1");
    rival
        .send_query("UPDATE t SET b = 2 WHERE a = 1")
        .expect("a write");
    assert!(
        scene
            .server
            .runs("b = 2 WHERE a = 1", Duration::from_secs(10))
    );
    let errno = fails(&mut own, text, "UPDATE t SET b = 2 WHERE a = 2");
    assert_eq!(errno, 1213, "the smaller of the two is the victim");
    rival.read_query().expect("the winner's update");
    ask(&mut rival, text, "ROLLBACK");
    ask(&mut own, text, "SELECT 1");
    assert_eq!(level(&scene, &mut other), "REPEATABLE READ");
    assert_eq!(level(&scene, &mut own), "SERIALIZABLE");
    assert_eq!(level(&scene, &mut own), "REPEATABLE READ");
}

/// The isolation level of the client's next transaction.
fn level(scene: &Scene, client: &mut Client) -> String {
    ask(client, Form::Text, "BEGIN");
    ask(client, Form::Text, "UPDATE t SET b = b + 1 WHERE a = 1");
    let found = transactions(scene, "trx_isolation_level", "trx_rows_modified = 1");
    ask(client, Form::Text, "ROLLBACK");
    assert_eq!(transactions(scene, "COUNT(*)", "TRUE").trim(), "0");
    found.trim().to_owned()
}

/// What the server tells of its open transactions.
fn transactions(scene: &Scene, column: &str, condition: &str) -> String {
    // The table is made anew only when nobody has looked at it for a tenth of a second.
    std::thread::sleep(Duration::from_millis(200));
    scene.server.sql(&format!(
        "SELECT {column} FROM information_schema.innodb_trx WHERE {condition}"
    ))
}

/// The server ends the connection behind its OK.
#[test]
fn who_releases_a_connection_leaves_it_to_nobody() {
    let servers = [Some(Scene::new(1, "")), Scene::on_mysql(1, "", "")];
    for scene in servers.into_iter().flatten() {
        scene.server.sql("CREATE TABLE test.written (a INT)");
        let (mut own, mut other) = (scene.client(true), scene.client(false));
        for round in 0..30 {
            let form = Form::ALL[round % 2];
            let sql = ["COMMIT RELEASE", "ROLLBACK WORK RELEASE"][round / 2 % 2];
            ask(&mut own, form, sql);
            // A write, which is not sent once more, right behind it.
            ask(&mut other, Form::Text, "INSERT INTO written VALUES (1)");
        }
    }
}
