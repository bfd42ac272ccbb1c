//! Statements that nobody waits for any more: the server is told to end them, and nobody else's.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::gateway::two_shards_config;
use support::{ACCOUNT, Chaos, Client, Gateway, Login, MariaDb, PASSWORD, Shape, wait_for};

const TABLE: &str = "CREATE OR REPLACE TABLE test.t (a INT PRIMARY KEY) ENGINE=InnoDB;";
const PATIENCE: Duration = Duration::from_secs(20);
/// A client that is gone is noticed at once by a reset and after half a second by an orderly end;
/// its transaction is rolled back within a second. What the test's own shell takes comes on top.
const GONE_WITHIN: Duration = Duration::from_millis(1_250);

fn pair(shape: &Shape<'_>) -> (MariaDb, Gateway) {
    let server = MariaDb::with_test_schema(TABLE);
    let gateway = Gateway::in_shape(server.port(), shape);
    (server, gateway)
}

/// How long until no statement that contains `mark` runs on the server.
fn ends(server: &MariaDb, mark: &str) -> Duration {
    let begun = Instant::now();
    let count = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
         WHERE INFO LIKE '%{mark}%' AND ID <> CONNECTION_ID()"
    );
    let ended = wait_for(PATIENCE, || server.sql(&count).trim() == "0");
    assert!(ended, "{mark} still runs");
    begun.elapsed()
}

fn kills(gateway: &Gateway) -> (f64, f64) {
    let of = |name| gateway.metric(name, &[]);
    (
        of("ringgate_upstream_kills_total"),
        of("ringgate_upstream_kill_failures_total"),
    )
}

#[test]
fn a_statement_beyond_its_deadline_ends_on_the_server_too() {
    let (server, gateway) = pair(&Shape {
        extra: "[deadlines]\nstatement = \"500ms\"\n",
        ..Shape::default()
    });
    let mut client = gateway.client();
    let error = client.query("SELECT SLEEP(30)").expect_err("too long");
    assert_eq!(error.errno(), 3024, "{error}");
    let took = ends(&server, "SLEEP(30)");
    eprintln!("gone from the server {took:?} after its client was told");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let answer = client.query_one("SELECT 1").expect("the client is kept");
    assert_eq!(answer.text(0, 0).as_deref(), Some("1"));
    assert_eq!(kills(&gateway), (1.0, 0.0), "{}", gateway.log());
}

#[test]
fn a_client_that_leaves_in_mid_statement_is_rolled_back_within_a_second() {
    let (server, gateway) = pair(&Shape::default());
    for (number, is_reset, is_pipelined) in [
        (1, true, false),
        (2, false, false),
        (3, true, true),
        (4, false, true),
    ] {
        let mut client = gateway.client();
        client.query("BEGIN").expect("a transaction");
        client
            .query(&format!("INSERT INTO t VALUES ({number})"))
            .expect("a row");
        let mut statements = vec!["SELECT SLEEP(30)".to_owned()];
        if is_pipelined {
            // Sent ahead: its bytes must not hide that the client has left.
            statements.push("COMMIT".to_owned());
        }
        client.send_queries(&statements).expect("a write");
        assert!(server.runs("SLEEP(30)", PATIENCE), "it does not run");
        let left = Instant::now();
        if is_reset {
            client.abort().expect("a reset");
        } else {
            drop(client);
        }
        ends(&server, "SLEEP(30)");
        // The row's lock is free and the row is not there.
        server.sql(&format!(
            "SET innodb_lock_wait_timeout = 5; INSERT INTO test.t VALUES ({number})"
        ));
        let took = left.elapsed();
        eprintln!("reset {is_reset}, pipelined {is_pipelined}: rolled back after {took:?}");
        assert!(took < GONE_WITHIN, "{took:?}");
    }
    assert_eq!(kills(&gateway), (4.0, 0.0), "{}", gateway.log());
}

