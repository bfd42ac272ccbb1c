//! Bounded lock-free queues between threads: the only way into or out of a core.
//!
//! A queue has many senders and one receiver. The receiver attaches a wake function once it can be
//! woken (a core's eventfd, a control thread's notify); a burst of messages wakes it once.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crossbeam::queue::ArrayQueue;

use crate::base::ident::CoreId;
use crate::net::Net;

/// Messages that may wait in one core's mailbox.
pub const MAILBOX_CAPACITY: usize = 4096;

type Wake = Box<dyn Fn() + Send + Sync>;

struct Shared<T> {
    queue: ArrayQueue<T>,
    wake: OnceLock<Wake>,
    /// Set by the first sender after the receiver began to empty the queue, so that one burst costs
    /// one wake-up.
    signalled: AtomicBool,
    closed: AtomicBool,
    refused: AtomicU64,
}

/// Why a message was not taken; the message comes back to its sender.
#[derive(Debug, PartialEq, Eq)]
pub enum Undelivered<T> {
    /// The queue holds as many messages as it may.
    Full(T),
    /// The receiver has gone.
    Closed(T),
}

impl<T> Undelivered<T> {
    /// The message.
    pub fn into_message(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

impl<T> fmt::Display for Undelivered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Closed(_) => "the receiver has ended",
        })
    }
}

/// The sending side; cheap to clone, usable from every thread, never blocks.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    /// Queues `message` and wakes the receiver unless it has been woken already.
    ///
    /// # Errors
    /// [`Undelivered`] with the message when the queue is full or the receiver has gone.
    pub fn send(&self, message: T) -> Result<(), Undelivered<T>> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Undelivered::Closed(message));
        }
        if let Err(message) = self.0.queue.push(message) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            self.wake_receiver();
            return Err(Undelivered::Full(message));
        }
        self.wake_receiver();
        Ok(())
    }

    /// Messages refused because the queue was full.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn wake_receiver(&self) {
        if let Some(wake) = self.0.wake.get()
            && !self.0.signalled.swap(true, Ordering::SeqCst)
        {
            wake();
        }
    }
}

/// The receiving side. Dropping it closes the queue; what waits there is dropped with the last sender.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// Sets how senders wake this receiver; only the first call counts. Messages sent before are
    /// waiting: call [`Receiver::take`] until it gives `None` once after attaching.
    pub fn attach(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second attach would race with senders that already use the first.
        let _already_attached = self.0.wake.set(Box::new(wake));
    }

    /// The oldest message. After `None` the next message wakes the receiver again.
    pub fn take(&mut self) -> Option<T> {
        if let Some(message) = self.0.queue.pop() {
            return Some(message);
        }
        // Re-enable wake-ups, then look once more: a message pushed between the two pops may have
        // found the flag still set and woken nobody.
        self.0.signalled.store(false, Ordering::SeqCst);
        self.0.queue.pop()
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        while self.0.queue.pop().is_some() {}
    }
}

/// A queue of at most `capacity` messages.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        wake: OnceLock::new(),
        signalled: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        refused: AtomicU64::new(0),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// The receiving side of one core's mailbox.
pub type Mailbox<M> = Receiver<M>;

impl<M> Mailbox<M> {
    /// Lets messages wake `net`'s core. What was sent before waits: [`Mailbox::next`] gives it first.
    ///
    /// # Errors
    /// No descriptor is left for the core's eventfd.
    pub fn join(&self, net: &Net) -> io::Result<()> {
        let waker = net.waker()?;
        self.attach(move || waker.wake());
        Ok(())
    }

