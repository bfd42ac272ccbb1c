//! What a run leaves in `result.json`: versioned, complete, readable without this program.
//!
//! Times are nanoseconds or seconds as the name says. A reader refuses a `schema` it does not know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::histogram::Summary;

/// The version of the form below. Rises when a field changes its meaning or goes; new fields alone do
/// not raise it.
pub const SCHEMA: u32 = 1;

/// The file's name in a run's directory.
pub const FILE_NAME: &str = "result.json";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the harness.
    pub ringgate: String,
    /// What was measured, in one word for legends: `direct`, `ringgate`, `haproxy`.
    pub system: String,
    /// The command line, to run it again.
    pub command: Vec<String>,
    /// The scenario in force, as TOML.
    pub scenario: String,
    /// The seed of arrivals, keys and shuffles.
    pub seed: u64,
    /// When it began: seconds since 1970, UTC.
    pub began_unix: u64,
    /// The machine of the generator.
    pub machine: Machine,
    /// Cores that made the load.
    pub cores: u32,
    /// Whether the figures may be believed.
    pub validity: Validity,
    /// One entry for each stretch of time with one offered rate, warm-up left out; in the order of
    /// time.
    pub steps: Vec<Step>,
    /// What the process under test used, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessUse>,
    /// CPU time of the generator itself over the steps, user and system, in microseconds, without what it spent
    /// turning its ring until an arrival was due.
    pub own_cpu_us: u64,
    /// How long the ends of waits for an arrival were that were spent so, in nanoseconds; 0 in older results.
    #[serde(default)]
    pub spin_ns: u64,
}

/// A machine, as far as it decides figures. Names no host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's model name.
    pub cpu: String,
    /// CPUs that the process may use.
    pub cpus: u32,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Pretty name of the distribution.
    pub os: String,
    /// Frequency governor, clock source, congestion control and the like, by name; what cannot be
    /// read is absent.
    pub settings: BTreeMap<String, String>,
}

/// Whether the generator did what was planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// No reason against it.
    pub valid: bool,
    /// Sentences that say what lagged and by how much.
    pub reasons: Vec<String>,
    /// A signal or a refused login has ended it before its time.
    #[serde(default)]
    pub ended_early: bool,
    /// The generator itself was late or too busy, whatever the target did.
    #[serde(default)]
    pub generator_lagged: bool,
}

/// One stretch of time with one offered rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Operations per second that were to arrive; absent in a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_rate: Option<f64>,
    /// Its beginning, in seconds after the run's.
    pub began_s: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// Operations were planned that no connection was free for until their callers had given up: the
    /// target cannot carry this rate, or the connections are too few.
    #[serde(default)]
    pub overloaded: bool,
    /// What the process under test used in it, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessUse>,
    /// What each group did.
    pub groups: Vec<GroupResult>,
}

/// What one group of connections did in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupResult {
    /// Its name in the scenario.
    pub name: String,
    /// `mysql` or `http`.
    pub protocol: String,
    /// Kind of operation: `text`, `prepared`, `transaction`, `connect`, `hold`, `request` ….
    pub operation: String,
    /// Connections.
    pub connections: u32,
    /// Operations whose intended start fell into the step; in a closed loop those that began.
    pub planned: u64,
    /// Operations sent.
    pub sent: u64,
    /// Operations answered without an error, also those whose answer came after the step's end.
    pub completed: u64,
    /// Operations answered without an error within the step, whenever they were due: its rate; absent in results of
    /// older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_in_step: Option<u64>,
    /// Operations that waited for a connection at the step's end.
    #[serde(default)]
    pub backlog: u64,
    /// Operations that were taken back, as no connection had been free for them when the step ended; in `response` with what
    /// they had waited.
    #[serde(default)]
    pub withdrawn: u64,
    /// Connections that could not be opened anew.
    #[serde(default)]
    pub reconnects_failed: u64,
    /// Answers that were not what the scenario expects.
    pub wrong: u64,
    /// Failures by class: `dial`, `login`, `refused`, `server`, `reset`, `protocol`, `timeout`.
    pub errors: BTreeMap<String, u64>,
    /// The first failure of each class in the run, in words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub first_errors: BTreeMap<String, String>,
    /// Bytes received in answers.
    pub received_bytes: u64,
    /// Actual send after the intended one.
    pub send_lag: Summary,
    /// Actual send after the moment when it was due and a connection was free: the generator's own
    /// fault, by which a run is judged.
    pub own_lag: Summary,
    /// Actual send to the last byte of the answer.
    pub service: Summary,
    /// Intended send to the last byte of the answer; timeouts count with the time waited. The
    /// headline.
    pub response: Summary,
    /// Actual send to the first byte of the answer, for large results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Summary>,
}

/// What a process used over the steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Its name.
    pub name: String,
    /// User time in microseconds.
    pub user_us: u64,
    /// System time in microseconds.
    pub system_us: u64,
    /// Both together by the process's CPU clock, which is finer than the two, in microseconds; 0 in older results.
    #[serde(default)]
    pub cpu_us: u64,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// CPU time by completed operation, in microseconds; 0 when none completed.
    pub cpu_us_per_operation: f64,
}

/// Why a result cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is no result.
    #[error("{path}: not a result of `ringgate load`: {error}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where the form is broken.
        error: serde_json::Error,
    },
    /// It is of another version.
    #[error("{path}: schema {found}, but this version reads schema {SCHEMA}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
}

impl RunResult {
    /// Reads `path`: a result file, or the directory that holds one.
    ///
    /// # Errors
    /// [`ReadError`] with the path.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let path = match path.is_dir() {
            true => path.join(FILE_NAME),
            false => path.to_owned(),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(ReadError::Io { path, error }),
        };
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let found = match serde_json::from_str::<Versioned>(&text) {
            Ok(versioned) => versioned.schema,
            Err(error) => return Err(ReadError::Form { path, error }),
        };
        if found != SCHEMA {
            return Err(ReadError::Schema { path, found });
        }
        serde_json::from_str(&text).map_err(|error| ReadError::Form { path, error })
    }

    /// Operations completed in all steps and groups.
    pub fn completed(&self) -> u64 {
        let groups = self.steps.iter().flat_map(|step| &step.groups);
        groups.map(|group| group.completed).sum()
    }
}

impl Step {
    /// Operations per second that completed within the step.
    pub fn achieved_rate(&self) -> f64 {
        self.groups
            .iter()
            .map(|group| group.rate(self.seconds))
            .sum()
    }
}

impl GroupResult {
    /// Operations per second that completed within the step of so many seconds.
    pub fn rate(&self, seconds: f64) -> f64 {
        let completed = self.completed_in_step.unwrap_or(self.completed);
        // A count beyond 2^53 loses digits that nobody reads.
        match seconds > 0.0 {
            true => completed as f64 / seconds,
            false => 0.0,
        }
    }
}
