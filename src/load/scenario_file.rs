//! Scenarios from TOML files; every problem at once, with its place and a remedy.

use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::keys::Argument;
use super::report::slo::Slo;
use super::scenario::{
    Arrivals, Expectation, Group, Operation, Protocol, Request, Scenario, Statement, Target,
};
use super::schedule::RATE_MAX;
use super::target;
use crate::base::secret::Secret;
use crate::config::problem::{Code, Problem};
use crate::config::reader::{At, Section, Span, suggest, wrong_type};
use crate::config::{ConfigErrors, read_text, read_toml};

/// The version of the file's form.
const VERSION: u64 = 1;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Connections of one group.
const CONNECTIONS_MAX: u32 = 1_000_000;

/// Reads the scenario at `path`. `seed` is used where the file has none.
///
/// # Errors
/// Every problem of the file at once.
pub fn load(path: &Path, seed: u64) -> Result<(Scenario, String), ConfigErrors> {
    let text = read_text(path)?;
    let env = |name: &str| std::env::var(name).ok();
    let scenario = parse(&path.display().to_string(), &text, seed, &env)?;
    Ok((scenario, target::mask(&text)))
}

/// Reads the scenario in `text`; `env` gives environment variables.
///
/// # Errors
/// Every problem at once.
pub fn parse(
    name: &str,
    text: &str,
    seed: u64,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Scenario, ConfigErrors> {
    read_toml(name, text, |root| read_root(root, seed, env))
        .map_err(|errors| errors.masked_by(target::mask))
}

fn read_root(mut root: Section<'_>, seed: u64, env: &dyn Fn(&str) -> Option<String>) -> Scenario {
    if let Some(version) = root.number("version", 0..=u64::MAX)
        && version.value != VERSION
    {
        let message = format!("this program reads scenarios of version {VERSION}");
        let problem = Problem::at(Code::Version, &version.span, message, "another version");
        root.problems
            .push(problem.help(format!("write `version = {VERSION}`")));
    }
    let seed = root
        .number("seed", 0..=u64::MAX)
        .map_or(seed, |at| at.value);
    let cores = root.number("cores", 1..=1024).map_or(1, |at| at.value);
    let span = Duration::ZERO..=HOUR * 24;
    let warmup = root.duration("warmup", SECOND, span.clone());
    let duration = root.duration("duration", SECOND * 10, SECOND / 1000..=HOUR * 24);
    let timeout = root.duration("timeout", SECOND * 5, SECOND / 1000..=HOUR);
    let verify = root.flag("verify").unwrap_or(false);
    let targets = read_targets(&mut root, env);
    let arrivals = read_arrivals(&mut root);
    let groups = read_groups(&mut root, &targets);
    let slo = read_slo(&mut root);
    root.finish();
    Scenario {
        seed,
        cores: usize::try_from(cores).unwrap_or(1),
        warmup,
        duration,
        timeout,
        arrivals,
        groups,
        verify,
        slo,
    }
}

fn read_targets(root: &mut Section<'_>, env: &dyn Fn(&str) -> Option<String>) -> Vec<Target> {
    let named = root.named("targets");
    if named.is_empty() {
        root.missing("targets", "[targets.NAME] with url = \"mysql://…\"");
    }
    let mut targets = Vec::new();
    for (name, mut section) in named {
        let password = section.text("password_env").and_then(|variable| {
            let value = env(&variable.value);
            if value.is_none() {
                let message = format!("the environment has no `{}`", variable.value);
                let problem =
                    Problem::at(Code::SecretMissing, &variable.span, message, "named here");
                section.problems.push(problem.help("set the variable"));
            }
            value.map(Secret::new)
        });
        let url = section.required_text("url", "url = \"mysql://USER:PASSWORD@HOST:PORT/SCHEMA\"");
        if let Some(url) = url {
            match target::parse(&name.value, &url.value, password) {
                Ok(target) => targets.push(target),
                Err(error) => {
                    let path = section.path_of("url");
                    let message = format!("`{path}` is no target");
                    let problem = Problem::at(Code::BadValue, &url.span, message, "this URL");
                    section.problems.push(problem.help(error.to_string()));
                }
            }
        }
        section.finish();
    }
    targets
}

fn read_arrivals(root: &mut Section<'_>) -> Arrivals {
    let mut section = root.section("arrivals");
    let kinds = [
        ("closed", 0),
        ("max", 1),
        ("constant", 2),
        ("poisson", 3),
        ("ramp", 4),
        ("steps", 5),
    ];
    let kind = section.choice("kind", &kinds).unwrap_or(0);
    let rate = |section: &mut Section<'_>, key| {
        let found = section.number(key, 1..=RATE_MAX);
        if found.is_none() && !section.has(key) {
            section.missing(key, &format!("{key} = 1000"));
        }
        found.map_or(1.0, |at| at.value as f64)
    };
    let arrivals = match kind {
        1 => Arrivals::Max,
        2 => Arrivals::Constant {
            rate: rate(&mut section, "rate"),
        },
        3 => Arrivals::Poisson {
            rate: rate(&mut section, "rate"),
        },
        4 => Arrivals::Ramp {
            from: rate(&mut section, "from"),
            to: rate(&mut section, "to"),
        },
        5 => Arrivals::Steps {
            rates: read_rates(&mut section),
            is_poisson: section.flag("poisson").unwrap_or(false),
            shuffled: section.flag("shuffled").unwrap_or(false),
        },
        _ => Arrivals::Closed {
            think: section.duration("think", Duration::ZERO, Duration::ZERO..=HOUR),
        },
    };
    section.finish();
    arrivals
}

