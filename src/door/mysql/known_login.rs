//! What the servers of a placement give to an account's logins, as far as this core knows. While nothing is known, one
//! login asks and the others wait for its answer, and take no place among those who wait for connections. It outlives
//! pools: a client that logs in and says nothing costs others no connection each time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;

use crate::session::mysql::baseline::Baselines;

/// Accounts that are remembered, in use or not; of more, those that are.
const ACCOUNTS_MAX: usize = 256;

/// A placement and an account.
type Name = (Arc<str>, String);

/// What is known of each.
#[derive(Default)]
pub(super) struct KnownLogins(RefCell<HashMap<Name, Rc<KnownLogin>, FixedState>>);

impl KnownLogins {
    /// What is known of this one.
    pub(super) fn of(&self, placement: &Arc<str>, account: &str) -> Rc<KnownLogin> {
        let mut all = self.0.borrow_mut();
        if all.len() >= ACCOUNTS_MAX {
            all.retain(|_, known| Rc::strong_count(known) > 1);
        }
        let name = (Arc::clone(placement), account.to_owned());
        Rc::clone(all.entry(name).or_default())
    }
}

/// Shared by all logins of an account.
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
