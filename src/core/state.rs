//! One core as its own tasks see it: its ring, its randomness, who lives on it, how far its drain is,
//! and whom to kick when its keeper should look.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;

use super::jobs::{JobDone, Jobs};
pub use crate::base::drain::Drain;
use crate::base::ident::CoreId;
use crate::base::prng::Prng;
use crate::net::Net;

/// What a job computed; `None` when it panicked.
pub type JobOutcome = Option<Box<dyn std::any::Any + Send>>;

/// One core.
pub struct Core {
    /// Which it is.
    pub id: CoreId,
    /// How many cores the node has.
    pub cores: u16,
    /// Its network ring.
    pub net: Net,
    /// Its randomness, for choices that no peer may not foresee.
    pub prng: RefCell<Prng>,
    /// Work for the helper thread.
    pub jobs: Jobs,
    drain: Cell<Drain>,
    clients: RefCell<HashMap<u64, Waker, FixedState>>,
    job_waiters: RefCell<HashMap<u64, Waker, FixedState>>,
    job_outcomes: RefCell<HashMap<u64, JobOutcome, FixedState>>,
    next_job: Cell<u64>,
    next_client: Cell<u64>,
    keeper: RefCell<Option<Waker>>,
}

impl Core {
    /// A core that serves.
    pub fn new(id: CoreId, cores: u16, net: Net, jobs: Jobs) -> Rc<Self> {
        let seed = u64::from(std::process::id()) << 16 | u64::from(id.0);
        Rc::new(Self {
            id,
            cores,
            net,
            prng: RefCell::new(Prng::new(seed)),
            jobs,
            drain: Cell::new(Drain::Serving),
            clients: RefCell::default(),
            job_waiters: RefCell::default(),
            job_outcomes: RefCell::default(),
            next_job: Cell::new(1),
            next_client: Cell::new(1),
            keeper: RefCell::default(),
        })
    }

    /// A number for a new client: unique on the node, never 0. Its low half is the connection id
    /// that the client is told.
    pub fn new_client(&self) -> (u64, u32) {
        let count = self.next_client.get();
        self.next_client.set(count.wrapping_add(1));
        let number = u64::from(self.id.0) << 48 | count & 0xffff_ffff_ffff;
        // MySQL's connection ids are 32 bits wide on the wire; the core takes the highest byte.
        let low = u32::try_from(count & 0x00ff_ffff).unwrap_or(0);
        let id = u32::from(self.id.0 & 0xff) << 24 | low.max(1);
        (number, id)
    }

    /// How far the drain is.
    pub fn drain(&self) -> Drain {
        self.drain.get()
    }

    /// Goes on with the drain and wakes every client.
    pub fn set_drain(&self, drain: Drain) {
        self.drain.set(self.drain.get().max(drain));
        self.clients.borrow().values().for_each(Waker::wake_by_ref);
        self.kick();
    }

    /// Registers a client for drain orders; once per client is enough, a task's waker stays.
    pub fn enter(&self, client: u64, waker: &Waker) {
        self.clients.borrow_mut().insert(client, waker.clone());
    }

    /// Has a client look again at what it waits for.
    pub fn wake(&self, client: u64) {
        if let Some(waker) = self.clients.borrow().get(&client) {
            waker.wake_by_ref();
        }
    }

    /// The client is gone.
    pub fn leave(&self, client: u64) {
        self.clients.borrow_mut().remove(&client);
        if self.drain.get() != Drain::Serving {
            self.kick();
        }
    }

    /// Clients on this core.
    pub fn clients(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Has the keeper look at pools and drain soon.
    pub fn kick(&self) {
        if let Some(waker) = self.keeper.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Where the keeper waits to be kicked.
    pub fn set_keeper(&self, waker: &Waker) {
        *self.keeper.borrow_mut() = Some(waker.clone());
    }

    /// A number for a job.
    pub fn new_job(&self) -> u64 {
        let job = self.next_job.get();
        self.next_job.set(job.wrapping_add(1));
        job
    }

    /// A job's outcome came.
    pub fn job_done(&self, done: JobDone) {
        // A client that left in between has no waiter any more; its outcome goes nowhere.
        if let Some(waker) = self.job_waiters.borrow_mut().remove(&done.job) {
            self.job_outcomes
                .borrow_mut()
                .insert(done.job, done.outcome);
            waker.wake();
        }
    }

    /// Waits for a job's outcome; `None` inside when the job panicked.
    pub fn poll_job(&self, job: u64, cx: &Context<'_>) -> Poll<JobOutcome> {
        if let Some(outcome) = self.job_outcomes.borrow_mut().remove(&job) {
            return Poll::Ready(outcome);
        }
        self.job_waiters
            .borrow_mut()
            .insert(job, cx.waker().clone());
        Poll::Pending
    }
}
