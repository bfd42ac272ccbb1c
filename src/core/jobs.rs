//! Work too long for a core (private-key arithmetic), done by one helper thread, in order.
//!
//! A core submits a closure and a number; the outcome comes back through its mailbox. The queue is
//! bounded: a core that is told [`Busy`] answers its client with an error instead of waiting.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;

use crate::base::ident::CoreId;
use crate::core::mailbox::{Mailboxes, Receiver, Sender, Undelivered, channel};

/// Jobs that may wait: at about 1 ms each, a second's worth.
pub const JOBS_MAX: usize = 1024;

type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

struct Job {
    core: CoreId,
    number: u64,
    work: Work,
}

/// The result of a job, for the core that asked.
pub struct JobDone {
    /// The number the core gave the job.
    pub job: u64,
    /// What the job computed; the asker knows the type. `None` when it panicked.
    pub outcome: Option<Box<dyn Any + Send>>,
}

/// Too many jobs wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Where jobs are submitted.
#[derive(Clone)]
pub struct Jobs(Sender<Job>);

impl Jobs {
    /// Starts the helper thread, which lives as long as the process.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start<M>(mailboxes: Mailboxes<M>) -> std::io::Result<Self>
    where
        M: From<JobDone> + Send + 'static,
    {
        let (sender, receiver) = channel(JOBS_MAX);
        std::thread::Builder::new()
            .name("jobs".into())
            .spawn(move || run(receiver, &mailboxes))?;
        Ok(Self(sender))
    }

    /// Runs `work` on the helper thread; `core` gets a message of [`JobDone`] with `number`.
    fn submit<T: Any + Send>(
        &self,
        core: CoreId,
        number: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(), Busy> {
        let work: Work = Box::new(move || Box::new(work()));
        self.0.send(Job { core, number, work }).map_err(|_| Busy)
    }
}

/// One core's jobs that somebody waits for.
pub(super) struct Waiting {
    core: CoreId,
    jobs: Jobs,
    entries: RefCell<HashMap<u64, Entry, FixedState>>,
    next: Cell<u64>,
}

/// A job whose owner has not left.
enum Entry {
    /// Under way; who waits for it.
    Pending(Option<Waker>),
    /// Ended.
    Done(Option<Box<dyn Any + Send>>),
}

impl Waiting {
    pub(super) fn new(core: CoreId, jobs: Jobs) -> Rc<Self> {
        Rc::new(Self {
            core,
            jobs,
            entries: RefCell::default(),
            next: Cell::new(1),
        })
    }

