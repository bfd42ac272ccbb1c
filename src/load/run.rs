//! A run from outside its cores: it starts them, collects what they report, and watches the process
//! under test.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::engine::{CorePlan, Interval, Order, Report, live};
use super::pacer::Spin;
use super::process::{self, Meter, NoProcess};
use super::record::{Failure, Record};
use super::scenario::{Group, Scenario, Target};
use super::schedule::{Stretch, plan};
use crate::base::address::Address;
use crate::base::clock::Now;
use crate::core::executor::spawn_pinned;
use crate::core::mailbox::{Sender, channel};
use crate::core::preflight::{Unfit, allowed_cpus, raise_descriptor_limit};
use crate::net::read_clock;

/// Reports that may wait for the coordinator.
const REPORTS_MAX: usize = 1024;

/// How long all connections may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// From the last connection to the first arrival: every core has the order by then.
const COUNTDOWN: Duration = Duration::from_millis(50);

/// How often the coordinator looks at the clock.
const LOOK: Duration = Duration::from_millis(20);

/// What a run needs beside its scenario.
pub struct RunOptions<'a> {
    /// CPUs of the cores; empty for the last ones that the process may use.
    pub cpus: Vec<usize>,
    /// How waits for an arrival end.
    pub spin: Spin,
    /// The process under test.
    pub pid: Option<u32>,
    /// Logins that are refused are counted; without it the first one ends the run.
    pub counts_refusals: bool,
    /// Set from outside to end the run early, cleanly.
    pub stop: Arc<AtomicBool>,
    /// Told of every interval, on the coordinator's thread.
    pub watch: &'a mut dyn FnMut(&Progress<'_>),
}

/// An interval as the coordinator sees it.
pub struct Progress<'a> {
    /// Which core reports.
    pub core: u32,
    /// Seconds since the run's beginning.
    pub at_s: f64,
    /// The plan.
    pub plan: &'a [Stretch],
    /// What the core has seen.
    pub interval: &'a Interval,
}

