//! Runs a test binary again as a child process that is a node with cores made for the test.

// Each test binary uses a part; a helper that fails fails its test.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ringgate::config::{
    Admin, Buffers, Cores, Deadlines, Endpoint, EndpointRole, Listener, LogLevel, LogTarget,
    Logging, Node, Placement, Pools, Protocol, Snapshot, SocketSettings, Users,
};
use ringgate::control::{Load, serve};
use ringgate::core::runtime::CoreFuture;
use ringgate::door::message::{CoreMain, CoreMessage, CoreSeed};
use ringgate::net::{Net, ring_end, spawn};
use ringgate::telemetry::metrics::CoreMetrics;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

/// Far more than anything here takes, on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
pub fn become_node_if_child() {
    let Some(name) = variable("RG_TEST_MAIN") else {
        return;
    };
    let role = Role {
        main: match name.as_str() {
            "mysql" => ringgate::door::life::core_main,
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
    limit("RG_TEST_FILES_MAX", Resource::Nofile);
    limit("RG_TEST_LOCKED_MAX", Resource::Memlock);
    let load: Load = {
        let (file, first) = (role.file.clone(), role.snapshot.clone());
        Arc::new(move || changed(first.clone(), &std::fs::read_to_string(&file).unwrap()))
    };
    let mut first = role.snapshot;
    first.cores = Cores::Count(role.cores);
    serve(first, load, role.main)
}

/// Limits this process if its parent says so.
fn limit(name: &str, resource: Resource) {
    if let Some(most) = variable(name) {
        let most = Some(most.parse().unwrap());
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        setrlimit(resource, limit).unwrap();
    }
}

/// The configuration after an edit, by the edit's name.
fn changed(mut snapshot: Snapshot, edit: &str) -> Result<Snapshot, String> {
    snapshot.cores = Cores::Count(2);
    match edit {
        "grace" => snapshot.node.drain_grace = Duration::from_secs(60),
        "moved" => snapshot.listeners[0].address = SocketAddr::from(([127, 0, 0, 1], 1)).into(),
        "cores" => snapshot.cores = Cores::EachCpu,
        _ => return Err("line 3: not a configuration".into()),
    }
    Ok(snapshot)
}

fn deadlines() -> Deadlines {
    let second = Duration::from_secs(1);
    Deadlines {
        login: second,
        connect: second,
        connect_total: second,
        pool_wait: second,
        pool_wait_target: None,
        upstream_login: second,
        statement: None,
        write_stall: second,
        idle_client: None,
        transaction_idle: None,
        removed_user: None,
        linger: second,
    }
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
            zone: String::new(),
        },
        listeners: vec![Listener {
            name: "main".into(),
            protocol: Protocol::Mysql,
            address: door.parse().unwrap(),
            mode: 0o777,
            backlog: 16,
            connections_max: 100,
            socket: socket.clone(),
        }],
        admin: Admin {
            address: ([127, 0, 0, 1], 0).into(),
        },
        deadlines: deadlines(),
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
        destination: ringgate::base::address::Destination::Host {
            name: "localhost".into(),
            port: address.port(),
        },
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
    ring_end(driving.await)
}

// --- the parent's side ------------------------------------------------------------------------------

pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Child {
    /// Runs test `test` of this binary in a child with the cores `main` and these variables.
    pub fn start(test: &str, main: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_under(&[], test, main, variables)
    }

    /// The same, with a command before the child's own.
    pub fn start_under(under: &[&str], test: &str, main: &str, variables: &[(&str, &str)]) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut words: Vec<_> = under.iter().map(std::ffi::OsString::from).collect();
        words.push(this.into_os_string());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args([test, "--exact", "--nocapture"])
            .env("RG_TEST_MAIN", main)
            .envs(variables.iter().copied());
        Self::run(command)
    }

    /// Runs `command`, whose log is its standard error.
    pub fn run(mut command: Command) -> Self {
        let mut process = command
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
    pub fn line(&mut self, parts: &[&str]) -> String {
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
    pub fn ready(&mut self) -> (SocketAddr, SocketAddr) {
        let door = field(&self.line(&["event=listening"]), "address");
        let admin = field(&self.line(&["event=ready"]), "admin");
        (door.parse().unwrap(), admin.parse().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for the end; gives the exit code and all that was logged.
    pub fn end(&mut self) -> (Option<i32>, String) {
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

pub fn field(line: &str, key: &str) -> String {
    let (_, rest) = line.split_once(&format!(" {key}=")).unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

pub fn get(admin: SocketAddr, path: &str) -> String {
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
