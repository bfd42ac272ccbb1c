//! A node as its operator sees it: start, refusals, signals, stalls, the admin listener, exit codes.
//!
//! Each test runs this test binary again as a child process, which becomes a node with cores made for
//! the test. The child's log and exit code are what is checked.

#[path = "control_support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Child, PATIENCE, become_node_if_child, get};

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
fn a_node_with_mysql_cores_greets_is_scraped_and_drains() {
    become_node_if_child();
    let test = "a_node_with_mysql_cores_greets_is_scraped_and_drains";
    let mut child = Child::start(test, "mysql", &[]);
    let (door, admin) = child.ready();
    let mut client = TcpStream::connect(door).unwrap();
    let mut start = [0; 11];
    client.read_exact(&mut start).unwrap();
    // A packet header, protocol version 10, the configured server version.
    assert_eq!(start[3..], *b"\0\x0a8.0.0\0");
    let metrics = get(admin, "/metrics");
    for sample in [
        "ringgate_connections_accepted_total{door=\"main\"} 1\n",
        "ringgate_connections_open{door=\"main\"} 1\n",
        "ringgate_ring_turns_total{core=\"1\"} ",
        "ringgate_scrape_unanswered_cores 0\n",
    ] {
        assert!(metrics.contains(sample), "{sample}{metrics}");
    }
    drop(client);
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
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
    let variables = [("RG_TEST_FILE", file.to_str().unwrap())];
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
        "panicked at tests/control_support/",
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

#[test]
fn too_little_locked_memory_is_refused_with_the_remedy() {
    become_node_if_child();
    let test = "too_little_locked_memory_is_refused_with_the_remedy";
    // The limit binds only those who may not lock at will.
    let unprivileged = [
        "setpriv",
        "--bounding-set=-ipc_lock",
        "--inh-caps=-ipc_lock",
    ];
    let under = match rustix::process::geteuid().is_root() {
        true => &unprivileged[..],
        false => &[],
    };
    // Neither the network ring nor, with a little more, the executor can be made.
    for bytes in ["65536", "300000"] {
        let variables = [("RG_TEST_LOCKED_MAX", bytes)];
        let mut child = Child::start_under(under, test, "plain", &variables);
        let (code, log) = child.end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("locked-memory limit"), "{log}");
        assert!(log.contains("`ulimit -l`"), "{log}");
    }
}

#[test]
fn a_process_that_was_stopped_blames_no_core() {
    become_node_if_child();
    let mut child = Child::start("a_process_that_was_stopped_blames_no_core", "plain", &[]);
    let (_, admin) = child.ready();
    child.signal(Signal::STOP);
    // Longer than a core may be silent.
    std::thread::sleep(Duration::from_millis(1500));
    child.signal(Signal::CONT);
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));
    child.signal(Signal::TERM);
    let (code, log) = child.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("core_stalled"), "{log}");
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
