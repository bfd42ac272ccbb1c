//! A logged-in client: its conversation with the front, the lease and the timer that it is driven by,
//! and what is counted of it.

use std::rc::Rc;

use super::admission::Admitted;
use super::front::Front;
use super::login::Registered;
use super::stall::Stall;
use super::upstream::{self, Connection, Ending, LeaseWait, Leased};
use super::world::World;
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::drain::Drain;
use crate::core::fault;
use crate::net::{Buf, Timer};
use crate::session::mysql::conversation::{Conversation, Entered, Entry, LeaseEnd, Limits, Notes};
use crate::session::mysql::downstream::Session;
use crate::telemetry::metrics::DoorSeries;

/// How a client's connection ends.
pub(super) type End = CloseReason;

/// A logged-in client behind its front.
pub(super) struct Client<F> {
    pub(super) world: Rc<World>,
    pub(super) front: F,
    pub(super) conversation: Conversation,
    pub(super) admitted: Admitted,
    pub(super) timer: Timer,
    /// The generation that `limits` are of.
    generation: u64,
    pub(super) limits: Limits,
    /// Received and not used yet.
    pub(super) unread: Option<Buf>,
    pub(super) lease: Option<Leased>,
    pub(super) wait: Option<LeaseWait>,
    /// Counted while the lease outlives its exchange.
    kept: Option<Kept>,
    /// Whether the client, and the upstream, take what is queued for them.
    pub(super) down_stall: Stall,
    pub(super) up_stall: Stall,
    /// Its user is no longer in the configuration: since when, and until when it may stay at the most.
    pub(super) removed: Option<(Now, Deadline)>,
    /// The drain that the conversation knows of.
    pub(super) drain: Drain,
    /// The conversation has more to do before it waits.
    pub(super) goes_on: bool,
    /// Steps until other tasks get their turn.
    pub(super) steps_left: u32,
    /// Given up after all else: a drain ends a core when its last client has left.
    _registered: Registered,
}

impl<F: Front> Client<F> {
    /// A client that has just logged in.
    pub(super) fn new(
        world: Rc<World>,
        front: F,
        session: Session,
        admitted: Admitted,
        timer: Timer,
        registered: Registered,
    ) -> Self {
        let now = world.net().now();
        let mut client = Self {
            conversation: Conversation::new(session, admitted.connection_id, now),
            generation: u64::MAX,
            limits: admitted.limits(&world),
            world,
            front,
            admitted,
            timer,
            unread: None,
            lease: None,
            wait: None,
            kept: None,
            down_stall: Stall::new(),
            up_stall: Stall::new(),
            removed: None,
            drain: Drain::Serving,
            goes_on: true,
            steps_left: 0,
            _registered: registered,
        };
        client.follow_limits();
        client
    }

