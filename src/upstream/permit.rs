//! A permit in somebody's hands: as long as it is held, its connection is counted by the server.
//!
//! It is an owned value from the connect to the end of the close, so that no way out of any of it, a
//! panic included, loses it.

use std::rc::Rc;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::place::Place;
use super::protocol::Protocol;
use crate::base::ident::CoreId;
use crate::net;
use crate::pool::Counted as OfTenant;

/// The right to one connection to an endpoint; free again when this is dropped.
#[must_use = "dropped, it is free again"]
pub(super) struct Permit<P: Protocol> {
    endpoint: Rc<Endpoint<P>>,
    /// Whose it is as long as it is held.
    tenant: Option<OfTenant>,
    /// Another core has it now.
    has_left: bool,
}

impl<P: Protocol> Permit<P> {
    /// Takes a spare one for a connection of `tenant`.
    pub(super) fn take(endpoint: &Rc<Endpoint<P>>, tenant: &Arc<str>) -> Option<Self> {
        let is_taken = endpoint.permits.borrow_mut().try_take();
        is_taken.then(|| Self::new(endpoint, tenant))
    }

    /// One that has come from the core `from` together with its connection, which is of `tenant`.
    pub(super) fn received(endpoint: &Rc<Endpoint<P>>, tenant: &Arc<str>, from: CoreId) -> Self {
        endpoint.permits.borrow_mut().received(from);
        endpoint.metrics.permits_moved.inc();
        endpoint.show_permits();
        Self::new(endpoint, tenant)
    }

    fn new(endpoint: &Rc<Endpoint<P>>, tenant: &Arc<str>) -> Self {
        Self {
            endpoint: Rc::clone(endpoint),
            tenant: Some(endpoint.gate.borrow_mut().count(tenant)),
            has_left: false,
        }
    }

    /// Sends it on its way to the core `to`.
    pub(super) fn lend(self, to: CoreId) -> Travelling<P> {
        self.endpoint.permits.borrow_mut().lent(to);
        self.endpoint.show_permits();
        Travelling {
            permit: Some(self),
            to,
        }
    }
}

impl<P: Protocol> Drop for Permit<P> {
    fn drop(&mut self) {
        // What is due by this is looked at below.
        self.tenant = None;
        if self.has_left || self.endpoint.site.core.is_over() {
            return;
        }
        if !std::thread::panicking() {
            return self.endpoint.released();
        }
        // What a panic has interrupted may still be borrowed here, and is not in the next turn.
        let endpoint = Rc::clone(&self.endpoint);
        net::spawn("permit", async move { endpoint.released() }).detach();
    }
}

/// What a connection that ends holds until its server no longer counts it.
#[expect(dead_code, reason = "held for the sake of being dropped")]
pub(super) enum Counted<P: Protocol> {
    /// It is part of the budget.
    Permit(Permit<P>),
    /// Another was opened in its place.
    Place(Place<P>),
}

/// A permit on its way to another core. Dropped before it has left, it is free here.
#[must_use = "dropped, it stays here"]
pub(super) struct Travelling<P: Protocol> {
    permit: Option<Permit<P>>,
    to: CoreId,
}

impl<P: Protocol> Travelling<P> {
    /// Where it goes.
    pub(super) fn to(&self) -> CoreId {
        self.to
    }

    /// It is in the other core's mailbox.
    pub(super) fn has_left(mut self) {
        if let Some(permit) = &mut self.permit {
            permit.has_left = true;
        }
        self.permit = None;
    }

    /// It cannot leave: the other core is due it when the connection is closed.
    pub(super) fn stays(mut self) -> Option<Permit<P>> {
        let permit = self.permit.take()?;
        permit.endpoint.permits.borrow_mut().not_lent(self.to);
        permit.endpoint.show_permits();
        Some(permit)
    }
}

impl<P: Protocol> Drop for Travelling<P> {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.endpoint.permits.borrow_mut().not_lent(self.to);
        }
    }
}
