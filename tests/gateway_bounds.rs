//! A tenant that holds all the connections that it may have: the others are served beside it all the time,
//! whatever it does with them, while reloads change the bound and after them.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use support::{Client, Gateway, Login, MariaDb, Ports, Shape, SocketState, wait_for};

const BUDGET: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a statement waits for a connection: who is locked out waits for all of it.
const POOL_WAIT: Duration = Duration::from_secs(3);

/// The second tenant's account at the server, so that its connections can be told from the first one's.
const OTHER: &str = "other";

fn config(ports: Ports, upstream: u16, cores: u16, lines: &str) -> String {
    let extra = format!(
        "[deadlines]\nconnect = \"2s\"\nupstream_login = \"20s\"\npool_wait = \"{}s\"\n\
         [tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
         upstream = {{ user = \"{OTHER}\", password = {{ env = \"RG_B_PASSWORD\" }} }}\n\
         [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
         password = {{ env = \"RG_B_PASSWORD\" }}\n",
        POOL_WAIT.as_secs()
    );
    let shape = Shape {
        budget: BUDGET,
        cores,
        extra: &extra,
        ..Shape::default()
    };
    let text = shape.config(ports, upstream);
    text.replace("[tenants.a]\n", &format!("[tenants.a]\n{lines}\n"))
}

struct Node {
    server: MariaDb,
    cores: u16,
    gateway: Gateway,
}

impl Node {
    fn start(cores: u16, lines: &str) -> Self {
        Self::start_with(cores, lines, "")
    }

    /// With further SQL for the server, a statement a line.
    fn start_with(cores: u16, lines: &str, sql: &str) -> Self {
        let server = MariaDb::with_test_schema(&format!(
            "CREATE TABLE test.t (n INT) ENGINE=InnoDB;\n\
             CREATE USER '{OTHER}'@'127.0.0.1' IDENTIFIED BY 'password-of-b';\n\
             GRANT ALL ON *.* TO '{OTHER}'@'127.0.0.1';\n{sql}"
        ));
        let port = server.port();
        let gateway = Gateway::start(|ports| config(ports, port, cores, lines));
        server.reset_status();
        Self {
            server,
            cores,
            gateway,
        }
    }

    fn reload(&self, lines: &str) {
        let port = self.server.port();
        self.gateway
            .apply(|ports| config(ports, port, self.cores, lines));
    }

    fn login(&self, user: &str) -> Login {
        Login {
            user: user.to_owned(),
            password: format!("password-of-{user}"),
            ..self.gateway.login()
        }
    }

    fn client(&self, user: &str) -> Client {
        Client::connect(&self.login(user))
            .unwrap_or_else(|error| panic!("{error}:\n{}", self.gateway.log()))
    }

    /// Has the other tenant's clients work for a while: everything is served, and nobody waits for long.
    fn serves_the_other(&self, what: &str, time: Duration) {
        let longest = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| self.work_as_the_other(what, time)))
                .collect();
            let joined = workers.into_iter().map(|worker| worker.join());
            joined.map(|longest| longest.expect("served")).max()
        });
        assert!(longest < Some(POOL_WAIT * 9 / 10), "{what}: {longest:?}");
    }

    fn work_as_the_other(&self, what: &str, time: Duration) -> Duration {
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < time {
            let mut client = self.client("b");
            for sql in ["SELECT 1", "BEGIN", "INSERT INTO t VALUES (1)", "ROLLBACK"] {
                let asked = Instant::now();
                if let Err(error) = client.query(sql) {
                    panic!("{what}: {sql}: {error}\n{}", self.gateway.log());
                }
                longest = longest.max(asked.elapsed());
            }
        }
        longest
    }

    /// Nothing is held or waited for any more, the budget is whole, and all are served.
    fn is_as_before(&self, what: &str) {
        let gauge = |name| self.gateway.metric(name, &[]);
        let is_quiet = || {
            gauge("ringgate_upstream_connections_leased") < 0.5
                && gauge("ringgate_leases_waiting") < 0.5
                && gauge("ringgate_sessions_pinned") < 0.5
        };
        assert!(
            wait_for(PATIENCE, is_quiet),
            "{what}: {}",
            self.gateway.metrics()
        );
        let permits = gauge("ringgate_upstream_permits");
        assert_eq!(permits.round(), f64::from(BUDGET), "{what}");
        for user in ["a", "b"] {
            self.client(user).query("SELECT 1").expect("served");
        }
        let peak = self.server.connections_peak();
        // The shell's own connection, and a KILL's.
        assert!(peak <= u64::from(BUDGET) + 2, "{what}: {peak} connections");
    }
}

