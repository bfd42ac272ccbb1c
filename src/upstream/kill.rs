//! Ending statements that nobody waits for any more.
//!
//! A server notices that a connection is closed only when it next reads or writes there; until then
//! the statement runs on and its transaction keeps its locks. So a connection that ends in the
//! middle of a statement is killed by its server first, over another connection of the same pool.
//! It stays open until the server has answered: while it is, the server cannot have given its
//! number to anybody else, and no restart of the server has made the number mean another one.
//!
//! The pools of one account share a reaper, which kills one after the other. It takes an idle connection
//! of any of them, or opens one with a spare permit, or takes the next one that is returned, before all who
//! wait. The first two are one connection more in use for its tenant, and need room for that like any other.
//! Should none come, because everything is busy or dead alike, the KILL has the place of one that is to be
//! killed, if no other has on any core: the server counts one connection more than the budget then, or than
//! the tenant's bound.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::dial;
use super::lease::{Connection, Ending, Leased};
use super::permit::{Counted, Permit};
use super::place::{Place, Wish};
use super::pool::PoolState;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::close::CloseReason;
use crate::core::fault;
use crate::net::{self, Stream};
use crate::telemetry::log::{self, Level};

/// How long a connection that is returned is waited for.
const RETURN_WAIT: Duration = Duration::from_millis(500);
/// How long a KILL may take. MariaDB tries for two seconds to reach a statement that is just about to
/// wait for something, before it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A connection that is to end.
struct Doomed<P: Protocol> {
    pool: Rc<PoolState<P>>,
    stream: Stream,
    session: P::Session,
    reason: CloseReason,
    counted: Counted<P>,
}

/// What a reaper works on.
pub(super) struct Reaper<P: Protocol> {
    doomed: RefCell<VecDeque<Doomed<P>>>,
    is_running: Cell<bool>,
    /// It waits for a returned connection.
    wants: Cell<bool>,
    given: RefCell<Option<Leased<P>>>,
    waker: RefCell<Option<Waker>>,
}

impl<P: Protocol> Default for Reaper<P> {
    fn default() -> Self {
        Self {
            doomed: RefCell::default(),
            is_running: Cell::default(),
            wants: Cell::default(),
            given: RefCell::default(),
            waker: RefCell::default(),
        }
    }
}

impl<P: Protocol> Reaper<P> {
    /// Whether it waits for a returned connection and gets this one.
    pub(super) fn takes(&self) -> bool {
        self.wants.replace(false)
    }

    /// Gives it the connection that it [`Self::takes`], leased to it.
    pub(super) fn give(&self, leased: Leased<P>) {
        *self.given.borrow_mut() = Some(leased);
        self.wake();
    }

    /// Has it look again.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it is at work.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.get()
    }

    /// Reads what still comes on the connections that are to end.
    fn poll_ends(&self, site: &Upstreams<P>, cx: &mut Context<'_>) {
        for doomed in self.doomed.borrow_mut().iter_mut() {
            // Whether it was its end, the stream tells.
            let _ = dial::poll_end(site, &mut doomed.stream, &mut doomed.session, cx);
        }
    }

    fn have_all_ended(&self) -> bool {
        let doomed = self.doomed.borrow();
        doomed.iter().all(|doomed| doomed.stream.has_ended())
    }
}

/// Ends a connection that was leased. If its server still works on a statement, that is killed first.
pub(super) fn end<P: Protocol>(
    pool: &Rc<PoolState<P>>,
    connection: Connection<P>,
    reason: CloseReason,
) {
    let is_over = P::is_idle(&connection.session) || connection.stream.has_ended();
    if is_over || !P::KILLS {
        return dial::close(&pool.endpoint, connection, reason);
    }
    let Connection {
        stream,
        session,
        permit,
        ..
    } = connection;
    pool.reaper.doomed.borrow_mut().push_back(Doomed {
        pool: Rc::clone(pool),
        stream,
        session,
        reason,
        counted: Counted::Permit(permit),
    });
    if pool.reaper.is_running.replace(true) {
        return;
    }
    let running = Running {
        pool: Rc::clone(pool),
    };
    net::spawn("upstream kill", async move { running.reap().await }).detach();
}

/// A reaper at work. However it ends, nothing is left that waits for it.
struct Running<P: Protocol> {
    pool: Rc<PoolState<P>>,
}

/// The connection that KILL is said on.
enum Hand<P: Protocol> {
    /// Leased from the pool.
    Leased(Leased<P>),
    /// Opened for this; it joins a pool.
    Opened(Rc<PoolState<P>>, Box<Connection<P>>),
}

impl<P: Protocol> Hand<P> {
    fn connection(&mut self) -> &mut Connection<P> {
        match self {
            Self::Leased(leased) => leased.connection_mut(),
            Self::Opened(_, connection) => connection,
        }
    }
}

impl<P: Protocol> Running<P> {
    async fn reap(&self) {
        while self.has_work() {
            let error = match self.obtain().await {
                Ok(Some(hand)) => self.kill_all(hand).await.err(),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                // Whatever it is, it is no better for the others.
                self.give_up(&error);
            }
        }
    }

