//! A client's first seconds: greeting, login, admission. All that only a login needs lives in one
//! future, which is gone by the time the client idles.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::Door;
use super::admission::{Admitted, Place};
use super::client::{Client, End};
use super::front::StreamFront;
use super::seat::{Seat, Seating};
use super::told::Newcomer;
use super::world::World;
use crate::base::address::Address;
use crate::base::clock::Deadline;
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::credential::Verifier;
use crate::config::{Snapshot, User};
use crate::core::Drain;
use crate::net::{Buf, Stream, Timer};
use crate::session::mysql::downstream::{Session, SessionFacts};
use crate::session::mysql::full_login::{RsaOutcome, RsaWork};
use crate::session::mysql::login::{
    DECOY, DEFAULT_CAPS, Login, LoginConfig, LoginError, LoginResult, LoginStep, Users,
};
use crate::session::mysql::stranger::Heard;
use crate::wire::mysql::auth;
use crate::wire::mysql::charset::{self, Collation};
use crate::wire::mysql::flags::status;
use crate::wire::mysql::frame::{HEADER_LEN, Header};

/// The longest packet of a login that is read.
const LOGIN_PACKET_MAX: usize = 128 * 1024;

/// The collation announced: utf8mb4_general_ci.
const DEFAULT_COLLATION: u16 = 45;

/// The accounts of a snapshot, with what this core has learnt of them in full logins.
struct Accounts<'a> {
    snapshot: &'a Snapshot,
    learnt:
        &'a std::collections::HashMap<Vec<u8>, (Verifier, Verifier), foldhash::fast::FixedState>,
}

impl Accounts<'_> {
    /// What an account's login is checked against: the fast form where it has been learnt.
    fn verifier<'a>(&'a self, account: &'a User) -> &'a Verifier {
        let learnt = self.learnt.get(account.name.as_bytes());
        let learnt = learnt.filter(|(stored, _)| *stored == account.verifier);
        learnt.map_or(&account.verifier, |(_, learnt)| learnt)
    }
}

impl Users for Accounts<'_> {
    fn find(&self, user: &[u8]) -> Option<(usize, &Verifier)> {
        let (index, account) = self.snapshot.users.find(user)?;
        Some((index, self.verifier(account)))
    }

    /// That of an account which the name picks: packets and work are those of accounts there are, in
    /// the proportion in which there are such, and the same for the same name on every core.
    fn decoy(&self, user: &[u8]) -> &Verifier {
        let accounts = self.snapshot.users.list();
        let count = u64::try_from(accounts.len()).unwrap_or(1).max(1);
        let picked = xxhash_rust::xxh3::xxh3_64(user) % count;
        let account = usize::try_from(picked).ok().and_then(|at| accounts.get(at));
        account.map_or(&DECOY, |account| self.verifier(account))
    }
}

/// Greets a client and logs it in.
///
/// # Errors
/// Why its connection ends.
pub(super) async fn enter(
    world: Rc<World>,
    door: Rc<Door>,
    stream: Stream,
    peer: Address,
) -> Result<Box<Client<StreamFront>>, End> {
    let (number, connection_id) = world.core.new_client();
    let mut registered = Registered {
        world: Rc::clone(&world),
        number,
        seat: None,
    };
    poll_fn(|cx| {
        world.core.enter(number, cx.waker());
        Poll::Ready(())
    })
    .await;
    let began = world.net().now();
    let mut timer = world.net().timer();
    timer.set(began.plus(world.replica().snapshot.deadlines.login));
    let mut entry = Entry {
        world: Rc::clone(&world),
        stream,
        timer,
        buf: None,
        partial: Vec::new(),
        heard: Heard::Nothing,
        newcomer: Newcomer {
            id: connection_id,
            peer,
        },
    };
    let LoggedIn {
        session,
        admitted,
        seat,
        mut login,
        names_schema,
    } = entry.log_in(&door, number).await?;
    registered.seat = Some(seat);
    let peer = entry.newcomer.peer.clone();
    let mut client = entry.into_client(session, admitted, registered);
    client.finish_login(&mut login, names_schema, &peer).await?;
    // A client pays for what it has as long as it idles.
    drop(peer);
    #[cfg(debug_assertions)]
    panic_if_asked(&client.admitted);
    door.metrics.logins.inc();
    door.metrics
        .login_time
        .record(world.net().now().since(began));
    Ok(client)
}

