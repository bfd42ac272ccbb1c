//! A node as its operator sees it: start, refusals, signals, stalls, the admin listener, exit codes.
//!
//! Each test runs this test binary again as a child process (`Child::start`), which becomes a node with
//! cores made for the test. The child's log and exit code are what is checked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ringgate::config::{
    Admin, Buffers, Cores, Deadlines, Endpoint, EndpointRole, Listener, LogLevel, LogTarget,
    Logging, Node, Placement, Pools, Protocol, Snapshot, SocketSettings, Users,
};
use ringgate::control::{Load, serve};
use ringgate::core::message::CoreMessage;
use ringgate::core::runtime::{CoreFuture, CoreMain, CoreSeed};
use ringgate::net::{Net, spawn};
use ringgate::telemetry::metrics::CoreMetrics;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

/// Far more than anything here takes, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);

// --- the child's side -------------------------------------------------------------------------------

/// What the child is to be, told by its parent in the environment.
struct Role {
    main: CoreMain,
    cores: u16,
    /// The file that stands for the configuration.
    file: String,
    snapshot: Snapshot,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// In a child: becomes the node and never returns.
fn become_node_if_child() {
    let Some(name) = variable("RG_TEST_MAIN") else {
        return;
    };
    let role = Role {
        main: match name.as_str() {
            "plain" => plain,
            "deaf" => deaf,
            "stuck" => stuck,
            "panicking" => panicking,
            "unready" => unready,
            "broken" => broken,
            other => panic!("no such core: {other}"),
        },
        cores: variable("RG_TEST_CORES").map_or(2, |n| n.parse().unwrap()),
        file: variable("RG_TEST_FILE").unwrap_or_default(),
        snapshot: snapshot(),
    };
    if let Some(files) = variable("RG_TEST_FILES_MAX") {
        let most = Some(files.parse().unwrap());
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    let load: Load = {
        let (file, first) = (role.file.clone(), role.snapshot.clone());
        Arc::new(move || changed(first.clone(), &std::fs::read_to_string(&file).unwrap()))
    };
    let mut first = role.snapshot;
    first.cores = Cores::Count(role.cores);
    serve(first, load, role.main)
}

/// The configuration after an edit, by the edit's name.
fn changed(mut snapshot: Snapshot, edit: &str) -> Result<Snapshot, String> {
    snapshot.cores = Cores::Count(2);
    match edit {
        "grace" => snapshot.node.drain_grace = Duration::from_secs(60),
        "moved" => snapshot.listeners[0].address = ([127, 0, 0, 1], 1).into(),
        "cores" => snapshot.cores = Cores::EachCpu,
        _ => return Err("line 3: not a configuration".into()),
    }
    Ok(snapshot)
}

fn snapshot() -> Snapshot {
    let second = Duration::from_secs(1);
    let door = variable("RG_TEST_DOOR").unwrap_or_else(|| "127.0.0.1:0".into());
    let socket = SocketSettings {
        keepalive: None,
        keepalive_interval: second,
        keepalive_count: 3,
        user_timeout: None,
        receive_buffer: None,
        send_buffer: None,
        congestion: None,
    };
    Snapshot {
        cores: Cores::Count(2),
        node: Node {
            drain_grace: Duration::from_millis(500),
            server_version: variable("RG_TEST_UPSTREAM")
                .is_none()
                .then(|| "8.0.0".into()),
        },
        listeners: vec![Listener {
            name: "main".into(),
            protocol: Protocol::Mysql,
            address: door.parse().unwrap(),
            backlog: 16,
            connections_max: 100,
            socket: socket.clone(),
        }],
        admin: Admin {
            address: ([127, 0, 0, 1], 0).into(),
        },
        deadlines: Deadlines {
            login: second,
            connect: second,
            connect_total: second,
            pool_wait: second,
            upstream_login: second,
            statement: None,
            write_stall: second,
            idle_client: None,
            linger: second,
        },
        logging: Logging {
            level: LogLevel::Debug,
            target: LogTarget::Stderr,
        },
        pools: Pools {
            waiters_max: 1,
            idle_max: second,
            age_max: second,
            statements_max: 1,
            statements_per_client_max: 1,
        },
        buffers: Buffers {
            count: 64,
            bytes: 4096,
            unread_max: 65_536,
        },
        placements: vec![Placement {
            name: "shard".into(),
            endpoints: Vec::new(),
            upstream: None,
            socket,
        }],
        endpoints: endpoints(),
        hash: None,
        tenants: Vec::new(),
        users: Users::default(),
    }
}

fn endpoints() -> Vec<Endpoint> {
    let Some(address) = variable("RG_TEST_UPSTREAM") else {
        return Vec::new();
    };
    let address: SocketAddr = address.parse().unwrap();
    vec![Endpoint {
        placement: ringgate::base::ident::PlacementId(0),
        host: "localhost".into(),
        port: address.port(),
        role: EndpointRole::Primary,
        zone: String::new(),
        weight: 1,
        budget: 2,
    }]
}

fn plain(seed: CoreSeed) -> CoreFuture {
    Box::pin(live(seed, true))
}

/// Hears every message but the orders to drain.
fn deaf(seed: CoreSeed) -> CoreFuture {
    Box::pin(live(seed, false))
}

fn stuck(seed: CoreSeed) -> CoreFuture {
    Box::pin(async move {
        if seed.core.0 == 1 {
            spawn("stuck", async {
                glommio::timer::sleep(Duration::from_millis(50)).await;
                loop {
                    std::thread::park();
                }
            })
            .detach();
        }
        live(seed, true).await
    })
}

fn panicking(seed: CoreSeed) -> CoreFuture {
    Box::pin(async move {
        if seed.core.0 == 1 {
            seed.ready.report();
            glommio::timer::sleep(Duration::from_millis(50)).await;
            panic!("SELECT 'a secret literal'");
        }
        live(seed, true).await
    })
}

fn unready(seed: CoreSeed) -> CoreFuture {
    Box::pin(async move {
        if seed.core.0 == 0 {
            seed.ready.report();
        }
        std::future::pending().await
    })
}

fn broken(_: CoreSeed) -> CoreFuture {
    Box::pin(async { Err("the door does not fit".to_owned()) })
}

/// A core that says its number to whoever connects, and which messages it gets.
async fn live(mut seed: CoreSeed, obeys: bool) -> Result<(), String> {
    let net = Net::new(seed.net.clone()).map_err(|error| error.to_string())?;
    seed.mailbox.join(&net).map_err(|error| error.to_string())?;
    let ring = net.clone();
    let driving = spawn("ring", async move { ring.drive().await });
    let core = seed.core.0;
    let metrics = CoreMetrics::new(core);
    let accepted = metrics.door("main");
    for door in seed.listeners {
        let mut acceptor = net.listen(door.listener);
        let accepted = std::rc::Rc::clone(&accepted);
        spawn("door", async move {
            loop {
                let next = std::future::poll_fn(|cx| acceptor.poll_accept(cx)).await;
                if let Ok((mut stream, _)) = next {
                    accepted.accepted.inc();
                    stream.send_bytes(format!("core {core}\n").as_bytes());
                }
            }
        })
        .detach();
    }
    seed.ready.report();
    loop {
        let message = seed.mailbox.next(&net).await;
        ringgate::log!(Info, "message", core = core, kind = format!("{message:?}"));
        match message {
            CoreMessage::Scrape(reply) => reply.send(metrics.scrape()),
            CoreMessage::Drain | CoreMessage::DrainNow if obeys => break,
            CoreMessage::ServerVersion(version) => {
                ringgate::log!(Info, "version", core = core, version = version);
            }
            CoreMessage::Snapshot(snapshot, addresses) => {
                let grace = snapshot.node.drain_grace.as_secs();
                let generation = addresses.generation;
                ringgate::log!(
                    Info,
                    "got",
                    core = core,
                    grace = grace,
                    generation = generation
                );
            }
            _ => {}
        }
    }
    net.stop();
    driving.await.ok_or_else(|| "the ring panicked".to_owned())
}

// --- the parent's side ------------------------------------------------------------------------------

struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Child {
    /// Runs test `test` of this binary in a child with the cores `main` and these variables.
    fn start(test: &str, main: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_under(&[], test, main, variables)
    }

    /// The same, with a command before the child's own.
    fn start_under(under: &[&str], test: &str, main: &str, variables: &[(&str, &str)]) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut words: Vec<_> = under.iter().map(std::ffi::OsString::from).collect();
        words.push(this.into_os_string());
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .args([test, "--exact", "--nocapture"])
            .env("RG_TEST_MAIN", main)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            lines,
            seen: Vec::new(),
        }
    }

