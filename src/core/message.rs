//! What may cross from one thread to a core, and from a core to the control thread.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::base::clock::{Deadline, Now};
use crate::base::ident::{CoreId, EndpointId};
use crate::config::Snapshot;
use crate::pool::{Key, PermitMessage};
use crate::session::mysql::packed::PackedUpstream;
use crate::telemetry::scrape::Scrape;

/// Where the endpoints of one snapshot are, resolved by the control thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The generation of the snapshot whose endpoint identifiers these are.
    pub generation: u64,
    /// Addresses by endpoint; empty while an endpoint's name has never been resolved.
    pub by_endpoint: Vec<Vec<SocketAddr>>,
}

impl Addresses {
    /// The addresses of `endpoint`, in the resolver's order.
    pub fn of(&self, endpoint: EndpointId) -> &[SocketAddr] {
        usize::try_from(endpoint.0)
            .ok()
            .and_then(|index| self.by_endpoint.get(index))
            .map_or(&[], Vec::as_slice)
    }
}

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
    /// Another core asks for permits, or gives some.
    Permit(PermitMessage),
    /// Another core hands over an idle upstream connection, with its permit.
    Lent(Box<Lent>),
    /// A job that this core gave to the helper thread has ended.
    JobDone(JobDone),
}

/// An idle upstream connection on its way between two cores: moved, never shared.
pub struct Lent {
    /// The endpoint it is connected to.
    pub endpoint: EndpointId,
    /// The core that lends it.
    pub from: CoreId,
    /// The pool it belongs to, there as here.
    pub key: Key,
    /// The socket. Nothing of it was received since it fell idle.
    pub socket: OwnedFd,
    /// The session on it.
    pub session: PackedUpstream,
    /// When it was opened.
    pub opened_at: Now,
    /// When it is too old to be kept.
    pub retires_at: Deadline,
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
            Self::Permit(_) => "Permit",
            Self::Lent(_) => "Lent",
            Self::JobDone(_) => "JobDone",
        })
    }
}

/// The result of a job, for the core that asked.
pub struct JobDone {
    /// The number the core gave the job.
    pub job: u64,
    /// What the job computed; the asker knows the type. `None` when it panicked.
    pub outcome: Option<Box<dyn Any + Send>>,
}

/// A message from a core to the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreEvent {
    /// The core serves.
    Ready(CoreId),
    /// The core has ended: `None` as asked, otherwise why.
    Ended(CoreId, Option<String>),
}
