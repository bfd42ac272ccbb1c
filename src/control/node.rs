//! The running node: what the control thread does with signals, the cores' events and new addresses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::Plan;
use super::reload::fixed_changes;
use super::resolve::{Known, Wanted};
use super::serve::{Exit, Load};
use super::status::{Phase, Status};
use crate::base::ident::CoreId;
use crate::config::Snapshot;
use crate::core::mailbox::Undelivered;
use crate::core::runtime::CoreEvent;
use crate::door::message::{CoreMessage, Mailboxes};
use crate::log;
use crate::upstream::Addresses;

/// How long the other cores may go on after one has failed.
const FAILED_GRACE: Duration = Duration::from_secs(5);
/// How long cores may take to end once they were told to end every connection.
const ABORT_GRACE: Duration = Duration::from_secs(1);
/// How long a full mailbox is tried before the message is given up.
const POST_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries.
const POST_RETRY: Duration = Duration::from_millis(5);
/// How long a new endpoint's name may take before a reload is applied without its address.
const RELOAD_LOOKUP: Duration = Duration::from_millis(500);

/// What an operator asks of a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End: drain first; asked again, at once. SIGTERM and SIGINT.
    End,
    /// Read the configuration again. SIGHUP.
    Reload,
}

/// How the end of the node came about.
#[derive(Clone, Copy, Debug)]
struct Ending {
    /// When the next, harsher step is due.
    until: Instant,
    /// Whether every connection was told to end already.
    aborted: bool,
    exit: Exit,
}

/// Where the node's messages come from.
pub(super) struct Inbox {
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) events: mpsc::Receiver<CoreEvent>,
    pub(super) addresses: mpsc::Receiver<Addresses>,
    pub(super) version: mpsc::Receiver<Arc<str>>,
}

pub(super) struct Node {
    pub(super) load: Option<Load>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) plan: Plan,
    pub(super) mailboxes: Mailboxes,
    pub(super) status: Arc<Status>,
    /// Tells the resolver what to look up.
    pub(super) wanted: watch::Sender<Wanted>,
    /// Tells the version probe where endpoints are.
    pub(super) resolved: watch::Sender<Arc<Addresses>>,
}

impl Node {
    /// Serves until the node has ended; gives its exit.
    pub(super) async fn run(mut self, mut inbox: Inbox) -> Exit {
        let mut ending: Option<Ending> = None;
        while self.status.living() > 0 {
            let due = ending.map(|ending| ending.until);
            tokio::select! {
                Some(order) = inbox.orders.recv() => match order {
                    Order::Reload if ending.is_none() => self.reload().await,
                    Order::Reload => log!(Warn, "reload_refused", why = "the node is draining"),
                    Order::End if ending.is_none() => {
                        ending = Some(self.drain(self.plan.grace, Exit::Success).await);
                    }
                    Order::End => {
                        log!(Warn, "ended_at_once", cores = self.status.living());
                        return Exit::Failure;
                    }
                },
                Some(event) = inbox.events.recv() => {
                    ending = self.on_event(event, ending).await;
                }
                Some(addresses) = inbox.addresses.recv() => self.on_addresses(addresses).await,
                Some(version) = inbox.version.recv() => {
                    self.broadcast(|| CoreMessage::ServerVersion(Arc::clone(&version))).await;
                }
                () = until(due) => match self.grace_over(ending).await {
                    Ok(next) => ending = next,
                    Err(exit) => return exit,
                },
            }
        }
        let exit = ending.map_or(Exit::Failure, |ending| ending.exit);
        log!(Info, "drained", exit = exit.code());
        exit
    }

    /// Asks every core to drain; the node ends with `exit` when they have, or after `grace`.
    async fn drain(&self, grace: Duration, exit: Exit) -> Ending {
        self.status.set_phase(Phase::Draining);
        log!(Info, "draining", grace_s = grace.as_secs_f64());
        self.broadcast(|| CoreMessage::Drain).await;
        Ending {
            until: Instant::now() + grace,
            aborted: false,
            exit,
        }
    }

