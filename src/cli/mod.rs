//! The command line: one file per subcommand.
//!
//! Exit codes: 0 success, 1 runtime failure, 64 usage, 78 configuration.

/// Parses the process's arguments and runs the subcommand.
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::from(64)
}
