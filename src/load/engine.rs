//! One core of the generator: its ring, its groups, and what it reports.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::or;

use super::dialogue::Program;
use super::pacer::{self, Spin};
use super::record::{Failure, Record};
use super::scenario::{Group, Operation, Scenario};
use super::schedule::{Arrival, Stretch, plan};
use super::worker;
use crate::base::address::Address;
use crate::base::clock::{Deadline, Now};
use crate::core::mailbox::Receiver;
use crate::net::{Net, NetOptions, read_clock, ring_end, spawn};

/// How often a core reports.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What a core is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The run begins at this instant.
    Start(Now),
    /// End now, cleanly.
    Stop,
}

/// What a core tells.
#[derive(Debug)]
pub enum Report {
    /// All its connections are open.
    Connected,
    /// A connection could not be opened before the start; whether another try would end alike.
    CannotConnect(String, bool),
    /// A login was refused in the run.
    LoginRefused(String),
    /// What it has seen since the last report.
    Interval(Box<Interval>),
    /// It has ended: as it should, or with a sentence.
    Ended(Result<(), String>),
}

/// What a core has seen since its last report.
#[derive(Debug)]
pub struct Interval {
    /// Which report it is, counted from 0 in steps of [`INTERVAL`].
    pub tick: u64,
    /// Records by stretch and then by group.
    pub records: Vec<(usize, Vec<Record>)>,
    /// CPU time of the core's thread in the stretches that count, so far, in nanoseconds, without what it spun.
    pub counted_cpu_ns: u64,
    /// How long waits spin now, in nanoseconds.
    pub spin_ns: u64,
    /// Connections open.
    pub connections: u32,
    /// Arrivals that wait for a connection.
    pub backlog: u64,
    /// The first failures of their classes, by group, in words.
    pub firsts: Vec<(usize, Failure, String)>,
}

/// What a core begins with.
pub struct CorePlan {
    /// Which core it is, counted from 0.
    pub core: u32,
    /// How many there are.
    pub cores: u32,
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// The groups' addresses.
    pub addresses: Arc<Vec<Address>>,
    /// How waits for an arrival end.
    pub spin: Spin,
    /// A login that is refused is a failure like others.
    pub counts_refusals: bool,
    /// Orders.
    pub orders: Receiver<Order>,
    /// Where reports go, with the core's number.
    pub reports: SyncSender<(u32, Report)>,
}

/// A core's world.
pub(super) struct Engine {
    pub(super) net: Net,
    pub(super) core: u32,
    pub(super) cores: u32,
    pub(super) scenario: Arc<Scenario>,
    pub(super) plan: Vec<Stretch>,
    pub(super) groups: Vec<GroupState>,
    /// The run's beginning, once known.
    pub(super) start: Cell<Option<Now>>,
    /// Stretches that have begun, the first left out.
    pub(super) noted: Cell<usize>,
    /// Nothing new begins.
    pub(super) is_over: Cell<bool>,
    /// Nothing that waits is begun either.
    pub(super) is_stopped: Cell<bool>,
    pub(super) records: RefCell<Vec<(usize, Vec<Record>)>>,
    pub(super) connections: Cell<u32>,
    workers: Cell<u32>,
    missing: Cell<u32>,
    /// Connections being opened, and who waits to do so.
    pub(super) opening: Cell<u32>,
    pub(super) openers: RefCell<VecDeque<Waker>>,
    /// First failures that were not reported yet, and which there were, by group.
    firsts: RefCell<Vec<(usize, Failure, String)>>,
    failed_before: RefCell<Vec<(usize, Failure)>>,
    waiting: RefCell<Vec<Waker>>,
    reports: SyncSender<(u32, Report)>,
    /// The thread's work when the current counting began.
    cpu_began: Cell<Option<u64>>,
    cpu_counted: Cell<u64>,
    pub(super) spins: Spin,
    pub(super) counts_refusals: bool,
    /// How long waits spin now, and have spun so far, nanoseconds.
    pub(super) spin: Cell<u64>,
    pub(super) spun: Cell<u64>,
}

/// One group's side of this core.
pub(super) struct GroupState {
    pub(super) group: Group,
    pub(super) address: Address,
    pub(super) program: Program,
    /// Connections without anything to do.
    pub(super) free: RefCell<Vec<Rc<Seat>>>,
    /// Arrivals without a connection, oldest first.
    pub(super) backlog: RefCell<VecDeque<Arrival>>,
}

/// A connection that waits for an arrival.
#[derive(Default)]
pub(super) struct Seat {
    pub(super) arrival: Cell<Option<Arrival>>,
    pub(super) waker: RefCell<Option<Waker>>,
}

