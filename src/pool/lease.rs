//! A connection out of its pool, and the ways a lease ends.

use std::time::Duration;

use crate::base::{
    clock::{Deadline, Now},
    close::CloseReason,
};

/// An upstream connection in one session's hands.
///
/// It ends exactly once, through [`super::Pool::end`]; the driver that holds it discards it when
/// dropped, because only the driver can close a socket.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease is ended through Pool::end, returned or discarded"]
pub struct Lease<C> {
    /// The connection itself.
    pub connection: C,
    /// When the connection was opened.
    pub opened_at: Now,
    /// When the connection is too old to be kept: `opened_at` + the age limit with jitter.
    pub retires_at: Deadline,
    /// The session that used the connection last, before this lease; 0 for nobody.
    pub last_owner: u64,
}

impl<C> Lease<C> {
    /// The connection becomes no older than `age`, which may be less than what it began with.
    pub(super) fn retire_by(&mut self, age: Duration) {
        self.retires_at = self.retires_at.min(self.opened_at.plus(age));
    }
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum LeaseEnd {
    /// The connection is at a command boundary, its reply read to the last packet, no transaction
    /// open and its session state known. Anything else must be `Discard`.
    Return,
    /// The connection is closed and its permit released.
    Discard(CloseReason),
}
