//! What a pool's server gives to those who log in, as far as this core knows. While nothing is known, one login asks
//! and the others of the pool wait for its answer, and take no place among those who wait for connections.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::session::mysql::baseline::Baselines;

/// Shared by all logins of a pool.
#[derive(Default)]
pub(super) struct KnownLogin {
    /// Of the last connection that has logged in there, or that a session began on.
    found: RefCell<Option<Rc<Baselines>>>,
    is_asked: Cell<bool>,
    /// By client.
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl KnownLogin {
    /// What is known.
    pub(super) fn get(&self) -> Option<Rc<Baselines>> {
        let found = self.found.borrow();
        found.as_ref().filter(|found| found.is_known()).cloned()
    }

    /// Takes over what was found out.
    pub(super) fn set(&self, found: &Rc<Baselines>) {
        self.found.replace(Some(Rc::clone(found)));
        self.wake_all();
    }

    /// Ready when something is known, or when it is the turn of this client to ask, which the value stands for.
    pub(super) fn poll(self: &Rc<Self>, client: u64, cx: &mut Context<'_>) -> Poll<Option<Asking>> {
        if self.get().is_some() {
            return Poll::Ready(None);
        }
        if self.is_asked.replace(true) {
            self.waiting.borrow_mut().insert(client, cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(Asking(Rc::clone(self))))
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().for_each(Waker::wake);
    }
}

/// A login asks. When it is over, with or without an answer, the others look again.
pub(super) struct Asking(Rc<KnownLogin>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_asked.set(false);
        self.0.wake_all();
    }
}
