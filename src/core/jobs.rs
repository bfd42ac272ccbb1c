//! Work too long for a core (private-key arithmetic), done by one helper thread, in order.
//!
//! A core submits a closure and a number; the outcome comes back through its mailbox. The queue is
//! bounded: a core that is told [`Busy`] answers its client with an error instead of waiting.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    ///
    /// # Errors
    /// [`Busy`] when too many jobs wait.
    pub fn submit<T: Any + Send>(
        &self,
        core: CoreId,
        number: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(), Busy> {
        let work: Work = Box::new(move || Box::new(work()));
        self.0.send(Job { core, number, work }).map_err(|_| Busy)
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
