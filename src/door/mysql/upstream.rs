//! Connections to MySQL servers, as pools need to know them: their login, what sessions leave on them,
//! KILL, and the form in which they change cores.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::known_login::{KnownLogin, KnownLogins};
use crate::base::close::CloseReason;
use crate::core::Core;
use crate::net::{Buf, Stream, Timer};
use crate::session::mysql::baseline::{
    Answer, END_TRANSACTION, KEPT, NOTHING, Realm, Realms, Scope, question,
};
use crate::session::mysql::cleanse::{ANSWER_LIMIT, TRACK_EVERYTHING};
use crate::session::mysql::connect::{
    Connect, ConnectConfig, ConnectError, ConnectStep, ServerFacts, refused,
};
use crate::session::mysql::left_behind::Settled;
use crate::session::mysql::packed::PackedUpstream;
use crate::session::mysql::state::Vector;
use crate::session::mysql::statements::Texts;
use crate::session::mysql::upstream::{LoginFacts, Tally, Upstream};
use crate::telemetry::metrics::EndpointSeries;
use crate::upstream::{self, Broken, DialError, Protocol};
use crate::wire::mysql::charset;
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com};
use crate::wire::mysql::frame::{HEADER_LEN, Header};
use crate::wire::mysql::response::decode_err;

/// The longest packet of a login that is read.
const LOGIN_PACKET_MAX: usize = 64 * 1024;

/// The server's error when the connection that is to be killed has ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// The MySQL protocol on upstream connections.
pub enum Mysql {}

/// What the connections of a pool log in with.
pub struct UpstreamLogin {
    /// Account, capabilities, collation.
    pub(super) config: Arc<ConnectConfig>,
    /// Bound of statements kept prepared on each, as [`Shared::statements_max`].
    pub(super) statements_max: Rc<Cell<usize>>,
    /// What this core knows of logins.
    pub(super) realms: Rc<Realms>,
    /// What it knows of those here.
    pub(super) known: Rc<KnownLogin>,
}

/// What the MySQL sessions of one core share.
#[derive(Default)]
pub struct Shared {
    /// Texts of prepared statements.
    pub(super) texts: RefCell<Texts>,
    /// What logins give.
    pub(super) realms: Rc<Realms>,
    /// What clients are told of that.
    pub(super) known: KnownLogins,
    /// Bound of statements kept prepared on a connection that is opened from now on.
    pub(super) statements_max: Rc<Cell<usize>>,
    /// Sessions for which the wait for another one's lease is over.
    pub(super) settled: Rc<Settled>,
}

pub(super) type Acquired = upstream::Acquired<Mysql>;
pub(super) type Connection = upstream::Connection<Mysql>;
pub(super) type Ending = upstream::Ending<Mysql>;
pub(super) type LeaseWait = upstream::LeaseWait<Mysql>;
pub(super) type EndpointState = upstream::Endpoint<Mysql>;
pub(super) type Leased = upstream::Leased<Mysql>;
pub(super) type PoolState = upstream::PoolState<Mysql>;

/// Counts what was done for a client on a leased connection.
pub(super) fn count(metrics: &EndpointSeries, tally: Tally) {
    if tally != Tally::default() {
        metrics.prepares.add(u64::from(tally.prepares));
        metrics.restores.add(u64::from(tally.restores));
    }
}

impl Protocol for Mysql {
    type Session = Upstream;
    type Packed = PackedUpstream;
    type Login = UpstreamLogin;
    type Shared = Shared;

    const KILLS: bool = true;
    const CLEANSE_LIMIT: Duration = ANSWER_LIMIT;

    async fn log_in(
        stream: Stream,
        login: &Rc<UpstreamLogin>,
        timer: &mut Timer,
    ) -> Result<(Stream, Upstream), DialError> {
        log_in(stream, login, timer).await
    }

    fn is_idle(session: &Upstream) -> bool {
        session.is_idle()
    }

    fn claim(session: &Upstream, owner: u64) {
        session.claimed_by(owner);
    }

    fn unclaim(session: &Upstream) {
        session.unclaimed();
    }

    fn holds_for(session: &Upstream, owner: u64) -> bool {
        session.holds_for(owner)
    }

    fn ask_for_what_is_left(session: &mut Upstream, out: &mut Vec<u8>) {
        session.read_out_all(out);
    }

