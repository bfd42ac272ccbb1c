//! What stored functions, triggers and views leave in a session is its own, and ends with it.

use std::time::Duration;

use crate::support::{ACCOUNT, Client, wait_for};
use crate::{Form, Scene, ask, send};

/// Programs that leave something, and siblings that do not.
const PROGRAMS: &[&str] = &[
    "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "CREATE TABLE logged (v INT)",
    "CREATE TABLE plain (v INT)",
    "CREATE TABLE noted (v INT)",
    "CREATE FUNCTION lock_it(n CHAR(20)) RETURNS INT NO SQL RETURN GET_LOCK(n, 0)",
    "CREATE FUNCTION through(n CHAR(20)) RETURNS INT NO SQL RETURN `Lock_it`(n)",
    "CREATE FUNCTION remember(n INT) RETURNS INT NO SQL BEGIN SET @kept = n; RETURN n; END",
    "CREATE FUNCTION `into_it`(n INT) RETURNS INT READS SQL DATA \
     BEGIN SELECT n INTO @kept FROM DUAL; RETURN n; END",
    "CREATE FUNCTION zone() RETURNS INT NO SQL BEGIN SET @@time_zone = '+11:00'; RETURN 1; END",
    "CREATE FUNCTION temps() RETURNS INT MODIFIES SQL DATA \
     BEGIN CREATE TEMPORARY TABLE passing (n INT); RETURN 1; END",
    "CREATE FUNCTION twice(n INT) RETURNS INT NO SQL BEGIN DECLARE m INT; SET m = n * 2; RETURN m; END",
    "CREATE TRIGGER on_t AFTER INSERT ON t FOR EACH ROW SET @kept = NEW.v",
    "CREATE TRIGGER on_logged AFTER UPDATE ON logged FOR EACH ROW INSERT INTO plain VALUES (remember(NEW.v))",
    "CREATE TRIGGER on_plain BEFORE DELETE ON plain FOR EACH ROW INSERT INTO noted VALUES (twice(OLD.v))",
    "CREATE VIEW seen AS SELECT remember(7) AS x",
    "CREATE VIEW over_it AS SELECT x FROM seen",
    "INSERT INTO logged VALUES (1)",
];

/// A statement, what shows what it left, and that for its own session.
const LEAVING: &[(&str, &str, &str)] = &[
    ("SELECT remember(42)", "SELECT IFNULL(@kept, 'none')", "42"),
    (
        "SELECT 1 FROM plain RIGHT JOIN logged ON test . `REMEMBER` (43)",
        "SELECT IFNULL(@kept, 'none')",
        "43",
    ),
    ("SELECT into_it(44)", "SELECT IFNULL(@kept, 'none')", "44"),
    (
        "INSERT INTO t (v) VALUES (99)",
        "SELECT IFNULL(@kept, 'none')",
        "99",
    ),
    (
        "UPDATE logged SET v = v + 1",
        "SELECT IF(@kept IS NULL, 'none', 'some')",
        "some",
    ),
    ("SELECT * FROM over_it", "SELECT IFNULL(@kept, 'none')", "7"),
    ("SELECT zone()", "SELECT @@time_zone", "+11:00"),
    ("SELECT temps()", "SELECT COUNT(*) FROM passing", "0"),
    (
        "SELECT lock_it('a')",
        "SELECT IS_USED_LOCK('a') = CONNECTION_ID()",
        "1",
    ),
    (
        "DO through('a')",
        "SELECT IS_USED_LOCK('a') = CONNECTION_ID()",
        "1",
    ),
];

