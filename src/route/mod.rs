//! Routing: tenant → placement → endpoint. Pure decisions over plain data; every door uses these.
//!
//! - [`RouteTable`] says to which placement a tenant belongs: explicitly, else by [`hash`].
//! - [`choose`] picks one of the placement's endpoints: role, usability, zone, load.

pub mod hash;

mod choice;
mod table;

pub use choice::{Candidate, Role, Wanted, choose};
pub use table::{RouteTable, RouteTableBuilder};
