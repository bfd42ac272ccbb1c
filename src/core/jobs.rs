//! Work too long for a core (private-key arithmetic), done by one helper thread, in order.
//!
//! A core submits a closure and a number; the outcome comes back through its mailbox. The queue is
//! bounded: a core that is told [`Busy`] answers its client with an error instead of waiting.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::base::ident::CoreId;
use crate::core::mailbox::{Mailboxes, Receiver, Sender, Undelivered, channel};
use crate::core::message::{CoreMessage, JobDone};

/// Jobs that may wait: at about 1 ms each, a second's worth.
pub const JOBS_MAX: usize = 1024;

type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

struct Job {
    core: CoreId,
    number: u64,
    work: Work,
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
    pub fn start(mailboxes: Mailboxes) -> std::io::Result<Self> {
        let (sender, receiver) = channel(JOBS_MAX);
        std::thread::Builder::new()
            .name("jobs".into())
            .spawn(move || run(receiver, &mailboxes))?;
        Ok(Self(sender))
    }

    /// Runs `work` on the helper thread; `core` gets [`CoreMessage::JobDone`] with `number`.
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

fn run(mut jobs: Receiver<Job>, mailboxes: &Mailboxes) {
    let this = std::thread::current();
    jobs.attach(move || this.unpark());
    loop {
        match jobs.take() {
            Some(job) => finish(job, mailboxes),
            None => std::thread::park(),
        }
    }
}

fn finish(job: Job, mailboxes: &Mailboxes) {
    // The closure is consumed: nothing it leaves half-done is seen again.
    let outcome = catch_unwind(AssertUnwindSafe(job.work)).ok();
    let mut message = CoreMessage::JobDone(JobDone {
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
        let (mailboxes, mut receivers) = Mailboxes::new(2);
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
                Some(CoreMessage::JobDone(job)) => done.push(job),
                Some(other) => panic!("{other:?}"),
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