#[test]
fn what_stored_programs_leave_is_their_sessions_own() {
    let scene = Scene::new(2, "");
    let mut direct = scene.direct();
    for sql in PROGRAMS {
        ask(&mut direct, Form::Text, sql);
    }
    for form in Form::ALL {
        for (sql, read, expect) in LEAVING {
            let (mut own, mut other) = (scene.client(true), scene.client(false));
            ask(&mut own, form, "SELECT 1");
            ask(&mut own, form, sql);
            let others = send(&mut other, form, read).map(|answer| answer.text(0, 0));
            let others = others.ok().flatten();
            assert_ne!(others.as_deref(), Some(*expect), "another's: {sql}");
            assert_eq!(ask(&mut own, form, read), *expect, "its own: {sql}");
            drop((own, other));
            let is_free = || ask(&mut direct, Form::Text, "SELECT IS_FREE_LOCK('a')") == "1";
            assert!(wait_for(Duration::from_secs(5), is_free), "{sql}");
            for _ in 0..2 {
                let late = send(&mut scene.client(true), form, read);
                let late = late.map(|answer| answer.text(0, 0)).ok().flatten();
                assert_ne!(late.as_deref(), Some(*expect), "a later one's: {sql}");
            }
        }
        // Of those before, the last ones' connections may still be on their way back.
        let is_quiet = || scene.pinned() == 0.0;
        assert!(wait_for(Duration::from_secs(5), is_quiet));
        let mut own = scene.client(true);
        for sql in [
            "SELECT twice(4)",
            "DELETE FROM plain",
            "INSERT INTO plain VALUES (3)",
            "SELECT 'remember', 't', 1 AS x -- zone()",
        ] {
            ask(&mut own, form, sql);
            assert_eq!(scene.pinned(), 0.0, "{sql}");
        }
    }
}

#[test]
fn programs_that_are_made_later_are_known_at_once_through_the_gateway() {
    let scene = Scene::new(2, "");
    let (mut own, mut other) = (scene.client(true), scene.client(true));
    ask(&mut other, Form::Text, "CREATE TABLE t (v INT)");
    for form in Form::ALL {
        ask(&mut own, form, "INSERT INTO t VALUES (1)");
        assert_eq!(scene.pinned(), 0.0);
        ask(
            &mut other,
            Form::Text,
            "CREATE TRIGGER on_t AFTER INSERT ON t FOR EACH ROW SET @kept = NEW.v",
        );
        // It names a user variable itself.
        other.reset().expect("an OK");
        ask(&mut own, form, "INSERT INTO t VALUES (2)");
        assert_eq!(scene.pinned(), 1.0);
        assert_eq!(ask(&mut own, form, "SELECT @kept"), "2");
        own.reset().expect("an OK");
        ask(&mut other, Form::Text, "DROP TRIGGER on_t");
    }
}

/// What triggers leave that the account cannot see: the variable and the lock, as another session sees them.
const LEFT: &[(&str, &str)] = &[
    ("SELECT IFNULL(@kept, 'none')", "none"),
    ("SELECT IS_FREE_LOCK('unseen')", "1"),
    ("SELECT @@time_zone", "SYSTEM"),
];

/// A server with triggers on `t`, and on `hidden.u`, to which `t2`'s function and a view write as root.
const UNSEEN: &[&str] = &[
    "CREATE TABLE test.t (v INT)",
    "CREATE TABLE test.plain (v INT)",
    "CREATE DATABASE hidden",
    "CREATE TABLE hidden.u (v INT)",
    "CREATE DEFINER = root@localhost TRIGGER test.on_t AFTER INSERT ON test.t FOR EACH ROW \
     SET @kept = GET_LOCK('unseen', 0) + 41, @@time_zone = '+11:00'",
    "CREATE DEFINER = root@localhost TRIGGER test.on_t2 AFTER DELETE ON test.t FOR EACH ROW \
     BEGIN DECLARE got INT; SET got = GET_LOCK('unseen', 0); END",
    "CREATE DEFINER = root@localhost TRIGGER hidden.on_u AFTER INSERT ON hidden.u FOR EACH ROW SET @kept = GET_LOCK('unseen', 0) + 41",
    "CREATE DEFINER = root@localhost FUNCTION test.through(n INT) RETURNS INT MODIFIES SQL DATA \
     BEGIN INSERT INTO hidden.u VALUES (n); RETURN n; END",
    "CREATE DEFINER = root@localhost FUNCTION hidden.locks() RETURNS INT NO SQL RETURN GET_LOCK('unseen', 0)",
    "CREATE DEFINER = root@localhost VIEW test.calling AS SELECT hidden.locks() AS x",
    "CREATE DEFINER = root@localhost VIEW test.across AS SELECT v FROM hidden.u",
];

