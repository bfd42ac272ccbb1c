//! `ringgate load find`: the highest rate at which an objective holds.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{Common, EXIT_USAGE, Failed, RunArgs, complain, measure, print};
use crate::load::find::{Next, Search};
use crate::load::histogram::Latencies;
use crate::load::live::{at, count};
use crate::load::report::slo::{self, Slo};
use crate::load::result::{RunResult, Step};
use crate::load::scenario::{Arrivals, Scenario};
use crate::load::schedule::RATE_MAX;

/// Latencies beyond a percentile that a try must have.
const BEYOND: f64 = 10.0;

/// Tries in a row that the generator may spoil before the search is given up: it would look for a
/// rate that suits the generator.
const SPOILT_MAX: usize = 3;

/// Options of `ringgate load find`.
#[derive(Debug, Args)]
pub(super) struct FindArgs {
    #[command(flatten)]
    run: RunArgs,
    /// What must hold, like p99=2ms or p99=2ms,p999=10ms,errors=0.001; else the scenario's own objective.
    #[arg(long)]
    slo: Option<String>,
    /// The rate to begin with, in operations per second.
    #[arg(long, default_value_t = 1000.0)]
    from: f64,
    /// The highest rate to try.
    #[arg(long, default_value_t = 1e7)]
    limit: f64,
    /// How near the rate found must be to one that does not hold; 0.05 is 5 %.
    #[arg(long, default_value_t = 0.05)]
    tolerance: f64,
}

/// Runs `ringgate load find`.
pub(super) fn run(args: &FindArgs) -> ExitCode {
    let has_rate = args.run.simple.has_rate();
    let ignored = [(
        has_rate,
        "find chooses the rates: leave --rate out, and begin with --from",
    )];
    if let Err(code) = super::refuse(&args.run.common, &ignored) {
        return code;
    }
    if !(args.from > 0.0 && args.from <= args.limit && args.limit <= RATE_MAX as f64) {
        return usage(&format!(
            "--from is above 0, and no more than --limit, which is {RATE_MAX} at most"
        ));
    }
    let (scenario, text) = match super::read(&args.run) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let slo = match args
        .slo
        .as_deref()
        .map(Slo::parse)
        .or(scenario.slo.clone().map(Ok))
    {
        Some(Ok(slo)) => slo,
        Some(Err(why)) => return usage(&why),
        None => return usage("say what must hold: --slo p99=2ms, or [slo] in the scenario"),
    };
    match search(args, &scenario, &text, &slo) {
        Ok(tries) => conclude(&tries, &slo, args),
        Err(Failed(code)) => ExitCode::from(code),
    }
}

fn usage(why: &str) -> ExitCode {
    complain(why);
    ExitCode::from(EXIT_USAGE)
}

/// One rate that was tried.
struct Try {
    rate: f64,
    held: bool,
    result: RunResult,
}

/// What the search has come to.
struct Tries {
    all: Vec<Try>,
    end: End,
}

/// How a search ends.
enum End {
    /// The highest rate that held; `None`: none did.
    Found(Option<f64>),
    /// The generator lagged at each rate.
    Spoilt,
    /// By a signal.
    Stopped,
}

fn search(args: &FindArgs, scenario: &Scenario, text: &str, slo: &Slo) -> Result<Tries, Failed> {
    let mut search = Search::new(args.from, args.tolerance, args.limit);
    let mut all = Vec::new();
    // Each try is measured alone; one file holds them all at the end.
    let common = Common {
        out: None,
        quiet: true,
        ..args.run.common.clone()
    };
    loop {
        let rate = match search.next() {
            Next::Found(found) => {
                let end = End::Found(found);
                return Ok(Tries { all, end });
            }
            Next::Try(rate) => rate,
        };
        let scenario = Arc::new(at_rate(scenario, rate, slo));
        let result = measure(&scenario, &common, text)?;
        let held = holds(&result, slo);
        search.tell(held);
        print(&line(rate, held, &result));
        if super::was_interrupted(&result) {
            all.push(Try {
                rate,
                held: false,
                result,
            });
            let end = End::Stopped;
            return Ok(Tries { all, end });
        }
        all.push(Try { rate, held, result });
        if all.len() >= SPOILT_MAX && all.iter().rev().take(SPOILT_MAX).all(is_spoilt) {
            complain(
                "the generator lags on this machine, at lower rates too: nothing can be found",
            );
            let end = End::Spoilt;
            return Ok(Tries { all, end });
        }
    }
}

