//! The parts of a page without figures: whether to believe it, where and how it was measured, how to
//! do it again.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use maud::{Markup, html};

use crate::load::histogram::Latencies;
use crate::load::result::Machine;
use crate::telemetry::log::Utc;

use super::input::{Point, Run, RunSet};
use super::page::Page;
use super::{statistics, units};

/// Systems, runs and days in a line.
pub(super) fn subtitle(sets: &[RunSet]) -> String {
    let systems: Vec<String> = sets
        .iter()
        .map(|set| match set.runs.len() {
            1 => format!("{} (1 run)", set.system),
            runs => format!("{} ({runs} runs)", set.system),
        })
        .collect();
    let began = || {
        sets.iter()
            .flat_map(|set| &set.runs)
            .map(|run| run.result.began_unix)
    };
    let (first, last) = (began().min().unwrap_or(0), began().max().unwrap_or(0));
    let days = match (day(first), day(last)) {
        (first, last) if first == last => first,
        (first, last) => format!("{first} to {last}"),
    };
    format!("{days} · {}", systems.join(", "))
}

fn day(unix: u64) -> String {
    Utc(unix * 1000).to_string().chars().take(10).collect()
}

fn minute(unix: u64) -> String {
    let text: String = Utc(unix * 1000).to_string().chars().take(16).collect();
    text.replace('T', " ") + " UTC"
}

