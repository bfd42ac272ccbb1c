//! Ringgate: a thread-per-core io_uring gateway between MySQL clients and sharded MySQL or MariaDB.
//!
//! A byte's way through the house: a downstream socket on one core's ring ([`net`]) → a protocol
//! session that knows no socket ([`session`]) → a routing decision ([`route`]) → an upstream session
//! leased from that core's pool ([`pool`], [`upstream`]) → the upstream socket on the same ring.
//! A [`door`] joins these on its [`core`]; [`control`] watches from its own unpinned thread.
//!
//! Layers import downward only; `tests/layers.rs` enforces this table:
//!
//! | layer | modules |
//! |---|---|
//! | 0 | `base` |
//! | 1 | `wire` |
//! | 2 | `session` `route` `pool` `config` (not each other) |
//! | 3 | `telemetry` |
//! | 4 | `net` |
//! | 5 | `core` |
//! | 6 | `upstream` `load` `sandbox` (not each other) |
//! | 7 | `door` |
//! | 8 | `control` |
//! | 9 | `cli` |

pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod door;
pub mod load;
pub mod net;
pub mod pool;
pub mod route;
pub mod sandbox;
pub mod session;
pub mod telemetry;
pub mod upstream;
pub mod wire;
