//! All of one core's endpoints: those of the current configuration, and what is left of earlier ones.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::endpoint::{Endpoint, EndpointSeed};
use super::lend::{self, PeerMessage, Refused};
use super::protocol::{Broken, Protocol};
use super::retire;
use super::routing::Routing;
use crate::base::address::Address;
use crate::base::clock::Deadline;
use crate::base::ident::{CoreId, EndpointIndex, EndpointName};
use crate::config::Snapshot;
use crate::core::Core;
use crate::net::SocketOptions;
use crate::pool::{PoolLimits, split};
use crate::telemetry::metrics::CoreMetrics;

/// Where the endpoints of one snapshot are, resolved by the control thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The generation of the snapshot whose endpoint identifiers these are.
    pub generation: u64,
    /// Addresses by endpoint; empty while an endpoint's name has never been resolved.
    pub by_endpoint: Vec<Vec<Address>>,
}

impl Addresses {
    /// The addresses of `endpoint`, in the resolver's order.
    pub fn of(&self, endpoint: EndpointIndex) -> &[Address] {
        usize::try_from(endpoint.0)
            .ok()
            .and_then(|index| self.by_endpoint.get(index))
            .map_or(&[], Vec::as_slice)
    }
}

/// How long making a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialLimits {
    /// One address.
    pub(super) connect: Duration,
    /// All of them together.
    pub(super) total: Duration,
    /// The login after that.
    pub(super) login: Duration,
}

impl DialLimits {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            connect: snapshot.deadlines.connect,
            total: snapshot.deadlines.connect_total,
            login: snapshot.deadlines.upstream_login,
        }
    }
}

/// Sends a message to the same part of another core.
pub type Post<P> = Box<dyn Fn(CoreId, PeerMessage<P>) -> Result<(), Box<Refused<P>>>>;

/// One core's connections to all endpoints that speak `P`.
pub struct Upstreams<P: Protocol> {
    /// The core.
    pub core: Rc<Core>,
    /// What its sessions share.
    pub shared: P::Shared,
    pub(super) post: Post<P>,
    pub(super) limits: RefCell<DialLimits>,
    /// This core's part of the connections that each tenant may have of an endpoint; `None` for as many as
    /// there are.
    bounds: RefCell<HashMap<String, Option<u32>, FixedState>>,
    /// Of the current configuration, in its order.
    pub(super) current: RefCell<Vec<Rc<Endpoint<P>>>>,
    /// Endpoints that a reload took away: clients may still be on them, and their permits and their
    /// places stay what they are until they come back.
    pub(super) former: RefCell<Vec<Rc<Endpoint<P>>>>,
}

/// What a look at all endpoints has found.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Somebody waits, or an endpoint is left alone after failures: look again soon.
    pub is_busy: bool,
    /// Statements are being killed.
    pub is_reaping: bool,
    /// When time alone will change something.
    pub next: Deadline,
}

impl<P: Protocol> Upstreams<P> {
    /// A core's endpoints before its first configuration, which is about to be [applied](Self::apply).
    pub fn new(core: &Rc<Core>, shared: P::Shared, snapshot: &Snapshot, post: Post<P>) -> Rc<Self> {
        Rc::new(Self {
            core: Rc::clone(core),
            shared,
            post,
            limits: RefCell::new(DialLimits::of(snapshot)),
            bounds: RefCell::default(),
            current: RefCell::default(),
            former: RefCell::default(),
        })
    }

    /// Takes over a configuration. Endpoints that stay keep their pools and permits.
    pub fn apply(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        addresses: &Addresses,
        metrics: &CoreMetrics,
    ) -> Routing<P> {
        *self.limits.borrow_mut() = DialLimits::of(snapshot);
        let mut known = self.current.borrow().clone();
        known.extend(self.former.borrow().iter().cloned());
        self.bound_tenants(snapshot, &known);
        let endpoints = self.endpoints(snapshot, addresses, metrics, &known);
        let old = self.current.replace(endpoints.clone());
        retire::note(self, &old);
        Routing::new(snapshot, endpoints)
    }

    /// Those who wait are looked at by the keeper's next look, which follows a configuration.
    fn bound_tenants(&self, snapshot: &Snapshot, known: &[Rc<Endpoint<P>>]) {
        let core = &self.core;
        let part = |max| split(max, core.cores, core.id).max(1);
        let tenants = snapshot.tenants.iter();
        let bounds = tenants.map(|tenant| {
            let max = tenant.connections_upstream_max.map(part);
            (tenant.name.clone(), max)
        });
        let bounds: HashMap<_, _, FixedState> = bounds.collect();
        for endpoint in known {
            let mut gate = endpoint.gate.borrow_mut();
            gate.set_bounds(|tenant| bounds.get(tenant).copied());
        }
        *self.bounds.borrow_mut() = bounds;
    }

