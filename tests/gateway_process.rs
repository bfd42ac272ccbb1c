//! The settings of the process: cores, node, logging, buffers; and what only a restart can change.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::gateway::ENVIRONMENT;
use support::{Gateway, MariaDb, NullServer, Ports, Shape, free_port, loopback, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration whose lines beginning with `from` are replaced by `to`; sections are appended.
fn config(ports: Ports, upstream: u16, changes: &[(&str, &str)], sections: &str) -> String {
    let mut text = Shape::default().config(ports, upstream);
    for (from, to) in changes {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replacen(from, to, 1);
    }
    text + sections
}

fn start(server: &NullServer, changes: &[(&str, &str)], sections: &str) -> Gateway {
    Gateway::start(|ports| config(ports, server.port(), changes, sections))
}

/// The CPU that each core is pinned to, as the kernel writes it, in the order of the cores.
fn cores(gateway: &Gateway) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("a process");
    let mut cores: BTreeMap<u16, String> = BTreeMap::new();
    for task in tasks.flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        let status = read("status");
        let mut lines = status.lines();
        let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        // An executor's helper threads have its name and not its CPU.
        let pinned = allowed
            .map(str::trim)
            .filter(|cpus| cpus.parse::<u16>().is_ok());
        let number = name
            .strip_prefix("core-")
            .and_then(|name| name.parse().ok());
        if let (Some(number), Some(cpu)) = (number, pinned) {
            cores.insert(number, cpu.to_owned());
        }
    }
    cores.into_values().collect()
}

/// `0-1,4` as its members.
fn expand(list: &str) -> Vec<String> {
    let ends = |part: &str| -> (u16, u16) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        (first.parse().expect("a CPU"), last.parse().expect("a CPU"))
    };
    let ranges = list.split(',').map(ends);
    ranges
        .flat_map(|(first, last)| first..=last)
        .map(|cpu| cpu.to_string())
        .collect()
}

