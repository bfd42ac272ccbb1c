//! Starts the real things integration tests need: MariaDB and MySQL servers and the gateway itself.
//!
//! Everything listens on loopback, keeps its data in a temporary folder and is ended by its own
//! process id when the value that stands for it is dropped.

#![allow(dead_code, reason = "each test file uses a part of this module")]
#![allow(
    clippy::expect_used,
    reason = "a launcher that fails must fail its test"
)]
#![allow(unused_imports, reason = "each test file uses a part of this module")]

pub mod auth;
pub mod chaos;
pub mod client;
pub mod gateway;
pub mod load;
pub mod log;
mod mariadb;
mod mysql;
pub mod null;
pub mod packet;
pub mod port;
pub mod rounds;
pub mod server;
pub mod sockets;
pub mod terminal;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

pub use chaos::Chaos;
pub use client::{Answer, Client, ClientError, Login, Statement};
pub use gateway::{Gateway, Ports, Shape};
pub use log::LogLine;
pub use null::NullServer;
pub use port::free_port;
pub use server::{Kind, Options, Server};
pub use sockets::SocketState;
pub use terminal::Terminal;

/// Most tests are of MariaDB: [`Server::start`] gives one.
pub type MariaDb = Server;
/// How a [`MariaDb`] is started.
pub type MariaDbOptions = Options;

/// The account that servers started here give the gateway and direct clients, with all privileges.
pub const ACCOUNT: &str = "rg";
/// The password of [`ACCOUNT`]: by `mysql_native_password` on MariaDB, `caching_sha2_password` on MySQL.
pub const PASSWORD: &str = "rg-test-password";

/// `127.0.0.1:port`.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Asks `done` until it says yes; false when `limit` passed before.
pub fn wait_for(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