/// What is wrong with the runs, as loudly as it deserves; nothing when all are valid.
pub(super) fn alarm(sets: &[RunSet]) -> Markup {
    let invalid: Vec<(&RunSet, usize)> = sets
        .iter()
        .map(|set| {
            (
                set,
                set.runs
                    .iter()
                    .filter(|run| !run.result.validity.valid)
                    .count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    html! {
        @if !invalid.is_empty() {
            div.alarm role="alert" {
                strong { "INVALID RUNS. " }
                "The generator did not do what was planned, so some figures say more of it than of the system:"
                ul { @for (set, count) in invalid { li {
                    strong { (set.system) } ": " (count) " of " (set.runs.len()) " runs. "
                    @if set.all_invalid() {
                        "No run of that kind is valid, so they are drawn all the same. Do not quote them."
                    } @else {
                        "They are left out of every figure."
                    }
                } } }
                a href="#validity" { "Why" }
            }
        }
    }
}

/// One row for each run: did the generator do what was planned?
pub(super) fn validity(sets: &[RunSet]) -> Markup {
    html! {
        section #validity {
            h2 { "Validity" }
            p { "A run is invalid when the generator sent late by its own fault, did not send what was planned, or had no CPU to spare: then it measured itself. Lags are those of the worst step." }
            div.wide { table {
                thead { tr {
                    th { "system" } th { "run" } th { "began" } th.n { "seed" } th.n { "sent / planned" }
                    th.n { "own lag p99" } th.n { "failed, worst step" } th.n { "generator CPU" } th { "valid" }
                } }
                tbody { @for set in sets { @for run in &set.runs { (validity_row(run)) } } }
            } }
        }
    }
}

fn validity_row(run: &Run) -> Markup {
    let total = |count: &dyn Fn(&Point) -> u64| run.points.iter().map(count).sum::<u64>();
    let (planned, sent) = (total(&|p| p.planned), total(&|p| p.sent));
    let worst = |lag: &dyn Fn(&Point) -> &Latencies| {
        let lags = run.points.iter().map(|point| lag(point).quantile(0.99));
        units::duration(lags.max().unwrap_or(0) as f64)
    };
    let failed = run
        .points
        .iter()
        .map(Point::failed_share)
        .fold(0.0, f64::max);
    let share = |part: u64, whole: u64| match whole {
        0 => "–".to_owned(),
        whole => units::percent(part as f64 / whole as f64, 2),
    };
    html! {
        tr {
            td { (run.result.system) }
            td.whole { code { (run_name(run)) } }
            td.whole { (minute(run.result.began_unix)) }
            td.n { (run.result.seed) }
            td.n { (share(sent, planned)) }
            td.n { (worst(&|point| &point.own_lag)) small { "send lag " (worst(&|point| &point.send_lag)) } }
            td.n { (units::percent(failed, 3)) @if let Some(words) = errors(run) { small { (words) } } }
            td.n { (generator_cpu(run)) }
            td { @if run.result.validity.valid { span.good { "valid" } } @else { span.bad { "INVALID" } } }
        }
        @for reason in &run.result.validity.reasons {
            tr { td {} td colspan="8" { span.bad { "Invalid: " } (reason) } }
        }
    }
}

/// Failures by class in words.
fn errors(run: &Run) -> Option<String> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (class, count) in run.points.iter().flat_map(|point| &point.errors) {
        *sums.entry(class).or_default() += count;
    }
    let mut words = String::new();
    for (class, count) in sums.into_iter().filter(|(_, count)| *count > 0) {
        let _infallible = write!(words, "{class} {}, ", units::thousands(count));
    }
    let wrong: u64 = run.points.iter().map(|point| point.wrong).sum();
    if wrong > 0 {
        let _infallible = write!(words, "wrong answers {}, ", units::thousands(wrong));
    }
    words.strip_suffix(", ").map(str::to_owned)
}

fn generator_cpu(run: &Run) -> String {
    let seconds: f64 = run.result.steps.iter().map(|step| step.seconds).sum();
    let available = seconds * 1e6 * f64::from(run.result.cores);
    match available > 0.0 {
        true => units::percent(run.result.own_cpu_us as f64 / available, 0),
        false => "–".to_owned(),
    }
}

/// The last part of a run's directory.
fn run_name(run: &Run) -> String {
    let name = run.path.file_name().unwrap_or(run.path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Each machine once.
pub(super) fn machines(sets: &[RunSet]) -> Markup {
    let mut machines: Vec<(&Machine, Vec<&str>)> = Vec::new();
    for run in sets.iter().flat_map(|set| &set.runs) {
        let system = run.result.system.as_str();
        match machines
            .iter_mut()
            .find(|(machine, _)| **machine == run.result.machine)
        {
            Some((_, systems)) if systems.contains(&system) => {}
            Some((_, systems)) => systems.push(system),
            None => machines.push((&run.result.machine, vec![system])),
        }
    }
    let several = machines.len() > 1;
    html! {
        section #machine {
            h2 { "Machine" }
            @if several {
                p.bad { "The runs are of different machines, or of one whose settings changed: their figures do not compare." }
            }
            @for (machine, systems) in machines {
                @if several { h3 { (systems.join(", ")) } }
                dl {
                    dt { "CPU" } dd { (machine.cpu) ", " (machine.cpus) " for the generator" }
                    dt { "memory" } dd { (units::memory(machine.memory_kib as f64)) }
                    dt { "system" } dd { (machine.os) ", kernel " (machine.kernel) }
                    @for (name, value) in &machine.settings { dt { (name) } dd { (value) } }
                }
            }
        }
    }
}

/// The commands, each once, and the scenarios.
pub(super) fn reproduce(sets: &[RunSet], command: &[String]) -> Markup {
    let mut scenarios: Vec<&str> = sets
        .iter()
        .flat_map(|set| &set.runs)
        .map(|run| run.result.scenario.as_str())
        .collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let mut versions: Vec<&str> = sets
        .iter()
        .flat_map(|set| &set.runs)
        .map(|run| run.result.ringgate.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    html! {
        section #reproduce {
            h2 { "Reproduce" }
            p { "With ringgate " (versions.join(", ")) ". The seed decides arrivals, keys and the order of steps." }
            @for set in sets {
                h3 { (set.system) }
                pre { (commands(set)) }
            }
            h3 { "This page" }
            pre { (shell_line(command)) }
            @for scenario in scenarios.iter().filter(|scenario| !scenario.trim().is_empty()) {
                details { summary { "Scenario" } pre { (scenario) } }
            }
        }
    }
}

fn commands(set: &RunSet) -> String {
    let lines = set.runs.iter().map(|run| {
        format!(
            "{}  # seed {}\n",
            shell_line(&run.result.command),
            run.result.seed
        )
    });
    let mut out = String::new();
    for line in lines {
        if !out.contains(&line) {
            out.push_str(&line);
        }
    }
    out
}

/// A command as a shell would read it.
fn shell_line(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// How it was measured and what it cannot say.
pub(super) fn method(page: &Page<'_>) -> Markup {
    let confidence = units::percent(statistics::CONFIDENCE, 0);
    html! {
        section #method {
            h2 { "Method and limits" }
            ul {
                li { "A clock decides when a request is to begin; replies do not (" em { "open loop" } "). A system that stalls cannot hold back the requests that would have felt it (" em { "coordinated omission" } "). Steps without an offered rate are a closed loop and say so." }
                li { "Three latencies are kept for each request: " em { "send lag" } " from the intended to the actual start, " em { "service" } " from the actual start to the last byte, " em { "response" } " from the intended start to the last byte. The part of the send lag in which a connection was free is the generator's own. Unless said otherwise a latency here is the response, and nothing was corrected afterwards." }
                li { "A request that timed out counts with the time it waited, and as failed." }
                li { "Histograms keep three digits from a nanosecond to ten minutes. Warm-up is left out." }
                li { "A value that counts is that of one run; requests of one run are no independent samples. Lines are medians of runs. "
                    "Intervals are of " (confidence) " confidence by bootstrap over runs (" (units::thousands(statistics::RESAMPLES as u64)) " draws, seed " (page.request.seed) "), widened for few runs." }
                li { "A percentile is left out where fewer than ten latencies of a run lie beyond it." }
            }
            h3 { "Limits" }
            ul {
                li { "The figures hold for this machine, this scenario and these versions. Ratios travel better than numbers." }
                li { "Where generator, system and database share a machine, they take CPU from each other, and packets never leave it." }
                li { "Rates between the ones tried were not tried: a knee lies between the last rate that kept the objective and the next." }
            }
        }
    }
}

/// Every result, to take away.
pub(super) fn data(sets: &[RunSet]) -> Markup {
    html! {
        section #data {
            h2 { "Data" }
            p { "The result of each run, whole histograms included, is in this page:" }
            ul { @for set in sets { @for run in &set.runs {
                li { a download={ (set.system) "-" (run_name(run)) "-result.json" } href={ "data:application/json;base64," (BASE64.encode(&run.text)) } {
                    (set.system) " " (run_name(run))
                } }
            } } }
        }
    }
}
