//! Where tenants' statements go and as whom: the settings of placements, endpoints, the hash and tenants, each
//! from the start and after a reload.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::{ACCOUNT, Client, Gateway, Login, MariaDb, NullServer, Ports, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// The head of a configuration; sections follow.
fn head(ports: Ports) -> String {
    let Ports { mysql, admin } = ports;
    format!(
        "version = 1\n[cores]\ncount = 1\n[admin]\naddress = \"127.0.0.1:{admin}\"\n\
         [listeners.main]\naddress = \"127.0.0.1:{mysql}\"\n\
         [deadlines]\nconnect = \"300ms\"\npool_wait = \"500ms\"\n"
    )
}

/// A placement with these endpoints and lines.
fn placement(name: &str, endpoints: &str, lines: &str) -> String {
    format!(
        "[placements.{name}]\nendpoints = [{endpoints}]\n\
         upstream = {{ user = \"{ACCOUNT}\", password = {{ env = \"RG_UPSTREAM_PASSWORD\" }} }}\n\
         {lines}\n"
    )
}

fn endpoint(port: u16, lines: &str) -> String {
    format!("{{ address = \"127.0.0.1:{port}\", {lines} }}")
}

/// A tenant with one user of the same name.
fn tenant(name: &str, lines: &str) -> String {
    format!(
        "[tenants.{name}]\n{lines}\n[users.{name}]\ntenant = \"{name}\"\n\
         plugin = \"mysql_native_password\"\npassword = {{ env = \"RG_A_PASSWORD\" }}\n"
    )
}

/// A node whose sections after the head can be replaced.
struct Node(Gateway);

impl Node {
    fn start(sections: &str) -> Self {
        Self(Gateway::start(|ports| head(ports) + sections))
    }

    fn reload(&self, sections: &str) {
        self.0.apply(|ports| head(ports) + sections);
    }

    fn client(&self, user: &str) -> Client {
        let login = Login {
            user: user.to_owned(),
            ..self.0.login()
        };
        Client::connect(&login).unwrap_or_else(|error| panic!("{user}: {error}"))
    }
}

/// A server that is known by the length of its answers.
fn server(length: usize) -> NullServer {
    NullServer::start(&["mysql", "--row-size", &length.to_string()])
}

/// Who answers: the server's length.
fn asked(client: &mut Client) -> usize {
    let answer = client.query_one("SELECT 1").expect("an answer");
    answer.text(0, 0).expect("a value").len()
}

/// How many of `count` statements the server of this length answers.
fn share(client: &mut Client, length: usize, count: usize) -> usize {
    (0..count).filter(|_| asked(client) == length).count()
}

fn value(client: &mut Client, sql: &str) -> String {
    let answer = client.query_one(sql);
    let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
    answer.text(0, 0).unwrap_or_else(|| "NULL".to_owned())
}

#[test]
fn endpoints_are_chosen_by_zone_weight_and_role() {
    let (one, other) = (server(11), server(22));
    let sections = |zone: &str, first: &str, second: &str| {
        let node = match zone {
            "" => String::new(),
            zone => format!("[node]\nzone = \"{zone}\"\n"),
        };
        let endpoints = [endpoint(one.port(), first), endpoint(other.port(), second)];
        let places = placement("p", &endpoints.join(", "), "");
        node + &places + &tenant("a", "placement = \"p\"")
    };
    let (zone_a, zone_b) = ("zone = \"a\"", "zone = \"b\"");
    let node = Node::start(&sections("a", zone_a, zone_b));
    let mut client = node.client("a");
    assert_eq!(share(&mut client, 11, 40), 40, "its own zone");
    let mut check = |zone: &str, first: &str, second: &str, expect: std::ops::Range<usize>| {
        let sections = sections(zone, first, second);
        node.reload(&sections);
        // The same from the start on.
        let fresh = Node::start(&sections);
        let mut of_fresh = fresh.client("a");
        let seen = [&mut client, &mut of_fresh].map(|client| share(client, 11, 200));
        assert!(
            seen.iter().all(|seen| expect.contains(seen)),
            "{seen:?} of 200: {sections}"
        );
    };
    check("b", zone_a, zone_b, 0..1);
    check("", zone_a, zone_b, 50..151);
    check("b", zone_b, zone_a, 200..201);
    check("", "weight = 0", "weight = 7", 0..1);
    check("", "weight = 7", "weight = 0", 200..201);
    check("", "weight = 1", "weight = 99", 0..30);
    check("", "weight = 99", "weight = 1", 171..201);
    check("", "role = \"primary\"", "role = \"replica\"", 200..201);
    check("", "role = \"replica\"", "role = \"primary\"", 0..1);
}