/// What a tenant does with a connection to keep it.
#[derive(Clone, Copy, Debug)]
enum Hold {
    /// An idle transaction.
    Begin,
    /// One with a lock, and a user variable.
    Locked,
    /// A statement that takes long.
    Sleep,
    /// An answer that it does not read.
    Unread,
    /// Half of a parameter.
    HalfSent,
}

const ALL: [Hold; 5] = [
    Hold::Begin,
    Hold::Locked,
    Hold::Sleep,
    Hold::Unread,
    Hold::HalfSent,
];

const MUCH: &str = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 40) \
                    SELECT REPEAT('x', 1000000) FROM s";

/// Clients of tenant `a`. Logins need a connection now and then, so these come before the storm.
fn clients(node: &Node, count: usize) -> Vec<Client> {
    (0..count).map(|_| node.client("a")).collect()
}

/// These clients begin transactions.
fn begin(clients: impl IntoIterator<Item = Client>) -> Vec<Client> {
    let clients = clients.into_iter();
    clients.map(|client| hold(client, Hold::Begin)).collect()
}

/// Has a client hold a connection, or wait for one, or be refused one.
fn hold(mut client: Client, how: Hold) -> Client {
    match how {
        Hold::Begin => client.send_query("BEGIN").expect("a write"),
        Hold::Locked => client
            .send_query("SELECT GET_LOCK(CONCAT('l', CONNECTION_ID()), 0), @x := 1")
            .expect("a write"),
        Hold::Sleep => client.send_query("SELECT SLEEP(30)").expect("a write"),
        Hold::Unread => {
            let socket = socket2::SockRef::from(&*client.stream());
            socket.set_recv_buffer_size(8_192).expect("a socket");
            client.send_query(MUCH).expect("a write");
        }
        Hold::HalfSent => {
            // Refused where all are taken.
            if let Ok(statement) = client.prepare("SELECT LENGTH(?)") {
                let mut bytes = vec![0, 0, 8, 0, 0x18];
                bytes.extend_from_slice(&statement.id.to_le_bytes());
                bytes.extend_from_slice(&[0; 200_000]);
                client.send_raw(&bytes).expect("a write");
            }
        }
    }
    client
}

/// Sets what its threads look at, also if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Fills what the tenant may have with clients that go on trying.
fn storm(node: &Node, how: Hold, first: Vec<Client>, is_over: &AtomicBool) {
    let goes_on = |_: &Client| !is_over.load(Ordering::Relaxed);
    let first = first.into_iter().take_while(goes_on);
    let mut clients: Vec<Client> = first.map(|client| hold(client, how)).collect();
    while !is_over.load(Ordering::Relaxed) {
        if clients.len() >= 64 {
            // The oldest hold what they have got; others come and go.
            clients.truncate(48);
        }
        clients.push(hold(node.client("a"), how));
    }
}

/// How many connections the first tenant's statements are on, as the server sees it.
fn of_the_first(server: &MariaDb) -> u64 {
    server.connections_of(support::ACCOUNT)
}

#[test]
fn whatever_a_tenant_does_with_its_connections_the_other_is_served() {
    for cores in [1, 2] {
        // The server itself counts at each login: four, and another one for a KILL, on the whole node.
        let account = support::ACCOUNT;
        let limit = format!("ALTER USER '{account}'@'%' WITH MAX_USER_CONNECTIONS 5;\n");
        let node = Node::start_with(cores, "connections_upstream_max = 4", &limit);
        for how in ALL {
            let what = format!("{how:?}, {cores} cores");
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let _over = Over(&is_over);
                for first in [clients(&node, 64), clients(&node, 64)] {
                    let (node, is_over) = (&node, &is_over);
                    scope.spawn(move || storm(node, how, first, is_over));
                }
                let takes = || of_the_first(&node.server) >= 4;
                assert!(wait_for(PATIENCE, takes), "{what}: no storm");
                node.serves_the_other(&what, Duration::from_secs(2));
            });
            let log = node.gateway.log();
            assert!(!log.contains("max_user_connections"), "{what}: {log}");
            node.is_as_before(&what);
        }
    }
}

