//! MySQL sessions, both roles.

pub mod answer;
pub mod baseline;
pub mod connect;
pub mod conversation;
pub mod downstream;
pub mod effects;
pub mod exchange;
mod execute_body;
mod execution;
pub mod full_login;
pub mod harmless;
pub mod intake;
pub mod kill;
pub mod left_behind;
pub mod login;
pub mod output;
pub mod packed;
pub mod programs;
pub mod read_out;
mod regrown;
mod screening;
pub mod state;
mod statement_commands;
pub mod statements;
pub mod text;
pub mod texts;
pub mod upstream;