    /// Closes what needs no KILL any more; whether anything else is left.
    fn has_work(&self) -> bool {
        let (ended, left): (VecDeque<_>, VecDeque<_>) = self
            .pool
            .reaper
            .doomed
            .take()
            .into_iter()
            .partition(|doomed| doomed.stream.has_ended());
        let has_work = !left.is_empty();
        *self.pool.reaper.doomed.borrow_mut() = left;
        ended.into_iter().for_each(|doomed| self.close(doomed));
        has_work
    }

    /// A connection to say KILL on; `None` if there may be none that needs it any more.
    async fn obtain(&self) -> Result<Option<Hand<P>>, String> {
        // Nobody else is to lack a connection because this tenant has more than its bound.
        if self.pool.endpoint.gate.borrow().room(self.pool.id) > 0 {
            if let Some(leased) = self.take_idle() {
                return Ok(Some(Hand::Leased(leased)));
            }
            if let Some(permit) = Permit::take(&self.pool.endpoint, &self.pool.key.tenant) {
                return self.open(Rc::clone(&self.pool), permit).await.map(Some);
            }
        }
        let mut wish = None;
        if let Some(leased) = self.wait_for_return(&mut wish).await {
            return Ok(Some(Hand::Leased(leased)));
        }
        let taken = self.take_place();
        drop(wish);
        let Some((pool, permit)) = taken else {
            return Ok(None);
        };
        // There was no room for it, and is now, as the permit of one that is to be killed goes.
        if let Some(leased) = self.take_idle() {
            drop(permit);
            return Ok(Some(Hand::Leased(leased)));
        }
        self.open(pool, permit).await.map(Some)
    }

    /// An idle connection of the account.
    fn take_idle(&self) -> Option<Leased<P>> {
        let kin = self.kin();
        kin.iter().find_map(|pool| pool.take_idle(0, false))
    }

    /// The pools of the account.
    fn kin(&self) -> Vec<Rc<PoolState<P>>> {
        let pools = self.pool.endpoint.pools.borrow();
        let key = &self.pool.key;
        let kin = pools.all().filter(|pool| pool.key.has_account_of(key));
        kin.cloned().collect()
    }

    /// Whether a connection of the account is in use, or will be, that may be returned.
    fn may_get_returned(&self) -> bool {
        let mut counts = self.kin().into_iter().map(|pool| pool.counts());
        counts.any(|counts| counts.leased > 0 || counts.connecting > 0)
    }

    /// The permit of one that is to be killed, with the pool that is to have what is opened with it.
    fn take_place(&self) -> Option<(Rc<PoolState<P>>, Permit<P>)> {
        let mut doomed = self.pool.reaper.doomed.borrow_mut();
        let mut alive = doomed.iter_mut().filter(|doomed| {
            !doomed.stream.has_ended() && matches!(doomed.counted, Counted::Permit(_))
        });
        let doomed = alive.next()?;
        let place = Place::take(&self.pool.endpoint)?;
        doomed.stream.shutdown_write();
        match std::mem::replace(&mut doomed.counted, Counted::Place(place)) {
            Counted::Permit(permit) => Some((Rc::clone(&doomed.pool), permit)),
            Counted::Place(_) => None,
        }
    }

    /// Opens a connection. It has the time that any other has: a statement that is not killed goes on
    /// with its locks, which is worse than a late KILL.
    async fn open(&self, pool: Rc<PoolState<P>>, permit: Permit<P>) -> Result<Hand<P>, String> {
        let mut dialled = pin!(dial::dial(&pool));
        let connection = poll_fn(|cx| {
            self.pool.reaper.poll_ends(&self.pool.endpoint.site, cx);
            let connection = dialled.as_mut().poll(cx);
            connection.map_err(|error| error.text)
        });
        let (stream, session) = connection.await?;
        fault::point("kill.opened");
        self.pool.endpoint.metrics.connects.inc();
        let connection = Connection::new(stream, session, permit);
        Ok(Hand::Opened(Rc::clone(&pool), connection))
    }

    /// The next connection of the account that is returned, before all who wait there; `None` if there was
    /// none in time and the place of one that is to be killed is free, or if all have ended. The `wish`
    /// holds that place for the caller, who drops it when he has it or wants it no more.
    async fn wait_for_return(&self, wish: &mut Option<Wish<P>>) -> Option<Leased<P>> {
        let (reaper, endpoint) = (&self.pool.reaper, &self.pool.endpoint);
        let net = &endpoint.site.core.net;
        let mut timer = net.timer();
        timer.set(net.now().plus(RETURN_WAIT));
        // With a budget of one, or a bound, nothing can be returned.
        let mut has_waited = !self.may_get_returned();
        reaper.wants.set(true);
        let leased = poll_fn(|cx| {
            if let Some(leased) = reaper.given.take() {
                return Poll::Ready(Some(leased));
            }
            *reaper.waker.borrow_mut() = Some(cx.waker().clone());
            reaper.poll_ends(&endpoint.site, cx);
            if reaper.have_all_ended() {
                return Poll::Ready(None);
            }
            has_waited = has_waited || timer.poll(cx).is_ready();
            if !has_waited {
                return Poll::Pending;
            }
            let wish = wish.get_or_insert_with(|| Wish::new(endpoint));
            wish.poll(cx).map(|()| None)
        });
        let leased = leased.await;
        reaper.wants.set(false);
        fault::point("kill.waited");
        leased
    }

