//! How many clients a tenant may have on the node, and a listener: told as documented, exact over all cores,
//! and changed by a reload.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::time::Duration;

use support::{Client, ClientError, Gateway, Login, NullServer, Shape, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node of two cores with the tenants `a`, which `lines` are of, and `b`, which has none.
fn config(ports: support::Ports, upstream: u16, cores: u16, listener: &str, lines: &str) -> String {
    let shape = Shape {
        cores,
        extra: "[tenants.b]\nplacement = \"shard-a\"\n[users.b]\ntenant = \"b\"\n\
                password = { env = \"RG_B_PASSWORD\" }\nplugin = \"mysql_native_password\"\n\
                [users.a2]\ntenant = \"a\"\npassword = { env = \"RG_B_PASSWORD\" }\n\
                plugin = \"mysql_native_password\"\n",
        ..Shape::default()
    };
    let text = shape.config(ports, upstream);
    let text = text.replace("[tenants.a]\n", &format!("[tenants.a]\n{lines}\n"));
    text.replace("[admin]\n", &format!("{listener}\n[admin]\n"))
}

fn node(server: &NullServer, cores: u16, listener: &str, lines: &str) -> Gateway {
    Gateway::start(|ports| config(ports, server.port(), cores, listener, lines))
}

fn login(gateway: &Gateway, user: &str) -> Login {
    let password = if user == "a" {
        "password-of-a"
    } else {
        "password-of-b"
    };
    Login {
        user: user.to_owned(),
        password: password.to_owned(),
        ..gateway.login()
    }
}

/// What the client was told instead of being let in; `None` if it is in.
fn refusal(result: Result<Client, ClientError>) -> Option<(u16, String)> {
    match result {
        Ok(_) => None,
        Err(ClientError::Server { errno, text, .. }) => Some((errno, text)),
        Err(error) => Some((0, error.to_string())),
    }
}

/// Lets clients of user `a` in until one is refused, `most` at most.
fn fill(gateway: &Gateway, most: usize) -> (Vec<Client>, Option<(u16, String)>) {
    let mut inside = Vec::new();
    while inside.len() < most {
        match Client::connect(&login(gateway, "a")) {
            Ok(client) => inside.push(client),
            refused => return (inside, refusal(refused)),
        }
    }
    (inside, None)
}

/// As many clients of `a` as `count` get in, and no more; the places of those that leave are free again.
fn holds(gateway: &Gateway, count: usize) {
    let filled = wait_for(PATIENCE, || {
        // Places of clients that have just left come back when the node has seen it.
        let (inside, told) = fill(gateway, count + 3);
        assert!(inside.len() <= count, "{} of {count}", inside.len());
        inside.len() == count
            && told.is_some_and(|(errno, text)| {
                assert!(text.contains("tenant_limit"), "{errno} {text}");
                errno == 1203
            })
    });
    assert!(filled, "{count} clients do not get in: {}", gateway.log());
}

#[test]
fn a_tenant_has_no_more_clients_than_its_bound_on_all_cores_together() {
    let server = NullServer::start(&["mysql"]);
    for cores in [1, 2] {
        let gateway = node(&server, cores, "", "connections_max = 7");
        for _ in 0..5 {
            holds(&gateway, 7);
        }
        let (inside, told) = fill(&gateway, 20);
        let (errno, text) = told.expect("the eighth is refused");
        assert_eq!((errno, inside.len()), (1203, 7), "{text}");
        // Another user of the same tenant is refused too, and another tenant is not.
        let told = refusal(Client::connect(&login(&gateway, "a2")));
        assert_eq!(told.map(|(errno, _)| errno), Some(1203));
        let others: Vec<_> = (0..12)
            .map(|_| Client::connect(&login(&gateway, "b")))
            .collect();
        assert!(others.iter().all(Result::is_ok), "tenant b has no bound");
        // A wrong password takes no place and is told nothing of bounds.
        let wrong = Login {
            password: "wrong".to_owned(),
            ..login(&gateway, "a")
        };
        let told = refusal(Client::connect(&wrong));
        assert!(told.is_some_and(|(_, text)| text.contains("Access denied")));
        let refused = gateway.metric("ringgate_connections_closed_total", &["admission_limit"]);
        assert!(refused > 0.5, "{}", gateway.metrics());
    }
}

#[test]
fn a_tenants_bound_is_changed_by_a_reload_and_counts_who_is_there() {
    let server = NullServer::start(&["mysql"]);
    let gateway = node(&server, 2, "", "");
    let reload = |lines: &str| {
        gateway.apply(|ports| config(ports, server.port(), 2, "", lines));
    };
    let (mut inside, told) = fill(&gateway, 6);
    assert_eq!(told, None, "no bound yet");
    reload("connections_max = 8");
    let (more, told) = fill(&gateway, 4);
    assert_eq!((more.len(), told.map(|(errno, _)| errno)), (2, Some(1203)));
    inside.extend(more);
    // A lower one ends nobody, and lets nobody in before it is kept.
    reload("connections_max = 5");
    assert_eq!(fill(&gateway, 1).1.map(|(errno, _)| errno), Some(1203));
    for client in &mut inside {
        client.query("SELECT 1").expect("those inside stay");
    }
    inside.clear();
    holds(&gateway, 5);
    reload("");
    assert_eq!(fill(&gateway, 12).0.len(), 12, "no bound any more");
}

/// How many connections the listener takes until it refuses one, and what with.
fn at_the_door(gateway: &Gateway, most: usize) -> (usize, Option<u16>) {
    let (inside, told) = fill(gateway, most);
    (inside.len(), told.map(|(errno, _)| errno))
}

#[test]
fn a_listeners_bound_holds_from_the_start_and_after_a_reload() {
    let server = NullServer::start(&["mysql"]);
    let gateway = node(&server, 1, "connections_max = 4", "");
    let reaches = |count: usize| {
        let mut seen = (0, None);
        let holds = wait_for(PATIENCE, || {
            seen = at_the_door(&gateway, count + 3);
            seen == (count, Some(1040))
        });
        assert!(holds, "{seen:?} instead of {count}");
    };
    reaches(4);
    for count in [6, 3] {
        let line = format!("connections_max = {count}");
        gateway.apply(|ports| config(ports, server.port(), 1, &line, ""));
        reaches(count);
    }
}
