//! The RSA key of full logins: made once for all cores, on the helper thread, if any account will
//! need it. Logins wait for it, because it takes as long as some hundred of them.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use super::world::World;
use crate::base::credential::Verifier;
use crate::core::jobs::JobDone;
use crate::wire::mysql::rsa::ServerKey;

static KEY: OnceLock<Option<Arc<ServerKey>>> = OnceLock::new();

/// What a job has made; nothing if the operating system gave no randomness.
struct Made(Option<Arc<ServerKey>>);

/// One core's hold on the key.
#[derive(Default)]
pub(super) struct KeySlot {
    key: RefCell<Option<Arc<ServerKey>>>,
    /// The job that makes it.
    job: Cell<Option<u64>>,
    waiting: RefCell<Vec<Waker>>,
}

impl KeySlot {
    /// The key, if there is one.
    pub(super) fn get(&self) -> Option<Arc<ServerKey>> {
        self.key.borrow().clone()
    }

    /// Ready when no key is being made.
    pub(super) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        if self.job.get().is_none() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes a job's outcome, if it was this one's; gives it back otherwise.
    pub(super) fn take(&self, done: JobDone) -> Option<JobDone> {
        if self.job.get() != Some(done.job) {
            return Some(done);
        }
        let made = done
            .outcome
            .and_then(|outcome| outcome.downcast::<Made>().ok());
        *self.key.borrow_mut() = made.and_then(|made| made.0);
        self.settle();
        None
    }

    fn settle(&self) {
        self.job.set(None);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// Has the key made if an account of the current snapshot needs it and there is none.
pub(super) fn prepare(world: &World) {
    let slot = &world.server_key;
    let replica = world.replica();
    let mut users = replica.snapshot.users.list().iter();
    let is_needed = users.any(|user| matches!(user.verifier, Verifier::Salted(_)));
    if !is_needed || slot.key.borrow().is_some() || slot.job.get().is_some() {
        return;
    }
    let job = world.core.new_job();
    slot.job.set(Some(job));
    let make = || {
        Made(
            KEY.get_or_init(|| ServerKey::generate().ok().map(Arc::new))
                .clone(),
        )
    };
    if world.core.jobs.submit(world.core.id, job, make).is_err() {
        crate::log!(Error, "no RSA key: too many jobs wait");
        slot.settle();
    }
}
