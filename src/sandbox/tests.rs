//! The engine without the wire: SQL in, rows and errors out.

use super::catalog::{Catalog, SessionHandle};
use super::schema::text_of;
use super::session::{Outcome, Session};
use crate::wire::mysql::flags::status;
use crate::wire::mysql::track::{Change, Changes};
use std::sync::Arc;

struct Shard {
    catalog: Arc<Catalog>,
    next: u32,
}

impl Shard {
    fn new() -> Self {
        let catalog = Arc::new(Catalog::create("8.0.36-test").unwrap());
        catalog.create_database("shop").unwrap();
        catalog.create_database("other").unwrap();
        Self { catalog, next: 1 }
    }

    fn session(&mut self) -> Session {
        let handle = Arc::new(SessionHandle::new(self.next, "ann", "localhost", None));
        self.next += 1;
        let mut session = Session::new(self.catalog.clone(), handle);
        session.use_schema("shop").unwrap();
        session.take_changes();
        session
    }
}

/// The last statement's answer: rows as `a|b;c|d`, `OK n` or `ERR number`.
fn run(session: &mut Session, sql: &str) -> String {
    let statements = match session.read(sql.as_bytes()) {
        Ok(statements) => statements,
        Err(error) => return format!("ERR {}", error.errno),
    };
    let mut answer = String::new();
    for statement in statements {
        answer = match session.run(&statement, sql.as_bytes(), &[]) {
            Ok(Outcome::Done(done)) => format!("OK {}", done.affected),
            Err(error) => format!("ERR {} {}", error.errno, error.message),
            Ok(Outcome::Rows(rows)) => {
                let line = |row: &Vec<_>| {
                    let cells = row
                        .iter()
                        .map(|v| text_of(Some(v)).unwrap_or("NULL".into()));
                    cells.collect::<Vec<_>>().join("|")
                };
                rows.rows.iter().map(line).collect::<Vec<_>>().join(";")
            }
        };
    }
    answer
}

fn check(session: &mut Session, sql: &str, expect: &str) {
    let answer = run(session, sql);
    let fits =
        answer == expect || expect.starts_with("ERR") && answer.starts_with(&format!("{expect} "));
    assert!(fits, "{sql}\n  gave   {answer}\n  wanted {expect}");
}

#[test]
fn tables_are_made_filled_read_changed_and_dropped() {
    let session = &mut Shard::new().session();
    let create = "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20) NOT NULL, \
                  price DECIMAL(10,2) DEFAULT '1.5', UNIQUE KEY by_name (name)) ENGINE=InnoDB";
    check(session, create, "OK 0");
    check(session, create, "ERR 1050");
    check(
        session,
        "INSERT INTO t (name) VALUES ('a'), ('b'), ('it''s')",
        "OK 3",
    );
    check(session, "SELECT LAST_INSERT_ID(), ROW_COUNT()", "1|3");
    check(session, "INSERT INTO t SET name = 'd'", "OK 1");
    check(session, "SELECT LAST_INSERT_ID()", "4");
    check(
        session,
        "SELECT id, name FROM t ORDER BY id LIMIT 1, 2",
        "2|b;3|it's",
    );
    check(session, "INSERT INTO t (name) VALUES ('A')", "ERR 1062");
    check(session, "INSERT IGNORE INTO t (name) VALUES ('A')", "OK 0");
    check(
        session,
        "INSERT INTO t (name, price) VALUES ('a', 9) ON DUPLICATE KEY UPDATE price = VALUES(price)",
        "OK 1",
    );
    check(session, "SELECT price FROM t WHERE name = 'A'", "9");
    check(
        session,
        "UPDATE t SET price = price + 1 WHERE id > 2 LIMIT 1",
        "OK 1",
    );
    check(session, "DELETE FROM t ORDER BY id DESC LIMIT 1", "OK 1");
    check(session, "INSERT INTO t (name) VALUES (NULL)", "ERR 1048");
    check(session, "INSERT INTO t VALUES (1)", "ERR 1136");
    check(session, "SELECT nothing FROM t", "ERR 1054");
    check(
        session,
        "SELECT * FROM nowhere",
        "ERR 1146 Table 'shop.nowhere' doesn't exist",
    );
    check(session, "SELEC 1", "ERR 1064");
    check(session, "SELECT 1 FROM", "ERR 1064");
    check(
        session,
        "TRUNCATE TABLE t; INSERT INTO t (name) VALUES ('x'); SELECT id FROM t",
        "1",
    );
    check(
        session,
        "ALTER TABLE t ADD COLUMN extra TEXT; SELECT extra FROM t",
        "NULL",
    );
    check(session, "DROP TABLE t", "OK 0");
    check(session, "DROP TABLE t", "ERR 1051");
    check(session, "DROP TABLE IF EXISTS t", "OK 0");
}

