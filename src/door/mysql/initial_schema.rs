//! The schema that a client names in its login: its server has the say before the login's OK, as
//! it has when there is no gateway between.
//!
//! A schema that the server has accepted for the account is not asked for again within
//! [`KNOWN_FOR`], so most logins need no upstream connection. After that it is asked for again
//! where a connection is idle; an endpoint that is busy or away does not keep out clients whose
//! schema was good before, as their statements get the server's own error if it is gone.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::client::{Client, End};
use super::exchange::Failed;
use super::upstream::{self, Leased};
use crate::base::close::CloseReason;
use crate::base::codes::{Event, code, message};
use crate::core::Drain;
use crate::net::Buf;
use crate::session::mysql::exchange::Fault;
use crate::session::mysql::login::Login;
use crate::wire::mysql::flags::status;
use crate::wire::mysql::frame::HEADER_LEN;
use crate::wire::mysql::response::decode_err;

/// How long a login's schema is taken for good after its server has accepted it.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Upstream connections tried: an idle one may turn out to be dead.
const ATTEMPTS: u8 = 2;

/// Why a login's schema was not entered.
enum Refusal {
    /// The server's own ERR, header included.
    Server(Vec<u8>),
    /// The server could not be asked.
    Gateway(Event),
    /// The client is gone.
    End(End),
    /// The upstream connection was lost.
    Lost,
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Told(event) => Self::Gateway(event),
            Failed::End(end) => Self::End(end),
        }
    }
}

impl Client {
    /// Ends the login: with OK, or with an ERR where the schema that it names cannot be entered.
    pub(super) async fn finish_login(
        &mut self,
        login: &mut Login,
        names_schema: bool,
    ) -> Result<(), End> {
        let mut out = Vec::new();
        let entered = match names_schema {
            true => self.enter_schema().await,
            false => Ok(()),
        };
        let end = match entered {
            Ok(()) => {
                login.finish_ok(status::AUTOCOMMIT, &mut out);
                None
            }
            Err(Refusal::End(end)) => Some(end),
            Err(Refusal::Server(packet)) => {
                forward(login, &packet, &mut out);
                Some(CloseReason::LoginDenied)
            }
            Err(Refusal::Gateway(event)) => {
                self.refuse_login(login, event, &mut out);
                Some(CloseReason::UpstreamConnect)
            }
            Err(Refusal::Lost) => {
                self.refuse_login(login, Event::NoEndpoint, &mut out);
                Some(CloseReason::UpstreamLost)
            }
        };
        if !out.is_empty() {
            self.stream.send_bytes(&out);
        }
        end.map_or(Ok(()), Err)
    }

    fn refuse_login(&self, login: &mut Login, event: Event, out: &mut Vec<u8>) {
        let row = code(event);
        let text = message(event, "", u64::from(self.admitted.connection_id));
        let sqlstate = String::from_utf8_lossy(&row.sqlstate);
        login.refuse(row.errno, &sqlstate, &text, out);
    }

    /// Has the server enter the session's schema, unless it has done so lately.
    async fn enter_schema(&mut self) -> Result<(), Refusal> {
        let accepted = self.world.schema_accepted(self.schema_mark());
        let Some(accepted) = accepted else {
            return self.ask_for_schema(false).await;
        };
        if self.now().since(accepted) < KNOWN_FOR {
            return Ok(());
        }
        match self.ask_for_schema(true).await {
            Err(Refusal::Gateway(_) | Refusal::Lost) => Ok(()),
            asked => asked,
        }
    }

    /// Has the server enter the session's schema; on an idle connection or not at all if
    /// `only_idle`.
    async fn ask_for_schema(&mut self, only_idle: bool) -> Result<(), Refusal> {
        let mut attempts = ATTEMPTS;
        loop {
            let acquired = match only_idle {
                true => self.acquire_idle().await,
                false => self.acquire(false).await,
            };
            self.lease = Some(acquired?);
            let result = self.move_leased().await;
            attempts = attempts.saturating_sub(1);
            match result {
                Ok(()) => {
                    let now = self.now();
                    self.world.remember_schema(self.schema_mark(), now);
                    if let Some(lease) = self.lease.take() {
                        self.give_back(lease);
                    }
                    return Ok(());
                }
                Err(refusal) => {
                    if matches!(refusal, Refusal::Server(_)) {
                        self.doubt_schema();
                    }
                    self.discard(CloseReason::StateLost);
                    if !matches!(refusal, Refusal::Lost) || attempts == 0 {
                        return Err(refusal);
                    }
                }
            }
        }
    }

