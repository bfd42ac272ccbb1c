//! A listener on one core: accepts clients, admits them, counts how they end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::client::{Client, End};
use super::front::StreamFront;
use super::login;
use super::world::{Drain, World};
use crate::base::close::CloseReason;
use crate::base::codes::{Event, code, message};
use crate::net::{self, Acceptor, SocketOptions, Stream};
use crate::telemetry::metrics::DoorSeries;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::response::{ErrPacket, encode_err};

/// One listener's side on one core.
pub(super) struct Door {
    pub(super) name: Arc<str>,
    pub(super) metrics: Rc<DoorSeries>,
    /// This core's part of the listener's connection limit.
    pub(super) connections_max: u32,
    pub(super) socket: SocketOptions,
    open: Cell<u32>,
}

impl Door {
    pub(super) fn new(
        name: Arc<str>,
        metrics: Rc<DoorSeries>,
        connections_max: u32,
        socket: SocketOptions,
    ) -> Rc<Self> {
        Rc::new(Self {
            name,
            metrics,
            connections_max,
            socket,
            open: Cell::new(0),
        })
    }
}

/// Accepts until the core drains.
pub(super) async fn accept(world: Rc<World>, door: Rc<Door>, mut acceptor: Acceptor) {
    let (number, _) = world.new_client();
    loop {
        let accepted = poll_fn(|cx| {
            if world.drain() != Drain::Serving {
                return Poll::Ready(None);
            }
            world.enter(number, cx.waker());
            acceptor.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => break,
            Some(Ok((stream, peer))) => {
                door.metrics.accepted.inc();
                stream.count(&door.metrics.received, &door.metrics.sent);
                let is_full = door.open.get() >= door.connections_max || stream.is_reserved();
                if is_full || stream.set_options(&door.socket).is_err() {
                    turn_away(&door, stream);
                    continue;
                }
                let guard = Open::new(&door);
                let login = login::enter(Rc::clone(&world), Rc::clone(&door), stream, peer);
                net::spawn("mysql client", serve(guard, Box::pin(login))).detach();
            }
            Some(Err(error)) => {
                crate::log!(Error, "listener failed", door = door.name, error = error);
                break;
            }
        }
    }
    world.leave(number);
    acceptor.stop();
}

/// A client's task. The login has a box of its own, so that an idle client does not hold the memory
/// that it needed.
async fn serve(mut guard: Open, login: Pin<Box<impl Future<Output = Result<Client<StreamFront>, End>>>>) {
    let mut client = match login.await {
        Ok(client) => client,
        Err(end) => {
            guard.reason = end;
            return;
        }
    };
    guard.reason = client.serve().await;
}

/// Tells a client that there is no place for it. Before a greeting an ERR has no SQLSTATE.
fn turn_away(door: &Door, mut stream: Stream) {
    door.metrics.closed.inc(CloseReason::AdmissionLimit);
    let event = Event::TooManyConnections;
    let text = message(event, "", 0);
    let err = ErrPacket {
        errno: code(event).errno,
        sqlstate: None,
        message: text.as_bytes(),
    };
    let mut out = Vec::new();
    packet(&mut out, 0, |out| encode_err(out, &err));
    stream.send_bytes(&out);
}

/// A connection's place at the door; a panic leaves the reason that it begins with.
struct Open {
    door: Rc<Door>,
    reason: CloseReason,
}

impl Open {
    fn new(door: &Rc<Door>) -> Self {
        door.open.set(door.open.get().saturating_add(1));
        door.metrics.open.inc();
        Self {
            door: Rc::clone(door),
            reason: CloseReason::Panic,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.door.open.set(self.door.open.get().saturating_sub(1));
        self.door.metrics.open.dec();
        self.door.metrics.closed.inc(self.reason);
    }
}
