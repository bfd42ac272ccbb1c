//! A core's life: builds its world from the seed, opens its doors, takes messages, keeps the pools,
//! and returns when a drain has emptied it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::or;

use super::door::{self, Door};
use super::endpoint::{EndpointSeed, EndpointState};
use super::lend;
use super::mailbox::Mailbox;
use super::message::{Addresses, CoreMessage};
use super::retire;
use super::routing::Routing;
use super::runtime::{CoreFuture, CoreSeed};
use super::server_key;
use super::world::{Drain, Replica, World};
use crate::base::clock::Deadline;
use crate::base::ident::{CoreId, EndpointId};
use crate::config::Snapshot;
use crate::net::{self, Net, SocketOptions};
use crate::pool::PoolLimits;
use crate::telemetry::metrics::CoreMetrics;

/// How often pools are looked after while something waits, and otherwise.
const TICK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The life of one core, for the runtime to start.
pub fn core_main(seed: CoreSeed) -> CoreFuture {
    Box::pin(live(seed))
}

async fn live(seed: CoreSeed) -> Result<(), String> {
    let net = Net::new(seed.net).map_err(|error| format!("no network ring: {error}"))?;
    let waker = net.waker().map_err(|error| format!("no waker: {error}"))?;
    seed.mailbox.attach(move || waker.wake());
    let metrics = CoreMetrics::new(seed.core.0);
    let cores = seed.mailboxes.cores();
    let replica = replica(
        &seed.snapshot,
        &seed.addresses,
        &metrics,
        seed.core,
        cores,
        &[],
    );
    let world = World::new(
        seed.core,
        net.clone(),
        seed.mailboxes,
        seed.jobs,
        metrics,
        replica,
    );
    let ring = net.clone();
    let driving = net::spawn("ring", async move { ring.drive().await });
    server_key::prepare(&world);
    for listener in seed.listeners {
        let Some(settings) = seed
            .snapshot
            .listeners
            .iter()
            .find(|l| *l.name == *listener.name)
        else {
            return Err(format!(
                "listener `{}` is not in the configuration",
                listener.name
            ));
        };
        let series = world.metrics.door(&listener.name);
        let limit = settings.connections_max.div_ceil(u32::from(cores.max(1)));
        let door = Door::new(
            listener.name,
            series,
            limit,
            SocketOptions::from(&settings.socket),
        );
        let acceptor = net.listen(listener.listener);
        net::spawn("accept", door::accept(Rc::clone(&world), door, acceptor)).detach();
    }
    net::spawn("mailbox", take_messages(Rc::clone(&world), seed.mailbox)).detach();
    seed.ready.report();
    let mut driving = pin!(driving);
    // Without its ring the core would wait for ever: no message, no deadline, no client would come.
    let emptied = async {
        keep(&world).await;
        None
    };
    let broken = or(emptied, async { Some(driving.as_mut().await) }).await;
    net.stop();
    match broken {
        Some(driven) => net::ring_end(driven).and(Err("the ring has stopped by itself".into())),
        None => net::ring_end(driving.await),
    }
}

/// Looks after pools and the drain until the core is empty.
async fn keep(world: &Rc<World>) {
    let mut timer = world.net.timer();
    loop {
        let (mut is_busy, mut is_reaping, mut look) = (false, false, Deadline::NEVER);
        for endpoint in &world.replica().endpoints {
            is_busy |= endpoint.sweep(world);
            is_reaping |= endpoint.is_reaping();
            look = look.min(endpoint.next_look(world.net.now()));
        }
        retire::look(world);
        if world.drain() != Drain::Serving && world.clients() == 0 && !is_reaping {
            return;
        }
        let pause = if is_busy { TICK.0 } else { TICK.1 };
        timer.set(world.net.now().plus(pause).min(look));
        let mut is_kicked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_kicked, true) {
                return Poll::Ready(());
            }
            world.set_keeper(cx.waker());
            timer.poll(cx)
        })
        .await;
    }
}

async fn take_messages(world: Rc<World>, mut mailbox: Mailbox) {
    loop {
        while let Some(message) = mailbox.take() {
            world.metrics.core().messages.inc();
            handle(&world, message);
        }
        poll_fn(|cx| world.net.poll_woken(cx)).await;
    }
}