/// Statements that have one of these triggers run, in a schema of which the account has all rights but TRIGGER.
const FIRING: &[&str] = &[
    "INSERT INTO t VALUES (1)",
    "INSERT INTO test.t SELECT 1",
    "REPLACE INTO `t` VALUES (1)",
    "DELETE FROM t WHERE v = 1",
    "SELECT through(3)",
    "INSERT INTO across VALUES (2)",
];

/// Looks at what another session sees of what one statement left, on the only connection there is; whether
/// its own session has kept that.
fn others_see_nothing_of(scene: &Scene, other: &mut Client, form: Form, sql: &str) -> bool {
    let mut own = scene.client(true);
    ask(&mut own, form, sql);
    let is_kept = !wait_for(Duration::from_secs(1), || scene.pinned() == 0.0);
    for (read, expect) in LEFT.iter().filter(|_| !is_kept) {
        assert_eq!(ask(other, form, read), *expect, "{form:?} {sql}: {read}");
        other.reset().expect("an OK");
    }
    drop(own);
    let is_free = || scene.server.sql("SELECT IS_FREE_LOCK('unseen')").trim() == "1";
    assert!(wait_for(Duration::from_secs(5), is_free), "{form:?} {sql}");
    for (read, expect) in LEFT {
        assert_eq!(
            ask(other, form, read),
            *expect,
            "later: {form:?} {sql}: {read}"
        );
        other.reset().expect("an OK");
    }
    is_kept
}

fn cleansed(scene: &Scene) -> f64 {
    let gateway = &scene.gateway;
    gateway.metric("ringgate_upstream_connections_cleansed_total", &[])
}

#[test]
fn what_triggers_leave_that_the_account_cannot_see_is_nobodys() {
    let scene = Scene::new(1, "");
    let server = &scene.server;
    let mut root = scene.direct();
    UNSEEN
        .iter()
        .for_each(|sql| drop(ask(&mut root, Form::Text, sql)));
    let account = format!("'{ACCOUNT}'@'%'");
    server.sql(&format!(
        "REVOKE ALL, GRANT OPTION FROM {account}; GRANT SELECT ON mysql.proc TO {account}; \
         GRANT ALL ON test.* TO {account}; REVOKE TRIGGER ON test.* FROM {account}"
    ));
    let mut other = scene.client(false);
    for form in Form::ALL {
        for sql in FIRING {
            let is_kept = others_see_nothing_of(&scene, &mut other, form, sql);
            // What sets a variable is reported, if it is not told which.
            assert!(!is_kept || !sql.contains("DELETE"), "{form:?} {sql}");
        }
        assert_eq!(ask(&mut other, form, "SELECT 1"), "1");
        let before = cleansed(&scene);
        for (sql, more) in [
            ("SELECT v FROM plain", 0.0),
            ("INSERT INTO plain VALUES (1)", 1.0),
        ] {
            let mut own = scene.client(true);
            ask(&mut own, form, sql);
            assert_eq!(ask(&mut own, form, "SELECT 1"), "1");
            assert!(
                (cleansed(&scene) - before - more).abs() < 0.1,
                "{form:?} {sql}"
            );
        }
        let mut own = scene.client(true);
        ask(&mut own, form, "INSERT INTO plain VALUES (1), (2)");
        assert_eq!(ask(&mut own, form, "SELECT ROW_COUNT()"), "2", "{form:?}");
        server.sql("INSERT INTO test.t VALUES (9)");
        ask(&mut own, form, "BEGIN");
        ask(&mut own, form, "DELETE FROM t");
        assert_eq!(ask(&mut own, form, "SELECT COUNT(*) FROM t"), "0");
        ask(&mut own, form, "COMMIT");
        assert_eq!(ask(&mut other, form, "SELECT IS_FREE_LOCK('unseen')"), "1");
        other.reset().expect("an OK");
    }
}

