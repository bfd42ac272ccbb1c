//! Reads the sections about the process itself: cores, node, admin, deadlines, logging, pools, buffers.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::doors::check_name;
use super::machine::Machine;
use super::problem::{Code, Problem};
use super::reader::{At, Section, wrong_type};
use super::snapshot::{
    Admin, Buffers, Cores, Deadlines, LogLevel, LogTarget, Logging, Node, Pools,
};
use super::units::parse_cpus;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// More than any machine has; keeps an index in 16 bits.
const CORES_MAX: u64 = 1_024;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// `[cores]`, and how many cores that makes on this machine (when known).
pub(super) fn read_cores(root: &mut Section<'_>, machine: &Machine) -> (Cores, Option<usize>) {
    let mut section = root.section("cores");
    let count = section.number("count", 1..=CORES_MAX);
    let cpus = read_cpus(&mut section, machine);
    let available = machine.cpus.as_ref().map(Vec::len);
    if let (Some(count), Some(_)) = (&count, &cpus) {
        let problem = Problem::at(
            Code::Contradiction,
            &count.span,
            "`cores` has both a count and CPUs",
            "keep one",
        );
        let help = "keep `count` for the first CPUs, or `cpus` for certain ones";
        section.problems.push(problem.help(help));
    }
    let cores = match (count, cpus) {
        (_, Some(cpus)) => Cores::Cpus(cpus),
        (Some(count), None) => {
            let fits = available.is_none_or(|n| u64::try_from(n).is_ok_and(|n| count.value <= n));
            if !fits {
                let message = format!(
                    "{} cores are asked for and {} CPUs are allowed",
                    count.value,
                    available.unwrap_or(0)
                );
                let problem = Problem::at(Code::Machine, &count.span, message, "too many");
                section.problems.push(
                    problem.help("one core needs one CPU; leave `count` out to use every CPU"),
                );
            }
            Cores::Count(u16::try_from(count.value).unwrap_or(1))
        }
        (None, None) => Cores::EachCpu,
    };
    section.finish();
    let number = match &cores {
        Cores::EachCpu => available,
        Cores::Count(count) => Some(usize::from(*count)),
        Cores::Cpus(cpus) => Some(cpus.len()),
    };
    (cores, number)
}

fn read_cpus(section: &mut Section<'_>, machine: &Machine) -> Option<Vec<u16>> {
    let text = section.text("cpus")?;
    let cpus = match parse_cpus(&text.value) {
        Ok(cpus) => cpus,
        Err(help) => {
            section.out_of_range("cpus", &text.span, help);
            return None;
        }
    };
    let allowed = machine.cpus.as_deref();
    let foreign = allowed.and_then(|allowed| cpus.iter().find(|cpu| !allowed.contains(cpu)));
    if let Some(cpu) = foreign {
        let message = format!("CPU {cpu} is not in the affinity mask of this process");
        let problem = Problem::at(Code::Machine, &text.span, message, "these CPUs");
        let mine: Vec<String> = allowed
            .unwrap_or_default()
            .iter()
            .map(u16::to_string)
            .collect();
        section.problems.push(problem.help(format!(
            "it may run on {}; widen its mask (taskset, CPUAffinity=, a cpuset) for more",
            mine.join(",")
        )));
    }
    Some(cpus)
}

/// `[node]`.
pub(super) fn read_node(root: &mut Section<'_>) -> Node {
    let mut section = root.section("node");
    let drain_grace = section.duration("drain_grace", secs(30), Duration::ZERO..=HOUR);
    let version = section
        .text("server_version")
        .filter(|text| !text.value.is_empty());
    if let Some(version) = &version {
        // It is a zero-terminated string in the greeting, and clients parse the digits it begins with.
        let printable = version
            .value
            .bytes()
            .all(|b| b.is_ascii_graphic() || b == b' ');
        let begins = version.value.starts_with(|c: char| c.is_ascii_digit());
        if !(printable && begins && version.value.len() <= 60) {
            let problem = Problem::at(
                Code::BadValue,
                &version.span,
                "this is no version of a server",
                "this version",
            );
            section.problems.push(problem.help("write one like \"8.4.3\" or \"10.11.6-MariaDB\", or leave it out to take the upstream's"));
        }
    }
    let zone = section.text("zone");
    if let Some(zone) = &zone {
        check_name(zone, section.problems);
    }
    section.finish();
    Node {
        drain_grace,
        server_version: version.map(|version| version.value),
        zone: zone.map(|zone| zone.value).unwrap_or_default(),
    }
}

