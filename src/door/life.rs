//! A core's life: builds its world from the seed, opens its doors, takes messages, keeps the pools,
//! and returns when a drain has emptied it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Door;
use super::message::{CoreMessage, CoreSeed, Mailboxes};
use super::mysql::Mysql;
use super::mysql::upstream::{self, Shared};
use super::mysql::world::World;
use crate::base::ident::CoreId;
use crate::core::mailbox::Mailbox;
use crate::core::runtime::CoreFuture;
use crate::core::{Core, Drain};
use crate::net::{self, Net, Spawned};
use crate::telemetry::log;
use crate::telemetry::metrics::CoreMetrics;
use crate::upstream::{PeerMessage, Refused, Upstreams};

/// How often pools are looked after while something waits, and otherwise.
const TICK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long clients that a drain has cut off may take to read what is queued for them; the process ends
/// a second after they were.
const LAST_LINGER: Duration = Duration::from_millis(500);

/// The life of one core, for the runtime to start.
pub fn core_main(seed: CoreSeed) -> CoreFuture {
    Box::pin(live(seed))
}

async fn live(seed: CoreSeed) -> Result<(), String> {
    let net = Net::new(seed.net).map_err(|error| format!("no network ring: {error}"))?;
    let waker = net.waker().map_err(|error| format!("no waker: {error}"))?;
    seed.mailbox.attach(move || waker.wake());
    let cores = seed.mailboxes.cores();
    let core = Core::new(seed.core, cores, net.clone(), seed.jobs);
    let ring = net.clone();
    let driving = net::spawn("ring", async move { ring.drive().await });
    let snapshot = &seed.given.snapshot;
    let mailboxes = seed.mailboxes.clone();
    let post = Box::new(move |to, message| post(&seed.mailboxes, to, message));
    let upstreams = Upstreams::new(&core, Shared::default(), snapshot, post);
    let metrics = CoreMetrics::new(seed.core.0);
    let world = World::new(&core, upstreams, metrics, &seed.given, mailboxes);
    let (mut doors, mut accepting) = (Vec::new(), Vec::new());
    for listener in seed.listeners {
        let name = &listener.name;
        let mut known = snapshot.listeners.iter();
        let Some(settings) = known.find(|known| *known.name == **name) else {
            return Err(format!("listener `{name}` is not in the configuration"));
        };
        let protocol = Mysql {
            world: Rc::clone(&world),
        };
        let series = world.metrics.door(name);
        let door = Door::new(&core, protocol, listener.name, series, settings);
        let acceptor = net.listen(listener.listener);
        accepting.push(net::spawn("accept", Rc::clone(&door).accept(acceptor)));
        doors.push(door);
    }
    let taking = take_messages(Rc::clone(&world), doors, seed.mailbox);
    let parts = Parts {
        net,
        driving,
        doors: accepting,
        messages: net::spawn("mailbox", taking),
        keeping: net::spawn("keeper", keep(world)),
    };
    seed.ready.report();
    let ended = parts.live().await;
    log::tell_all_left_out();
    if ended.is_err() {
        // Tasks that are dropped with the executor have nothing to hand anything back to.
        core.set_over();
    }
    ended
}

/// What a core cannot be without: one whose ring has failed, or which takes no messages, looks alive
/// from outside and serves nobody.
struct Parts {
    net: Net,
    driving: Spawned<io::Result<()>>,
    doors: Vec<Spawned<Result<(), String>>>,
    messages: Spawned<()>,
    keeping: Spawned<()>,
}

impl Parts {
    /// Ready when a drain has emptied the core.
    ///
    /// # Errors
    /// What the core cannot go on without, and why it is gone.
    async fn live(mut self) -> Result<(), String> {
        poll_fn(|cx| {
            if let Poll::Ready(driven) = Pin::new(&mut self.driving).poll(cx) {
                let nobody_stopped_it = Err("the ring has stopped by itself".to_owned());
                return Poll::Ready(net::ring_end(driven).and(nobody_stopped_it));
            }
            if Pin::new(&mut self.messages).poll(cx).is_ready() {
                return Poll::Ready(Err("the task that takes messages panicked".to_owned()));
            }
            if let Err(failure) = watch_doors(&mut self.doors, cx) {
                return Poll::Ready(Err(failure));
            }
            let panicked = || "the task that looks after pools panicked".to_owned();
            let kept = Pin::new(&mut self.keeping).poll(cx);
            kept.map(|kept| kept.ok_or_else(panicked))
        })
        .await?;
        // What is sent here from now on is refused, so that nobody waits for an answer.
        self.messages.cancel();
        self.net.stop();
        net::ring_end(self.driving.await)
    }
}

