//! A forwarder between the gateway and a server that does to their connections what networks and dying
//! servers do, at points that signals can only hit roughly: it cuts a server's answer after an exact
//! number of bytes, holds everything back, lets it trickle, resets and half-closes. It also counts the
//! connections that are open at once, which the server's own counter overstates: for a moment it
//! still counts a connection that it has closed already.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::loopback;

/// No cut is due.
const NEVER: i64 = -1;
/// How often a thread that waits for bytes looks whether the weather has changed.
const LOOK: Duration = Duration::from_millis(20);
/// What passes at a time while bytes trickle, and how long nothing does then.
const DROP: usize = 48;
const DRIP: Duration = Duration::from_millis(1);

const FLOWS: u8 = 0;
const STALLS: u8 = 1;
const TRICKLES: u8 = 2;

/// The forwarder. Dropping it stops taking connections; those that exist end with their sockets.
pub struct Chaos {
    port: u16,
    weather: Arc<Weather>,
    accepting: Option<JoinHandle<()>>,
}

/// What is done to bytes and connections.
struct Weather {
    /// Bytes of servers that pass before a cut.
    cut: AtomicI64,
    /// How bytes pass.
    flow: AtomicU8,
    /// Answers to writes that are to be lost.
    losses: AtomicU32,
    /// Counts resets asked for; a connection that is older than one is reset.
    resets: AtomicU64,
    /// The same of half-closes: what a server sends ends, what it is sent goes on.
    half_closes: AtomicU64,
    /// Connections open now, and the most at once.
    open: AtomicU64,
    peak: AtomicU64,
    is_over: AtomicBool,
}

