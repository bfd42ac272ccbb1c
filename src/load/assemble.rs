//! From what a run has seen to the form of its result file.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::machine;
use super::process::Meter;
use super::record::{Failure, Record};
use super::result::{GroupResult, RunResult, SCHEMA, Step};
use super::run::Outcome;
use super::scenario::{Group, Scenario};
use super::validity::{is_overloaded, judge};

/// What the command line adds.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What was measured.
    pub system: String,
    /// The command line.
    pub command: Vec<String>,
    /// The scenario's text, secrets masked.
    pub scenario: String,
    /// When the run began.
    pub began: Option<SystemTime>,
}

/// Puts a result together.
pub fn assemble(scenario: &Scenario, outcome: &Outcome, about: About) -> RunResult {
    let mut steps = Vec::new();
    for (index, (stretch, records)) in outcome.plan.iter().zip(&outcome.records).enumerate() {
        let end = stretch.end().min(outcome.ended.unwrap_or(u64::MAX));
        if !stretch.counts || end <= stretch.began {
            continue;
        }
        let groups = scenario.groups.iter().zip(records);
        let completed = records.iter().map(|record| record.completed).sum();
        let meter = outcome
            .process
            .as_ref()
            .and_then(|by_step| by_step.get(index));
        steps.push(Step {
            process: meter
                .filter(|meter| meter.is_used())
                .map(|meter| meter.total(completed)),
            offered_rate: stretch.law.rate(),
            began_s: seconds(stretch.began),
            seconds: seconds(end - stretch.began),
            overloaded: is_overloaded(records),
            groups: groups
                .enumerate()
                .map(|(index, (group, record))| of(group, record, firsts(outcome, index)))
                .collect(),
        });
    }
    let completed = steps
        .iter()
        .flat_map(|step: &Step| &step.groups)
        .map(|group| group.completed)
        .sum();
    let began = about.began.unwrap_or(SystemTime::UNIX_EPOCH);
    RunResult {
        schema: SCHEMA,
        ringgate: env!("CARGO_PKG_VERSION").to_owned(),
        system: about.system,
        command: about.command,
        scenario: about.scenario,
        seed: scenario.seed,
        began_unix: began
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        machine: machine::detect(),
        cores: u32::try_from(outcome.cpu_ns.len()).unwrap_or(u32::MAX),
        validity: judge(outcome),
        steps,
        process: outcome.process.as_ref().map(|by_step| {
            let mut whole = Meter::default();
            by_step
                .iter()
                .filter(|meter| meter.is_used())
                .for_each(|meter| whole.add(meter));
            whole.total(completed)
        }),
        spin_ns: outcome.spin_ns,
        own_cpu_us: outcome.cpu_ns.iter().sum::<u64>() / 1_000,
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// The first failure of each class of a group.
fn firsts(outcome: &Outcome, group: usize) -> BTreeMap<String, String> {
    let own = outcome.firsts.iter().filter(|(of, _, _)| *of == group);
    own.map(|(_, class, why)| (class.label().to_owned(), why.clone()))
        .collect()
}

fn of(group: &Group, record: &Record, first_errors: BTreeMap<String, String>) -> GroupResult {
    let failures = Failure::ALL.iter().zip(record.failures);
    let errors: BTreeMap<String, u64> = failures
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| (class.label().to_owned(), count))
        .collect();
    GroupResult {
        name: group.name.clone(),
        protocol: group.target.protocol.label().to_owned(),
        operation: group.operation.label().to_owned(),
        connections: group.connections,
        planned: record.planned,
        sent: record.sent,
        completed: record.completed,
        completed_in_step: Some(record.in_window),
        backlog: record.backlog,
        withdrawn: record.withdrawn,
        reconnects_failed: record.reconnects_failed,
        wrong: record.wrong,
        first_errors,
        errors,
        received_bytes: record.received,
        send_lag: record.send_lag.summary(),
        own_lag: record.own_lag.summary(),
        service: record.service.summary(),
        response: record.response.summary(),
        first_byte: (record.first_byte.count() > 0).then(|| record.first_byte.summary()),
    }
}
