//! The gateway's own binary, run as an operator runs it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::server::signal;
use super::{ACCOUNT, Client, LogLine, Login, MariaDb, PASSWORD, free_port, loopback, wait_for};

/// How long the gateway may take to become ready; it promises much less.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Environment variables a configuration written here may name for its secrets.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("RG_UPSTREAM_PASSWORD", PASSWORD),
    ("RG_A_PASSWORD", "password-of-a"),
    ("RG_B_PASSWORD", "password-of-b"),
];

/// The loopback ports a configuration is to use.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The MySQL listener's.
    pub mysql: u16,
    /// The admin listener's.
    pub admin: u16,
}

/// A running gateway. Dropping it kills the process.
pub struct Gateway {
    process: Child,
    ports: Ports,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts `ringgate serve` with the configuration that `config` makes for two free ports, and
    /// waits for `/readyz`. Panics with the gateway's log when it does not become ready.
    pub fn start(config: impl FnOnce(Ports) -> String) -> Self {
        Self::start_with(&[], config)
    }

    /// Like [`Gateway::start`], with further environment variables.
    pub fn start_with(environment: &[(&str, &str)], config: impl FnOnce(Ports) -> String) -> Self {
        let ports = Ports {
            mysql: free_port(),
            admin: free_port(),
        };
        let folder = tempfile::Builder::new()
            .prefix("gateway-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary folder");
        let file = folder.path().join("ringgate.toml");
        fs::write(&file, config(ports)).expect("a writable temporary folder");
        let log = File::create(folder.path().join("log")).expect("a writable temporary folder");
        let process = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["serve", "--config"])
            .arg(&file)
            .envs(ENVIRONMENT.iter().chain(environment).copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("the gateway's binary");
        let mut gateway = Self {
            process,
            ports,
            folder,
        };
        gateway.wait_until_ready();
        gateway
    }

    /// One placement and one tenant per server: users `a` and `b` (passwords in [`ENVIRONMENT`]),
    /// schema `test` each, and `extra` appended to the configuration.
    pub fn two_shards(a: &MariaDb, b: &MariaDb, budget: u32, extra: &str) -> Self {
        Self::start(|ports| two_shards_config(ports, a.port(), b.port(), budget, extra))
    }

    /// User `a` with schema `test` on the server at `upstream`, and the node in the given shape.
    pub fn in_shape(upstream: u16, shape: &Shape<'_>) -> Self {
        Self::start(|ports| shape.config(ports, upstream))
    }

    /// Where user `a` logs in.
    pub fn login(&self) -> Login {
        Login {
            port: self.ports.mysql,
            user: "a".to_owned(),
            password: "password-of-a".to_owned(),
            schema: String::new(),
            deprecate_eof: true,
        }
    }

    /// A client logged in as user `a`.
    pub fn client(&self) -> Client {
        Client::connect(&self.login()).unwrap_or_else(|error| panic!("{error}:\n{}", self.log()))
    }

    /// A client of user `a` whose session is on this core: it is in the highest byte of the
    /// connection's id. The kernel spreads clients over cores, so that some are let go again.
    pub fn client_on(&self, core: u32) -> Client {
        self.client_of(&self.login(), core)
    }

    /// As [`Self::client_on`], of another user or kind.
    pub fn client_of(&self, login: &Login, core: u32) -> Client {
        let connect =
            |_| Client::connect(login).unwrap_or_else(|error| panic!("{error}:\n{}", self.log()));
        let mut clients = (0..500).map(connect);
        let found = clients.find(|client| client.thread_id >> 24 == core);
        found.unwrap_or_else(|| panic!("no client on core {core}"))
    }

    /// The MySQL listener's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports.mysql
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the gateway has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether it comes to have this in its log: lines are written a little after what they tell of is counted.
    pub fn has_logged(&self, text: &str) -> bool {
        wait_for(START_LIMIT, || self.log().contains(text))
    }

    /// What it has written, each line read strictly; panics at one that cannot be.
    pub fn lines(&self) -> Vec<LogLine> {
        let log = self.log();
        // The last line may be being written.
        LogLine::read(&log[..log.rfind('\n').map_or(0, |at| at + 1)])
    }

