//! `ringgate load`: makes load, measures, reports.

mod find;
mod flags;
mod overhead;
mod serve;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::{EXIT_CONFIG, EXIT_RUNTIME, EXIT_USAGE};
use crate::load::assemble::{About, assemble};
use crate::load::files::{Files, WriteError};
use crate::load::histogram::Latencies;
use crate::load::live;
use crate::load::pacer::Spin;
use crate::load::report::slo::Slo;
use crate::load::result::{FILE_NAME, RunResult};
use crate::load::run::{self, Outcome, RunError, RunOptions};
use crate::load::scenario::Scenario;
use crate::load::validity::STOPPED;
use watch::Watch;

/// A run whose generator lagged: its figures are of the generator.
pub const EXIT_INVALID: u8 = 3;
/// A valid run that broke its objective.
pub const EXIT_BROKEN: u8 = 4;

/// The arguments of `ringgate load`: those of a run, or a subcommand.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct LoadArgs {
    #[command(subcommand)]
    command: Option<LoadCommand>,
    #[command(flatten)]
    run: RunArgs,
    /// What must hold, like p99=2ms or p99=2ms,p999=10ms,errors=0.001, in every step: exit code 4 if it does not.
    #[arg(long)]
    slo: Option<String>,
}

/// What to run, and how.
#[derive(Clone, Debug, Args)]
struct RunArgs {
    /// The scenario; without it, the flags below make one.
    #[arg(value_name = "SCENARIO.toml")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    simple: flags::Simple,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum LoadCommand {
    /// Find the highest rate at which an objective holds; print latency by throughput.
    Find(find::FindArgs),
    /// Compare the way through something with the direct way, in alternating blocks.
    Overhead(overhead::OverheadArgs),
    /// Serve one fixed answer at once, or after a drawn time: an upstream that is never what limits
    /// a run.
    Serve(serve::ServeArgs),
}

/// Options of every kind of run.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Directory for result.json, latency.hlog, latency.hgrm and series.ndjson.
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The whole result as one JSON object into this file, or for - to standard output in place of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace the run that --out holds already.
    #[arg(long, requires = "out")]
    force: bool,
    /// What is measured, in one word for legends.
    #[arg(long, value_name = "NAME", default_value = "target")]
    system: String,
    /// The process under test: its CPU time and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// CPUs of the generator's cores, like 1 or 0-3,8; the last ones allowed unless told otherwise.
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// The end of a wait for an arrival that is spent turning the ring and not asleep, like 300us, or auto: a
    /// quarter longer than this machine wakes late, 1ms at most.
    #[arg(long, value_name = "LENGTH", default_value = "auto", value_parser = parse_spin)]
    spin: Spin,
    /// Compare answers with what the scenario expects.
    #[arg(long)]
    verify: bool,
    /// Seed of arrivals and keys; printed with the result.
    #[arg(long)]
    seed: Option<u64>,
    /// Count logins that are refused and go on; without it the first one ends the run.
    #[arg(long)]
    count_refusals: bool,
    /// Print nothing while the run goes on.
    #[arg(short, long)]
    quiet: bool,
    /// Print a line a second on a terminal too, instead of the live view.
    #[arg(long)]
    plain: bool,
}

/// Runs `ringgate load`.
pub(super) fn run(args: LoadArgs) -> ExitCode {
    match args.command {
        Some(LoadCommand::Find(arguments)) => find::run(&arguments),
        Some(LoadCommand::Overhead(arguments)) => overhead::run(&arguments),
        Some(LoadCommand::Serve(arguments)) => serve::run(arguments),
        None => run_once(&args.run, args.slo.as_deref()),
    }
}

