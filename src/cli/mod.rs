//! The command line: one file per subcommand.
//!
//! Exit codes: 0 success, 1 runtime failure, 3 a run of `load` whose generator lagged, 64 usage, 65
//! unusable results, 78 configuration. `report compare` has its own meaning of 1 and 2.

mod check;
mod demo;
mod load;
mod report;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A runtime failure.
pub const EXIT_RUNTIME: u8 = 1;
/// The command line cannot be understood (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Files given as data cannot be used (`EX_DATAERR` of sysexits.h).
pub const EXIT_DATA: u8 = 65;
/// The configuration is refused (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// A thread-per-core io_uring gateway between MySQL clients and sharded MySQL or MariaDB.
#[derive(Debug, Parser)]
#[command(
    name = "ringgate",
    version,
    after_help = "Exit codes: 0 success, 1 runtime failure, 64 usage, 65 unusable results, 78 configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM; SIGHUP applies the file again.
    Serve {
        /// The TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file and report every problem in it.
    Check {
        /// The TOML file.
        file: PathBuf,
        /// Print every setting with its value in force; secrets are masked.
        #[arg(long)]
        show: bool,
    },
    /// Make load on MySQL and HTTP servers, measure what a caller feels, keep it in files.
    Load(Box<load::LoadArgs>),
    /// Serve two embedded shards with sample data until Ctrl-C; print lines to try.
    Demo {
        /// Try the lines, verify the answers, and exit.
        #[arg(long)]
        check: bool,
    },
    /// Draw a page from the results of load runs, or compare two builds.
    Report(Box<report::Report>),
}

/// Parses the process's arguments and runs the subcommand.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed standard output is no reason to fail.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match arguments.command {
        Command::Serve { config } => serve::run(config),
        Command::Check { file, show } => check::run(&file, show),
        Command::Demo { check } => demo::run(check),
        Command::Report(options) => report::run(*options),
        Command::Load(arguments) => load::run(*arguments),
    }
}
