//! `ringgate load …`: the load harness.

mod serve;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// The arguments of `ringgate load`.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(subcommand)]
    command: LoadCommand,
}

#[derive(Debug, Subcommand)]
enum LoadCommand {
    /// Serve one fixed answer at once, or after a drawn time: an upstream that is never what limits
    /// a run.
    Serve(serve::ServeArgs),
}

/// Runs a subcommand of the harness.
pub(super) fn run(arguments: LoadArgs) -> ExitCode {
    match arguments.command {
        LoadCommand::Serve(arguments) => serve::run(arguments),
    }
}
