//! One pool in use: those who wait at it, and what they are given.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;

use super::dial;
use super::endpoint::{BACKOFF, Endpoint};
use super::kill::{self, Reaper};
use super::lease::{Connection, Ending, Leased};
use super::protocol::Protocol;
use crate::base::clock::{Deadline, Now};
use crate::base::close::{CloseReason, Refusal};
use crate::base::codes::Event;
use crate::base::prng::Prng;
use crate::core::fault;
use crate::pool::{
    Backoff, Counts, Demand, Ended, Facts, Key, OnReturn, Pool, PoolId, Sign, WaiterId,
};

/// What a waiting session is given in the end.
type Delivery<P> = Result<Leased<P>, Event>;

/// One pool with those who wait at it.
pub struct PoolState<P: Protocol> {
    /// What its sessions have in common.
    pub key: Key,
    /// Where its connections are to.
    pub endpoint: Rc<Endpoint<P>>,
    pool: RefCell<Pool<Box<Connection<P>>>>,
    /// Its place at the endpoint's gate.
    pub(super) id: PoolId,
    /// What its connections log in with.
    pub login: Rc<P::Login>,
    deliveries: RefCell<HashMap<u64, Waiting<P>, FixedState>>,
    /// Shared by the pools of one account.
    pub(super) reaper: Rc<Reaper<P>>,
    /// Shared by them too.
    pub(super) refusals: Rc<Refusals>,
}

/// How often in a row the server has refused an account, which says nothing of others.
pub(super) struct Refusals {
    backoff: RefCell<Backoff>,
    last: Cell<Option<Refusal>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            backoff: RefCell::new(Backoff::new(BACKOFF.0, BACKOFF.1)),
            last: Cell::default(),
        }
    }
}

impl Refusals {
    pub(super) fn note(&self, refusal: Refusal, now: Now, prng: &mut Prng) {
        self.last.set(Some(refusal));
        self.backoff.borrow_mut().on_failure(Sign::Down, now, prng);
    }

    /// The server has let the account in; what it had said before.
    pub(super) fn end(&self) -> Option<Refusal> {
        self.backoff.borrow_mut().on_success();
        self.last.take()
    }

    /// Whether the account is being left alone.
    pub(super) fn is_waiting(&self, now: Now) -> bool {
        self.backoff.borrow().is_waiting(now)
    }

    /// Whether a login may be tried, when `connecting` are under way.
    pub(super) fn may_try(&self, now: Now, connecting: u32) -> bool {
        self.backoff.borrow().may_try(now, connecting)
    }
}

struct Waiting<P: Protocol> {
    waker: Option<Waker>,
    delivery: Option<Delivery<P>>,
}

impl<P: Protocol> PoolState<P> {
    pub(super) fn new(endpoint: &Rc<Endpoint<P>>, key: &Key, login: Rc<P::Login>) -> Rc<Self> {
        let (reaper, refusals) = {
            let pools = endpoint.pools.borrow();
            let mut kin = pools.all().filter(|pool| pool.key.has_account_of(key));
            let shared = |pool: &Rc<Self>| (Rc::clone(&pool.reaper), Rc::clone(&pool.refusals));
            kin.next().map(shared).unwrap_or_default()
        };
        Rc::new(Self {
            key: key.clone(),
            endpoint: Rc::clone(endpoint),
            pool: RefCell::new(Pool::new(endpoint.limits.get())),
            id: {
                let max = || endpoint.site.tenant_bound(&key.tenant);
                endpoint.gate.borrow_mut().join(&key.tenant, max)
            },
            login,
            deliveries: RefCell::default(),
            reaper,
            refusals,
        })
    }