fn run_once(args: &RunArgs, slo: Option<&str>) -> ExitCode {
    let asked = match slo.map(Slo::parse).transpose() {
        Ok(asked) => asked,
        Err(why) => return usage(why),
    };
    let (mut scenario, text) = match read(args) {
        Ok(read) => read,
        Err(code) => return code,
    };
    // What cannot be written is said before the run and not after it.
    if let Some(file) = args
        .common
        .json
        .as_deref()
        .filter(|file| *file != Path::new("-"))
        && let Err(error) = std::fs::File::create(file)
    {
        complain(&format!("{}: {error}", file.display()));
        return ExitCode::from(EXIT_RUNTIME);
    }
    let is_asked = asked.is_some();
    scenario.slo = asked.or(scenario.slo);
    let objective = scenario.slo.clone();
    match measure(&Arc::new(scenario), &args.common, &text) {
        Ok(result) => {
            let is_told = match args.common.json.as_deref() {
                Some(file) => write_json(file, &result),
                None => Ok(false),
            };
            match is_told {
                Ok(true) => {}
                Ok(false) => print(&live::summary(&result, objective.as_ref())),
                Err(Failed(code)) => {
                    print(&live::summary(&result, objective.as_ref()));
                    return ExitCode::from(code);
                }
            }
            let holds = |slo: &Slo| result.steps.iter().all(|step| slo.kept_in(step));
            match objective.filter(|_| is_asked) {
                _ if !result.validity.valid => ExitCode::from(EXIT_INVALID),
                Some(slo) if !holds(&slo) => ExitCode::from(EXIT_BROKEN),
                _ => ExitCode::SUCCESS,
            }
        }
        Err(Failed(code)) => ExitCode::from(code),
    }
}

fn read(args: &RunArgs) -> Result<(Scenario, String), ExitCode> {
    let seed = args.common.seed.unwrap_or_else(new_seed);
    let (mut scenario, text) = match &args.scenario {
        Some(path) => {
            let read = crate::load::scenario_file::load(path, seed);
            let (mut scenario, text) = read.map_err(|errors| super::check::refuse(&errors))?;
            args.simple.replace(&mut scenario).map_err(usage)?;
            (scenario, text)
        }
        None => args.simple.scenario(seed).map_err(usage)?,
    };
    if let Some(seed) = args.common.seed {
        scenario.seed = seed;
    }
    scenario.verify |= args.common.verify;
    Ok((scenario, text))
}

fn usage(why: String) -> ExitCode {
    complain(&why);
    ExitCode::from(EXIT_USAGE)
}

fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
}

/// An exit code; what was wrong has been said.
pub(super) struct Failed(pub(super) u8);

/// Runs a scenario and writes its files.
pub(super) fn measure(
    scenario: &Arc<Scenario>,
    common: &Common,
    text: &str,
) -> Result<RunResult, Failed> {
    let fail = |code: u8, why: &dyn std::fmt::Display| {
        complain(&why.to_string());
        Failed(code)
    };
    let cpus = cpus(common).map_err(|why| fail(EXIT_USAGE, &why))?;
    is_free(common)?;
    let began = SystemTime::now();
    let stop = stop_on_signals().map_err(|error| fail(EXIT_RUNTIME, &error))?;
    let mut watch = Watch::open(scenario, common, &cpus, began, &stop)
        .map_err(|error| fail(EXIT_RUNTIME, &error))?;
    let options = RunOptions {
        cpus,
        spin: common.spin,
        counts_refusals: common.count_refusals,
        pid: common.pid,
        stop,
        watch: &mut |progress| watch.take(progress),
    };
    let outcome = run::run(scenario, options);
    let (view, files) = watch.end();
    let about = About {
        system: common.system.clone(),
        command: std::env::args()
            .map(|a| crate::load::target::mask(&a))
            .collect(),
        scenario: text.to_owned(),
        began: Some(began),
    };
    let result = outcome.map(|outcome| conclude(scenario, &outcome, about, files));
    // After everything is written, for a terminal may keep one waiting; before anything is said.
    drop(view);
    match result {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(fail(EXIT_RUNTIME, &error)),
        Err(error @ RunError::Resolve { .. }) => Err(fail(EXIT_CONFIG, &error)),
        Err(error @ RunError::Stopped) => Err(fail(EXIT_INVALID, &error)),
        Err(error) => Err(fail(EXIT_RUNTIME, &error)),
    }
}

/// Judges a run and writes what is written at its end.
fn conclude(
    scenario: &Scenario,
    outcome: &Outcome,
    about: About,
    files: Result<Option<Files>, WriteError>,
) -> Result<RunResult, WriteError> {
    let files = files?;
    let result = assemble(scenario, outcome, about);
    if let Some(files) = files {
        files.finish(&result, &response(outcome))?;
    }
    Ok(result)
}

