//! A client's seat among those of its tenant: the messages between cores behind [`super::tenants`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use foldhash::fast::FixedState;

use super::super::message::{CoreMessage, Mailboxes};
use super::tenants::{Entry, TenantBody, TenantMessage, Tenants};
use super::world::World;
use crate::base::ident::CoreId;
use crate::core::Core;
use crate::core::mailbox::Undelivered;

/// What a core needs to seat clients.
pub(super) struct Seats {
    tenants: RefCell<Tenants>,
    mailboxes: Mailboxes,
    /// Clients that wait for a home's answer, and what it was.
    asking: RefCell<HashMap<u64, Option<bool>, FixedState>>,
    /// Questions and answers that a full mailbox has refused: one at most for each client that logs in.
    outbox: RefCell<VecDeque<(CoreId, TenantMessage)>>,
    /// Homes that have not been told of a change.
    untold: RefCell<BTreeSet<CoreId>>,
}

impl Seats {
    pub(super) fn new(core: &Core, mailboxes: Mailboxes) -> Self {
        Self {
            tenants: RefCell::new(Tenants::new(core.id, core.cores)),
            mailboxes,
            asking: RefCell::default(),
            outbox: RefCell::default(),
            untold: RefCell::default(),
        }
    }

    /// A message of another core.
    pub(super) fn on_message(&self, world: &World, message: TenantMessage) {
        let from = message.from;
        match message.body {
            TenantBody::Ask {
                tenant,
                count,
                client,
            } => {
                let max = world.connections_max(&tenant);
                let mut tenants = self.tenants.borrow_mut();
                let is_admitted = tenants.on_ask(from, &tenant, count, max);
                let answer = tenants.answer(client, is_admitted);
                drop(tenants);
                self.post(world, from, answer);
            }
            TenantBody::Answer {
                client,
                is_admitted,
            } => {
                if let Some(asking) = self.asking.borrow_mut().get_mut(&client) {
                    *asking = Some(is_admitted);
                }
                world.core.wake(client);
            }
            TenantBody::Count { tenant, count } => {
                self.tenants.borrow_mut().on_count(from, &tenant, count);
            }
            TenantBody::Counts(counts) => self.tenants.borrow_mut().on_counts(from, counts),
        }
    }

    /// Tells every home what is here: bounds may have come with a new configuration.
    pub(super) fn tell_all(&self, world: &World) {
        let others = self.mailboxes.ids().filter(|id| *id != world.core.id);
        self.untold.borrow_mut().extend(others);
        self.flush(world);
    }

    /// Sends what full mailboxes have refused; whether some of it is still to be sent.
    pub(super) fn flush(&self, world: &World) -> bool {
        let unsent = self.outbox.take();
        for (to, message) in unsent {
            self.post(world, to, message);
        }
        for home in self.untold.take() {
            if self.is_behind(home) {
                self.untold.borrow_mut().insert(home);
                continue;
            }
            let is_bounded = |tenant: &str| world.connections_max(tenant).is_some();
            let counts = self.tenants.borrow().counts_for(home, is_bounded);
            if let Err(Undelivered::Full(_)) = self.send(home, counts) {
                self.untold.borrow_mut().insert(home);
            }
        }
        !(self.outbox.borrow().is_empty() && self.untold.borrow().is_empty())
    }

    fn post(&self, world: &World, to: CoreId, message: TenantMessage) {
        let sent = if self.is_behind(to) {
            Err(Undelivered::Full(message))
        } else {
            self.send(to, message)
        };
        if let Err(Undelivered::Full(message)) = sent {
            self.outbox.borrow_mut().push_back((to, message));
            world.core.kick();
        }
    }

    /// Whether messages wait that must not be overtaken: the last number told is the one that counts.
    fn is_behind(&self, to: CoreId) -> bool {
        self.outbox.borrow().iter().any(|(other, _)| *other == to)
    }

    /// A core that has ended has nobody who waits for anything.
    fn send(&self, to: CoreId, message: TenantMessage) -> Result<(), Undelivered<TenantMessage>> {
        let sent = self.mailboxes.send(to, CoreMessage::Tenant(message));
        match sent {
            Err(Undelivered::Full(CoreMessage::Tenant(message))) => Err(Undelivered::Full(message)),
            _ => Ok(()),
        }
    }

    fn leave(&self, world: &World, tenant: &Arc<str>) {
        let told = self.tenants.borrow_mut().leave(tenant);
        let Some((home, message)) = told.filter(|_| world.connections_max(tenant).is_some()) else {
            return;
        };
        if self.is_behind(home) || self.send(home, message).is_err() {
            self.untold.borrow_mut().insert(home);
            world.core.kick();
        }
    }
}

/// A client that counts among those of its tenant, until this is dropped.
pub(super) struct Seat {
    world: Rc<World>,
    tenant: Arc<str>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.world.seats.leave(&self.world, &self.tenant);
    }
}

/// A client on its way to a seat.
pub(super) struct Seating {
    client: u64,
    seat: Cell<Option<Seat>>,
    world: Rc<World>,
}

impl Seating {
    /// Asks for a seat of `tenant` for the client with this number.
    pub(super) fn begin(world: &Rc<World>, tenant: &Arc<str>, client: u64) -> Self {
        let max = world.connections_max(tenant);
        let seats = &world.seats;
        let entry = seats.tenants.borrow_mut().enter(tenant, max, client);
        let answer = match &entry {
            Entry::Decided(is_admitted) => Some(*is_admitted),
            Entry::Ask(..) => None,
        };
        seats.asking.borrow_mut().insert(client, answer);
        if let Entry::Ask(home, message) = entry {
            seats.post(world, home, message);
        }
        let seat = Seat {
            world: Rc::clone(world),
            tenant: Arc::clone(tenant),
        };
        Self {
            client,
            seat: Cell::new(Some(seat)),
            world: Rc::clone(world),
        }
    }

    /// The seat, or `None` when the tenant has no more. The client's task is woken by its number.
    pub(super) fn poll(&self) -> Poll<Option<Seat>> {
        let answer = self.world.seats.asking.borrow().get(&self.client).copied();
        match answer.flatten() {
            Some(is_admitted) => Poll::Ready(self.seat.take().filter(|_| is_admitted)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Seating {
    fn drop(&mut self) {
        self.world.seats.asking.borrow_mut().remove(&self.client);
    }
}
