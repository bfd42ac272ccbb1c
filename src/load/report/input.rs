//! From directories to sets of runs: the results of one system, and what its runs did at each rate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::load::histogram::{BadHistogram, Latencies};
use crate::load::result::{FILE_NAME, GroupResult, ReadError, RunResult, Step};
use crate::load::validity::SENT_SHARE;

use super::statistics::median;

/// Offered rates that differ by less than this share are one.
const SAME_RATE: f64 = 0.005;

/// The operation of groups that only hold connections.
const HOLD: &str = "hold";

/// Why there is nothing to report on.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A result cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A histogram in a result cannot be read.
    #[error("{path}: group `{group}`: {error}")]
    Histogram {
        /// The file.
        path: PathBuf,
        /// The group whose histogram it is.
        group: String,
        /// What is wrong with it.
        error: BadHistogram,
    },
    /// The directory is not there, or cannot be listed.
    #[error("{path}: {error}; give a run's directory, or one whose sub-directories are runs")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// No result in it.
    #[error(
        "{path}: no run here: expected {path}/{FILE_NAME}, or sub-directories that each hold a {FILE_NAME}, \
         as `ringgate load` leaves them"
    )]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A run measured nothing.
    #[error("{path}: the run has no step: it ended before its first one; run it again")]
    NoStep {
        /// The file.
        path: PathBuf,
    },
    /// The group asked for is not in a run.
    #[error("{path}: no group `{wanted}`; it has {found}")]
    NoGroup {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        wanted: String,
        /// The names there are.
        found: String,
    },
}

/// What decides the load of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Operations arrive at this many per second.
    Offered(f64),
    /// The next operation begins when one has ended.
    Closed,
}

impl Load {
    /// The offered rate, where there is one.
    pub fn offered(self) -> Option<f64> {
        match self {
            Self::Offered(rate) => Some(rate),
            Self::Closed => None,
        }
    }

    /// Whether two loads are the same, rounding apart.
    pub fn same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Offered(a), Self::Offered(b)) => {
                (a - b).abs() <= SAME_RATE * a.abs().max(b.abs())
            }
            (Self::Closed, Self::Closed) => true,
            _ => false,
        }
    }
}

/// What one run did at one load: all its steps of that load, all its groups that asked something.
#[derive(Clone, Debug)]
pub struct Point {
    /// The load.
    pub load: Load,
    /// Seconds it lasted.
    pub seconds: f64,
    /// Operations that were to begin.
    pub planned: u64,
    /// Operations sent.
    pub sent: u64,
    /// Operations answered without an error.
    pub completed: u64,
    /// Those answered before their steps' ends.
    completed_in_steps: u64,
    /// Operations that were taken back at their steps' ends.
    withdrawn: u64,
    /// Answers that were wrong.
    pub wrong: u64,
    /// Failures by class.
    pub errors: BTreeMap<String, u64>,
    /// Intended start to the last byte.
    pub response: Latencies,
    /// Actual send to the last byte.
    pub service: Latencies,
    /// Actual send after the intended one.
    pub send_lag: Latencies,
    /// The part of it that is the generator's own fault.
    pub own_lag: Latencies,
}

impl Point {
    fn new(load: Load) -> Self {
        Self {
            load,
            seconds: 0.0,
            planned: 0,
            sent: 0,
            completed: 0,
            completed_in_steps: 0,
            withdrawn: 0,
            wrong: 0,
            errors: BTreeMap::new(),
            response: Latencies::new(),
            service: Latencies::new(),
            send_lag: Latencies::new(),
            own_lag: Latencies::new(),
        }
    }

    fn add(&mut self, group: &GroupResult) -> Result<(), BadHistogram> {
        self.planned += group.planned;
        self.sent += group.sent;
        self.completed += group.completed;
        self.completed_in_steps += group.completed_in_step.unwrap_or(group.completed);
        self.withdrawn += group.withdrawn;
        self.wrong += group.wrong;
        for (class, count) in &group.errors {
            *self.errors.entry(class.clone()).or_default() += count;
        }
        self.response.merge(&group.response.latencies()?);
        self.service.merge(&group.service.latencies()?);
        self.send_lag.merge(&group.send_lag.latencies()?);
        self.own_lag.merge(&group.own_lag.latencies()?);
        Ok(())
    }