/// Forgets doors that a drain has closed.
///
/// # Errors
/// Why one has closed by itself.
fn watch_doors(
    doors: &mut Vec<Spawned<Result<(), String>>>,
    cx: &mut Context<'_>,
) -> Result<(), String> {
    let mut failure = None;
    doors.retain_mut(|door| match Pin::new(door).poll(cx) {
        Poll::Pending => true,
        Poll::Ready(Some(Ok(()))) => false,
        Poll::Ready(Some(Err(failed))) => {
            failure = Some(failed);
            false
        }
        Poll::Ready(None) => {
            failure = Some("the task that accepts clients panicked".to_owned());
            false
        }
    });
    failure.map_or(Ok(()), Err)
}

/// Sends to the upstream connections of another core.
fn post(
    mailboxes: &Mailboxes,
    to: CoreId,
    message: PeerMessage<upstream::Mysql>,
) -> Result<(), Box<Refused<upstream::Mysql>>> {
    let Err(refused) = mailboxes.send(to, CoreMessage::Upstream(message)) else {
        return Ok(());
    };
    Err(Box::new(Refused {
        reason: refused.to_string(),
        message: match refused.into_message() {
            CoreMessage::Upstream(message) => Some(message),
            _ => None,
        },
    }))
}

/// Looks after pools and the drain until the core is empty.
async fn keep(world: Rc<World>) {
    let core = &world.core;
    let mut timer = core.net.timer();
    loop {
        let look = world.upstreams.look();
        if core.drain() != Drain::Serving && core.clients() == 0 && !look.is_reaping {
            return;
        }
        let is_unsent = world.flush();
        log::tell_left_out();
        let pause = if look.is_busy || is_unsent {
            TICK.0
        } else {
            TICK.1
        };
        let looks = core.net.now().plus(pause).min(look.next);
        timer.set(looks);
        let mut is_kicked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_kicked, true) {
                return Poll::Ready(());
            }
            core.keeper_waits(cx.waker(), looks);
            timer.poll(cx)
        })
        .await;
    }
}

async fn take_messages(
    world: Rc<World>,
    doors: Vec<Rc<Door<Mysql>>>,
    mut mailbox: Mailbox<CoreMessage>,
) {
    loop {
        while let Some(message) = mailbox.take() {
            world.metrics.core().messages.inc();
            handle(&world, &doors, message);
        }
        poll_fn(|cx| world.core.net.poll_woken(cx)).await;
    }
}

fn handle(world: &World, doors: &[Rc<Door<Mysql>>], message: CoreMessage) {
    match message {
        CoreMessage::Ping => {}
        CoreMessage::Snapshot(snapshot, addresses) => {
            world.apply(&snapshot, &addresses);
            doors.iter().for_each(|door| door.follow(&snapshot));
        }
        CoreMessage::Addresses(addresses) => world.set_addresses(&addresses),
        CoreMessage::ServerVersion(version) => world.learn_version(version),
        CoreMessage::Drain => world.core.set_drain(Drain::Draining),
        CoreMessage::DrainNow => {
            let (linger, stall) = world.patience();
            let net = &world.core.net;
            net.set_patience(linger.min(LAST_LINGER), stall);
            world.core.set_drain(Drain::Now);
        }
        CoreMessage::Scrape(reply) => {
            #[cfg(debug_assertions)]
            if crate::core::fault::is_due("ring") {
                world.core.net.break_ring();
            }
            crate::core::fault::point("messages");
            count_ring(world);
            world.upstreams.gauge();
            reply.send(world.metrics.scrape());
        }
        CoreMessage::Upstream(message) => world.upstreams.on_message(message),
        CoreMessage::Tenant(message) => world.on_tenant_message(message),
        CoreMessage::JobDone(done) => world.core.job_done(done),
    }
}

fn count_ring(world: &World) {
    let stats = world.core.net.stats();
    let series = world.metrics.core();
    series.panics.set(net::panics());
    series.turns.set(stats.turns);
    series.enters.set(stats.enters);
    series.starved.set(stats.enobufs);
    series.spared.set(stats.buffers_spared);
    series.windows_closed.set(stats.windows_closed);
    series.accept_pauses.set(stats.accept_backoffs);
    series.buffers.set(u64::from(stats.buffers_out));
    series
        .sockets
        .set(u64::try_from(stats.open).unwrap_or(u64::MAX));
}