/// The page says so: a core has a part of 1 at least.
#[test]
fn a_bound_below_the_number_of_cores_is_one_for_each() {
    let node = Node::start(2, "connections_upstream_max = 1");
    let in_transaction = || node.gateway.metric("ringgate_sessions_pinned", &[]).round();
    let [mut first, mut second] = [(); 2].map(|()| [0, 1].map(|core| node.gateway.client_on(core)));
    for client in &mut first {
        client.query("BEGIN").expect("a part for each core");
    }
    for client in &mut second {
        client.send_query("BEGIN").expect("a write");
    }
    node.serves_the_other("a part for each core", Duration::from_secs(1));
    assert_eq!(in_transaction(), 2.0);
    for client in &mut second {
        let refused = client.read_query().expect_err("no more than one");
        assert_eq!(refused.errno(), 3168);
    }
    drop(first);
    node.is_as_before("a part for each core");
}

/// On both cores at once, while there is much left of the budget.
#[test]
fn a_kill_has_no_more_than_its_tenants_bound() {
    let node = Node::start(2, "connections_upstream_max = 2");
    let mut clients = [0, 1].map(|core| node.gateway.client_on(core));
    for client in &mut clients {
        client.send_query("SELECT SLEEP(40)").expect("a write");
    }
    let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(40)'";
    let are_asleep = |count| node.server.sql(sql).trim() == count;
    assert!(wait_for(PATIENCE, || are_asleep("2")));
    let sockets = || SocketState::to_port(node.gateway.pid(), node.server.port()).len();
    let before = sockets();
    // A connection for a KILL cannot log in meanwhile.
    node.server.pause();
    drop(clients);
    let comes = wait_for(PATIENCE, || sockets() > before);
    let have_more = wait_for(Duration::from_millis(1_500), || sockets() > before + 1);
    node.server.resume();
    assert!(comes, "no KILL: {}", node.gateway.log());
    assert!(
        !have_more,
        "each has the place of what it kills, one at a time"
    );
    let are_over = wait_for(PATIENCE, || are_asleep("0"));
    assert!(are_over, "{}", node.gateway.log());
    node.is_as_before("a KILL");
}

#[test]
fn sixty_four_idle_transactions_lock_nobody_else_out_and_reloads_move_the_bound() {
    for cores in [1, 2] {
        let node = Node::start(cores, "connections_upstream_max = 4");
        let in_transaction = || node.gateway.metric("ringgate_sessions_pinned", &[]).round();
        let mut ready = clients(&node, 300);
        let mut holders = begin(ready.drain(..64));
        assert!(wait_for(PATIENCE, || in_transaction() >= 4.0), "{cores}");
        node.serves_the_other("64 idle transactions", Duration::from_secs(2));
        assert_eq!(in_transaction(), 4.0, "{cores} cores");
        // All others were told in time.
        let answers = holders.iter_mut().map(Client::read_query);
        let errors = answers.filter_map(Result::err);
        let refused: Vec<u16> = errors.map(|error| error.errno()).collect();
        assert_eq!(refused, [3168; 60]);
        // More than it has: those who wait for the bound have it at once.
        let mut waiting = begin(ready.drain(..16));
        node.reload("connections_upstream_max = 6");
        assert!(wait_for(PATIENCE, || in_transaction() >= 6.0), "{cores}");
        node.serves_the_other("a bound that was raised", Duration::from_secs(1));
        assert_eq!(in_transaction(), 6.0, "{cores} cores");
        // A lower one ends nobody, and nobody gets in before it holds.
        node.reload("connections_upstream_max = 2");
        waiting.extend(begin(ready.drain(..16)));
        node.serves_the_other("a bound that was lowered", Duration::from_secs(1));
        assert_eq!(in_transaction(), 6.0, "{cores} cores");
        holders.clear();
        waiting.clear();
        let left = || in_transaction() < 0.5;
        assert!(wait_for(PATIENCE, left), "{cores}");
        let holders = begin(ready.drain(..32));
        assert!(wait_for(PATIENCE, || in_transaction() >= 2.0), "{cores}");
        node.serves_the_other("the lower bound", Duration::from_secs(1));
        assert_eq!(in_transaction(), 2.0, "{cores} cores");
        // Without one it may have all, and the other has what is left of them: nothing.
        node.reload("");
        let mut more = Vec::new();
        let all = wait_for(PATIENCE, || {
            // Those that are idle for the other are closed one by one: some wait in vain.
            more.extend(begin(ready.drain(..ready.len().min(8))));
            std::thread::sleep(Duration::from_millis(200));
            in_transaction() >= f64::from(BUDGET)
        });
        assert!(all, "{cores} cores: {}", node.gateway.metrics());
        let refused = node
            .client("b")
            .query("SELECT 1")
            .expect_err("no connection");
        assert_eq!(refused.errno(), 3168);
        drop((holders, more));
        node.is_as_before("without a bound");
    }
}

