//! `ringgate check FILE`: would `serve` accept this file here?

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Advice, ConfigErrors, Snapshot};
use crate::upstream::route_table;

/// Reports on the file: a summary, with warnings that refuse nothing, and 0; or every problem and 78.
pub(super) fn run(file: &Path, show: bool) -> ExitCode {
    match config::load(file) {
        Ok(snapshot) => {
            let report = if show {
                snapshot.to_string()
            } else {
                summary(file, &snapshot)
            };
            // A closed standard output is no reason to fail.
            let _ = std::io::stdout().write_all(report.as_bytes());
            let _ = std::io::stderr().write_all(warnings(&snapshot).as_bytes());
            ExitCode::SUCCESS
        }
        Err(errors) => refuse(&errors),
    }
}

fn warnings(snapshot: &Snapshot) -> String {
    let table = route_table(snapshot);
    let advice = snapshot.advice(|tenant| table.placement_of(tenant));
    advice
        .into_iter()
        .map(|Advice { message, help }| format!("warning: {message}\n  help: {help}\n"))
        .collect()
}

/// Reports every problem, and gives the exit code for a refused configuration.
pub(super) fn refuse(errors: &ConfigErrors) -> ExitCode {
    let stderr = std::io::stderr();
    let color = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = stderr.lock().write_all(errors.render(color).as_bytes());
    ExitCode::from(super::EXIT_CONFIG)
}

/// What the file makes the gateway do, in a few lines.
fn summary(file: &Path, snapshot: &Snapshot) -> String {
    let mut out = format!("{}: OK\n", file.display());
    for listener in &snapshot.listeners {
        let (name, protocol) = (&listener.name, listener.protocol.label());
        out.push_str(&format!(
            "  listens on {} ({protocol}, `{name}`)\n",
            listener.address
        ));
    }
    out.push_str(&format!("  admin on {}\n", snapshot.admin.address));
    for placement in &snapshot.placements {
        let endpoints = placement
            .endpoints
            .iter()
            .filter_map(|id| snapshot.endpoint(*id));
        let shown: Vec<String> = endpoints
            .map(|e| format!("{} {}", e.role.label(), e.address()))
            .collect();
        out.push_str(&format!(
            "  placement `{}`: {}\n",
            placement.name,
            shown.join(", ")
        ));
    }
    let (tenants, users) = (snapshot.tenants.len(), snapshot.users.list().len());
    out.push_str(&format!(
        "  {}, {}\n",
        counted(tenants, "tenant"),
        counted(users, "user")
    ));
    out
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
