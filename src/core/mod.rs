//! One core's world: executor, doors, drivers, mailbox, drain.

mod admission;
pub mod beat;
mod client;
mod driver;
mod dial;
mod door;
mod endpoint;
pub mod entry;
pub mod executor;
mod fault;
mod front;
mod initial_schema;
pub mod jobs;
mod kill;
mod lease;
mod lend;
mod login;
pub mod mailbox;
pub mod message;
mod permit;
pub mod preflight;
mod retire;
mod routing;
pub mod runtime;
mod server_key;
mod stall;
mod world;