fn read_rates(section: &mut Section<'_>) -> Vec<f64> {
    if !section.has("rates") {
        section.missing("rates", "rates = [1000, 2000, 4000]");
    }
    let mut rates = Vec::new();
    for value in section.array("rates").unwrap_or_default() {
        let integer = value.get_ref().as_integer();
        let rate = integer.and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        match rate.filter(|rate| (1..=RATE_MAX).contains(rate)) {
            Some(rate) => rates.push(rate as f64),
            None => section.out_of_range(
                "rates",
                &value.span(),
                format!("write whole numbers from 1 to {RATE_MAX}"),
            ),
        }
    }
    rates
}

fn read_slo(root: &mut Section<'_>) -> Option<Slo> {
    let mut section = root.section("slo");
    let mut parts = Vec::new();
    for key in ["p50", "p90", "p95", "p99", "p999", "p9999", "errors"] {
        if let Some(limit) = section.text(key) {
            let part = format!("{key}={}", limit.value);
            match Slo::parse(&part) {
                Ok(_) => parts.push(part),
                Err(help) => section.out_of_range(key, &limit.span, help),
            }
        }
    }
    section.finish();
    Slo::parse(&parts.join(",")).ok()
}

fn read_groups(root: &mut Section<'_>, targets: &[Target]) -> Vec<Group> {
    if !root.has("groups") {
        root.missing(
            "groups",
            "[[groups]] with target, operation and connections",
        );
    }
    let problems = root.problems;
    let mut groups = Vec::new();
    for (index, value) in root.array("groups").unwrap_or_default().iter().enumerate() {
        let section = Section::of_value(format!("groups[{index}]"), value, problems);
        groups.extend(read_group(section, index, targets));
    }
    groups
}

fn read_group(mut section: Section<'_>, index: usize, targets: &[Target]) -> Option<Group> {
    let name = section
        .text("name")
        .map_or_else(|| format!("group {}", index + 1), |at| at.value);
    let target = read_target(&mut section, targets);
    let connections = section
        .number32("connections", 1..=CONNECTIONS_MAX)
        .unwrap_or(1);
    let weight = section.number32("weight", 1..=1_000_000).unwrap_or(1);
    let is_mysql = target
        .as_ref()
        .is_none_or(|target| matches!(target.protocol, Protocol::MySql { .. }));
    let operation = match is_mysql {
        true => read_mysql_operation(&mut section),
        false => read_request(&mut section),
    };
    let expect = read_expectation(&mut section);
    section.finish();
    Some(Group {
        name,
        target: target?,
        connections,
        weight,
        operation: operation?,
        expect,
    })
}