    fn owes(session: &Upstream) -> bool {
        session.owes_read_outs()
    }

    fn take_owed(session: &mut Upstream, bytes: &mut [u8]) -> Result<bool, Broken> {
        let rest = session.salvage(bytes).map_err(|_| Broken)?;
        Ok(rest.is_empty())
    }

    fn tell_others(shared: &Shared, core: &Core) {
        if shared.settled.is_empty() {
            return;
        }
        let mut owners = Vec::new();
        shared.settled.take(&mut owners);
        // A session's number is its client's.
        owners.into_iter().for_each(|owner| core.wake(owner));
    }

    fn part(_session: &mut Upstream, out: &mut Vec<u8>) {
        out.extend_from_slice(&[1, 0, 0, 0, com::QUIT]);
    }

    fn begin_kill(session: &mut Upstream, doomed: &Upstream, out: &mut Vec<u8>) {
        session.begin_kill(doomed.thread_id, out);
    }

    fn on_kill_reply(session: &mut Upstream, bytes: &mut [u8]) -> Result<bool, String> {
        match session.on_kill_reply(bytes) {
            Ok(None) => Ok(false),
            Ok(Some(Ok(()) | Err(NO_SUCH_THREAD))) => Ok(true),
            Ok(Some(Err(errno))) => Err(format!("KILL was refused: {errno}")),
            Err(error) => Err(format!("the answer to KILL: {error:?}")),
        }
    }

    fn begin_cleanse(session: &mut Upstream, out: &mut Vec<u8>) {
        session.begin_cleanse(out);
    }

    fn on_cleanse_reply(session: &mut Upstream, bytes: &mut [u8]) -> Result<bool, String> {
        let answered = session.on_cleanse_reply(bytes);
        answered.map_err(|error| format!("{error:?}"))
    }

    fn pack(session: &Upstream) -> Option<PackedUpstream> {
        session.pack()
    }

    fn unpack(packed: PackedUpstream, shared: &Shared) -> Upstream {
        Upstream::unpack(packed, &mut shared.texts.borrow_mut(), &shared.realms)
    }

    fn joined(session: &Upstream, login: &UpstreamLogin) {
        login.known.set_first(session.baselines());
    }
}

/// Logs in and switches the server's tracking on.
async fn log_in(
    stream: Stream,
    login: &UpstreamLogin,
    timer: &mut Timer,
) -> Result<(Stream, Upstream), DialError> {
    let mut packets = Packets {
        stream,
        buf: None,
        partial: Vec::new(),
    };
    let mut connect = Connect::new(config_for(&packets.stream, &login.config));
    let mut out = Vec::new();
    let facts = loop {
        let (seq, payload) = packets.next(timer).await?;
        let step = connect
            .on_packet(seq, &payload, &mut out)
            .map_err(|error| denied(&error))?;
        packets.stream.send_bytes(&out);
        out.clear();
        if let ConnectStep::Done(facts) = step {
            break facts;
        }
    };
    let (own, globals) = (question(Scope::Session), question(Scope::Global));
    for sql in [TRACK_EVERYTHING, NOTHING, &own, &globals, KEPT] {
        packet(&mut out, 0, |out| {
            encode_text_command(out, com::QUERY, sql);
        });
    }
    packets.stream.send_bytes(&out);
    let (_, reply) = packets.next(timer).await?;
    refuse_expired(&reply)?;
    if reply.first() != Some(&0) {
        // Without the trackers no connection could be shared safely.
        let text = "the server cannot report session state (MySQL 5.7 or MariaDB 10.2 can)";
        return Err(DialError::new(CloseReason::UpstreamProtocol, text));
    }
    let (_, of_nothing) = packets.next(timer).await?;
    refuse_expired(&of_nothing)?;
    let deprecates_eof = facts.caps & caps::DEPRECATE_EOF != 0;
    let mut own = packets.values(deprecates_eof, timer).await?;
    let globals = packets.values(deprecates_eof, timer).await?;
    let kept = packets.values(deprecates_eof, timer).await?;
    if packets.buf.is_some() || !packets.partial.is_empty() {
        let text = "the server sent more than the login's end";
        return Err(DialError::new(CloseReason::UpstreamProtocol, text));
    }
    let realm = realm_of(&packets.stream, &login.config);
    let is_mysql = !facts.is_mariadb();
    let mut facts = login_facts(login, &facts, &realm);
    facts.baselines.saw_nothing_change(&of_nothing);
    if let Some(own) = own.end() {
        let base = facts
            .baselines
            .logged_in(own, kept.kept(), globals, is_mysql);
        facts.vector = Rc::new(facts.vector.with_base(base));
    }
    if is_mysql && facts.vector.is_autocommit_off() {
        packets.end_transaction(timer).await?;
    }
    login.known.set(&facts.baselines);
    Ok((packets.stream, Upstream::new(facts)))
}