/// `[admin]`, with the place of its address for the search for clashes.
pub(super) fn read_admin(root: &mut Section<'_>) -> (Admin, At<SocketAddr>) {
    let mut section = root.section("admin");
    let default = SocketAddr::from(([127, 0, 0, 1], 9306));
    let address = read_tcp_address(&mut section, "address").unwrap_or_else(|| At {
        value: default,
        span: section.span.clone(),
    });
    if !address.value.ip().is_loopback() {
        let message = format!(
            "the admin listener on {} would be open to others",
            address.value
        );
        let problem = Problem::at(
            Code::AdminExposed,
            &address.span,
            message,
            "not a loopback address",
        );
        section.problems.push(
            problem.help("write \"127.0.0.1:9306\" and let a local agent or a tunnel reach it"),
        );
    }
    section.finish();
    (
        Admin {
            address: address.value,
        },
        address,
    )
}

/// An IP address with a port, to listen on.
pub(super) fn read_tcp_address(
    section: &mut Section<'_>,
    key: &'static str,
) -> Option<At<SocketAddr>> {
    let text = section.text(key)?;
    match text.value.parse() {
        Ok(value) => Some(At {
            value,
            span: text.span,
        }),
        Err(_) => {
            let help = "write an IP address and a port: \"127.0.0.1:3306\", \"0.0.0.0:3306\" or \"[::]:3306\"";
            section.out_of_range(key, &text.span, help.to_owned());
            None
        }
    }
}

/// `[deadlines]`.
pub(super) fn read_deadlines(root: &mut Section<'_>) -> Deadlines {
    let mut section = root.section("deadlines");
    let wait: RangeInclusive<Duration> = MS..=HOUR;
    let none_or = |duration: Duration| (!duration.is_zero()).then_some(duration);
    let deadlines = Deadlines {
        login: section.duration("login", secs(5), wait.clone()),
        connect: section.duration("connect", secs(1), wait.clone()),
        connect_total: section.duration("connect_total", secs(3), wait.clone()),
        pool_wait: section.duration("pool_wait", secs(3), wait.clone()),
        pool_wait_target: none_or(section.duration(
            "pool_wait_target",
            Duration::ZERO,
            Duration::ZERO..=HOUR,
        )),
        upstream_login: section.duration("upstream_login", secs(3), wait.clone()),
        statement: none_or(section.duration("statement", Duration::ZERO, Duration::ZERO..=YEAR)),
        write_stall: section.duration("write_stall", secs(60), MS..=YEAR),
        idle_client: none_or(section.duration("idle_client", 8 * HOUR, Duration::ZERO..=YEAR)),
        transaction_idle: none_or(section.duration(
            "transaction_idle",
            secs(600),
            Duration::ZERO..=YEAR,
        )),
        removed_user: none_or(section.duration("removed_user", secs(30), Duration::ZERO..=YEAR)),
        linger: section.duration("linger", secs(2), MS..=HOUR),
    };
    let not_longer = |short: &'static str, times: &str, long: &'static str, holds: bool| {
        if !holds {
            let message = format!("{times}`deadlines.{short}` is longer than `deadlines.{long}`");
            let problem = Problem::at(
                Code::Contradiction,
                &section.span_of(short),
                message,
                "this wait could never end by itself",
            );
            section
                .problems
                .push(problem.help(format!("shorten `{short}` or lengthen `{long}`")));
        }
    };
    not_longer(
        "connect",
        "",
        "connect_total",
        deadlines.connect <= deadlines.connect_total,
    );
    not_longer(
        "connect",
        "",
        "pool_wait",
        deadlines.connect <= deadlines.pool_wait,
    );
    // Twice the target is what a wait may take where the queue stands.
    let target = deadlines.pool_wait_target.unwrap_or_default();
    not_longer(
        "pool_wait_target",
        "twice ",
        "pool_wait",
        target.saturating_mul(2) <= deadlines.pool_wait,
    );
    section.finish();
    deadlines
}

