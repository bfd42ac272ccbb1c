//! Prints the effective configuration: every setting with its value in force, secrets masked.
//!
//! The output is TOML again, for people and for `diff`; a masked secret cannot be read back.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::snapshot::{Cores, Deadlines, Placement, Snapshot, SocketSettings, Tenant, Upstream};
use super::units::{show_duration, show_size};

impl Display for Snapshot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = 1")?;
        self.show_process(f)?;
        for listener in &self.listeners {
            writeln!(f, "\n[listeners.{}]", key(&listener.name))?;
            writeln!(f, "protocol = {:?}", listener.protocol.label())?;
            writeln!(f, "address = {}", text(&listener.address.to_string()))?;
            writeln!(f, "backlog = {}", listener.backlog)?;
            writeln!(f, "connections_max = {}", listener.connections_max)?;
            let is_unix = listener.address.is_unix();
            if is_unix {
                writeln!(f, "mode = \"{:04o}\"", listener.mode)?;
            }
            show_socket(f, &listener.socket, !is_unix)?;
        }
        for placement in &self.placements {
            self.show_placement(f, placement)?;
        }
        if let Some(hash) = &self.hash {
            let names = hash.placements.iter().filter_map(|id| self.placement(*id));
            let names: Vec<String> = names.map(|p| text(&p.name)).collect();
            writeln!(
                f,
                "\n[hash]\nversion = {}\nseed = {}",
                hash.version, hash.seed
            )?;
            writeln!(f, "placements = [{}]", names.join(", "))?;
        }
        for tenant in &self.tenants {
            self.show_tenant(f, tenant)?;
        }
        for user in self.users.list() {
            writeln!(f, "\n[users.{}]", key(&user.name))?;
            let tenant = self.tenant(user.tenant).map_or("", |tenant| &tenant.name);
            writeln!(f, "tenant = {}", text(tenant))?;
            writeln!(f, "plugin = {:?}\npassword = \"***\"", user.plugin.name())?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn show_process(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.cores {
            Cores::EachCpu => writeln!(f, "\n[cores] # one per CPU of the affinity mask")?,
            Cores::Count(count) => writeln!(f, "\n[cores]\ncount = {count}")?,
            Cores::Cpus(cpus) => {
                let cpus: Vec<String> = cpus.iter().map(u16::to_string).collect();
                writeln!(f, "\n[cores]\ncpus = \"{}\"", cpus.join(","))?;
            }
        }
        writeln!(
            f,
            "\n[node]\ndrain_grace = {}",
            duration(self.node.drain_grace)
        )?;
        let version = self.node.server_version.as_deref().unwrap_or_default();
        writeln!(f, "server_version = {}", text(version))?;
        if !self.node.zone.is_empty() {
            writeln!(f, "zone = {}", text(&self.node.zone))?;
        }
        writeln!(f, "\n[admin]\naddress = \"{}\"", self.admin.address)?;
        show_deadlines(f, &self.deadlines)?;
        let logging = &self.logging;
        writeln!(f, "\n[logging]\nlevel = {:?}", logging.level.label())?;
        writeln!(f, "target = {:?}", logging.target.label())?;
        let pools = &self.pools;
        writeln!(f, "\n[pools]\nwaiters_max = {}", pools.waiters_max)?;
        writeln!(f, "idle_max = {}", duration(pools.idle_max))?;
        writeln!(f, "age_max = {}", duration(pools.age_max))?;
        writeln!(f, "statements_max = {}", pools.statements_max)?;
        writeln!(
            f,
            "statements_per_client_max = {}",
            pools.statements_per_client_max
        )?;
        let buffers = &self.buffers;
        writeln!(f, "\n[buffers]\ncount = {}", buffers.count)?;
        writeln!(f, "bytes = {}", size(buffers.bytes))?;
        writeln!(f, "unread_max = {}", size(buffers.unread_max))
    }

    fn show_placement(&self, f: &mut Formatter<'_>, placement: &Placement) -> fmt::Result {
        writeln!(f, "\n[placements.{}]", key(&placement.name))?;
        let endpoints = || {
            placement
                .endpoints
                .iter()
                .filter_map(|id| self.endpoint(*id))
        };
        if let Some(first) = endpoints().next() {
            writeln!(f, "budget = {}", first.budget)?;
        }
        show_upstream(f, placement.upstream.as_ref())?;
        let has_tcp = endpoints().any(|e| !e.destination.is_unix());
        show_socket(f, &placement.socket, has_tcp)?;
        writeln!(f, "endpoints = [")?;
        for e in endpoints() {
            write!(
                f,
                "  {{ address = {}, role = {:?}, ",
                text(&e.address()),
                e.role.label()
            )?;
            if !e.zone.is_empty() {
                write!(f, "zone = {}, ", text(&e.zone))?;
            }
            writeln!(f, "weight = {} }},", e.weight)?;
        }
        writeln!(f, "]")
    }

    fn show_tenant(&self, f: &mut Formatter<'_>, tenant: &Tenant) -> fmt::Result {
        writeln!(f, "\n[tenants.{}]", key(&tenant.name))?;
        if let Some(placement) = tenant.placement.and_then(|id| self.placement(id)) {
            writeln!(f, "placement = {}", text(&placement.name))?;
        }
        if let Some(schema) = &tenant.schema {
            writeln!(f, "schema = {}", text(schema))?;
        }
        show_upstream(f, tenant.upstream.as_ref())?;
        if let Some(bound) = tenant.connections_max {
            writeln!(f, "connections_max = {bound}")?;
        }
        if let Some(bound) = tenant.connections_upstream_max {
            writeln!(f, "connections_upstream_max = {bound}")?;
        }
        match tenant.statement {
            Some(statement) => writeln!(f, "statement = {}", duration(statement)),
            None => Ok(()),
        }
    }
}

