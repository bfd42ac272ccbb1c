//! A seeded simulation of clients, gateway and servers, without sockets and clocks.

pub mod cancel;
pub mod client;
pub mod gateway;
pub mod mock;
pub mod reply;
pub mod site;
pub mod sql;
pub mod variables;
pub mod workload;
pub mod world;
