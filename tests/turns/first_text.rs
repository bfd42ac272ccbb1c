//! A session's first text, also after a reset, is read by what the server gives the session: `sql_mode` and the
//! character set are known for sure once a connection has told them.

use std::time::Duration;

use crate::support::Client;
use crate::{Form, Scene, ask};

/// Longer than a changed global may stay unknown to sessions that begin.
const UNTIL_KNOWN: Duration = Duration::from_millis(1_050);

/// A global, and a text around what is hidden from who does not read it by that.
type Hiding = (&'static str, &'static [u8], &'static [u8]);

const BY_MODE: &[Hiding] = &[
    (
        "sql_mode = 'NO_BACKSLASH_ESCAPES'",
        b"SELECT '\\'",
        b" -- '",
    ),
    ("sql_mode = 'ANSI_QUOTES'", b"SELECT 1 AS \"\\\"", b" -- \""),
];

const BY_CHARSET: &[Hiding] = &[
    ("character_set_client = 'gbk'", b"SELECT '\xbf\\'", b" -- '"),
    (
        "character_set_client = 'latin1'",
        b"SELECT 1 --\xa0'\n",
        b" -- '",
    ),
];

const COM_QUERY: u8 = 3;
const COM_STMT_PREPARE: u8 = 0x16;
const REFUSED: u16 = 1235;

/// What a session reads after [`LEFT`] on its connection.
const READS: &str = "SELECT FOUND_ROWS()";
const LEFT: &str = "SELECT 1 UNION SELECT 2";

/// The session's next statement takes a lock out of sight, and is seen to. What another session has left on the
/// connection stays that one's.
fn keeps_its_lock(scene: &Scene, [own, other]: [&mut Client; 2], hiding: &Hiding, when: &str) {
    let (global, before, after) = hiding;
    let text = [before, &b", GET_LOCK('hidden', 9)"[..], after].concat();
    let shown = format!("{global}, {when}: {}", text.escape_ascii());
    ask(other, Form::Text, LEFT);
    let answers = own.run_all(COM_QUERY, &text);
    let answers = answers.unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(answers[0].text(0, 1).as_deref(), Some("1"), "{shown}");
    assert!(scene.pinned() > 0.5, "{shown}");
    own.reset().expect("an OK");
    assert!(scene.is_free(), "{shown}");
    assert_eq!(ask(other, Form::Text, READS), "2", "{shown}");
}

/// The session's next statement is a KILL out of sight.
fn is_refused_a_kill(client: &mut Client, command: u8, hiding: &Hiding) {
    let (global, before, after) = hiding;
    let text = [before, &b"; KILL 999999"[..], after].concat();
    let answer = client
        .run_all(command, &text)
        .map_err(|error| error.errno());
    let shown = format!("{global}: {}", text.escape_ascii());
    assert_eq!(answer.err(), Some(REFUSED), "{shown}");
}

/// What the globals say of how texts are read holds for a session's first statement, also after a reset; if
/// `is_of_logins`, also after a login.
fn are_read_as_the_server_does(scene: &Scene, hiding: &[Hiding], is_of_logins: bool) {
    let globals = "SELECT @@GLOBAL.sql_mode, @@GLOBAL.character_set_client";
    let was = scene.server.sql(globals);
    let (mode, charset) = was.trim().split_once('\t').expect("two values");
    for one in hiding {
        let (mut own, mut other) = (scene.client(true), scene.client(true));
        ask(&mut own, Form::Text, "SELECT 1");
        ask(&mut other, Form::Text, "SELECT 1");
        scene.server.sql(&format!("SET GLOBAL {}", one.0));
        std::thread::sleep(UNTIL_KNOWN);
        own.reset().expect("an OK");
        for when in ["a reset", "another reset"] {
            keeps_its_lock(scene, [&mut own, &mut other], one, when);
        }
        if is_of_logins {
            let new = &mut scene.client(true);
            keeps_its_lock(scene, [new, &mut other], one, "a login");
        }
        let mut several = scene.multi_client();
        for command in [COM_QUERY, COM_STMT_PREPARE] {
            several.reset().expect("an OK");
            is_refused_a_kill(&mut several, command, one);
        }
        let back = format!("SET GLOBAL sql_mode = '{mode}', character_set_client = {charset}");
        scene.server.sql(&back);
        std::thread::sleep(UNTIL_KNOWN);
        // It is not that everything was.
        let mut own = scene.client(true);
        for _ in 0..2 {
            ask(
                &mut own,
                Form::Text,
                "SELECT '\u{4e2d}@\u{4e2d}\\'', `a` FROM (SELECT 1 AS a) t",
            );
            assert!(scene.pinned() < 0.5, "{}", one.0);
            own.reset().expect("an OK");
        }
    }
}

#[test]
fn a_first_statement_is_read_by_what_the_server_gives() {
    let scene = Scene::new(1, "");
    are_read_as_the_server_does(&scene, BY_MODE, true);
}

#[test]
fn so_it_is_on_mysql() {
    if let Some(scene) = Scene::on_mysql(1, "", "") {
        are_read_as_the_server_does(&scene, BY_MODE, true);
        are_read_as_the_server_does(&scene, BY_CHARSET, false);
    }
}
