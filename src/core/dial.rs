//! Making and ending upstream connections.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::endpoint::{EndpointState, PoolState, UpstreamConnection};
use super::fault;
use super::permit::Permit;
use super::world::World;
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::net::{self, Buf, Stream, Timer};
use crate::session::mysql::connect::{Connect, ConnectStep, ServerFacts};
use crate::session::mysql::state::Vector;
use crate::session::mysql::upstream::{LoginFacts, Upstream};
use crate::wire::mysql::charset;
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com};
use crate::wire::mysql::frame::{HEADER_LEN, Header};

/// Makes the server report every change of session state, so that pools know what a connection is
/// in. Both families know the first two; MySQL rejects nothing here either.
const TRACK_EVERYTHING: &[u8] =
    b"SET session_track_schema=1,session_track_state_change=1,session_track_system_variables='*'";

/// The longest packet of a login that is read.
const LOGIN_PACKET_MAX: usize = 64 * 1024;

/// How long a connection that ends may take to be seen closed by the server, before its permit is
/// free. The server counts it until then.
const CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// How much longer the permit is held after that: a server sends its FIN before it takes the
/// connection out of its count.
const CLOSE_SETTLE: std::time::Duration = std::time::Duration::from_millis(2);

/// Why no connection was made.
#[derive(Debug)]
pub(super) struct DialError {
    reason: CloseReason,
    pub(super) text: String,
}

impl DialError {
    fn new(reason: CloseReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }
}

/// Starts a connect for `pool` with a permit for it.
pub(super) fn start(world: &Rc<World>, pool: &Rc<PoolState>, permit: Permit) {
    let world = Rc::clone(world);
    let connecting = Connecting::new(pool);
    net::spawn("upstream connect", async move {
        let began = world.net.now();
        let result = dial(&world, &connecting.pool).await;
        fault::point("dial.done");
        match result {
            Ok(opened) => joined(&world, connecting, began, opened, permit),
            Err(error) => failed(&world, connecting, &error, permit),
        }
    })
    .detach();
}

/// A connect that its pool counts until it is over, by a panic too.
struct Connecting {
    pool: Rc<PoolState>,
    is_joining: bool,
}

