//! Bytes on the wire to typed messages and back: no I/O, no clock, incremental, bounded.

pub mod http;
pub mod mysql;