    /// The next message, when there is one. One task of the core, which has joined, waits here.
    pub fn poll_next(&mut self, net: &Net, cx: &mut Context<'_>) -> Poll<M> {
        loop {
            if let Some(message) = self.take() {
                return Poll::Ready(message);
            }
            if net.poll_woken(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The next message.
    pub async fn next(&mut self, net: &Net) -> M {
        poll_fn(|cx| self.poll_next(net, cx)).await
    }
}

/// Every core's mailbox, from the outside.
pub struct Mailboxes<M>(Arc<[Sender<M>]>);

impl<M> Clone for Mailboxes<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Mailboxes<M> {
    /// A mailbox for each of `cores` cores, and their receivers in the order of the cores.
    pub fn new(cores: u16) -> (Self, Vec<Mailbox<M>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..cores).map(|_| channel(MAILBOX_CAPACITY)).unzip();
        (Self(senders.into()), receivers)
    }

    /// How many cores there are.
    pub fn cores(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// The cores' identifiers.
    pub fn ids(&self) -> impl Iterator<Item = CoreId> + use<M> {
        (0..self.cores()).map(CoreId)
    }

    /// Sends to one core; never blocks.
    ///
    /// # Errors
    /// [`Undelivered`] with the message when the mailbox is full, or the core has ended or never was.
    pub fn send(&self, core: CoreId, message: M) -> Result<(), Undelivered<M>> {
        match self.0.get(usize::from(core.0)) {
            Some(sender) => sender.send(message),
            None => Err(Undelivered::Closed(message)),
        }
    }

    /// Messages refused by full mailboxes so far.
    pub fn refused(&self) -> u64 {
        self.0.iter().map(Sender::refused).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counted() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + 'static) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&wakes);
        (wakes, move || {
            seen.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[test]
    fn a_full_queue_gives_the_message_back_and_counts_it() {
        let (sender, mut receiver) = channel(2);
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Ok(()));
        assert_eq!(sender.send(3), Err(Undelivered::Full(3)));
        assert_eq!(sender.refused(), 1);
        assert_eq!(
            (receiver.take(), receiver.take(), receiver.take()),
            (Some(1), Some(2), None)
        );
        assert_eq!(sender.send(4), Ok(()));
        assert_eq!(receiver.take(), Some(4));
    }

    #[test]
    fn a_closed_queue_gives_the_message_back_and_drops_what_waited() {
        let waiting = Arc::new(());
        let (sender, receiver) = channel(2);
        assert!(sender.send(Arc::clone(&waiting)).is_ok());
        drop(receiver);
        assert_eq!(Arc::strong_count(&waiting), 1);
        assert!(matches!(sender.send(waiting), Err(Undelivered::Closed(_))));
    }

    #[test]
    fn a_burst_wakes_once_and_an_emptied_queue_wakes_again() {
        let (wakes, wake) = counted();
        let (sender, mut receiver) = channel(8);
        assert!(sender.send(0).is_ok());
        receiver.attach(wake);
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        assert!(sender.send(1).is_ok() && sender.send(2).is_ok());
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        assert_eq!(std::iter::from_fn(|| receiver.take()).count(), 3);
        assert!(sender.send(3).is_ok());
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn no_message_is_lost_or_left_unwoken_between_four_senders_and_one_receiver() {
        const EACH: u64 = 20_000;
        let (sender, mut receiver) = channel(64);
        let receiving = std::thread::current();
        receiver.attach(move || receiving.unpark());
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for n in 0..EACH {
                        let mut message = (thread, n);
                        while let Err(refused) = sender.send(message) {
                            message = refused.into_message();
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; 4];
        while next != [EACH; 4] {
            match receiver.take() {
                Some((thread, n)) => {
                    assert_eq!(next[thread], n, "order of one sender");
                    next[thread] += 1;
                }
                // A lost wake-up would leave this thread parked for ever.
                None => std::thread::park(),
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn mailboxes_address_cores_and_refuse_unknown_ones() {
        let (mailboxes, mut receivers) = Mailboxes::new(2);
        assert_eq!(mailboxes.cores(), 2);
        assert!(mailboxes.send(CoreId(1), 7).is_ok());
        assert!(receivers[0].take().is_none());
        assert!(matches!(receivers[1].take(), Some(7)));
        assert!(mailboxes.send(CoreId(2), 7).is_err());
    }
}
