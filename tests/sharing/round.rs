//! One round: two servers and a node of its own, a storm, and the checks behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringgate::base::prng::Prng;

use crate::clients::{Seat, Storm};
use crate::configuration::{Addresses, Configuration, SHARED_ACCOUNTS, own_account};
use crate::plan::{Plan, STORM};
use crate::support::rounds::AT_REST;
use crate::support::{Client, ClientError, Gateway, Kind, MariaDb, Options, PASSWORD, wait_for};

/// How long what is left of a storm may take to go.
const SETTLE: Duration = Duration::from_secs(10);
/// How often the servers' connections are counted.
const WATCH: Duration = Duration::from_millis(10);
/// Where a server's clients come from: by TCP, and by its Unix socket.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];
/// Clients of the tenant that goes by the hash.
const HASHED: u32 = 2;
/// The least that the tenant served least may have of what the one served most has.
/// The least that an equal tenant is served in a round: a tenth of what is seen on a machine with other work.
const LEAST: f64 = 150.0;
const ALIKE: f64 = 0.8;

/// A server whose accounts may have no more connections than the budget. Each tenant has a schema that says
/// whose it is.
fn server(plan: &Plan) -> MariaDb {
    let options = Options::with_test_schema("CREATE TABLE IF NOT EXISTS test.t (c INT);");
    let server = match plan.kind {
        Kind::MariaDb => MariaDb::start(options),
        Kind::MySql => MariaDb::mysql(options).expect("a MySQL server: scripts/lib/fetch_mysql"),
    };
    let plugin = match plan.kind {
        Kind::MariaDb => format!("VIA mysql_native_password USING PASSWORD('{PASSWORD}')"),
        Kind::MySql => format!("WITH caching_sha2_password BY '{PASSWORD}'"),
    };
    let mut sql = Vec::new();
    for account in accounts(plan) {
        for host in HOSTS {
            sql.push(format!(
                "CREATE USER {account}@'{host}' IDENTIFIED {plugin} WITH MAX_USER_CONNECTIONS {}",
                plan.budget
            ));
            sql.push(format!("GRANT ALL PRIVILEGES ON *.* TO {account}@'{host}'"));
        }
    }
    for tenant in 0..plan.tenants {
        sql.push(format!("CREATE DATABASE t{tenant}"));
        sql.push(format!("CREATE TABLE t{tenant}.who (name VARCHAR(9))"));
        sql.push(format!("INSERT INTO t{tenant}.who VALUES ('t{tenant}')"));
        sql.push(format!("CREATE TABLE t{tenant}.w (a VARCHAR(40), KEY (a))"));
    }
    server.run(&sql);
    server
}

fn accounts(plan: &Plan) -> Vec<String> {
    let own = (0..plan.tenants).map(own_account);
    let shared = SHARED_ACCOUNTS.map(str::to_owned);
    shared.into_iter().chain(own).collect()
}

/// Runs a round; its figures, or what went wrong.
pub fn run(plan: &Plan) -> Result<String, Vec<String>> {
    let servers = [server(plan), server(plan)];
    let addresses = servers.each_ref().map(|server| Addresses {
        tcp: server.port(),
        unix: server.socket(),
    });
    let gateway = Gateway::start(|at| plan.first.text(at, &addresses));
    let storm = Storm::of(plan.tenants);
    let peaks = [AtomicU64::new(0), AtomicU64::new(0)];
    let reloads = std::thread::scope(|scope| {
        for (server, peak) in servers.iter().zip(&peaks) {
            let storm = &storm;
            scope.spawn(move || watch(plan, server, peak, storm));
        }
        let mut prng = Prng::new(plan.seed ^ (1 << 50));
        for seat in seats(plan) {
            let (storm, gateway, seed) = (&storm, &gateway, prng.next_u64());
            scope.spawn(move || seat.sit(storm, gateway, seed));
        }
        let begun = Instant::now();
        let reloads = reload_all(plan, &gateway, &addresses, &storm, begun);
        std::thread::sleep(STORM.saturating_sub(begun.elapsed()));
        storm.is_over.store(true, Ordering::Relaxed);
        reloads
    });
    judge(plan, &storm, &gateway, &peaks, reloads)
}

/// As many of each tenant on each core, and a few of the one that goes by the hash.
fn seats(plan: &Plan) -> Vec<Seat> {
    let mut seats = Vec::new();
    for core in 0..plan.cores {
        for tenant in 0..plan.tenants {
            let of_tenant = |number| Seat {
                tenant,
                is_hashed: false,
                core,
                number,
            };
            seats.extend((0..plan.clients).map(of_tenant));
        }
    }
    seats.extend((0..HASHED).map(|number| Seat {
        tenant: 0,
        is_hashed: true,
        core: 0,
        number,
    }));
    seats
}

/// Counts a server's connections by each of its addresses, those that log in included.
fn watch(plan: &Plan, server: &MariaDb, peak: &AtomicU64, storm: &Storm) {
    let names: Vec<String> = accounts(plan)
        .into_iter()
        .chain(["unauthenticated user".to_owned()])
        .map(|name| format!("'{name}'"))
        .collect();
    let sql = format!(
        "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE USER IN ({}) \
         GROUP BY HOST = 'localhost' ORDER BY n DESC",
        names.join(", ")
    );
    let mut client = server.client();
    while !storm.is_over.load(Ordering::Relaxed) {
        let counted = client.query_one(&sql).expect("an answer");
        let most = counted
            .text(0, 0)
            .map_or(0, |count| count.parse().expect("a number"));
        peak.fetch_max(most, Ordering::Relaxed);
        std::thread::sleep(WATCH);
    }
}