/// Its number is that of a connection of somebody else's on the server.
#[test]
fn no_form_of_a_kill_is_carried() {
    let (server, gateway) = pair(&Shape::default());
    let direct = Login {
        port: server.port(),
        user: ACCOUNT.to_owned(),
        password: PASSWORD.to_owned(),
        schema: "test".to_owned(),
        deprecate_eof: true,
    };
    let mut victim = Client::connect(&direct).expect("a login");
    let answer = victim
        .query_one("SELECT CONNECTION_ID()")
        .expect("its number");
    let id = answer.text(0, 0).expect("a number");
    let mut client = gateway.client();
    for kill in [
        "KILL ID",
        "kill query ID",
        "KILL SOFT CONNECTION ID",
        "KILL USER rg",
    ] {
        let kill = kill.replace("ID", &id);
        for text in [
            kill.clone(),
            format!("/*!50000 {kill} */"),
            format!("/*!999999 SELECT */ {kill}"),
            format!("SELECT 1; {kill}"),
            format!("SET STATEMENT sql_notes = 0 FOR {kill}"),
            format!("BEGIN NOT ATOMIC {kill}; END"),
            format!("IF 1 THEN {kill}; END IF"),
            format!(
                "BEGIN NOT ATOMIC DECLARE EXIT HANDLER FOR 1064 {kill}; EXECUTE IMMEDIATE 'x'; END"
            ),
            format!("EXECUTE IMMEDIATE '{kill}'"),
            format!("EXECUTE IMMEDIATE CONCAT('KI', 'LL {id}')"),
            format!("PREPARE s FROM '{kill}'"),
            format!("BEGIN NOT ATOMIC PREPARE s FROM \"{kill}\"; EXECUTE s; END"),
            format!("CREATE PROCEDURE p() {kill}"),
            format!("CREATE PROCEDURE p() BEGIN DO 1; {kill}; END"),
            format!("CREATE EVENT e ON SCHEDULE AT NOW() DO {kill}"),
        ] {
            let error = client.query(&text).expect_err(&text);
            assert_eq!(error.errno(), 1235, "{text}: {error}");
            let error = client.prepare(&text).expect_err(&text);
            assert_eq!(error.errno(), 1235, "{text}: {error}");
        }
    }
    let error = client.prepare("KILL ?").expect_err("an error");
    assert_eq!(error.errno(), 1235, "{error}");
    victim.query("SELECT 1").expect("it lives");
    // Where the word is a name or a string it is nobody's end.
    for text in [
        "CREATE OR REPLACE TABLE t (`kill` INT)",
        "SELECT t.kill, 'KILL 1' FROM t",
        "BEGIN NOT ATOMIC UPDATE t SET t.kill = 1; END",
        "EXECUTE IMMEDIATE 'SELECT `kill` FROM t'",
        "SHOW STATUS LIKE 'Com_kill'",
    ] {
        client
            .query(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn a_half_closed_client_still_gets_the_answer_that_comes_soon() {
    let (_server, gateway) = pair(&Shape::default());
    let mut client = gateway.client();
    client.query("SELECT 1").expect("a connection is open");
    client
        .send_query("SELECT SLEEP(0.2), 'answered'")
        .expect("a write");
    let shut = client.stream().shutdown(std::net::Shutdown::Write);
    shut.expect("half a close");
    let answer = client.read_query().expect("its answer");
    assert_eq!(answer.text(0, 1).as_deref(), Some("answered"));
    assert!(client.is_ended_within(PATIENCE));
    assert_eq!(kills(&gateway), (0.0, 0.0));
}

#[test]
fn a_kill_goes_before_those_who_wait_for_a_connection() {
    let (server, gateway) = pair(&Shape {
        budget: 2,
        extra: "[deadlines]\npool_wait = \"20s\"\n",
        ..Shape::default()
    });
    let mut doomed = gateway.client();
    doomed.send_query("SELECT SLEEP(30)").expect("a write");
    assert!(server.runs("SLEEP(30)", PATIENCE), "it does not run");
    // One connection is left, and 20 statements of 0.2 s queue for it.
    let mut waiting: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    for client in &mut waiting {
        client.send_query("SELECT SLEEP(0.2)").expect("a write");
    }
    doomed.abort().expect("a reset");
    let took = ends(&server, "SLEEP(30)");
    eprintln!("killed after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    for client in &mut waiting {
        client.read_query().expect("an answer");
    }
    assert_eq!(kills(&gateway), (1.0, 0.0), "{}", gateway.log());
}

#[test]
fn without_another_connection_one_is_opened_in_the_place_of_the_killed() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    for budget in [1, 3] {
        let shape = Shape {
            budget,
            ..Shape::default()
        };
        let gateway = Gateway::in_shape(chaos.port(), &shape);
        // All that run, leave at the same time.
        let mut leaving: Vec<Client> = (0..budget).map(|_| gateway.client()).collect();
        for client in &mut leaving {
            client.send_query("SELECT SLEEP(30)").expect("a write");
        }
        let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                       WHERE INFO = 'SELECT SLEEP(30)'";
        assert!(wait_for(PATIENCE, || server.sql(running).trim()
            == budget.to_string()));
        chaos.take_peak();
        for client in leaving {
            client.abort().expect("a reset");
        }
        let took = ends(&server, "SLEEP(30)");
        let mut client = gateway.client();
        client.query("SELECT 1").expect("served again");
        let peak = chaos.take_peak();
        eprintln!("budget {budget}: all killed after {took:?}, peak {peak}");
        assert!(
            took < Duration::from_secs(1),
            "{took:?}, {:?}\n{}",
            kills(&gateway),
            gateway.log()
        );
        assert!(peak <= u64::from(budget) + 1, "{peak}");
        assert_eq!(
            kills(&gateway),
            (f64::from(budget), 0.0),
            "{}",
            gateway.log()
        );
    }
}

/// Clients in a lock wait, as [`block`] makes it.
fn blocked(server: &MariaDb, gateway: &Gateway, logins: &[Login]) -> (Client, Vec<Client>) {
    let connect = |login| Client::connect(login).expect("a login");
    let mut leaving: Vec<Client> = logins.iter().map(connect).collect();
    (block(server, gateway, &mut leaving), leaving)
}

/// A lock wait that no server ends by itself, unlike a sleep, which ends when its connection has. Gives who
/// holds the lock.
fn block(server: &MariaDb, gateway: &Gateway, leaving: &mut [Client]) -> Client {
    let direct = Login {
        port: server.port(),
        user: ACCOUNT.to_owned(),
        password: PASSWORD.to_owned(),
        schema: "test".to_owned(),
        ..gateway.login()
    };
    let mut holder = Client::connect(&direct).expect("a direct login");
    holder.query("BEGIN").expect("a transaction");
    holder
        .query("INSERT INTO t VALUES (1)")
        .expect("a lock on a row");
    for client in &mut *leaving {
        client.send_query(BLOCKED).expect("a write");
    }
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
         WHERE INFO LIKE '{BLOCKED}%' AND ID <> CONNECTION_ID()"
    );
    let all_wait = wait_for(PATIENCE, || {
        server.sql(&waiting).trim() == leaving.len().to_string()
    });
    assert!(all_wait, "nobody waits for the row");
    holder
}

const BLOCKED: &str = "INSERT INTO t VALUES (1) /* blocked */";

/// Clients of another kind have connections of their own, and the account is the same.
#[test]
fn the_next_connection_of_the_account_that_is_returned_is_killed_over() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let shape = Shape {
        budget: 2,
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    let (_holder, leaving) = blocked(&server, &gateway, &[gateway.login()]);
    let of_another_kind = Login {
        deprecate_eof: false,
        ..gateway.login()
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = Client::connect(&of_another_kind).expect("a login");
            let begun = Instant::now();
            while !is_over.load(Ordering::Relaxed) && begun.elapsed() < 3 * PATIENCE {
                other.query("DO SLEEP(0.1)").expect("its own connection");
            }
        });
        let leases = "ringgate_leases_total";
        assert!(wait_for(PATIENCE, || gateway.metric(leases, &[]) >= 3.0));
        for client in leaving {
            client.abort().expect("a reset");
        }
        let took = ends(&server, "blocked");
        is_over.store(true, Ordering::Relaxed);
        eprintln!("killed after {took:?}");
    });
    assert_eq!(kills(&gateway), (1.0, 0.0), "{}", gateway.log());
    assert_eq!(chaos.take_peak(), 2, "none beyond the budget was needed");
}