/// Panics for a tenant that the environment names, so that tests of a debug build can see what a
/// panic leaves behind. Release builds have nothing of it.
#[cfg(debug_assertions)]
fn panic_if_asked(admitted: &Admitted) {
    let named = std::env::var("RINGGATE_TEST_PANIC");
    let is_named = named.is_ok_and(|tenant| *tenant == *admitted.tenant_name());
    assert!(!is_named, "a panic was asked for");
}

/// A client's place in the world, given up however its task ends.
pub(super) struct Registered {
    world: Rc<World>,
    number: u64,
    /// Its place among the clients of its tenant, once it has one.
    seat: Option<Seat>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.seat = None;
        self.world.core.leave(self.number);
    }
}

/// A client whose password and place are settled; only the login's OK is still to come.
struct LoggedIn {
    session: Session,
    admitted: Admitted,
    seat: Seat,
    login: Login,
    /// The client names a schema itself.
    names_schema: bool,
}

/// A connection that has not logged in.
struct Entry {
    world: Rc<World>,
    stream: Stream,
    timer: Timer,
    buf: Option<Buf>,
    partial: Vec<u8>,
    /// What the client has begun with.
    heard: Heard,
    newcomer: Newcomer,
}

/// How a login ends without anybody logged in.
enum Failed {
    /// Said and logged already.
    Told(End),
    /// The client cannot be understood, is gone, or its time is.
    Cut(End),
}

impl From<End> for Failed {
    fn from(end: End) -> Self {
        Self::Cut(end)
    }
}

impl Entry {
    async fn log_in(&mut self, door: &Rc<Door>, number: u64) -> Result<LoggedIn, End> {
        let (Ok(nonce), Ok(switch_nonce)) = (auth::nonce(), auth::nonce()) else {
            crate::log!(Error, "no randomness for a login challenge");
            return Err(CloseReason::LoginDenied);
        };
        if let Err(end) = self.wait_for_key().await {
            return Err(self.cut(None, end, door));
        }
        let mut login = Login::new(self.login_config(), nonce, switch_nonce);
        match self.greet(&mut login, door, number).await {
            Ok((session, admitted, seat, names_schema)) => Ok(LoggedIn {
                session,
                admitted,
                seat,
                login,
                names_schema,
            }),
            Err(Failed::Told(end)) => Err(end),
            Err(Failed::Cut(end)) => Err(self.cut(Some(&mut login), end, door)),
        }
    }

    /// From the greeting to the client's place; whether it names a schema itself.
    async fn greet(
        &mut self,
        login: &mut Login,
        door: &Rc<Door>,
        number: u64,
    ) -> Result<(Session, Admitted, Seat, bool), Failed> {
        let mut out = Vec::new();
        login.greeting(status::AUTOCOMMIT, &mut out);
        self.send(&mut out);
        let result = self.verify(login, door).await?;
        self.learn(&result);
        let place = Place::find(&self.world, door, &result)
            .map_err(|event| self.refuse(login, event, CloseReason::LoginDenied, door))?;
        let facts = self.session_facts(&place, &result, number);
        let session = Session::new(facts);
        let admitted = place.admit(&self.world, &session, self.newcomer.id);
        let Some(admitted) = admitted else {
            let reason = CloseReason::UpstreamConnect;
            return Err(self.refuse(login, Event::NoEndpoint, reason, door));
        };
        let Some(seat) = self.seat(&admitted, number).await? else {
            let reason = CloseReason::AdmissionLimit;
            return Err(self.refuse(login, Event::TenantLimit, reason, door));
        };
        let named = result.schema.as_deref().unwrap_or_default();
        Ok((session, admitted, seat, !named.is_empty()))
    }

    /// The login is over without a packet that could be answered: the client is told what can be said.
    fn cut(&mut self, login: Option<&mut Login>, end: End, door: &Door) -> End {
        let event = match end {
            CloseReason::LoginTimeout => Some(Event::LoginTimeout),
            CloseReason::ClientProtocol => Some(Event::BadHandshake),
            CloseReason::Drain => Some(Event::Drain),
            _ => None,
        };
        let said = event.zip(login).map(|(event, login)| {
            let mut out = Vec::new();
            login.refuse_by(event, "", &mut out);
            self.send(&mut out);
            event
        });
        self.newcomer.ended(end, said, self.heard, door);
        end
    }

