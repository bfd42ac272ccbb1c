//! What the [`super::Permits`] of two cores say to each other, and what they have the driver do.

use super::Key;
use crate::base::{
    clock::Now,
    ident::{CoreId, EndpointName},
};

/// A message between the [`super::Permits`] of two cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitMessage {
    /// Which endpoint's permits.
    pub endpoint: EndpointName,
    /// The core that sends it.
    pub from: CoreId,
    /// What it says.
    pub body: PermitBody,
}

/// What a [`PermitMessage`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitBody {
    /// The sender's waiters need `count` permits. Replaces the sender's earlier want.
    Want {
        /// At least 1.
        count: u32,
        /// Since when the sender's oldest waiter waits.
        oldest: Now,
        /// Permits the sender owns.
        owned: u32,
        /// The pool of the oldest waiter, to lend it an idle connection.
        key: Option<Key>,
    },
    /// The sender gives `count` permits. Its memory of the receiver's want is gone.
    Grant {
        /// At least 1.
        count: u32,
    },
    /// Nothing to give now; the want is remembered.
    Deny,
    /// The sender no longer wants any.
    Withdraw,
}

/// What the driver must do. Each is done before the next call into [`super::Permits`], or counted by it
/// until it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the message to a core.
    Send(CoreId, PermitMessage),
    /// Take an idle connection out of this core's pools of this endpoint: one of `key` to lend to
    /// the core `to` (then [`super::Permits::lent`]), else the longest idle to close (then
    /// [`super::Permits::released`], which grants its permit).
    GiveIdle {
        /// Who is to have it.
        to: CoreId,
        /// Whose idle connections the core could use as they are.
        key: Option<Key>,
    },
    /// Close an idle connection of this core's pools of this endpoint, then
    /// [`super::Permits::released`].
    CloseIdle {
        /// For another pool of this core ([`super::Gate::victim`]); else the budget shrank.
        makes_room: bool,
    },
}

/// What to do with a returned connection that this core's own waiters could use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum OnReturn {
    /// Hand it over or keep it idle.
    Keep,
    /// As [`Effect::GiveIdle`], with this connection.
    Give {
        /// Who is to have it.
        to: CoreId,
        /// The pool key it could be lent under.
        key: Option<Key>,
    },
    /// Close it, as [`Effect::CloseIdle`]: the budget shrank.
    Close,
    /// Close it for another pool of this core ([`super::Gate::gives_way`]).
    MakeRoom,
}