/// What has no connection that is returned, is killed over one beyond the budget: one at a time.
#[test]
fn the_accounts_of_an_endpoint_go_beyond_the_budget_one_at_a_time() {
    const ACCOUNTS: usize = 4;
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::start(|ports| {
        let budget = u32::try_from(ACCOUNTS).expect("a few");
        let config = two_shards_config(ports, chaos.port(), chaos.port(), budget, "");
        let mut config = config.replace("placement = \"shard-b\"", "placement = \"shard-a\"");
        for number in 2..ACCOUNTS {
            config.push_str(&format!(
                "[tenants.t{number}]\nplacement = \"shard-a\"\nschema = \"test\"\n\
                 [users.u{number}]\ntenant = \"t{number}\"\nplugin = \"mysql_native_password\"\n\
                 password = {{ env = \"RG_A_PASSWORD\" }}\n"
            ));
        }
        config
    });
    let users = [
        ("a", "password-of-a"),
        ("b", "password-of-b"),
        ("u2", "password-of-a"),
        ("u3", "password-of-a"),
    ];
    let logins = users.map(|(user, password)| Login {
        user: user.to_owned(),
        password: password.to_owned(),
        ..gateway.login()
    });
    let (_holder, leaving) = blocked(&server, &gateway, &logins);
    for client in leaving {
        client.abort().expect("a reset");
    }
    let took = ends(&server, "blocked");
    let peak = chaos.take_peak();
    eprintln!("{ACCOUNTS} accounts: all killed after {took:?}, peak {peak}");
    assert_eq!(kills(&gateway), (4.0, 0.0), "{}", gateway.log());
    assert!(peak <= 5, "{peak}");
}