fn handle(world: &Rc<World>, message: CoreMessage) {
    match message {
        CoreMessage::Ping => {}
        CoreMessage::Snapshot(snapshot, addresses) => apply(world, &snapshot, &addresses),
        CoreMessage::Addresses(addresses) => world.set_addresses(&addresses),
        CoreMessage::ServerVersion(version) => {
            if world.replica().snapshot.node.server_version.is_none() {
                *world.server_version.borrow_mut() = version;
            }
        }
        CoreMessage::Drain => world.set_drain(Drain::Draining),
        CoreMessage::DrainNow => world.set_drain(Drain::Now),
        CoreMessage::Scrape(reply) => {
            count_ring(world);
            let replica = world.replica();
            let leaving = world.leaving.borrow();
            for endpoint in replica.endpoints.iter().chain(leaving.iter()) {
                endpoint.gauge();
            }
            reply.send(world.metrics.scrape());
        }
        CoreMessage::Permit(message) => {
            let replica = world.replica();
            let leaving = world.leaving.borrow().clone();
            let mut endpoints = replica.endpoints.iter().chain(&leaving);
            if let Some(endpoint) = endpoints.find(|e| e.id == message.endpoint) {
                endpoint.on_permit(world, message);
            }
        }
        CoreMessage::Lent(lent) => lend::take_over(world, *lent),
        CoreMessage::JobDone(done) => {
            if let Some(outcome) = world.server_key.take(done.job, done.outcome) {
                world.job_done(done.job, outcome);
            }
        }
    }
}

fn count_ring(world: &World) {
    let stats = world.net.stats();
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

/// Takes over a snapshot between two exchanges. Endpoints that stay keep their pools and permits.
fn apply(world: &Rc<World>, snapshot: &Arc<Snapshot>, addresses: &Addresses) {
    let old = world.replica();
    let cores = world.mailboxes.cores();
    let mut known = old.endpoints.clone();
    known.extend(world.leaving.borrow().iter().cloned());
    let new = replica(
        snapshot,
        addresses,
        &world.metrics,
        world.core,
        cores,
        &known,
    );
    retire::note(world, &old, &new);
    if let Some(version) = &snapshot.node.server_version {
        *world.server_version.borrow_mut() = version.as_str().into();
    }
    *world.replica.borrow_mut() = new;
    let deadlines = &snapshot.deadlines;
    world
        .net
        .set_patience(deadlines.linger, deadlines.write_stall);
    server_key::prepare(world);
    world.kick();
}

fn replica(
    snapshot: &Arc<Snapshot>,
    addresses: &Addresses,
    metrics: &CoreMetrics,
    core: CoreId,
    cores: u16,
    known: &[Rc<EndpointState>],
) -> Rc<Replica> {
    let pools = &snapshot.pools;
    let limits = PoolLimits {
        waiters_max: pools.waiters_max,
        idle_max: pools.idle_max,
        age_max: pools.age_max,
    };
    let mut endpoints = Vec::new();
    for (endpoint, index) in snapshot.endpoints.iter().zip(0_u32..) {
        let Some(placement) = snapshot.placement(endpoint.placement) else {
            continue;
        };
        let address = endpoint.address();
        // The same on every core and in every generation, whatever the order in the file.
        let label = format!("{}/{address}", placement.name);
        let id = EndpointId(xxhash_rust::xxh32::xxh32(label.as_bytes(), 0));
        let resolved = addresses.of(EndpointId(index)).to_vec();
        if let Some(kept) = known.iter().find(|kept| kept.id == id) {
            *kept.addresses.borrow_mut() = resolved;
            let before = kept.budget.replace(endpoint.budget);
            kept.permits.borrow_mut().resize(before, endpoint.budget);
            endpoints.push(Rc::clone(kept));
            continue;
        }
        let seed = EndpointSeed {
            id,
            name: address.as_str().into(),
            addresses: resolved,
            socket: SocketOptions::from(&placement.socket),
            budget: endpoint.budget,
            limits,
            statements_max: usize::try_from(pools.statements_max).unwrap_or(usize::MAX),
            metrics: metrics.endpoint(&placement.name, &address),
        };
        endpoints.push(EndpointState::new(seed, core, cores));
    }
    let routing = Routing::new(snapshot);
    let generation = addresses.generation;
    Rc::new(Replica {
        generation,
        snapshot: Arc::clone(snapshot),
        routing,
        endpoints,
    })
}