    /// A connection that is idle now. Looking for one has the pool make one, if it may.
    async fn acquire_idle(&mut self) -> Result<Leased, Failed> {
        let mut acquire = pin!(self.acquire(false));
        poll_fn(|cx| {
            Poll::Ready(match acquire.as_mut().poll(cx) {
                Poll::Ready(acquired) => acquired,
                Poll::Pending => Err(Failed::Told(Event::PoolWait)),
            })
        })
        .await
    }

    /// Stands for endpoint, account and schema. Two with the same mark would only have one's
    /// unknown schema reported at the first statement.
    fn schema_mark(&self) -> u64 {
        let pool = &self.admitted.pool;
        let names = [
            pool.endpoint.name.placement.as_bytes(),
            pool.endpoint.name.address.as_bytes(),
            pool.key.user.as_bytes(),
            self.session.vector().schema().unwrap_or_default(),
        ];
        let seed = self.admitted.replica.generation;
        names.iter().fold(seed, |seed, name| {
            xxhash_rust::xxh3::xxh3_64_with_seed(name, seed)
        })
    }

    /// The server has refused the session's state: its schema may be gone.
    pub(super) fn doubt_schema(&self) {
        self.world.forget_schema(self.schema_mark());
    }

    /// Brings the leased connection into the session's state.
    async fn move_leased(&mut self) -> Result<(), Refusal> {
        let world = Rc::clone(&self.world);
        let Some(lease) = &mut self.lease else {
            return Err(Refusal::Lost);
        };
        let mut ahead = Vec::new();
        self.session
            .begin_move(&mut lease.connection_mut().session, &mut ahead);
        if !ahead.is_empty() {
            lease.connection_mut().stream.send_bytes(&ahead);
        }
        let tally = lease.connection_mut().session.take_tally();
        upstream::count(&self.admitted.pool.endpoint.metrics, tally);
        let limit = world.replica().snapshot.deadlines.pool_wait;
        self.timer.set(self.now().plus(limit));
        while !self.upstream_is_idle() {
            let mut buf = poll_fn(|cx| self.poll_move(cx)).await?;
            self.take_move(&mut buf)?;
        }
        Ok(())
    }

    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Result<Buf, Refusal>> {
        let Some(lease) = &mut self.lease else {
            return Poll::Ready(Err(Refusal::Lost));
        };
        if let Poll::Ready(received) = lease.connection_mut().stream.poll_receive(cx) {
            return Poll::Ready(match received {
                Ok(Some(buf)) => Ok(buf),
                Ok(None) | Err(_) => Err(Refusal::Lost),
            });
        }
        if self.pending.is_none() {
            match self.stream.poll_receive(cx) {
                Poll::Ready(Ok(Some(buf))) => self.pending = Some(buf),
                Poll::Ready(Ok(None) | Err(_)) => {
                    return Poll::Ready(Err(Refusal::End(CloseReason::ClientGone)));
                }
                Poll::Pending => {}
            }
        }
        if self.world.drain() == Drain::Now {
            return Poll::Ready(Err(Refusal::Gateway(Event::Drain)));
        }
        self.timer
            .poll(cx)
            .map(|()| Err(Refusal::Gateway(Event::PoolWait)))
    }

    fn take_move(&mut self, buf: &mut Buf) -> Result<(), Refusal> {
        let Some(lease) = &mut self.lease else {
            return Err(Refusal::Lost);
        };
        let scratch = &mut *self.world.scratch.borrow_mut();
        scratch.out.clear();
        scratch.upstream.clear();
        let upstream = &mut lease.connection_mut().session;
        let result = self
            .session
            .on_reply(upstream, buf, &mut scratch.out, &mut scratch.upstream);
        match result {
            Ok(_) => Ok(()),
            Err(Fault::Refused) => Err(Refusal::Server(scratch.out.own().to_vec())),
            Err(_) => Err(Refusal::Lost),
        }
    }
}

/// Refuses the login in the server's own words.
fn forward(login: &mut Login, packet: &[u8], out: &mut Vec<u8>) {
    let payload = packet.get(HEADER_LEN..).unwrap_or_default();
    match decode_err(payload) {
        Ok(err) => {
            let sqlstate = err.sqlstate.unwrap_or(*b"HY000");
            let sqlstate = String::from_utf8_lossy(&sqlstate);
            let text = String::from_utf8_lossy(err.message);
            login.refuse(err.errno, &sqlstate, &text, out);
        }
        // The walker has passed it as an ERR, so this is one cut short.
        Err(_) => {
            let row = code(Event::NoEndpoint);
            login.refuse(row.errno, "HY000", row.text, out);
        }
    }
}
