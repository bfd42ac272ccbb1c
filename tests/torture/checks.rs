//! What must hold after a storm: the process lives, every core turns, and everything is back.

use std::fs;
use std::time::{Duration, Instant};

use crate::clients::Storm;
use crate::plan::{Kind, Plan};
use crate::support::gateway::metric_sum;
use crate::support::rounds::AT_REST;
use crate::support::{ACCOUNT, Client, ClientError, Gateway, MariaDb, wait_for};

/// How long what is left of a storm may take to go: grace, linger, closing, and a server's start.
const SETTLE: Duration = Duration::from_secs(10);
/// What the process may have grown by, besides its receive buffers, KiB.
const GROWTH_MAX_KIB: u64 = 32 * 1024;
const BUFFER_KIB: u64 = 32;
/// A statement that fails while the server is found again is asked again for this long.
const SERVED_AGAIN: Duration = Duration::from_secs(6);

/// What the process had before the storm.
pub struct Baseline {
    rss_kib: u64,
    /// Sockets and descriptors beyond those of idle upstream connections.
    sockets: f64,
    descriptors: f64,
}

impl Baseline {
    pub fn of(gateway: &Gateway) -> Self {
        let text = gateway.metrics();
        Self {
            rss_kib: gateway.rss_kib(),
            sockets: sockets(&text),
            descriptors: descriptors(gateway, &text),
        }
    }

    /// Resident memory, KiB.
    pub fn rss_kib(&self) -> u64 {
        self.rss_kib
    }
}

fn value(text: &str, name: &str) -> f64 {
    metric_sum(text, name, &[])
}

fn upstream(text: &str) -> f64 {
    value(text, "ringgate_upstream_connections_open")
}

fn sockets(text: &str) -> f64 {
    value(text, "ringgate_sockets_open") - upstream(text)
}

/// Open descriptors beyond the upstream connections'.
fn descriptors(gateway: &Gateway, text: &str) -> f64 {
    let folder = fs::read_dir(format!("/proc/{}/fd", gateway.pid()));
    let count = folder.map_or(0, Iterator::count);
    f64::from(u32::try_from(count).expect("few descriptors")) - upstream(text)
}

/// What is wrong after the storm: asks until nothing is, for as long as it may take. And whether the
/// node serves at all.
pub fn after(
    plan: &Plan,
    gateway: &Gateway,
    database: Option<&MariaDb>,
    baseline: &Baseline,
) -> (bool, Vec<String>) {
    let mut problems = Vec::new();
    if !turns(plan, gateway, &mut problems) {
        let log = gateway.log();
        let tail: Vec<&str> = log.lines().rev().take(6).collect();
        problems.push(format!(
            "the log's end, last first:\n    {}",
            tail.join("\n    ")
        ));
        return (false, problems);
    }
    let mut wrong = Vec::new();
    wait_for(SETTLE, || {
        wrong = not_back(plan, gateway, database, baseline);
        wrong.is_empty()
    });
    problems.append(&mut wrong);
    (true, problems)
}

/// Whether the process lives, is ready, and each of its cores turns.
fn turns(plan: &Plan, gateway: &Gateway, problems: &mut Vec<String>) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap_or_default();
    let state = status.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    if state.is_none_or(|state| state.starts_with('Z')) {
        problems.push("the process has ended".to_owned());
        return false;
    }
    let is_ready = wait_for(SETTLE, || {
        gateway
            .admin("/readyz")
            .is_some_and(|(code, _)| code == 200)
    });
    if !is_ready {
        problems.push(format!("/readyz says {:?}", gateway.admin("/readyz")));
    }
    let of = |core: u64| {
        let label = format!("core=\"{core}\"");
        gateway.metric("ringgate_ring_turns_total", &[&label])
    };
    let before: Vec<f64> = (0..plan.cores).map(of).collect();
    let mut all_turn = true;
    for (core, before) in (0..plan.cores).zip(before) {
        if !wait_for(SETTLE, || of(core) > before.max(0.5)) {
            problems.push(format!("core {core} does not turn"));
            all_turn = false;
        }
    }
    if gateway.log().contains("core_stalled") {
        problems.push("a core has stalled".to_owned());
    }
    is_ready && all_turn
}

