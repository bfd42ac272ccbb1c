//! What the control thread needs of a configuration, in its own terms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::address::Destination;
use crate::config::{Cores, LogLevel, Snapshot};
use crate::core::preflight::CpuChoice;
use crate::core::runtime::DoorPlan;
use crate::net::{NetOptions, SocketOptions};
use crate::telemetry::log::Level;

/// A configuration as the control thread sees it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) cpus: CpuChoice,
    pub(super) doors: Vec<DoorPlan>,
    pub(super) admin: SocketAddr,
    pub(super) net: NetOptions,
    pub(super) level: Level,
    pub(super) grace: Duration,
    /// The version told to clients; `None` to learn it from an upstream.
    pub(super) server_version: Option<Arc<str>>,
    /// By endpoint.
    pub(super) destinations: Vec<Destination>,
}

impl Plan {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            cpus: match &snapshot.cores {
                Cores::EachCpu => CpuChoice::Allowed,
                Cores::Count(count) => CpuChoice::Count(usize::from(*count)),
                Cores::Cpus(cpus) => {
                    CpuChoice::These(cpus.iter().map(|&cpu| usize::from(cpu)).collect())
                }
            },
            doors: doors(snapshot),
            admin: snapshot.admin.address,
            net: ring(snapshot),
            level: level(snapshot.logging.level),
            grace: snapshot.node.drain_grace,
            server_version: snapshot.node.server_version.as_deref().map(Arc::from),
            destinations: snapshot
                .endpoints
                .iter()
                .map(|endpoint| endpoint.destination.clone())
                .collect(),
        }
    }
}

fn doors(snapshot: &Snapshot) -> Vec<DoorPlan> {
    let door = |listener: &crate::config::Listener| DoorPlan {
        name: listener.name.as_str().into(),
        address: listener.address.clone(),
        mode: listener.mode,
        backlog: i32::try_from(listener.backlog).unwrap_or(i32::MAX),
        options: SocketOptions::from(&listener.socket),
    };
    snapshot.listeners.iter().map(door).collect()
}

fn ring(snapshot: &Snapshot) -> NetOptions {
    NetOptions {
        // Half for each side.
        buffer_count: snapshot.buffers.count / 2,
        buffer_bytes: snapshot.buffers.bytes,
        unread_max: usize::try_from(snapshot.buffers.unread_max).unwrap_or(usize::MAX),
        write_stall: snapshot.deadlines.write_stall,
        linger: snapshot.deadlines.linger,
        ..NetOptions::default()
    }
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
version = 1
[listeners.main]
protocol = "mysql"
address = "127.0.0.1:3306"
[buffers]
count = 101
bytes = "64KiB"
unread_max = "100KiB"
[deadlines]
linger = "7s"
write_stall = "90s"
[placements.shard]
endpoints = [{ address = "127.0.0.1:1", role = "primary" }]
upstream = { user = "rg", password = { env = "X" } }
[tenants.acme]
placement = "shard"
"#;

    fn plan(text: &str) -> Plan {
        let snapshot = crate::config::parse("node.toml", text, &|_| Some("secret".into()));
        Plan::of(&snapshot.unwrap())
    }

    #[test]
    fn half_of_the_buffers_are_for_each_side() {
        let net = plan(TEXT).net;
        assert_eq!((net.buffer_count, net.buffer_bytes), (50, 64 << 10));
        assert_eq!(
            (net.unread_max, net.linger),
            (100 << 10, Duration::from_secs(7))
        );
        let net = plan(&TEXT.replace("count = 101", "")).net;
        assert_eq!(net.buffer_count, NetOptions::default().buffer_count);
    }
}
