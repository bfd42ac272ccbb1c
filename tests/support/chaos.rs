//! A forwarder between the gateway and a server that cuts a server's answer after an exact number of
//! bytes: a server killed at a chosen point, which a signal can only do roughly. It also counts the
//! connections that are open at once, which the server's own counter overstates: for a moment it
//! still counts a connection that it has closed already.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::loopback;

/// No cut is due.
const NEVER: i64 = -1;

/// The forwarder. Dropping it stops taking connections; those that exist end with their sockets.
pub struct Chaos {
    port: u16,
    cut: Arc<AtomicI64>,
    open: Arc<Open>,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// Connections open now, and the most at once.
#[derive(Default)]
struct Open {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Chaos {
    /// Forwards connections to 127.0.0.1:`target`.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        let (cut, is_over) = (
            Arc::new(AtomicI64::new(NEVER)),
            Arc::new(AtomicBool::new(false)),
        );
        let open = Arc::new(Open::default());
        let (shared, over) = (Arc::clone(&cut), Arc::clone(&is_over));
        let counted = Arc::clone(&open);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(loopback(target)) {
                    let now = counted.now.fetch_add(1, Ordering::AcqRel) + 1;
                    counted.peak.fetch_max(now, Ordering::AcqRel);
                    forward(client, server, &shared, &counted);
                }
            }
        });
        Self {
            port,
            cut,
            open,
            is_over,
            accepting: Some(accepting),
        }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The most connections open at once since the last call. One ends when the server has closed it.
    pub fn take_peak(&self) -> u64 {
        let now = self.open.now.load(Ordering::Acquire);
        self.open.peak.swap(now, Ordering::AcqRel)
    }

    /// Of the next bytes that any server sends, `bytes` pass; then both sides are closed, once.
    pub fn cut_after(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).expect("a short answer");
        self.cut.store(bytes, Ordering::Release);
    }

    /// Whether a cut is due still; forgets it.
    pub fn disarm(&self) -> bool {
        self.cut.swap(NEVER, Ordering::AcqRel) != NEVER
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let woken = TcpStream::connect(loopback(self.port));
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

fn forward(client: TcpStream, server: TcpStream, cut: &Arc<AtomicI64>, open: &Arc<Open>) {
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let (client, server) = (Arc::new(client), Arc::new(server));
    let (from, to) = (Arc::clone(&client), Arc::clone(&server));
    std::thread::spawn(move || {
        copy(&from, &to, |bytes| (bytes, false));
        let _ = to.shutdown(Shutdown::Write);
    });
    let (cut, open) = (Arc::clone(cut), Arc::clone(open));
    std::thread::spawn(move || {
        copy(&server, &client, |bytes| {
            let left = cut.load(Ordering::Acquire);
            let Ok(left) = usize::try_from(left) else {
                return (bytes, false);
            };
            let pass = bytes.min(left);
            let is_cut = pass < bytes || left == pass;
            let rest = i64::try_from(left - pass).unwrap_or(NEVER);
            cut.store(if is_cut { NEVER } else { rest }, Ordering::Release);
            (pass, is_cut)
        });
        open.now.fetch_sub(1, Ordering::AcqRel);
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Copies until an end; `allow` says how much of a chunk may pass and whether to end after it.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut allow: impl FnMut(usize) -> (usize, bool)) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let (pass, is_cut) = allow(count);
        if to.write_all(&bytes[..pass]).is_err() || is_cut {
            break;
        }
    }
}