/// Runs one core to its end.
///
/// # Errors
/// The ring cannot be made.
pub async fn live(seed: CorePlan) -> Result<(), String> {
    let options = NetOptions {
        // Its instants are nearer than glommio's timers are precise.
        idle_spell: Duration::from_secs(3600),
        ..NetOptions::default()
    };
    // A wait may end late by the thread's timer slack, 50 µs unless told otherwise (prctl(2)).
    let _refused_in_a_sandbox =
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let net = Net::new(options).map_err(|error| format!("no network ring: {error}"))?;
    let waker = net.waker().map_err(|error| format!("no waker: {error}"))?;
    seed.orders.attach(move || waker.wake());
    let ring = net.clone();
    let driving = spawn("ring", async move { ring.drive().await });
    let engine = Rc::new(Engine::new(net.clone(), &seed)?);
    engine.start_workers();
    let taking = spawn("orders", take_orders(Rc::clone(&engine), seed.orders));
    let pacing = spawn("pacer", pacer::pace(Rc::clone(&engine)));
    let reporting = spawn("reports", report_intervals(Rc::clone(&engine)));
    let metering = spawn("meter", meter(Rc::clone(&engine)));
    let mut driving = pin!(driving);
    let finished = async {
        engine.until(|engine| engine.workers.get() == 0).await;
        None
    };
    let broken = or(finished, async { Some(driving.as_mut().await) }).await;
    if let Some(driven) = broken {
        return ring_end(driven).and(Err("the ring has stopped by itself".into()));
    }
    reporting.cancel();
    metering.cancel();
    taking.cancel();
    pacing.cancel();
    engine.report_interval(u64::MAX, true);
    net.stop();
    ring_end(driving.await)
}

async fn take_orders(engine: Rc<Engine>, mut orders: Receiver<Order>) {
    loop {
        while let Some(order) = orders.take() {
            match order {
                Order::Start(at) => engine.start.set(Some(at)),
                Order::Stop => {
                    engine.is_stopped.set(true);
                    engine.ends();
                }
            }
            engine.notify();
        }
        poll_fn(|cx| engine.net.poll_woken(cx)).await;
    }
}

async fn report_intervals(engine: Rc<Engine>) {
    let start = engine.started().await;
    let mut timer = engine.net.timer();
    for tick in 0.. {
        let length = INTERVAL.saturating_mul(u32::try_from(tick + 1).unwrap_or(u32::MAX));
        timer.set(start.plus(length));
        poll_fn(|cx| timer.poll(cx)).await;
        engine.report_interval(tick, false);
    }
}

/// Reads the thread's CPU time where counting begins and where it ends.
async fn meter(engine: Rc<Engine>) {
    engine.started().await;
    let mut alarm = engine.net.alarm();
    for (index, stretch) in engine.plan.iter().enumerate() {
        alarm.set(engine.instant(stretch.began));
        poll_fn(|cx| alarm.poll(cx)).await;
        engine.begins(index);
        engine.count_cpu(stretch.counts);
    }
    let end = engine.plan.last().map_or(0, Stretch::end);
    alarm.set(engine.instant(end));
    poll_fn(|cx| alarm.poll(cx)).await;
    engine.count_cpu(false);
}

impl Engine {
    /// CPU time of the thread but for what it has spun.
    fn work_ns(&self) -> u64 {
        thread_cpu_ns().saturating_sub(self.spun.get())
    }

    fn count_cpu(&self, counts: bool) {
        let now = self.work_ns();
        let began = self.cpu_began.replace(counts.then_some(now));
        let used = began.map_or(0, |began| now.saturating_sub(began));
        self.cpu_counted.set(self.cpu_counted.get() + used);
    }

    fn counted_cpu_ns(&self) -> u64 {
        let began = self.cpu_began.get();
        let used = began.map_or(0, |began| self.work_ns().saturating_sub(began));
        self.cpu_counted.get() + used
    }