    /// Exchanges the packets of a login until it is settled who the client is.
    async fn verify(&mut self, login: &mut Login, door: &Door) -> Result<LoginResult, Failed> {
        let mut out = Vec::new();
        loop {
            let (seq, payload) = self.next_packet(login).await?;
            let replica = self.world.replica();
            let step = {
                let learnt = self.world.learnt.borrow();
                let accounts = Accounts {
                    snapshot: &replica.snapshot,
                    learnt: &learnt,
                };
                login.on_packet(seq, &payload, &accounts, &mut out)
            };
            let step = match step {
                Ok(LoginStep::NeedRsa(work)) => {
                    let outcome = self.run_rsa(work).await;
                    login.on_rsa(outcome)
                }
                other => other,
            };
            self.send(&mut out);
            match step {
                Ok(LoginStep::Done(result)) => return Ok(result),
                Ok(LoginStep::Continue | LoginStep::NeedRsa(_)) => {}
                Err(error) => return Err(self.deny(&error, door)),
            }
        }
    }

    /// A key that is being made is part of the challenge.
    async fn wait_for_key(&mut self) -> Result<(), End> {
        poll_fn(|cx| {
            if self.world.server_key.poll_settled(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.world.drain() != Drain::Serving {
                return Poll::Ready(Err(CloseReason::Drain));
            }
            self.timer.poll(cx).map(|()| Err(CloseReason::LoginTimeout))
        })
        .await
    }

    /// A place among the clients of its tenant; `None` when there are as many as may be.
    async fn seat(&mut self, admitted: &Admitted, number: u64) -> Result<Option<Seat>, End> {
        let seating = Seating::begin(&self.world, &admitted.pool.key.tenant, number);
        poll_fn(|cx| {
            if let Poll::Ready(seat) = seating.poll() {
                return Poll::Ready(Ok(seat));
            }
            if self.world.drain() != Drain::Serving {
                return Poll::Ready(Err(CloseReason::Drain));
            }
            self.timer.poll(cx).map(|()| Err(CloseReason::LoginTimeout))
        })
        .await
    }

    fn login_config(&self) -> LoginConfig {
        let peer = &self.newcomer.peer;
        let key = self.world.server_key.get();
        LoginConfig {
            server_version: Arc::clone(&self.world.server_version.borrow()),
            connection_id: self.newcomer.id,
            client_host: peer.host(),
            caps_offered: DEFAULT_CAPS,
            default_plugin: self.world.replica().snapshot.users.usual_plugin(),
            default_collation: DEFAULT_COLLATION,
            transport_is_private: peer.is_unix(),
            public_key_pem: key.as_ref().map(|key| Arc::from(key.public_pem())),
        }
    }

    fn session_facts(&self, place: &Place, result: &LoginResult, owner: u64) -> SessionFacts {
        let schema = result.schema.as_deref().filter(|schema| !schema.is_empty());
        let schema = schema.or(place.default_schema());
        let version = self.world.server_version.borrow();
        let collation = result.collation.and_then(charset::collation);
        let collation = collation.and_then(|collation| as_known_to(&version, collation));
        let vector = self.world.login_vector(collation, schema);
        let pools = &place.replica.snapshot.pools;
        SessionFacts {
            owner,
            capabilities: result.caps,
            vector,
            statements_max: usize::try_from(pools.statements_per_client_max).unwrap_or(usize::MAX),
            settled: Rc::clone(&self.world.upstreams.shared.settled),
        }
    }

    /// The private-key arithmetic of a full login takes a millisecond: not on a core.
    async fn run_rsa(&mut self, work: RsaWork) -> RsaOutcome {
        let Some(key) = self.world.server_key.get() else {
            return RsaOutcome::Refuted;
        };
        let Ok(mut job) = self.world.core.begin_job(move || work.run(&key)) else {
            return RsaOutcome::Refuted;
        };
        let outcome = poll_fn(|cx| match job.poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => self.timer.poll(cx).map(|()| None),
        });
        outcome.await.unwrap_or(RsaOutcome::Refuted)
    }

