//! The cores' threads: listeners bound before them, one pinned executor each, their beats and ends.
//!
//! What a core does is its [`CoreMain`]; this module gives it its seed and tells the control thread
//! when it is ready and how it ended, whatever happens inside.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::address::Address;
use crate::base::ident::CoreId;
use crate::core::beat::{BEAT_INTERVAL, Beat};
use crate::core::executor::spawn_pinned;
use crate::core::jobs::{JobDone, Jobs};
use crate::core::mailbox::{Mailbox, Mailboxes, Receiver, Sender, channel};
use crate::net::{self, Listener, NetOptions, SocketOptions};

/// How often, and in what intervals, an address in use is tried again.
const FREED_TRIES: u32 = 50;
const FREED_RETRY: Duration = Duration::from_millis(10);

/// A core's whole life, from its seed to the end of its last connection after a drain. An error is a
/// sentence for the log.
pub type CoreMain<S, M> = fn(CoreSeed<S, M>) -> CoreFuture;

/// What a [`CoreMain`] gives.
pub type CoreFuture = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// A listener to be: a socket for each core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorPlan {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it listens; port 0 takes a free one, the same for all cores.
    pub address: Address,
    /// Permissions of the file, if it is a Unix socket.
    pub mode: u32,
    /// Connections that may wait for `accept`: for each core, or on the Unix socket that all share.
    pub backlog: i32,
    /// Options of the listener and of accepted sockets.
    pub options: SocketOptions,
}

/// One core's socket of a listener.
#[derive(Debug)]
pub struct DoorListener {
    /// The listener's name in the configuration.
    pub name: Arc<str>,
    /// The socket, listening already.
    pub listener: Listener,
}

/// All that a core begins with. `S` is what the process gives to every core alike, `M` its messages.
pub struct CoreSeed<S, M> {
    /// Which core it is.
    pub core: CoreId,
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// Options of its ring.
    pub net: NetOptions,
    /// Its socket of every listener.
    pub listeners: Vec<DoorListener>,
    /// What all cores are given alike.
    pub given: S,
    /// Messages for this core; attach the ring's waker, then take.
    pub mailbox: Mailbox<M>,
    /// Messages for other cores.
    pub mailboxes: Mailboxes<M>,
    /// Work for the helper thread.
    pub jobs: Jobs,
    /// To be told when the core serves.
    pub ready: Ready,
}

/// Tells the control thread that a core serves.
pub struct Ready {
    core: CoreId,
    events: Sender<CoreEvent>,
}

impl Ready {
    /// The core serves now.
    pub fn report(self) {
        report(&self.events, CoreEvent::Ready(self.core));
    }
}

/// A message from a core to the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreEvent {
    /// The core serves.
    Ready(CoreId),
    /// The core has ended: `None` as asked, otherwise why.
    Ended(CoreId, Option<String>),
}

/// What all cores begin with alike.
pub struct Common<S, M> {
    /// What a core does.
    pub main: CoreMain<S, M>,
    /// Options of the cores' rings.
    pub net: NetOptions,
    /// What each is given.
    pub given: S,
}

/// The running cores, from the outside.
pub struct Cores<M> {
    /// The cores' mailboxes.
    pub mailboxes: Mailboxes<M>,
    /// The cores' heartbeats, by core.
    pub beats: Vec<Beat>,
    /// What the cores tell the control thread.
    pub events: Receiver<CoreEvent>,
}

/// Makes the sockets of every listener for each of `cores` cores. Gives them by core.
///
/// # Errors
/// What the system says, with the listener's name and address; also when a process that is not this
/// one listens there already, even if it would share the port.
pub fn bind_doors(doors: &[DoorPlan], cores: usize) -> io::Result<Vec<Vec<DoorListener>>> {
    let mut by_core: Vec<Vec<DoorListener>> = (0..cores).map(|_| Vec::new()).collect();
    for door in doors {
        let bound = match &door.address {
            Address::Tcp(address) => bind_each(*address, door, cores),
            Address::Unix(path) => bind_shared(path, door, cores),
        };
        let bound = bound.map_err(|error| {
            let (name, address) = (&door.name, &door.address);
            io::Error::new(
                error.kind(),
                format!(
                    "listener `{name}` cannot listen on {address} (`listeners.{name}.address`): \
                     {error}"
                ),
            )
        })?;
        for (listeners, listener) in by_core.iter_mut().zip(bound) {
            let name = Arc::clone(&door.name);
            listeners.push(DoorListener { name, listener });
        }
    }
    Ok(by_core)
}

