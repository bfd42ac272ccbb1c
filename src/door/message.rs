//! What may cross from one thread to a core, and from a core to the control thread.

use std::fmt;
use std::sync::Arc;

use super::mysql::tenants::TenantMessage;
use super::mysql::upstream::Mysql;
use crate::config::Snapshot;
use crate::core::jobs::JobDone;
use crate::core::mailbox;
use crate::core::runtime;
use crate::telemetry::scrape::Scrape;
use crate::upstream::{Addresses, PeerMessage};

/// What every core of a gateway begins with.
#[derive(Clone)]
pub struct Given {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Where the snapshot's endpoints are.
    pub addresses: Arc<Addresses>,
}

/// What a gateway's core does.
pub type CoreMain = runtime::CoreMain<Given, CoreMessage>;

/// What a gateway's core begins with.
pub type CoreSeed = runtime::CoreSeed<Given, CoreMessage>;

/// The mailboxes of a gateway's cores.
pub type Mailboxes = mailbox::Mailboxes<CoreMessage>;

/// An answer that a core owes the sender of a message. Dropped unanswered, its sender learns that too.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// A reply that is delivered by calling `deliver`, on the core: it must not block.
    pub fn new(deliver: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(deliver))
    }

    /// Answers.
    pub fn send(self, answer: T) {
        (self.0)(answer);
    }
}

/// A message to a core.
pub enum CoreMessage {
    /// Nothing to do: shows that the core takes messages.
    Ping,
    /// A new configuration, and where its endpoints are. Exchanges that run keep the old one.
    Snapshot(Arc<Snapshot>, Arc<Addresses>),
    /// Endpoints have other addresses now.
    Addresses(Arc<Addresses>),
    /// The server version that upstreams announce, for the gateway's own greetings.
    ServerVersion(Arc<str>),
    /// Stop accepting, end connections at exchange boundaries, then return.
    Drain,
    /// The grace is over: end every connection now, then return.
    DrainNow,
    /// Copy the core's numbers.
    Scrape(Reply<Scrape>),
    /// Of another core's connections to MySQL endpoints.
    Upstream(PeerMessage<Mysql>),
    /// Of how many clients tenants have.
    Tenant(TenantMessage),
    /// A job that this core gave to the helper thread has ended.
    JobDone(JobDone),
}

impl From<JobDone> for CoreMessage {
    fn from(done: JobDone) -> Self {
        Self::JobDone(done)
    }
}

impl fmt::Debug for CoreMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ping => "Ping",
            Self::Snapshot(..) => "Snapshot",
            Self::Addresses(_) => "Addresses",
            Self::ServerVersion(_) => "ServerVersion",
            Self::Drain => "Drain",
            Self::DrainNow => "DrainNow",
            Self::Scrape(_) => "Scrape",
            Self::Upstream(_) => "Upstream",
            Self::Tenant(_) => "Tenant",
            Self::JobDone(_) => "JobDone",
        })
    }
}
