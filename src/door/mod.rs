//! Doors: what clients come in by. One folder for each protocol, and here what all doors do alike:
//! accept, admit up to a limit, count how connections end.

pub mod life;
pub mod message;
pub mod mysql;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use crate::base::address::Address;
use crate::base::close::CloseReason;
use crate::config::{Listener, Snapshot};
use crate::core::{Core, Drain};
use crate::net::{self, Acceptor, SocketOptions, Stream};
use crate::telemetry::metrics::DoorSeries;

/// What is spoken at a door.
trait Protocol: Sized + 'static {
    /// The name of a client's task, for panic reports.
    const TASK: &'static str;

    /// Serves one client to its end; why it has ended.
    fn serve(
        door: Rc<Door<Self>>,
        stream: Stream,
        peer: Address,
    ) -> impl Future<Output = CloseReason> + 'static;

    /// Tells a client that there is no place for it.
    fn turn_away(door: &Door<Self>, stream: Stream, peer: Address);
}

/// One listener's side on one core.
struct Door<P> {
    core: Rc<Core>,
    protocol: P,
    name: Arc<str>,
    metrics: Rc<DoorSeries>,
    terms: RefCell<Terms>,
    /// The listening socket does not have the options of `terms` yet.
    is_changed: Cell<bool>,
    /// The task that accepts, as the core knows it.
    number: u64,
    open: Cell<u32>,
}

/// On which terms a connection comes in: what a reload may change.
struct Terms {
    /// This core's part of the listener's connection limit.
    connections_max: u32,
    socket: SocketOptions,
}

impl Terms {
    /// Those of a listener that `cores` cores have.
    fn new(listener: &Listener, cores: u16) -> Self {
        let cores = u32::from(cores.max(1));
        Self {
            connections_max: listener.connections_max.div_ceil(cores),
            socket: SocketOptions::from(&listener.socket),
        }
    }
}

impl<P: Protocol> Door<P> {
    /// A door with nobody in it.
    fn new(
        core: &Rc<Core>,
        protocol: P,
        name: Arc<str>,
        metrics: Rc<DoorSeries>,
        listener: &Listener,
    ) -> Rc<Self> {
        let (number, _) = core.new_client();
        Rc::new(Self {
            core: Rc::clone(core),
            protocol,
            name,
            metrics,
            terms: RefCell::new(Terms::new(listener, core.cores)),
            is_changed: Cell::new(false),
            number,
            open: Cell::new(0),
        })
    }

    /// Takes over a configuration: for connections that come from now on.
    fn follow(&self, snapshot: &Snapshot) {
        let mut listeners = snapshot.listeners.iter();
        if let Some(listener) = listeners.find(|listener| *listener.name == *self.name) {
            *self.terms.borrow_mut() = Terms::new(listener, self.core.cores);
            self.is_changed.set(true);
            self.core.wake(self.number);
        }
    }

    /// Gives the listening socket its new options. Accepted sockets get theirs in any case: what one of
    /// them inherits is how far its window may ever grow.
    fn renew(&self, acceptor: &Acceptor) {
        if self.is_changed.take()
            && let Err(error) = acceptor.set_options(&self.terms.borrow().socket)
        {
            let door = &self.name;
            crate::log!(Warn, "listener_options_refused", door = door, error = error);
        }
    }

    /// Accepts until the core drains.
    ///
    /// # Errors
    /// The listener has failed: nobody comes in by it any more.
    async fn accept(self: Rc<Self>, mut acceptor: Acceptor) -> Result<(), String> {
        let core = &self.core;
        let ended = loop {
            let accepted = poll_fn(|cx| {
                if core.drain() != Drain::Serving {
                    return Poll::Ready(None);
                }
                core.enter(self.number, cx.waker());
                self.renew(&acceptor);
                acceptor.poll_accept(cx).map(Some)
            })
            .await;
            match accepted {
                None => break Ok(()),
                Some(Ok((stream, peer))) => self.admit(stream, peer),
                Some(Err(error)) => {
                    break Err(format!("listener `{}` has failed: {error}", self.name));
                }
            }
        };
        core.leave(self.number);
        acceptor.stop();
        ended
    }

    fn admit(self: &Rc<Self>, stream: Stream, peer: Address) {
        self.metrics.accepted.inc();
        stream.count(&self.metrics.received, &self.metrics.sent);
        let terms = self.terms.borrow();
        let is_full = self.open.get() >= terms.connections_max || stream.is_reserved();
        if is_full || stream.set_options(&terms.socket).is_err() {
            self.metrics.closed.inc(CloseReason::AdmissionLimit);
            return P::turn_away(self, stream, peer);
        }
        let guard = Open::new(self);
        let serving = P::serve(Rc::clone(self), stream, peer);
        net::spawn(P::TASK, async move {
            // The whole guard: its drop tells how the client has ended.
            let mut guard = guard;
            guard.reason = serving.await;
        })
        .detach();
    }
}

/// A connection's place at the door; a panic leaves the reason that it begins with.
struct Open<P> {
    door: Rc<Door<P>>,
    reason: CloseReason,
}

impl<P> Open<P> {
    fn new(door: &Rc<Door<P>>) -> Self {
        door.open.set(door.open.get().saturating_add(1));
        door.metrics.open.inc();
        Self {
            door: Rc::clone(door),
            reason: CloseReason::Panic,
        }
    }
}

impl<P> Drop for Open<P> {
    fn drop(&mut self) {
        self.door.open.set(self.door.open.get().saturating_sub(1));
        self.door.metrics.open.dec();
        self.door.metrics.closed.inc(self.reason);
    }
}