fn read_target(section: &mut Section<'_>, targets: &[Target]) -> Option<Target> {
    // With one target there is nothing to choose.
    if let ([only], false) = (targets, section.has("target")) {
        return Some(only.clone());
    }
    let wanted = section.required_text("target", "target = \"NAME\"")?;
    let found = targets.iter().find(|target| target.name == wanted.value);
    if found.is_none() {
        let names: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
        let message = format!("there is no target `{}`", wanted.value);
        let problem = Problem::at(Code::UnknownName, &wanted.span, message, "not a target");
        section
            .problems
            .push(problem.help(suggest(&wanted.value, &names)));
    }
    found.cloned()
}

fn read_mysql_operation(section: &mut Section<'_>) -> Option<Operation> {
    let kinds = [
        ("text", 0),
        ("prepared", 1),
        ("transaction", 2),
        ("ping", 3),
        ("connect", 4),
        ("hold", 5),
    ];
    if !section.has("operation") {
        section.missing("operation", "operation = \"text\"");
    }
    match section.choice("operation", &kinds)? {
        0 => read_statement(section).map(Operation::Text),
        1 => read_statement(section).map(Operation::Prepared),
        2 => read_transaction(section).map(Operation::Transaction),
        3 => Some(Operation::Ping),
        4 => Some(Operation::Connect),
        _ => Some(Operation::Hold),
    }
}

fn read_statement(section: &mut Section<'_>) -> Option<Statement> {
    let sql = section.required_text("sql", "sql = \"SELECT ?\"");
    let arguments = read_arguments(section);
    let sql = sql?;
    check_arguments(section, &sql, '?', arguments.len());
    Some(Statement {
        sql: sql.value,
        arguments,
    })
}

fn read_transaction(section: &mut Section<'_>) -> Option<Vec<Statement>> {
    if !section.has("steps") {
        section.missing("steps", "steps = [\"BEGIN\", \"SELECT 1\", \"COMMIT\"]");
    }
    let problems = section.problems;
    let path = section.path_of("steps");
    let mut statements = Vec::new();
    for (index, step) in section.array("steps")?.iter().enumerate() {
        if let Some(sql) = step.get_ref().as_str() {
            statements.push(Statement {
                sql: sql.to_owned(),
                arguments: Vec::new(),
            });
            continue;
        }
        let mut step = Section::of_value(format!("{path}[{index}]"), step, problems);
        statements.extend(read_statement(&mut step));
        step.finish();
    }
    Some(statements)
}

fn read_arguments(section: &mut Section<'_>) -> Vec<Argument> {
    let path = section.path_of("arguments");
    let mut arguments = Vec::new();
    for value in section.array("arguments").unwrap_or_default() {
        match argument(value) {
            Ok(argument) => arguments.push(argument),
            Err(None) => {
                let wanted = "texts and whole numbers";
                section.problems.push(wrong_type(&path, wanted, value));
            }
            Err(Some(help)) => section.out_of_range("arguments", &value.span(), help),
        }
    }
    arguments
}

fn argument(value: &Spanned<DeValue<'_>>) -> Result<Argument, Option<String>> {
    if let Some(text) = value.get_ref().as_str() {
        return Argument::parse(text).map_err(|error| Some(error.to_string()));
    }
    let integer = value.get_ref().as_integer().ok_or(None)?;
    i64::from_str_radix(integer.as_str(), integer.radix())
        .map(Argument::Number)
        .map_err(|error| Some(error.to_string()))
}

/// Reports placeholders and arguments that are not equally many.
fn check_arguments(section: &Section<'_>, text: &At<String>, mark: char, found: usize) {
    let wanted = text.value.matches(mark).count();
    if wanted == found {
        return;
    }
    let message = format!("{wanted} placeholders, but {found} arguments");
    let problem = Problem::at(
        Code::Contradiction,
        &text.span,
        message,
        "these placeholders",
    );
    let help = format!(
        "`{}` needs one entry for each `{mark}`",
        section.path_of("arguments")
    );
    section.problems.push(problem.help(help));
}