/// All reloads at their moments, and at the end back to the first configuration; how many.
fn reload_all(
    plan: &Plan,
    gateway: &Gateway,
    addresses: &[Addresses; 2],
    storm: &Storm,
    begun: Instant,
) -> u32 {
    let mut configuration = plan.first.clone();
    let mut count = 0;
    for (at, changes) in &plan.reloads {
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        changes
            .iter()
            .for_each(|changed| configuration.change(changed));
        count += 1;
        reload(gateway, &configuration, addresses, count, storm);
    }
    reload(gateway, &plan.first, addresses, count + 1, storm);
    count + 1
}

fn reload(
    gateway: &Gateway,
    configuration: &Configuration,
    addresses: &[Addresses; 2],
    count: u32,
    storm: &Storm,
) {
    gateway.reload(|at| configuration.text(at, addresses));
    let generation = || gateway.metric("ringgate_configuration_generation", &[]);
    let wanted = f64::from(1 + count) - 0.5;
    if !wait_for(SETTLE, || generation() > wanted) {
        let log = gateway.log();
        let end: Vec<&str> = log.lines().rev().take(4).collect();
        storm.problem(format!(
            "not applied, the log's end, last first:\n    {}",
            end.join("\n    ")
        ));
    }
}

fn judge(
    plan: &Plan,
    storm: &Storm,
    gateway: &Gateway,
    peaks: &[AtomicU64; 2],
    reloads: u32,
) -> Result<String, Vec<String>> {
    let mut problems = std::mem::take(&mut *storm.problems.lock().expect("no panic before"));
    let peaks = peaks.each_ref().map(|peak| peak.load(Ordering::Relaxed));
    if peaks.iter().any(|peak| *peak > u64::from(plan.budget)) {
        problems.push(format!(
            "{peaks:?} connections, the budget is {}",
            plan.budget
        ));
    }
    let log = gateway.log();
    for line in log.lines().filter(|line| {
        // A server has refused one more than the budget, or something is broken.
        line.contains("max_user_connections") || line.contains("level=error")
    }) {
        problems.push(line.to_owned());
    }
    problems.truncate(12);
    let served: Vec<u64> = storm
        .served
        .iter()
        .map(|served| served.load(Ordering::Relaxed))
        .collect();
    let (hashed, equal) = served.split_last().expect("tenants");
    let of = |count: &u64| f64::from(u32::try_from(*count).expect("a short storm"));
    let least = of(equal.iter().min().expect("tenants"));
    let most = of(equal.iter().max().expect("tenants"));
    if least < LEAST {
        problems.push(format!(
            "equal tenants were served next to nothing: {equal:?}"
        ));
    }
    if least < ALIKE * most {
        problems.push(format!("equal tenants were served {equal:?}"));
    }
    if *hashed == 0 {
        problems.push("the tenant that goes by the hash was served nothing".to_owned());
    }
    let connects = gateway.metric("ringgate_upstream_connects_total", &[]);
    let mut wrong = Vec::new();
    wait_for(SETTLE, || {
        wrong = not_back(plan, gateway);
        wrong.is_empty()
    });
    problems.append(&mut wrong);
    if let Err(problem) = is_whole(plan, gateway) {
        problems.push(format!("the budget is not whole: {problem}"));
    }
    let figures = format!(
        "{reloads} reloads, served {equal:?} and {hashed}, {} told; at most {peaks:?} connections, {connects} made",
        storm.told.load(Ordering::Relaxed)
    );
    match problems.is_empty() {
        true => Ok(figures),
        false => {
            problems.push(figures);
            Err(problems)
        }
    }
}

fn not_back(plan: &Plan, gateway: &Gateway) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |name: &str, labels: &[&str], expect: f64| {
        let found = gateway.metric(name, labels);
        if (found - expect).abs() > 0.5 {
            wrong.push(format!("{name}: {found}, not {expect}"));
        }
    };
    for name in AT_REST.iter().chain(&["ringgate_panics_total"]) {
        expect(name, &[], 0.0);
    }
    let budget = f64::from(plan.budget);
    let label = ["placement=\"s0\""];
    expect("ringgate_upstream_permits", &label, budget);
    wrong
}

/// The budget is whole and no more: as many clients as it has connections hold one each at the same time, and
/// the next one is told that there is none. So for a client of each tenant.
fn is_whole(plan: &Plan, gateway: &Gateway) -> Result<(), String> {
    for tenant in 0..plan.tenants {
        let login = crate::support::Login {
            user: format!("t{tenant}"),
            ..gateway.login()
        };
        let connect = || Client::connect(&login).map_err(|error| format!("t{tenant}: {error}"));
        let mut holders = Vec::new();
        for number in 0..plan.budget {
            let mut client = connect()?;
            client
                .query("BEGIN")
                .and_then(|_| client.query("SELECT c FROM test.t"))
                .map_err(|error| format!("t{tenant} holds {number} only: {error}"))?;
            holders.push(client);
        }
        match connect()?.query("SELECT c FROM test.t") {
            Err(ClientError::Server { errno: 3168, .. }) => {}
            other => return Err(format!("t{tenant}: one beyond the budget: {other:?}")),
        }
        for client in &mut holders {
            let done = client.query("COMMIT");
            done.map_err(|error| format!("t{tenant}: COMMIT: {error}"))?;
        }
    }
    Ok(())
}