/// So do those of two cores, whichever of them is first: the place goes from one to the other and back.
#[test]
fn the_cores_of_a_node_go_beyond_the_budget_one_at_a_time() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let gateway = Gateway::start(|ports| {
        let config = two_shards_config(ports, chaos.port(), chaos.port(), 4, "");
        config
            .replace("count = 1\n", "count = 2\n")
            .replace("placement = \"shard-b\"", "placement = \"shard-a\"")
    });
    let users = [("a", "password-of-a"), ("b", "password-of-b")];
    for round in 1..=3_u8 {
        let client = |(user, password): (&str, &str), core| {
            let login = Login {
                user: user.to_owned(),
                password: password.to_owned(),
                ..gateway.login()
            };
            gateway.client_of(&login, core)
        };
        let both = |user| [client(user, 0), client(user, 1)];
        let mut leaving: Vec<Client> = users.into_iter().flat_map(both).collect();
        let holder = block(&server, &gateway, &mut leaving);
        for client in leaving {
            client.abort().expect("a reset");
        }
        let took = ends(&server, "blocked");
        let peak = chaos.take_peak();
        eprintln!("round {round}: all killed after {took:?}, peak {peak}");
        let log = gateway.log();
        assert_eq!(kills(&gateway), (4.0 * f64::from(round), 0.0), "{log}");
        assert!(peak <= 5, "{peak}");
        drop(holder);
        let closed = || server.connections_of(ACCOUNT) <= 4;
        assert!(wait_for(PATIENCE, closed), "who holds the lock is gone");
    }
}

/// A core that a drain has emptied ends, and what it had must not be waited for.
#[test]
fn a_kill_in_a_drain_needs_nothing_of_a_core_that_has_ended() {
    let (server, gateway) = pair(&Shape {
        budget: 2,
        cores: 2,
        ..Shape::default()
    });
    let mut leaving = [gateway.client_on(1)];
    let holder = block(&server, &gateway, &mut leaving);
    gateway.signal("TERM");
    // The first core has nothing to do, and looks at once.
    std::thread::sleep(Duration::from_secs(1));
    for client in leaving {
        client.abort().expect("a reset");
    }
    let took = ends(&server, "blocked");
    eprintln!("killed after {took:?}");
    drop(holder);
}

#[test]
fn a_kill_waits_for_its_connection_as_long_as_any_other_statement_does() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    // One opens a connection at once, the other waits for a returned one first.
    for budget in [1, 2] {
        let shape = Shape {
            budget,
            ..Shape::default()
        };
        let gateway = Gateway::in_shape(chaos.port(), &shape);
        let (holder, leaving) = blocked(&server, &gateway, &vec![gateway.login(); budget as usize]);
        chaos.stall();
        for client in leaving {
            client.abort().expect("a reset");
        }
        // Longer than a machine that is busy may take for a login, and less than one may take.
        std::thread::sleep(Duration::from_millis(1_900));
        chaos.flow();
        let took = ends(&server, "blocked");
        eprintln!("budget {budget}: killed {took:?} after the way was free");
        assert_eq!(
            kills(&gateway),
            (f64::from(budget), 0.0),
            "{}",
            gateway.log()
        );
        drop(holder);
    }
}

