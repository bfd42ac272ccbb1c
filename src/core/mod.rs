//! One core's world: executor, doors, drivers, mailbox, drain.

pub mod beat;
pub mod jobs;
pub mod mailbox;
pub mod message;
pub mod preflight;
pub mod runtime;
