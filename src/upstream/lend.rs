//! What one core gives another: permits, and idle upstream connections with theirs.
//!
//! The lender reads out what its sessions left on the connection, takes the socket off its ring and
//! sends it with its session and its permit; the borrower puts it on its own ring and into its own
//! pool of the same key. The permit travels with the connection, so the budget holds at every
//! instant. Whatever goes wrong on the way, the connection is closed and its permit is free after
//! that, as with any other.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use super::dial;
use super::endpoint::Endpoint;
use super::lease::{Connection, PooledLease};
use super::permit::{Counted, Permit, Travelling};
use super::place;
use super::pool::PoolState;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::ident::{CoreId, EndpointName};
use crate::core::{Drain, fault};
use crate::net::{self, Stream, Timer};
use crate::pool::{Effect, Key, Lease, OnReturn, PermitBody, PermitMessage, PlaceMessage, Pool};

/// What the endpoints of two cores say to each other.
pub enum PeerMessage<P: Protocol> {
    /// Another core asks for permits, or gives some.
    Permit(PermitMessage),
    /// Another core asks for the node's place beyond the budget, or gives it.
    Place(PlaceMessage),
    /// Another core hands over an idle connection, with its permit.
    Lent(Box<Lent<P>>),
}

/// A message that was not taken.
pub struct Refused<P: Protocol> {
    /// It, if it has come back.
    pub message: Option<PeerMessage<P>>,
    /// Why, for the log.
    pub reason: String,
}

/// An idle upstream connection on its way between two cores: moved, never shared.
pub struct Lent<P: Protocol> {
    /// The endpoint it is connected to.
    pub(super) endpoint: EndpointName,
    /// The core that lends it.
    from: CoreId,
    /// The pool it belongs to, there as here.
    key: Key,
    /// The socket. Nothing of it was received since it fell idle.
    socket: OwnedFd,
    /// The session on it.
    session: P::Packed,
    /// When it was opened.
    opened_at: Now,
    /// When it is too old to be kept.
    retires_at: Deadline,
}

/// How long a connection may take to be ready to leave: a server that does not answer by then, or
/// does not take what is queued, is no gift.
const LEAVE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Hands the connection of `lease`, which has left `pool`, over to the core `to`.
fn start<P: Protocol>(pool: &Rc<PoolState<P>>, lease: PooledLease<P>, to: CoreId) {
    let (opened_at, retires_at) = (lease.opened_at, lease.retires_at);
    let Connection {
        stream,
        session,
        permit,
        ..
    } = *lease.connection;
    let lending = Lending {
        pool: Rc::clone(pool),
        permit: permit.lend(to),
        opened_at,
        retires_at,
    };
    net::spawn("upstream lend", lending.hand_over(stream, session)).detach();
}

/// Gives away a returned connection that another core or pool is due: as it is, if the other core can
/// use it so, else its permit when it is closed.
pub(super) fn give_returned<P: Protocol>(
    pool: &Rc<PoolState<P>>,
    lease: PooledLease<P>,
    given: &OnReturn,
) {
    match given {
        OnReturn::Give { to, key } if key.as_ref() == Some(&pool.key) => {
            start(pool, lease, *to);
        }
        _ => {
            let reason = CloseReason::PoolReclaimed;
            dial::close(&pool.endpoint, *lease.connection, reason);
        }
    }
}

/// A connection that is leaving.
struct Lending<P: Protocol> {
    pool: Rc<PoolState<P>>,
    permit: Travelling<P>,
    opened_at: Now,
    retires_at: Deadline,
}

impl<P: Protocol> Lending<P> {
    async fn hand_over(self, mut stream: Stream, mut session: P::Session) {
        let site = Rc::clone(&self.pool.endpoint.site);
        let mut timer = site.core.net.timer();
        timer.set(site.core.net.now().plus(LEAVE_WAIT));
        let is_read_out = read_out(
            &self.pool.endpoint.site,
            &mut stream,
            &mut session,
            &mut timer,
        )
        .await;
        fault::point("lend.read_out");
        let packed = is_read_out.then(|| P::pack(&session)).flatten();
        let Some(packed) = packed else {
            return self.keep(Some(stream), session);
        };
        let socket = match detach(stream, &mut timer).await {
            Ok(socket) => socket,
            Err(stream) => return self.keep(stream, session),
        };
        fault::point("lend.detached");
        let lent = Lent {
            endpoint: self.pool.endpoint.name.clone(),
            from: site.core.id,
            key: self.pool.key.clone(),
            socket,
            session: packed,
            opened_at: self.opened_at,
            retires_at: self.retires_at,
        };
        let to = self.permit.to();
        match (site.post)(to, PeerMessage::Lent(Box::new(lent))) {
            Ok(()) => {
                self.permit.has_left();
                self.pool.endpoint.metrics.lent.inc();
                // Its tenant has one connection less here.
                self.pool.endpoint.settle();
            }
            Err(refused) => {
                let reason = refused.reason;
                crate::log!(Warn, "connection not lent", core = to.0, reason = reason);
                let stream = match refused.message {
                    Some(PeerMessage::Lent(lent)) => Some(adopt(&self.pool.endpoint, lent.socket)),
                    _ => None,
                };
                self.keep(stream, session);
            }
        }
    }