/// What a run has seen.
#[derive(Debug)]
pub struct Outcome {
    /// The plan.
    pub plan: Vec<Stretch>,
    /// Records by stretch and group, all cores together.
    pub records: Vec<Vec<Record>>,
    /// What the process under test used in each stretch that counts.
    pub process: Option<Vec<Meter>>,
    /// CPU time of each generator core in the stretches that count, in nanoseconds.
    pub cpu_ns: Vec<u64>,
    /// How long waits for an arrival spun at the end, the longest of all cores, in nanoseconds.
    pub spin_ns: u64,
    /// Length of the stretches that count, in nanoseconds, as far as they were run.
    pub counted_ns: u64,
    /// When it was ended early, in nanoseconds after its beginning.
    pub ended: Option<u64>,
    /// Ended early by request.
    pub was_stopped: bool,
    /// Ended early by a login that was refused.
    pub refused: Option<String>,
    /// The first failure of each class, in words, by group.
    pub firsts: Vec<(usize, Failure, String)>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A target's name cannot be resolved.
    #[error("target `{name}`: {host} cannot be resolved: {error}")]
    Resolve {
        /// The target.
        name: String,
        /// Its host.
        host: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A connection was refused for good.
    #[error("a connection was refused, and would be again: {0}")]
    Refused(String),
    /// The connections could not be opened.
    #[error("not all connections could be opened within 15 s; the last failure: {0}")]
    Connect(String),
    /// The machine cannot run it.
    #[error("{0}")]
    Machine(#[from] Unfit),
    /// The process under test is not there.
    #[error("{0}")]
    Process(#[from] NoProcess),
    /// A core has ended.
    #[error("a generator core ended: {0}")]
    Core(String),
    /// A thread cannot be made.
    #[error("a generator core cannot be started: {0}")]
    Thread(std::io::Error),
    /// Stopped before it began.
    #[error("stopped before the first operation")]
    Stopped,
}

/// Runs `scenario` to its end.
///
/// # Errors
/// [`RunError`]; nothing is left running.
pub fn run(scenario: &Arc<Scenario>, options: RunOptions<'_>) -> Result<Outcome, RunError> {
    let addresses = resolve(scenario)?;
    if let Some(pid) = options.pid {
        process::read(pid)?;
    }
    check_room(scenario, &addresses, raise_descriptor_limit())?;
    let cpus = choose_cpus(&options.cpus, scenario.cores)?;
    let (reports, received) = sync_channel(REPORTS_MAX);
    let mut orders = Vec::new();
    let mut threads = Vec::new();
    let cores = u32::try_from(cpus.len()).unwrap_or(u32::MAX);
    for (core, cpu) in (0..cores).zip(cpus) {
        let (sender, receiver) = channel(16);
        orders.push(sender);
        let seed = CorePlan {
            core,
            cores,
            scenario: Arc::clone(scenario),
            addresses: Arc::clone(&addresses),
            spin: options.spin,
            counts_refusals: options.counts_refusals,
            orders: receiver,
            reports: reports.clone(),
        };
        let ended = reports.clone();
        let thread = spawn_pinned(
            format!("load-{core}"),
            cpu,
            move || live(seed),
            move |result| {
                // Nobody listens only where the run has failed already.
                let _ = ended.send((core, Report::Ended(result)));
            },
        );
        threads.push(thread.map_err(RunError::Thread)?);
    }
    drop(reports);
    let mut run = Coordinator::new(plan(scenario), orders, options, scenario.groups.len());
    let result = run.conduct(&received);
    run.order(Order::Stop);
    // Cores wait for no one but a full channel.
    while received.recv().is_ok() {}
    for thread in threads {
        let _panic_was_reported = thread.join();
    }
    result.map(|()| run.outcome)
}

/// Descriptors that a core and the process need beside connections.
const DESCRIPTORS_SPARE: u64 = 128;

/// Checks that there are files and ports for all connections.
fn check_room(scenario: &Scenario, addresses: &[Address], files: u64) -> Result<(), Unfit> {
    let wanted = |group: &Group| u64::from(group.connections);
    let all: u64 = scenario.groups.iter().map(wanted).sum();
    let needed = all.saturating_add(DESCRIPTORS_SPARE);
    if needed > files {
        return Err(Unfit(format!(
            "{all} connections need {needed} files, and this process may open {files}: ask for fewer, \
             or raise the limit (ulimit -Hn, LimitNOFILE=)"
        )));
    }
    let Some(ports) = local_ports() else {
        return Ok(());
    };
    let tcp = addresses
        .iter()
        .filter(|address| matches!(address, Address::Tcp(_)));
    for address in tcp {
        let groups = scenario.groups.iter().zip(addresses);
        let there = groups.filter(|(_, other)| *other == address);
        let there: u64 = there.map(|(group, _)| wanted(group)).sum();
        if there > ports {
            return Err(Unfit(format!(
                "{there} connections to {address} need as many ports, and this machine has {ports} \
                 (net.ipv4.ip_local_port_range): ask for fewer, or widen the range"
            )));
        }
    }
    Ok(())
}

/// How many ports the kernel gives out (ip(7), `ip_local_port_range`).
fn local_ports() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_whitespace().map(|end| end.parse::<u64>());
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last.checked_sub(first)? + 1)
}

fn resolve(scenario: &Scenario) -> Result<Arc<Vec<Address>>, RunError> {
    let of = |target: &Target| {
        let failed = |error| RunError::Resolve {
            name: target.name.clone(),
            host: target.host.clone(),
            error,
        };
        if let Some(path) = &target.socket {
            return Ok(Address::Unix(path.clone()));
        }
        let mut found = (target.host.as_str(), target.port)
            .to_socket_addrs()
            .map_err(failed)?;
        let none = || failed(std::io::Error::other("it has no address"));
        found.next().map(Address::Tcp).ok_or_else(none)
    };
    let addresses: Result<Vec<_>, _> = scenario.groups.iter().map(|g| of(&g.target)).collect();
    addresses.map(Arc::new)
}

/// The CPUs named, or the last `cores` that the process may use: what is under test usually has the
/// first.
///
/// # Errors
/// When the process may not run on them, or on so many.
pub fn choose_cpus(wanted: &[usize], cores: usize) -> Result<Vec<usize>, Unfit> {
    let allowed = allowed_cpus()?;
    if let Some(cpu) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(Unfit(format!(
            "CPU {cpu} is asked for but the process may run on {allowed:?}"
        )));
    }
    if !wanted.is_empty() {
        return Ok(wanted.to_vec());
    }
    let skipped = allowed.len().checked_sub(cores).ok_or_else(|| {
        Unfit(format!(
            "{cores} cores are asked for but the process may run on {} CPUs",
            allowed.len()
        ))
    })?;
    Ok(allowed.into_iter().skip(skipped).collect())
}

struct Coordinator<'a> {
    options: RunOptions<'a>,
    orders: Vec<Sender<Order>>,
    outcome: Outcome,
    start: Option<Now>,
    connected: usize,
    ended: usize,
    last_failure: String,
    /// The stretch that is being counted.
    counting: Option<usize>,
}

