//! A scenario from flags, for the simple cases: one group and one law of arrivals.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::base::secret::Secret;
use crate::config::units::parse_duration;
use crate::load::keys::Argument;
use crate::load::scenario::{
    Arrivals, Expectation, Group, Operation, Protocol, Request, Scenario, Statement, Target,
};
use crate::load::schedule::RATE_MAX;
use crate::load::target;

/// What one arrival does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Text,
    Prepared,
    Ping,
    Connect,
    Hold,
}

/// Flags of a scenario with one group. Of a scenario file they replace target, warm-up and duration.
#[derive(Clone, Debug, Args)]
pub(super) struct Simple {
    /// mysql://USER:PASSWORD@HOST:PORT/SCHEMA or http://HOST:PORT; with a scenario file, of all its groups.
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// The environment variable that holds the password for --target.
    #[arg(long, value_name = "NAME", requires = "target")]
    password_env: Option<String>,
    /// What one arrival does (MySQL) [default: text].
    #[arg(long, value_enum)]
    operation: Option<Kind>,
    /// The statement; `?` stands for an argument [default: SELECT 1].
    #[arg(long)]
    sql: Option<String>,
    /// The request's path (HTTP); `{}` stands for an argument [default: /].
    #[arg(long)]
    path: Option<String>,
    /// One for each placeholder: a constant, uniform(LOW,HIGH), zipf(LOW,HIGH,EXPONENT), sequence(FIRST).
    #[arg(long = "argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Connections [default: 16].
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Cores of the generator [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    cores: Option<u16>,
    /// Operations per second, evenly spaced; without it the loop is closed.
    #[arg(short, long)]
    rate: Option<f64>,
    /// Exponential gaps instead of even ones.
    #[arg(long)]
    poisson: bool,
    /// Time that counts [default: 10s].
    #[arg(short, long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Time before that [default: 1s].
    #[arg(short, long, value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// The longest wait for an answer [default: 5s].
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Rows that every answer must have (with --verify).
    #[arg(long)]
    expect_rows: Option<u64>,
}

impl Simple {
    /// Sets the target, where none was named.
    pub(super) fn target_is(&mut self, url: &str) {
        self.target.get_or_insert_with(|| url.to_owned());
    }

    /// Whether a rate was asked for.
    pub(super) fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// Whether a target was named.
    pub(super) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// What of a scenario file is replaced. Everything else is said by the file alone.
    pub(super) fn replace(&self, scenario: &mut Scenario) -> Result<(), String> {
        let said = [
            (self.operation.is_some(), "--operation"),
            (self.sql.is_some(), "--sql"),
            (self.path.is_some(), "--path"),
            (!self.arguments.is_empty(), "--argument"),
            (self.connections.is_some(), "--connections"),
            (self.cores.is_some(), "--cores"),
            (self.rate.is_some(), "--rate"),
            (self.poisson, "--poisson"),
            (self.timeout.is_some(), "--timeout"),
            (self.expect_rows.is_some(), "--expect-rows"),
        ];
        if let Some((_, flag)) = said.iter().find(|(is_given, _)| *is_given) {
            return Err(format!(
                "the scenario says that: leave {flag} out, or change the file (--target, --warmup and --duration replace its own)"
            ));
        }
        self.check_times()?;
        if let Some(url) = &self.target {
            for group in &mut scenario.groups {
                let target = self.target_at(&group.target.name, url)?;
                if target.protocol.label() != group.target.protocol.label() {
                    return Err(format!(
                        "--target is {}, and group `{}` of the scenario speaks {}",
                        target.protocol.label(),
                        group.name,
                        group.target.protocol.label()
                    ));
                }
                group.target = target;
            }
        }
        scenario.warmup = self.warmup.unwrap_or(scenario.warmup);
        scenario.duration = self.duration.unwrap_or(scenario.duration);
        Ok(())
    }