    /// Closes a connection that cannot leave.
    fn keep(self, stream: Option<Stream>, session: P::Session) {
        // Without a stream there is nothing to close, and the permit is free.
        let Some(stream) = stream else { return };
        let reason = match stream.is_disturbed() {
            true => CloseReason::UpstreamLost,
            false => CloseReason::PoolReclaimed,
        };
        let permit = self.permit.stays();
        let endpoint = &self.pool.endpoint;
        dial::close_with(
            endpoint,
            stream,
            session,
            reason,
            permit.map(Counted::Permit),
        );
    }
}

/// Reads out what sessions of this core left on the connection. `false`: it is not fit to be lent.
async fn read_out<P: Protocol>(
    site: &Upstreams<P>,
    stream: &mut Stream,
    session: &mut P::Session,
    timer: &mut Timer,
) -> bool {
    let mut out = Vec::new();
    P::ask_for_what_is_left(session, &mut out);
    if !out.is_empty() {
        stream.send_bytes(&out);
    }
    while P::owes(session) {
        let received = poll_fn(|cx| {
            if let Poll::Ready(received) = stream.poll_receive(cx) {
                return Poll::Ready(received.ok().flatten());
            }
            timer.poll(cx).map(|()| None)
        });
        let Some(mut buf) = received.await else {
            return false;
        };
        if site.take_owed(session, &mut buf) != Ok(true) {
            return false;
        }
    }
    true
}

/// Takes the connection off this core's ring.
///
/// # Errors
/// The connection, if it is still there: something has come on it, or it was not to be had in time.
async fn detach(stream: Stream, timer: &mut Timer) -> Result<OwnedFd, Option<Stream>> {
    let mut detaching = stream.detach();
    let detached = poll_fn(|cx| {
        if let Poll::Ready(detached) = Pin::new(&mut detaching).poll(cx) {
            return Poll::Ready(Some(detached));
        }
        timer.poll(cx).map(|()| None)
    });
    match pin!(detached).await {
        Some(detached) => detached,
        None => Err(detaching.give_up()),
    }
}

fn adopt<P: Protocol>(endpoint: &Endpoint<P>, socket: OwnedFd) -> Stream {
    let stream = endpoint.site.core.net.adopt(socket);
    stream.count(&endpoint.metrics.received, &endpoint.metrics.sent);
    stream
}

/// Takes over a connection that another core has lent: its permit at once, as messages come in an
/// order that counts, and the rest in a task of its own.
pub(super) fn take_over<P: Protocol>(endpoint: Rc<Endpoint<P>>, lent: Lent<P>) {
    let permit = Permit::received(&endpoint, &lent.key.tenant, lent.from);
    net::spawn("upstream take over", async move {
        join(&endpoint, lent, permit);
    })
    .detach();
}

/// Gives back what a message about an endpoint that this core has never known brings: it has not asked
/// for it.
pub(super) fn send_back<P: Protocol>(site: &Upstreams<P>, message: PeerMessage<P>) {
    let (endpoint, to, count) = match message {
        PeerMessage::Lent(lent) => (lent.endpoint, lent.from, 1),
        PeerMessage::Place(message) => return place::send_back(site, &message),
        PeerMessage::Permit(message) => match message.body {
            PermitBody::Grant { count } => (message.endpoint, message.from, count),
            PermitBody::Want { .. } | PermitBody::Deny | PermitBody::Withdraw => return,
        },
    };
    let message = PermitMessage {
        endpoint,
        from: site.core.id,
        body: PermitBody::Grant { count },
    };
    if let Err(refused) = (site.post)(to, PeerMessage::Permit(message)) {
        let reason = refused.reason;
        crate::log!(
            Error,
            "permits lost",
            core = to.0,
            count = count,
            reason = reason
        );
    }
}