impl<'a> Coordinator<'a> {
    fn new(
        plan: Vec<Stretch>,
        orders: Vec<Sender<Order>>,
        options: RunOptions<'a>,
        groups: usize,
    ) -> Self {
        let empty = |_: &Stretch| vec![Record::default(); groups];
        let cores = orders.len();
        Self {
            outcome: Outcome {
                records: plan.iter().map(empty).collect(),
                process: options.pid.map(|_| vec![Meter::default(); plan.len()]),
                cpu_ns: vec![0; cores],
                spin_ns: 0,
                counted_ns: 0,
                ended: None,
                was_stopped: false,
                refused: None,
                firsts: Vec::new(),
                plan,
            },
            options,
            orders,
            start: None,
            connected: 0,
            ended: 0,
            last_failure: "none was reported".to_owned(),
            counting: None,
        }
    }

    fn order(&self, order: Order) {
        for core in &self.orders {
            // Refused only by a core that has ended.
            let _ = core.send(order);
        }
    }

    fn conduct(&mut self, received: &Receiver<(u32, Report)>) -> Result<(), RunError> {
        let began = read_clock();
        while self.ended < self.orders.len() {
            match received.recv_timeout(LOOK) {
                Ok((core, report)) => self.take(core, report)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = read_clock();
            if self.options.stop.load(Ordering::Relaxed) && !self.outcome.was_stopped {
                self.outcome.was_stopped = true;
                self.order(Order::Stop);
                self.mark(now, true)?;
                if self.start.is_none() {
                    return Err(RunError::Stopped);
                }
            }
            if self.start.is_none() && now.since(began) > CONNECT_LIMIT {
                return Err(RunError::Connect(self.last_failure.clone()));
            }
            self.mark(now, false)?;
        }
        Ok(())
    }

    fn take(&mut self, core: u32, report: Report) -> Result<(), RunError> {
        match report {
            Report::Connected => {
                self.connected += 1;
                if self.connected == self.orders.len() {
                    let start = Now(read_clock().plus(COUNTDOWN).0);
                    self.start = Some(start);
                    self.order(Order::Start(start));
                }
            }
            Report::CannotConnect(why, true) if !self.options.counts_refusals => {
                return Err(RunError::Refused(why));
            }
            Report::CannotConnect(why, _) => self.last_failure = why,
            Report::LoginRefused(why) => {
                let is_first = self.outcome.refused.is_none();
                if is_first && !self.options.counts_refusals {
                    self.outcome.refused = Some(why);
                    self.order(Order::Stop);
                    self.mark(read_clock(), true)?;
                }
            }
            Report::Interval(interval) => self.add(core, &interval),
            Report::Ended(Ok(())) => self.ended += 1,
            Report::Ended(Err(why)) => return Err(RunError::Core(why)),
        }
        Ok(())
    }

    fn add(&mut self, core: u32, interval: &Interval) {
        for (stretch, groups) in &interval.records {
            let totals = self.outcome.records.get_mut(*stretch);
            for (total, record) in totals.into_iter().flatten().zip(groups) {
                total.merge(record);
            }
        }
        for first in &interval.firsts {
            let known = |(group, failure, _): &(usize, Failure, String)| (*group, *failure);
            if !self
                .outcome
                .firsts
                .iter()
                .any(|old| known(old) == known(first))
            {
                self.outcome.firsts.push(first.clone());
            }
        }
        if let Some(start) = self.start {
            let at = read_clock().since(start).as_secs_f64();
            (self.options.watch)(&Progress {
                core,
                at_s: at,
                plan: &self.outcome.plan,
                interval,
            });
        }
        if let Some(counted) = self.outcome.cpu_ns.get_mut(core as usize) {
            *counted = interval.counted_cpu_ns;
            self.outcome.spin_ns = self.outcome.spin_ns.max(interval.spin_ns);
        }
    }

    /// Reads the process under test where counting begins or ends.
    fn mark(&mut self, now: Now, is_end: bool) -> Result<(), RunError> {
        let Some(start) = self.start else {
            return Ok(());
        };
        let offset = u64::try_from(now.since(start).as_nanos()).unwrap_or(u64::MAX);
        if is_end {
            self.outcome.ended.get_or_insert(offset);
        }
        let plan = &self.outcome.plan;
        let current = plan
            .iter()
            .position(|stretch| (stretch.began..stretch.end()).contains(&offset) && stretch.counts);
        let current = current.filter(|_| now >= start && !is_end);
        if current == self.counting {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.counting, current);
        let end = plan.last().map_or(0, Stretch::end).min(offset);
        self.outcome.counted_ns = plan
            .iter()
            .filter(|stretch| stretch.counts)
            .map(|stretch| stretch.end().min(end).saturating_sub(stretch.began))
            .sum();
        if let (Some(meters), Some(pid)) = (&mut self.outcome.process, self.options.pid) {
            let usage = process::read(pid)?;
            if let Some(meter) = before.and_then(|at| meters.get_mut(at)) {
                meter.end(usage.clone());
            }
            if let Some(meter) = current.and_then(|at| meters.get_mut(at)) {
                meter.begin(usage);
            }
        }
        Ok(())
    }
}