    /// The same client behind another front.
    #[cfg_attr(
        not(debug_assertions),
        expect(dead_code, reason = "SQL over HTTP is to be its first user")
    )]
    pub(super) fn behind<G>(self, front: impl FnOnce(F) -> G) -> Client<G> {
        Client {
            world: self.world,
            front: front(self.front),
            conversation: self.conversation,
            admitted: self.admitted,
            timer: self.timer,
            generation: self.generation,
            limits: self.limits,
            unread: self.unread,
            lease: self.lease,
            wait: self.wait,
            kept: self.kept,
            down_stall: self.down_stall,
            up_stall: self.up_stall,
            removed: self.removed,
            drain: self.drain,
            goes_on: self.goes_on,
            steps_left: self.steps_left,
            _registered: self._registered,
        }
    }

    /// Serves commands until the connection ends.
    pub(super) async fn serve(&mut self) -> End {
        loop {
            if let Turned::Closed(reason) = self.turn().await {
                return reason;
            }
        }
    }

    /// Settles with the server what the session begins with, ahead of all commands.
    ///
    /// # Errors
    /// The client's connection has ended.
    pub(super) async fn enter_server(&mut self, entry: Entry) -> Result<Entered, End> {
        let now = self.now();
        self.conversation.enter_server(entry, now);
        self.goes_on = true;
        loop {
            match self.turn().await {
                Turned::Entered(entered) => return Ok(entered),
                Turned::Closed(reason) => return Err(reason),
                Turned::Waits => {}
            }
        }
    }

    /// Takes over the limits of a new configuration.
    pub(super) fn follow_limits(&mut self) {
        let newest = self.world.generation();
        if self.generation != newest {
            self.generation = newest;
            if self.lease.is_none() && self.wait.is_none() {
                self.admitted.follow(&self.world);
            }
            let known = self.admitted.pool.login.known.newest();
            self.conversation.relies_on(known);
            self.limits = self.admitted.limits(&self.world);
            let shared = self.admitted.shared_account(&self.world);
            self.conversation.share_account(shared);
            let pools = &self.world.replica().snapshot.pools;
            let max = usize::try_from(pools.statements_per_client_max).unwrap_or(usize::MAX);
            self.conversation.bound_statements(max);
            self.follow_removal();
        }
    }

    /// Looks whether the client's user has gone from the configuration, or has come back.
    fn follow_removal(&mut self) {
        let limit = self.world.replica().snapshot.deadlines.removed_user;
        let is_removed = self.admitted.is_removed(&self.world);
        self.removed = limit.filter(|_| is_removed).map(|limit| {
            let since = self.removed.map_or(self.now(), |(since, _)| since);
            (since, since.plus(limit))
        });
    }

    /// How far the drain is: the node's, or the client's own, whose user was removed.
    pub(super) fn drain_due(&self) -> Drain {
        let own = match self.removed {
            None => Drain::Serving,
            Some((_, until)) if until.is_over(self.now()) => Drain::Now,
            Some(_) => Drain::Draining,
        };
        self.world.drain().max(own)
    }

    /// Counts and logs what a step did.
    pub(super) fn note(&mut self, notes: &Notes) {
        let metrics = &self.admitted.metrics;
        if let Some(finished) = notes.finished {
            metrics.exchanges.inc();
            metrics.total.record(finished.total);
            metrics.upstream.record(finished.upstream);
            let gateway = finished.total.saturating_sub(finished.upstream);
            metrics.gateway.record(gateway);
            fault::point("exchange.finish");
        }
        if let Some(reason) = notes.failed {
            metrics.exchanges.inc();
            metrics.errors.inc(reason);
        }
        if notes.has_server_error {
            metrics.server_errors.inc();
        }
        for reason in notes.new_pins.iter() {
            metrics.pins.inc(reason);
        }
        upstream::count(&self.admitted.pool.endpoint.metrics, notes.tally);
        if notes.doubts_schema {
            self.doubt_schema();
        }
        if notes.has_cleansed {
            self.admitted.pool.endpoint.metrics.cleansed.inc();
        }
        if let Some(error) = notes.unclean {
            crate::log!(
                Debug,
                "connection not cleansed",
                endpoint = self.admitted.pool.endpoint.name.address,
                error = format!("{error:?}")
            );
        }
        if notes.keeps_lease && self.kept.is_none() {
            self.kept = Some(Kept::new(&self.admitted.door.metrics));
        }
        if let Some(payload) = &notes.refusal {
            self.log_refused_state(payload);
        } else if let Some(fault) = &notes.fault {
            self.log_fault(fault);
        }
        if let Some(event) = notes.told {
            self.log_told(event);
        }
    }

    /// Ends the lease.
    pub(super) fn end_lease(&mut self, end: LeaseEnd) {
        self.kept = None;
        let Some(lease) = self.lease.take() else {
            return;
        };
        let ending = match end {
            LeaseEnd::Return => {
                fault::point("exchange.return");
                self.give_back(lease.connection())
            }
            LeaseEnd::Cleanse(reason) if lease.connection().stream.is_disturbed() => {
                Ending::Discard(reason)
            }
            LeaseEnd::Cleanse(reason) => {
                let has_schema = lease.connection().session.has_schema();
                let moved = self.admitted.pool_for(has_schema);
                if let Some(pool) = &moved {
                    self.admitted.pool = Rc::clone(pool);
                }
                Ending::Cleanse(moved, reason)
            }
            LeaseEnd::Discard(reason) => Ending::Discard(reason),
            LeaseEnd::Abandon(reason) => Ending::Close(reason),
        };
        lease.end(ending);
    }

    /// How a clean connection goes back to its pool.
    fn give_back(&mut self, connection: &Connection) -> Ending {
        if connection.stream.is_disturbed() {
            return Ending::Discard(CloseReason::UpstreamLost);
        }
        if !connection.session.fits_its_pool() {
            return Ending::Discard(CloseReason::StateLost);
        }
        let session = self.conversation.session();
        let owner = session.owner();
        let is_left = connection.session.holds_for(owner);
        // One that was only asked something stays where sessions like this one find it.
        let has_schema = connection.session.has_schema() || session.wants_schema();
        let moved = self.admitted.pool_for(has_schema);
        if let Some(pool) = &moved {
            self.admitted.pool = Rc::clone(pool);
        }
        if is_left {
            self.admitted.left_at = Some(Rc::clone(&self.admitted.pool));
        }
        moved.map_or(Ending::Return, Ending::Move)
    }

    pub(super) fn now(&self) -> Now {
        self.world.net().now()
    }
}

/// How far a turn of the driver has come.
pub(super) enum Turned {
    /// The conversation waits.
    Waits,
    /// What [`Client::enter_server`] waits for.
    Entered(Entered),
    /// The client's connection is over.
    Closed(End),
}

/// A lease that outlives its exchange, counted as long as it does.
struct Kept(Rc<DoorSeries>);

impl Kept {
    fn new(door: &Rc<DoorSeries>) -> Self {
        door.pinned.inc();
        Self(Rc::clone(door))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.pinned.dec();
    }
}
