//! Making and ending upstream connections.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::endpoint::{EndpointState, PoolState, UpstreamConnection};
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

/// Starts a connect for `pool`, which has taken a permit and counted it.
pub(super) fn start(world: &Rc<World>, pool: &Rc<PoolState>) {
    let (world, pool) = (Rc::clone(world), Rc::clone(pool));
    let guard = Guard {
        world: Rc::clone(&world),
        pool: Rc::clone(&pool),
        is_done: false,
    };
    net::spawn("upstream connect", async move {
        let mut guard = guard;
        let began = world.net.now();
        let result = dial(&world, &pool).await;
        guard.is_done = true;
        finish(&world, &pool, began, result);
    })
    .detach();
}

/// Frees the permit should the connect end by a panic.
struct Guard {
    world: Rc<World>,
    pool: Rc<PoolState>,
    is_done: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_done {
            self.pool.pool.borrow_mut().connect_failed();
            self.pool.endpoint.released(&self.world);
        }
    }
}

fn finish(
    world: &Rc<World>,
    pool: &Rc<PoolState>,
    began: Now,
    result: Result<UpstreamConnection, DialError>,
) {
    let endpoint = &pool.endpoint;
    let now = world.net.now();
    match result {
        Ok(connection) => {
            endpoint.backoff.borrow_mut().on_success();
            endpoint.metrics.connects.inc();
            endpoint.metrics.connect_time.record(now.since(began));
            let ended = pool.pool.borrow_mut().connected(
                Box::new(connection),
                now,
                &mut world.prng.borrow_mut(),
            );
            pool.place(world, ended);
            endpoint.settle(world);
        }
        Err(error) => {
            endpoint.metrics.connect_failures.inc();
            crate::log!(
                Warn,
                "upstream connect failed",
                endpoint = endpoint.name,
                reason = error.reason.label(),
                error = error.text
            );
            pool.pool.borrow_mut().connect_failed();
            endpoint
                .backoff
                .borrow_mut()
                .on_failure(now, &mut world.prng.borrow_mut());
            endpoint.fail_hopeless(now);
            endpoint.released(world);
            world.kick();
        }
    }
}

/// Makes a connection for `pool`; the caller has taken a permit for it.
///
/// # Errors
/// Why none of the endpoint's addresses gave one.
pub(super) async fn dial(
    world: &Rc<World>,
    pool: &Rc<PoolState>,
) -> Result<UpstreamConnection, DialError> {
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
) -> Result<UpstreamConnection, DialError> {
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
    Ok(UpstreamConnection { stream, session })
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
    let permit = Permit::held(world, endpoint);
    close_with(world, endpoint, connection, reason, Some(permit));
}

/// As [`close`], of a connection whose permit is told apart from it.
pub(super) fn close_with(
    world: &Rc<World>,
    endpoint: &Rc<EndpointState>,
    connection: Box<UpstreamConnection>,
    reason: CloseReason,
    permit: Option<Permit>,
) {
    endpoint.metrics.closed.inc(reason);
    let world = Rc::clone(world);
    let UpstreamConnection {
        mut stream,
        mut session,
    } = *connection;
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

/// A permit that a connection uses; free when this is dropped.
pub(super) struct Permit {
    world: Rc<World>,
    endpoint: Rc<EndpointState>,
    is_passed_on: bool,
}

impl Permit {
    /// Of a connection that is open or about to be opened.
    pub(super) fn held(world: &Rc<World>, endpoint: &Rc<EndpointState>) -> Self {
        Self {
            world: Rc::clone(world),
            endpoint: Rc::clone(endpoint),
            is_passed_on: false,
        }
    }

    /// Whoever has the connection now answers for it.
    pub(super) fn pass_on(mut self) {
        self.is_passed_on = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_passed_on {
            self.endpoint.released(&self.world);
        }
    }
}