impl Chaos {
    /// Forwards connections to 127.0.0.1:`target`.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        let weather = Arc::new(Weather {
            cut: AtomicI64::new(NEVER),
            flow: AtomicU8::new(FLOWS),
            losses: AtomicU32::new(0),
            resets: AtomicU64::new(0),
            half_closes: AtomicU64::new(0),
            open: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&weather);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(loopback(target)) {
                    let now = shared.open.fetch_add(1, Ordering::AcqRel) + 1;
                    shared.peak.fetch_max(now, Ordering::AcqRel);
                    forward(client, server, &shared);
                }
            }
        });
        Self {
            port,
            weather,
            accepting: Some(accepting),
        }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The most connections open at once since the last call. One ends when the server has closed it.
    pub fn take_peak(&self) -> u64 {
        let now = self.weather.open.load(Ordering::Acquire);
        self.weather.peak.swap(now, Ordering::AcqRel)
    }

    /// Of the next bytes that any server sends, `bytes` pass; then both sides are closed, once.
    pub fn cut_after(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).expect("a short answer");
        self.weather.cut.store(bytes, Ordering::Release);
    }

    /// Loses the answers to the next `count` writes: such a command arrives, and its connection ends when the
    /// server answers.
    pub fn lose_answers(&self, count: u32) {
        self.weather.losses.store(count, Ordering::Release);
    }

    /// Whether a cut is due still; forgets it, and answers that are to be lost.
    pub fn disarm(&self) -> bool {
        self.weather.losses.store(0, Ordering::Release);
        self.weather.cut.swap(NEVER, Ordering::AcqRel) != NEVER
    }

    /// Holds every byte back, of both sides, until [`Chaos::flow`]. Connections are still taken.
    pub fn stall(&self) {
        self.weather.flow.store(STALLS, Ordering::Release);
    }

    /// Lets some dozens of bytes pass in a millisecond, for each connection and side.
    pub fn trickle(&self) {
        self.weather.flow.store(TRICKLES, Ordering::Release);
    }

    /// Ends what [`Chaos::stall`] or [`Chaos::trickle`] began.
    pub fn flow(&self) {
        self.weather.flow.store(FLOWS, Ordering::Release);
    }

    /// Resets all connections that are open, on both sides.
    pub fn reset_all(&self) {
        self.weather.resets.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends what the servers send on the connections that are open; what they are sent still arrives.
    pub fn half_close_all(&self) {
        self.weather.half_closes.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.weather.is_over.store(true, Ordering::Release);
        let woken = TcpStream::connect(loopback(self.port));
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

fn forward(client: TcpStream, server: TcpStream, weather: &Arc<Weather>) {
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let looked = client.set_read_timeout(Some(LOOK));
    looked
        .and_then(|()| server.set_read_timeout(Some(LOOK)))
        .expect("a socket");
    let (client, server) = (Arc::new(client), Arc::new(server));
    let resets = weather.resets.load(Ordering::Acquire);
    let is_lost = Arc::new(AtomicBool::new(false));
    for is_answer in [false, true] {
        let (client, server) = (Arc::clone(&client), Arc::clone(&server));
        let (weather, is_lost) = (Arc::clone(weather), Arc::clone(&is_lost));
        std::thread::spawn(move || {
            let (from, to) = match is_answer {
                true => (&*server, &*client),
                false => (&*client, &*server),
            };
            let end = Pipe::new(&weather, (from, to), is_answer, &is_lost).copy();
            if is_answer && end != End::HalfClosed {
                weather.open.fetch_sub(1, Ordering::AcqRel);
            }
            match (end, is_answer) {
                // The sockets are reset as the last of both threads gives them up.
                (End::Reset, _) => {}
                (End::Over, true) => {
                    let _ = server.shutdown(Shutdown::Both);
                    let _ = client.shutdown(Shutdown::Both);
                }
                (End::Over | End::HalfClosed, _) => {
                    let _ = to.shutdown(Shutdown::Write);
                }
            }
            if end == End::HalfClosed {
                drain(&server, &weather, resets);
                weather.open.fetch_sub(1, Ordering::AcqRel);
            }
        });
    }
}

/// Takes in what a server still sends, for as long as it keeps its connection open and no reset beyond the
/// first `resets` was asked for: the client's side may have ended by that, and the server never hears of it.
fn drain(mut server: &TcpStream, weather: &Weather, resets: u64) {
    let mut bytes = [0; 4096];
    let goes_on = || {
        !weather.is_over.load(Ordering::Acquire) && weather.resets.load(Ordering::Acquire) == resets
    };
    while goes_on() {
        match server.read(&mut bytes) {
            Ok(1..) => {}
            Err(error) if is_no_end(&error) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// How the copying of one direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By one of the sockets, or by a cut.
    Over,
    Reset,
    HalfClosed,
}

/// One direction of a connection.
struct Pipe<'a> {
    weather: &'a Weather,
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// From the server to the client.
    is_answer: bool,
    /// What the server says next to the connection is lost.
    is_lost: &'a AtomicBool,
    /// The counts when it began.
    resets: u64,
    half_closes: u64,
}

impl<'a> Pipe<'a> {
    fn new(
        weather: &'a Weather,
        (from, to): (&'a TcpStream, &'a TcpStream),
        is_answer: bool,
        is_lost: &'a AtomicBool,
    ) -> Self {
        Self {
            weather,
            from,
            to,
            is_answer,
            is_lost,
            resets: weather.resets.load(Ordering::Acquire),
            half_closes: weather.half_closes.load(Ordering::Acquire),
        }
    }

    /// Copies until an end.
    fn copy(&self) -> End {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            if let Some(end) = self.asked_for() {
                return end;
            }
            let count = match { self.from }.read(&mut bytes) {
                Ok(0) => return End::Over,
                Ok(count) => count,
                Err(error) if is_no_end(&error) => continue,
                Err(_) => return self.asked_for().unwrap_or(End::Over),
            };
            if self.loses(&bytes[..count]) {
                return End::Over;
            }
            let (pass, is_cut) = self.allow(count);
            if let Some(end) = self.pass_on(&bytes[..pass]) {
                return end;
            }
            if is_cut {
                return End::Over;
            }
        }
    }

    /// Writes as the weather allows.
    fn pass_on(&self, bytes: &[u8]) -> Option<End> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(end) = self.asked_for() {
                return Some(end);
            }
            let now = match self.weather.flow.load(Ordering::Acquire) {
                STALLS => 0,
                TRICKLES => rest.len().min(DROP),
                _ => rest.len(),
            };
            let (part, after) = rest.split_at(now);
            if { self.to }.write_all(part).is_err() {
                return Some(End::Over);
            }
            rest = after;
            if !rest.is_empty() {
                std::thread::sleep(DRIP);
            }
        }
        None
    }

    /// A reset or half-close that was asked for since the connection began.
    fn asked_for(&self) -> Option<End> {
        if self.weather.resets.load(Ordering::Acquire) != self.resets {
            for socket in [self.from, self.to] {
                // An error says that it is gone already.
                let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
            return Some(End::Reset);
        }
        let is_half = self.weather.half_closes.load(Ordering::Acquire) != self.half_closes;
        (self.is_answer && is_half).then_some(End::HalfClosed)
    }

    /// Whether these bytes are an answer that is to be lost. Of a command that writes, it sees to that.
    fn loses(&self, bytes: &[u8]) -> bool {
        if self.is_answer {
            return self.is_lost.load(Ordering::Acquire);
        }
        let take = |count: u32| count.checked_sub(1);
        let losses = &self.weather.losses;
        if writes(bytes)
            && losses
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
                .is_ok()
        {
            self.is_lost.store(true, Ordering::Release);
        }
        false
    }

    /// How much of a chunk may pass, and whether to end after it.
    fn allow(&self, bytes: usize) -> (usize, bool) {
        let cut = &self.weather.cut;
        let left = usize::try_from(cut.load(Ordering::Acquire));
        let (true, Ok(left)) = (self.is_answer, left) else {
            return (bytes, false);
        };
        let pass = bytes.min(left);
        let is_cut = pass < bytes || left == pass;
        let rest = i64::try_from(left - pass).unwrap_or(NEVER);
        cut.store(if is_cut { NEVER } else { rest }, Ordering::Release);
        (pass, is_cut)
    }
}

/// Whether a chunk begins with a command that may write: EXECUTE, or a text with a word of one.
fn writes(chunk: &[u8]) -> bool {
    let has = |word: &[u8]| chunk.windows(word.len()).any(|part| part == word);
    match chunk.get(4) {
        Some(0x17) => true,
        Some(3) => has(b"INSERT INTO ") || has(b"SELECT put") || has(b"FROM putting"),
        _ => false,
    }
}

/// A read that only waited for its time.
fn is_no_end(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
