//! One core as its own tasks see it: its ring, its randomness, who lives on it, how far its drain is,
//! and whom to kick when its keeper should look.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

use foldhash::fast::FixedState;

use super::jobs::{Busy, JobDone, Jobs, Pending, Waiting};
use crate::base::clock::Deadline;
pub use crate::base::drain::Drain;
use crate::base::ident::CoreId;
use crate::base::prng::Prng;
use crate::net::Net;

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
    is_over: Cell<bool>,
    drain: Cell<Drain>,
    clients: RefCell<HashMap<u64, Waker, FixedState>>,
    jobs: Rc<Waiting>,
    next_client: Cell<u64>,
    keeper: RefCell<Option<Waker>>,
    /// When it looks next by itself.
    keeper_looks: Cell<Deadline>,
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
            is_over: Cell::new(false),
            drain: Cell::new(Drain::Serving),
            clients: RefCell::default(),
            jobs: Waiting::new(id, jobs),
            next_client: Cell::new(1),
            keeper: RefCell::default(),
            keeper_looks: Cell::new(Deadline::NEVER),
        })
    }

    /// A number for a new client: unique on the node, never 0. Beside it the connection id that the client,
    /// its errors and log lines are told.
    pub fn new_client(&self) -> (u64, u32) {
        let count = self.next_client.get();
        self.next_client.set(count.wrapping_add(1));
        let number = u64::from(self.id.0) << 48 | count & 0xffff_ffff_ffff;
        // MySQL's connection ids are 32 bits wide on the wire; the core takes the highest byte.
        let low = u32::try_from(count & 0x00ff_ffff).unwrap_or(0);
        let id = u32::from(self.id.0 & 0xff) << 24 | low.max(1);
        (number, id)
    }

    /// The core ends by a failure: nothing can be started on it any more.
    pub fn set_over(&self) {
        self.is_over.set(true);
    }

    /// Whether the core has failed.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// How far the drain is.
    pub fn drain(&self) -> Drain {
        self.drain.get()
    }

    /// Goes on with the drain and wakes every client.
    pub fn set_drain(&self, drain: Drain) {
        self.drain.set(self.drain.get().max(drain));
        self.wake_all();
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

    /// Has every client look again.
    pub fn wake_all(&self) {
        self.clients.borrow().values().for_each(Waker::wake_by_ref);
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

    /// Has it look at this time at the latest.
    pub fn look_by(&self, time: Deadline) {
        if time < self.keeper_looks.get() {
            self.keeper_looks.set(time);
            self.kick();
        }
    }

    /// The keeper waits to be kicked, and looks by itself at this time.
    pub fn keeper_waits(&self, waker: &Waker, looks: Deadline) {
        *self.keeper.borrow_mut() = Some(waker.clone());
        self.keeper_looks.set(looks);
    }

    /// Has the helper thread do what takes too long here.
    ///
    /// # Errors
    /// [`Busy`] when too many jobs wait.
    pub fn begin_job<T: Any + Send>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Pending<T>, Busy> {
        self.jobs.begin(work)
    }

    /// A job has ended.
    pub fn job_done(&self, done: JobDone) {
        self.jobs.done(done);
    }
}
