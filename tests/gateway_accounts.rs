//! A server that refuses the gateway's account: the operator reads which and why, the client is told so at
//! once, the server is not asked all the time, and what was mended is found.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use support::{ACCOUNT, Gateway, MariaDb, MariaDbOptions, PASSWORD, Shape, wait_for};

const PATIENCE: Duration = Duration::from_secs(10);

/// What is done to the account, the server's number for it, and what mends it.
struct Case<'a> {
    does: String,
    errno: &'a str,
    mends: String,
}

impl<'a> Case<'a> {
    fn new(does: &str, errno: &'a str, mends: &str) -> Self {
        let account = format!("{ACCOUNT}@'%'");
        Self {
            does: does.replace("ACCOUNT_", &account),
            errno,
            mends: mends.replace("ACCOUNT_", &account),
        }
    }
}

/// Does it, asks for two seconds, looks at what is said, and mends it.
fn check(server: &MariaDb, case: &Case<'_>) {
    let Case { does, errno, mends } = case;
    let shape = Shape {
        extra: "[deadlines]\npool_wait = \"3s\"\n",
        ..Shape::default()
    };
    server.sql(does);
    let gateway = Gateway::in_shape(server.port(), &shape);
    let mut client = gateway.client();
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        let before = Instant::now();
        let error = client.query("SELECT 1").expect_err("refused");
        let number = client.thread_id.to_string();
        let expect = Some(("account_refused", number.as_str()));
        assert_eq!(error.reason(), expect, "{does}: {error}");
        assert_eq!(error.errno(), 3168, "{does}: {error}");
        // Nobody waits for `pool_wait` where nothing can come.
        assert!(before.elapsed() < Duration::from_secs(2), "{does}");
        gateway.line_with(&[("event", "client told"), ("client", &number)]);
        asked += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let tried = gateway.metric("ringgate_upstream_connect_failures_total", &[]);
    assert!(asked > 10 && tried < 10.5, "{does}: {asked} {tried}");
    let address = format!("127.0.0.1:{}", server.port());
    let line = gateway.line_with(&[
        ("event", "account refused"),
        ("level", "error"),
        ("endpoint", &address),
        ("account", ACCOUNT),
        ("errno", errno),
    ]);
    let words = line.get("error");
    assert!(words.len() > 30, "{does}: the server's own words: {words}");
    server.sql(mends);
    let works = wait_for(PATIENCE, || client.query("SELECT 1").is_ok());
    assert!(works, "{does}\n{}", gateway.log());
    gateway.line_with(&[("event", "account accepted again"), ("account", ACCOUNT)]);
}

#[test]
fn a_refused_account_is_told_with_the_servers_own_number() {
    let again = format!("SET PASSWORD FOR ACCOUNT_ = PASSWORD('{PASSWORD}')");
    let anew =
        format!("CREATE USER ACCOUNT_ IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO ACCOUNT_");
    let back = format!(
        "ALTER USER ACCOUNT_ IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}')"
    );
    let cases = [
        Case::new("DROP USER ACCOUNT_", "1045", &anew),
        Case::new(
            "SET PASSWORD FOR ACCOUNT_ = PASSWORD('another')",
            "1045",
            &again,
        ),
        Case::new(
            "ALTER USER ACCOUNT_ ACCOUNT LOCK",
            "4151",
            "ALTER USER ACCOUNT_ ACCOUNT UNLOCK",
        ),
        // Let in, and refused all that it says.
        Case::new("ALTER USER ACCOUNT_ PASSWORD EXPIRE", "1820", &again),
        Case::new(
            "ALTER USER ACCOUNT_ IDENTIFIED VIA unix_socket",
            "1698",
            &back,
        ),
    ];
    let server = MariaDb::with_test_schema("CREATE USER IF NOT EXISTS other@'%';");
    for case in cases {
        check(&server, &case);
    }
}

#[test]
fn an_expired_password_that_lets_nobody_in_is_one_of_the_account() {
    let server = MariaDb::start(MariaDbOptions {
        arguments: vec!["--disconnect-on-expired-password=1".to_owned()],
        ..MariaDbOptions::with_test_schema("")
    });
    let again = format!("SET PASSWORD FOR ACCOUNT_ = PASSWORD('{PASSWORD}')");
    check(
        &server,
        &Case::new("ALTER USER ACCOUNT_ PASSWORD EXPIRE", "1862", &again),
    );
}

#[test]
fn so_it_is_on_mysql() {
    let Some(server) = MariaDb::mysql(MariaDbOptions::with_test_schema("")) else {
        return;
    };
    let again = format!("ALTER USER ACCOUNT_ IDENTIFIED BY '{PASSWORD}'");
    let back = format!("ALTER USER ACCOUNT_ IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}'");
    for case in [
        Case::new("ALTER USER ACCOUNT_ PASSWORD EXPIRE", "1862", &again),
        // A plugin that is not spoken here: the gateway gives up before the server does.
        Case::new(
            "ALTER USER ACCOUNT_ IDENTIFIED WITH sha256_password BY 'x'",
            "none",
            &back,
        ),
        Case::new(
            "ALTER USER ACCOUNT_ ACCOUNT LOCK",
            "3118",
            "ALTER USER ACCOUNT_ ACCOUNT UNLOCK",
        ),
    ] {
        check(&server, &case);
    }
}

/// The client gets the server's own words for its schema; the operator reads them too.
#[test]
fn a_schema_that_the_account_may_not_enter_is_in_the_log() {
    let server = MariaDb::with_test_schema("");
    server.sql(&format!(
        "CREATE USER rg2@'%' IDENTIFIED BY '{PASSWORD}'; DROP DATABASE test; CREATE DATABASE test2"
    ));
    let gateway = Gateway::start(|ports| {
        let text = Shape::default().config(ports, server.port());
        let own = "[users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
            password = { env = \"RG_B_PASSWORD\" }\n[tenants.b]\nplacement = \"shard-a\"\n\
            schema = \"test2\"\nupstream = { user = \"rg2\", password = { env = \"RG_UPSTREAM_PASSWORD\" } }\n";
        format!("{text}{own}")
    });
    let named = support::Login {
        schema: "gone".to_owned(),
        ..gateway.login()
    };
    let error = support::Client::connect(&named).err().expect("refused");
    assert_eq!(error.errno(), 1049, "{error}");
    gateway.line_with(&[
        ("event", "state refused"),
        ("tenant", "a"),
        ("errno", "1049"),
    ]);
    let other = support::Login {
        user: "b".to_owned(),
        password: "password-of-b".to_owned(),
        ..gateway.login()
    };
    let mut forbidden = support::Client::connect(&other).expect("a login");
    let error = forbidden
        .query("CREATE TABLE t (a INT)")
        .expect_err("refused");
    let line = gateway.line_with(&[("event", "state refused"), ("tenant", "b")]);
    let expect = [("account", "rg2"), ("errno", &*error.errno().to_string())];
    assert!(line.has(&expect), "{line:?} {error}");
    assert_eq!(line.get("client"), forbidden.thread_id.to_string());
}
