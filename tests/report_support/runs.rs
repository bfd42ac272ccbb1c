//! Synthetic runs: the results that a well-behaved system of known latencies would leave.

use std::collections::BTreeMap;
use std::path::Path;

use ringgate::load::histogram::Latencies;
use ringgate::load::result::{
    FILE_NAME, GroupResult, Machine, ProcessUse, RunResult, SCHEMA, Step, Validity,
};

/// A system to make runs of.
#[derive(Clone, Debug)]
pub struct System {
    pub name: &'static str,
    /// The median response of an idle system, in nanoseconds.
    pub median_ns: f64,
    /// The rate at which it is saturated.
    pub capacity: f64,
    /// CPU time by operation in microseconds; 0 when the process was not watched.
    pub cpu_us: f64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
}

pub const DIRECT: System = System {
    name: "direct",
    median_ns: 60_000.0,
    capacity: 95_000.0,
    cpu_us: 0.0,
    rss_kib: 0,
};
pub const RINGGATE: System = System {
    name: "ringgate",
    median_ns: 85_000.0,
    capacity: 82_000.0,
    cpu_us: 14.5,
    rss_kib: 9_000,
};
pub const HAPROXY: System = System {
    name: "haproxy",
    median_ns: 110_000.0,
    capacity: 52_000.0,
    cpu_us: 20.0,
    rss_kib: 16_000,
};

pub const RATES: &[f64] = &[5_000.0, 10_000.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0];

pub const SCENARIO: &str = "duration = \"10s\"
";

/// Latencies per step: p99.9 has ten beyond it from 10,000 on.
const COUNT: u32 = 12_000;

/// One run of `system` at `rates`; `factor` stretches its latencies and its use of the machine.
pub fn run(system: &System, rates: &[f64], factor: f64, seed: u64) -> RunResult {
    let steps = rates.iter().enumerate().map(|(index, rate)| Step {
        process: None,
        offered_rate: Some(*rate),
        began_s: 10.0 * index as f64,
        seconds: 10.0,
        overloaded: false,
        groups: vec![group(system, *rate, factor)],
    });
    RunResult {
        schema: SCHEMA,
        ringgate: "0.1.0".to_owned(),
        system: system.name.to_owned(),
        command: [
            "ringgate",
            "load",
            "run",
            "point select.toml",
            "--system",
            system.name,
        ]
        .map(str::to_owned)
        .to_vec(),
        scenario: SCENARIO.to_owned(),
        seed,
        began_unix: 1_795_000_000 + seed * 600,
        machine: machine(),
        cores: 2,
        validity: Validity {
            valid: true,
            ..Validity::default()
        },
        steps: steps.collect(),
        process: (system.cpu_us > 0.0).then(|| process(system, factor)),
        own_cpu_us: 14_000_000,
        spin_ns: 50_000,
    }
}

/// A run that only holds `connections`.
pub fn hold(system: &System, connections: u32, seed: u64) -> RunResult {
    let mut run = run(system, &RATES[..1], 1.0, seed);
    for step in &mut run.steps {
        step.offered_rate = None;
        for group in &mut step.groups {
            group.operation = "hold".to_owned();
            group.connections = connections;
        }
    }
    if let Some(process) = &mut run.process {
        process.rss_kib = system.rss_kib + u64::from(connections) * 2;
    }
    run
}

pub fn machine() -> Machine {
    let settings = [
        ("clock source", "tsc"),
        ("congestion control", "cubic"),
        ("governor", "performance"),
    ];
    Machine {
        cpu: "Example CPU 3000".to_owned(),
        cpus: 2,
        memory_kib: 24 * 1024 * 1024,
        kernel: "6.18.0".to_owned(),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn process(system: &System, factor: f64) -> ProcessUse {
    let cpu = system.cpu_us * factor;
    ProcessUse {
        name: system.name.to_owned(),
        user_us: (cpu * 20_000.0) as u64,
        system_us: (cpu * 80_000.0) as u64,
        cpu_us: (cpu * 100_000.0) as u64,
        rss_kib: (system.rss_kib as f64 * factor) as u64,
        cpu_us_per_operation: cpu,
    }
}

fn group(system: &System, rate: f64, factor: f64) -> GroupResult {
    let planned = (rate * 10.0) as u64;
    let completed = planned.min((system.capacity * 10.0) as u64);
    let late = planned - completed;
    let service = latencies(system.median_ns * factor);
    let lag = latencies(2_000.0);
    GroupResult {
        name: "point-select".to_owned(),
        protocol: "mysql".to_owned(),
        operation: "prepared".to_owned(),
        connections: 64,
        planned,
        sent: planned,
        completed,
        completed_in_step: Some(completed),
        backlog: late,
        withdrawn: 0,
        reconnects_failed: 0,
        wrong: 0,
        errors: (late > 0)
            .then(|| ("timeout".to_owned(), late))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        first_errors: BTreeMap::new(),
        received_bytes: completed * 80,
        send_lag: lag.summary(),
        own_lag: lag.summary(),
        service: service.summary(),
        response: latencies(system.median_ns * factor * queueing(rate / system.capacity)).summary(),
        first_byte: None,
    }
}

/// How much longer requests take in a system that is this full.
fn queueing(load: f64) -> f64 {
    if load < 0.99 {
        1.0 + load.powi(3) / (1.0 - load) * 2.0
    } else {
        400.0
    }
}

/// Latencies with this median: the quantiles of a log-logistic law, whose tail is heavy.
fn latencies(median: f64) -> Latencies {
    let mut latencies = Latencies::new();
    for index in 0..COUNT {
        let quantile = (f64::from(index) + 0.5) / f64::from(COUNT);
        latencies.record((median * (quantile / (1.0 - quantile)).powf(0.28)) as u64);
    }
    latencies
}

/// Writes a run as `folder/name/result.json`.
pub fn write(folder: &Path, name: &str, run: &RunResult) {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join(FILE_NAME),
        serde_json::to_string_pretty(run).unwrap(),
    )
    .unwrap();
}

/// Writes `count` runs that differ a little, all stretched by `factor`.
pub fn write_runs(folder: &Path, system: &System, count: u64, factor: f64) {
    for index in 0..count {
        // Within 2 % of each other, in no order.
        let own = 1.0 + 0.02 * ((index * 7 % 5) as f64 / 4.0 - 0.5);
        write(
            folder,
            &format!("run-{index}"),
            &run(system, RATES, factor * own, index + 1),
        );
    }
}