#[test]
fn an_account_that_may_see_triggers_pays_for_none_that_leave_nothing() {
    let scene = Scene::new(1, "");
    let server = &scene.server;
    let mut root = scene.direct();
    UNSEEN
        .iter()
        .for_each(|sql| drop(ask(&mut root, Form::Text, sql)));
    let account = format!("'{ACCOUNT}'@'%'");
    server.sql(&format!(
        "REVOKE ALL, GRANT OPTION FROM {account}; GRANT SELECT ON mysql.proc TO {account}; \
         GRANT ALL ON test.* TO {account}"
    ));
    let mut other = scene.client(false);
    for form in Form::ALL {
        for sql in FIRING {
            let names_it = sql.contains(" t ") || sql.contains("`t`") || sql.contains("test.t");
            let is_kept = others_see_nothing_of(&scene, &mut other, form, sql);
            assert!(is_kept || !names_it, "{form:?} {sql}");
        }
        // Its owner has what its trigger leaves: the connection is kept.
        let mut own = scene.client(true);
        ask(&mut own, form, "INSERT INTO t VALUES (1)");
        assert_eq!(ask(&mut own, form, "SELECT @kept"), "42", "{form:?}");
        assert_eq!(
            ask(&mut own, form, "SELECT IS_USED_LOCK('unseen') > 0"),
            "1"
        );
        drop(own);
        assert_eq!(ask(&mut other, form, "SELECT 1"), "1");
        let before = cleansed(&scene);
        for sql in [
            "INSERT INTO plain VALUES (1)",
            "DELETE FROM plain",
            "UPDATE plain SET v = 1",
        ] {
            ask(&mut other, form, sql);
            assert_eq!(scene.pinned(), 0.0, "{form:?} {sql}");
        }
        assert_eq!(cleansed(&scene), before, "{form:?}");
    }
}

#[test]
fn what_functions_leave_that_the_account_cannot_see_is_nobodys() {
    // With the view's text and without it: the function is in another schema.
    for rights in ["SELECT, SHOW VIEW", "SELECT"] {
        let scene = Scene::new(1, "");
        let mut root = scene.direct();
        UNSEEN
            .iter()
            .for_each(|sql| drop(ask(&mut root, Form::Text, sql)));
        let account = format!("'{ACCOUNT}'@'%'");
        scene.server.sql(&format!(
            "REVOKE ALL, GRANT OPTION FROM {account}; GRANT {rights} ON test.* TO {account}"
        ));
        let mut other = scene.client(false);
        for form in Form::ALL {
            others_see_nothing_of(&scene, &mut other, form, "SELECT x FROM calling");
        }
    }
}

#[test]
fn where_no_trigger_is_hidden_nothing_is_cleansed() {
    let scene = Scene::new(1, "");
    let account = format!("'{ACCOUNT}'@'%'");
    scene.server.sql(&format!(
        "CREATE TABLE test.plain (v INT); REVOKE ALL, GRANT OPTION FROM {account}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON test.* TO {account}"
    ));
    let mut own = scene.client(true);
    for form in Form::ALL {
        for sql in [
            "INSERT INTO plain VALUES (1)",
            "UPDATE plain SET v = 2",
            "DELETE FROM plain",
        ] {
            ask(&mut own, form, sql);
            assert_eq!(scene.pinned(), 0.0, "{form:?} {sql}");
        }
    }
    assert_eq!(cleansed(&scene), 0.0);
}
