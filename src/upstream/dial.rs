//! Making and ending upstream connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::endpoint::Endpoint;
use super::lease::Connection;
use super::permit::{Counted, Permit};
use super::pool::PoolState;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::address::Address;
use crate::base::clock::{Deadline, Now};
use crate::base::close::{CloseReason, Refusal};
use crate::core::fault;
use crate::net::{self, Stream};
use crate::pool::{Pool, Sign};
use crate::telemetry::log::{self, Level};

/// How long a connection that ends may take to be seen closed by the server, before its permit is
/// free. The server counts it until then.
const CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// How much longer the permit is held after that: a server sends its FIN before it takes the
/// connection out of its count.
const CLOSE_SETTLE: std::time::Duration = std::time::Duration::from_millis(20);

/// Why no connection was made.
#[derive(Debug)]
pub struct DialError {
    reason: CloseReason,
    pub(super) text: String,
    /// The server's own number, if it has said one.
    errno: Option<u16>,
    refusal: Option<Refusal>,
}

impl DialError {
    /// With what is counted, and a sentence for the log.
    pub fn new(reason: CloseReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            errno: None,
            refusal: None,
        }
    }

    /// The same, with the server's error number.
    pub fn numbered(self, errno: Option<u16>) -> Self {
        Self { errno, ..self }
    }

    /// The same, if this is so, of the account alone.
    pub fn of_account(self, refusal: Option<Refusal>) -> Self {
        Self { refusal, ..self }
    }

    /// What it says of the endpoint.
    fn sign(&self) -> Sign {
        match self.reason {
            CloseReason::UpstreamLost => Sign::Lost,
            _ => Sign::Down,
        }
    }

    /// A line for the operator, who is to see whether it is the server or the account.
    fn log<P: Protocol>(&self, pool: &PoolState<P>) {
        let (level, event) = match self.refusal {
            Some(Refusal::Lasting) => (Level::Error, "account refused"),
            Some(Refusal::Passing) => (Level::Warn, "account full"),
            None => (Level::Warn, "upstream connect failed"),
        };
        let name = &pool.endpoint.name;
        let kind = [
            ("endpoint", &*name.address),
            ("account", &*pool.key.user),
            ("reason", self.reason.label()),
        ];
        let errno = self.errno.map(|errno| errno.to_string());
        let more: [(&str, &dyn std::fmt::Display); 4] = [
            ("placement", &name.placement),
            ("tenant", &pool.key.tenant),
            ("errno", &errno.as_deref().unwrap_or("none")),
            ("error", &self.text),
        ];
        log::often(level, event, &kind, &more);
    }
}

/// Starts a connect for `pool` with a permit for it.
pub(super) fn start<P: Protocol>(pool: &Rc<PoolState<P>>, permit: Permit<P>) {
    let connecting = Connecting::new(pool);
    net::spawn("upstream connect", async move {
        let began = connecting.pool.now();
        let result = dial(&connecting.pool).await;
        fault::point("dial.done");
        match result {
            Ok(opened) => joined(connecting, began, opened, permit),
            Err(error) => failed(connecting, &error, permit),
        }
    })
    .detach();
}

/// A connect that its pool counts until it is over, by a panic too.
struct Connecting<P: Protocol> {
    pool: Rc<PoolState<P>>,
    is_joining: bool,
}

impl<P: Protocol> Connecting<P> {
    fn new(pool: &Rc<PoolState<P>>) -> Self {
        pool.change(Pool::connect_started);
        Self {
            pool: Rc::clone(pool),
            is_joining: false,
        }
    }
}

impl<P: Protocol> Drop for Connecting<P> {
    fn drop(&mut self) {
        if !self.is_joining {
            self.pool.change(Pool::connect_failed);
        }
    }
}

/// What a connect gives: a connection without its permit.
pub(super) type Opened<P> = (Stream, <P as Protocol>::Session);

fn joined<P: Protocol>(
    mut connecting: Connecting<P>,
    began: Now,
    (stream, session): Opened<P>,
    permit: Permit<P>,
) {
    let now = connecting.pool.now();
    let pool = Rc::clone(&connecting.pool);
    let endpoint = &pool.endpoint;
    tell_of_return(&pool);
    endpoint.metrics.connects.inc();
    endpoint.metrics.connect_time.record(now.since(began));
    let connection = Connection::new(stream, session, permit);
    connecting.is_joining = true;
    let ended = {
        let mut prng = endpoint.site.core.prng.borrow_mut();
        pool.change(|pool| pool.connected(connection, now, &mut prng))
    };
    pool.place(ended);
    endpoint.settle();
}

/// Ends what failures before have begun. Who has read of them reads that they are over.
fn tell_of_return<P: Protocol>(pool: &PoolState<P>) {
    let endpoint = &pool.endpoint;
    let failures = {
        let mut backoff = endpoint.backoff.borrow_mut();
        let failures = backoff.failures();
        backoff.on_success();
        failures
    };
    let name = &endpoint.name;
    let of_endpoint = [
        ("endpoint", &*name.address),
        ("placement", &*name.placement),
    ];
    if failures > 0 {
        let core = endpoint.site.core.id.0;
        let more: [(&str, &dyn std::fmt::Display); 2] = [("failures", &failures), ("core", &core)];
        log::often(Level::Info, "endpoint is back", &of_endpoint, &more);
    }
    if pool.refusals.end().is_some() {
        let kind = [of_endpoint[0], ("account", &*pool.key.user)];
        log::often(Level::Info, "account accepted again", &kind, &[]);
    }
}