    /// Has the server kill all that is to end, while there is any.
    async fn kill_all(&self, mut hand: Hand<P>) -> Result<(), String> {
        let result = loop {
            let next = self.pool.reaper.doomed.borrow_mut().pop_front();
            let Some(doomed) = next else { break Ok(()) };
            let killed = self.kill(hand.connection(), &doomed).await;
            fault::point("kill.done");
            self.close(doomed);
            match killed {
                Ok(()) => {}
                Err(error) if P::is_idle(&hand.connection().session) => self.count_failure(&error),
                Err(error) => {
                    self.count_failure(&error);
                    break Err(error);
                }
            }
        };
        self.let_go(hand);
        result
    }

    /// Says KILL and takes in the answer. The connection is idle again if there was one.
    async fn kill(&self, connection: &mut Connection<P>, doomed: &Doomed<P>) -> Result<(), String> {
        // The kernel may know of the end before the ring has told it.
        if doomed.stream.has_ended() || doomed.stream.peer_addr().is_err() {
            return Ok(());
        }
        if connection.stream.peer_addr().is_err() {
            return Err("the connection for it has ended".to_owned());
        }
        if !doomed.stream.is_to_server_of(&connection.stream) {
            // Another server's connection of that number is somebody else's.
            return Err("the other connection is to another server".to_owned());
        }
        let mut out = Vec::new();
        P::begin_kill(&mut connection.session, &doomed.session, &mut out);
        connection.stream.send_bytes(&out);
        fault::point("kill.sent");
        self.pool.endpoint.metrics.kills.inc();
        let mut timer = self.pool.endpoint.site.core.net.timer();
        timer.set(self.pool.endpoint.site.core.net.now().plus(ANSWER_LIMIT));
        loop {
            let received = poll_fn(|cx| {
                self.pool.reaper.poll_ends(&self.pool.endpoint.site, cx);
                if let Poll::Ready(received) = connection.stream.poll_receive(cx) {
                    return Poll::Ready(received.map_err(|error| error.to_string()));
                }
                let error = || Err("no answer to KILL in time".to_owned());
                timer.poll(cx).map(|()| error())
            });
            let Some(mut buf) = received.await? else {
                return Err("the other connection was lost".to_owned());
            };
            let answered = P::on_kill_reply(&mut connection.session, &mut buf);
            self.pool.endpoint.site.tell_others();
            if answered? {
                return Ok(());
            }
        }
    }

    /// Gives the connection that KILL was said on to the pool, or closes it.
    fn let_go(&self, hand: Hand<P>) {
        match hand {
            Hand::Leased(leased) if P::is_idle(&leased.connection().session) => {
                leased.end(Ending::Return);
            }
            // Not killed in its turn: a server that does not answer one KILL answers no other.
            Hand::Leased(leased) => leased.end(Ending::Close(CloseReason::UpstreamLost)),
            Hand::Opened(pool, connection) if P::is_idle(&connection.session) => {
                pool.adopt(connection);
            }
            Hand::Opened(pool, connection) => {
                let reason = CloseReason::UpstreamLost;
                dial::close(&pool.endpoint, *connection, reason);
            }
        }
    }

    /// Closes all that is to end without a KILL: the server finds out when it next writes there.
    fn give_up(&self, error: &str) {
        for doomed in self.pool.reaper.doomed.take() {
            self.count_failure(error);
            self.close(doomed);
        }
    }

    fn close(&self, doomed: Doomed<P>) {
        let Doomed {
            pool,
            stream,
            session,
            reason,
            counted,
        } = doomed;
        dial::close_with(&pool.endpoint, stream, session, reason, Some(counted));
    }

    fn count_failure(&self, error: &str) {
        let endpoint = &self.pool.endpoint;
        endpoint.metrics.kill_failures.inc();
        let kind = [("endpoint", &*endpoint.name.address)];
        log::often(
            Level::Warn,
            "statement not killed",
            &kind,
            &[("error", &error)],
        );
    }
}

impl<P: Protocol> Drop for Running<P> {
    fn drop(&mut self) {
        if self.pool.endpoint.site.core.is_over() {
            return;
        }
        let reaper = &self.pool.reaper;
        reaper.is_running.set(false);
        reaper.wants.set(false);
        let given = reaper.given.take();
        if let Some(leased) = given {
            leased.end(Ending::Return);
        }
        let left = reaper.doomed.take();
        left.into_iter().for_each(|doomed| self.close(doomed));
        self.pool.endpoint.site.core.kick();
    }
}
