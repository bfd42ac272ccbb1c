//! `ringgate serve` as its operator runs it: exit codes and reloads with real configuration files.

#[path = "control_support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use support::{Child, get};

/// A node in front of an endpoint that nobody has to answer at.
const GOOD: &str = r#"
version = 1
[cores]
count = 1
[node]
server_version = "8.0.0"
[listeners.main]
protocol = "mysql"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[placements.shard]
endpoints = [{ address = "127.0.0.1:1", role = "primary" }]
upstream = { user = "rg", password = { env = "RG_TEST_PASSWORD" } }
[tenants.acme]
placement = "shard"
[users.app]
tenant = "acme"
password = { env = "RG_TEST_PASSWORD" }
"#;

fn serve(file: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.args(["serve", "--config"]).arg(file);
    command.env("RG_TEST_PASSWORD", "canary-password");
    Child::run(command)
}

#[test]
fn a_bad_configuration_is_refused_with_78_and_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, GOOD.replace("count = 1", "cuont = 1")).unwrap();
    let (code, log) = serve(&file).end();
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("bad.toml:4"), "{log}");
    assert!(log.contains("count"), "{log}");
    let (code, log) = serve(&directory.path().join("none.toml")).end();
    assert_eq!(code, Some(78), "{log}");
}

#[test]
fn reloads_apply_whole_or_not_at_all_and_name_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    std::fs::write(&file, GOOD).unwrap();
    let mut child = serve(&file);
    let (_, admin) = child.ready();
    std::fs::write(&file, GOOD.replace("[admin]", "[admin]\nspeed = 9")).unwrap();
    child.signal(Signal::HUP);
    // What to do about it is said too.
    child.line(&["event=reload_refused", "speed", "known here: address"]);
    let more = format!(
        "{GOOD}[users.second]\ntenant = \"acme\"\npassword = {{ env = \"RG_TEST_PASSWORD\" }}\n"
    );
    std::fs::write(&file, more).unwrap();
    child.signal(Signal::HUP);
    child.line(&["event=applied", "generation=2"]);
    std::fs::write(&file, GOOD.replace("count = 1", "count = 2")).unwrap();
    child.signal(Signal::HUP);
    child.line(&[
        "event=reload_refused",
        "a restart is needed to change cores",
    ]);
    let metrics = get(admin, "/metrics");
    assert!(
        metrics.contains("ringgate_reloads_refused_total 2\n"),
        "{metrics}"
    );
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        !log.contains("canary") && !metrics.contains("canary"),
        "{log}"
    );
}

#[test]
fn an_address_that_is_taken_is_named_with_its_setting() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (section, setting) in [
        ("[admin]\n", "`admin.address`"),
        ("protocol = \"mysql\"\n", "`listeners.main.address`"),
    ] {
        let free = format!("{section}address = \"127.0.0.1:0\"");
        assert!(GOOD.contains(&free), "{section}");
        let text = GOOD.replace(&free, &format!("{section}address = \"{address}\""));
        std::fs::write(&file, text).unwrap();
        let (code, log) = serve(&file).end();
        assert_eq!(code, Some(1), "{log}");
        let line = log.lines().find(|line| line.contains("event=start_failed"));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        for part in [
            address.as_str(),
            "in use by another process",
            "`ss -ltnp`",
            setting,
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
