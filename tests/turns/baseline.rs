//! What a variable is that nobody has set: what the login gave, one value for each session.

use std::time::Duration;

use crate::support::{Client, Login};
use crate::{Form, Scene, ask};

/// Longer than a changed global may stay unknown to clients that log in.
const UNTIL_KNOWN: Duration = Duration::from_millis(1_050);

/// Has `count` clients keep a connection each, so that the next statement of others runs elsewhere.
fn crowd(scene: &Scene, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| scene.client(true)).collect();
    for client in &mut clients {
        ask(client, Form::Text, "START TRANSACTION");
    }
    clients
}

/// Globals that change while connections are pooled: each with its new value and what is read then.
const GLOBALS: &[(&str, &str, &str)] = &[
    ("time_zone", "'+04:00'", "+04:00"),
    ("group_concat_max_len", "4321", "4321"),
    ("sql_mode", "'ANSI_QUOTES'", "ANSI_QUOTES"),
    ("div_precision_increment", "7", "7"),
    ("foreign_key_checks", "0", "OFF"),
    ("max_statement_time", "77.5", "77.500000"),
    ("optimizer_search_depth", "5", "5"),
    ("tx_isolation", "'SERIALIZABLE'", "SERIALIZABLE"),
    ("lc_time_names", "'de_DE'", "de_DE"),
    ("max_error_count", "17", "17"),
    ("check_constraint_checks", "0", "OFF"),
    ("max_heap_table_size", "32768", "32768"),
    ("tmp_memory_table_size", "32768", "32768"),
    ("max_recursive_iterations", "99", "99"),
    ("bulk_insert_buffer_size", "98", "98"),
];

#[test]
fn a_session_keeps_one_value_and_the_next_login_has_the_new_one() {
    let scene = Scene::new(3, "");
    for (name, value, reads) in GLOBALS {
        let read = format!("SELECT CONCAT(@@{name})");
        let mut old = scene.client(true);
        let mut returned = scene.client(false);
        let before = ask(&mut old, Form::Text, &read);
        assert_eq!(ask(&mut returned, Form::Text, &read), before);
        let was = scene.server.sql(&format!("SELECT @@GLOBAL.{name}"));
        scene.server.sql(&format!("SET GLOBAL {name} = {value}"));
        std::thread::sleep(UNTIL_KNOWN);
        let mut new = scene.client(true);
        for count in [0, 1, 2, 0, 1] {
            let crowd = crowd(&scene, count);
            for form in Form::ALL {
                assert_eq!(ask(&mut new, form, &read), *reads, "a new one: {name}");
                assert_eq!(ask(&mut old, form, &read), before, "an old one: {name}");
            }
            drop(crowd);
        }
        returned.reset().expect("an OK");
        assert_eq!(ask(&mut returned, Form::Text, &read), *reads, "{name}");
        let was = was.trim();
        let number = was.parse::<f64>().is_ok();
        let was = if number {
            was.to_owned()
        } else {
            format!("'{was}'")
        };
        scene.server.sql(&format!("SET GLOBAL {name} = {was}"));
        std::thread::sleep(UNTIL_KNOWN);
        assert_eq!(ask(&mut scene.client(true), Form::Text, &read), before);
    }
}

#[test]
fn what_an_account_or_init_connect_gives_is_given_back() {
    let accounts = "CREATE USER limited@'%' IDENTIFIED VIA mysql_native_password USING \
        PASSWORD('password-of-b') WITH MAX_STATEMENT_TIME 33;\n\
        GRANT ALL PRIVILEGES ON test.* TO limited@'%';\n\
        SET GLOBAL init_connect = 'SET SESSION time_zone=\"+03:00\", sql_mode=\"ANSI_QUOTES\", \
        @@sql_notes=0';\n";
    // A second tenant, with an account that init_connect is run for.
    let tenant = "[tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
        upstream = { user = \"limited\", password = { env = \"RG_B_PASSWORD\" } }\n\
        [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
        password = { env = \"RG_B_PASSWORD\" }\n";
    let scene = Scene::with(1, accounts, tenant);
    let client = |port: u16, user: &str| {
        Client::connect(&Login {
            port,
            user: user.to_owned(),
            password: "password-of-b".to_owned(),
            schema: "test".to_owned(),
            deprecate_eof: true,
        })
        .expect("a login")
    };
    let through = || client(scene.gateway.port(), "b");
    let state = "SELECT CONCAT_WS('|', @@time_zone, @@sql_mode, @@sql_notes, @@max_statement_time)";
    let expect = "+03:00|ANSI_QUOTES|OFF|33.000000";
    let mut direct = client(scene.server.port(), "limited");
    assert_eq!(ask(&mut direct, Form::Text, state), expect);
    for form in Form::ALL {
        let mut other = through();
        assert_eq!(ask(&mut other, form, state), expect);
        let mut own = through();
        let set =
            "SET time_zone = '+09:00', sql_mode = '', @@sql_notes = 1, max_statement_time = 0";
        ask(&mut own, form, set);
        assert_eq!(ask(&mut other, form, state), expect);
        assert_eq!(ask(&mut own, form, state), "+09:00||ON|0.000000");
        drop(own);
        assert_eq!(ask(&mut through(), form, state), expect);
        // Its text is read under ANSI_QUOTES, as nobody has said otherwise.
        let quoted = "SELECT \"TABLE_NAME\" FROM information_schema.TABLES LIMIT 0";
        ask(&mut other, form, quoted);
        assert_eq!(scene.pinned(), 0.0);
    }
}
