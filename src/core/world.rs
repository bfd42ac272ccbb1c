//! Everything one core owns: its ring, its replica of the configuration, its pools and counters.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use foldhash::fast::FixedState;

use super::endpoint::EndpointState;
use super::jobs::Jobs;
use super::mailbox::Mailboxes;
use super::message::Addresses;
use super::routing::Routing;
use super::server_key::KeySlot;
use crate::base::clock::Now;
use crate::base::credential::Verifier;
pub(super) use crate::base::drain::Drain;
use crate::base::ident::{CoreId, EndpointId};
use crate::base::prng::Prng;
use crate::config::Snapshot;
use crate::net::Net;
use crate::session::mysql::left_behind::Settled;
use crate::session::mysql::output::Output;
use crate::session::mysql::state::Vector;
use crate::session::mysql::statements::Texts;
use crate::telemetry::metrics::CoreMetrics;
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
    pub(super) routing: Routing,
    /// By endpoint id.
    pub(super) endpoints: Vec<Rc<EndpointState>>,
}

/// What a job computed; `None` when it panicked.
pub(super) type JobOutcome = Option<Box<dyn std::any::Any + Send>>;

impl Replica {
    /// This core's side of an endpoint, by its id in the snapshot.
    pub(super) fn endpoint(&self, id: EndpointId) -> Option<&Rc<EndpointState>> {
        self.endpoints.get(usize::try_from(id.0).ok()?)
    }
}

/// One core's world.
pub(super) struct World {
    pub(super) core: CoreId,
    pub(super) net: Net,
    pub(super) mailboxes: Mailboxes,
    pub(super) jobs: Jobs,
    pub(super) metrics: CoreMetrics,
    pub(super) replica: RefCell<Rc<Replica>>,
    /// Endpoints that a reload took away, while anything is left of them.
    pub(super) leaving: RefCell<Vec<Rc<EndpointState>>>,
    pub(super) texts: RefCell<Texts>,
    pub(super) scratch: RefCell<Scratch>,
    pub(super) prng: RefCell<Prng>,
    pub(super) server_version: RefCell<Arc<str>>,
    pub(super) server_key: KeySlot,
    /// Stage-2 hashes learnt in full logins, by user name, with the stored verifier they belong to.
    pub(super) learnt: RefCell<HashMap<Vec<u8>, (Verifier, Verifier), FixedState>>,
    schemas: RefCell<HashMap<u64, Now, FixedState>>,
    vectors: RefCell<HashMap<u64, Rc<Vector>, FixedState>>,
    drain: Cell<Drain>,
    clients: RefCell<HashMap<u64, Waker, FixedState>>,
    /// Clients for which the wait for another one's lease is over.
    pub(super) settled: Rc<Settled>,
    job_waiters: RefCell<HashMap<u64, Waker, FixedState>>,
    job_outcomes: RefCell<HashMap<u64, JobOutcome, FixedState>>,
    next_job: Cell<u64>,
    next_client: Cell<u64>,
    tick: RefCell<Option<Waker>>,
}

/// Vectors of logins that are remembered for sharing; more are simply not shared.
const VECTORS_MAX: usize = 1024;

/// Schemas of logins that are remembered as known to their servers; beyond it all are asked for
/// again.
const SCHEMAS_MAX: usize = 4096;

impl World {
    pub(super) fn new(
        core: CoreId,
        net: Net,
        mailboxes: Mailboxes,
        jobs: Jobs,
        metrics: CoreMetrics,
        replica: Rc<Replica>,
    ) -> Rc<Self> {
        let version = replica.snapshot.node.server_version.as_deref();
        let version = version.unwrap_or(VERSION_UNTIL_LEARNT).into();
        let seed = u64::from(std::process::id()) << 16 | u64::from(core.0);
        Rc::new(Self {
            core,
            net,
            mailboxes,
            jobs,
            metrics,
            replica: RefCell::new(replica),
            leaving: RefCell::default(),
            texts: RefCell::default(),
            scratch: RefCell::default(),
            prng: RefCell::new(Prng::new(seed)),
            server_version: RefCell::new(version),
            server_key: KeySlot::default(),
            learnt: RefCell::default(),
            schemas: RefCell::default(),
            vectors: RefCell::default(),
            drain: Cell::new(Drain::Serving),
            clients: RefCell::default(),
            settled: Rc::default(),
            job_waiters: RefCell::default(),
            job_outcomes: RefCell::default(),
            next_job: Cell::new(1),
            next_client: Cell::new(1),
            tick: RefCell::default(),
        })
    }

