//! What COM_RESET_CONNECTION makes of a session's variables is what it makes of a direct session's, on a server of
//! either family.

use std::time::Duration;

use crate::support::{Client, Login, Options, Server};
use crate::{Form, Scene, ask, send};

/// Longer than a changed global may stay unknown to sessions that begin.
const UNTIL_KNOWN: Duration = Duration::from_millis(1_050);

const CHARSETS: &str = "SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_connection, \
    IFNULL(@@character_set_results, 'none'), @@collation_connection)";

/// A direct session and one of the gateway's, to which the same is done.
struct Both<'a> {
    scene: &'a Scene,
    clients: [Client; 2],
}

impl<'a> Both<'a> {
    fn of(scene: &'a Scene, logins: [&Login; 2], connect: impl Fn(&Login) -> Client) -> Self {
        let clients = logins.map(connect);
        Self { scene, clients }
    }

    fn ask(&mut self, form: Form, sql: &str) {
        for client in &mut self.clients {
            let answer = send(client, form, sql);
            answer.unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.scene.gateway.log()));
        }
    }

    fn reset(&mut self) {
        for client in &mut self.clients {
            client.reset().expect("an OK");
        }
    }

    /// What both see, which must be the same.
    fn see(&mut self, form: Form, sql: &str, after: &str) -> String {
        let log = || self.scene.gateway.log();
        let [direct, through] = self.clients.each_mut().map(|client| {
            let answer = send(client, form, sql);
            let answer = answer.unwrap_or_else(|error| panic!("{after}: {error}\n{}", log()));
            answer.text(0, 0).unwrap_or_default()
        });
        assert_eq!(through, direct, "{form:?} {after}");
        direct
    }
}

fn logins(scene: &Scene) -> [Login; 2] {
    [scene.direct_login(), scene.gateway.login()]
}

/// A server whose connections begin on threads of their own: of one whose number it does not know, MariaDB gives the
/// character sets of the thread's last one after a reset.
fn options(sql: &str) -> Options {
    Options {
        arguments: vec!["--thread-cache-size=0".to_owned()],
        ..Options::with_test_schema(sql)
    }
}

fn on_each(check: impl Fn(&Scene)) {
    check(&Scene::before(Server::start(options("")), 2, ""));
    if let Some(server) = Server::mysql(options("")) {
        check(&Scene::before(server, 2, ""));
    }
}

/// Numbers of collations, two of them unknown or unknown to one of the servers; gbk, sjis, binary.
const COLLATIONS: &[u8] = &[0, 8, 13, 28, 33, 45, 63, 224, 255];

/// Globals that change while sessions are there.
const GLOBALS: &[&str] = &[
    "collation_connection = 'latin1_german2_ci'",
    "character_set_client = 'gbk'",
    "character_set_results = 'koi8r'",
    "character_set_results = NULL",
    "character_set_connection = 'utf8mb4'",
];

#[test]
fn a_reset_gives_the_character_sets_of_a_direct_one() {
    on_each(|scene| {
        let [direct, through] = logins(scene);
        let both = |collation: u8| {
            Both::of(scene, [&direct, &through], |login| {
                Client::connect_in(login, collation).expect("a login")
            })
        };
        for &collation in COLLATIONS {
            let name = format!("a login with {collation}");
            for form in Form::ALL {
                let mut own = both(collation);
                own.reset();
                own.see(form, CHARSETS, &format!("{name}, reset at once"));
                for set in [
                    "SET NAMES cp932",
                    "SET character_set_results = NULL",
                    "SET autocommit = 0",
                ] {
                    own.ask(form, set);
                    own.reset();
                    own.see(form, CHARSETS, &format!("{name}, {set}"));
                }
            }
        }
        for global in GLOBALS {
            // MariaDB 10.11 has no NULL there.
            if let Err(error) = scene.server.try_sql(&format!("SET GLOBAL {global}")) {
                assert!(global.ends_with("NULL"), "{error}");
                continue;
            }
            let mut all: Vec<_> = COLLATIONS.iter().map(|id| both(*id)).collect();
            std::thread::sleep(UNTIL_KNOWN);
            for (own, collation) in all.iter_mut().zip(COLLATIONS) {
                let name = format!("{collation}, {global}");
                own.ask(Form::Text, "SELECT 1");
                own.reset();
                own.see(Form::Binary, CHARSETS, &format!("a reset, {name}"));
            }
        }
    });
}

