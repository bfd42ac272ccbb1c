//! `ringgate report DIR...` draws a page from runs; `ringgate report compare BASE NEW` judges two
//! builds.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::load::report::compare::{CompareError, Comparison, Question};
use crate::load::report::compare_output;
use crate::load::report::input::{self, InputError, RunSet};
use crate::load::report::page::{self, PageError, Request};
use crate::load::report::slo::Slo;

/// A regression.
const EXIT_REGRESSION: u8 = 1;
/// No answer: too few runs, or with `--strict` a metric that cannot be told.
const EXIT_INCONCLUSIVE: u8 = 2;

/// Options of `ringgate report`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Report {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    page: PageOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say for each metric whether NEW is better, worse or the same as BASE.
    #[command(
        after_help = "Exit codes: 0 no regression, 1 regression, 2 no answer (fewer than 3 valid runs on a side, \
        or --strict and a metric that cannot be told), 64 usage, 65 unusable results."
    )]
    Compare(CompareOptions),
}

#[derive(Debug, Args)]
struct PageOptions {
    /// A run's directory, or one whose sub-directories are repeated runs.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// Where the page goes.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// The page's heading.
    #[arg(long, default_value = "Load test")]
    title: String,
    /// The system that the verdict is about [default: ringgate, else the first but direct].
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Runs of an older build of that system, to compare with.
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Args)]
struct CompareOptions {
    /// The directory with repeated runs of the old build.
    base: PathBuf,
    /// The directory with repeated runs of the new build.
    new: PathBuf,
    /// The form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Exit with 2 when a metric cannot be told.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    shared: Shared,
}

/// What both take.
#[derive(Debug, Args)]
struct Shared {
    /// The objective, like "p99=2ms,p99.9=10ms,errors=0.001".
    #[arg(long, value_name = "LIMITS", value_parser = Slo::parse)]
    slo: Option<Slo>,
    /// Compare at this offered rate [default: the highest within the objective, else without backlog].
    #[arg(long, value_name = "RATE", value_parser = positive)]
    rate: Option<f64>,
    /// Look at the connections of this group of the scenario alone.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// A change within this many percent is none.
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = positive)]
    margin: f64,
    /// The seed of the bootstrap.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
    Html,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error("{path}: {error}")]
    Write {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Runs the subcommand.
pub(super) fn run(report: Report) -> ExitCode {
    let done = match report.action {
        Some(Action::Compare(options)) => compare(&options),
        None => write_page(report.page),
    };
    done.unwrap_or_else(|failure| {
        let _ = writeln!(std::io::stderr(), "ringgate report: {failure}");
        ExitCode::from(match failure {
            Failure::Write { .. } | Failure::Json(_) => super::EXIT_RUNTIME,
            _ => super::EXIT_DATA,
        })
    })
}

fn write_page(options: PageOptions) -> Result<ExitCode, Failure> {
    let group = options.shared.group.as_deref();
    let sets = input::read(&options.directories, group)?;
    let baseline = options
        .baseline
        .as_deref()
        .map(|path| one_system(path, group, "the baseline"))
        .transpose()?;
    let request = Request {
        title: options.title,
        sets,
        subject: options.subject,
        baseline,
        slo: options.shared.slo,
        rate: options.shared.rate,
        margin: options.shared.margin / 100.0,
        seed: options.shared.seed,
        command: std::iter::once("ringgate".to_owned())
            .chain(std::env::args().skip(1))
            .collect(),
    };
    let html = page::render(&request)?;
    std::fs::write(&options.output, html).map_err(|error| Failure::Write {
        path: options.output.clone(),
        error,
    })?;
    say(&format!("{}\n", options.output.display()));
    Ok(ExitCode::SUCCESS)
}

fn compare(options: &CompareOptions) -> Result<ExitCode, Failure> {
    let group = options.shared.group.as_deref();
    let base = one_system(&options.base, group, "BASE")?;
    let new = one_system(&options.new, group, "NEW")?;
    let question = Question {
        margin: options.shared.margin / 100.0,
        seed: options.shared.seed,
        rate: options.shared.rate,
        slo: options.shared.slo.clone(),
    };
    let comparison = Comparison::of(&base, &new, &question)?;
    say(&match options.format {
        Format::Text => compare_output::text(&comparison),
        Format::Markdown => compare_output::markdown(&comparison),
        Format::Html => compare_output::page(&comparison),
        Format::Json => compare_output::json(&comparison)?,
    });
    Ok(ExitCode::from(if comparison.refused() {
        EXIT_INCONCLUSIVE
    } else if comparison.regressed() {
        EXIT_REGRESSION
    } else if options.strict && comparison.inconclusive() {
        EXIT_INCONCLUSIVE
    } else {
        0
    }))
}

/// The runs of a directory that holds one system's.
fn one_system(path: &Path, group: Option<&str>, side: &'static str) -> Result<RunSet, Failure> {
    let sets = input::read(&[path.to_owned()], group)?;
    let found = sets
        .iter()
        .map(|set| format!("`{}`", set.system))
        .collect::<Vec<_>>()
        .join(", ");
    match <[RunSet; 1]>::try_from(sets) {
        Ok([set]) => Ok(set),
        Err(_) => Err(CompareError::Systems { side, found }.into()),
    }
}

fn say(text: &str) {
    // A closed standard output is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|number| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "write a number above 0".to_owned())
}
