//! What an endpoint gives to an account's logins, as far as this core knows. While nothing is known, one
//! login asks and the others wait for its answer, and take no place among those who wait for connections. It outlives
//! pools: a client that logs in and says nothing costs others no connection each time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;

use crate::base::ident::EndpointName;
use crate::session::mysql::baseline::Baselines;
use crate::session::mysql::beginning::Newest;

/// Accounts that are remembered, in use or not; of more, those that are.
const ACCOUNTS_MAX: usize = 256;

/// A placement's server and an account.
type Name = (EndpointName, String);

/// What is known of each.
#[derive(Default)]
pub(super) struct KnownLogins(RefCell<HashMap<Name, Rc<KnownLogin>, FixedState>>);

impl KnownLogins {
    /// What is known of this one.
    pub(super) fn of(&self, endpoint: &EndpointName, account: &str) -> Rc<KnownLogin> {
        let mut all = self.0.borrow_mut();
        if all.len() >= ACCOUNTS_MAX {
            all.retain(|_, known| Rc::strong_count(known) > 1);
        }
        let name = (endpoint.clone(), account.to_owned());
        Rc::clone(all.entry(name).or_default())
    }
}

/// Shared by all logins of an account.
#[derive(Default)]
pub(super) struct KnownLogin {
    newest: Rc<Newest>,
    is_asked: Cell<bool>,
    /// By client.
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl KnownLogin {
    /// What is known.
    pub(super) fn newest(&self) -> &Rc<Newest> {
        &self.newest
    }

    /// Takes over what a connection was told that has logged in.
    pub(super) fn set(&self, found: &Rc<Baselines>) {
        self.newest.set(found);
        self.wake_all();
    }

    /// The same of a connection that has logged in earlier and elsewhere.
    pub(super) fn set_first(&self, found: &Rc<Baselines>) {
        if self.newest.get().is_none() {
            self.set(found);
        }
    }

    /// Ready when something is known, or when it is the turn of this client to ask, which the value stands for.
    pub(super) fn poll(self: &Rc<Self>, client: u64, cx: &mut Context<'_>) -> Poll<Option<Asking>> {
        if self.newest.get().is_some() {
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
