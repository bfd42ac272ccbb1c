//! `ringgate load` as a program.

use std::process::{Command, Output};

use super::PASSWORD;

/// A run that is soon over.
pub const SHORT: &[&str] = &["-d", "1s", "-w", "0s", "-c", "2"];

/// Runs it with these arguments and the servers' password in `RG_LOAD_PASSWORD`; its exit code, and what it has
/// written to both outputs.
pub fn load(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .arg("load")
        .args(arguments)
        .env("RG_LOAD_PASSWORD", PASSWORD)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("the binary");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}
