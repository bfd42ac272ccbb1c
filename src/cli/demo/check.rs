//! `ringgate demo --check`: tries the printed lines through the gateway and compares the answers.
//!
//! Always with the sandbox's own client, so that nothing but the binary is needed, and also with the
//! `mysql` shell where there is one.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::lines::{DEAR, DEAR_FROM, Line, dear, lines};
use super::say;
use crate::sandbox::client::{Client, ClientError, ClientOptions, Row};
use crate::sandbox::demo::{ACME, DEMO_SCHEMA, DemoTenant, GLOBEX};

/// How long a packet, or a whole run of the shell, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether the shell has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Tries every line at the gateway that listens on `door`; reports to `out`, tells whether all passed.
pub(super) fn run(door: SocketAddr, out: &mut dyn Write) -> bool {
    let shell = Shell::find();
    let mut failed = 0;
    let mut report = |what: &str, result: Result<(), String>| {
        let line = match result {
            Ok(()) => format!("ok    {what}\n"),
            Err(why) => {
                failed += 1;
                format!("FAIL  {what}: {why}\n")
            }
        };
        say(out, &line);
    };
    for line in lines() {
        report(line.title, by_client(door, &line));
        if let Some(shell) = &shell {
            report(&format!("{} (mysql)", line.title), shell.run(door, &line));
        }
    }
    report("a prepared statement in binary form", binary(door));
    report("a wrong password is refused", wrong_password(door));
    let end = match (failed, &shell) {
        (0, Some(_)) => "demo: all lines passed, with our own client and with mysql\n".to_owned(),
        (0, None) => {
            "demo: all lines passed; there is no mysql shell to try them with\n".to_owned()
        }
        (failed, _) => format!("demo: {failed} failed\n"),
    };
    say(out, &end);
    failed == 0
}

fn log_in(door: SocketAddr, tenant: &DemoTenant, password: &str) -> Result<Client, ClientError> {
    Client::connect(&ClientOptions {
        address: door,
        user: tenant.user,
        password,
        schema: DEMO_SCHEMA,
        patience: PATIENCE,
    })
}

/// Runs the statements one by one, as the shell does.
fn by_client(door: SocketAddr, line: &Line) -> Result<(), String> {
    let tenant = &line.tenant;
    let mut client = log_in(door, tenant, tenant.password).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for statement in &line.statements {
        let answer = client.query(statement);
        rows.extend(answer.map_err(|error| format!("{statement}: {error}"))?);
    }
    client.quit().map_err(|error| error.to_string())?;
    compare(&in_text(rows), &line.rows)
}

fn binary(door: SocketAddr) -> Result<(), String> {
    let client = log_in(door, &GLOBEX, GLOBEX.password);
    let rows = client.and_then(|mut client| client.execute(DEAR, &[DEAR_FROM]));
    compare(&in_text(rows.map_err(|error| error.to_string())?), &dear())
}

fn wrong_password(door: SocketAddr) -> Result<(), String> {
    match log_in(door, &ACME, GLOBEX.password) {
        Err(ClientError::Server { errno: 1045, .. }) => Ok(()),
        Err(other) => Err(format!("not with 1045: {other}")),
        Ok(_) => Err("it was let in".to_owned()),
    }
}

fn in_text(rows: Vec<Row>) -> Vec<Vec<String>> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    rows.into_iter()
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}

fn compare(found: &[Vec<String>], expected: &[Vec<String>]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("expected {expected:?}, found {found:?}"))
}

/// The `mysql` shell.
#[derive(Debug, Default)]
pub(super) struct Shell {
    is_mariadb: bool,
}

impl Shell {
    /// The one on PATH, if there is one.
    pub(super) fn find() -> Option<Self> {
        let version = Command::new("mysql")
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let is_mariadb = String::from_utf8_lossy(&version.stdout).contains("MariaDB");
        Some(Self { is_mariadb })
    }

    fn arguments(&self, door: SocketAddr, line: &Line) -> Vec<String> {
        let tenant = &line.tenant;
        let mut arguments = vec![
            format!("-h{}", door.ip()),
            format!("-P{}", door.port()),
            format!("-u{}", tenant.user),
            format!("-p{}", tenant.password),
        ];
        if self.is_mariadb {
            // From 11.4 on it insists on TLS unless told otherwise; MySQL's has no such option.
            arguments.push("--skip-ssl".to_owned());
        }
        arguments.push(DEMO_SCHEMA.to_owned());
        arguments
    }

    /// The line as a person types it.
    pub(super) fn command_line(&self, door: SocketAddr, line: &Line) -> String {
        let arguments = self.arguments(door, line).join(" ");
        format!("mysql {arguments} -e \"{}\"", line.statements.join("; "))
    }

    /// Runs the line, without the user's own option files and with plain output.
    fn run(&self, door: SocketAddr, line: &Line) -> Result<(), String> {
        let mut shell = Command::new("mysql")
            .args(["--no-defaults", "--batch", "--skip-column-names"])
            .args(self.arguments(door, line))
            .args(["-e", &line.statements.join("; ")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let until = Instant::now() + PATIENCE;
        while shell.try_wait().map_err(|e| e.to_string())?.is_none() {
            if Instant::now() >= until {
                let _ended_meanwhile = shell.kill();
                let _reaped = shell.wait();
                return Err(format!("no end within {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(LOOK);
        }
        let output = shell.wait_with_output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let rows: Vec<Vec<String>> = text
            .lines()
            .map(|row| row.split('\t').map(str::to_owned).collect())
            .collect();
        compare(&rows, &line.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::demo::{DEMO_UPSTREAM, demo_shards};

    #[test]
    fn the_lines_hold_without_the_gateway() {
        let shards = demo_shards().unwrap();
        let (user, password) = DEMO_UPSTREAM;
        for mut line in lines() {
            let shard = if line.tenant == ACME {
                &shards.a
            } else {
                &shards.b
            };
            line.tenant.user = user;
            line.tenant.password = password;
            assert_eq!(by_client(shard.address(), &line), Ok(()), "{}", line.title);
        }
    }

    #[test]
    fn another_tenants_rows_fail() {
        let shards = demo_shards().unwrap();
        let (user, password) = DEMO_UPSTREAM;
        let mut line = lines().swap_remove(0);
        line.tenant.user = user;
        line.tenant.password = password;
        let wrong = by_client(shards.b.address(), &line).unwrap_err();
        assert!(
            wrong.contains("expected") && wrong.contains("Hammock"),
            "{wrong}"
        );
    }

    #[test]
    fn the_printed_line_is_quoted_for_a_shell() {
        let door = SocketAddr::from(([127, 0, 0, 1], 4000));
        for (is_mariadb, expect) in [
            (
                false,
                "mysql -h127.0.0.1 -P4000 -uacme -pacme-demo shop -e \"SELECT",
            ),
            (
                true,
                "mysql -h127.0.0.1 -P4000 -uacme -pacme-demo --skip-ssl shop -e \"SELECT",
            ),
        ] {
            let lines = lines();
            let line = Shell { is_mariadb }.command_line(door, &lines[0]);
            assert!(line.starts_with(expect), "{line}");
        }
        for line in lines() {
            let sql = line.statements.join("; ");
            assert!(!sql.contains(['"', '$', '`', '!', '\\']), "{sql}");
        }
    }
}