/// The login's end as the pool needs to know it.
fn denied(error: &ConnectError) -> DialError {
    let denied = DialError::new(CloseReason::UpstreamDenied, error.to_string());
    let kind = error.kind;
    denied.numbered(kind.errno()).of_account(kind.of_account())
}

/// MariaDB lets in an account whose password has expired, and refuses all but SET and what changes it.
///
/// # Errors
/// It does so here.
fn refuse_expired(reply: &[u8]) -> Result<(), DialError> {
    let refusal = decode_err(reply).ok().map(|err| refused(&err));
    match refusal.filter(|refusal| refusal.kind.of_account().is_some()) {
        Some(refusal) => Err(denied(&refusal)),
        None => Ok(()),
    }
}

/// Which variables the login gets.
fn realm_of(stream: &Stream, config: &ConnectConfig) -> Realm {
    let server = stream.peer_addr().map(|address| address.to_string());
    let account = config.user.clone();
    Realm(Arc::new((server.unwrap_or_default(), account)))
}

/// What to log in with on this connection. Nobody listens in on a Unix socket: servers take the password
/// as it is there and need no key for it.
fn config_for(stream: &Stream, config: &Arc<ConnectConfig>) -> Arc<ConnectConfig> {
    if !stream.peer_addr().is_ok_and(|address| address.is_unix()) {
        return Arc::clone(config);
    }
    Arc::new(ConnectConfig {
        transport_is_private: true,
        ..ConnectConfig::clone(config)
    })
}

fn login_facts(login: &UpstreamLogin, facts: &ServerFacts, realm: &Realm) -> LoginFacts {
    let collation = charset::collation(u16::from(login.config.collation));
    let vector = collation.map_or_else(Vector::default, |collation| {
        Vector::at_login(collation.charset, collation.name)
    });
    LoginFacts {
        thread_id: facts.connection_id,
        deprecates_eof: facts.caps & caps::DEPRECATE_EOF != 0,
        vector: Rc::new(vector),
        statements_max: login.statements_max.get(),
        baselines: login.realms.of(realm),
    }
}

/// Whole packets of a stream, copied: for logins, which are rare.
struct Packets {
    stream: Stream,
    buf: Option<Buf>,
    partial: Vec<u8>,
}

impl Packets {
    /// The answer to a question for variables. A server may refuse it: what is not set then goes back
    /// to its `DEFAULT`.
    async fn values(
        &mut self,
        deprecates_eof: bool,
        timer: &mut Timer,
    ) -> Result<Answer, DialError> {
        let mut answer = Answer::new(deprecates_eof);
        loop {
            let (seq, payload) = self.next(timer).await?;
            let len = payload.len();
            let header = Header { len, seq }.encode();
            let taken = answer.take(&header).and_then(|_| answer.take(&payload));
            let is_over = taken.map_err(|error| {
                let text = format!("the answer to SHOW VARIABLES: {error:?}");
                DialError::new(CloseReason::UpstreamProtocol, text)
            })?;
            if is_over {
                return Ok(answer);
            }
        }
    }

    /// Ends the transaction that the questions have begun.
    async fn end_transaction(&mut self, timer: &mut Timer) -> Result<(), DialError> {
        let mut out = Vec::new();
        packet(&mut out, 0, |out| {
            encode_text_command(out, com::QUERY, END_TRANSACTION);
        });
        self.stream.send_bytes(&out);
        let (_, reply) = self.next(timer).await?;
        match reply.first() {
            Some(0) => Ok(()),
            _ => {
                let text = "the server does not end a transaction";
                Err(DialError::new(CloseReason::UpstreamProtocol, text))
            }
        }
    }

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
