//! The end of a socket: flush, shut down, see the peer's end, cancel, last completion, close.

use super::hub::Hub;
use super::slab::{Key, Tag};
use super::socket::{Life, Receiving, Shutdown, Socket};

/// Bytes discarded after the shutdown before the connection is ended without waiting further.
const DISCARD_MAX: usize = 64 * 1024;

impl Socket {
    /// Whether the ring owns the socket now.
    #[inline]
    pub(super) fn is_orphan(&self) -> bool {
        self.life != Life::Owned
    }

    /// The linger deadline has passed.
    pub(super) fn linger_over(&mut self, key: Key, hub: &mut Hub) {
        match self.life {
            Life::Flushing => self.give_up(key, hub),
            Life::Draining => self.life = Life::Ending,
            Life::Owned | Life::Ending => {}
        }
    }

    /// The owner is gone. The ring finishes what was queued, within the linger deadline.
    pub(super) fn orphan(&mut self, key: Key, hub: &mut Hub) {
        self.reader.forget();
        self.writer.forget();
        self.inbox.clear();
        self.unread = 0;
        self.life = Life::Flushing;
        if self.connect.is_some() || self.reset {
            self.give_up(key, hub);
            return;
        }
        if self.queue.sendable() > 0 {
            self.mark_dirty(key, hub);
        }
    }

    /// Drops what is queued and ends with a reset.
    pub(super) fn give_up(&mut self, key: Key, hub: &mut Hub) {
        self.reset = true;
        self.life = Life::Ending;
        self.queue.clear_open();
        if self.queue.is_lent() && !std::mem::replace(&mut self.send_cancelled, true) {
            hub.cancel(Tag::Send(key));
        }
        if self
            .connect
            .as_ref()
            .is_some_and(|connect| connect.result.is_none())
        {
            hub.cancel(Tag::Connect(key));
        }
    }

    /// Goes as far towards the close as is possible now. `true`: the slot can be removed, which closes
    /// the descriptor.
    pub(super) fn advance_close(&mut self, key: Key, hub: &mut Hub) -> bool {
        if self.life == Life::Flushing && self.queue.bytes() == 0 {
            self.life = Life::Draining;
            if self.shutdown == Shutdown::Open {
                self.shutdown = Shutdown::Wanted;
            }
            self.finish_shutdown();
        }
        if self.life == Life::Draining {
            // Closing with unread bytes in the kernel sends a reset, which can destroy the last
            // words the peer has not read yet. So the peer's end is awaited, within bounds.
            let over =
                self.end.is_some() || self.send_error.is_some() || self.discarded > DISCARD_MAX;
            if over {
                self.life = Life::Ending;
            } else if self.receiving == Receiving::Idle {
                self.receiving = Receiving::Armed;
                hub.receive(self.raw(), key, self.side);
            }
        }
        if self.life != Life::Ending {
            return false;
        }
        self.cancel_receive(key, hub);
        if self.is_busy() {
            return false;
        }
        if self.reset {
            let abort = Some(std::time::Duration::ZERO);
            // Fails only on what is no connection any more.
            let _ = socket2::SockRef::from(&self.fd).set_linger(abort);
        }
        true
    }
}
