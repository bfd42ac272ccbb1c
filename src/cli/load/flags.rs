//! A scenario from flags, for the simple cases: one group and one law of arrivals.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::units::parse_duration;
use crate::load::keys::Argument;
use crate::load::scenario::{
    Arrivals, Expectation, Group, Operation, Protocol, Request, Scenario, Statement,
};
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

/// Flags of a scenario with one group.
#[derive(Clone, Debug, Args)]
pub(super) struct Simple {
    /// mysql://USER:PASSWORD@HOST:PORT/SCHEMA or http://HOST:PORT
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// What one arrival does (MySQL).
    #[arg(long, value_enum, default_value = "text")]
    operation: Kind,
    /// The statement; `?` stands for an argument.
    #[arg(long, default_value = "SELECT 1")]
    sql: String,
    /// The request's path (HTTP); `{}` stands for an argument.
    #[arg(long, default_value = "/")]
    path: String,
    /// One for each placeholder: a constant, uniform(LOW,HIGH), zipf(LOW,HIGH,EXPONENT), sequence(FIRST).
    #[arg(long = "argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Connections.
    #[arg(short, long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Cores of the generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    cores: u16,
    /// Operations per second, evenly spaced; without it the loop is closed.
    #[arg(short, long)]
    rate: Option<f64>,
    /// Exponential gaps instead of even ones.
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// Time that counts.
    #[arg(short, long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Time before that.
    #[arg(short, long, default_value = "1s", value_parser = parse_duration)]
    warmup: Duration,
    /// The longest wait for an answer.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
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

    /// The scenario, and its flags as text.
    pub(super) fn scenario(&self, seed: u64) -> Result<(Scenario, String), String> {
        let Some(url) = &self.target else {
            return Err(format!(
                "name a scenario file, or a target with --target: {}",
                target::FORMS
            ));
        };
        let target = target::parse("target", url, None).map_err(|error| error.to_string())?;
        let arguments: Result<Vec<_>, _> = self
            .arguments
            .iter()
            .map(|text| Argument::parse(text))
            .collect();
        let arguments = arguments.map_err(|error| error.to_string())?;
        let operation = match &target.protocol {
            Protocol::MySql { .. } => self.mysql(arguments)?,
            Protocol::Http => {
                expect_as_many(&self.path, '{', arguments.len())?;
                Operation::Request(Request {
                    method: "GET".to_owned(),
                    path: self.path.clone(),
                    arguments,
                    body_bytes: 0,
                })
            }
        };
        if self.duration.is_zero() || self.timeout.is_zero() {
            return Err("--duration and --timeout take a time above 0".to_owned());
        }
        let arrivals = match (self.rate, self.poisson) {
            (None, _) => Arrivals::Closed {
                think: Duration::ZERO,
            },
            (Some(rate), _) if !(rate > 0.0 && rate.is_finite()) => {
                return Err("--rate takes a number above 0".to_owned());
            }
            (Some(rate), false) => Arrivals::Constant { rate },
            (Some(rate), true) => Arrivals::Poisson { rate },
        };
        let text = format!("# from flags: {}", target::mask(&format!("{self:?}")));
        let group = Group {
            name: operation.label().to_owned(),
            target,
            connections: self.connections,
            weight: 1,
            operation,
            expect: Expectation {
                rows: self.expect_rows,
                ..Expectation::default()
            },
        };
        let scenario = Scenario {
            seed,
            cores: usize::from(self.cores),
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            arrivals,
            groups: vec![group],
            verify: self.expect_rows.is_some(),
            slo: None,
        };
        Ok((scenario, text))
    }

    fn mysql(&self, arguments: Vec<Argument>) -> Result<Operation, String> {
        let statement = || {
            expect_as_many(&self.sql, '?', arguments.len())?;
            Ok::<_, String>(Statement {
                sql: self.sql.clone(),
                arguments: arguments.clone(),
            })
        };
        Ok(match self.operation {
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