    /// The first line from now on that holds all of `parts`.
    fn line(&mut self, parts: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {parts:?} after:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    /// Waits until the node is ready; gives the addresses of its door and of its admin listener.
    fn ready(&mut self) -> (SocketAddr, SocketAddr) {
        let door = field(&self.line(&["event=listening"]), "address");
        let admin = field(&self.line(&["event=ready"]), "admin");
        (door.parse().unwrap(), admin.parse().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for the end; gives the exit code and all that was logged.
    fn end(&mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < until,
                "still runs after:\n{}",
                self.seen.join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        self.seen.extend(self.lines.iter());
        (status.code(), self.seen.join("\n"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn field(line: &str, key: &str) -> String {
    let (_, rest) = line.split_once(&format!(" {key}=")).unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_serves_on_every_core_and_drains_on_sigterm() {
    become_node_if_child();
    let test = "a_node_serves_on_every_core_and_drains_on_sigterm";
    let mut child = Child::start(test, "plain", &[]);
    let (door, admin) = child.ready();
    let mut cores = [false; 2];
    // The kernel spreads connections by a hash of their ports: both cores get some.
    for _ in 0..200 {
        let mut greeting = String::new();
        TcpStream::connect(door)
            .unwrap()
            .read_to_string(&mut greeting)
            .unwrap();
        cores[usize::from(greeting == "core 1\n")] = true;
    }
    assert_eq!(cores, [true; 2]);
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(admin, "/metrics");
    for sample in [
        "ringgate_connections_accepted_total{door=\"main\"} 200\n",
        "ringgate_cores 2\n",
        "ringgate_ready 1\n",
        "ringgate_scrape_unanswered_cores 0\n",
    ] {
        assert!(metrics.contains(sample), "{sample}{metrics}");
    }
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("kind=Drain\n").count(), 2, "{log}");
    // The kernel takes a ring apart after its process has ended; its listeners close with it.
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(door).is_ok() {
        assert!(Instant::now() < until, "somebody listens still");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_idle_node_keeps_beating_and_uses_hardly_any_cpu() {
    become_node_if_child();
    let mut child = Child::start(
        "an_idle_node_keeps_beating_and_uses_hardly_any_cpu",
        "plain",
        &[],
    );
    let (_, admin) = child.ready();
    let cpu = || {
        let metrics = get(admin, "/metrics");
        let name = "ringgate_process_cpu_seconds_total ";
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].parse::<f64>().unwrap()
    };
    let before = cpu();
    // Longer than a core may be silent.
    std::thread::sleep(Duration::from_millis(2500));
    let used = cpu() - before;
    println!("{used} s of CPU in 2.5 s");
    // 4 % of one CPU; the kernel counts in ticks of 10 ms, and both scrapes are in it.
    assert!(used < 0.1, "{used} s of CPU in 2.5 s");
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("core_stalled"), "{log}");
}

#[test]
fn a_drain_that_takes_longer_than_its_grace_ends_all_the_same() {
    become_node_if_child();
    let test = "a_drain_that_takes_longer_than_its_grace_ends_all_the_same";
    let mut child = Child::start(test, "deaf", &[]);
    let (_, admin) = child.ready();
    child.signal(Signal::TERM);
    child.line(&["event=draining"]);
    let answer = get(admin, "/readyz");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"),
        "{answer}"
    );
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("kind=DrainNow").count(), 2, "{log}");
}

#[test]
fn a_second_sigterm_ends_at_once() {
    become_node_if_child();
    let variables = [("RG_TEST_FILE", "")];
    let mut child = Child::start("a_second_sigterm_ends_at_once", "deaf", &variables);
    child.ready();
    child.signal(Signal::TERM);
    child.line(&["event=draining"]);
    child.signal(Signal::INT);
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("event=ended_at_once"), "{log}");
}

#[test]
fn sighup_applies_a_good_configuration_and_refuses_a_bad_one() {
    become_node_if_child();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("edit");
    let edit = |name: &str| std::fs::write(&file, name).unwrap();
    edit("");
    let variables = [("RG_TEST_FILE", path(&file))];
    let test = "sighup_applies_a_good_configuration_and_refuses_a_bad_one";
    let mut child = Child::start(test, "plain", &variables);
    let (door, admin) = child.ready();
    let mut check = |name: &str, why: &str| {
        edit(name);
        child.signal(Signal::HUP);
        child.line(&["event=reload_refused", why]);
    };
    check("nonsense", "line 3: not a configuration");
    check("moved", "a restart is needed to change listeners.main");
    check("cores", "a restart is needed to change cores");
    edit("grace");
    child.signal(Signal::HUP);
    // Both cores take the new one, in whichever order they log.
    child.line(&["event=got", "grace=60 generation=2"]);
    child.line(&["event=got", "grace=60 generation=2"]);
    let metrics = get(admin, "/metrics");
    assert!(
        metrics.contains("ringgate_reloads_refused_total 3\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("ringgate_configuration_generation 2\n"),
        "{metrics}"
    );
    assert!(TcpStream::connect(door).is_ok());
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("event=applied generation=2"), "{log}");
    assert!(log.contains("grace_s=60"), "{log}");
}

#[test]
fn a_core_that_does_not_turn_is_reported_and_then_ends_the_process() {
    become_node_if_child();
    let test = "a_core_that_does_not_turn_is_reported_and_then_ends_the_process";
    let mut child = Child::start(test, "stuck", &[]);
    let (_, admin) = child.ready();
    let begun = Instant::now();
    child.line(&["event=core_stalled", "core=1"]);
    // Silent for 1 s, then reported within 1 s; the rest is for a machine that is busy.
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    let answer = get(admin, "/readyz");
    assert!(answer.ends_with("a core is stalled\n"), "{answer}");
    let metrics = get(admin, "/metrics");
    for sample in [
        "ringgate_core_stalled{core=\"0\"} 0\n",
        "ringgate_core_stalled{core=\"1\"} 1\n",
        "ringgate_scrape_unanswered_cores 1\n",
    ] {
        assert!(metrics.contains(sample), "{sample}{metrics}");
    }
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("event=core_dead core=1"), "{log}");
    // A machine that is busy may keep core 0 from its CPU for a while, but it is not stuck.
    assert!(!log.contains("core_dead core=0"), "{log}");
}

#[test]
fn a_core_that_panics_ends_the_process_without_quoting_the_panic() {
    become_node_if_child();
    let test = "a_core_that_panics_ends_the_process_without_quoting_the_panic";
    let mut child = Child::start(test, "panicking", &[]);
    child.ready();
    child.line(&[
        "event=core_failed",
        "core=1",
        "panicked at tests/control_node.rs",
    ]);
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    // The other core was drained first.
    assert!(log.contains("core=0 kind=Drain"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn cores_that_are_not_ready_in_time_end_the_start() {
    become_node_if_child();
    let test = "cores_that_are_not_ready_in_time_end_the_start";
    let begun = Instant::now();
    let mut child = Child::start(test, "unready", &[]);
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cores [1] were not ready within 2 s"), "{log}");
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_core_that_ends_before_it_is_ready_gives_the_cause() {
    become_node_if_child();
    let test = "a_core_that_ends_before_it_is_ready_gives_the_cause";
    let mut child = Child::start(test, "broken", &[]);
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("ended before it was ready: the door does not fit"),
        "{log}"
    );
}

#[test]
fn a_port_in_use_is_refused_by_name_even_if_it_would_be_shared() {
    become_node_if_child();
    let test = "a_port_in_use_is_refused_by_name_even_if_it_would_be_shared";
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let shared = ringgate::net::bind(loopback, 16, &Default::default()).unwrap();
    for taken in [alone, shared] {
        let address = taken.local_addr().unwrap().to_string();
        let variables = [("RG_TEST_DOOR", address.as_str())];
        let mut child = Child::start(test, "plain", &variables);
        let (code, log) = child.end();
        assert_eq!(code, Some(1), "{log}");
        let why = format!("listener `main` cannot listen on {address}");
        assert!(log.contains(&why), "{log}");
    }
}

#[test]
fn more_cores_than_cpus_are_refused() {
    become_node_if_child();
    let variables = [("RG_TEST_CORES", "4000")];
    let mut child = Child::start("more_cores_than_cpus_are_refused", "plain", &variables);
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("lower `cores.count` or widen the affinity mask"),
        "{log}"
    );
}

#[test]
fn too_few_descriptors_are_refused_with_the_remedy() {
    become_node_if_child();
    let test = "too_few_descriptors_are_refused_with_the_remedy";
    let variables = [("RG_TEST_FILES_MAX", "16")];
    let begun = Instant::now();
    let mut child = Child::start(test, "plain", &variables);
    let (code, log) = child.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("ulimit -n"), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Runs its arguments with `io_uring_setup` answered by the errno in `$RG_TEST_ERRNO`.
const FORBID_IO_URING: &str = r#"
import ctypes, os, struct, sys
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
# Load the call's number; io_uring_setup (425 on every architecture) gives the errno, others pass.
code = op(0x20, 0, 0, 0) + op(0x15, 0, 1, 425) \
     + op(0x06, 0, 0, 0x00050000 | int(os.environ["RG_TEST_ERRNO"])) + op(0x06, 0, 0, 0x7fff0000)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(keep := ctypes.create_string_buffer(code)))
libc = ctypes.CDLL(None, use_errno=True)
word = lambda n: ctypes.c_ulong(n)
assert libc.prctl(38, word(1), word(0), word(0), word(0)) == 0
assert libc.prctl(22, word(2), ctypes.c_char_p(program), word(0), word(0)) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_sandbox_without_io_uring_is_refused_with_the_remedy() {
    become_node_if_child();
    let test = "a_sandbox_without_io_uring_is_refused_with_the_remedy";
    let check = |errno: &str, remedy: &str| {
        let under = ["python3", "-c", FORBID_IO_URING];
        let variables = [("RG_TEST_ERRNO", errno)];
        let begun = Instant::now();
        let mut child = Child::start_under(&under, test, "plain", &variables);
        let (code, log) = child.end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(remedy), "{log}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    };
    check("1", "sysctl kernel.io_uring_disabled=0");
    check("38", "use Linux 6.1 or newer");
}

#[test]
fn the_version_of_an_upstream_found_by_name_reaches_every_core() {
    become_node_if_child();
    let test = "the_version_of_an_upstream_found_by_name_reaches_every_core";
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    let greeting = std::thread::spawn(move || {
        let mut payload = Vec::new();
        let greeting = ringgate::wire::mysql::handshake::Greeting {
            version: b"10.11.6-MariaDB",
            connection_id: 1,
            nonce: [b'n'; 20],
            caps: 0xffff_f7ff,
            mariadb_caps: 0,
            collation: 45,
            status: 2,
            plugin: b"mysql_native_password",
        };
        greeting.encode(&mut payload);
        let (mut client, _) = upstream.accept().unwrap();
        let length = u8::try_from(payload.len()).unwrap();
        client.write_all(&[length, 0, 0, 0]).unwrap();
        client.write_all(&payload).unwrap();
        // Held until the node has read it.
        let _closed = client.read(&mut [0]);
    });
    let variables = [("RG_TEST_UPSTREAM", address.as_str())];
    let mut child = Child::start(test, "plain", &variables);
    child.line(&["event=version", "version=10.11.6-MariaDB"]);
    child.line(&["event=version", "version=10.11.6-MariaDB"]);
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    greeting.join().unwrap();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
