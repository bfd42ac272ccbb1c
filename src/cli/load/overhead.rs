//! `ringgate load overhead`: what the way through something adds to the direct way.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{Common, EXIT_USAGE, Failed, RunArgs, complain, measure, print};
use crate::load::histogram::Latencies;
use crate::load::live::duration;
use crate::load::overhead::{Difference, Way, compare, order};
use crate::load::result::RunResult;
use crate::load::scenario::Scenario;
use crate::load::target;

/// Options of `ringgate load overhead`.
#[derive(Debug, Args)]
pub(super) struct OverheadArgs {
    /// The server itself.
    #[arg(long, value_name = "URL")]
    direct: String,
    /// The same server through what is under test.
    #[arg(long, value_name = "URL")]
    via: String,
    /// Pairs of blocks.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs `ringgate load overhead`.
pub(super) fn run(args: &OverheadArgs) -> ExitCode {
    let has_target = args.run.simple.has_target();
    let ignored = [(
        has_target,
        "overhead has two targets, --direct and --via: leave --target out",
    )];
    if let Err(code) = super::refuse(&args.run.common, &ignored) {
        return code;
    }
    let mut run = args.run.clone();
    // The flags' own target; both ways replace it.
    run.simple.target_is(&args.direct);
    let (scenario, text) = match super::read(&run) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let ways = [&args.direct, &args.via].map(|url| towards(&scenario, url));
    let [direct, via] = match ways {
        [Ok(direct), Ok(via)] => [direct, via],
        [Err(why), _] | [_, Err(why)] => {
            complain(&why);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match blocks(args, &Arc::new(direct), &Arc::new(via), &text) {
        Ok(code) => code,
        Err(Failed(code)) => ExitCode::from(code),
    }
}

fn towards(scenario: &Scenario, url: &str) -> Result<Scenario, String> {
    let mut scenario = scenario.clone();
    for group in &mut scenario.groups {
        let name = group.target.name.clone();
        group.target = target::parse(&name, url, None).map_err(|error| error.to_string())?;
    }
    Ok(scenario)
}

#[derive(Default)]
struct Side {
    blocks: Vec<Latencies>,
    cpu_us: Vec<f64>,
    invalid: Vec<String>,
}

impl Side {
    fn add(&mut self, result: &RunResult) {
        let mut all = Latencies::new();
        for group in result.steps.iter().flat_map(|step| &step.groups) {
            // Made by this very process.
            if let Ok(latencies) = group.response.latencies() {
                all.merge(&latencies);
            }
        }
        self.blocks.push(all);
        if let Some(process) = &result.process {
            self.cpu_us.push(process.cpu_us_per_operation);
        }
        self.invalid.extend(result.validity.reasons.iter().cloned());
    }
}

fn blocks(
    args: &OverheadArgs,
    direct: &Arc<Scenario>,
    via: &Arc<Scenario>,
    text: &str,
) -> Result<ExitCode, Failed> {
    let (mut plain, mut detour) = (Side::default(), Side::default());
    for (index, way) in order(args.pairs.max(1)).into_iter().enumerate() {
        let (scenario, side, name) = match way {
            Way::Direct => (direct, &mut plain, "direct"),
            Way::Via => (via, &mut detour, "via"),
        };
        let common = Common {
            out: args.run.common.out.as_ref().map(|directory| {
                let number = side.blocks.len() + 1;
                directory.join(name).join(number.to_string())
            }),
            system: match way {
                Way::Direct => name.to_owned(),
                Way::Via => args.run.common.system.clone(),
            },
            pid: args.run.common.pid.filter(|_| way == Way::Via),
            quiet: true,
            ..args.run.common.clone()
        };
        let result = measure(scenario, &common, text)?;
        side.add(&result);
        let median = side.blocks.last().map_or(0, |block| block.quantile(0.5));
        print(&format!(
            "block {:>2} {name:<6} p50 {}\n",
            index + 1,
            duration(median)
        ));
        if super::was_interrupted(&result) {
            break;
        }
    }
    Ok(conclude(&plain, &detour, direct.seed))
}

fn conclude(plain: &Side, detour: &Side, seed: u64) -> ExitCode {
    print("\n              direct        via      added  (95 % interval)\n");
    let rows = compare(&plain.blocks, &detour.blocks, seed);
    for row in &rows {
        print(&show(row));
    }
    if rows.iter().any(|row| row.via < row.direct) {
        print(
            "a detour is never quicker than the direct way: where less than nothing is added, that is noise\n",
        );
    }
    if let Some(cpu) = crate::load::report::statistics::median(&detour.cpu_us) {
        print(&format!(
            "CPU of the process under test: {cpu:.2} µs an operation (median of blocks)\n"
        ));
    }
    let invalid = plain.invalid.iter().chain(&detour.invalid);
    let mut reasons: Vec<&String> = invalid.collect();
    reasons.dedup();
    for reason in &reasons {
        print(&format!("INVALID: {reason}\n"));
    }
    match reasons.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(super::EXIT_INVALID),
    }
}

fn show(row: &Difference) -> String {
    let signed = |nanos: f64| {
        let sign = if nanos < 0.0 { "-" } else { "+" };
        // A length of time on this machine is far below 2^63 nanoseconds.
        format!("{sign}{}", duration(nanos.abs() as u64))
    };
    let interval = row.interval.map_or_else(String::new, |interval| {
        format!("  ({} to {})", signed(interval.low), signed(interval.high))
    });
    format!(
        "{:>6} {:>13} {:>10} {:>10}{interval}\n",
        row.name,
        duration(row.direct as u64),
        duration(row.via as u64),
        signed(row.via - row.direct),
    )
}
