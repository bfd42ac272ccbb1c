//! What is MySQL's own about a test's server: it comes from `scripts/lib/fetch_mysql`, or is not there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{ACCOUNT, PASSWORD};

/// Beside the folder in which tests keep their files.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mysql-server")
}

/// Whether there is a server; says so if there is none, past the capture of a test's output.
pub(super) fn is_there() -> bool {
    let is_there = folder().join("version").exists();
    if !is_there {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let line = format!("skipped: {test}: no MySQL server: scripts/lib/fetch_mysql gets one\n");
        // Nobody may be there to read it.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    is_there
}

/// The same when a folder is first made and later: a server refuses another size of the log.
const REDO_LOG: &str = "--innodb-redo-log-capacity=16M";

pub(super) fn command() -> Command {
    let mut command = Command::new(folder().join("mysqld"));
    command.args([
        "--mysqlx=OFF",
        "--secure-file-priv=NULL",
        "--skip-replica-start",
        REDO_LOG,
    ]);
    command
}

pub(super) fn account_sql() -> String {
    format!(
        "CREATE USER IF NOT EXISTS '{ACCOUNT}'@'%' IDENTIFIED WITH caching_sha2_password \
         BY '{PASSWORD}'"
    )
}

pub(super) fn install(data: &Path) -> std::io::Result<Output> {
    Command::new(folder().join("mysqld"))
        .args(["--initialize-insecure", "--user=root", REDO_LOG])
        .arg(format!("--datadir={}", data.display()))
        .stdin(Stdio::null())
        .output()
}
