//! What one core's MySQL sessions share: its replica of the configuration, its upstream connections,
//! counters, and what it has learnt of logins.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::super::message::{Given, Mailboxes};
use super::seat::Seats;
use super::server_key::{self, KeySlot};
use super::tenants::TenantMessage;
use super::upstream::Mysql;
use crate::base::clock::Now;
use crate::base::credential::Verifier;
use crate::config::Snapshot;
use crate::core::{Core, Drain};
use crate::net::Net;
use crate::session::mysql::output::Output;
use crate::session::mysql::state::Vector;
use crate::telemetry::metrics::CoreMetrics;
use crate::upstream::{Addresses, Routing, Upstreams};
use crate::wire::mysql::charset::Collation;

/// Memory that drivers use between two awaits only; one set serves all of a core's connections.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What goes to the client.
    pub(super) down: Output,
    /// What goes to the upstream.
    pub(super) up: Output,
}

/// One snapshot with what the core derived from it. Connections keep the one they began with.
pub(super) struct Replica {
    pub(super) generation: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) routing: Routing<Mysql>,
}

/// One core's world.
pub(in super::super) struct World {
    pub(in super::super) core: Rc<Core>,
    pub(in super::super) upstreams: Rc<Upstreams<Mysql>>,
    pub(in super::super) metrics: CoreMetrics,
    replica: RefCell<Rc<Replica>>,
    pub(super) scratch: RefCell<Scratch>,
    pub(super) server_version: RefCell<Arc<str>>,
    pub(super) server_key: Rc<KeySlot>,
    /// Stage-2 hashes learnt in full logins, by user name, with the stored verifier they belong to.
    pub(super) learnt: RefCell<HashMap<Vec<u8>, (Verifier, Verifier), FixedState>>,
    pub(super) seats: Seats,
    schemas: RefCell<HashMap<u64, Now, FixedState>>,
    vectors: RefCell<HashMap<u64, Rc<Vector>, FixedState>>,
}

/// Vectors of logins that are remembered for sharing; more are simply not shared.
const VECTORS_MAX: usize = 1024;

/// Schemas of logins that are remembered as known to their servers; beyond it all are asked for
/// again.
const SCHEMAS_MAX: usize = 4096;

impl World {
    pub(in super::super) fn new(
        core: &Rc<Core>,
        upstreams: Rc<Upstreams<Mysql>>,
        metrics: CoreMetrics,
        given: &Given,
        mailboxes: Mailboxes,
    ) -> Rc<Self> {
        let (snapshot, addresses) = (&given.snapshot, &given.addresses);
        let version = snapshot.node.server_version.as_deref();
        let version = version.unwrap_or(VERSION_UNTIL_LEARNT).into();
        let replica = Rc::new(Replica {
            generation: addresses.generation,
            snapshot: Arc::clone(snapshot),
            routing: upstreams.apply(snapshot, addresses, &metrics),
        });
        let world = Rc::new(Self {
            core: Rc::clone(core),
            upstreams,
            metrics,
            replica: RefCell::new(replica),
            scratch: RefCell::default(),
            server_version: RefCell::new(version),
            server_key: Rc::default(),
            learnt: RefCell::default(),
            seats: Seats::new(core, mailboxes),
            schemas: RefCell::default(),
            vectors: RefCell::default(),
        });
        world.bound_statements(snapshot);
        server_key::prepare(core, &world.server_key, snapshot);
        world
    }

    /// Takes over a configuration between two exchanges.
    pub(in super::super) fn apply(&self, snapshot: &Arc<Snapshot>, addresses: &Addresses) {
        let routing = self.upstreams.apply(snapshot, addresses, &self.metrics);
        if let Some(version) = &snapshot.node.server_version {
            *self.server_version.borrow_mut() = version.as_str().into();
        }
        *self.replica.borrow_mut() = Rc::new(Replica {
            generation: addresses.generation,
            snapshot: Arc::clone(snapshot),
            routing,
        });
        let (linger, write_stall) = self.patience();
        self.net().set_patience(linger, write_stall);
        self.bound_statements(snapshot);
        self.seats.tell_all(self);
        server_key::prepare(&self.core, &self.server_key, snapshot);
        // Who waits may wait for less than before.
        self.core.wake_all();
        self.core.kick();
    }

