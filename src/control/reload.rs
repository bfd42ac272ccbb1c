//! Which changes of a configuration a running node can take over.

use crate::config::{Listener, Snapshot};

/// Names of the settings that differ and cannot change while the node runs.
///
/// Sockets and executors are made once, before the node is ready: a change needs a restart.
pub(super) fn fixed_changes(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut fixed = Vec::new();
    if old.cores != new.cores {
        fixed.push("cores".to_owned());
    }
    if old.admin != new.admin {
        fixed.push("admin.address".to_owned());
    }
    if old.buffers != new.buffers {
        fixed.push("buffers".to_owned());
    }
    if old.logging.target != new.logging.target {
        fixed.push("logging.target".to_owned());
    }
    if new.node.server_version.is_none() && old.node.server_version.is_some() {
        // Upstreams are asked for their version at the start only.
        fixed.push("node.server_version (removed)".to_owned());
    }
    for listener in &old.listeners {
        let name = &listener.name;
        match new.listeners.iter().find(|other| other.name == *name) {
            None => fixed.push(format!("listeners.{name} (removed)")),
            Some(other) => {
                let changes = listener_changes(listener, other).into_iter();
                fixed.extend(changes.map(|key| format!("listeners.{name}.{key}")));
            }
        }
    }
    for listener in &new.listeners {
        if !old
            .listeners
            .iter()
            .any(|other| other.name == listener.name)
        {
            fixed.push(format!("listeners.{} (added)", listener.name));
        }
    }
    fixed
}

/// The settings of a listener that differ and cannot change.
fn listener_changes(old: &Listener, new: &Listener) -> Vec<&'static str> {
    let (was, is) = (&old.socket, &new.socket);
    let changes = [
        ("protocol", old.protocol != new.protocol),
        ("address", old.address != new.address),
        ("mode", old.mode != new.mode),
        ("backlog", old.backlog != new.backlog),
        // The kernel takes these, and does not take them back.
        (
            "receive_buffer (removed)",
            was.receive_buffer.is_some() && is.receive_buffer.is_none(),
        ),
        (
            "send_buffer (removed)",
            was.send_buffer.is_some() && is.send_buffer.is_none(),
        ),
        (
            "congestion (removed)",
            was.congestion.is_some() && is.congestion.is_none(),
        ),
    ];
    let changes = changes.into_iter().filter(|(_, is_changed)| *is_changed);
    changes.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
version = 1
[cores]
count = 1
[node]
drain_grace = "30s"
server_version = "8.0.0"
[listeners.main]
protocol = "mysql"
address = "127.0.0.1:3306"
connections_max = 100
[admin]
address = "127.0.0.1:9306"
[placements.shard]
endpoints = [{ address = "127.0.0.1:1", role = "primary" }]
upstream = { user = "rg", password = { env = "X" } }
[tenants.acme]
placement = "shard"
"#;

    fn parse(text: &str) -> Snapshot {
        crate::config::parse("node.toml", text, &|_| Some("secret".into())).unwrap()
    }

    #[test]
    fn only_what_is_made_once_needs_a_restart() {
        let old = parse(TEXT);
        let check = |from: &str, to: &str, expect: &[&str]| {
            assert!(TEXT.contains(from), "{from}");
            let new = parse(&TEXT.replace(from, to));
            assert_eq!(fixed_changes(&old, &new), expect, "{from} -> {to}");
        };
        check("count = 1", "count = 2", &["cores"]);
        check("3306", "3307", &["listeners.main.address"]);
        let with = |line: &str| format!("connections_max = 100\n{line}");
        let sockets = [
            "keepalive = \"0s\"",
            "user_timeout = \"0s\"",
            "receive_buffer = \"1MiB\"",
            "send_buffer = \"1MiB\"",
            "congestion = \"reno\"",
        ];
        for line in sockets {
            check("connections_max = 100", &with(line), &[]);
        }
        check(
            "connections_max = 100",
            &with("backlog = 7"),
            &["listeners.main.backlog"],
        );
        for key in ["receive_buffer", "send_buffer", "congestion"] {
            let value = if key == "congestion" { "reno" } else { "1MiB" };
            let line = format!("{key} = \"{value}\"");
            let has = parse(&TEXT.replace("connections_max = 100", &with(&line)));
            let removed = format!("listeners.main.{key} (removed)");
            assert_eq!(fixed_changes(&has, &old), [removed]);
        }
        check(
            "[listeners.main]",
            "[listeners.other]",
            &["listeners.main (removed)", "listeners.other (added)"],
        );
        check("9306", "9307", &["admin.address"]);
        check("[admin]", "[buffers]\ncount = 128\n[admin]", &["buffers"]);
        check(
            "[admin]",
            "[logging]\ntarget = \"stdout\"\n[admin]",
            &["logging.target"],
        );
        check(
            "server_version = \"8.0.0\"",
            "",
            &["node.server_version (removed)"],
        );
        let unix = |mode: &str| {
            let path = format!("unix:/run/ringgate.sock\"\nmode = \"{mode}");
            parse(&TEXT.replace("127.0.0.1:3306", &path))
        };
        assert_eq!(fixed_changes(&unix("0770"), &unix("0770")), [""; 0]);
        let changed = fixed_changes(&unix("0770"), &unix("0777"));
        assert_eq!(changed, ["listeners.main.mode"]);
        check("30s", "5s", &[]);
        check("connections_max = 100", "connections_max = 50", &[]);
        check("127.0.0.1:1\"", "127.0.0.1:2\"", &[]);
        check("[admin]", "[logging]\nlevel = \"debug\"\n[admin]", &[]);
        check("tenants.acme", "tenants.other", &[]);
    }
}
