//! `ringgate serve --config FILE`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::{config, control, door};

/// Serves until a signal ends the node. Returns only when the configuration is refused.
pub(super) fn run(file: PathBuf) -> ExitCode {
    match config::load(&file) {
        Ok(snapshot) => {
            let load = move || config::load(&file).map_err(|errors| errors.one_line());
            control::serve(snapshot, Arc::new(load), door::life::core_main)
        }
        Err(errors) => super::check::refuse(&errors),
    }
}