#[test]
fn functions_answer_as_mysqls_do() {
    let session = &mut Shard::new().session();
    check(
        session,
        "SELECT DATABASE(), VERSION(), CONNECTION_ID(), USER()",
        "shop|8.0.36-test|1|ann@localhost",
    );
    check(
        session,
        "SELECT CONCAT('a', 1, NULL), CONCAT('a', 1), IF(1, 'y', 'n')",
        "NULL|a1|y",
    );
    check(
        session,
        "SELECT 7 / 2, 7 DIV 2, 7 MOD 4, 1 / 0",
        "3.5|3|3|NULL",
    );
    check(
        session,
        "SELECT LEFT('abc', 2), RIGHT('abc', 2), CHAR_LENGTH('ä'), LENGTH('ä')",
        "ab|bc|1|2",
    );
    check(
        session,
        "SELECT 'Abc' LIKE 'a%', '50%' LIKE '50\\%', 'a' <=> NULL",
        "1|1|0",
    );
    check(
        session,
        "SELECT DATE_ADD('2024-01-31', INTERVAL 1 MONTH), DATEDIFF('2024-03-01', '2024-02-01')",
        "2024-02-29|29",
    );
    check(session, "SELECT @a := 5, @a, @b", "5|5|NULL");
    check(
        session,
        "SELECT LPAD('7', 3, '0'), LOCATE('b', 'abc'), REPEAT('ab', 2), SHA1('')",
        "007|2|abab|da39a3ee5e6b4b0d3255bfef95601890afd80709",
    );
    check(
        session,
        "SELECT GREATEST(1, 3), LEAST(1, 3), FLOOR(1.7), CEIL(1.2), MOD(7, 3)",
        "3|1|1|2|1",
    );
    check(
        session,
        "SELECT GET_LOCK('l', 0), IS_USED_LOCK('l'), RELEASE_LOCK('l'), RELEASE_LOCK('l')",
        "1|1|1|NULL",
    );
    check(
        session,
        "SELECT CAST('12' AS SIGNED) + 1, CAST(1.005 AS CHAR)",
        "13|1.005",
    );
    check(session, "SELECT no_such(1)", "ERR 1305");
    check(session, "DO SLEEP(0)", "OK 0");
}

