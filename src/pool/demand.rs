//! What an endpoint's pools on one core need, as [`super::Permits`] is told, and how long it bears with others'
//! needs.

use std::time::Duration;

use super::{Key, PoolId};
use crate::base::clock::{Deadline, Now};

/// What the pools of one endpoint on this core need at this instant.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Waiters that no connect under way will serve ([`super::Pool::uncovered`]), over all keys, as far as
    /// their tenants may have connections. 0 while the endpoint is left alone after failures.
    pub waiters: u32,
    /// Since when the oldest waiter of the pools with uncovered waiters waits.
    pub oldest: Option<Now>,
    /// The pool that is due the next connection.
    pub due: Option<PoolId>,
    /// Its key.
    pub key: Option<&'a Key>,
    /// Idle connections, over all keys.
    pub idle: u32,
    /// Since when the longest-idle one is idle.
    pub idle_since: Option<Now>,
    /// Whether this core's waiters may have an idle connection closed for them.
    pub takes_idle: bool,
    /// When time alone will change that.
    pub take_at: Deadline,
}

impl Default for Demand<'_> {
    fn default() -> Self {
        Self {
            waiters: 0,
            oldest: None,
            due: None,
            key: None,
            idle: 0,
            idle_since: None,
            takes_idle: false,
            take_at: Deadline::NEVER,
        }
    }
}

/// How long cores bear with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A connection idle for this long may be taken for another core.
    pub idle: Duration,
    /// A waiter may be this much older than another core's before that counts as unfair; also
    /// the time after which an unanswered question is put to the next core.
    pub wait: Duration,
}

impl Default for Patience {
    /// Opening a connection costs about a millisecond on a local network; both are a few times that.
    fn default() -> Self {
        Self {
            idle: Duration::from_millis(5),
            wait: Duration::from_millis(20),
        }
    }
}
