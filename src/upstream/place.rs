//! The node's one place beyond the budget of an endpoint: cores ask each other for it and give it by message.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::endpoint::Endpoint;
use super::lend::PeerMessage;
use super::protocol::Protocol;
use super::site::Upstreams;
use crate::base::clock::Deadline;
use crate::base::ident::{CoreId, EndpointName};
use crate::core::Drain;
use crate::net::Timer;
use crate::pool::{PlaceBody, PlaceMessage, Whereabouts};

/// When a question is put again: who has had the place may have it no more.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The right to have the server count one connection more than the budget, until a connection is killed
/// that another was opened in the place of. Dropped, it is free again, here or on a core that has asked.
/// A node has one for each endpoint.
#[must_use = "dropped, it is free again"]
pub(super) struct Place<P: Protocol>(Rc<Endpoint<P>>);

impl<P: Protocol> Place<P> {
    /// Takes it if it is free here.
    pub(super) fn take(endpoint: &Rc<Endpoint<P>>) -> Option<Self> {
        let is_taken = endpoint.place.borrow_mut().try_take();
        is_taken.then(|| Self(Rc::clone(endpoint)))
    }
}

impl<P: Protocol> Drop for Place<P> {
    fn drop(&mut self) {
        let to = self.0.place.borrow_mut().released();
        if self.0.site.core.is_over() {
            return;
        }
        self.0.give_place(to);
        self.0.wake_reapers();
    }
}

/// Somebody waits for the place: it is asked for as long as another core has it.
pub(super) struct Wish<P: Protocol> {
    endpoint: Rc<Endpoint<P>>,
    /// Whoever has it is asked at once, not when `timer` ends.
    is_new: bool,
    /// When to look and ask again.
    timer: Timer,
}

impl<P: Protocol> Wish<P> {
    pub(super) fn new(endpoint: &Rc<Endpoint<P>>) -> Self {
        endpoint.place.borrow_mut().wanted();
        Self {
            endpoint: Rc::clone(endpoint),
            is_new: true,
            timer: endpoint.site.core.net.timer(),
        }
    }

    /// Ready when the place is free here: the caller takes it before anything else does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let whereabouts = self.endpoint.place.borrow().whereabouts();
            match whereabouts {
                Whereabouts::Free => return Poll::Ready(()),
                // As soon as it has gone to another core, that one is asked.
                Whereabouts::Taken => self.is_new = true,
                Whereabouts::Away if std::mem::take(&mut self.is_new) => {
                    self.look_again_later();
                    self.endpoint.ask_for_place();
                    continue;
                }
                Whereabouts::Away => {}
            }
            // Who gives it up wakes this, but for a panic.
            if self.timer.deadline() == Deadline::NEVER {
                self.look_again_later();
            }
            if self.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer.set(Deadline::NEVER);
            self.is_new = true;
        }
    }

    fn look_again_later(&mut self) {
        let now = self.endpoint.site.core.net.now();
        self.timer.set(now.plus(ASK_AGAIN));
    }
}

impl<P: Protocol> Drop for Wish<P> {
    fn drop(&mut self) {
        self.endpoint.place.borrow_mut().not_wanted();
        if !self.endpoint.site.core.is_over() {
            self.endpoint.pass_place_on();
        }
    }
}

/// Gives back what has come for an endpoint that this core has never known.
pub(super) fn send_back<P: Protocol>(site: &Upstreams<P>, message: &PlaceMessage) {
    let to = message.from;
    if message.body == PlaceBody::Give
        && let Err(reason) = send(site, &message.endpoint, to, PlaceBody::Give)
    {
        crate::log!(Error, "place lost", core = to.0, reason = reason);
    }
}

fn send<P: Protocol>(
    site: &Upstreams<P>,
    endpoint: &EndpointName,
    to: CoreId,
    body: PlaceBody,
) -> Result<(), String> {
    let message = PlaceMessage {
        endpoint: endpoint.clone(),
        from: site.core.id,
        body,
    };
    let sent = (site.post)(to, PeerMessage::Place(message));
    sent.map_err(|refused| refused.reason)
}

impl<P: Protocol> Endpoint<P> {
    /// A message about the place.
    pub(super) fn on_place(&self, message: &PlaceMessage) {
        match message.body {
            PlaceBody::Ask => self.place.borrow_mut().asked(message.from),
            PlaceBody::Give => {
                self.place.borrow_mut().received();
                self.wake_reapers();
            }
        }
        self.pass_place_on();
    }

    fn pass_place_on(&self) {
        let to = self.place.borrow_mut().due();
        self.give_place(to);
    }

    fn give_place(&self, to: Option<CoreId>) {
        let Some(to) = to else { return };
        if let Err(reason) = send(&self.site, &self.name, to, PlaceBody::Give) {
            self.place.borrow_mut().not_given();
            crate::log!(Warn, "place not given", core = to.0, reason = reason);
        }
    }

    fn ask_for_place(&self) {
        let core = &self.site.core;
        let others = (0..core.cores).map(CoreId).filter(|to| *to != core.id);
        for to in others {
            match send(&self.site, &self.name, to, PlaceBody::Ask) {
                Ok(()) => {}
                Err(reason) if core.drain() == Drain::Serving => {
                    crate::log!(Warn, "place not asked for", core = to.0, reason = reason);
                }
                // A core that a drain has emptied may have ended with it.
                Err(_) => self.place.borrow_mut().received(),
            }
        }
    }

    fn wake_reapers(&self) {
        // What a panic has interrupted may still be borrowed here: then they look when their time is up.
        if let Ok(pools) = self.pools.try_borrow() {
            pools.all().for_each(|pool| pool.reaper.wake());
        }
    }
}