    fn target_at(&self, name: &str, url: &str) -> Result<Target, String> {
        let password = match &self.password_env {
            None => None,
            Some(variable) => {
                let value = std::env::var(variable);
                let value = value
                    .map_err(|_| format!("--password-env: there is no variable {variable}"))?;
                Some(Secret::new(value))
            }
        };
        target::parse(name, url, password).map_err(|error| error.to_string())
    }

    fn check_times(&self) -> Result<(), String> {
        let is_zero = |time: Option<Duration>| time.is_some_and(|time| time.is_zero());
        match is_zero(self.duration) || is_zero(self.timeout) {
            true => Err("--duration and --timeout take a time above 0".to_owned()),
            false => Ok(()),
        }
    }

    fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    fn sql(&self) -> &str {
        self.sql.as_deref().unwrap_or("SELECT 1")
    }

    /// The scenario, and its flags as text.
    pub(super) fn scenario(&self, seed: u64) -> Result<(Scenario, String), String> {
        let Some(url) = &self.target else {
            return Err(format!(
                "name a scenario file, or a target with --target: {}",
                target::FORMS
            ));
        };
        let target = self.target_at("target", url)?;
        let arguments: Result<Vec<_>, _> = self
            .arguments
            .iter()
            .map(|text| Argument::parse(text))
            .collect();
        let arguments = arguments.map_err(|error| error.to_string())?;
        let operation = match &target.protocol {
            Protocol::MySql { .. } => self.mysql(arguments)?,
            Protocol::Http => {
                expect_as_many(self.path(), '{', arguments.len())?;
                Operation::Request(Request {
                    method: "GET".to_owned(),
                    path: self.path().to_owned(),
                    arguments,
                    body_bytes: 0,
                })
            }
        };
        self.check_times()?;
        let arrivals = match (self.rate, self.poisson) {
            (None, true) => return Err("--poisson needs a --rate".to_owned()),
            (None, false) => Arrivals::Closed {
                think: Duration::ZERO,
            },
            (Some(rate), _) if !(rate > 0.0 && rate <= RATE_MAX as f64) => {
                return Err(format!("--rate takes a number above 0, {RATE_MAX} at most"));
            }
            (Some(rate), false) => Arrivals::Constant { rate },
            (Some(rate), true) => Arrivals::Poisson { rate },
        };
        let text = format!("# from flags: {}", target::mask(&format!("{self:?}")));
        let group = Group {
            name: operation.label().to_owned(),
            target,
            connections: self.connections.unwrap_or(16),
            weight: 1,
            operation,
            expect: Expectation {
                rows: self.expect_rows,
                ..Expectation::default()
            },
        };
        let scenario = Scenario {
            seed,
            cores: usize::from(self.cores.unwrap_or(1)),
            warmup: self.warmup.unwrap_or(Duration::from_secs(1)),
            duration: self.duration.unwrap_or(Duration::from_secs(10)),
            timeout: self.timeout.unwrap_or(Duration::from_secs(5)),
            arrivals,
            groups: vec![group],
            verify: self.expect_rows.is_some(),
            slo: None,
        };
        Ok((scenario, text))
    }

    fn mysql(&self, arguments: Vec<Argument>) -> Result<Operation, String> {
        let statement = || {
            expect_as_many(self.sql(), '?', arguments.len())?;
            Ok::<_, String>(Statement {
                sql: self.sql().to_owned(),
                arguments: arguments.clone(),
            })
        };
        Ok(match self.operation.unwrap_or(Kind::Text) {
            Kind::Text => Operation::Text(statement()?),
            Kind::Prepared => Operation::Prepared(statement()?),
            Kind::Ping => Operation::Ping,
            Kind::Connect => Operation::Connect,
            Kind::Hold => Operation::Hold,
        })
    }
}

fn expect_as_many(text: &str, mark: char, found: usize) -> Result<(), String> {
    let wanted = text.matches(mark).count();
    match wanted == found {
        true => Ok(()),
        false => Err(format!(
            "`{text}` has {wanted} placeholders, but --argument is given {found} times"
        )),
    }
}
