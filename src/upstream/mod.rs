//! One core's connections to the endpoints behind it: pools in use, dialing, leases, what cores lend
//! each other, killing, retiring, and the choice of an endpoint.
//!
//! What a connection speaks is a [`Protocol`]; nothing else here knows. The bookkeeping is that of
//! [`crate::pool`], to which this gives sockets, tasks and time.

mod cleanse;
mod dial;
mod endpoint;
mod kill;
mod lease;
mod lend;
mod permit;
mod place;
mod pool;
mod pools;
mod protocol;
mod retire;
mod routing;
mod site;
#[cfg(test)]
mod tests;

pub use dial::DialError;
pub use endpoint::Endpoint;
pub use lease::{Connection, Ending, Leased};
pub use lend::{Lent, PeerMessage, Refused};
pub use pool::{Acquired, LeaseWait, PoolState};
pub use protocol::{Broken, Protocol};
pub use routing::{Routing, Target, route_table};
pub use site::{Addresses, Upstreams};