fn failed<P: Protocol>(connecting: Connecting<P>, error: &DialError, permit: Permit<P>) {
    let now = connecting.pool.now();
    let pool = Rc::clone(&connecting.pool);
    let endpoint = &pool.endpoint;
    endpoint.metrics.connect_failures.inc();
    error.log(&pool);
    drop(connecting);
    let mut prng = endpoint.site.core.prng.borrow_mut();
    match error.refusal {
        Some(refusal) => pool.refusals.note(refusal, now, &mut prng),
        None => {
            let mut backoff = endpoint.backoff.borrow_mut();
            backoff.on_failure(error.sign(), now, &mut prng);
        }
    }
    drop(prng);
    endpoint.fail_hopeless(now);
    // Not before: what it lets begin has to know of the failure.
    drop(permit);
    endpoint.site.core.kick();
}

/// Makes a connection for `pool`; the caller holds the permit for it.
///
/// # Errors
/// Why none of the endpoint's addresses gave one.
pub(super) async fn dial<P: Protocol>(pool: &Rc<PoolState<P>>) -> Result<Opened<P>, DialError> {
    let endpoint = &pool.endpoint;
    let net = &endpoint.site.core.net;
    let limits = *endpoint.site.limits.borrow();
    let total = net.now().plus(limits.total);
    let addresses = endpoint.addresses.borrow().clone();
    let mut last = DialError::new(CloseReason::UpstreamConnect, "no address is known");
    for address in addresses {
        let deadline = total.min(net.now().plus(limits.connect));
        match connect(endpoint, &address, deadline).await {
            Ok(stream) => {
                let mut timer = net.timer();
                timer.set(net.now().plus(limits.login));
                let (mut stream, session) = P::log_in(stream, &pool.login, &mut timer).await?;
                stream.start_receiving();
                return Ok((stream, session));
            }
            Err(error) => last = error,
        }
        if total.is_over(net.now()) {
            break;
        }
    }
    Err(last)
}

async fn connect<P: Protocol>(
    endpoint: &Endpoint<P>,
    address: &Address,
    deadline: Deadline,
) -> Result<Stream, DialError> {
    let net = &endpoint.site.core.net;
    let mut connecting = net.connect(address.clone(), &endpoint.socket.borrow());
    let mut timer = net.timer();
    timer.set(deadline);
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connecting).poll(cx) {
            if let Ok(stream) = &result {
                let metrics = &endpoint.metrics;
                stream.count(&metrics.received, &metrics.sent);
            }
            return Poll::Ready(result.map_err(|error| {
                DialError::new(CloseReason::UpstreamConnect, format!("{address}: {error}"))
            }));
        }
        timer.poll(cx).map(|()| {
            let text = format!("{address}: no answer before the connect deadline");
            Err(DialError::new(CloseReason::UpstreamConnect, text))
        })
    })
    .await
}

/// Ends an upstream connection. Its permit is free when the server has closed it too: until then the
/// server counts it, and the budget must hold there.
pub(super) fn close<P: Protocol>(
    endpoint: &Endpoint<P>,
    connection: Connection<P>,
    reason: CloseReason,
) {
    let Connection {
        stream,
        session,
        permit,
        ..
    } = connection;
    let counted = Some(Counted::Permit(permit));
    close_with(endpoint, stream, session, reason, counted);
}

/// As [`close`], of a connection that may have given its permit away.
pub(super) fn close_with<P: Protocol>(
    endpoint: &Endpoint<P>,
    mut stream: Stream,
    mut session: P::Session,
    reason: CloseReason,
    counted: Option<Counted<P>>,
) {
    endpoint.metrics.closed.inc(reason);
    let site = Rc::clone(&endpoint.site);
    if P::is_idle(&session) {
        let mut out = Vec::new();
        P::ask_for_what_is_left(&mut session, &mut out);
        P::part(&mut session, &mut out);
        stream.send_bytes(&out);
    }
    stream.shutdown_write();
    net::spawn("upstream close", async move {
        let net = &site.core.net;
        let mut timer = net.timer();
        timer.set(net.now().plus(CLOSE_WAIT));
        poll_fn(|cx| match poll_end(&site, &mut stream, &mut session, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.poll(cx),
        })
        .await;
        drop(session);
        site.tell_others();
        drop(stream);
        timer.set(net.now().plus(CLOSE_SETTLE));
        poll_fn(|cx| timer.poll(cx)).await;
        fault::point("close.done");
        drop(counted);
    })
    .detach();
}

/// Reads what still comes on a connection that nobody uses any more: it belongs to nobody, but for
/// what others left behind. Ready at its end.
pub(super) fn poll_end<P: Protocol>(
    site: &Upstreams<P>,
    stream: &mut Stream,
    session: &mut P::Session,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        match stream.poll_receive(cx) {
            Poll::Ready(Ok(Some(mut buf))) => {
                if P::owes(session) && site.take_owed(session, &mut buf).is_err() {
                    return Poll::Ready(());
                }
            }
            Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}
