//! Configuration: the text of one TOML file becomes a checked, immutable [`Snapshot`].

mod snapshot;

pub use snapshot::*;