fn read_request(section: &mut Section<'_>) -> Option<Operation> {
    if let Some(operation) = section.text("operation")
        && operation.value != "request"
    {
        only_requests(section, &operation.span);
    }
    let method = section
        .text("method")
        .map_or_else(|| "GET".to_owned(), |at| at.value);
    let path = section.text("path").unwrap_or(At {
        value: "/".to_owned(),
        span: section.span.clone(),
    });
    let arguments = read_arguments(section);
    check_arguments(section, &path, '{', arguments.len());
    let body_bytes = section.size("body", 0..=1 << 30).unwrap_or(0);
    Some(Operation::Request(Request {
        method,
        path: path.value,
        arguments,
        body_bytes: usize::try_from(body_bytes).unwrap_or_default(),
    }))
}

fn only_requests(section: &Section<'_>, span: &Span) {
    let message = "an HTTP target takes requests only";
    let problem = Problem::at(Code::Contradiction, span, message, "another operation");
    section
        .problems
        .push(problem.help("write operation = \"request\""));
}

fn read_expectation(section: &mut Section<'_>) -> Expectation {
    let mut expect = section.section("expect");
    let found = Expectation {
        rows: expect.number("rows", 0..=u64::MAX).map(|at| at.value),
        first_column_is_argument: expect.number32("first_column_is_argument", 1..=1000),
        status: expect
            .number("status", 100..=999)
            .and_then(|at| u16::try_from(at.value).ok()),
        body_bytes: expect.size("body", 0..=1 << 31).map(u64::from),
    };
    expect.finish();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, ConfigErrors> {
        let env = |name: &str| (name == "PW").then(|| "secret".to_owned());
        parse("scenario.toml", text, 9, &env)
    }

    #[test]
    fn a_scenario_with_every_part_is_read() {
        let scenario = read(
            r#"
version = 1
seed = 4
cores = 2
warmup = "2s"
duration = "30s"
timeout = "500ms"
verify = true
[targets.db]
url = "mysql://app@127.0.0.1:3306/shop"
password_env = "PW"
[targets.web]
url = "http://127.0.0.1:8080"
[slo]
p99 = "2ms"
errors = "0.01"
[arrivals]
kind = "steps"
rates = [1000, 2000]
shuffled = true
[[groups]]
name = "points"
target = "db"
operation = "prepared"
sql = "SELECT id FROM t WHERE id = ?"
arguments = ["zipf(1,100,0.99)"]
connections = 8
weight = 3
expect = { rows = 1, first_column_is_argument = 1 }
[[groups]]
target = "db"
operation = "transaction"
steps = ["BEGIN", { sql = "UPDATE t SET v=v+1 WHERE id=?", arguments = [7] }, "COMMIT"]
[[groups]]
target = "web"
path = "/item/{}"
arguments = ["uniform(1,9)"]
expect = { status = 200, body = "1KiB" }
"#,
        )
        .unwrap();
        assert_eq!(
            (scenario.seed, scenario.cores, scenario.verify),
            (4, 2, true)
        );
        let labels: Vec<_> = scenario
            .groups
            .iter()
            .map(|g| g.operation.label())
            .collect();
        assert_eq!(labels, ["prepared", "transaction", "request"]);
        let Protocol::MySql { password, .. } = &scenario.groups[0].target.protocol else {
            panic!("a MySQL target");
        };
        assert_eq!(password.expose(), b"secret");
        assert_eq!(scenario.groups[2].expect.body_bytes, Some(1024));
        assert_eq!(scenario.slo, Slo::parse("p99=2ms,errors=0.01").ok());
    }

    #[test]
    fn every_mistake_is_told_at_once_with_what_would_be_right() {
        let errors = read(
            r#"
warmup = 3
[targets.db]
url = "mysql://u:hidden@127.0.0.1/x"
[arrivals]
kind = "poison"
[[groups]]
target = "bd"
operation = "text"
sql = "SELECT ?, ?"
arguments = ["uniform(9,1)"]
connection = 3
"#,
        )
        .unwrap_err();
        let text = errors.to_string();
        for expect in [
            "`warmup` takes a duration",
            "did you mean `poisson`?",
            "known here: db",
            "2 placeholders, but 0 arguments",
            "ends before it begins",
            "did you mean `connections`?",
        ] {
            assert!(text.contains(expect), "{expect}: {text}");
        }
        assert!(!text.contains("hidden"), "{text}");
        let text = read("").unwrap_err().to_string();
        assert!(
            text.contains("[targets.NAME]") && text.contains("[[groups]]"),
            "{text}"
        );
    }
}
