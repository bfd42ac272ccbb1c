//! From a configuration to a serving node, and from its end to an exit code.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout_at;

use super::admin::{self, Desk};
use super::node::{Inbox, Node, Order};
use super::plan::Plan;
use super::resolve::{Known, Wanted, keep_resolving};
use super::status::{Phase, Status};
use super::{version, watchdog};
use crate::base::address::Address;
use crate::config::{LogTarget, Snapshot};
use crate::core::executor::quiet_panics;
use crate::core::mailbox::Receiver;
use crate::core::preflight::{
    allowed_cpus, check_descriptors, check_ring, choose_cpus, raise_descriptor_limit,
};
use crate::core::runtime::{self, Common, CoreEvent, DoorListener};
use crate::door::message::{CoreMain, Given};
use crate::log;
use crate::telemetry::log::{Log, Writer, install};

/// Every core must have reported ready so long after the start.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How long endpoints' names may take before the cores start without their addresses.
const FIRST_LOOKUP: Duration = Duration::from_millis(500);
/// How long the log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Orders that may wait.
const ORDERS_MAX: usize = 16;

/// How the node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Success,
    /// It could not start, a core failed, or connections were cut by a second order to end.
    Failure,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
        }
    }
}

/// A node that serves: where, and how to give it orders.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The admin listener's address.
    pub admin: SocketAddr,
    /// The listeners' names and addresses.
    pub doors: Vec<(Arc<str>, Address)>,
    orders: mpsc::Sender<Order>,
}

impl Serving {
    /// Gives an order; false when the node has ended or more orders wait than it can remember.
    pub fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

/// A node to be.
pub struct Serve {
    /// Its configuration.
    pub snapshot: Snapshot,
    /// Where a reload's configuration comes from; without it, reloads are refused.
    pub load: Option<Load>,
    /// What a core does.
    pub main: CoreMain,
    /// Whether the process's signals are orders.
    pub signals: bool,
    /// Called once every core has reported ready.
    pub on_ready: Option<Box<dyn FnOnce(Serving) + Send>>,
}

/// Reads the node's configuration again; an error is a text for the log.
pub type Load = Arc<dyn Fn() -> Result<Snapshot, String> + Send + Sync>;

/// Serves until a signal ends the node, and ends the process with the code of [`Exit`].
pub fn serve(snapshot: Snapshot, load: Load, main: CoreMain) -> ! {
    let node = Serve {
        snapshot,
        load: Some(load),
        main,
        signals: true,
        on_ready: None,
    };
    let exit = node.run();
    // Cores that were left behind must not run on while the C library takes the process apart.
    signal_hook::low_level::exit(i32::from(exit.code()))
}

impl Serve {
    /// Serves until an order ends the node.
    ///
    /// Starts the process's log unless one is installed, and makes panics quiet.
    pub fn run(self) -> Exit {
        let started = Instant::now();
        let writer = start_log(&self.snapshot);
        quiet_panics();
        let exit = self.start(started).unwrap_or_else(|why| {
            log!(Error, "start_failed", why = why);
            Exit::Failure
        });
        if let Some(writer) = writer {
            writer.finish(LAST_LINES);
        }
        exit
    }

    fn start(self, started: Instant) -> Result<Exit, String> {
        let plan = Plan::of(&self.snapshot);
        let allowed = allowed_cpus().map_err(|unfit| unfit.to_string())?;
        let cpus = choose_cpus(&plan.cpus, &allowed).map_err(|unfit| unfit.to_string())?;
        let descriptors = raise_descriptor_limit();
        check_descriptors(descriptors, cpus.len(), plan.doors.len())
            .map_err(|unfit| unfit.to_string())?;
        check_ring(&plan.net).map_err(|unfit| unfit.to_string())?;
        let sockets = Sockets::bind(&plan, cpus.len())?;
        let status = Arc::new(Status::new(cpus.len(), started, descriptors));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| format!("no control runtime: {error}"))?;
        let exit = runtime.block_on(self.live(plan, cpus, sockets, status));
        // A look-up that hangs in the system's resolver must not hold the exit up.
        runtime.shutdown_background();
        exit
    }

    async fn live(
        self,
        plan: Plan,
        cpus: Vec<usize>,
        sockets: Sockets,
        status: Arc<Status>,
    ) -> Result<Exit, String> {
        let (orders, inbox_orders) = mpsc::channel(ORDERS_MAX);
        if self.signals {
            listen_to_signals(orders.clone())?;
        }
        let wanted = Wanted {
            generation: 1,
            destinations: plan.destinations.clone().into(),
        };
        let mut known = Known::default();
        known.refresh(&wanted, FIRST_LOOKUP, &status).await;
        let given = Given {
            snapshot: Arc::new(self.snapshot),
            addresses: Arc::new(known.addresses(&wanted)),
        };
        let common = Common {
            main: self.main,
            net: plan.net.clone(),
            given: given.clone(),
        };
        let serving = Serving {
            admin: sockets.admin_address,
            doors: sockets.door_addresses,
            orders,
        };
        let cores = runtime::start(&cpus, sockets.listeners, &common);
        let cores = cores.map_err(|error| format!("no thread for a core: {error}"))?;
        let mut events = pump(cores.events);
        all_ready(&mut events, cpus.len(), &status).await?;

        let desk = Desk {
            status: Arc::clone(&status),
            mailboxes: cores.mailboxes.clone(),
        };
        tokio::spawn(answer_admin(sockets.admin, sockets.admin_address, desk));
        watchdog::start(cores.beats, Arc::clone(&status), watchdog::end_process)
            .map_err(|error| format!("no watchdog thread: {error}"))?;
        let (resolved, where_endpoints_are) = watch::channel(given.addresses);
        let (wanted, what_is_wanted) = watch::channel(wanted);
        let (changed, inbox_addresses) = mpsc::channel(1);
        let resolving = keep_resolving(known, what_is_wanted, changed, Arc::clone(&status));
        tokio::spawn(resolving);
        let (learned, inbox_version) = mpsc::channel(1);
        if plan.server_version.is_none() {
            tokio::spawn(async move {
                // Nobody waits for it any more when the node is ending.
                let _node_gone = learned
                    .send(version::learn(where_endpoints_are).await)
                    .await;
            });
        }

        announce(&serving, &cpus, &status);
        if let Some(on_ready) = self.on_ready {
            on_ready(serving.clone());
        }
        let node = Node {
            load: self.load,
            snapshot: given.snapshot,
            plan,
            mailboxes: cores.mailboxes,
            status,
            wanted,
            resolved,
        };
        let inbox = Inbox {
            orders: inbox_orders,
            events,
            addresses: inbox_addresses,
            version: inbox_version,
        };
        Ok(node.run(inbox).await)
    }
}