impl Connecting {
    fn new(pool: &Rc<PoolState>) -> Self {
        pool.pool.borrow_mut().connect_started();
        Self {
            pool: Rc::clone(pool),
            is_joining: false,
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.is_joining {
            self.pool.pool.borrow_mut().connect_failed();
        }
    }
}

/// What a connect gives.
pub(super) struct Opened {
    stream: Stream,
    session: Upstream,
}

impl Opened {
    /// With the permit that it was opened with.
    pub(super) fn with(self, permit: Permit) -> Box<UpstreamConnection> {
        UpstreamConnection::new(self.stream, self.session, permit)
    }
}

fn joined(
    world: &Rc<World>,
    mut connecting: Connecting,
    began: Now,
    opened: Opened,
    permit: Permit,
) {
    let now = world.net.now();
    let pool = Rc::clone(&connecting.pool);
    let endpoint = &pool.endpoint;
    endpoint.backoff.borrow_mut().on_success();
    endpoint.metrics.connects.inc();
    endpoint.metrics.connect_time.record(now.since(began));
    let connection = opened.with(permit);
    let ended = {
        let mut inner = pool.pool.borrow_mut();
        connecting.is_joining = true;
        inner.connected(connection, now, &mut world.prng.borrow_mut())
    };
    pool.place(world, ended);
    endpoint.settle(world);
}

fn failed(world: &Rc<World>, connecting: Connecting, error: &DialError, permit: Permit) {
    let now = world.net.now();
    let pool = Rc::clone(&connecting.pool);
    let endpoint = &pool.endpoint;
    endpoint.metrics.connect_failures.inc();
    crate::log!(
        Warn,
        "upstream connect failed",
        endpoint = endpoint.name,
        reason = error.reason.label(),
        error = error.text
    );
    drop(connecting);
    let mut prng = world.prng.borrow_mut();
    endpoint.backoff.borrow_mut().on_failure(now, &mut prng);
    drop(prng);
    endpoint.fail_hopeless(now);
    // Not before: what it lets begin has to know of the failure.
    drop(permit);
    world.kick();
}

/// Makes a connection for `pool`; the caller holds the permit for it.
///
/// # Errors
/// Why none of the endpoint's addresses gave one.
pub(super) async fn dial(world: &Rc<World>, pool: &Rc<PoolState>) -> Result<Opened, DialError> {
    let deadlines = world.replica().snapshot.deadlines.clone();
    let began = world.net.now();
    let total = began.plus(deadlines.connect_total);
    let addresses = pool.endpoint.addresses.borrow().clone();
    let mut last = DialError::new(CloseReason::UpstreamConnect, "no address is known");
    for address in addresses {
        let deadline = total.min(world.net.now().plus(deadlines.connect));
        match connect(world, pool, address, deadline).await {
            Ok(stream) => {
                let until = world.net.now().plus(deadlines.upstream_login);
                return login(world, pool, stream, until).await;
            }
            Err(error) => last = error,
        }
        if total.is_over(world.net.now()) {
            break;
        }
    }
    Err(last)
}

async fn connect(
    world: &World,
    pool: &PoolState,
    address: SocketAddr,
    deadline: Deadline,
) -> Result<Stream, DialError> {
    let mut connecting = world.net.connect(address, &pool.endpoint.socket);
    let mut timer = world.net.timer();
    timer.set(deadline);
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connecting).poll(cx) {
            if let Ok(stream) = &result {
                let metrics = &pool.endpoint.metrics;
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

/// Logs in and switches the server's tracking on.
async fn login(
    world: &World,
    pool: &PoolState,
    stream: Stream,
    deadline: Deadline,
) -> Result<Opened, DialError> {
    let mut timer = world.net.timer();
    timer.set(deadline);
    let mut packets = Packets {
        stream,
        buf: None,
        partial: Vec::new(),
    };
    let mut connect = Connect::new(std::sync::Arc::clone(&pool.login));
    let mut out = Vec::new();
    let facts = loop {
        let (seq, payload) = packets.next(&mut timer).await?;
        let step = connect
            .on_packet(seq, &payload, &mut out)
            .map_err(|error| DialError::new(CloseReason::UpstreamDenied, error.to_string()))?;
        packets.stream.send_bytes(&out);
        out.clear();
        if let ConnectStep::Done(facts) = step {
            break facts;
        }
    };
    packet(&mut out, 0, |out| {
        encode_text_command(out, com::QUERY, TRACK_EVERYTHING);
    });
    packets.stream.send_bytes(&out);
    let (_, reply) = packets.next(&mut timer).await?;
    if reply.first() != Some(&0) {
        // Without the trackers no connection could be shared safely.
        let text = "the server cannot report session state (MySQL 5.7 or MariaDB 10.2 can)";
        return Err(DialError::new(CloseReason::UpstreamProtocol, text));
    }
    if packets.buf.is_some() || !packets.partial.is_empty() {
        let text = "the server sent more than the login's end";
        return Err(DialError::new(CloseReason::UpstreamProtocol, text));
    }
    let session = Upstream::new(login_facts(pool, &facts));
    let mut stream = packets.stream;
    stream.start_receiving();
    Ok(Opened { stream, session })
}

fn login_facts(pool: &PoolState, facts: &ServerFacts) -> LoginFacts {
    let collation = charset::collation(u16::from(pool.login.collation));
    let vector = collation.map_or_else(Vector::default, |collation| {
        Vector::at_login(collation.charset, collation.name)
    });
    LoginFacts {
        thread_id: facts.connection_id,
        deprecates_eof: facts.caps & caps::DEPRECATE_EOF != 0,
        vector: Rc::new(vector),
        statements_max: pool.endpoint.statements_max,
    }
}

/// Whole packets of a stream, copied: for logins, which are rare.
struct Packets {
    stream: Stream,
    buf: Option<Buf>,
    partial: Vec<u8>,
}

impl Packets {
    async fn next(&mut self, timer: &mut Timer) -> Result<(u8, Vec<u8>), DialError> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            self.buf = Some(poll_fn(|cx| self.poll_bytes(timer, cx)).await?);
        }
    }

    /// A whole packet out of what has come.
    fn take(&mut self) -> Result<Option<(u8, Vec<u8>)>, DialError> {
        if let Some(buf) = self.buf.take() {
            self.partial.extend_from_slice(&buf);
        }
        let Some(header) = Header::parse(&self.partial) else {
            return Ok(None);
        };
        if header.len > LOGIN_PACKET_MAX {
            let text = "a login packet longer than 64 KiB";
            return Err(DialError::new(CloseReason::UpstreamProtocol, text));
        }
        let whole = HEADER_LEN.saturating_add(header.len);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let rest = self.partial.split_off(whole);
        let mut packet = std::mem::replace(&mut self.partial, rest);
        packet.drain(..HEADER_LEN);
        Ok(Some((header.seq, packet)))
    }

    fn poll_bytes(
        &mut self,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Buf, DialError>> {
        if let Poll::Ready(received) = self.stream.poll_receive(cx) {
            return Poll::Ready(match received {
                Ok(Some(buf)) => Ok(buf),
                Ok(None) => {
                    let text = "the server closed the connection during login";
                    Err(DialError::new(CloseReason::UpstreamLost, text))
                }
                Err(error) => Err(DialError::new(CloseReason::UpstreamLost, error.to_string())),
            });
        }
        timer.poll(cx).map(|()| {
            let text = "the login was not done before its deadline";
            Err(DialError::new(CloseReason::UpstreamConnect, text))
        })
    }
}

/// Ends an upstream connection. Its permit is free when the server has closed it too: until then the
/// server counts it, and the budget must hold there.
pub(super) fn close(
    world: &Rc<World>,
    endpoint: &Rc<EndpointState>,
    connection: Box<UpstreamConnection>,
    reason: CloseReason,
) {
    let UpstreamConnection {
        stream,
        session,
        permit,
        ..
    } = *connection;
    close_with(world, endpoint, stream, session, reason, Some(permit));
}

/// As [`close`], of a connection whose permit another may have got.
pub(super) fn close_with(
    world: &Rc<World>,
    endpoint: &Rc<EndpointState>,
    mut stream: Stream,
    mut session: Upstream,
    reason: CloseReason,
    permit: Option<Permit>,
) {
    endpoint.metrics.closed.inc(reason);
    let world = Rc::clone(world);
    if session.is_idle() {
        let mut out = Vec::new();
        session.read_out_all(&mut out);
        stream.send_bytes(&out);
        stream.send_static(&[1, 0, 0, 0, com::QUIT]);
    }
    stream.shutdown_write();
    net::spawn("upstream close", async move {
        let mut timer = world.net.timer();
        timer.set(world.net.now().plus(CLOSE_WAIT));
        poll_fn(|cx| {
            let end = poll_end(&mut stream, &mut session, cx);
            world.wake_settled();
            match end {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => timer.poll(cx),
            }
        })
        .await;
        drop(session);
        world.wake_settled();
        drop(stream);
        timer.set(world.net.now().plus(CLOSE_SETTLE));
        poll_fn(|cx| timer.poll(cx)).await;
        fault::point("close.done");
        drop(permit);
    })
    .detach();
}

/// Reads what still comes on a connection that nobody uses any more: it belongs to nobody, but for
/// what others left behind. Ready at its end.
pub(super) fn poll_end(
    stream: &mut Stream,
    session: &mut Upstream,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        match stream.poll_receive(cx) {
            Poll::Ready(Ok(Some(mut buf))) => {
                if session.owes_read_outs() && session.salvage(&mut buf).is_err() {
                    return Poll::Ready(());
                }
            }
            Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}