/// Whether the directory for files may be written to.
fn is_free(common: &Common) -> Result<(), Failed> {
    let Some(directory) = common.out.as_deref().filter(|_| !common.force) else {
        return Ok(());
    };
    // `overhead` has its runs below these.
    let held = [FILE_NAME, "direct", "via"].map(|name| directory.join(name));
    let Some(held) = held.iter().find(|path| path.exists()) else {
        return Ok(());
    };
    complain(&format!(
        "{} is there already: name another directory, or replace the run with --force",
        held.display()
    ));
    Err(Failed(EXIT_USAGE))
}

/// Refuses what a subcommand of several runs would ignore, each option with what to do, and a directory that holds
/// a run.
fn refuse(common: &Common, ignored: &[(bool, &str)]) -> Result<(), ExitCode> {
    let of_one_run = [
        (
            common.json.is_some(),
            "--json is for a single run: take --out",
        ),
        (
            common.plain || common.quiet,
            "each run has its line: leave --plain and --quiet out",
        ),
    ];
    let mut options = of_one_run.iter().chain(ignored);
    match options.find(|(is_given, _)| *is_given) {
        Some((_, why)) => Err(usage((*why).to_owned())),
        None => is_free(common).map_err(|Failed(code)| ExitCode::from(code)),
    }
}

fn cpus(common: &Common) -> Result<Vec<usize>, String> {
    let Some(list) = &common.cpus else {
        return Ok(Vec::new());
    };
    let cpus = crate::config::units::parse_cpus(list)?;
    Ok(cpus.into_iter().map(usize::from).collect())
}

/// `auto`, or a length of time from 0us to 10ms.
fn parse_spin(text: &str) -> Result<Spin, String> {
    const MAX: f64 = 10e6;
    let nanos = crate::load::report::slo::parse_nanos(text).filter(|nanos| *nanos <= MAX);
    match (text, nanos) {
        ("auto", _) => Ok(Spin::Measured),
        ("0us" | "0ms", _) => Ok(Spin::Fixed(Duration::ZERO)),
        (_, Some(nanos)) => Ok(Spin::Fixed(Duration::from_secs_f64(nanos / 1e9))),
        (_, None) => {
            Err("write \"auto\", or a length of time up to 10ms, like \"300us\"".to_owned())
        }
    }
}

/// A flag that SIGINT and SIGTERM set: the run ends, its results are written all the same.
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// All response times that count.
fn response(outcome: &Outcome) -> Latencies {
    let mut all = Latencies::new();
    for (stretch, groups) in outcome.plan.iter().zip(&outcome.records) {
        if stretch.counts {
            groups.iter().for_each(|record| all.merge(&record.response));
        }
    }
    all
}

/// Writes a result as JSON; whether that was to standard output.
fn write_json(file: &Path, result: &RunResult) -> Result<bool, Failed> {
    let fail = |error: &dyn std::fmt::Display| {
        complain(&format!("{}: {error}", file.display()));
        Failed(EXIT_RUNTIME)
    };
    let text = serde_json::to_string(result).map_err(|error| fail(&error))? + "\n";
    if file.as_os_str() == "-" {
        print(&text);
        return Ok(true);
    }
    std::fs::write(file, text).map_err(|error| fail(&error))?;
    Ok(false)
}

/// Writes a result alone, into a directory that is made.
fn write_result(directory: &Path, result: &RunResult) -> Result<(), Failed> {
    result.write(directory).map_err(|error| {
        complain(&error.to_string());
        Failed(EXIT_RUNTIME)
    })
}

/// Whether a signal ended the run.
fn was_interrupted(result: &RunResult) -> bool {
    result
        .validity
        .reasons
        .iter()
        .any(|reason| reason == STOPPED)
}

/// Prints to standard output; a closed one is no reason to fail.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says on standard error what is wrong.
pub(super) fn complain(why: &str) {
    let _ = writeln!(std::io::stderr(), "ringgate load: {why}");
}