fn not_back(
    plan: &Plan,
    gateway: &Gateway,
    database: Option<&MariaDb>,
    baseline: &Baseline,
) -> Vec<String> {
    let text = gateway.metrics();
    let budget = f64::from(plan.budget);
    let mut wrong = Vec::new();
    let mut expect = |name: &str, found: f64, least: f64, most: f64| {
        if !(least - 0.5..most + 0.5).contains(&found) {
            wrong.push(format!("{name}: {found}, not {least} to {most}"));
        }
    };
    for name in AT_REST.iter().chain(&["ringgate_scrape_unanswered_cores"]) {
        expect(name, value(&text, name), 0.0, 0.0);
    }
    let permits = value(&text, "ringgate_upstream_permits");
    expect("permits", permits, budget, budget);
    let idle = value(&text, "ringgate_upstream_connections_idle");
    expect("upstream connections", upstream(&text), idle, budget);
    let usual = baseline.sockets;
    expect("other sockets", sockets(&text), usual, usual);
    let usual = baseline.descriptors;
    // The scrape's own connection comes and goes.
    expect(
        "descriptors",
        descriptors(gateway, &text),
        usual - 2.0,
        usual + 2.0,
    );
    let panics = value(&text, "ringgate_panics_total");
    if plan.has(Kind::Panicker) {
        expect("panics", panics, 1.0, f64::INFINITY);
    } else {
        expect("panics", panics, 0.0, plan.panics_max());
    }
    if let Some(database) = database {
        let counted = u32::try_from(database.connections_of(ACCOUNT)).expect("few");
        expect("the server's connections", f64::from(counted), 0.0, budget);
        if f64::from(counted) > budget {
            let list =
                "SELECT ID, USER, COMMAND, TIME, STATE, INFO FROM information_schema.PROCESSLIST";
            wrong.push(database.sql(list));
        }
    }
    let bound =
        baseline.rss_kib + GROWTH_MAX_KIB + BUFFER_KIB * u64::from(plan.buffers) * plan.cores;
    let rss = gateway.rss_kib();
    if rss > bound {
        wrong.push(format!("{rss} KiB resident, {} before", baseline.rss_kib));
    }
    wrong
}

/// The budget is whole and no more: as many clients of one tenant as it has connections hold one each at
/// the same time, and the next one is told that there is none. The same of the other tenant, afterwards.
pub fn is_whole(plan: &Plan, storm: &Storm) -> Result<(), String> {
    // Panics that the storm has not come to end one client each.
    let mut endings = if plan.panic.is_some() { plan.cores } else { 0 };
    for user in ["a", "b"] {
        let mut holders = Vec::new();
        for number in 0..plan.budget {
            let holder = hold(storm, user, &mut endings);
            holders.push(holder.map_err(|error| format!("{user} holds {number} only: {error}"))?);
        }
        let mut client = connect(storm, user)?;
        match client
            .query("SELECT c FROM test.t")
            .map_err(|error| error.errno())
        {
            Err(3168) => {}
            other => return Err(format!("{user}: one beyond the budget: {other:?}")),
        }
        for client in &mut holders {
            match client.query("COMMIT") {
                Err(ClientError::Io(_)) if endings > 0 => endings -= 1,
                done => {
                    done.map_err(|error| format!("{user}: COMMIT: {error}"))?;
                }
            }
        }
    }
    Ok(())
}

fn connect(storm: &Storm, user: &str) -> Result<Client, String> {
    Client::connect(&storm.login(user)).map_err(|error| format!("{user}: {error}"))
}

/// A client that holds an upstream connection. `endings` of them may be ended before that.
fn hold(storm: &Storm, user: &str, endings: &mut u64) -> Result<Client, String> {
    let mut client = connect(storm, user)?;
    let begun = Instant::now();
    loop {
        let held = client
            .query("BEGIN")
            .and_then(|_| client.query("SELECT c FROM test.t"));
        match held {
            Ok(_) => return Ok(client),
            Err(ClientError::Server { .. }) if begun.elapsed() < SERVED_AGAIN => {}
            Err(ClientError::Io(_)) if *endings > 0 => {
                *endings -= 1;
                client = connect(storm, user)?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
