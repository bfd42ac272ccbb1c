//! Every variable of a server that a session can set, set without a scope and in other forms that are
//! easily overlooked: its session keeps it, nobody else has it.

use crate::support::{Client, Options, Server};
use crate::{Form, Scene, ask, send};

/// The form in which nothing but the variable itself can keep a connection.
const PLAINLY: &str = "SET @@local.$x = $v";

/// How a variable `$x` is set to a value `$v`.
const FORMS: &[(Form, &str)] = &[
    (Form::Text, "SET @@$x = $v"),
    (Form::Binary, "SET @@$x = $v"),
    (Form::Text, PLAINLY),
    (Form::Binary, "SET @@session.$x := $v"),
    (Form::Text, "SET sql_notes = @@sql_notes, @@$x := $v"),
    (
        Form::Binary,
        "/*!50000 SET @@$x = $v, */ /*M!100000 SET */ $x = $v",
    ),
    (Form::Text, "SET /*!50000 @@`$x` = $v */"),
];

/// What cannot be set on MariaDB as it is started here.
const UNSEEN: &[&str] = &[
    // Needs a table of a certain form.
    "innodb_ft_user_stopword_table",
    // Read only for a session, whatever the server says of them.
    "max_allowed_packet",
    "max_user_connections",
    "net_buffer_length",
    // Needs a server that was started with a query cache.
    "query_cache_type",
    // Need a cluster.
    "wsrep_gtid_seq_no",
    "wsrep_on",
    "wsrep_trx_fragment_size",
    "wsrep_trx_fragment_unit",
];

/// Set and read on the server itself: `None` if it cannot be set so, or changes nothing that is seen.
fn try_on(direct: &mut Client, set: &str, read: &str) -> Option<String> {
    direct.reset().expect("an OK");
    let before = ask(direct, Form::Text, read);
    send(direct, Form::Text, set).ok()?;
    let after = ask(direct, Form::Text, read);
    (after != before).then_some(after)
}

/// Values worth trying, as literals.
fn candidates(name: &str, kind: &str, list: &str, value: &str) -> Vec<String> {
    let quoted = |text: &str| format!("'{text}'");
    match kind {
        "BOOLEAN" => vec!["NOT @@session.x".replace('x', name)],
        "ENUM" | "SET" if !list.is_empty() => list.split(',').map(quoted).collect(),
        "FLAGSET" => {
            let flags = list.split(',').take(3);
            flags
                .flat_map(|flag| [format!("'{flag}=off'"), format!("'{flag}=on'")])
                .collect()
        }
        "VARCHAR" | "ENUM" => WORDS.split(',').map(quoted).collect(),
        _ => {
            let number = value.parse::<f64>().unwrap_or_default();
            let steps = [1.0, 5.0, 4096.0, -1.0, -4096.0];
            let mut all: Vec<_> = steps
                .iter()
                .map(|step| (number + step).to_string())
                .collect();
            all.extend(["1234567", "18", "2"].map(str::to_owned));
            all
        }
    }
}

/// What cannot be set on MySQL as it is started here.
const UNSEEN_ON_MYSQL: &[&str] = &[
    // Takes nothing but the engine that there is.
    "external_table_storage_engine",
    // Needs a binary log.
    "gtid_next",
    // Needs a table of a certain form.
    "innodb_ft_user_stopword_table",
    // Read only for a session, whatever the server says of them.
    "max_allowed_packet",
    "max_user_connections",
    "net_buffer_length",
    // Always read as 0.
    "rand_seed1",
    "rand_seed2",
    // Needs a client that can do without.
    "resultset_metadata",
];

/// Words that some variable takes.
const WORDS: &str = "+03:00,latin1,latin1_bin,utf8mb4_general_ci,MyISAM,MEMORY,de_DE,ANSI,READ-COMMITTED,\
    ON,OFF,NO,CHAIN,JSON,aes-256-ecb,BEFORE_8_0_26,EVENTUAL,MINIMAL,STATEMENT,PARTIAL_JSON,nulls_equal,\
    enabled=on,IDEMPOTENT,2020-01-01 00:00:00,/tmp,x,";

/// The errors of a variable that no session can set: it is global, it cannot be set at all.
const NOT_A_SESSIONS: &[u16] = &[1229, 1238];