/// Puts a connection that has come into the pool of its key.
fn join<P: Protocol>(endpoint: &Rc<Endpoint<P>>, lent: Lent<P>, permit: Permit<P>) {
    fault::point("lend.received");
    let stream = adopt(endpoint, lent.socket);
    let session = P::unpack(lent.session, &endpoint.site.shared);
    let mut connection = Connection::new(stream, session, permit);
    let pool = endpoint.known_pool(&lent.key);
    // What came while it was on no ring was not asked for: the server has ended it (trap 22).
    match pool {
        Some(pool) if !connection.stream.is_readable() => {
            P::joined(&connection.session, &pool.login);
            connection.stream.start_receiving();
            let lease = Lease {
                connection,
                opened_at: lent.opened_at,
                retires_at: lent.retires_at,
                last_owner: 0,
            };
            let now = pool.now();
            let ended = pool.change(|pool| pool.lent(lease, now));
            pool.place(ended);
        }
        Some(_) => dial::close(endpoint, *connection, CloseReason::UpstreamLost),
        None => dial::close(endpoint, *connection, CloseReason::PoolReclaimed),
    }
    endpoint.settle();
}

impl<P: Protocol> Endpoint<P> {
    /// Carries out what the permits have decided.
    pub(super) fn apply_effects(self: &Rc<Self>) {
        // Nothing below settles, so what is taken out here is all there is.
        let mut effects = self.effects.take();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(core, message) => self.send(core, message),
                Effect::GiveIdle { to, key } => self.give_idle(to, key.as_ref()),
                Effect::CloseIdle { makes_room } => self.close_idle(makes_room),
            }
        }
        // Kept for its memory.
        self.effects.replace(effects);
    }

    fn send(&self, to: CoreId, message: PermitMessage) {
        let Err(refused) = (self.site.post)(to, PeerMessage::Permit(message)) else {
            return;
        };
        // Cores that a drain has emptied are gone.
        if self.site.core.drain() == Drain::Serving {
            let reason = refused.reason;
            crate::log!(Warn, "permit message refused", core = to.0, reason = reason);
        }
        if let Some(PeerMessage::Permit(message)) = refused.message {
            self.permits.borrow_mut().not_sent(to, &message.body);
        }
    }

    /// Brings the number of owned permits to the metrics.
    pub(super) fn show_permits(&self) {
        let permits = self.permits.borrow();
        let is_there = self.is_current.get() || permits.in_use() > 0;
        let owned = if is_there { permits.owned() } else { 0 };
        self.metrics.permits.set(u64::from(owned));
    }

    /// Has the keeper look when time alone will change what the rules of permits say, which it does not know of
    /// those who have come since its last look.
    pub(super) fn look_in_time(&self, now: Now) {
        if self.gate.borrow().totals().waiting > 0 {
            self.site.core.look_by(self.next_look(now));
        }
    }

    /// When time alone will change what the rules of permits say.
    pub(super) fn next_look(&self, now: Now) -> Deadline {
        let pools = self.pools.borrow();
        let demand = self.demand(&pools, self.backoff.borrow().is_waiting(now), now);
        let next = self.permits.borrow().next_look(now, &demand);
        next.min(self.turns_away())
    }

    /// Closes an idle connection of who has most; its permit goes where it was promised, or to the pool that
    /// is due it.
    fn close_idle(self: &Rc<Self>, makes_room: bool) {
        let now = self.site.core.net.now();
        let lease = {
            let pools = self.pools.borrow();
            let is_resting = self.backoff.borrow().is_waiting(now);
            let facts = |id| pools.facts(id, is_resting, now);
            let mut gate = self.gate.borrow_mut();
            let from = gate.victim(now, facts);
            if makes_room {
                gate.moved();
            }
            drop(gate);
            let pool = from.and_then(|id| pools.get(id));
            pool.and_then(|pool| pool.change(Pool::take_longest_idle))
        };
        if let Some(lease) = lease {
            dial::close(self, *lease.connection, CloseReason::PoolReclaimed);
        }
    }

    /// A connection is closed, or was never made: its permit is free.
    pub(super) fn released(self: &Rc<Self>) {
        self.permits
            .borrow_mut()
            .released(&mut self.effects.borrow_mut());
        self.show_permits();
        self.apply_effects();
        self.settle();
    }

    /// A message of another core's permits.
    pub(super) fn on_permit(self: &Rc<Self>, message: PermitMessage) {
        match message.body {
            PermitBody::Grant { .. } => self.metrics.permits_moved.inc(),
            // What cannot be given now may be a moment later: the keeper looks again then.
            PermitBody::Want { .. } => self.site.core.kick(),
            PermitBody::Deny | PermitBody::Withdraw => {}
        }
        self.permits.borrow_mut().on_message(message);
        self.show_permits();
        self.settle();
    }

    /// Gives an idle connection to another core: one that it can use as it is, else the permit of
    /// one that is closed.
    fn give_idle(self: &Rc<Self>, to: CoreId, key: Option<&Key>) {
        let pool = key.and_then(|key| self.known_pool(key));
        let lease = pool.and_then(|pool| {
            let lease = pool.change(Pool::take_longest_idle)?;
            Some((pool, lease))
        });
        match lease {
            Some((pool, lease)) => start(&pool, lease, to),
            None => self.close_idle(false),
        }
    }
}
