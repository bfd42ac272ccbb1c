//! MySQL sessions, both roles.

pub mod answer;
pub mod collation;
pub mod connect;
pub mod conversation;
pub mod downstream;
pub mod effects;
pub mod exchange;
pub mod intake;
pub mod kill;
#[cfg(test)]
mod last_statement;
pub mod login;
pub mod output;
pub mod packed;
pub mod residue;
pub mod salvage;
pub mod state;
pub mod statements;
pub mod text;
pub mod upstream;
