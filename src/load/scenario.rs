//! What a run asks for: targets, groups of connections, and when operations arrive.
//!
//! Made from a TOML file by [`super::scenario_file`] or from the command line's flags.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::Argument;
use super::report::slo::Slo;
use crate::base::secret::Secret;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Seed of arrivals, keys and shuffles.
    pub seed: u64,
    /// Cores that make the load.
    pub cores: usize,
    /// Time at the first rate that is not counted.
    pub warmup: Duration,
    /// Time that is counted; of each step, where arrivals have steps.
    pub duration: Duration,
    /// The longest wait for an answer, from its intended start.
    pub timeout: Duration,
    /// When operations arrive.
    pub arrivals: Arrivals,
    /// Groups of connections.
    pub groups: Vec<Group>,
    /// Whether answers are compared with what the groups expect.
    pub verify: bool,
    /// What `find` searches the highest rate for.
    pub slo: Option<Slo>,
}

/// When operations arrive. Rates are of the whole run, per second.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Each connection asks again when it has its answer and has thought for so long.
    Closed {
        /// The pause between an answer and the next question.
        think: Duration,
    },
    /// As many as the connections can carry; latencies under it say little.
    Max,
    /// Evenly spaced.
    Constant {
        /// Operations per second.
        rate: f64,
    },
    /// With exponential gaps, as independent callers make them.
    Poisson {
        /// Operations per second on average.
        rate: f64,
    },
    /// From one rate to another, evenly.
    Ramp {
        /// Operations per second at the beginning.
        from: f64,
        /// Operations per second at the end.
        to: f64,
    },
    /// One rate after the other, each with a warm-up of its own.
    Steps {
        /// Operations per second, one for each step.
        rates: Vec<f64>,
        /// Whether the gaps are exponential.
        is_poisson: bool,
        /// Whether the order is shuffled, so that drift does not look like an effect of the rate.
        shuffled: bool,
    },
}

impl Arrivals {
    /// Whether a clock decides when an operation begins, and not the answer before it.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Closed { .. } | Self::Max)
    }

    /// The name in a scenario.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Max => "max",
            Self::Constant { .. } => "constant",
            Self::Poisson { .. } => "poisson",
            Self::Ramp { .. } => "ramp",
            Self::Steps { .. } => "steps",
        }
    }
}

/// Where a group connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in the scenario.
    pub name: String,
    /// Host and port; the host is resolved once, before the run.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of a Unix socket, in the place of host and port.
    pub socket: Option<PathBuf>,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// A target's protocol, with what a login needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `mysql://user:password@host:port/schema`
    MySql {
        /// The user.
        user: String,
        /// The password, empty for none.
        password: Secret,
        /// The initial schema.
        schema: Option<String>,
    },
    /// `http://host:port`
    Http,
}

impl Protocol {
    /// The name in results.
    pub fn label(&self) -> &'static str {
        match self {
            Self::MySql { .. } => "mysql",
            Self::Http => "http",
        }
    }
}

/// Connections that do the same.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where it connects to.
    pub target: Target,
    /// Connections, over all cores.
    pub connections: u32,
    /// Its share of arrivals, relative to the other groups'.
    pub weight: u32,
    /// What one arrival does.
    pub operation: Operation,
    /// What an answer must be, where answers are verified.
    pub expect: Expectation,
}

/// What one arrival does.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// COM_QUERY.
    Text(Statement),
    /// COM_STMT_EXECUTE of a statement prepared once per connection.
    Prepared(Statement),
    /// Several texts in order, counted as one; an error ends it with ROLLBACK.
    Transaction(Vec<Statement>),
    /// COM_PING.
    Ping,
    /// Connect, log in, and say goodbye.
    Connect,
    /// Stay logged in and idle.
    Hold,
    /// One HTTP request.
    Request(Request),
}

impl Operation {
    /// The name in a scenario and in results.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Prepared(_) => "prepared",
            Self::Transaction(_) => "transaction",
            Self::Ping => "ping",
            Self::Connect => "connect",
            Self::Hold => "hold",
            Self::Request(_) => "request",
        }
    }
}

/// A statement with `?` for its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// One for each `?`.
    pub arguments: Vec<Argument>,
}

/// An HTTP request with `?` in its path for its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `POST` ….
    pub method: String,
    /// The path with its query; each `{}` is an argument.
    pub path: String,
    /// One for each `{}`.
    pub arguments: Vec<Argument>,
    /// Bytes of the body; 0 for none.
    pub body_bytes: usize,
}

/// What an answer must be. What is `None` is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Rows of the (last) result.
    pub rows: Option<u64>,
    /// The first column of the first row equals this argument, counted from 1.
    pub first_column_is_argument: Option<u32>,
    /// HTTP status.
    pub status: Option<u16>,
    /// Bytes of an HTTP answer's body.
    pub body_bytes: Option<u64>,
}
