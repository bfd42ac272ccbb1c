//! What a person sees of a run: a line a second, and a summary at the end.

use std::fmt::Write;

use super::histogram::{Latencies, Summary};
use super::record::{Failure, Record};
use super::report::slo::Slo;
use super::result::{GroupResult, RunResult, Step};
use super::series::Tick;

/// A figure of nothing.
const NOTHING: &str = "-";

/// One interval in a line.
pub fn line(tick: &Tick) -> String {
    let total = tick.total();
    let offered = tick
        .offered_rate
        .map_or_else(String::new, |rate| format!("offered {}/s  ", count(rate)));
    let warmup = if tick.counts { "" } else { "  warm-up" };
    let rate = total.completed as f64 / tick.seconds;
    format!(
        "{:>6.0} s  {offered}done {}/s  p50 {}  p99 {}  p99.9 {}  lag {}  errors {}{warmup}",
        tick.began_s + tick.seconds,
        count(rate),
        at(&total.response, 0.5),
        at(&total.response, 0.99),
        at(&total.response, 0.999),
        at(&total.send_lag, 0.99),
        errors(&total),
    )
}

/// A percentile with its unit; of nothing there is none.
pub fn at(latencies: &Latencies, quantile: f64) -> String {
    match latencies.count() {
        0 => NOTHING.to_owned(),
        _ => duration(latencies.quantile(quantile)),
    }
}

fn errors(record: &Record) -> String {
    let failures = Failure::ALL.iter().zip(record.failures);
    let named: Vec<String> = failures
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| format!("{} {count}", class.label()))
        .chain((record.wrong > 0).then(|| format!("wrong {}", record.wrong)))
        .collect();
    match named.is_empty() {
        true => "0".to_owned(),
        false => named.join(", "),
    }
}

/// A whole result: one line for each step and group, the lowest rate first, then whether the objective held and
/// what speaks against the run.
pub fn summary(result: &RunResult, slo: Option<&Slo>) -> String {
    let mut out = format!(
        "{:<16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}\n",
        "group", "offered/s", "done/s", "p50", "p99", "p99.9", "max", "send lag", "errors"
    );
    let mut steps: Vec<&Step> = result.steps.iter().collect();
    let rate = |step: &Step| step.offered_rate.unwrap_or_default();
    steps.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    for step in &steps {
        for group in &step.groups {
            let failed: u64 = group.errors.values().sum::<u64>() + group.wrong;
            // Its own part of what the step offers.
            let offered = step.offered_rate.map_or_else(
                || "-".to_owned(),
                |_| count(group.planned as f64 / step.seconds),
            );
            // Writing to memory does not fail.
            let _ = writeln!(
                out,
                "{:<16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}",
                group.name,
                offered,
                count(group.rate(step.seconds)),
                of(&group.response, |summary| summary.p50_ns),
                of(&group.response, |summary| summary.p99_ns),
                of(&group.response, |summary| summary.p999_ns),
                of(&group.response, |summary| summary.max_ns),
                of(&group.send_lag, |summary| summary.p99_ns),
                failed,
            );
            out.push_str(&classes(group));
            if group.backlog > 0 {
                let _ = writeln!(
                    out,
                    "                 backlog at the end: {} operations waited for a connection, {} were taken back",
                    group.backlog, group.withdrawn
                );
            }
        }
    }
    if let Some(slo) = slo.filter(|_| !result.validity.ended_early) {
        out.push_str(&objective(&steps, slo));
    }
    let completed = result.completed();
    let cpu = |micros: f64| match completed {
        0 => "no operation to share its CPU time".to_owned(),
        _ => format!("{micros:.2} µs of CPU an operation"),
    };
    if let Some(process) = &result.process {
        let used = cpu(process.cpu_us_per_operation);
        let _ = writeln!(
            out,
            "{}: {used}, {} KiB resident",
            process.name, process.rss_kib
        );
    }
    let own = cpu(result.own_cpu_us as f64 / completed.max(1) as f64);
    let _ = writeln!(out, "generator: {own}; seed {}", result.seed);
    for reason in &result.validity.reasons {
        let _ = writeln!(out, "INVALID: {reason}");
    }
    out
}

/// A latency of a summary with its unit; of nothing there is none.
fn of(summary: &Summary, value: impl Fn(&Summary) -> u64) -> String {
    match summary.count {
        0 => NOTHING.to_owned(),
        _ => duration(value(summary)),
    }
}

/// Where the objective held and where it did not.
fn objective(steps: &[&Step], slo: &Slo) -> String {
    let (held, broken): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| slo.kept_in(step));
    let at = |steps: &[&Step]| {
        let rates = steps.iter().filter_map(|step| step.offered_rate);
        let rates: Vec<String> = rates.map(|rate| format!("{}/s", count(rate))).collect();
        match rates.is_empty() {
            true => String::new(),
            false => format!(" at {}", rates.join(", ")),
        }
    };
    let part =
        |word: &str, steps: &[&Step]| (!steps.is_empty()).then(|| format!("{word}{}", at(steps)));
    let parts = [part("broken", &broken), part("held", &held)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("objective {slo}: {}\n", parts.join("; "))
}

fn classes(group: &GroupResult) -> String {
    let named = group.errors.iter().map(|(class, n)| format!("{class} {n}"));
    let wrong = (group.wrong > 0).then(|| format!("wrong answers {}", group.wrong));
    let lost = (group.reconnects_failed > 0)
        .then(|| format!("reconnects that failed {}", group.reconnects_failed));
    let all: Vec<String> = named.chain(wrong).chain(lost).collect();
    if all.is_empty() {
        return String::new();
    }
    let mut out = format!("                 failures: {}\n", all.join(", "));
    for (class, why) in &group.first_errors {
        let _ = writeln!(out, "                 the first `{class}`: {why}");
    }
    out
}

/// A latency with its unit, in three digits or so.
pub fn duration(nanos: u64) -> String {
    let micros = nanos as f64 / 1e3;
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        ..1e4 => format!("{:.2} ms", micros / 1e3),
        ..1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// A rate, rounded.
pub fn count(rate: f64) -> String {
    match rate {
        ..100.0 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_units_that_people_read() {
        for (nanos, expect) in [
            (1_499, "1 µs"),
            (999_000, "999 µs"),
            (1_234_567, "1.23 ms"),
            (12_345_678, "12.3 ms"),
            (2_500_000_000, "2.50 s"),
        ] {
            assert_eq!(duration(nanos), expect);
        }
    }
}
