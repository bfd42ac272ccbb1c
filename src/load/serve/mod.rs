//! Null servers: upstreams that answer at once, or after a drawn time, with what was encoded before.
//!
//! A gateway measured in front of a database is often not what limits the run. These servers are
//! made of the same cores as the gateway and do next to nothing: no tables, no grammar, no
//! formatting. `docs/load.md`, "Null servers", says what they answer.

pub mod answer;
mod http;
mod mysql;
pub mod service;
mod session;
mod statement;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};

use crate::base::credential::AuthPlugin;
use crate::core::executor::spawn_pinned;
use crate::core::preflight::{check_descriptors, check_ring, raise_descriptor_limit};
use crate::core::runtime::{DoorPlan, bind_doors};
use crate::load::histogram::Latencies;
use crate::net::{NetOptions, RemoteWaker, SocketOptions};
use answer::{AnswerShape, Answers, ROW_BYTES_MAX};
use service::ServiceTime;
use worker::{Part, Seed};

/// Connections that may wait for `accept`, for each core.
const BACKLOG: i32 = 4096;

/// A null server to be.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// The CPUs of its cores, one each.
    pub cpus: Vec<usize>,
    /// How long an answer takes.
    pub service: ServiceTime,
    /// Where drawing service times begins; the same seed gives the same times in the same order.
    pub seed: u64,
    /// What it speaks.
    pub kind: Kind,
}

/// What a null server speaks.
#[derive(Clone, Debug)]
pub enum Kind {
    /// MySQL.
    Mysql(MysqlOptions),
    /// HTTP/1.1.
    Http(HttpOptions),
}

/// A null MySQL server.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    /// The answer to every SELECT that is not about the session.
    pub answer: AnswerShape,
    /// The one user and password that are let in; `None` lets in everyone.
    pub account: Option<(String, String)>,
    /// The plugin of the greeting.
    pub plugin: AuthPlugin,
    /// The version of the greeting.
    pub version: String,
}

/// A null HTTP server.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// The status of every answer, 200 to 599.
    pub status: u16,
    /// Bytes of its body.
    pub body_bytes: usize,
}

/// What a server has done until it was stopped.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Connections accepted.
    pub connections: u64,
    /// Commands and requests read.
    pub requests: u64,
    /// Those that were answered.
    pub answers: u64,
    /// Service times as drawn. Only answers that take time are among them.
    pub drawn: Latencies,
    /// Service times as taken, by the clock of the core's turns.
    pub taken: Latencies,
}

impl Served {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.answers += other.answers;
        self.drawn.merge(&other.drawn);
        self.taken.merge(&other.taken);
    }
}

/// What a core tells.
enum Event {
    Ready(RemoteWaker),
    Served(Box<Served>),
    Ended(Result<(), String>),
}

/// A running null server.
pub struct Server {
    address: SocketAddr,
    stopper: Stopper,
    events: Receiver<Event>,
    running: usize,
}

/// Stops a server, from any thread.
#[derive(Clone)]
pub struct Stopper {
    is_stopping: Arc<AtomicBool>,
    wakers: Vec<RemoteWaker>,
}

impl Stopper {
    /// Has the server end; its open connections are cut.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wakers.iter().for_each(RemoteWaker::wake);
    }
}

impl Server {
    /// Starts a server and waits until all its cores accept.
    ///
    /// # Errors
    /// A sentence: what is missing on this machine, or what the address is refused for.
    pub fn start(options: &ServeOptions) -> Result<Self, String> {
        let net = NetOptions::default();
        let limit = raise_descriptor_limit();
        check_descriptors(limit, options.cpus.len(), 1).map_err(|unfit| unfit.to_string())?;
        check_ring(&net).map_err(|unfit| unfit.to_string())?;
        let part = Arc::new(part(&options.kind)?);
        let plan = DoorPlan {
            name: "null".into(),
            address: options.address.into(),
            mode: 0,
            backlog: BACKLOG,
            options: SocketOptions::default(),
        };
        let doors = bind_doors(&[plan], options.cpus.len()).map_err(|error| error.to_string())?;
        let listeners: Vec<_> = doors
            .into_iter()
            .flatten()
            .map(|door| door.listener)
            .collect();
        let address = listeners.first().and_then(|first| first.local_addr().ok());
        let address = address.and_then(|address| address.tcp());
        let address = address.ok_or("no core to serve on")?;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (sender, events) = mpsc::channel();
        for ((listener, &cpu), core) in listeners.into_iter().zip(&options.cpus).zip(0_u32..) {
            let seed = Seed {
                core,
                net: net.clone(),
                listener,
                service: options.service,
                seed: options.seed,
                part: Arc::clone(&part),
                is_stopping: Arc::clone(&is_stopping),
                events: sender.clone(),
            };
            let ended = sender.clone();
            let ended = move |result| {
                // Nobody listens any more when the server was dropped.
                let _nobody_left = ended.send(Event::Ended(result));
            };
            spawn_pinned(
                format!("null-{core}"),
                cpu,
                move || worker::live(seed),
                ended,
            )
            .map_err(|error| format!("no thread: {error}"))?;
        }
        let mut server = Self {
            address,
            stopper: Stopper {
                is_stopping,
                wakers: Vec::new(),
            },
            events,
            running: options.cpus.len(),
        };
        while server.stopper.wakers.len() < server.running {
            match server.events.recv() {
                Ok(Event::Ready(waker)) => server.stopper.wakers.push(waker),
                Ok(Event::Ended(Err(error))) => return Err(error),
                Ok(_) => {}
                Err(_) => return Err("a core ended before it served".to_owned()),
            }
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it was stopped, and gives what it has done.
    ///
    /// # Errors
    /// A core has ended by itself; the others are stopped then.
    pub fn wait(mut self) -> Result<Served, String> {
        let mut served = Served::default();
        let mut failed = None;
        while self.running > 0 {
            match self.events.recv() {
                Ok(Event::Served(one)) => served.add(&one),
                Ok(Event::Ended(result)) => {
                    self.running -= 1;
                    if let Err(error) = result {
                        failed.get_or_insert(error);
                        self.stopper.stop();
                    }
                }
                Ok(Event::Ready(_)) => {}
                Err(_) => break,
            }
        }
        failed.map_or(Ok(served), Err)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

fn part(kind: &Kind) -> Result<Part, String> {
    Ok(match kind {
        Kind::Mysql(options) => {
            if options.answer.row_bytes > ROW_BYTES_MAX {
                return Err(format!("a row has at most {ROW_BYTES_MAX} bytes"));
            }
            let account = options.account.clone();
            Part::Mysql(session::Shared {
                answers: Answers::leaked(options.answer),
                rows: options.answer.rows,
                version: options.version.clone(),
                account: account.map(|(user, password)| session::Account::new(user, &password)),
                plugin: options.plugin,
            })
        }
        Kind::Http(options) => {
            if !(200..600).contains(&options.status) {
                return Err(format!("{} is no status of an answer", options.status));
            }
            let answers = http::Answers::leaked(options.status, options.body_bytes);
            Part::Http(answers.map_err(|error| error.to_string())?)
        }
    })
}