/// An account that `init_connect` is run for, and a tenant of it.
const TENANT: &str = "[tenants.b]\nplacement = \"shard-a\"\nschema = \"test\"\n\
    upstream = { user = \"limited\", password = { env = \"RG_B_PASSWORD\" } }\n\
    [users.b]\ntenant = \"b\"\nplugin = \"mysql_native_password\"\n\
    password = { env = \"RG_B_PASSWORD\" }\n";

const GIVEN: &str = "GRANT ALL PRIVILEGES ON test.* TO limited@'%';\n\
    SET GLOBAL init_connect = 'SET SESSION time_zone=\"+03:00\", sql_mode=\"ANSI_QUOTES\", @@sql_notes=0';\n\
    SET GLOBAL interactive_timeout = 777;\n";

/// What a login's flags stand for: none, IGNORE_SPACE, INTERACTIVE, both.
const FLAGS: [u32; 4] = [0, 1 << 8, 1 << 10, 1 << 8 | 1 << 10];

fn goes_back_to_the_globals(scene: &Scene, limit: &str) {
    let login = |port: u16, user: &str| Login {
        port,
        user: user.to_owned(),
        password: "password-of-b".to_owned(),
        schema: "test".to_owned(),
        deprecate_eof: true,
    };
    let direct = login(scene.server.port(), "limited");
    let through = login(scene.gateway.port(), "b");
    let state = format!(
        "SELECT CONCAT_WS('|', @@time_zone, @@sql_mode, @@sql_notes, @@wait_timeout, @@{limit})"
    );
    // MySQL remembers the account once it has logged in as the gateway does.
    ask(
        &mut Client::connect(&through).expect("a login"),
        Form::Text,
        "DO 0",
    );
    for flags in FLAGS {
        for form in Form::ALL {
            let mut own = Both::of(scene, [&direct, &through], |login| {
                Client::connect_with(login, flags).expect("a login")
            });
            let given = own.see(form, &state, &format!("a login with {flags}"));
            assert!(given.starts_with("+03:00|ANSI_QUOTES"), "{given}");
            own.ask(form, "SET sql_notes = 1");
            own.reset();
            let after = own.see(form, &state, &format!("a reset, {flags}"));
            assert!(after.starts_with("SYSTEM|"), "{after}");
            // The next session has what its login gives.
            let mut next = Client::connect_with(&through, flags).expect("a login");
            assert_eq!(ask(&mut next, form, &state), given, "{flags}");
            own.see(form, &state, &format!("later, {flags}"));
        }
    }
}

#[test]
fn a_reset_goes_back_to_the_globals_whatever_a_login_gives() {
    let account = "CREATE USER limited@'%' IDENTIFIED VIA mysql_native_password USING \
        PASSWORD('password-of-b') WITH MAX_STATEMENT_TIME 33;\n";
    let scene = Scene::with(1, &format!("{account}{GIVEN}"), TENANT);
    goes_back_to_the_globals(&scene, "max_statement_time");
}

#[test]
fn so_it_does_on_mysql() {
    let account =
        "CREATE USER limited@'%' IDENTIFIED WITH caching_sha2_password BY 'password-of-b';\n";
    if let Some(scene) = Scene::on_mysql(1, &format!("{account}{GIVEN}"), TENANT) {
        goes_back_to_the_globals(&scene, "max_execution_time");
    }
}
