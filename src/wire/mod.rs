//! Wire formats: bytes ↔ types; no I/O, no clock, incremental, bounded.

pub mod mysql;