/// The variables of MySQL, likewise.
fn variables_of_mysql(direct: &mut Client) -> Vec<(String, String)> {
    let answer = direct.query_one("SHOW SESSION VARIABLES").expect("rows");
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    for row in 0..answer.rows.len() {
        let cell = |column| answer.text(row, column).unwrap_or_default();
        let (name, value) = (cell(0), cell(1));
        if name.starts_with("session_track_") {
            continue;
        }
        let read = format!("SELECT CONCAT(@@{name})");
        let set = |value: &String| format!("SET @@session.{name} = {value}");
        let error = send(direct, Form::Text, &set(&"DEFAULT".to_owned())).err();
        if error.is_some_and(|error| NOT_A_SESSIONS.contains(&error.errno())) {
            continue;
        }
        let kind = match value.as_str() {
            "ON" | "OFF" => "BOOLEAN",
            value if value.parse::<f64>().is_ok() => "NUMBER",
            value if value.contains("=on") => "FLAGSET",
            _ => "ENUM",
        };
        let list = match kind {
            "FLAGSET" => value
                .split(['=', ','])
                .step_by(2)
                .collect::<Vec<_>>()
                .join(","),
            _ => WORDS.to_owned(),
        };
        let mut values = candidates(&name, kind, &list, &value);
        values.extend(candidates(&name, "ENUM", WORDS, &value));
        let value = values
            .into_iter()
            .find(|value| try_on(direct, &set(value), &read).is_some());
        match value {
            Some(value) => found.push((name, value)),
            None => unseen.push(name),
        }
    }
    assert_eq!(
        unseen, UNSEEN_ON_MYSQL,
        "these can be set to nothing that is tried here"
    );
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// The variables of MariaDB, each with a value for it.
fn variables(direct: &mut Client) -> Vec<(String, String)> {
    // Trackers are told to the client and kept from the server: see `settings`.
    let list = "SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, IFNULL(ENUM_VALUE_LIST, ''), \
        IFNULL(SESSION_VALUE, '') FROM information_schema.SYSTEM_VARIABLES \
        WHERE VARIABLE_SCOPE IN ('SESSION', 'SESSION ONLY') AND READ_ONLY = 'NO' \
        AND VARIABLE_NAME NOT LIKE 'session_track_%' ORDER BY 1";
    let answer = direct.query_one(list).expect("rows");
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    for row in 0..answer.rows.len() {
        let cell = |column| answer.text(row, column).unwrap_or_default();
        let name = cell(0);
        let read = format!("SELECT CONCAT(@@{name})");
        let values = candidates(&name, &cell(1), &cell(2), &cell(3));
        let set = |value: &String| format!("SET @@session.{name} = {value}");
        let value = values
            .into_iter()
            .find(|value| try_on(direct, &set(value), &read).is_some());
        match value {
            Some(value) => found.push((name, value)),
            None => unseen.push(name),
        }
    }
    assert_eq!(
        unseen, UNSEEN,
        "these can be set to nothing that is tried here"
    );
    assert!(found.len() > 100, "{}", found.len());
    found
}

#[test]
fn every_variable_stays_with_its_session_in_whatever_form_it_is_set() {
    let scene = Scene::new(1, "");
    let all = variables(&mut scene.direct());
    let pinned = each_stays_with_its_session(&scene, &all);
    eprintln!("{} variables, pinned: {pinned:?}", all.len());
}

#[test]
fn so_does_every_variable_of_mysql() {
    let Some(scene) = Scene::on_mysql(1, "", "") else {
        return;
    };
    let all = variables_of_mysql(&mut scene.direct());
    let pinned = each_stays_with_its_session(&scene, &all);
    eprintln!("{} variables, pinned: {pinned:?}", all.len());
}

/// Those that keep their connection when they are set plainly.
fn each_stays_with_its_session(scene: &Scene, all: &[(String, String)]) -> Vec<String> {
    let mut direct = scene.direct();
    let (mut own, mut other) = (scene.client(true), scene.client(true));
    let mut wrong = Vec::new();
    let mut pinned = Vec::new();
    for (name, value) in all {
        let read = format!("SELECT CONCAT(@@{name})");
        for (form, pattern) in FORMS {
            let set = pattern.replace("$x", name).replace("$v", value);
            let Some(expect) = try_on(&mut direct, &set, &read) else {
                continue;
            };
            let before = ask(&mut other, Form::Text, &read);
            other.reset().expect("an OK");
            if let Err(error) = send(&mut own, *form, &set) {
                wrong.push(format!("{set}: {error}"));
                continue;
            }
            let is_pinned = scene.pinned() > 0.0;
            if is_pinned && *pattern == PLAINLY {
                pinned.push(name.clone());
            }
            for form in Form::ALL {
                if !is_pinned {
                    let others = ask(&mut other, form, &read);
                    if others != before && !(name == "timestamp" && others != expect) {
                        wrong.push(format!(
                            "{form:?} {set}: another has {others}, had {before}"
                        ));
                    }
                }
                let has = ask(&mut own, form, &read);
                if has != expect {
                    wrong.push(format!("{form:?} {set}: its own has {has}, not {expect}"));
                }
            }
            // Reading alone keeps the connection too, of pseudo_thread_id for one.
            own.reset().expect("an OK");
            other.reset().expect("an OK");
            assert!(wrong.len() < 60, "{}", wrong.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    pinned
}

/// A server with a binary log reports the transaction that each write was.
#[test]
fn who_has_written_to_a_server_with_a_binary_log_keeps_no_connection() {
    let mut options =
        Options::with_test_schema("CREATE TABLE IF NOT EXISTS test.logged (a INT) ENGINE=InnoDB;");
    options.arguments = vec!["--log-bin=log".to_owned(), "--server-id=1".to_owned()];
    let scene = Scene::before(Server::start(options), 1, "");
    assert_eq!(scene.server.sql("SELECT @@log_bin").trim(), "1");
    let mut clients = [true, false, true].map(|deprecate_eof| scene.client(deprecate_eof));
    for form in Form::ALL {
        for client in &mut clients {
            for sql in [
                "INSERT INTO logged VALUES (1)",
                "UPDATE logged SET a = a + 1",
                "CREATE OR REPLACE TABLE other (a INT)",
                "TRUNCATE TABLE other",
            ] {
                ask(client, form, sql);
            }
        }
    }
    assert_eq!(
        ask(&mut clients[0], Form::Text, "SELECT COUNT(*) FROM logged"),
        "6"
    );
    assert!(scene.pinned() < 0.5);
}