#[test]
fn transactions_isolate_commit_and_roll_back() {
    let mut shard = Shard::new();
    let (mut one, mut two) = (shard.session(), shard.session());
    check(&mut one, "CREATE TABLE t (a INT)", "OK 0");
    assert_eq!(one.status(), status::AUTOCOMMIT);
    check(&mut one, "BEGIN; INSERT INTO t VALUES (1)", "OK 1");
    assert_eq!(one.status(), status::AUTOCOMMIT | status::IN_TRANS);
    check(&mut two, "SELECT COUNT(*) FROM t", "0");
    check(
        &mut one,
        "SAVEPOINT s; INSERT INTO t VALUES (2); ROLLBACK TO SAVEPOINT s",
        "OK 0",
    );
    check(&mut one, "ROLLBACK TO nowhere", "ERR 1305");
    check(&mut one, "COMMIT", "OK 0");
    check(&mut two, "SELECT a FROM t", "1");
    check(
        &mut one,
        "START TRANSACTION READ ONLY; INSERT INTO t VALUES (3)",
        "ERR 1792",
    );
    check(&mut one, "ROLLBACK", "OK 0");
    check(&mut one, "SET autocommit = 0", "OK 0");
    assert_eq!(one.status(), 0);
    check(&mut one, "SELECT 1", "1");
    assert_eq!(one.status(), 0);
    check(&mut one, "DELETE FROM t", "OK 1");
    assert_eq!(one.status(), status::IN_TRANS);
    check(&mut one, "ROLLBACK; SELECT a FROM t", "1");
    check(&mut one, "SET autocommit = 1", "OK 0");
    assert_eq!(one.status(), status::AUTOCOMMIT);
}

#[test]
fn writers_that_meet_get_mysqls_errors() {
    let mut shard = Shard::new();
    let (mut one, mut two) = (shard.session(), shard.session());
    check(
        &mut one,
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
        "OK 1",
    );
    check(&mut two, "SET innodb_lock_wait_timeout = 0", "OK 0");
    check(&mut one, "BEGIN; UPDATE t SET a = 2", "OK 1");
    check(&mut two, "UPDATE t SET a = 3", "ERR 1205");
    check(&mut two, "BEGIN; SELECT a FROM t", "1");
    check(&mut one, "COMMIT", "OK 0");
    check(&mut two, "UPDATE t SET a = a + 1", "ERR 1213");
    assert_eq!(two.status() & status::IN_TRANS, 0);
    check(&mut two, "UPDATE t SET a = a + 1; SELECT a FROM t", "3");
}