    /// The grace is over: first every connection is told to end, then the process ends without waiting.
    async fn grace_over(&self, ending: Option<Ending>) -> Result<Option<Ending>, Exit> {
        let Some(ending) = ending else {
            return Ok(None);
        };
        if ending.aborted {
            log!(Warn, "cores_left", cores = self.status.living());
            return Err(ending.exit);
        }
        log!(Warn, "grace_over", cores = self.status.living());
        self.broadcast(|| CoreMessage::DrainNow).await;
        Ok(Some(Ending {
            until: Instant::now() + ABORT_GRACE,
            aborted: true,
            ..ending
        }))
    }

    async fn on_event(&self, event: CoreEvent, ending: Option<Ending>) -> Option<Ending> {
        let CoreEvent::Ended(core, cause) = event else {
            return ending;
        };
        self.status.set_ended(usize::from(core.0));
        let failed = match (cause, &ending) {
            (None, Some(_)) => None,
            (None, None) => Some("it returned without being asked".to_owned()),
            (Some(cause), _) => Some(cause),
        };
        let Some(cause) = failed else {
            log!(Debug, "core_ended", core = core.0);
            return ending;
        };
        log!(Error, "core_failed", core = core.0, cause = cause);
        match ending {
            // A core that fails while draining cuts its connections: the end is no success.
            Some(ending) => Some(Ending {
                exit: Exit::Failure,
                ..ending
            }),
            None => Some(self.drain(FAILED_GRACE, Exit::Failure).await),
        }
    }

    async fn on_addresses(&self, addresses: Addresses) {
        // Those of a configuration that is no longer current have other endpoint numbers.
        if addresses.generation != self.wanted.borrow().generation {
            return;
        }
        let addresses = Arc::new(addresses);
        if self.resolved.borrow().by_endpoint != addresses.by_endpoint {
            log!(Info, "addresses_changed", generation = addresses.generation);
        }
        self.resolved.send_replace(Arc::clone(&addresses));
        self.broadcast(|| CoreMessage::Addresses(Arc::clone(&addresses)))
            .await;
    }

    /// Reads the configuration again and gives it to every core, or leaves everything as it is.
    async fn reload(&mut self) {
        if let Err(why) = self.try_reload().await {
            log!(Error, "reload_refused", why = why);
            // Whoever has seen the number finds the reason, as soon as the line is written.
            self.status.reloads_refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let load = self.load.clone().ok_or("the configuration is not a file")?;
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let snapshot = loaded.map_err(|_| "reading it panicked")??;
        let fixed = fixed_changes(&self.snapshot, &snapshot);
        if !fixed.is_empty() {
            return Err(format!(
                "a restart is needed to change {}",
                fixed.join(", ")
            ));
        }
        let plan = Plan::of(&snapshot);
        let generation = self.status.generation.load(Ordering::Relaxed) + 1;
        let wanted = Wanted {
            generation,
            destinations: plan.destinations.clone().into(),
        };
        let mut known = Known::default();
        known.refresh(&wanted, RELOAD_LOOKUP, &self.status).await;
        let addresses = Arc::new(known.addresses(&wanted));
        let snapshot = Arc::new(snapshot);
        self.broadcast(|| CoreMessage::Snapshot(Arc::clone(&snapshot), Arc::clone(&addresses)))
            .await;
        if let Some(log) = crate::telemetry::log::node() {
            log.set_level(plan.level);
        }
        self.resolved.send_replace(addresses);
        self.wanted.send_replace(wanted);
        self.status.generation.store(generation, Ordering::Relaxed);
        (self.snapshot, self.plan) = (snapshot, plan);
        log!(Info, "applied", generation = generation);
        Ok(())
    }

    async fn broadcast(&self, message: impl Fn() -> CoreMessage) {
        for core in self.mailboxes.ids() {
            if !self.status.has_ended(usize::from(core.0)) {
                post(&self.mailboxes, core, message()).await;
            }
        }
    }
}

/// Sends to a core, trying for a while when its mailbox is full.
async fn post(mailboxes: &Mailboxes, core: CoreId, mut message: CoreMessage) {
    let tries = POST_PATIENCE.as_millis() / POST_RETRY.as_millis();
    for _ in 0..tries {
        match mailboxes.send(core, message) {
            Ok(()) => return,
            Err(Undelivered::Closed(_)) => return,
            Err(Undelivered::Full(refused)) => message = refused,
        }
        sleep(POST_RETRY).await;
    }
    log!(
        Error,
        "message_lost",
        core = core.0,
        message = format!("{message:?}")
    );
}

/// Waits for the instant; for ever when there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
