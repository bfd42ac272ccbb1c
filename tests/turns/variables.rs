//! Every variable of MariaDB that a session can set, set without a scope and in other forms that are
//! easily overlooked: its session keeps it, nobody else has it.

use crate::support::Client;
use crate::{Form, Scene, ask, send};

/// How a variable `$x` is set to a value `$v`.
const FORMS: &[(Form, &str)] = &[
    (Form::Text, "SET @@$x = $v"),
    (Form::Binary, "SET @@$x = $v"),
    (Form::Text, "SET @@local.$x = $v"),
    (Form::Binary, "SET @@session.$x := $v"),
    (Form::Text, "SET sql_notes = @@sql_notes, @@$x := $v"),
    (
        Form::Binary,
        "/*!50000 SET @@$x = $v, */ /*M!100000 SET */ $x = $v",
    ),
    (Form::Text, "SET /*!50000 @@`$x` = $v */"),
];

/// What cannot be set on this server.
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
        "VARCHAR" | "ENUM" => [
            "+03:00",
            "latin1",
            "latin1_bin",
            "MyISAM",
            "de_DE",
            "2020-01-01 00:00:00",
            "/tmp",
            "x",
            "",
        ]
        .into_iter()
        .map(quoted)
        .collect(),
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

/// The variables, each with a value for it and what it reads then.
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
    let mut direct = scene.direct();
    let all = variables(&mut direct);
    let (mut own, mut other) = (scene.client(true), scene.client(true));
    let mut wrong = Vec::new();
    let mut pinned = Vec::new();
    for (name, value) in &all {
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
            if is_pinned {
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
    pinned.dedup();
    eprintln!("{} variables, pinned: {pinned:?}", all.len());
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
