//! MySQL sessions, both roles.

pub mod answer;
pub mod connect;
pub mod conversation;
pub mod downstream;
pub mod effects;
pub mod exchange;
pub mod full_login;
pub mod intake;
pub mod kill;
pub mod left_behind;
pub mod login;
pub mod output;
pub mod packed;
pub mod read_out;
mod schema_gone;
mod screening;
pub mod state;
pub mod statements;
pub mod text;
pub mod upstream;
