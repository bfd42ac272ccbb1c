//! Sans-I/O protocol sessions: bytes, events and `now` in; bytes, spans and actions out.

pub mod mysql;
