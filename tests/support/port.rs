//! Loopback ports for the processes that tests start.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below what the kernel gives to whoever asks for any port (`net.ipv4.ip_local_port_range`, by
/// default from 32768), so that no client takes a port between its choice and its listener.
const FIRST: u16 = 12_000;
const COUNT: u32 = 20_000;

/// What this process has taken: a port stays taken until the process ends.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A loopback port that nobody listens on, and that no other call gives away, neither in this
/// process nor in another that asks in the same way (`scripts/lib/servers.py`).
///
/// # Panics
///
/// When every port is taken.
pub fn free_port() -> u16 {
    let mut taken = TAKEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // Processes begin in different places, so that they seldom meet.
    let begin = std::process::id().wrapping_mul(97);
    let mut tried = (0..COUNT).map(|step| begin.wrapping_add(step) % COUNT);
    tried
        .find_map(|offset| {
            let port = FIRST + u16::try_from(offset).ok()?;
            taken.push(take(port).ok()?);
            Some(port)
        })
        .expect("a free loopback port")
}

/// The name that says that the port is taken, an abstract Unix socket: the kernel lets it go with
/// its process, however that ends.
fn take(port: u16) -> io::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("ringgate-test-port-{port}"))?;
    let held = UnixListener::bind_addr(&name)?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(held)
}