/// The sockets the node listens on, made before anything else runs.
struct Sockets {
    listeners: Vec<Vec<DoorListener>>,
    door_addresses: Vec<(Arc<str>, Address)>,
    admin: TcpListener,
    admin_address: SocketAddr,
}

impl Sockets {
    fn bind(plan: &Plan, cores: usize) -> Result<Self, String> {
        let listeners =
            runtime::bind_doors(&plan.doors, cores).map_err(|error| error.to_string())?;
        let in_vain = |error: io::Error| {
            let address = plan.admin;
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "it is in use by another process; stop it (`ss -ltnp` names it)".to_owned()
                }
                _ => error.to_string(),
            };
            format!(
                "the admin listener cannot listen on {address} (`admin.address`): {why}, or choose \
                 another address"
            )
        };
        let admin = TcpListener::bind(plan.admin).map_err(in_vain)?;
        admin.set_nonblocking(true).map_err(in_vain)?;
        let admin_address = admin.local_addr().map_err(in_vain)?;
        let of_first_core = listeners.first().into_iter().flatten();
        let door_addresses = of_first_core
            .map(|door| Ok((Arc::clone(&door.name), door.listener.local_addr()?)))
            .collect::<io::Result<_>>()
            .map_err(|error| format!("a listener has no address: {error}"))?;
        Ok(Self {
            listeners,
            door_addresses,
            admin,
            admin_address,
        })
    }
}

/// Starts the process's log, unless one is installed already.
fn start_log(snapshot: &Snapshot) -> Option<Writer> {
    if crate::telemetry::log::node().is_some() {
        return None;
    }
    let sink: Box<dyn Write + Send> = match snapshot.logging.target {
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::Stdout => Box::new(io::stdout()),
    };
    let level = Plan::of(snapshot).level;
    // Without a thread for the log the node could not start its cores either.
    let (log, writer) = Log::start(level, wall_clock, sink).ok()?;
    install(log);
    Some(writer)
}

/// The time of day: milliseconds since 1970.
fn wall_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Turns signals into orders, on a thread of its own.
fn listen_to_signals(orders: mpsc::Sender<Order>) -> Result<(), String> {
    let in_vain = |error: io::Error| format!("signals cannot be received: {error}");
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(in_vain)?;
    let thread = std::thread::Builder::new().name("signals".into());
    let listening = thread.spawn(move || {
        for signal in signals.forever() {
            let order = match signal {
                SIGHUP => Order::Reload,
                _ => Order::End,
            };
            log!(Info, "signal", number = signal);
            // More orders than can wait say nothing new.
            let _ = orders.try_send(order);
        }
    });
    listening.map(drop).map_err(in_vain)
}

/// Takes the cores' events over into a channel that tokio can wait for.
fn pump(mut events: Receiver<CoreEvent>) -> mpsc::Receiver<CoreEvent> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        events.attach(move || wake.notify_one());
        loop {
            while let Some(event) = events.take() {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            woken.notified().await;
        }
    });
    receiver
}

/// The start-up barrier.
async fn all_ready(
    events: &mut mpsc::Receiver<CoreEvent>,
    cores: usize,
    status: &Status,
) -> Result<(), String> {
    let until = status.started + READY_WITHIN;
    let mut missing: Vec<usize> = (0..cores).collect();
    while !missing.is_empty() {
        match timeout_at(until.into(), events.recv()).await {
            Ok(Some(CoreEvent::Ready(core))) => missing.retain(|&id| id != usize::from(core.0)),
            Ok(Some(CoreEvent::Ended(core, cause))) => {
                let cause = cause.unwrap_or_else(|| "it returned".into());
                return Err(format!(
                    "core {} ended before it was ready: {cause}",
                    core.0
                ));
            }
            Ok(None) | Err(_) => {
                let within = READY_WITHIN.as_secs();
                return Err(format!(
                    "cores {missing:?} were not ready within {within} s"
                ));
            }
        }
    }
    status.set_phase(Phase::Serving);
    Ok(())
}

async fn answer_admin(listener: TcpListener, address: SocketAddr, desk: Desk) {
    let answered = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => admin::answer(listener, desk).await,
        Err(error) => Err(error),
    };
    if let Err(error) = answered {
        log!(Error, "admin_failed", address = address, error = error);
    }
}

fn announce(serving: &Serving, cpus: &[usize], status: &Status) {
    for (door, address) in &serving.doors {
        log!(Info, "listening", door = door, address = address);
    }
    let after = status.started.elapsed().as_millis();
    let version = env!("CARGO_PKG_VERSION");
    let admin = serving.admin;
    let cores = cpus.len();
    log!(
        Info,
        "ready",
        version = version,
        cores = cores,
        admin = admin,
        after_ms = after
    );
}
