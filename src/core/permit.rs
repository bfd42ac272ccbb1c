//! A permit in somebody's hands: as long as it is held, its connection is counted by the server.
//!
//! It is an owned value from the connect to the end of the close, so that no way out of any of it, a
//! panic included, loses it.

use std::rc::Rc;

use super::endpoint::EndpointState;
use super::world::World;
use crate::base::ident::CoreId;
use crate::net;

/// The right to one connection to an endpoint; free again when this is dropped.
#[must_use = "dropped, it is free again"]
pub(super) struct Permit {
    world: Rc<World>,
    endpoint: Rc<EndpointState>,
    /// Another core has it now.
    has_left: bool,
}

impl Permit {
    /// Takes a spare one.
    pub(super) fn take(world: &Rc<World>, endpoint: &Rc<EndpointState>) -> Option<Self> {
        let is_taken = endpoint.permits.borrow_mut().try_take();
        is_taken.then(|| Self::new(world, endpoint))
    }

    /// One that has come from the core `from` together with its connection.
    pub(super) fn received(world: &Rc<World>, endpoint: &Rc<EndpointState>, from: CoreId) -> Self {
        endpoint.permits.borrow_mut().received(from);
        endpoint.metrics.permits_moved.inc();
        endpoint.show_permits();
        Self::new(world, endpoint)
    }

    fn new(world: &Rc<World>, endpoint: &Rc<EndpointState>) -> Self {
        Self {
            world: Rc::clone(world),
            endpoint: Rc::clone(endpoint),
            has_left: false,
        }
    }

    /// Sends it on its way to the core `to`.
    pub(super) fn lend(self, to: CoreId) -> Travelling {
        self.endpoint.permits.borrow_mut().lent(to);
        self.endpoint.show_permits();
        Travelling {
            permit: Some(self),
            to,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        if !std::thread::panicking() {
            return self.endpoint.released(&self.world);
        }
        // What a panic has interrupted may still be borrowed here, and is not in the next turn.
        let (world, endpoint) = (Rc::clone(&self.world), Rc::clone(&self.endpoint));
        net::spawn("permit", async move { endpoint.released(&world) }).detach();
    }
}

/// A permit on its way to another core. Dropped before it has left, it is free here.
#[must_use = "dropped, it stays here"]
pub(super) struct Travelling {
    permit: Option<Permit>,
    to: CoreId,
}

impl Travelling {
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
    pub(super) fn stays(mut self) -> Option<Permit> {
        let permit = self.permit.take()?;
        permit.endpoint.permits.borrow_mut().not_lent(self.to);
        permit.endpoint.show_permits();
        Some(permit)
    }
}

impl Drop for Travelling {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.endpoint.permits.borrow_mut().not_lent(self.to);
        }
    }
}