#[test]
fn there_is_a_core_on_each_cpu_that_is_asked_for() {
    let server = NullServer::start(&["mysql"]);
    let count = "count = 1";
    // Each core needs a connection of the budget.
    let every = [(count, ""), ("budget = 4", "budget = 2000")];
    let all = cores(&start(&server, &every, ""));
    let status = fs::read_to_string("/proc/self/status").expect("this process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mine: Vec<String> = expand(line.unwrap_or_default().trim());
    assert_eq!(all, mine);
    assert_eq!(cores(&start(&server, &[(count, count)], "")), all[..1]);
    let last = all.last().expect("a CPU");
    let line = format!("cpus = \"{last}\"");
    assert_eq!(
        cores(&start(&server, &[(count, &line)], "")),
        std::slice::from_ref(last)
    );
}

/// The version that the greeting names.
fn version(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(loopback(gateway.port())).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut greeting = [0; 64];
    stream.read_exact(&mut greeting).expect("a greeting");
    let version = greeting[5..].split(|byte| *byte == 0).next();
    String::from_utf8_lossy(version.unwrap_or_default()).into_owned()
}

#[test]
fn the_greeting_names_the_version_that_is_set_else_the_upstreams() {
    let server = MariaDb::with_test_schema("");
    let text = |version: &str| format!("[node]\nserver_version = \"{version}\"\n");
    let gateway = Gateway::start(|ports| config(ports, server.port(), &[], ""));
    let upstream = server.sql("SELECT VERSION()");
    let learnt = || version(&gateway).contains(upstream.trim());
    assert!(
        wait_for(PATIENCE, learnt),
        "{} of {upstream}",
        version(&gateway)
    );
    for wanted in ["8.4.3", "9.1.0-mine"] {
        gateway.apply(|ports| config(ports, server.port(), &[], &text(wanted)));
        assert_eq!(version(&gateway), wanted);
    }
    let fresh = Gateway::start(|ports| config(ports, server.port(), &[], &text("8.0.1")));
    assert_eq!(version(&fresh), "8.0.1");
}

#[test]
fn a_drain_has_the_grace_of_the_last_reload() {
    let server = MariaDb::with_test_schema("");
    let text = |grace: &str| format!("[node]\ndrain_grace = \"{grace}\"\n");
    let start = |grace| Gateway::start(|ports| config(ports, server.port(), &[], &text(grace)));
    let mut gateway = start("60s");
    gateway.apply(|ports| config(ports, server.port(), &[], &text("500ms")));
    let mut client = gateway.client();
    client.send_query("SELECT SLEEP(30)").expect("a write");
    assert!(server.runs("SLEEP(30)", PATIENCE), "it does not run");
    let begun = Instant::now();
    gateway.signal("TERM");
    gateway.wait_for_exit(PATIENCE);
    let took = begun.elapsed();
    let limits = Duration::from_millis(490)..Duration::from_secs(4);
    assert!(limits.contains(&took), "{took:?}");
}

/// Whether a refused login is logged, which is a line of level `info`.
fn tells_of_a_login(gateway: &Gateway) -> bool {
    let count = || gateway.log().matches("login denied").count();
    let before = count();
    let login = support::Login {
        password: "wrong".to_owned(),
        ..gateway.login()
    };
    assert!(support::Client::connect(&login).is_err(), "it is let in");
    wait_for(Duration::from_millis(1_000), || count() > before)
}

#[test]
fn lines_are_written_up_to_the_level_of_the_last_reload() {
    let server = NullServer::start(&["mysql"]);
    let text = |level: &str| format!("[logging]\nlevel = \"{level}\"\n");
    let gateway = start(&server, &[], &text("warn"));
    assert_eq!(gateway.log(), "", "the start itself is of level info");
    assert!(!tells_of_a_login(&gateway));
    for (level, is_told) in [("info", true), ("error", false), ("debug", true)] {
        gateway.apply(|ports| config(ports, server.port(), &[], &text(level)));
        assert_eq!(tells_of_a_login(&gateway), is_told, "{level}");
    }
}

#[test]
fn lines_go_to_the_target() {
    let folder = tempfile::tempdir().expect("a folder");
    for (target, other) in [("stdout", "stderr"), ("stderr", "stdout")] {
        let ports = Ports {
            mysql: free_port(),
            admin: free_port(),
        };
        let section = format!("[logging]\ntarget = \"{target}\"\n");
        let file = folder.path().join("ringgate.toml");
        fs::write(&file, config(ports, 1, &[], &section)).expect("a writable folder");
        let path = |name: &str| folder.path().join(format!("{target}-{name}"));
        let output = |name: &str| Stdio::from(File::create(path(name)).expect("a file"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["serve", "--config"])
            .arg(&file)
            .envs(ENVIRONMENT.iter().copied())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the binary");
        let text = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
        let is_told = wait_for(PATIENCE, || text(target).contains("event=ready"));
        let _ = process.kill();
        let _ = process.wait();
        assert!(is_told, "{}", text(target));
        assert_eq!(text(other), "", "{other}");
    }
}

/// Address space of the process, MiB: buffers take their memory as it is needed.
fn address_space(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.pid());
    let status = fs::read_to_string(path).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmSize:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.expect("a size") / 1_024
}

#[test]
fn buffers_are_as_many_and_as_large_as_is_set() {
    let server = NullServer::start(&["mysql"]);
    let space = |count: u32, bytes: &str| {
        let lines = format!("count = {count}\nbytes = \"{bytes}\"\nunread_max = \"512KiB\"");
        address_space(&start(&server, &[], &format!("[buffers]\n{lines}\n")))
    };
    // 32 MiB of buffers, and 512 MiB. Allocators reserve 64 MiB for a thread now and then.
    let small = space(1_024, "32KiB");
    for (count, bytes) in [(16_384, "32KiB"), (1_024, "512KiB")] {
        let more = space(count, bytes).saturating_sub(small);
        assert!(
            (300..660).contains(&more),
            "{more} MiB more by {count} of {bytes}"
        );
    }
}

/// Bytes that the node and the kernel take of a client whose statement runs.
fn taken(unread_max: &str) -> usize {
    let server = NullServer::start(&["mysql", "--service-time", "constant:30s"]);
    let section = format!("[buffers]\nunread_max = \"{unread_max}\"\n");
    // A buffer of the kernel that does not grow.
    let changes = [("[admin]\n", "receive_buffer = \"16KiB\"\n[admin]\n")];
    let gateway = start(&server, &changes, &section);
    let mut client = gateway.client();
    client.send_query("SELECT 1").expect("a write");
    let stream = client.stream();
    let socket = socket2::SockRef::from(&*stream);
    socket.set_send_buffer_size(16_384).expect("a socket");
    let limit = Some(Duration::from_millis(700));
    stream.set_write_timeout(limit).expect("a socket");
    let pings = [1, 0, 0, 0, 14].repeat(1_000);
    let mut taken = 0;
    while let Ok(count) = stream.write(&pings) {
        taken += count;
        assert!(taken < 64 << 20, "no bound");
    }
    taken
}

#[test]
fn so_much_is_read_ahead_of_a_client() {
    let (small, large) = (taken("64KiB"), taken("1MiB"));
    assert!((64 << 10..512 << 10).contains(&small), "{small} of 64 KiB");
    let more = large.saturating_sub(small);
    assert!(
        (800 << 10..1_300 << 10).contains(&more),
        "{small} and {large}"
    );
}

#[test]
fn the_file_of_a_unix_socket_has_its_mode() {
    let server = NullServer::start(&["mysql"]);
    let folder = tempfile::tempdir().expect("a folder");
    for mode in [0o600, 0o750] {
        let file = folder.path().join(format!("{mode:o}"));
        let path = file.display();
        let section =
            format!("[listeners.local]\naddress = \"unix:{path}\"\nmode = \"0{mode:o}\"\n");
        let _gateway = start(&server, &[], &section);
        let seen = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(seen & 0o777, mode);
    }
}

/// A node's configuration with everything that a restart is needed to change.
struct Fixed {
    ports: Ports,
    upstream: u16,
    /// The section of a listener with a Unix socket.
    unix: String,
}

impl Fixed {
    fn text(&self) -> String {
        let options = "receive_buffer = \"64KiB\"\nsend_buffer = \"64KiB\"\n\
                       congestion = \"reno\"\n[admin]\n";
        let changes = [("[admin]\n", options)];
        let sections = "[node]\nserver_version = \"8.4.3\"\n[logging]\ntarget = \"stderr\"\n";
        config(self.ports, self.upstream, &changes, sections) + &self.unix
    }

    /// What is replaced by what, and what the refusal names.
    fn cases(&self) -> Vec<(String, String, &'static str)> {
        let address = |port: u16| format!("address = \"127.0.0.1:{port}\"");
        let before_admin = |lines: &str| format!("{lines}\n[admin]\n");
        let more = format!("[listeners.more]\n{}", address(free_port()));
        let moved = address(free_port());
        let mode = format!("{}mode = \"0700\"\n", self.unix);
        let (mysql, admin) = (address(self.ports.mysql), address(self.ports.admin));
        let cases = [
            ("count = 1", "count = 2", "cores"),
            ("count = 1", "cpus = \"0\"", "cores"),
            (
                "server_version = \"8.4.3\"",
                "",
                "node.server_version (removed)",
            ),
            (
                "target = \"stderr\"",
                "target = \"stdout\"",
                "logging.target",
            ),
            (&admin, &moved, "admin.address"),
            (
                "[admin]\n",
                &before_admin("[buffers]\ncount = 512"),
                "buffers",
            ),
            (
                "[admin]\n",
                &before_admin("[buffers]\nbytes = \"64KiB\""),
                "buffers",
            ),
            (
                "[admin]\n",
                &before_admin("[buffers]\nunread_max = \"1MiB\""),
                "buffers",
            ),
            (&mysql, &moved, "listeners.main.address"),
            (
                "[admin]\n",
                &before_admin("backlog = 7"),
                "listeners.main.backlog",
            ),
            ("[admin]\n", &before_admin(&more), "listeners.more (added)"),
            (&self.unix, "", "listeners.local (removed)"),
            (&self.unix, &mode, "listeners.local.mode"),
            (
                "receive_buffer = \"64KiB\"",
                "",
                "listeners.main.receive_buffer (removed)",
            ),
            (
                "send_buffer = \"64KiB\"",
                "",
                "listeners.main.send_buffer (removed)",
            ),
            (
                "congestion = \"reno\"",
                "",
                "listeners.main.congestion (removed)",
            ),
        ];
        cases
            .map(|(from, to, name)| (from.to_owned(), to.to_owned(), name))
            .to_vec()
    }
}

#[test]
fn what_a_restart_is_needed_for_is_refused_by_name_and_changes_nothing() {
    let server = NullServer::start(&["mysql"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("door");
    let unix = format!("[listeners.local]\naddress = \"unix:{}\"\n", path.display());
    let fixed = |ports| Fixed {
        ports,
        upstream: server.port(),
        unix: unix.clone(),
    };
    let gateway = Gateway::start(|ports| fixed(ports).text());
    let refused = || gateway.metric("ringgate_reloads_refused_total", &[]);
    let mut cases = Vec::new();
    gateway.reload(|ports| {
        cases = fixed(ports).cases();
        "nonsense".to_owned()
    });
    for (at, (from, to, name)) in (1_u8..).zip(&cases) {
        assert!(
            wait_for(PATIENCE, || refused() > f64::from(at) - 0.5),
            "before {to}"
        );
        gateway.reload(|ports| {
            let text = fixed(ports).text();
            assert!(text.contains(from), "{from} in {text}");
            text.replacen(from, to, 1)
        });
        assert!(
            wait_for(PATIENCE, || refused() > f64::from(at) + 0.5),
            "{to} is taken"
        );
        let expect = format!("a restart is needed to change {name}");
        let is_told = wait_for(PATIENCE, || {
            let log = gateway.log();
            let last = log.lines().rfind(|line| line.contains("reload_refused"));
            last.is_some_and(|line| line.contains(&expect))
        });
        assert!(is_told, "{to}: {}", gateway.log());
    }
    assert_eq!(cases.len(), 16);
    let generation = gateway.metric("ringgate_configuration_generation", &[]);
    assert!((0.5..1.5).contains(&generation), "{generation}");
    gateway
        .client()
        .query("SELECT 1")
        .expect("it serves as before");
}