    /// Waits for a line with all of these fields; panics with the log if there is none.
    pub fn line_with(&self, fields: &[(&str, &str)]) -> LogLine {
        let mut found = None;
        wait_for(START_LIMIT, || {
            found = self.lines().into_iter().find(|line| line.has(fields));
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no line with {fields:?}:\n{}", self.log()))
    }

    /// Replaces the configuration file, which is whole at any time, and asks for a reload; it is applied a little
    /// later.
    pub fn reload(&self, config: impl FnOnce(Ports) -> String) {
        let [file, next] = ["ringgate.toml", "next.toml"].map(|name| self.folder.path().join(name));
        let written = fs::write(&next, config(self.ports)).and_then(|()| fs::rename(next, file));
        written.expect("a writable temporary folder");
        self.signal("HUP");
    }

    /// Replaces the configuration and waits until every core has it; panics when it is refused.
    pub fn apply(&self, config: impl FnOnce(Ports) -> String) {
        let generation = || self.metric("ringgate_configuration_generation", &[]);
        let before = generation();
        self.reload(config);
        let applied = wait_for(START_LIMIT, || generation() > before + 0.5);
        assert!(applied, "not applied:\n{}", self.log());
        // Every core answers this behind the configuration, which was in its mailbox before.
        self.metrics();
    }

    /// Sends a signal by its name, for example `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Asks the gateway to end and returns how it ended; panics when it does not within `limit`.
    pub fn stop(mut self, limit: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_exit(limit)
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_for(limit, || {
            status = self.process.try_wait().expect("a child's status");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("still running after {limit:?}:\n{}", self.log()))
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        self.admin("/metrics")
            .map_or_else(String::new, |(_, body)| body)
    }

    /// The sum of a metric over all its label sets that contain every one of `labels`, each
    /// written as in the text, for example `reason="transaction"`. Zero when there is none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        metric_sum(&self.metrics(), name, labels)
    }

    /// Status code and body of a GET on the admin listener; `None` while nobody listens.
    pub fn admin(&self, path: &str) -> Option<(u16, String)> {
        http_get(self.ports.admin, path)
    }

    /// Resident memory of the process, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    }

    fn wait_until_ready(&mut self) {
        let mut ended = false;
        let ready = wait_for(START_LIMIT, || {
            ended = !matches!(self.process.try_wait(), Ok(None));
            ended || self.admin("/readyz").is_some_and(|(code, _)| code == 200)
        });
        assert!(ready && !ended, "the gateway is not ready:\n{}", self.log());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // An error says that it has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node with one placement and what a test wants different about it.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Upstream connections.
    pub budget: u32,
    /// Cores.
    pub cores: u16,
    /// Further lines of `[pools]`.
    pub pools: &'a str,
    /// Further sections.
    pub extra: &'a str,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self {
            budget: 4,
            cores: 1,
            pools: "",
            extra: "",
        }
    }
}

impl Shape<'_> {
    /// The configuration's text: user `a`, schema `test`, one endpoint at 127.0.0.1:`upstream`.
    pub fn config(&self, ports: Ports, upstream: u16) -> String {
        let Ports { mysql, admin } = ports;
        let Self {
            budget,
            cores,
            pools,
            extra,
        } = self;
        format!(
            "version = 1\n\
             [cores]\ncount = {cores}\n\
             [listeners.main]\nprotocol = \"mysql\"\naddress = \"127.0.0.1:{mysql}\"\n\
             [admin]\naddress = \"127.0.0.1:{admin}\"\n\
             [pools]\nbudget = {budget}\n{pools}\n\
             [placements.shard-a]\n\
             endpoints = [{{ address = \"127.0.0.1:{upstream}\", role = \"primary\" }}]\n\
             upstream = {{ user = \"{ACCOUNT}\", password = {{ env = \"RG_UPSTREAM_PASSWORD\" }} }}\n\
             [tenants.a]\nplacement = \"shard-a\"\nschema = \"test\"\n\
             [users.a]\ntenant = \"a\"\nplugin = \"mysql_native_password\"\n\
             password = {{ env = \"RG_A_PASSWORD\" }}\n{extra}\n"
        )
    }
}

/// The configuration of [`Gateway::two_shards`].
pub fn two_shards_config(ports: Ports, a: u16, b: u16, budget: u32, extra: &str) -> String {
    let Ports { mysql, admin } = ports;
    let mut text = format!(
        "version = 1\n\
         [cores]\ncount = 1\n\
         [listeners.main]\nprotocol = \"mysql\"\naddress = \"127.0.0.1:{mysql}\"\n\
         [admin]\naddress = \"127.0.0.1:{admin}\"\n\
         [pools]\nbudget = {budget}\n"
    );
    for (name, port) in [("a", a), ("b", b)] {
        let variable = format!("RG_{}_PASSWORD", name.to_uppercase());
        text.push_str(&format!(
            "[placements.shard-{name}]\n\
             endpoints = [{{ address = \"127.0.0.1:{port}\", role = \"primary\" }}]\n\
             upstream = {{ user = \"{ACCOUNT}\", password = {{ env = \"RG_UPSTREAM_PASSWORD\" }} }}\n\
             [tenants.{name}]\nplacement = \"shard-{name}\"\nschema = \"test\"\n\
             [users.{name}]\ntenant = \"{name}\"\nplugin = \"mysql_native_password\"\n\
             password = {{ env = \"{variable}\" }}\n"
        ));
    }
    text.push_str(extra);
    text
}

/// The sum of the samples of `name` in a Prometheus text whose labels contain each of `labels`.
pub fn metric_sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn http_get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream =
        TcpStream::connect_timeout(&loopback(port), Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}