#[test]
fn sessions_report_what_they_change() {
    let session = &mut Shard::new().session();
    let mut changes = |sql: &str| {
        assert!(!run(session, sql).starts_with("ERR"), "{sql}");
        let raw = session.take_changes();
        let read = Changes::new(&raw).map(|change| match change.unwrap() {
            Change::SystemVariable { name, value } => {
                format!(
                    "{}={}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value)
                )
            }
            Change::Schema(name) => format!("schema {}", String::from_utf8_lossy(name)),
            Change::StateChanged(on) => format!("state {on}"),
            Change::TransactionState(state) => String::from_utf8_lossy(state).into_owned(),
            other => format!("{other:?}"),
        });
        read.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(changes("SET autocommit = 0"), "autocommit=OFF");
    assert_eq!(
        changes("SET autocommit = 1, sql_mode = 'ANSI'"),
        "autocommit=ON"
    );
    assert_eq!(
        changes("SET NAMES latin1"),
        "character_set_client=latin1 character_set_connection=latin1 character_set_results=latin1"
    );
    assert_eq!(
        changes("SET session_track_system_variables = '*'"),
        "session_track_system_variables=*"
    );
    assert_eq!(changes("SET sql_mode = ''"), "sql_mode=");
    assert_eq!(changes("USE other"), "schema other");
    assert_eq!(changes("SELECT 1"), "");
    assert_eq!(
        changes("SET session_track_state_change = 1"),
        "session_track_state_change=ON state true"
    );
    assert_eq!(changes("SET @a = 1"), "state true");
    assert_eq!(
        changes("SET session_track_transaction_info = 'STATE'"),
        "session_track_transaction_info=STATE state true"
    );
    assert_eq!(changes("BEGIN"), "T_______");
    assert_eq!(changes("COMMIT"), "________");
}

#[test]
fn variables_are_set_and_read_back() {
    let session = &mut Shard::new().session();
    check(
        session,
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES'), @x = 'y'",
        "OK 0",
    );
    check(
        session,
        "SELECT @@sql_mode LIKE '%ANSI_QUOTES' AS \"on\", @x",
        "1|y",
    );
    check(session, "SET sql_mode = DEFAULT", "OK 0");
    check(session, "SELECT \"text\"", "text");
    check(
        session,
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT @@tx_isolation",
        "READ-COMMITTED",
    );
    check(session, "SELECT @@no_such_thing", "ERR 1193");
    check(session, "SET GLOBAL max_connections = 5", "ERR 1227");
    check(session, "SET NAMES klingon", "ERR 1115");
    check(session, "SHOW VARIABLES LIKE 'autocommit'", "autocommit|ON");
    check(
        session,
        "SHOW VARIABLES WHERE Variable_name = 'time_zone'",
        "time_zone|SYSTEM",
    );
    check(
        session,
        "PREPARE p FROM 'SELECT ? + 1'; SET @n = 4; EXECUTE p USING @n",
        "5",
    );
    check(session, "DEALLOCATE PREPARE p; EXECUTE p", "ERR 1243");
    session.reset();
    check(session, "SELECT @x, DATABASE()", "NULL|shop");
}

#[test]
fn databases_and_tables_are_listed_and_described() {
    let session = &mut Shard::new().session();
    check(session, "SHOW DATABASES", "information_schema;other;shop");
    check(
        session,
        "CREATE DATABASE third; CREATE TABLE third.t (a INT, KEY k (a)); USE third; SHOW TABLES",
        "t",
    );
    check(session, "USE shop; SELECT COUNT(*) FROM third.t", "0");
    check(session, "SHOW TABLES FROM third LIKE 't%'", "t");
    check(
        session,
        "DROP DATABASE third; SELECT * FROM third.t",
        "ERR 1146",
    );
    check(session, "USE third", "ERR 1049");
    check(
        session,
        "CREATE TABLE d (id BIGINT AUTO_INCREMENT PRIMARY KEY, n VARCHAR(9) DEFAULT 'x', at DATETIME, KEY k (n))",
        "OK 0",
    );
    let described =
        "id|bigint|NO|PRI|NULL|auto_increment;n|varchar(9)|YES|MUL|x|;at|datetime|YES||NULL|";
    check(session, "DESCRIBE d", described);
    check(session, "SHOW COLUMNS FROM d FROM shop", described);
    check(
        session,
        "SHOW INDEX FROM d",
        "d|0|PRIMARY|1|id|BTREE;d|1|k|1|n|BTREE",
    );
    check(session, "SHOW COLUMNS FROM nowhere", "ERR 1146");
    check(
        session,
        "SELECT TABLE_NAME FROM information_schema.tables WHERE table_schema = DATABASE()",
        "d",
    );
    check(
        session,
        "SELECT column_name, column_type FROM information_schema.COLUMNS WHERE table_name = 'd' LIMIT 1",
        "id|bigint",
    );
    let create = run(session, "SHOW CREATE TABLE d");
    check(session, "DROP TABLE d", "OK 0");
    check(session, create.strip_prefix("d|").unwrap(), "OK 0");
    check(session, "DESCRIBE d", described);
    check(session, "SELECT 1 +; ", "ERR 1064");
    check(session, "SHOW COUNT(*) WARNINGS", "1");
}

#[test]
fn a_sleeping_query_can_be_killed() {
    let mut shard = Shard::new();
    let catalog = shard.catalog.clone();
    let handle = Arc::new(SessionHandle::new(77, "ann", "localhost", None));
    catalog.enter(handle.clone());
    let mut sleeper = Session::new(catalog, handle.clone());
    handle.doing(Some("SELECT SLEEP(60)".to_owned()));
    let thread = std::thread::spawn(move || run(&mut sleeper, "SELECT SLEEP(60)"));
    check(&mut shard.session(), "KILL QUERY 77", "OK 0");
    assert!(thread.join().unwrap().starts_with("ERR 1317"));
    check(&mut shard.session(), "KILL 78", "ERR 1094");
}
