//! Keeps `TCP_USER_TIMEOUT` for peers that are gone, and away from peers that live and do not read.
//!
//! While a peer's window is closed, Linux probes it, and ends the connection once the probing has
//! lasted for `TCP_USER_TIMEOUT`, though each probe is answered (`tcp_probe_timer`). A client that
//! lives is to be judged by `write_stall` alone, and a server that lives by what waits for it. So the
//! ring looks at connections that have sent something and then nothing for a while: where the window
//! is closed, the kernel's timeout becomes `write_stall` (a client's) or none (a server's); once it
//! has opened, or when probes go unanswered, the configured one is put back. A connection that has nothing unsent and unacknowledged is not looked at again before
//! it sends: in the steady state, and on an idle core, no system call is made for this.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::SockRef;

use super::hub::Hub;
use super::side::Side;
use super::socket::Socket;
use super::state::{State, Target};
use super::wheel::EntryId;

/// How often connections are looked at, and how long after their last send. A configured timeout must
/// be longer than twice this and the kernel's first probe (200 ms or more after the window closed).
const INTERVAL: Duration = Duration::from_millis(250);
/// Slots looked at in one turn, and the pause until the next ones.
const SLICE: usize = 1024;
const PAUSE: Duration = Duration::from_millis(1);
/// Probes without an answer after which a peer is taken for gone.
const PROBES_MAX: u8 = 2;

/// Where the look at connections is.
#[derive(Default)]
pub(super) struct WindowWatch {
    timer: Option<EntryId>,
    is_timed: bool,
    next: usize,
    /// Connections of the slots before `next` are to be looked at again.
    again: bool,
}

impl State {
    /// Sets the time of the next look, once a connection has sent that was not being watched.
    #[inline]
    pub(super) fn start_watching(&mut self) {
        if self.hub.to_prove && !self.windows.is_timed {
            self.time_look(INTERVAL);
        }
    }

    fn time_look(&mut self, after: Duration) {
        let timer = *self
            .windows
            .timer
            .get_or_insert_with(|| self.wheel.insert(Target::Windows));
        self.windows.is_timed = true;
        self.wheel.set(timer, self.hub.now.plus(after));
    }

    /// Looks at some connections.
    pub(super) fn on_window_timer(&mut self) {
        self.windows.is_timed = false;
        if self.windows.next == 0 {
            self.hub.to_prove = false;
            self.windows.again = false;
        }
        let first = self.windows.next;
        let end = self.sockets.slots().min(first + SLICE);
        for slot in first..end {
            if let Some((_, socket)) = self.sockets.at_mut(slot) {
                self.windows.again |= socket.look_at_window(&mut self.hub);
            }
        }
        if end < self.sockets.slots() {
            self.windows.next = end;
            self.time_look(PAUSE);
            return;
        }
        self.windows.next = 0;
        if self.windows.again || self.hub.to_prove {
            self.time_look(INTERVAL);
        }
    }
}

impl Socket {
    /// Notes that bytes are put to the kernel now.
    #[inline]
    pub(super) fn note_send(&mut self, hub: &mut Hub) {
        self.sent_at = hub.now;
        if !self.to_prove {
            self.to_prove = true;
            hub.to_prove = true;
        }
    }

    /// Sets the kernel's timeout to what the peer's window asks for. `true`: look again.
    fn look_at_window(&mut self, hub: &mut Hub) -> bool {
        if !self.to_prove {
            return false;
        }
        if hub.now.since(self.sent_at) < INTERVAL {
            return true;
        }
        // Not of TCP, or gone.
        let info = TcpInfo::of(&self.fd).unwrap_or_default();
        self.to_prove = info.is_under_way();
        if !info.is_closed() {
            self.restore_timeout();
            return self.to_prove;
        }
        let configured = self.user_timeout();
        if configured.is_some_and(|timeout| info.is_unanswered(timeout)) {
            self.restore_timeout();
        } else if self.lifted.is_none() {
            hub.stats.windows_closed += 1;
            self.lifted = Some(configured);
            let patience = match self.side {
                Side::Downstream => Some(hub.options.write_stall),
                Side::Upstream => None,
            };
            self.set_timeout(patience);
        }
        true
    }

