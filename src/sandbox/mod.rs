//! An embedded SQLite shard that speaks the MySQL protocol, for `demo` and tests.

mod column;
mod date;
mod ddl;
mod error;
mod rewrite;
mod token;
mod translate;
mod catalog;
mod function;
mod variables;
mod execute;
mod schema;
mod session;
mod set;
mod show;
mod store;

#[cfg(test)]
mod tests;
