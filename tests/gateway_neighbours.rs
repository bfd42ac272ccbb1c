//! Two tenants with accounts of their own on one endpoint: what happens to one account is not the
//! other's.

#![allow(
    clippy::expect_used,
    reason = "a test says what was wrong by the place where it ends"
)]

mod support;

use std::time::{Duration, Instant};

use support::{Chaos, Client, ClientError, Gateway, Login, MariaDb, PASSWORD, Shape};

const NEIGHBOUR: &str = "[deadlines]\npool_wait = \"2s\"\n\
    [tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
    upstream = { user = \"rg2\", password = { env = \"RG_UPSTREAM_PASSWORD\" } }\n\
    [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
    password = { env = \"RG_B_PASSWORD\" }\n";

fn server() -> MariaDb {
    let server = MariaDb::with_test_schema("");
    server.sql(&format!(
        "CREATE USER rg2@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO rg2@'%'"
    ));
    server
}

fn gateway(port: u16, cores: u16) -> Gateway {
    let shape = Shape {
        budget: 4,
        cores,
        extra: NEIGHBOUR,
        ..Shape::default()
    };
    Gateway::in_shape(port, &shape)
}

/// A client of the other tenant.
fn neighbour(gateway: &Gateway) -> Result<Client, ClientError> {
    Client::connect(&Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    })
}

/// Asks for a connection of the neighbour's as often as it can, until `until`; the last error.
fn insist(gateway: &Gateway, until: Instant) -> Option<ClientError> {
    let mut last = None;
    while Instant::now() < until {
        last = match neighbour(gateway) {
            Ok(mut client) => client.query("SELECT 1").err(),
            Err(error) => Some(error),
        };
        std::thread::sleep(Duration::from_millis(5));
    }
    last
}

#[test]
fn a_refused_account_refuses_nobody_else() {
    for (cores, doing) in [
        (1, "SET PASSWORD FOR rg2@'%' = PASSWORD('other')"),
        (2, "ALTER USER rg2@'%' ACCOUNT LOCK"),
        (1, "ALTER USER rg2@'%' WITH MAX_USER_CONNECTIONS 1"),
    ] {
        let server = server();
        let gateway = gateway(server.port(), cores);
        server.sql(doing);
        let login = Login {
            port: server.port(),
            user: "rg2".to_owned(),
            password: PASSWORD.to_owned(),
            ..gateway.login()
        };
        let is_full = doing.contains("MAX_USER");
        let _only = is_full.then(|| Client::connect(&login).expect("the only one"));
        let until = Instant::now() + Duration::from_secs(3);
        std::thread::scope(|scope| {
            let insisting: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| insist(&gateway, until)))
                .collect();
            let mut served = 0_u32;
            while Instant::now() < until {
                let mut client = gateway.client();
                for sql in ["SELECT 1", "SET ROLE NONE", "SELECT 2"] {
                    let answered = client.query(sql);
                    answered.unwrap_or_else(|error| panic!("{doing}: {sql}: {error}"));
                    served += 1;
                }
            }
            assert!(served > 3, "{doing}: {served}");
            for thread in insisting {
                let error = thread.join().expect("no panic").expect("refused");
                let expect = if is_full {
                    "pool_wait"
                } else {
                    "account_refused"
                };
                assert!(error.to_string().contains(expect), "{doing}: {error}");
            }
        });
    }
}

/// The endpoint is there, as it serves others.
#[test]
fn one_dropped_connect_refuses_nobody() {
    let server = server();
    let chaos = Chaos::start(server.port());
    let gateway = gateway(chaos.port(), 1);
    let mut holder = neighbour(&gateway).expect("a login");
    holder.query("BEGIN").expect("a connection that is kept");
    for _ in 0..5 {
        let mut client = gateway.client();
        chaos.cut_after(0);
        client.query("SELECT 1").expect("an answer");
        // Not undone: the next one connects again.
        client.query("SET ROLE NONE").expect("an OK");
        assert!(!chaos.disarm(), "nothing was cut");
    }
    holder.query("COMMIT").expect("nothing happened to it");
}