    /// Changes the pool's bookkeeping, which the endpoint's gate follows.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Pool<Box<Connection<P>>>) -> T) -> T {
        let mut pool = self.pool.borrow_mut();
        pool.hold_back(self.endpoint.gate.borrow().is_over_bound(self.id));
        let changed = change(&mut pool);
        let now = self.now();
        pool.follow(now);
        let counts = pool.counts();
        let mut gate = self.endpoint.gate.borrow_mut();
        gate.changed(self.id, counts, now);
        changed
    }

    /// How many of what there are.
    pub(super) fn counts(&self) -> Counts {
        self.pool.borrow().counts()
    }

    /// What the gate asks of it: nobody waits for what is being left alone after failures.
    pub(super) fn facts(&self, is_resting: bool, now: Now) -> Facts {
        let mut facts = self.pool.borrow().facts();
        if is_resting || self.refusals.is_waiting(now) {
            facts.uncovered = 0;
        }
        facts
    }

    /// Whether a login is to be tried for those who wait.
    pub(super) fn wants_connect(&self, now: Now) -> bool {
        let pool = self.pool.borrow();
        let connecting = pool.counts().connecting;
        pool.uncovered() > 0
            && self.endpoint.backoff.borrow().may_try(now, connecting)
            && self.refusals.may_try(now, connecting)
    }

    pub(super) fn now(&self) -> Now {
        self.endpoint.site.core.net.now()
    }

    /// Why those who wait here may as well be told so at once: nothing is there that could come back, and
    /// the account or the endpoint is being left alone after failures. An endpoint that serves others is
    /// there, and a login that is lost says little: who waits has the next attempt.
    pub(super) fn is_hopeless(&self, now: Now) -> Option<Event> {
        if self.endpoint.addresses.borrow().is_empty() {
            return Some(Event::NoEndpoint);
        }
        if !self.pool.borrow().is_without() {
            return None;
        }
        if self.refusals.is_waiting(now) {
            let is_lasting = self.refusals.last.get() == Some(Refusal::Lasting);
            return is_lasting.then_some(Event::AccountRefused);
        }
        let is_down = self.endpoint.backoff.borrow().is_given_up(now);
        (is_down && !self.endpoint.serves_any()).then_some(Event::NoEndpoint)
    }

    /// An idle connection at once, or a place in the queue.
    ///
    /// # Errors
    /// What the client is to be told.
    pub fn acquire(
        self: &Rc<Self>,
        owner: u64,
        prefer_last: bool,
        deadline: Deadline,
    ) -> Result<Acquired<P>, Event> {
        if self.endpoint.gate.borrow().room(self.id) > 0
            && let Some(leased) = self.take_idle(owner, prefer_last)
        {
            return Ok(Acquired::Now(leased));
        }
        let now = self.now();
        if let Some(event) = self.is_hopeless(now) {
            return Err(event);
        }
        let waiting = self.endpoint.gate.borrow().queue_len(self.id);
        let is_full = waiting >= self.endpoint.limits.get().waiters_max;
        let enqueued = (!is_full).then(|| self.change(|pool| pool.enqueue(owner, now, deadline)));
        let Some(Ok(waiter)) = enqueued else {
            self.endpoint.metrics.leases_refused.inc();
            return Err(Event::PoolFull);
        };
        let waiting = Waiting {
            waker: None,
            delivery: None,
        };
        self.deliveries.borrow_mut().insert(owner, waiting);
        self.endpoint.settle();
        self.endpoint.look_in_time(now);
        let pool = Rc::clone(self);
        let wait = LeaseWait {
            pool,
            waiter,
            owner,
            since: now,
        };
        Ok(Acquired::Later(wait))
    }

    /// Whether anybody waits who could have a connection if one of this pool became free, here or on another
    /// core that has asked for a permit.
    pub fn is_wanted(&self) -> bool {
        let endpoint = &self.endpoint;
        let gate = endpoint.gate.borrow();
        gate.is_wanted_of(self.id) || endpoint.permits.borrow().is_wanted()
    }

    /// Leases an idle connection to `owner`: with `prefer_last` the one on which it has left
    /// something, else the one used last by anybody.
    pub(super) fn take_idle(self: &Rc<Self>, owner: u64, prefer_last: bool) -> Option<Leased<P>> {
        // Only a statement that reads what the last one left minds which connection it gets.
        let wanted = if prefer_last { owner } else { 0 };
        loop {
            let lease = self.change(|pool| pool.take(wanted))?;
            if !lease.connection.stream.is_disturbed() {
                return Some(Leased::new(self, lease, owner));
            }
            // A readable byte on an idle connection: the server has ended it (trap 22).
            let lease = self.change(|pool| pool.give_up(lease, 0));
            let reason = CloseReason::UpstreamLost;
            dial::close(&self.endpoint, *lease.connection, reason);
        }
    }

    /// Takes in a connection that was not opened for anybody who waits, with its permit.
    pub(super) fn adopt(self: &Rc<Self>, connection: Box<Connection<P>>) {
        let now = self.now();
        let mut prng = self.endpoint.site.core.prng.borrow_mut();
        let ended = self.change(|pool| {
            pool.connect_started();
            pool.connected(connection, now, &mut prng)
        });
        drop(prng);
        self.place(ended);
    }

    /// Ends the waits that are too long where the queue stands.
    pub(super) fn turn_away(&self, now: Now) {
        while self.turns_away().is_over(now) {
            let Some(waiter) = self.change(|pool| pool.pop_turned_away(now)) else {
                return;
            };
            self.deliver(waiter.owner, Err(Event::PoolOverload));
        }
    }

    /// When the next wait becomes too long.
    pub(super) fn turns_away(&self) -> Deadline {
        self.pool.borrow().turns_away()
    }

    /// What is to become of a returned connection: another core or pool may be due it.
    pub(super) fn on_return(&self, now: Now) -> OnReturn {
        let endpoint = &self.endpoint;
        let mut permits = endpoint.permits.borrow_mut();
        let mut gate = endpoint.gate.borrow_mut();
        gate.lease_ended();
        if permits.is_content() && gate.waits_alone(self.id) {
            return OnReturn::Keep;
        }
        let pools = endpoint.pools.borrow();
        let is_resting = endpoint.backoff.borrow().is_waiting(now);
        let facts = |id| pools.facts(id, is_resting, now);
        let demand = gate.demand(Some(self.id), now, facts);
        let gives_way = gate.gives_way(self.id, now, facts);
        let oldest = self.pool.borrow().oldest_waiter();
        let oldest = oldest.map(|waiter| waiter.since);
        let given = permits.on_return(now, oldest, &demand, gives_way);
        if given == OnReturn::MakeRoom {
            gate.moved();
        }
        given
    }

    /// Whether a connection that comes back here leaves its place to another pool of its tenant, as that has
    /// all that it may have ([`Gate::leaves_place`]).
    ///
    /// [`Gate::leaves_place`]: crate::pool::Gate::leaves_place
    pub(super) fn leaves_place(&self, now: Now) -> bool {
        let gate = self.endpoint.gate.borrow();
        if !gate.is_bounded() {
            return false;
        }
        let pools = self.endpoint.pools.borrow();
        let has_spare = self.endpoint.permits.borrow().spare() > 0;
        let oldest = |id| pools.get(id)?.pool.borrow().oldest_waiter();
        gate.leaves_place(
            self.id,
            |id| oldest(id).map(|waiter| waiter.since),
            |id| {
                let pool = pools.get(id);
                pool.is_some_and(|pool| pool.can_be_served(has_spare, now))
            },
        )
    }

    /// Whether somebody waits here who could be served at once, if his tenant may have one more.
    pub(super) fn can_be_served(&self, has_spare: bool, now: Now) -> bool {
        let is_held_up = self.pool.borrow().is_held_up();
        is_held_up || has_spare && self.wants_connect(now)
    }

    /// What the gate asks of a pool that [`Self::can_be_served`].
    pub(super) fn facts_served(&self, now: Now) -> Facts {
        let pool = self.pool.borrow();
        if !pool.is_held_up() {
            drop(pool);
            return self.facts(false, now);
        }
        let mut facts = pool.facts();
        facts.uncovered = facts.uncovered.max(1);
        facts
    }

    /// Gives an idle connection to who waits longest; whether there was one.
    pub(super) fn serve_idle(self: &Rc<Self>) -> bool {
        if !self.pool.borrow().is_held_up() {
            return false;
        }
        let waiter = self.pool.borrow().oldest_waiter();
        if let Some(waiter) = waiter
            && let Some(leased) = self.take_idle(waiter.owner, false)
        {
            let now = self.now();
            self.change(|pool| pool.cancel(waiter.id, now));
            self.deliver(waiter.owner, Ok(leased));
        }
        true
    }

    /// Carries out what the bookkeeping decided for a connection.
    pub(super) fn place(self: &Rc<Self>, ended: Ended<Box<Connection<P>>>) {
        match ended {
            Ended::Idle(_) => {
                let waits = self.endpoint.gate.borrow().totals().waiting > 0;
                if waits || !self.endpoint.permits.borrow().is_quiet(&Demand::default()) {
                    self.endpoint.settle();
                }
            }
            Ended::HandedOver { to, lease } => {
                let leased = Leased::new(self, lease, to.owner);
                self.deliver(to.owner, Ok(leased));
            }
            Ended::Close(connection, reason) => kill::end(self, *connection, reason),
        }
    }

    pub(super) fn deliver(&self, owner: u64, delivery: Delivery<P>) {
        fault::point("lease.deliver");
        let mut deliveries = self.deliveries.borrow_mut();
        // A waiter is cancelled in the queue before it leaves, so its entry is still here.
        if let Some(waiting) = deliveries.get_mut(&owner) {
            waiting.delivery = Some(delivery);
            if let Some(waker) = waiting.waker.take() {
                waker.wake();
            }
        }
    }
}

