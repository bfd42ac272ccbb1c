//! The control thread: signals, watchdog, name resolution, admin listener, metrics collection.
//!
//! It is the process's first thread, unpinned, with a current-thread tokio runtime. It starts the cores
//! and reaches them by message only; nothing a core does for a client waits for it.

mod admin;
mod node;
mod plan;
mod process;
mod reload;
mod resolve;
mod serve;
mod status;
mod version;
mod watchdog;

pub use node::Order;
pub use serve::{Exit, Load, Serve, Serving, serve};