fn is_spoilt(tried: &Try) -> bool {
    tried.result.validity.generator_lagged
}

/// The scenario at one rate, for long enough to know its percentiles.
fn at_rate(scenario: &Scenario, rate: f64, slo: &Slo) -> Scenario {
    let rarest = slo.limits.iter().map(|(quantile, _)| 1.0 - quantile);
    let rarest = rarest.fold(1.0, f64::min).max(1e-6);
    let needed = Duration::from_secs_f64(BEYOND / rarest / rate);
    let is_poisson = matches!(
        scenario.arrivals,
        Arrivals::Poisson { .. }
            | Arrivals::Steps {
                is_poisson: true,
                ..
            }
    );
    Scenario {
        arrivals: match is_poisson {
            true => Arrivals::Poisson { rate },
            false => Arrivals::Constant { rate },
        },
        duration: scenario.duration.max(needed),
        ..scenario.clone()
    }
}

fn outcome(result: &RunResult) -> (Latencies, f64) {
    slo::outcome(result.steps.iter().flat_map(|step| &step.groups))
}

fn holds(result: &RunResult, slo: &Slo) -> bool {
    let (response, failed) = outcome(result);
    result.validity.valid && slo.holds(&response, failed)
}

fn line(rate: f64, held: bool, result: &RunResult) -> String {
    let (response, failed) = outcome(result);
    let verdict = match (held, result.validity.valid) {
        (true, _) => "holds",
        (false, true) => "broken",
        (false, false) => "invalid",
    };
    let mut text = format!(
        "{:>10}/s  done {:>10}/s  p50 {:>9}  p99 {:>9}  p99.9 {:>9}  failed {:.3} %  {verdict}\n",
        count(rate),
        count(result.steps.iter().map(Step::achieved_rate).sum()),
        at(&response, 0.5),
        at(&response, 0.99),
        at(&response, 0.999),
        failed * 100.0,
    );
    for reason in &result.validity.reasons {
        text.push_str(&format!("{:>14}{reason}\n", ""));
    }
    text
}

/// Prints the table and writes one result with a step for each try.
fn conclude(tries: &Tries, slo: &Slo, args: &FindArgs) -> ExitCode {
    let mut by_rate: Vec<&Try> = tries.all.iter().collect();
    by_rate.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    print("\nrates tried, ascending:\n");
    for found in &by_rate {
        print(&line(found.rate, found.held, &found.result));
    }
    let code = match tries.end {
        End::Found(Some(rate)) => {
            print(&format!("\n{slo} holds up to {}/s\n", count(rate)));
            ExitCode::SUCCESS
        }
        End::Stopped => {
            print("\nstopped before anything was found\n");
            ExitCode::from(super::EXIT_INVALID)
        }
        End::Spoilt => ExitCode::from(super::EXIT_INVALID),
        End::Found(None) => {
            print(&format!("\n{slo} holds at no rate tried\n"));
            ExitCode::from(super::super::EXIT_RUNTIME)
        }
    };
    match write(&tries.all, args) {
        Ok(()) => code,
        Err(Failed(code)) => ExitCode::from(code),
    }
}

fn write(tries: &[Try], args: &FindArgs) -> Result<(), Failed> {
    let (Some(directory), Some(first)) = (&args.run.common.out, tries.first()) else {
        return Ok(());
    };
    let mut whole = first.result.clone();
    whole.steps.clear();
    whole.own_cpu_us = 0;
    let mut at = 0.0;
    for found in tries {
        whole.own_cpu_us += found.result.own_cpu_us;
        for step in &found.result.steps {
            whole.steps.push(Step {
                began_s: at,
                ..step.clone()
            });
            at += step.seconds;
        }
    }
    super::write_result(directory, &whole)
}
