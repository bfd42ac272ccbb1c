//! The RSA key of full logins: made once for all cores, on the helper thread, if any account will
//! need it. Logins wait for it, because it takes as long as some hundred of them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use crate::base::credential::Verifier;
use crate::config::Snapshot;
use crate::core::Core;
use crate::net;
use crate::wire::mysql::rsa::ServerKey;

static KEY: OnceLock<Option<Arc<ServerKey>>> = OnceLock::new();

/// One core's hold on the key.
#[derive(Default)]
pub(super) struct KeySlot {
    key: RefCell<Option<Arc<ServerKey>>>,
    /// It is being made.
    is_coming: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl KeySlot {
    /// The key, if there is one.
    pub(super) fn get(&self) -> Option<Arc<ServerKey>> {
        self.key.borrow().clone()
    }

    /// Ready when no key is being made.
    pub(super) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_coming.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn settle(&self, key: Option<Arc<ServerKey>>) {
        *self.key.borrow_mut() = key;
        self.is_coming.set(false);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// Has the key made if an account of this snapshot needs it and there is none.
pub(super) fn prepare(core: &Core, slot: &Rc<KeySlot>, snapshot: &Snapshot) {
    let mut users = snapshot.users.list().iter();
    let is_needed = users.any(|user| matches!(user.verifier, Verifier::Salted(_)));
    if !is_needed || slot.key.borrow().is_some() || slot.is_coming.get() {
        return;
    }
    let make = || {
        KEY.get_or_init(|| ServerKey::generate().ok().map(Arc::new))
            .clone()
    };
    let Ok(mut job) = core.begin_job(make) else {
        crate::log!(Error, "no RSA key: too many jobs wait");
        return;
    };
    slot.is_coming.set(true);
    let slot = Rc::clone(slot);
    net::spawn("server key", async move {
        // Nothing if the operating system gave no randomness.
        let made = poll_fn(|cx| job.poll(cx)).await;
        slot.settle(made.flatten());
    })
    .detach();
}