#[test]
fn tenants_go_where_they_are_put_and_else_where_the_hash_puts_them() {
    let (one, other) = (server(11), server(22));
    let names: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    let sections = |hash: &str, lines: &str| {
        let mut text = placement("p", &endpoint(one.port(), ""), "");
        text += &placement("q", &endpoint(other.port(), ""), "");
        text += &format!("[hash]\nversion = 1\n{hash}\n");
        names.iter().for_each(|name| text += &tenant(name, lines));
        text
    };
    let both = "placements = [\"p\", \"q\"]";
    let node = Node::start(&sections(both, ""));
    let mut clients: Vec<Client> = names.iter().map(|name| node.client(name)).collect();
    let mut where_they_are = || -> Vec<usize> { clients.iter_mut().map(asked).collect() };
    let first = where_they_are();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2, "{first:?}");
    let mut reload = |hash: &str, lines: &str| {
        let sections = sections(hash, lines);
        node.reload(&sections);
        let seen = where_they_are();
        // A fresh node says the same.
        let fresh = Node::start(&sections);
        let again: Vec<_> = names
            .iter()
            .map(|name| asked(&mut fresh.client(name)))
            .collect();
        assert_eq!(seen, again, "{hash}");
        seen
    };
    let seeded = reload(&format!("seed = 5\n{both}"), "");
    assert_ne!(seeded, first, "another seed moves tenants");
    assert_eq!(reload("placements = [\"q\"]", ""), [22; 12]);
    assert_eq!(reload(both, "placement = \"p\""), [11; 12]);
    assert_eq!(reload(both, "placement = \"q\""), [22; 12]);
    assert_eq!(reload(both, ""), first);
}

#[test]
fn a_placement_has_its_own_budget() {
    let server = MariaDb::with_test_schema("CREATE TABLE test.t (a INT);");
    let sections = |own: &str| {
        let place = placement("p", &endpoint(server.port(), ""), own);
        format!("[pools]\nbudget = 5\n{place}")
            + &tenant("a", "placement = \"p\"\nschema = \"test\"")
    };
    // How many can hold a connection at the same time.
    let holders = |node: &Node| {
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut client = node.client("a");
            if client
                .query("BEGIN")
                .and(client.query("SELECT * FROM t"))
                .is_ok()
            {
                held.push(client);
            }
        }
        held.len()
    };
    let node = Node::start(&sections("budget = 2"));
    assert_eq!(holders(&node), 2);
    for (own, expect) in [("budget = 3", 3), ("", 5), ("budget = 1", 1)] {
        node.reload(&sections(own));
        let mut seen = 0;
        let holds = wait_for(PATIENCE, || {
            seen = holders(&node);
            seen == expect
        });
        assert!(holds, "{seen} at once with {own:?}");
    }
}

#[test]
fn sessions_begin_in_their_tenants_schema_under_its_account_or_the_placements() {
    let server = MariaDb::with_test_schema(
        "CREATE DATABASE IF NOT EXISTS other;\n\
         CREATE USER IF NOT EXISTS 'own'@'%' IDENTIFIED BY 'password-of-b';\n\
         CREATE USER IF NOT EXISTS 'open'@'%';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'own'@'%';\nGRANT ALL PRIVILEGES ON *.* TO 'open'@'%';",
    );
    let sections = |account: &str, lines: &str| {
        let place = placement("p", &endpoint(server.port(), ""), "");
        let usual =
            format!("user = \"{ACCOUNT}\", password = {{ env = \"RG_UPSTREAM_PASSWORD\" }}");
        let place = match account {
            "" => place,
            account => place.replace(&usual, account),
        };
        place + &tenant("a", &format!("placement = \"p\"\n{lines}"))
    };
    let own = "user = \"own\", password = { env = \"RG_B_PASSWORD\" }";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, "password-of-b\n").expect("a writable folder");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its owner");
    let by_file = format!(
        "user = \"own\", password = {{ file = \"{}\" }}",
        file.display()
    );
    let open = "user = \"open\", passwordless = true";
    let node = Node::start(&sections("", "schema = \"test\""));
    let mut client = node.client("a");
    let who = |client: &mut Client| {
        let account = value(client, "SELECT CURRENT_USER()");
        account.split('@').next().unwrap_or_default().to_owned()
    };
    assert_eq!(value(&mut client, "SELECT DATABASE()"), "test");
    assert_eq!(who(&mut client), ACCOUNT);
    let mut check = |account: &str, lines: &str, expect: &str, schema: &str| {
        let sections = sections(account, lines);
        node.reload(&sections);
        assert_eq!(who(&mut client), expect, "{sections}");
        let fresh = Node::start(&sections);
        for node in [&node, &fresh] {
            let mut new = node.client("a");
            assert_eq!(who(&mut new), expect, "{sections}");
            assert_eq!(value(&mut new, "SELECT DATABASE()"), schema, "{sections}");
        }
    };
    check("", "schema = \"other\"", ACCOUNT, "other");
    check("", "", ACCOUNT, "NULL");
    check(own, "", "own", "NULL");
    check(open, "", "open", "NULL");
    check(&by_file, "", "own", "NULL");
    check("", &format!("upstream = {{ {own} }}"), "own", "NULL");
    check(own, &format!("upstream = {{ {open} }}"), "open", "NULL");
    check("", "schema = \"test\"", ACCOUNT, "test");
}
