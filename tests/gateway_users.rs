//! Who gets in, and how it is proven: the settings of `[users]`, each from the start and after a reload.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::{Client, Gateway, Login, NullServer, Shape, loopback};

/// A node with the tenants `a` and `b`, at servers that answer with 11 and 22 bytes.
struct Node {
    servers: [NullServer; 2],
    gateway: Gateway,
}

/// The user `u` with these lines.
fn config(ports: support::Ports, servers: &[NullServer; 2], lines: &str) -> String {
    let shape = Shape::default();
    let text = shape.config(ports, servers[0].port());
    // Of the user that every shape has nothing is left.
    let text = text.split("[tenants.a]").next().unwrap_or_default();
    let port = servers[1].port();
    format!(
        "{text}[placements.shard-b]\nendpoints = [{{ address = \"127.0.0.1:{port}\" }}]\n\
         upstream = {{ user = \"rg\", password = {{ env = \"RG_UPSTREAM_PASSWORD\" }} }}\n\
         [tenants.a]\nplacement = \"shard-a\"\n[tenants.b]\nplacement = \"shard-b\"\n\
         [users.u]\n{lines}\n"
    )
}

impl Node {
    fn start(lines: &str) -> Self {
        let server = |size| NullServer::start(&["mysql", "--row-size", size]);
        let servers = [server("11"), server("22")];
        let gateway = Gateway::start(|ports| config(ports, &servers, lines));
        Self { servers, gateway }
    }

    fn reload(&self, lines: &str) {
        self.gateway
            .apply(|ports| config(ports, &self.servers, lines));
    }

    fn login(&self, password: &str) -> Option<Client> {
        let login = Login {
            user: "u".to_owned(),
            password: password.to_owned(),
            ..self.gateway.login()
        };
        match Client::connect(&login) {
            Ok(client) => Some(client),
            Err(error) => {
                assert!(error.to_string().contains("denied"), "{error}");
                None
            }
        }
    }

    /// The plugin that the greeting names: that of most users, and here is one.
    fn greeting(&self) -> String {
        let mut stream = TcpStream::connect(loopback(self.gateway.port())).expect("a connection");
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).expect("a socket");
        let mut header = [0; 4];
        stream.read_exact(&mut header).expect("a greeting");
        let mut greeting = vec![0; usize::from(header[0])];
        stream.read_exact(&mut greeting).expect("a greeting");
        String::from_utf8_lossy(&greeting).into_owned()
    }
}

/// Of the password `password`.
const NATIVE: &str = "verifiers = { native = \"*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19\" }";
const SHA2: &str = "verifiers = { sha2_stage2 = \
                    \"73641c99f7719f57d8f4beb11a303afcd190243a51ced8782ca6d3dbe014d146\" }";

#[test]
fn a_user_proves_what_the_configuration_has_of_him_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    let write = |text: &str| {
        fs::write(&file, text).expect("a writable folder");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its owner");
    };
    write("first\n");
    let by_file = format!("password = {{ file = \"{}\" }}", file.display());
    let ways = [
        ("password = { env = \"RG_A_PASSWORD\" }", "password-of-a"),
        ("password = { env = \"RG_B_PASSWORD\" }", "password-of-b"),
        (&by_file, "first"),
        (NATIVE, "password"),
        (SHA2, "password"),
        ("passwordless = true", ""),
    ];
    let node = Node::start(&format!("tenant = \"a\"\n{}", ways[0].0));
    for (way, password) in ways {
        let lines = format!("tenant = \"a\"\n{way}");
        node.reload(&lines);
        let fresh = Node::start(&lines);
        for node in [&node, &fresh] {
            for (_, other) in ways {
                let is_in = node.login(other).is_some();
                assert_eq!(is_in, other == password, "{other:?} by {way}");
            }
        }
    }
    // The text of the configuration stays; the secret does not.
    node.reload(&format!("tenant = \"a\"\n{by_file}"));
    assert!(node.login("first").is_some());
    write("second\n");
    node.reload(&format!("tenant = \"a\"\n{by_file}"));
    assert!(node.login("first").is_none() && node.login("second").is_some());
}

#[test]
fn a_servers_stored_form_is_proven_in_full_and_then_fast() {
    let folder = tempfile::tempdir().expect("a folder");
    let door = folder.path().join("door");
    let lines = |password: &[u8]| {
        let stored = ringgate::wire::mysql::auth::salted(password, &[b's'; 20]);
        let stored = String::from_utf8(stored).expect("a text");
        let door = door.display();
        format!(
            "tenant = \"a\"\nverifiers = {{ caching_sha2 = \"{stored}\" }}\n\
             [listeners.local]\naddress = \"unix:{door}\"\n"
        )
    };
    let node = Node::start(&lines(b"first"));
    let enters = |password: &str| {
        let login = Login {
            user: "u".to_owned(),
            password: password.to_owned(),
            ..node.gateway.login()
        };
        Client::connect_unix(&door, &login).is_ok()
    };
    let is_fast = |password: &str| node.login(password).is_some();
    assert!(!enters("second") && enters("first") && is_fast("first"));
    node.reload(&lines(b"second"));
    assert!(!enters("first") && enters("second") && is_fast("second"));
}

#[test]
fn a_user_is_asked_in_his_plugin_and_belongs_to_his_tenant() {
    let lines = |tenant: &str, plugin: &str| {
        format!("tenant = \"{tenant}\"\n{plugin}\npassword = {{ env = \"RG_A_PASSWORD\" }}")
    };
    let native = "plugin = \"mysql_native_password\"";
    let sha2 = "plugin = \"caching_sha2_password\"";
    let node = Node::start(&lines("a", native));
    let ways = [
        ("a", native, 11, "mysql_native_password"),
        ("a", sha2, 11, "caching_sha2_password"),
        ("b", native, 22, "mysql_native_password"),
        ("b", "", 22, "caching_sha2_password"),
    ];
    for (tenant, plugin, length, name) in ways {
        node.reload(&lines(tenant, plugin));
        let fresh = Node::start(&lines(tenant, plugin));
        for node in [&node, &fresh] {
            let greeting = node.greeting();
            assert!(greeting.contains(name), "{greeting:?} without {name}");
            let mut client = node.login("password-of-a").expect("a login");
            let answer = client.query_one("SELECT 1").expect("an answer");
            assert_eq!(answer.text(0, 0).map(|text| text.len()), Some(length));
        }
    }
}
