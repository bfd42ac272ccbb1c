//! Connections are opened some at a time.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::engine::Engine;

/// Connections that a core opens at once: a server's queue of those that it has not taken yet is not endless.
const OPENING_MAX: u32 = 64;

/// A connection that is being opened, until it is dropped.
pub(super) struct Opening(Rc<Engine>);

impl Opening {
    /// Waits until fewer than [`OPENING_MAX`] are being opened.
    pub(super) async fn turn(engine: &Rc<Engine>) -> Self {
        poll_fn(|cx| {
            if engine.opening.get() < OPENING_MAX {
                engine.opening.set(engine.opening.get() + 1);
                return Poll::Ready(());
            }
            engine.openers.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
        Self(Rc::clone(engine))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let opening = &self.0.opening;
        opening.set(opening.get().saturating_sub(1));
        let next = self.0.openers.borrow_mut().pop_front();
        if let Some(next) = next {
            next.wake();
        }
    }
}
