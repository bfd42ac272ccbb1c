//! The MySQL client/server protocol.

pub mod auth;
pub mod charset;
pub mod command;
pub mod cursor;
pub mod decode;
pub mod flags;
pub mod frame;
pub mod handshake;
pub mod reply;
pub mod response;
pub mod rows;
pub mod rsa;
pub mod track;
pub mod value;