    /// How many connections of an endpoint a tenant may have on this core.
    pub(super) fn tenant_bound(&self, tenant: &str) -> Option<u32> {
        self.bounds.borrow().get(tenant).copied().flatten()
    }

    fn endpoints(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        addresses: &Addresses,
        metrics: &CoreMetrics,
        known: &[Rc<Endpoint<P>>],
    ) -> Vec<Rc<Endpoint<P>>> {
        let pools = &snapshot.pools;
        let limits = PoolLimits {
            waiters_max: pools.waiters_max,
            wait_target: snapshot.deadlines.pool_wait_target,
            idle_max: pools.idle_max,
            age_max: pools.age_max,
        };
        let mut endpoints = Vec::new();
        for (endpoint, index) in snapshot.endpoints.iter().zip(0_u32..) {
            let Some(placement) = snapshot.placement(endpoint.placement) else {
                continue;
            };
            let name = EndpointName {
                placement: placement.name.as_str().into(),
                address: endpoint.address().into(),
            };
            let resolved = addresses.of(EndpointIndex(index)).to_vec();
            if let Some(kept) = known.iter().find(|kept| kept.name == name) {
                *kept.addresses.borrow_mut() = resolved;
                *kept.socket.borrow_mut() = SocketOptions::from(&placement.socket);
                kept.set_limits(limits);
                let before = kept.budget.replace(endpoint.budget);
                kept.permits.borrow_mut().resize(before, endpoint.budget);
                kept.show_permits();
                endpoints.push(Rc::clone(kept));
                continue;
            }
            let seed = EndpointSeed {
                metrics: metrics.endpoint(&name.placement, &name.address),
                name,
                addresses: resolved,
                socket: SocketOptions::from(&placement.socket),
                budget: endpoint.budget,
                limits,
            };
            endpoints.push(Endpoint::new(self, seed));
        }
        endpoints
    }

    /// Wakes the sessions whose wait for another one's lease is over. Call it whenever bytes were given
    /// to the session of a connection, and when one has come back or was dropped.
    pub fn tell_others(&self) {
        P::tell_others(&self.shared, &self.core);
    }

    /// Takes in what others are owed, and tells them.
    ///
    /// # Errors
    /// As [`Protocol::take_owed`].
    pub(super) fn take_owed(
        &self,
        session: &mut P::Session,
        bytes: &mut [u8],
    ) -> Result<bool, Broken> {
        let taken = P::take_owed(session, bytes);
        self.tell_others();
        taken
    }

    /// Other addresses for endpoints of the current configuration.
    pub fn set_addresses(&self, addresses: &Addresses) {
        for (endpoint, index) in self.current.borrow().iter().zip(0_u32..) {
            *endpoint.addresses.borrow_mut() = addresses.of(EndpointIndex(index)).to_vec();
        }
        self.core.kick();
    }

    /// A message of another core's endpoints.
    pub fn on_message(self: &Rc<Self>, message: PeerMessage<P>) {
        let name = match &message {
            PeerMessage::Permit(message) => &message.endpoint,
            PeerMessage::Place(message) => &message.endpoint,
            PeerMessage::Lent(lent) => &lent.endpoint,
        };
        let Some(endpoint) = self.known(name) else {
            return lend::send_back(self, message);
        };
        match message {
            PeerMessage::Permit(message) => endpoint.on_permit(message),
            PeerMessage::Place(message) => endpoint.on_place(&message),
            PeerMessage::Lent(lent) => lend::take_over(endpoint, *lent),
        }
    }

    fn known(&self, name: &EndpointName) -> Option<Rc<Endpoint<P>>> {
        let (current, former) = (self.current.borrow(), self.former.borrow());
        let mut endpoints = current.iter().chain(former.iter());
        endpoints.find(|endpoint| endpoint.name == *name).cloned()
    }

    /// Looks after pools, waiters and permits.
    pub fn look(self: &Rc<Self>) -> Look {
        let mut look = Look {
            is_busy: false,
            is_reaping: false,
            next: Deadline::NEVER,
        };
        self.tell_others();
        let mut endpoints = self.current.borrow().clone();
        endpoints.extend(self.former.borrow().iter().cloned());
        for endpoint in &endpoints {
            look.is_busy |= endpoint.sweep();
            look.is_reaping |= endpoint.is_reaping();
            look.next = look.next.min(endpoint.next_look(self.core.net.now()));
        }
        retire::look(self);
        look
    }

    /// Brings the metrics up to date.
    pub fn gauge(&self) {
        let (current, former) = (self.current.borrow(), self.former.borrow());
        for endpoint in current.iter().chain(former.iter()) {
            endpoint.gauge();
        }
    }
}
