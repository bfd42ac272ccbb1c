//! Takes receive buffers back from bytes that nobody works on, while buffers are short.
//!
//! As long as buffers are plentiful, bytes stay in those they came in. Once fewer than a quarter of a
//! side's are left, a hand goes round the sockets, a few at each turn: what waits unread, and what
//! waits behind a send that does not end, is copied out. The buffers that such a send itself holds
//! cannot be moved, so the send is cancelled, and what it has not sent is copied and sent again. A
//! byte is copied once at most; what a connection may hold unread or unsent is bounded elsewhere.
//!
//! The hand goes on while there is something to find, and rests when it has been round without an
//! event since: a core without free buffers sleeps like any other.

use std::time::Duration;

use super::hub::Hub;
use super::slab::{Key, Tag};
use super::socket::Socket;
use super::state::{State, Target};
use super::wheel::EntryId;

/// Sockets looked at in a turn.
const LOOK_MAX: usize = 256;
/// A send that has been under way for so long waits for a peer that does not read.
const STALL: Duration = Duration::from_millis(10);

/// Where the search for idle buffers is.
pub(super) struct Hand {
    next: usize,
    /// Slots to look at before the hand rests.
    left: usize,
    /// Fires when a send that was too young has had its time; made on first use.
    timer: Option<EntryId>,
    is_timed: bool,
}

impl Hand {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            left: 0,
            timer: None,
            is_timed: false,
        }
    }

    /// Whether there are slots to look at.
    pub(super) fn is_moving(&self) -> bool {
        self.left > 0
    }
}

impl State {
    /// Something has changed while buffers are short: the hand goes round once from here.
    pub(super) fn start_sparing(&mut self) {
        self.hand.left = self.sockets.slots();
    }

    /// Looks at some sockets, until buffers are not short any more.
    pub(super) fn spare_buffers(&mut self) {
        let mut is_too_young = false;
        for _ in 0..LOOK_MAX.min(self.hand.left) {
            if !self.hub.groups.is_short() {
                self.hand.left = 0;
                return;
            }
            self.hand.left -= 1;
            let slot = self.hand.next;
            self.hand.next = (slot + 1) % self.sockets.slots().max(1);
            if let Some((key, socket)) = self.sockets.at_mut(slot) {
                is_too_young |= socket.spare(key, &mut self.hub) == Spared::TooYoung;
            }
        }
        if is_too_young && !self.hand.is_timed {
            let timer = *self
                .hand
                .timer
                .get_or_insert_with(|| self.wheel.insert(Target::Hand));
            self.hand.is_timed = true;
            self.wheel.set(timer, self.hub.now.plus(STALL));
        }
    }

    /// Sends that were too young have had their time. The turn that follows looks at them.
    pub(super) fn on_hand_timer(&mut self) {
        self.hand.is_timed = false;
    }
}

/// What became of a socket's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spared {
    /// All that can be spared is.
    Done,
    /// A send holds some, and not for long yet.
    TooYoung,
}

impl Socket {
    /// Copies out what waits in buffers that are short.
    fn spare(&mut self, key: Key, hub: &mut Hub) -> Spared {
        self.spare_inbox(hub);
        if !self.queue.lends_scarce() {
            hub.stats.buffers_spared += self.queue.spare(&mut hub.small);
            return Spared::Done;
        }
        if hub.now.since(self.sent_at) < STALL {
            return Spared::TooYoung;
        }
        if !std::mem::replace(&mut self.send_cancelled, true) {
            hub.stats.sends_interrupted += 1;
            hub.cancel(Tag::Send(key));
        }
        Spared::Done
    }

    fn spare_inbox(&mut self, hub: &mut Hub) {
        if !self.inbox.iter().any(super::buffer::Buf::is_scarce) {
            return;
        }
        for mut buf in std::mem::take(&mut self.inbox) {
            if buf.is_scarce() {
                hub.stats.buffers_spared += 1;
                // A peer may send few bytes at a time: they share a copy.
                if self.inbox.back_mut().is_some_and(|last| last.append(&buf)) {
                    continue;
                }
                buf.copy_out_roomy();
            }
            self.inbox.push_back(buf);
        }
    }
}