    pub(super) fn begin<T: Any + Send>(
        self: &Rc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Pending<T>, Busy> {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.jobs.submit(self.core, number, work)?;
        let entry = Entry::Pending(None);
        self.entries.borrow_mut().insert(number, entry);
        Ok(Pending {
            waiting: Rc::clone(self),
            number,
            outcome: PhantomData,
        })
    }

    pub(super) fn done(&self, done: JobDone) {
        // Whose owner has left has no entry any more; its outcome goes nowhere.
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(&done.job) else {
            return;
        };
        if let Entry::Pending(Some(waker)) = std::mem::replace(entry, Entry::Done(done.outcome)) {
            waker.wake();
        }
    }
}

/// A job under way. Dropped, nothing of it is left behind: its outcome goes nowhere.
#[must_use = "dropped, its outcome goes nowhere"]
pub struct Pending<T> {
    waiting: Rc<Waiting>,
    number: u64,
    outcome: PhantomData<T>,
}

impl<T: Any> Pending<T> {
    /// The outcome; `None` when the job panicked. Ready once.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut entries = self.waiting.entries.borrow_mut();
        match entries.get_mut(&self.number) {
            Some(Entry::Pending(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Entry::Done(outcome)) => {
                let outcome = outcome.take();
                let outcome = outcome.and_then(|outcome| outcome.downcast::<T>().ok());
                Poll::Ready(outcome.map(|outcome| *outcome))
            }
            None => Poll::Ready(None),
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.waiting.entries.borrow_mut().remove(&self.number);
    }
}

fn run<M: From<JobDone>>(mut jobs: Receiver<Job>, mailboxes: &Mailboxes<M>) {
    let this = std::thread::current();
    jobs.attach(move || this.unpark());
    loop {
        match jobs.take() {
            Some(job) => finish(job, mailboxes),
            None => std::thread::park(),
        }
    }
}

fn finish<M: From<JobDone>>(job: Job, mailboxes: &Mailboxes<M>) {
    // The closure is consumed: nothing it leaves half-done is seen again.
    let outcome = catch_unwind(AssertUnwindSafe(job.work)).ok();
    let mut message = M::from(JobDone {
        job: job.number,
        outcome,
    });
    // This thread may wait for a full mailbox: it serves nobody else's deadline.
    while let Err(Undelivered::Full(refused)) = mailboxes.send(job.core, message) {
        message = refused;
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_job_whose_owner_has_left_or_has_its_outcome() {
        let (mailboxes, mut receivers) = Mailboxes::<JobDone>::new(1);
        let this = std::thread::current();
        receivers[0].attach(move || this.unpark());
        let waiting = Waiting::new(CoreId(0), Jobs::start(mailboxes).unwrap());
        let cx = &Context::from_waker(Waker::noop());
        let mut next = || loop {
            match receivers[0].take() {
                Some(done) => break done,
                None => std::thread::park(),
            }
        };
        // Left before the job has ended, asked or not.
        for is_asked in [false, true] {
            let mut job = waiting.begin(|| 1).unwrap();
            assert!(!is_asked || job.poll(cx).is_pending());
            drop(job);
            waiting.done(next());
            assert!(waiting.entries.borrow().is_empty(), "asked: {is_asked}");
        }
        // Left between its end and the look at it: the owner was woken and timed out in one turn.
        let mut job = waiting.begin(|| 2).unwrap();
        assert!(job.poll(cx).is_pending());
        waiting.done(next());
        drop(job);
        assert!(waiting.entries.borrow().is_empty());
        // Ended before anybody asked, and a panic.
        let mut job = waiting.begin(|| 3).unwrap();
        waiting.done(next());
        assert_eq!(job.poll(cx), Poll::Ready(Some(3)));
        drop(job);
        let mut job = waiting.begin(|| -> u8 { panic!("on purpose") }).unwrap();
        waiting.done(next());
        assert_eq!(job.poll(cx), Poll::Ready(None));
        drop(job);
        assert!(waiting.entries.borrow().is_empty());
    }

    #[test]
    fn outcomes_come_back_in_order_and_a_panic_is_one_job_lost() {
        let (mailboxes, mut receivers) = Mailboxes::<JobDone>::new(2);
        let this = std::thread::current();
        receivers[1].attach(move || this.unpark());
        let jobs = Jobs::start(mailboxes).unwrap();
        assert!(jobs.submit(CoreId(1), 7, || 6 * 7).is_ok());
        assert!(
            jobs.submit(CoreId(1), 8, || -> u8 { panic!("on purpose") })
                .is_ok()
        );
        assert!(jobs.submit(CoreId(1), 9, || "text").is_ok());
        let mut done = Vec::new();
        while done.len() < 3 {
            match receivers[1].take() {
                Some(job) => done.push(job),
                None => std::thread::park(),
            }
        }
        let numbers: Vec<_> = done.iter().map(|job| job.job).collect();
        assert_eq!(numbers, [7, 8, 9]);
        let as_number = |job: &JobDone| job.outcome.as_ref()?.downcast_ref::<i32>().copied();
        assert_eq!(as_number(&done[0]), Some(42));
        assert!(done[1].outcome.is_none());
        assert!(receivers[0].is_empty());
    }
}