/// `[logging]`.
pub(super) fn read_logging(root: &mut Section<'_>) -> Logging {
    let mut section = root.section("logging");
    let levels: Vec<(&str, LogLevel)> = LogLevel::ALL
        .iter()
        .map(|level| (level.label(), *level))
        .collect();
    let targets = [LogTarget::Stderr, LogTarget::Stdout].map(|target| (target.label(), target));
    let logging = Logging {
        level: section.choice("level", &levels).unwrap_or(LogLevel::Info),
        target: section
            .choice("target", &targets)
            .unwrap_or(LogTarget::Stderr),
    };
    section.finish();
    logging
}

/// `[pools]`, with the default budget of an endpoint.
pub(super) fn read_pools(root: &mut Section<'_>) -> (Pools, At<u32>) {
    let mut section = root.section("pools");
    let budget = read_budget(&mut section).unwrap_or(At {
        value: 64,
        span: section.span.clone(),
    });
    let pools = Pools {
        waiters_max: section
            .number32("waiters_max", 1..=1_000_000)
            .unwrap_or(4_096),
        idle_max: section.duration("idle_max", secs(600), secs(1)..=YEAR),
        age_max: section.duration("age_max", HOUR, secs(1)..=YEAR),
        statements_max: section
            .number32("statements_max", 1..=1_000_000)
            .unwrap_or(256),
        statements_per_client_max: section
            .number32("statements_per_client_max", 1..=1_000_000)
            .unwrap_or(4_096),
    };
    if pools.idle_max > pools.age_max {
        let message = "`pools.idle_max` is longer than `pools.age_max`";
        let problem = Problem::at(
            Code::Contradiction,
            &section.span_of("idle_max"),
            message,
            "never reached",
        );
        section
            .problems
            .push(problem.help("shorten `idle_max` or lengthen `age_max`"));
    }
    section.finish();
    (pools, budget)
}

/// `budget` of a section: upstream connections per endpoint, node wide.
pub(super) fn read_budget(section: &mut Section<'_>) -> Option<At<u32>> {
    let budget = section.number("budget", 1..=100_000)?;
    Some(At {
        value: u32::try_from(budget.value).unwrap_or(u32::MAX),
        span: budget.span,
    })
}

/// `[buffers]`.
pub(super) fn read_buffers(root: &mut Section<'_>) -> Buffers {
    let mut section = root.section("buffers");
    let buffers = Buffers {
        count: section
            .number32("count", 64..=32_768)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(2_048),
        bytes: section.size("bytes", 4_096..=1 << 20).unwrap_or(32 << 10),
        unread_max: section
            .size("unread_max", 4_096..=1 << 30)
            .unwrap_or(256 << 10),
    };
    if buffers.unread_max < buffers.bytes {
        let message = "`buffers.unread_max` is smaller than one buffer";
        let problem = Problem::at(
            Code::Contradiction,
            &section.span_of("unread_max"),
            message,
            "pauses at every byte",
        );
        section
            .problems
            .push(problem.help("make it at least `buffers.bytes`"));
    }
    section.finish();
    buffers
}

/// `version`, which must be there and 1.
pub(super) fn read_version(root: &mut Section<'_>) {
    let Some(value) = root.get("version") else {
        root.missing("version", "version = 1");
        return;
    };
    match value.get_ref() {
        DeValue::Integer(number) if number.as_str() == "1" => {}
        DeValue::Integer(number) => {
            let message = format!("version {number} of the file is not known here");
            let problem = Problem::at(
                Code::Version,
                &value.span(),
                message,
                "this program reads version 1",
            );
            root.problems.push(problem.help("write `version = 1`"));
        }
        _ => root
            .problems
            .push(wrong_type("version", "a whole number", value)),
    }
}