    fn bound_statements(&self, snapshot: &Snapshot) {
        let max = usize::try_from(snapshot.pools.statements_max).unwrap_or(usize::MAX);
        self.upstreams.shared.statements_max.set(max);
    }

    /// Other addresses for endpoints of the current generation.
    pub(in super::super) fn set_addresses(&self, addresses: &Addresses) {
        if addresses.generation == self.replica().generation {
            self.upstreams.set_addresses(addresses);
        }
    }

    /// The version that upstreams announce, unless the configuration names one.
    pub(in super::super) fn learn_version(&self, version: Arc<str>) {
        if self.replica().snapshot.node.server_version.is_none() {
            *self.server_version.borrow_mut() = version;
        }
    }

    /// A message about clients of tenants.
    pub(in super::super) fn on_tenant_message(&self, message: TenantMessage) {
        self.seats.on_message(self, message);
    }

    /// Sends what full mailboxes have refused; whether some of it is still to be sent.
    pub(in super::super) fn flush(&self) -> bool {
        self.seats.flush(self)
    }

    /// How many clients a tenant may have on the node, if that is bounded.
    pub(super) fn connections_max(&self, tenant: &str) -> Option<u32> {
        self.replica.borrow().snapshot.connections_max(tenant)
    }

    /// The current replica.
    pub(super) fn replica(&self) -> Rc<Replica> {
        Rc::clone(&self.replica.borrow())
    }

    /// The generation of the current replica.
    pub(super) fn generation(&self) -> u64 {
        self.replica.borrow().generation
    }

    /// How long a connection that is closed may take to send what is queued, and a client to take
    /// anything.
    pub(in super::super) fn patience(&self) -> (Duration, Duration) {
        let replica = self.replica.borrow();
        let deadlines = &replica.snapshot.deadlines;
        (deadlines.linger, deadlines.write_stall)
    }

    /// The core's network ring.
    pub(super) fn net(&self) -> &Net {
        &self.core.net
    }

    /// How far the drain is.
    pub(super) fn drain(&self) -> Drain {
        self.core.drain()
    }

    /// The vector of a login with this collation, or the server's own, and schema; shared between equal
    /// logins, so that comparing them is comparing pointers.
    pub(super) fn login_vector(
        &self,
        collation: Option<Collation>,
        schema: Option<&[u8]>,
    ) -> Rc<Vector> {
        let seed = schema.map_or(0, xxhash_rust::xxh3::xxh3_64);
        // Not its number: what has it goes by other names on other servers.
        let name = collation.map_or(&[][..], |collation| collation.name.as_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(name, seed);
        let fresh = || {
            let vector = collation.map_or_else(Vector::default, |collation| {
                Vector::at_login(collation.charset, collation.name)
            });
            Rc::new(vector.with_schema(schema.unwrap_or_default()))
        };
        let mut vectors = self.vectors.borrow_mut();
        if vectors.len() >= VECTORS_MAX {
            vectors.clear();
        }
        let vector = vectors.entry(hash).or_insert_with(fresh);
        if vector.schema() == schema {
            Rc::clone(vector)
        } else {
            fresh()
        }
    }

    /// When a server last accepted the schema behind this mark in a login.
    pub(super) fn schema_accepted(&self, mark: u64) -> Option<Now> {
        self.schemas.borrow().get(&mark).copied()
    }

    /// A server has accepted the schema behind this mark.
    pub(super) fn remember_schema(&self, mark: u64, now: Now) {
        let mut schemas = self.schemas.borrow_mut();
        if schemas.len() >= SCHEMAS_MAX {
            schemas.clear();
        }
        schemas.insert(mark, now);
    }

    /// A server may not know the schema behind this mark any more.
    pub(super) fn forget_schema(&self, mark: u64) {
        self.schemas.borrow_mut().remove(&mark);
    }
}

/// The greeting's version until an upstream has been heard: what MariaDB 10.11 sends.
pub(super) const VERSION_UNTIL_LEARNT: &str = "5.5.5-10.11.0-MariaDB";