fn show_deadlines(f: &mut Formatter<'_>, deadlines: &Deadlines) -> fmt::Result {
    let or_zero = |deadline: Option<Duration>| deadline.unwrap_or_default();
    writeln!(f, "\n[deadlines]")?;
    let rows = [
        ("login", deadlines.login),
        ("connect", deadlines.connect),
        ("connect_total", deadlines.connect_total),
        ("pool_wait", deadlines.pool_wait),
        ("pool_wait_target", or_zero(deadlines.pool_wait_target)),
        ("upstream_login", deadlines.upstream_login),
        ("statement", or_zero(deadlines.statement)),
        ("write_stall", deadlines.write_stall),
        ("idle_client", or_zero(deadlines.idle_client)),
        ("transaction_idle", or_zero(deadlines.transaction_idle)),
        ("removed_user", or_zero(deadlines.removed_user)),
        ("linger", deadlines.linger),
    ];
    rows.iter()
        .try_for_each(|(name, value)| writeln!(f, "{name} = {}", duration(*value)))
}

fn show_socket(f: &mut Formatter<'_>, socket: &SocketSettings, has_tcp: bool) -> fmt::Result {
    if has_tcp {
        show_tcp(f, socket)?;
    }
    for (name, bytes) in [
        ("receive_buffer", socket.receive_buffer),
        ("send_buffer", socket.send_buffer),
    ] {
        if let Some(bytes) = bytes {
            writeln!(f, "{name} = {}", size(bytes))?;
        }
    }
    Ok(())
}

fn show_tcp(f: &mut Formatter<'_>, socket: &SocketSettings) -> fmt::Result {
    writeln!(
        f,
        "keepalive = {}",
        duration(socket.keepalive.unwrap_or_default())
    )?;
    writeln!(
        f,
        "keepalive_interval = {}",
        duration(socket.keepalive_interval)
    )?;
    writeln!(f, "keepalive_count = {}", socket.keepalive_count)?;
    writeln!(
        f,
        "user_timeout = {}",
        duration(socket.user_timeout.unwrap_or_default())
    )?;
    match &socket.congestion {
        Some(name) => writeln!(f, "congestion = {}", text(name)),
        None => Ok(()),
    }
}

fn show_upstream(f: &mut Formatter<'_>, upstream: Option<&Upstream>) -> fmt::Result {
    match upstream {
        Some(account) if account.password.is_empty() => {
            writeln!(
                f,
                "upstream = {{ user = {}, passwordless = true }}",
                text(&account.user)
            )
        }
        Some(account) => {
            writeln!(
                f,
                "upstream = {{ user = {}, password = \"***\" }}",
                text(&account.user)
            )
        }
        None => Ok(()),
    }
}

fn duration(value: Duration) -> String {
    format!("\"{}\"", show_duration(value))
}

fn size(bytes: u32) -> String {
    format!("\"{}\"", show_size(bytes.into()))
}

/// A text as TOML writes it.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

/// A name as a TOML key: quoted when it must be.
fn key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        text(name)
    }
}
