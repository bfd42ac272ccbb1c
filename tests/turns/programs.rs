//! What stored functions, triggers and views leave in a session is its own, and ends with it.

use std::time::Duration;

use crate::support::wait_for;
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