/// What [`PoolState::acquire`] gives.
pub enum Acquired<P: Protocol> {
    /// An idle connection.
    Now(Leased<P>),
    /// A place in the queue.
    Later(LeaseWait<P>),
}

/// A place in a pool's queue. Dropping it leaves the queue.
pub struct LeaseWait<P: Protocol> {
    pool: Rc<PoolState<P>>,
    waiter: WaiterId,
    owner: u64,
    since: Now,
}

impl<P: Protocol> LeaseWait<P> {
    /// The lease, or what the client is to be told.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Leased<P>, Event>> {
        let mut deliveries = self.pool.deliveries.borrow_mut();
        let Some(waiting) = deliveries.get_mut(&self.owner) else {
            return Poll::Ready(Err(Event::PoolWait));
        };
        let Some(delivery) = waiting.delivery.take() else {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        deliveries.remove(&self.owner);
        drop(deliveries);
        let metrics = &self.pool.endpoint.metrics;
        match &delivery {
            Ok(_) => metrics.lease_wait.record(self.pool.now().since(self.since)),
            // Counted here, as a client may have left meanwhile.
            Err(Event::PoolOverload) => metrics.leases_turned_away.inc(),
            Err(_) => {}
        }
        Poll::Ready(delivery)
    }
}

impl<P: Protocol> Drop for LeaseWait<P> {
    fn drop(&mut self) {
        let now = self.pool.now();
        self.pool.change(|pool| pool.cancel(self.waiter, now));
        let waiting = self.pool.deliveries.borrow_mut().remove(&self.owner);
        if let Some(Waiting {
            delivery: Some(Ok(leased)),
            ..
        }) = waiting
        {
            // Delivered to somebody who left in the same turn: the next one has it.
            leased.end(Ending::Return);
        } else {
            self.pool.endpoint.settle();
        }
    }
}
