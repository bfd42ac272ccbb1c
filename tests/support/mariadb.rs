//! What is MariaDB's own about a test's server.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{ACCOUNT, PASSWORD};

pub(super) fn command() -> Command {
    let mut command = Command::new("mariadbd");
    command.args([
        "--no-defaults",
        "--skip-slave-start",
        "--innodb-log-file-size=32M",
    ]);
    command
}

pub(super) fn account_sql() -> String {
    format!(
        "CREATE USER IF NOT EXISTS '{ACCOUNT}'@'%' IDENTIFIED VIA mysql_native_password \
         USING PASSWORD('{PASSWORD}')"
    )
}

pub(super) fn install(data: &Path) -> std::io::Result<Output> {
    Command::new("mariadb-install-db")
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .args([
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--user=root",
        ])
        .args(["--force", "--innodb-log-file-size=32M"])
        .stdin(Stdio::null())
        .output()
}