    /// Operations per second that completed within their steps.
    pub fn achieved(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.completed_in_steps as f64 / self.seconds,
            false => 0.0,
        }
    }

    /// Whether too many operations found no connection in time.
    pub fn is_overloaded(&self) -> bool {
        (self.sent as f64) < self.planned as f64 * SENT_SHARE
    }

    /// The share of planned operations that did not end with a right answer.
    pub fn failed_share(&self) -> f64 {
        let planned = self.planned.saturating_sub(self.withdrawn);
        let failed = planned.saturating_sub(self.completed) + self.wrong;
        match planned {
            0 => 0.0,
            planned => failed as f64 / planned as f64,
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its directory as given, for people.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// The file.
    pub result: RunResult,
    /// What it did at each load, by rising rate.
    pub points: Vec<Point>,
}

impl Run {
    /// Reads the run of `path`: a directory with a result, or the result itself. Only the groups named
    /// `group` count where one is given.
    fn read(path: &Path, group: Option<&str>) -> Result<Self, InputError> {
        let file = if path.is_dir() {
            path.join(FILE_NAME)
        } else {
            path.to_owned()
        };
        let result = RunResult::read(&file)?;
        let text = std::fs::read_to_string(&file).map_err(|error| ReadError::Io {
            path: file.clone(),
            error,
        })?;
        if result.steps.is_empty() {
            return Err(InputError::NoStep { path: file });
        }
        if let Some(wanted) = group {
            has_group(&result, wanted, &file)?;
        }
        let mut points: Vec<Point> = Vec::new();
        for step in &result.steps {
            add_step(&mut points, step, group).map_err(|(group, error)| InputError::Histogram {
                path: file.clone(),
                group,
                error,
            })?;
        }
        points.sort_by(|a, b| order(a).total_cmp(&order(b)));
        Ok(Self {
            path: path.to_owned(),
            text,
            result,
            points,
        })
    }

    /// What it did at `load`.
    pub fn at(&self, load: Load) -> Option<&Point> {
        self.points.iter().find(|point| point.load.same(load))
    }

    /// Connections that groups of the operation `hold` held.
    pub fn held(&self) -> u32 {
        let groups = self.result.steps.iter().flat_map(|step| &step.groups);
        let held = groups.filter(|group| group.operation == HOLD);
        held.map(|group| group.connections).max().unwrap_or(0)
    }
}

fn order(point: &Point) -> f64 {
    match point.load {
        Load::Offered(rate) => rate,
        Load::Closed => f64::INFINITY,
    }
}

fn has_group(result: &RunResult, wanted: &str, file: &Path) -> Result<(), InputError> {
    let groups = result.steps.iter().flat_map(|step| &step.groups);
    let mut names: Vec<&str> = groups.map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&wanted) {
        return Ok(());
    }
    Err(InputError::NoGroup {
        path: file.to_owned(),
        wanted: wanted.to_owned(),
        found: names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// Adds a step to the point of its load; a failure names the group.
fn add_step(
    points: &mut Vec<Point>,
    step: &Step,
    only: Option<&str>,
) -> Result<(), (String, BadHistogram)> {
    let asks = |group: &&GroupResult| {
        group.operation != HOLD && only.is_none_or(|only| group.name == only)
    };
    let groups: Vec<&GroupResult> = step.groups.iter().filter(asks).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let load = step.offered_rate.map_or(Load::Closed, Load::Offered);
    let index = match points.iter().position(|point| point.load.same(load)) {
        Some(index) => index,
        None => {
            points.push(Point::new(load));
            points.len() - 1
        }
    };
    if let Some(point) = points.get_mut(index) {
        point.seconds += step.seconds;
        for group in groups {
            point
                .add(group)
                .map_err(|error| (group.name.clone(), error))?;
        }
    }
    Ok(())
}

/// The runs of one system.
#[derive(Clone, Debug)]
pub struct RunSet {
    /// What was measured.
    pub system: String,
    /// The runs, in the order of their beginning.
    pub runs: Vec<Run>,
}

impl RunSet {
    /// The runs that count: those that asked something and are valid. Where none of them is valid all
    /// do, and the page says so.
    pub fn counted(&self) -> Vec<&Run> {
        self.believed(|run| !run.points.is_empty())
    }

    /// The valid ones of the runs that held connections; all of these where none is valid.
    pub fn holding(&self) -> Vec<&Run> {
        self.believed(|run| run.held() > 0)
    }

    fn believed(&self, wanted: impl Fn(&Run) -> bool) -> Vec<&Run> {
        let wanted: Vec<&Run> = self.runs.iter().filter(|run| wanted(run)).collect();
        let valid = wanted.iter().filter(|run| run.result.validity.valid);
        let valid: Vec<&Run> = valid.copied().collect();
        if valid.is_empty() { wanted } else { valid }
    }

    /// The runs that its figures are of: those that count, or else those that held connections.
    fn shown(&self) -> Vec<&Run> {
        let counted = self.counted();
        if counted.is_empty() {
            self.holding()
        } else {
            counted
        }
    }

    /// Whether the runs that count do so although none is valid.
    pub fn all_invalid(&self) -> bool {
        let mut runs = self.shown().into_iter();
        runs.all(|run| !run.result.validity.valid)
    }

    /// How many valid runs its figures are of, in words.
    pub fn runs_words(&self) -> String {
        match (self.all_invalid(), self.shown().len()) {
            (true, _) => "no valid run".to_owned(),
            (false, 1) => "1 valid run".to_owned(),
            (false, runs) => format!("{runs} valid runs"),
        }
    }

    /// The loads that every run that counts has, by rising rate.
    pub fn loads(&self) -> Vec<Load> {
        let runs = self.counted();
        let Some((first, rest)) = runs.split_first() else {
            return Vec::new();
        };
        let loads = first.points.iter().map(|point| point.load);
        loads
            .filter(|load| rest.iter().all(|run| run.at(*load).is_some()))
            .collect()
    }

    /// What each run that counts did at `load`.
    pub fn at(&self, load: Load) -> Vec<&Point> {
        self.counted()
            .into_iter()
            .filter_map(|run| run.at(load))
            .collect()
    }

    /// A value of each run that counts at `load`.
    pub fn values(&self, load: Load, value: impl Fn(&Point) -> f64) -> Vec<f64> {
        self.at(load).into_iter().map(value).collect()
    }

    /// A quantile of the response of each run that counts, in nanoseconds.
    pub fn quantiles(&self, load: Load, quantile: f64) -> Vec<f64> {
        self.values(load, |point| point.response.quantile(quantile) as f64)
    }

    /// Where `load` stands on an axis of rates: as offered, or the median of what was achieved.
    pub fn rate(&self, load: Load) -> f64 {
        match load {
            Load::Offered(rate) => rate,
            Load::Closed => median(&self.values(load, Point::achieved)).unwrap_or(0.0),
        }
    }
}

/// Reads the runs of all `directories` and groups them by system, in the order in which systems are
/// met. Only groups of connections named `group` count where one is given.
///
/// # Errors
/// [`InputError`] for the first file or directory that cannot be used.
pub fn read(directories: &[PathBuf], group: Option<&str>) -> Result<Vec<RunSet>, InputError> {
    let mut sets: Vec<RunSet> = Vec::new();
    for directory in directories {
        for run in read_directory(directory, group)? {
            match sets.iter_mut().find(|set| set.system == run.result.system) {
                Some(set) => set.runs.push(run),
                None => sets.push(RunSet {
                    system: run.result.system.clone(),
                    runs: vec![run],
                }),
            }
        }
    }
    for set in &mut sets {
        set.runs.sort_by_key(|run| run.result.began_unix);
    }
    Ok(sets)
}

/// Reads the runs of one directory: its own, those of its sub-directories, or those two below it, as `ringgate load
/// overhead` leaves them.
fn read_directory(path: &Path, group: Option<&str>) -> Result<Vec<Run>, InputError> {
    if path.is_file() || path.join(FILE_NAME).exists() {
        return Ok(vec![Run::read(path, group)?]);
    }
    let below = directories(path)?;
    let mut runs: Vec<PathBuf> = below
        .iter()
        .filter(|path| holds_run(path))
        .cloned()
        .collect();
    if runs.is_empty() {
        for path in &below {
            runs.extend(
                directories(path)?
                    .into_iter()
                    .filter(|path| holds_run(path)),
            );
        }
    }
    if runs.is_empty() {
        return Err(InputError::Empty {
            path: path.to_owned(),
        });
    }
    runs.iter().map(|run| Run::read(run, group)).collect()
}

fn holds_run(path: &Path) -> bool {
    path.join(FILE_NAME).exists()
}

/// The directories in one, in the order of their names.
fn directories(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    let problem = |error| InputError::Directory {
        path: path.to_owned(),
        error,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(problem)? {
        let below = entry.map_err(problem)?.path();
        if below.is_dir() {
            found.push(below);
        }
    }
    found.sort();
    Ok(found)
}