    fn new(net: Net, seed: &CorePlan) -> Result<Self, String> {
        let scenario = Arc::clone(&seed.scenario);
        let state = |(group, address): (&Group, &Address)| {
            Ok::<_, String>(GroupState {
                program: Program::new(group, scenario.verify)?,
                group: group.clone(),
                address: address.clone(),
                free: RefCell::default(),
                backlog: RefCell::default(),
            })
        };
        let groups = scenario.groups.iter().zip(seed.addresses.iter());
        let groups = groups.map(state).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            net,
            core: seed.core,
            cores: seed.cores,
            plan: plan(&scenario),
            groups,
            scenario,
            start: Cell::new(None),
            noted: Cell::new(0),
            is_over: Cell::new(false),
            is_stopped: Cell::new(false),
            records: RefCell::default(),
            connections: Cell::new(0),
            workers: Cell::new(0),
            missing: Cell::new(0),
            opening: Cell::new(0),
            openers: RefCell::default(),
            firsts: RefCell::default(),
            failed_before: RefCell::default(),
            waiting: RefCell::default(),
            reports: seed.reports.clone(),
            cpu_began: Cell::new(None),
            cpu_counted: Cell::new(0),
            spins: seed.spin,
            counts_refusals: seed.counts_refusals,
            spin: Cell::new(seed.spin.first()),
            spun: Cell::new(0),
        })
    }

    /// Starts this core's share of every group's connections.
    fn start_workers(self: &Rc<Self>) {
        let mut workers = 0;
        for (group, state) in self.groups.iter().enumerate() {
            for index in (self.core..state.group.connections).step_by(self.cores as usize) {
                workers += 1;
                spawn("connection", worker::work(Rc::clone(self), group, index)).detach();
            }
        }
        self.workers.set(workers);
        self.missing.set(workers);
        if workers == 0 {
            self.tell(Report::Connected);
        }
    }

    /// A worker has opened its first connection, or needs none to begin.
    pub(super) fn is_ready(&self) {
        self.missing.set(self.missing.get().saturating_sub(1));
        if self.missing.get() == 0 {
            self.tell(Report::Connected);
        }
    }

    /// A worker has ended.
    pub(super) fn worker_ended(&self) {
        self.workers.set(self.workers.get().saturating_sub(1));
        self.notify();
    }

    /// Tells the coordinator; waits for no one.
    pub(super) fn tell(&self, report: Report) {
        // A full channel loses only what is said again or shows in the next report.
        let _ = self.reports.try_send((self.core, report));
    }

    /// The first failure of its class in a group is told in words.
    pub(super) fn failed(&self, group: usize, failure: Failure, why: impl FnOnce() -> String) {
        let mut before = self.failed_before.borrow_mut();
        if !before.contains(&(group, failure)) {
            before.push((group, failure));
            self.firsts.borrow_mut().push((group, failure, why()));
        }
    }

    /// Waits until `holds`; looked at after every [`Engine::notify`].
    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        poll_fn(|cx| {
            if holds(self) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Something has changed that tasks wait for.
    pub(super) fn notify(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The run's beginning.
    pub(super) async fn started(&self) -> Now {
        self.until(|engine| engine.start.get().is_some()).await;
        self.start.get().unwrap_or_default()
    }

    /// Nanoseconds after the run's beginning; 0 before.
    pub(super) fn elapsed(&self, now: Now) -> u64 {
        let start = self.start.get().unwrap_or(now);
        now.0.saturating_sub(start.0)
    }

    /// The instant `offset` nanoseconds after the run's beginning.
    pub(super) fn instant(&self, offset: u64) -> Deadline {
        let start = self.start.get().unwrap_or_default();
        Deadline(start.0.saturating_add(offset))
    }

    /// The stretch at `offset` nanoseconds after the run's beginning; `None` after the end.
    pub(super) fn stretch_at(&self, offset: u64) -> Option<usize> {
        self.plan.iter().position(|stretch| offset < stretch.end())
    }

    /// Nothing new begins: what waits is taken back, and whoever waits for something to do ends.
    pub(super) fn ends(&self) {
        self.begins(self.plan.len());
        self.is_over.set(true);
        self.openers.take().into_iter().for_each(Waker::wake);
        self.wake_all();
        self.notify();
    }

    /// Wakes every free connection, to end.
    fn wake_all(&self) {
        for state in &self.groups {
            for seat in state.free.take() {
                if let Some(waker) = seat.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Hands what was seen since the last report to the coordinator. `waits`: the last one must not
    /// be lost; the core has nothing else to do.
    fn report_interval(&self, tick: u64, waits: bool) {
        let backlog = self.groups.iter().map(|state| state.backlog.borrow().len());
        let report = Report::Interval(Box::new(Interval {
            tick,
            records: self.records.take(),
            counted_cpu_ns: self.counted_cpu_ns(),
            spin_ns: self.spin.get(),
            connections: self.connections.get(),
            backlog: backlog.sum::<usize>() as u64,
            firsts: self.firsts.take(),
        }));
        if waits {
            // Fails only where the coordinator has gone.
            let _ = self.reports.send((self.core, report));
            return;
        }
        if let Err(TrySendError::Full((_, Report::Interval(kept)))) =
            self.reports.try_send((self.core, report))
        {
            // What it has joins the next report's.
            *self.records.borrow_mut() = kept.records;
            *self.firsts.borrow_mut() = kept.firsts;
        }
    }
}

/// CPU time of this thread, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// Whether arrivals of `group` come from its own connections or from a clock.
pub(super) fn takes_arrivals(group: &Group) -> bool {
    group.operation != Operation::Hold
}

/// The clock, for instants within a turn.
pub(super) fn clock() -> Now {
    read_clock()
}