#[test]
fn a_kill_that_is_not_answered_is_counted_and_holds_nobody_up() {
    let (server, gateway) = pair(&Shape {
        extra: "[deadlines]\nstatement = \"500ms\"\n",
        ..Shape::default()
    });
    let mut client = gateway.client();
    let mut other = gateway.client();
    other.query("BEGIN").expect("a transaction");
    other.query("SELECT * FROM t").expect("a snapshot");
    client.query("SELECT 1").expect("a second connection");
    other.query("COMMIT").expect("both are idle now");
    server.pause();
    let error = client.query("SELECT 2").expect_err("no answer");
    assert_eq!(error.errno(), 3024, "{error}");
    let failed = wait_for(PATIENCE, || kills(&gateway).1 > 0.5);
    assert!(failed, "{}", gateway.metrics());
    assert!(gateway.has_logged("statement not killed"));
    server.resume();
    assert!(wait_for(PATIENCE, || client.query("SELECT 3").is_ok()));
}

/// Asks short questions, and checks every answer, until told to stop; how many.
fn ask_steadily(login: &Login, number: usize, stop: &AtomicBool) -> u64 {
    let mut client = Client::connect(login).expect("a login");
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let tag = format!("{number}:{asked}");
        let sql = match asked % 3 {
            0 => format!("SELECT SLEEP(0.002), '{tag}'"),
            _ => format!("SELECT 0, '{tag}'"),
        };
        let answer = client.query_one(&sql);
        let answer = answer.unwrap_or_else(|error| panic!("{tag}: {error}"));
        assert_eq!(answer.text(0, 1).as_deref(), Some(tag.as_str()));
        asked += 1;
    }
    asked
}

/// Begins statements of some milliseconds and leaves during them, until told to stop; how often.
fn vanish_again_and_again(login: &Login, number: u64, stop: &AtomicBool) -> u64 {
    let mut vanished = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(login) else {
            continue;
        };
        client.send_query("SELECT SLEEP(0.01)").expect("a write");
        // From before the statement has begun until after it has ended.
        std::thread::sleep(Duration::from_micros(
            (number * 7 + vanished * 13) % 15 * 1_000,
        ));
        client.abort().expect("a reset");
        vanished += 1;
    }
    vanished
}

#[test]
fn a_kill_never_hits_another_clients_statement() {
    let server = MariaDb::with_test_schema(TABLE);
    let chaos = Chaos::start(server.port());
    let shape = Shape {
        budget: 4,
        cores: 2,
        extra: "[deadlines]\npool_wait = \"20s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(chaos.port(), &shape);
    let login = gateway.login();
    let stop = AtomicBool::new(false);
    chaos.take_peak();
    let (asked, vanished) = std::thread::scope(|scope| {
        let (login, stop) = (&login, &stop);
        let steady: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || ask_steadily(login, number, stop)))
            .collect();
        let leaving: Vec<_> = (0..3)
            .map(|number| scope.spawn(move || vanish_again_and_again(login, number, stop)))
            .collect();
        std::thread::sleep(Duration::from_secs(8));
        stop.store(true, Ordering::Relaxed);
        let sum = |threads: Vec<std::thread::ScopedJoinHandle<'_, u64>>| -> u64 {
            let done = threads.into_iter().map(|thread| thread.join());
            done.map(|count| count.expect("every answer is its own"))
                .sum()
        };
        (sum(steady), sum(leaving))
    });
    let (killed, failed) = kills(&gateway);
    let peak = chaos.take_peak();
    eprintln!(
        "{asked} answers, {vanished} clients left, {killed} killed, {failed} not, peak {peak}"
    );
    assert!(killed > 20.0, "{}", gateway.log());
    assert!(asked > 500, "{asked}");
    // One more, while a core opens a connection in the place of one that is to be killed.
    assert!(peak <= 4 + 1, "{peak} connections");
    assert!(wait_for(PATIENCE, || server.connections_of(ACCOUNT) <= 4));
    let panics = gateway.metric("ringgate_panics_total", &[]);
    assert!(panics < 0.5, "{}", gateway.log());
}