    /// Keeps what a full login proved, so that the account's next login is a fast one.
    fn learn(&self, result: &LoginResult) {
        let Some(stage2) = result.learnt else { return };
        let replica = self.world.replica();
        if let Some((_, account)) = replica.snapshot.users.find(&result.user_name) {
            let entry = (account.verifier.clone(), Verifier::Sha2(stage2));
            self.world
                .learnt
                .borrow_mut()
                .insert(result.user_name.clone(), entry);
        }
    }

    fn deny(&mut self, error: &LoginError, door: &Door) -> Failed {
        self.newcomer.denied(error, door);
        self.stream.send_bytes(&error.packet);
        Failed::Told(error.reason)
    }

    fn refuse(&mut self, login: &mut Login, event: Event, reason: End, door: &Door) -> Failed {
        self.newcomer.told(event, door);
        let mut out = Vec::new();
        login.refuse_by(event, "", &mut out);
        self.send(&mut out);
        Failed::Told(reason)
    }

    fn send(&mut self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            self.stream.send_bytes(out);
            out.clear();
        }
    }

    async fn next_packet(&mut self, login: &mut Login) -> Result<(u8, Vec<u8>), End> {
        loop {
            if let Some(buf) = self.buf.take() {
                self.partial.extend_from_slice(&buf);
                if self.heard != Heard::Packets {
                    self.heard = Heard::of(&self.partial);
                }
            }
            if let Some(header) = Header::parse(&self.partial) {
                if header.len > LOGIN_PACKET_MAX || self.heard == Heard::Tls {
                    login.passed_over(header.seq);
                    return Err(CloseReason::ClientProtocol);
                }
                let whole = HEADER_LEN.saturating_add(header.len);
                if self.partial.len() >= whole {
                    let rest = self.partial.split_off(whole);
                    let mut packet = std::mem::replace(&mut self.partial, rest);
                    packet.drain(..HEADER_LEN);
                    self.heard = Heard::Packets;
                    return Ok((header.seq, packet));
                }
            }
            let received = poll_fn(|cx| {
                if let Poll::Ready(received) = self.stream.poll_receive(cx) {
                    return Poll::Ready(match received {
                        Ok(Some(buf)) => Ok(buf),
                        Ok(None) | Err(_) => Err(CloseReason::ClientGone),
                    });
                }
                if self.world.drain() != Drain::Serving {
                    return Poll::Ready(Err(CloseReason::Drain));
                }
                self.timer.poll(cx).map(|()| Err(CloseReason::LoginTimeout))
            });
            self.buf = Some(received.await?);
        }
    }

    fn into_client(
        mut self,
        session: Session,
        admitted: Admitted,
        registered: Registered,
    ) -> Box<Client<StreamFront>> {
        self.timer.set(Deadline::NEVER);
        let early = match (self.partial.is_empty(), self.buf) {
            (true, buf) => buf,
            (false, buf) => {
                self.partial
                    .extend_from_slice(buf.as_deref().unwrap_or_default());
                Some(Buf::copied(&self.partial))
            }
        };
        let front = StreamFront::new(self.stream, early);
        // In a box of its own: the tasks around it would hold room for it more than once.
        Box::new(Client::new(
            self.world, front, session, admitted, self.timer, registered,
        ))
    }
}

/// The collation under the name that a server of this version has for it; `None` if that is the other
/// family's own, for which servers take their default.
fn as_known_to(version: &str, collation: Collation) -> Option<Collation> {
    let name = collation.name;
    if version.contains("MariaDB") {
        let is_mysqls =
            name.contains("_0900_") || name.starts_with("gb18030_") || name == "utf8mb3_tolower_ci";
        return (!is_mysqls).then_some(collation);
    }
    let is_mariadbs = name.contains("uca1400") || name.contains("_nopad_");
    // MariaDB has two of a name, and calls the one that MySQL has after it.
    let name = match name {
        "utf8mb3_croatian_mysql561_ci" => "utf8mb3_croatian_ci",
        "utf8mb4_croatian_mysql561_ci" => "utf8mb4_croatian_ci",
        name => name,
    };
    (!is_mariadbs).then_some(Collation { name, ..collation })
}
