//! The whole state of a session is what a fresh login gives, whatever another session has done on the
//! connection before: all variables, user variables, locks, temporary tables, prepared statements.

use crate::support::Client;
use crate::{Form, Scene, ask, send};

/// Statements with a choice in each bracket.
const GRAMMAR: &[&str] = &[
    "SET [@@|@@session.|@@local.|SESSION |]sql_mode = ['ANSI_QUOTES'|''|'STRICT_ALL_TABLES']",
    "SET [@@|@@session.|]time_zone = ['+01:00'|'-03:30'], [@@|]sql_notes = [0|1]",
    "SET [@@|]sql_notes = 0, [@@|@@session.]innodb_lock_wait_timeout = [7|9]",
    "SET [@@|]foreign_key_checks = [0|DEFAULT], unique_checks = [0|DEFAULT]",
    "SET [NAMES latin1|NAMES utf8mb4 COLLATE utf8mb4_bin|CHARACTER SET latin1]",
    "SET [@@|@@session.|]character_set_[client|results|connection] = latin1",
    "/*!50000 SET [@@|]sql_select_limit = [1|3] */",
    "SET [@@|]autocommit = [0|1]",
    "SET [@@|@@session.]tx_isolation = ['SERIALIZABLE'|'READ-COMMITTED']",
    "SET STATEMENT max_statement_time = [3|4] FOR SELECT 1",
    "SET @[a|b] = [1|'x'], @@group_concat_max_len = [2000|3000]",
    "SET [@@|]debug_no_thread_alarm = 1",
    "SELECT [1|2] INTO @c",
    "SELECT GET_LOCK('[m|n]', 0)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS passing_[a|b] (n INT)",
    "PREPARE p[1|2] FROM 'SELECT 1'",
    "SELECT [remember(5)|zone()|lock_it('n')|temps()]",
    "INSERT INTO t (v) VALUES ([1|2])",
    "CALL p()",
    "USE [test|mysql]",
    "BEGIN",
    "COMMIT",
    "SELECT * FROM seen",
];

const PROGRAMS: &[&str] = &[
    "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "CREATE FUNCTION lock_it(n CHAR(20)) RETURNS INT NO SQL RETURN GET_LOCK(n, 0)",
    "CREATE FUNCTION remember(n INT) RETURNS INT NO SQL BEGIN SET @kept = n; RETURN n; END",
    "CREATE FUNCTION zone() RETURNS INT NO SQL \
     BEGIN SET @@time_zone = '+11:00', time_zone = '+10:00', @@sql_notes = 0; RETURN 1; END",
    "CREATE FUNCTION temps() RETURNS INT MODIFIES SQL DATA \
     BEGIN CREATE TEMPORARY TABLE IF NOT EXISTS passing_f (n INT); RETURN 1; END",
    "CREATE TRIGGER on_t AFTER INSERT ON t FOR EACH ROW SET @kept = NEW.v, @@sql_select_limit = 5",
    "CREATE PROCEDURE p() BEGIN SET @in_call = 1; SET @@div_precision_increment = 9; END",
    "CREATE VIEW seen AS SELECT remember(7) AS x",
];

/// The next number below `limit`.
fn below(seed: &mut u64, limit: usize) -> usize {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).expect("31 bits") % limit
}

/// A statement of the grammar.
fn statement(seed: &mut u64) -> String {
    let mut rest = GRAMMAR[below(seed, GRAMMAR.len())];
    let mut sql = String::new();
    while let Some((before, after)) = rest.split_once('[') {
        let (choices, behind) = after.split_once(']').expect("a closing bracket");
        let choices: Vec<&str> = choices.split('|').collect();
        sql.push_str(before);
        sql.push_str(choices[below(seed, choices.len())]);
        rest = behind;
    }
    sql.push_str(rest);
    sql
}

/// All that a session can see of its own state, but for what differs by nature.
fn state(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    let variables = "SHOW SESSION VARIABLES WHERE Variable_name NOT IN ('timestamp', 'pseudo_thread_id', \
        'rand_seed1', 'rand_seed2', 'last_insert_id', 'identity', 'gtid_current_pos', 'in_transaction') \
        AND Variable_name NOT LIKE 'session_track_%'";
    for sql in [
        variables,
        "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM information_schema.USER_VARIABLES",
        "SELECT DATABASE(), @@in_transaction",
    ] {
        let answer = client
            .query_one(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        for row in 0..answer.rows.len() {
            all.push(format!(
                "{:?} {:?}",
                answer.text(row, 0),
                answer.text(row, 1)
            ));
        }
    }
    for sql in ["EXECUTE p1", "EXECUTE p2"] {
        all.push(format!(
            "{sql} {:?}",
            send(client, Form::Text, sql).map_err(|e| e.errno()).err()
        ));
    }
    for table in ["passing_a", "passing_b", "passing_f"] {
        let sql = format!("SELECT COUNT(*) FROM test.{table}");
        all.push(format!(
            "{sql} {:?}",
            send(client, Form::Text, &sql).map_err(|e| e.errno()).err()
        ));
    }
    all
}

#[test]
fn a_session_finds_what_a_fresh_login_gives_whatever_went_before() {
    let scene = Scene::new(1, "");
    let mut direct = scene.direct();
    for sql in PROGRAMS {
        ask(&mut direct, Form::Text, sql);
    }
    let expect = state(&mut scene.direct());
    let mut other = scene.client(true);
    let first = std::env::var("RG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut moved = 0;
    for number in first.map_or(1..=120_u64, |seed| seed..=seed) {
        let mut seed = number;
        let mut own = scene.client(number % 2 == 0);
        let mut done = Vec::new();
        for _ in 0..1 + below(&mut seed, 5) {
            let sql = statement(&mut seed);
            let form = Form::ALL[below(&mut seed, 2)];
            // Some of these a server refuses; what that leaves counts too.
            let answer = send(&mut own, form, &sql).map_err(|error| error.errno());
            done.push(format!("{form:?} {sql} -> {:?}", answer.err()));
        }
        let is_free = scene.pinned() == 0.0;
        moved += u32::from(is_free);
        let keeps = (!is_free).then(|| drop(own));
        let found = state(&mut other);
        let differ: Vec<_> = found.iter().filter(|line| !expect.contains(line)).collect();
        assert!(
            differ.is_empty(),
            "RG_SEED={number}: {differ:#?} after {done:#?}, {keeps:?}"
        );
        let is_free = "SELECT IS_FREE_LOCK('m') + IS_FREE_LOCK('n')";
        assert_eq!(
            ask(&mut direct, Form::Text, is_free),
            "2",
            "RG_SEED={number}: {done:#?}"
        );
        // What it has asked keeps the connection.
        other.reset().expect("an OK");
    }
    assert!(moved > 20 || first.is_some(), "only {moved} moved");
}
