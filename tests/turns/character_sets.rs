//! Texts in all character sets that a client can have are read as servers read them, or not believed: what a
//! byte beyond ASCII makes of a word hides nothing.

use crate::support::{Client, ClientError};
use crate::{Form, Scene, ask};

const COM_QUERY: u8 = 3;
const REFUSED: u16 = 1235;

const TABLES: &str = "CREATE OR REPLACE TABLE test.t (a INT);";

/// Runs a text of any bytes; the first value of its first answer, if it has one.
fn run(client: &mut Client, sql: &[u8]) -> Result<Option<String>, ClientError> {
    let answers = client.run_all(COM_QUERY, sql)?;
    Ok(answers.first().and_then(|answer| answer.text(0, 0)))
}

fn errno(client: &mut Client, sql: &[u8]) -> u16 {
    run(client, sql).map_or_else(|error| error.errno(), |_| 0)
}

/// The character sets that the server lets clients have.
fn character_sets(direct: &mut Client) -> Vec<String> {
    let sql = "SELECT character_set_name FROM information_schema.character_sets ORDER BY 1";
    let names = direct.query_one(sql).expect("character sets");
    (0..names.rows.len())
        .filter_map(|row| names.text(row, 0))
        .filter(|name| direct.query(&format!("SET NAMES {name}")).is_ok())
        .collect()
}

/// Asks the server itself, byte by byte, what is a blank, and what makes a comment of `--`; none of these
/// hides a KILL from the gateway. How many there were.
fn no_blank_hides_a_kill(scene: &Scene) -> [usize; 2] {
    let (mut direct, mut client) = (scene.direct(), scene.client(true));
    let mut found = [0, 0];
    for name in character_sets(&mut direct) {
        let sql = format!("SET NAMES {name}");
        direct.query(&sql).expect(&sql);
        ask(&mut client, Form::Text, &sql);
        for byte in 0x80..=0xff {
            let sql = [&b"SELECT"[..], &[byte], b"1"].concat();
            if matches!(run(&mut direct, &sql), Ok(Some(value)) if value == "1") {
                found[0] += 1;
                for hidden in [&b"KILL\xff999999"[..], b"/**/kill\xffquery\xff999999"] {
                    let hidden: Vec<_> = hidden
                        .iter()
                        .map(|one| if *one == 0xff { byte } else { *one })
                        .collect();
                    let refused = errno(&mut client, &hidden);
                    assert_eq!(refused, REFUSED, "{name}: {}", hidden.escape_ascii());
                }
            }
            let sql = [&b"SELECT 7 --"[..], &[byte], b"'\n + 1 -- '"].concat();
            if matches!(run(&mut direct, &sql), Ok(Some(value)) if value == "8") {
                found[1] += 1;
                let hidden = [&b"--"[..], &[byte], b"'\nKILL 999999 -- '"].concat();
                let refused = errno(&mut client, &hidden);
                assert_eq!(refused, REFUSED, "{name}: {}", hidden.escape_ascii());
            }
        }
    }
    found
}

#[test]
fn no_blank_of_any_character_set_hides_a_kill() {
    let found = no_blank_hides_a_kill(&Scene::new(2, TABLES));
    assert!(found[0] >= 10 && found[1] >= 30, "{found:?}");
}

#[test]
fn nor_does_one_of_mysql() {
    if let Some(scene) = Scene::on_mysql(2, "", "") {
        let found = no_blank_hides_a_kill(&scene);
        assert!(found[0] >= 10 && found[1] >= 30, "{found:?}");
    }
}

/// A character set, a text in it that hides `HIDDEN` from who reads it as ASCII or as gbk.
const HIDING: &[(&str, &[u8])] = &[
    ("latin1", b"SELECT 1,\xa0HIDDEN"),
    ("latin1", b"SELECT 1 --\xa0'\n, HIDDEN -- '"),
    ("cp852", b"SELECT 1,\xffHIDDEN"),
    ("hp8", b"SELECT 1 --\x90'\n, HIDDEN -- '"),
    ("sjis", b"SELECT '\xa1\x81\\', HIDDEN -- '"),
    ("cp932", b"SELECT '\xa1\x81\\', HIDDEN -- '"),
    ("sjis", b"SELECT '\xfd\\', ', HIDDEN -- '"),
    ("big5", b"SELECT '\x95\\', ', HIDDEN -- '"),
    ("gbk", b"SELECT '\x95\\', HIDDEN -- '"),
];