    /// The current replica.
    pub(super) fn replica(&self) -> Rc<Replica> {
        Rc::clone(&self.replica.borrow())
    }

    /// A number for a new client: unique on the node, never 0. Its low half is the connection id
    /// that the client is told.
    pub(super) fn new_client(&self) -> (u64, u32) {
        let count = self.next_client.get();
        self.next_client.set(count.wrapping_add(1));
        let number = u64::from(self.core.0) << 48 | count & 0xffff_ffff_ffff;
        // MySQL's connection ids are 32 bits wide on the wire; the core takes the highest byte.
        let low = u32::try_from(count & 0x00ff_ffff).unwrap_or(0);
        let id = u32::from(self.core.0 & 0xff) << 24 | low.max(1);
        (number, id)
    }

    /// The vector of a login with this collation and schema; shared between equal logins, so that
    /// comparing them is comparing pointers.
    pub(super) fn login_vector(&self, collation: Collation, schema: Option<&[u8]>) -> Rc<Vector> {
        let seed = schema.map_or(0, xxhash_rust::xxh3::xxh3_64);
        let hash = seed ^ u64::from(collation.id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let fresh = || {
            let vector = Vector::at_login(collation.charset, collation.name);
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

    /// How far the drain is.
    pub(super) fn drain(&self) -> Drain {
        self.drain.get()
    }

    /// Goes on with the drain and wakes every client.
    pub(super) fn set_drain(&self, drain: Drain) {
        self.drain.set(self.drain.get().max(drain));
        self.clients.borrow().values().for_each(Waker::wake_by_ref);
        self.kick();
    }

    /// Registers a client for drain orders; once per client is enough, a task's waker stays.
    pub(super) fn enter(&self, client: u64, waker: &Waker) {
        self.clients.borrow_mut().insert(client, waker.clone());
    }

    /// The client is gone.
    pub(super) fn leave(&self, client: u64) {
        self.clients.borrow_mut().remove(&client);
        if self.drain.get() != Drain::Serving {
            self.kick();
        }
    }

    /// Wakes the clients whose wait for another one's lease is over. Call it whenever bytes were
    /// given to an upstream session, and when one has come back or was dropped.
    pub(super) fn wake_settled(&self) {
        if self.settled.is_empty() {
            return;
        }
        let mut owners = Vec::new();
        self.settled.take(&mut owners);
        let clients = self.clients.borrow();
        owners
            .iter()
            .filter_map(|owner| clients.get(owner))
            .for_each(Waker::wake_by_ref);
    }

    /// Clients on this core.
    pub(super) fn clients(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Has the keeper look at pools and drain soon.
    pub(super) fn kick(&self) {
        if let Some(waker) = self.tick.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Where the keeper waits to be kicked.
    pub(super) fn set_keeper(&self, waker: &Waker) {
        *self.tick.borrow_mut() = Some(waker.clone());
    }

    /// A number for a job.
    pub(super) fn new_job(&self) -> u64 {
        let job = self.next_job.get();
        self.next_job.set(job.wrapping_add(1));
        job
    }

    /// A job's outcome came.
    pub(super) fn job_done(&self, job: u64, outcome: JobOutcome) {
        // A client that left in between has no waiter any more; its outcome goes nowhere.
        if let Some(waker) = self.job_waiters.borrow_mut().remove(&job) {
            self.job_outcomes.borrow_mut().insert(job, outcome);
            waker.wake();
        }
    }

    /// Waits for a job's outcome; `None` inside when the job panicked.
    pub(super) fn poll_job(
        &self,
        job: u64,
        cx: &std::task::Context<'_>,
    ) -> std::task::Poll<JobOutcome> {
        if let Some(outcome) = self.job_outcomes.borrow_mut().remove(&job) {
            return std::task::Poll::Ready(outcome);
        }
        self.job_waiters
            .borrow_mut()
            .insert(job, cx.waker().clone());
        std::task::Poll::Pending
    }

    /// Other addresses for endpoints of the current generation.
    pub(super) fn set_addresses(&self, addresses: &Addresses) {
        let replica = self.replica();
        if addresses.generation != replica.generation {
            return;
        }
        for (endpoint, index) in replica.endpoints.iter().zip(0_u32..) {
            *endpoint.addresses.borrow_mut() = addresses.of(EndpointId(index)).to_vec();
        }
        self.kick();
    }
}

/// The greeting's version until an upstream has been heard: what MariaDB 10.11 sends.
pub(super) const VERSION_UNTIL_LEARNT: &str = "5.5.5-10.11.0-MariaDB";