/// A socket of each core's own; port 0 is the same one for all.
fn bind_each(address: SocketAddr, door: &DoorPlan, cores: usize) -> io::Result<Vec<Listener>> {
    if address.port() != 0 {
        once_free(|| net::ensure_free(address))?;
    }
    let mut address = address;
    let bind = |_| {
        let listener = net::bind(address, door.backlog, &door.options)?;
        address = listener.local_addr()?;
        Ok(listener.into())
    };
    (0..cores).map(bind).collect()
}

/// One socket for all cores.
fn bind_shared(path: &Path, door: &DoorPlan, cores: usize) -> io::Result<Vec<Listener>> {
    let bind = || net::bind_unix(path, door.mode, door.backlog, &door.options);
    let first = once_free(bind)?;
    (0..cores).map(|_| first.try_clone()).collect()
}

/// Waits a moment for an address that is in use: the kernel takes the rings of a process apart, and
/// closes what they accept on, after the process has ended. A node restarted at once must not fail.
fn once_free<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..FREED_TRIES {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::sleep(FREED_RETRY);
            }
            outcome => return outcome,
        }
    }
    attempt()
}

/// Starts one core on each of `cpus`, with its listeners.
///
/// # Errors
/// When a thread cannot be made. A core that fails later says so by [`CoreEvent::Ended`].
pub fn start<S, M>(
    cpus: &[usize],
    listeners: Vec<Vec<DoorListener>>,
    common: &Common<S, M>,
) -> io::Result<Cores<M>>
where
    S: Clone + Send + 'static,
    M: From<JobDone> + Send + 'static,
{
    let cores = u16::try_from(cpus.len()).unwrap_or(u16::MAX);
    let (mailboxes, receivers) = Mailboxes::new(cores);
    // Each core tells twice at most: ready and ended.
    let (sender, events) = channel(2 * usize::from(cores));
    let jobs = Jobs::start(mailboxes.clone())?;
    let beats: Vec<_> = cpus.iter().map(|_| Beat::new()).collect();
    let seats = mailboxes.ids().zip(cpus).zip(receivers).zip(listeners);
    for ((((core, &cpu), mailbox), listeners), beat) in seats.zip(&beats) {
        let seed = CoreSeed {
            core,
            cpu,
            net: common.net.clone(),
            listeners,
            given: common.given.clone(),
            mailbox,
            mailboxes: mailboxes.clone(),
            jobs: jobs.clone(),
            ready: Ready {
                core,
                events: sender.clone(),
            },
        };
        let (main, beat, events) = (common.main, beat.clone(), sender.clone());
        let name = format!("core-{}", core.0);
        let ended = move |ended: Result<(), String>| {
            report(&events, CoreEvent::Ended(core, ended.err()));
        };
        spawn_pinned(name, cpu, move || live(main, seed, beat), ended)?;
    }
    Ok(Cores {
        mailboxes,
        beats,
        events,
    })
}

/// A core's thread, inside its executor.
async fn live<S, M>(main: CoreMain<S, M>, seed: CoreSeed<S, M>, beat: Beat) -> Result<(), String> {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    beat.set_thread(thread.unsigned_abs());
    let beating = net::spawn("beat", keep_beating(beat));
    let ended = main(seed).await;
    beating.cancel();
    ended
}

async fn keep_beating(beat: Beat) {
    loop {
        beat.beat();
        glommio::timer::sleep(BEAT_INTERVAL).await;
    }
}

fn report(events: &Sender<CoreEvent>, event: CoreEvent) {
    // Refused only when the control thread has gone, and then there is nobody to tell.
    let _nobody_left = events.send(event);
}
