//! MySQL sessions, both roles.

pub mod connect;
pub mod login;
pub mod text;
