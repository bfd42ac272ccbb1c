//! An embedded SQLite shard that speaks the MySQL protocol, for `demo` and tests.
//!
//! A [`Shard`] listens, has users and databases, and goes with its data when dropped. It runs on plain
//! threads with blocking sockets, one thread a connection, never on a core. A statement's way through it:
//!
//! ```text
//! connection (commands) → token (MySQL's lexis) → session (who does what)
//!    → rewrite, ddl (order of words) → translate (words) → store (SQLite) → result (MySQL's types)
//! ```
//!
//! What differs from a MySQL server: changed rows are counted as found rows; one writer at a time for each
//! database (others wait, then get 1205); `ENUM` and `SET` are `VARCHAR`; no `REGEXP`, no stored programs,
//! no changes of several tables in one statement, no change of a column's type; character sets other than
//! UTF-8 are remembered but not converted.

mod catalog;
pub mod client;
mod column;
mod connection;
mod date;
mod ddl;
mod definition;
pub mod demo;
mod error;
mod execute;
mod function;
mod information;
mod login;
mod packet;
mod report;
mod result;
mod rewrite;
mod schema;
mod session;
mod set;
mod shard;
mod show;
mod store;
mod token;
mod translate;
mod variables;

pub use error::SqlError;
pub use shard::{Shard, ShardOptions};

#[cfg(test)]
mod tests;
