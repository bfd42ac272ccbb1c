//! A core whose ring has failed ends, and with it the node: nothing it still owns would go on.

#![allow(unsafe_code, reason = "a ring does not break by itself")]
#![allow(clippy::unwrap_used, reason = "a failure must fail the test")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::Duration;

use ringgate::control::{Exit, Serve};
use ringgate::door::life::core_main;
use ringgate::net::NetOptions;

/// Far above what is needed, so that only a hang ends here.
const PATIENCE: Duration = Duration::from_secs(30);

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The descriptor of the network ring: of all rings of the process, the one with as many entries.
fn network_ring() -> i32 {
    let mask = format!("SqMask:\t0x{:x}", NetOptions::default().entries - 1);
    let mut rings = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let ring = rings
        .find(|info| std::fs::read_to_string(info.path()).is_ok_and(|text| text.contains(&mask)));
    let name = ring.unwrap().file_name();
    name.to_string_lossy().parse().unwrap()
}

#[test]
fn a_core_whose_ring_is_broken_ends_the_node() {
    let (address, admin, nobody) = (free_address(), free_address(), free_address());
    let text = format!(
        r#"version = 1
[cores]
count = 1
[listeners.main]
address = "{address}"
[admin]
address = "{admin}"
[placements.a]
endpoints = [{{ address = "{nobody}" }}]
upstream = {{ user = "u", password = {{ env = "PW" }} }}
[tenants.t]
placement = "a"
"#
    );
    let snapshot = ringgate::config::parse("test.toml", &text, &|_| Some("secret".into()));
    let snapshot = snapshot.unwrap();
    let (tell_ready, ready) = mpsc::channel();
    let (tell_exit, exit) = mpsc::channel();
    std::thread::spawn(move || {
        let on_ready = Box::new(move |serving| tell_ready.send(serving).unwrap());
        let serve = Serve {
            snapshot,
            load: None,
            main: core_main,
            signals: false,
            on_ready: Some(on_ready),
        };
        tell_exit.send(serve.run()).unwrap();
    });
    let _serving = ready.recv_timeout(PATIENCE).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: the number stays the ring's own; the kernel ends what was under way there.
    assert!(unsafe { libc::dup2(null.as_raw_fd(), network_ring()) } >= 0);
    // A client gives the core something to do, if nothing else does.
    let _client = TcpStream::connect(address);
    let exit = exit.recv_timeout(PATIENCE).unwrap();
    assert_eq!(exit, Exit::Failure);
}