    /// A figure that changes whenever the peer takes bytes, as the kernel tells: an unsent queue does not
    /// show that as long as one large send is under way.
    pub(super) fn progress(&self) -> u64 {
        if let Some(info) = TcpInfo::of(&self.fd) {
            return u64::from(info.acked);
        }
        let mut queued: libc::c_int = 0;
        // SAFETY: the request writes one integer, which lives across the call (`unix(7)`, SIOCOUTQ).
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
        u64::from(queued.unsigned_abs())
    }

    /// The configured timeout.
    fn user_timeout(&self) -> Option<Duration> {
        let current = || SockRef::from(&self.fd).tcp_user_timeout().ok().flatten();
        self.lifted.unwrap_or_else(current)
    }

    /// Puts the configured timeout back.
    pub(super) fn restore_timeout(&mut self) {
        if let Some(configured) = self.lifted.take() {
            self.set_timeout(configured);
        }
    }

    fn set_timeout(&self, timeout: Option<Duration>) {
        // Fails on a connection that is gone, which shows by itself.
        let _ = SockRef::from(&self.fd).set_tcp_user_timeout(timeout);
    }
}

/// What the kernel tells about a connection's sending half (`tcp(7)`, `TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TcpInfo {
    /// Probes of a closed window since the last acknowledgement.
    probes: u8,
    /// Segments sent and not acknowledged.
    unacked: u32,
    /// Since the last acknowledgement.
    silence: Duration,
    /// Bytes that the peer has acknowledged, the low half of their number.
    acked: u32,
    /// Bytes not yet sent.
    unsent: u32,
    /// Bytes that the peer lets us send.
    window: u32,
}

impl TcpInfo {
    /// Bytes of the kernel's `struct tcp_info` up to what is read here; Linux 5.4 has as many.
    const BYTES: usize = 232;

    fn of(fd: &OwnedFd) -> Option<Self> {
        let mut raw = [0_u8; Self::BYTES];
        let mut len = Self::BYTES as libc::socklen_t;
        // SAFETY: the kernel writes `len` bytes at most, which is what the array holds.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                raw.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        (result == 0 && len as usize == Self::BYTES).then(|| Self::read(&raw))
    }

    /// Positions are those of `struct tcp_info` in `linux/tcp.h`.
    fn read(raw: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let bytes = raw.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        Self {
            probes: raw[3],
            unacked: word(24),
            silence: Duration::from_millis(u64::from(word(56))),
            acked: word(if cfg!(target_endian = "big") {
                124
            } else {
                120
            }),
            unsent: word(144),
            window: word(228),
        }
    }

    /// Whether anything is unsent or unacknowledged.
    fn is_under_way(&self) -> bool {
        self.unsent > 0 || self.unacked > 0
    }

    /// Whether the peer lets nothing be sent. It may also have dropped what it let us send before,
    /// for want of memory.
    fn is_closed(&self) -> bool {
        (self.unsent > 0 && self.unacked == 0) || (self.unacked > 0 && self.window == 0)
    }

    /// Whether nobody has answered the probes for as long as `timeout`.
    fn is_unanswered(&self, timeout: Duration) -> bool {
        self.probes >= PROBES_MAX && self.silence >= timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn a_closed_window_is_told_from_bytes_under_way() {
        let info = |unsent, unacked, window| TcpInfo {
            unsent,
            unacked,
            window,
            ..Default::default()
        };
        for (name, info, is_under_way, is_closed) in [
            ("nothing queued", info(0, 0, 500), false, false),
            ("nothing queued, closed", info(0, 0, 0), false, false),
            ("in flight", info(0, 1, 500), true, false),
            ("more than the path takes", info(9000, 10, 500), true, false),
            ("closed", info(9000, 0, 0), true, true),
            ("too narrow for a segment", info(9000, 0, 20), true, true),
            ("dropped by the peer", info(9000, 3, 0), true, true),
        ] {
            let found = (info.is_under_way(), info.is_closed());
            assert_eq!(found, (is_under_way, is_closed), "{name}");
        }
    }

    #[test]
    fn only_silence_over_several_probes_is_no_answer() {
        let info = |probes, secs| TcpInfo {
            probes,
            silence: Duration::from_secs(secs),
            ..Default::default()
        };
        // Probes are far apart after a while: one without an answer yet says nothing.
        assert!(!info(0, 100).is_unanswered(TIMEOUT));
        assert!(!info(1, 100).is_unanswered(TIMEOUT));
        assert!(!info(5, 9).is_unanswered(TIMEOUT));
        assert!(info(2, 10).is_unanswered(TIMEOUT));
    }
}
