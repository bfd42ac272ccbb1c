//! MySQL sessions, both roles.

pub mod connect;
pub mod intake;
pub mod login;
pub mod state;
pub mod statements;
pub mod text;
