//! One core and nothing of a protocol: its thread and executor, its mailbox, its heartbeat, its drain.

pub mod beat;
pub mod executor;
pub mod fault;
pub mod jobs;
pub mod mailbox;
pub mod preflight;
pub mod runtime;
mod state;

pub use state::{Core, Drain};
