//! An embedded SQLite shard that speaks the MySQL protocol, for `demo` and tests.

mod column;
mod date;
mod ddl;
mod error;
mod rewrite;
mod token;
mod translate;
