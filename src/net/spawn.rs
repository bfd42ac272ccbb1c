//! The only way to start a task on a core: a panic ends its own task and nothing else.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::FutureExt;

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
    static PANICS: Cell<u64> = const { Cell::new(0) };
    static CURRENT: Cell<&'static str> = const { Cell::new("") };
}

/// Polls of spawned tasks on this thread so far: when it stands still, nothing was runnable.
pub(super) fn polls() -> u64 {
    POLLS.get()
}

/// Panics contained on this thread so far.
pub fn panics() -> u64 {
    PANICS.get()
}

/// Name of the task that runs now, for a panic hook; empty outside of tasks.
pub fn current_task() -> &'static str {
    CURRENT.get()
}

/// A spawned task. Dropping it lets the task run on; awaiting it gives the task's value, or `None` if
/// it panicked or was cancelled.
#[must_use = "awaiting tells how the task ended; `detach` says that nobody asks"]
pub struct Spawned<T>(glommio::task::JoinHandle<Option<T>>);

impl<T> Spawned<T> {
    /// Lets the task run unobserved.
    pub fn detach(self) {}

    /// Drops the task's future at its next turn; a completed task is unaffected.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl<T> Future for Spawned<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Option::flatten)
    }
}

/// Starts `future` on this thread's executor. `name` appears in panic reports.
///
/// Must be called inside a glommio executor.
pub fn spawn<T: 'static>(
    name: &'static str,
    future: impl Future<Output = T> + 'static,
) -> Spawned<T> {
    // Boxed here, once per task: every layer of async below and in the executor that moved the future
    // itself would hold it twice, and an idle client's memory is little else.
    let mut future = Box::pin(AssertUnwindSafe(future).catch_unwind());
    let contained = async move {
        let result = poll_fn(|cx| {
            POLLS.set(POLLS.get().wrapping_add(1));
            let outer = CURRENT.replace(name);
            let polled = future.as_mut().poll(cx);
            CURRENT.set(outer);
            polled
        })
        .await;
        if result.is_err() {
            PANICS.set(PANICS.get() + 1);
        }
        result.ok()
    };
    Spawned(glommio::spawn_local(contained).detach())
}
