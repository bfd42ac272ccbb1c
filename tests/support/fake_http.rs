//! A fake HTTP server whose faults are known: it delays, stalls, drops, lies and goes silent on
//! demand, and counts what it did.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the fake does. `every` n-th request, counted over all connections; 0 is never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Time before each answer.
    pub delay: Duration,
    /// The whole server answers nothing for so long, beginning so long after the first request.
    pub stall: Option<(Duration, Duration)>,
    /// Close the connection instead of answering.
    pub drop_every: u64,
    /// Answer with another body.
    pub lie_every: u64,
    /// Never answer.
    pub silence_every: u64,
    /// Answer 503.
    pub refuse_every: u64,
}

/// What the fake has done.
#[derive(Debug, Default)]
pub struct Counts {
    pub requests: AtomicU64,
    pub dropped: AtomicU64,
    pub lied: AtomicU64,
    pub silenced: AtomicU64,
    pub refused: AtomicU64,
}

/// A running fake. Its threads end with the test's process.
pub struct FakeHttp {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

struct Shared {
    faults: Faults,
    counts: Arc<Counts>,
    first: Mutex<Option<Instant>>,
}

/// The body of a right answer.
pub const BODY: &str = "right";

impl FakeHttp {
    pub fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::new(Shared {
            faults,
            counts: Arc::clone(&counts),
            first: Mutex::new(None),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, counts }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        answer(stream, shared)?;
    }
}

/// Answers one request; `None` ends the connection.
fn answer(mut stream: &TcpStream, shared: &Shared) -> Option<()> {
    let faults = &shared.faults;
    let number = shared.counts.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let first = *shared
        .first
        .lock()
        .unwrap()
        .get_or_insert_with(Instant::now);
    let hits = |every: u64, count: &AtomicU64| {
        let hit = every > 0 && number.is_multiple_of(every);
        count.fetch_add(u64::from(hit), Ordering::Relaxed);
        hit
    };
    if let Some((after, length)) = faults.stall {
        let begin = first + after;
        let now = Instant::now();
        if now >= begin && now < begin + length {
            std::thread::sleep(begin + length - now);
        }
    }
    std::thread::sleep(faults.delay);
    if hits(faults.drop_every, &shared.counts.dropped) {
        return None;
    }
    if hits(faults.silence_every, &shared.counts.silenced) {
        return Some(());
    }
    let (status, body) = if hits(faults.refuse_every, &shared.counts.refused) {
        ("503 Service Unavailable", BODY)
    } else if hits(faults.lie_every, &shared.counts.lied) {
        ("200 OK", "a lie")
    } else {
        ("200 OK", BODY)
    };
    // A lie has another length: that is what the scenario can see.
    let body = if body == BODY {
        BODY.to_owned()
    } else {
        format!("{body}!!")
    };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).ok()
}