fn hidden_in(text: &[u8], hidden: &str) -> Vec<u8> {
    let name = b"HIDDEN";
    let at = text.windows(name.len()).position(|part| part == name);
    let at = at.expect("a place");
    [&text[..at], hidden.as_bytes(), &text[at + name.len()..]].concat()
}

fn what_is_hidden_stays_with_its_session(scene: &Scene) {
    for (name, text) in HIDING {
        let (mut own, mut other) = (scene.client(true), scene.client(true));
        ask(&mut own, Form::Text, &format!("SET NAMES {name}"));
        for hidden in ["GET_LOCK('hidden', 9)", "@hidden := 5"] {
            let sql = hidden_in(text, hidden);
            let shown = sql.escape_ascii();
            run(&mut own, &sql).unwrap_or_else(|error| panic!("{name}, {shown}: {error}"));
            let seen = ask(&mut other, Form::Text, "SELECT @hidden IS NULL");
            assert_eq!(seen, "1", "{name}, {shown}");
            let freed = ask(
                &mut other,
                Form::Text,
                "SELECT COALESCE(RELEASE_LOCK('hidden'), 'none')",
            );
            assert_ne!(freed, "1", "{name}, {shown}");
        }
        let values = ask(
            &mut own,
            Form::Text,
            "SELECT @hidden + RELEASE_LOCK('hidden')",
        );
        assert_eq!(values, "6", "{name}: {}", text.escape_ascii());
    }
}

#[test]
fn what_characters_hide_stays_with_its_session() {
    what_is_hidden_stays_with_its_session(&Scene::new(2, TABLES));
}

#[test]
fn so_it_does_on_mysql() {
    if let Some(scene) = Scene::on_mysql(2, "", "") {
        what_is_hidden_stays_with_its_session(&scene);
    }
}

#[test]
fn no_character_hides_a_statement_about_the_account() {
    let servers = [Some(Scene::new(2, TABLES)), Scene::on_mysql(2, "", "")];
    for scene in servers.into_iter().flatten() {
        let mut client = scene.client(true);
        ask(&mut client, Form::Text, "SET NAMES latin1");
        for sql in [
            &b"alter user\xa0user() identified by 'new'"[..],
            b"alter\xa0user user() identified by 'new'",
            b"set password\xa0= 'new'",
            b"set\xa0password = 'new'",
            b"create user if not exists\xa0rg",
            b"--\xa0'\nalter user user() identified by 'new' -- '",
        ] {
            assert_eq!(errno(&mut client, sql), REFUSED, "{}", sql.escape_ascii());
        }
        assert!(
            scene.server.try_client().is_ok(),
            "the account is as it was"
        );
    }
}

/// Text in such a character set costs nothing as long as no word depends on it.
#[test]
fn what_depends_on_no_character_keeps_no_connection() {
    let scene = Scene::new(2, TABLES);
    for (name, text) in [
        (
            "latin1",
            &b"SELECT 'caf\xe9\xa0\xff', `a` FROM t -- \xa0"[..],
        ),
        ("latin1", b"SELECT 1 AS caf\xe9"),
        ("cp1251", b"SELECT '\xff', 1 AS \xff"),
        ("sjis", b"SELECT '\x83\\', '\xb1'"),
        ("big5", b"SELECT '\xa5\\'"),
        ("gbk", b"SELECT '\x95\\', '\xb1\\'"),
    ] {
        let mut client = scene.client(true);
        ask(&mut client, Form::Text, &format!("SET NAMES {name}"));
        run(&mut client, text).expect("an answer");
        assert!(scene.is_free(), "{name}: {}", text.escape_ascii());
    }
}

/// A server takes `1e1FOR` for a number and FOR.
#[test]
fn no_number_hides_what_is_behind_set_statement() {
    let scene = Scene::new(1, TABLES);
    for number in ["1e1", "1.5", ".5", "1e+1"] {
        for (hidden, shows) in [
            ("SET time_zone = '+05:00'", "SELECT @@time_zone = '+05:00'"),
            (
                "SET sql_mode = 'ANSI_QUOTES'",
                "SELECT @@sql_mode = 'ANSI_QUOTES'",
            ),
        ] {
            let sql = format!("SET STATEMENT max_statement_time={number}for {hidden}");
            let mut own = scene.client(true);
            ask(&mut own, Form::Text, &sql);
            assert_eq!(ask(&mut own, Form::Text, shows), "1", "{sql}");
            drop(own);
            let mut other = scene.client(true);
            assert_eq!(ask(&mut other, Form::Text, shows), "0", "{sql}");
        }
    }
}