#[test]
fn who_waits_for_a_bound_has_an_idle_connection_as_soon_as_it_may() {
    let node = Node::start(1, "connections_upstream_max = 3");
    let mut clients: Vec<Client> = (0..3).map(|_| node.client("a")).collect();
    for sql in ["BEGIN", "ROLLBACK"] {
        for client in &mut clients {
            client.query(sql).expect("an OK");
        }
    }
    // Nothing of the budget is left.
    let mut others: Vec<Client> = (3..BUDGET).map(|_| node.client("b")).collect();
    for client in &mut others {
        client.query("BEGIN").expect("an OK");
    }
    for raised in ["connections_upstream_max = 2", ""] {
        node.reload("connections_upstream_max = 1");
        let [first, second, _] = &mut clients[..] else {
            panic!("three");
        };
        first.query("BEGIN").expect("an OK");
        second.send_query("SELECT 1").expect("a write");
        let waits = || node.gateway.metric("ringgate_leases_waiting", &[]) > 0.5;
        assert!(wait_for(PATIENCE, waits), "{raised:?}");
        node.reload(raised);
        second.read_query().expect("served");
        first.query("ROLLBACK").expect("an OK");
    }
    let connects = node.gateway.metric("ringgate_upstream_connects_total", &[]);
    assert_eq!(connects.round(), f64::from(BUDGET));
}

/// The present, in microseconds since 1970: the server's clock too.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.expect("a date").as_micros()).expect("a date")
}

/// When a statement began and ended on its server, in microseconds since 1970.
fn time_of(client: &mut Client) -> (u64, u64) {
    let sql = "SELECT ROUND(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000), SLEEP(0.02), \
               ROUND(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000)";
    let answer = client.query_one(sql).expect("served");
    let at = |column| answer.text(0, column).expect("a time");
    let [begun, ended] = [0, 2].map(|column| at(column).parse().expect("a number"));
    (begun, ended)
}

/// How many of these ran at once at the most.
fn most_at_once(times: &[(u64, u64)]) -> u64 {
    let begins = times.iter().map(|(begun, _)| (*begun, 1));
    let ends = times.iter().map(|(_, ended)| (*ended, 0));
    let mut changes: Vec<(u64, u8)> = begins.chain(ends).collect();
    // Of what happens in one microsecond, ends are first.
    changes.sort_unstable();
    let (mut now, mut most) = (0_u64, 0);
    for (_, change) in changes {
        now = if change == 1 { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}

/// Clients that never pause, of which as many are served at once as the bound says, by the server's clock.
#[test]
fn as_many_statements_run_at_once_as_the_bound_says_whatever_their_pools() {
    let node = Node::start(1, "connections_upstream_max = 3");
    runs_as_bounded(&node, 1);
    runs_as_bounded(&node, 2);
}

/// Half of the clients have a pool of their own, or none.
fn runs_as_bounded(node: &Node, pools: usize) {
    let is_over = AtomicBool::new(false);
    let times: [Mutex<Vec<(u64, u64)>>; 2] = Default::default();
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        for number in 0..24 {
            let (is_over, times) = (&is_over, &times[number % 2]);
            scope.spawn(move || {
                // Connections that count found rows are others.
                let found_rows = if number % pools == 1 { 2 } else { 0 };
                let client = Client::connect_with(&node.login("a"), found_rows);
                let mut client = client.expect("a login");
                while !is_over.load(Ordering::Relaxed) {
                    let time = time_of(&mut client);
                    times.lock().expect("no panic").push(time);
                }
            });
        }
        for bound in [3, 1, 5] {
            node.reload(&format!("connections_upstream_max = {bound}"));
            // Statements that were there before have ended by then.
            std::thread::sleep(Duration::from_millis(200));
            let from = micros();
            std::thread::sleep(Duration::from_millis(1_500));
            let until = micros();
            let [one, other] = times.each_ref().map(|times| {
                let mut times = times.lock().expect("no panic").clone();
                times.retain(|(begun, ended)| *begun >= from && *ended <= until);
                times
            });
            let [a, b] = [one.len(), other.len()];
            let most = most_at_once(&[one, other].concat());
            assert_eq!(most, bound, "{a} beside {b} served");
            assert!(
                3 * a >= 2 * b && 3 * b >= 2 * a,
                "{bound}: {a} beside {b} served"
            );
        }
    });
    node.is_as_before("two pools of a tenant");
}
