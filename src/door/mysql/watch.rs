//! What an exchange waits for: the upstream's bytes, the client's leaving, deadlines, the drain.

use std::task::{Context, Poll};
use std::time::Duration;

use super::client::Client;
use crate::base::clock::{Deadline, Now};
use crate::core::Drain;
use crate::net::Buf;

/// Bytes that may wait to be taken by a client before its upstream is no longer read.
const UNSENT_MAX: usize = 256 * 1024;
/// Upstream chunks handled before other tasks get their turn.
const CHUNKS_PER_TURN: u32 = 16;
/// How long a statement may still run after its client has closed its side: a client may do so
/// after its last statement and read the answer. What is left of a second is for the KILL.
const GONE_GRACE: Duration = Duration::from_millis(500);
/// Bytes of a long command that may wait to be taken by the upstream.
const UPSTREAM_UNSENT_MAX: usize = 256 * 1024;

/// What ends a wait within an exchange.
pub(super) enum Wake {
    /// Bytes of the reply.
    Reply(Buf),
    /// The upstream closed, or its socket failed.
    UpstreamLost,
    /// The client's socket failed, or its grace after closing is over.
    ClientGone,
    /// The statement's deadline.
    TooLong,
    /// The client takes nothing.
    Stalled,
    /// The drain's grace is over.
    Drain,
    /// Give the other tasks a turn.
    Yield,
}

/// What ends a wait while a long command is passed on.
pub(super) enum Streaming {
    /// The next bytes of the command; the upstream can take them.
    Bytes(Buf),
    /// The client closed, or its socket failed.
    ClientGone,
    /// The client does not go on with its command.
    ClientStalled,
    /// The upstream's socket failed, or takes nothing.
    UpstreamLost,
    /// The statement's deadline.
    TooLong,
    /// The drain's grace is over.
    Drain,
}

/// What the waits of one exchange need to remember.
pub(super) struct Watch {
    /// The statement's deadline.
    deadline: Deadline,
    /// Since when the client has taken nothing, and how much was unsent then.
    pub(super) stalled: Option<(Now, usize)>,
    gone_at: Option<Now>,
    chunks: u32,
}

impl Watch {
    /// Of an exchange that has until `deadline`.
    pub(super) fn new(deadline: Deadline) -> Self {
        Self {
            deadline,
            stalled: None,
            gone_at: None,
            chunks: 0,
        }
    }
}

impl Client {
    /// Until when a statement that began at `began` must be answered, its wait for a connection
    /// included.
    pub(super) fn statement_deadline(&self, began: Now) -> Deadline {
        let snapshot = &self.admitted.replica.snapshot;
        let limit = snapshot.statement_deadline(self.admitted.tenant);
        limit.map_or(Deadline::NEVER, |limit| began.plus(limit))
    }

    /// Gives both sides their time for the next piece of a long command.
    pub(super) fn set_streaming_timer(&mut self, watch: &Watch) {
        let limit = self.admitted.replica.snapshot.deadlines.write_stall;
        let stall = self.now().plus(limit);
        self.timer.set(watch.deadline.min(stall));
    }

    /// Waits until the upstream can take more of a long command and the client has sent it.
    pub(super) fn poll_streaming(
        &mut self,
        watch: &Watch,
        cx: &mut Context<'_>,
    ) -> Poll<Streaming> {
        let Some(lease) = &mut self.lease else {
            return Poll::Ready(Streaming::UpstreamLost);
        };
        let upstream = &mut lease.connection_mut().stream;
        let is_taken = match upstream.poll_unsent_below(cx, UPSTREAM_UNSENT_MAX) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(Streaming::UpstreamLost),
            Poll::Pending => false,
        };
        if is_taken && let Some(buf) = self.pending.take() {
            return Poll::Ready(Streaming::Bytes(buf));
        }
        if is_taken {
            match self.stream.poll_receive(cx) {
                Poll::Ready(Ok(Some(buf))) => return Poll::Ready(Streaming::Bytes(buf)),
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Streaming::ClientGone),
                Poll::Pending => {}
            }
        }
        if self.world.drain() == Drain::Now {
            return Poll::Ready(Streaming::Drain);
        }
        self.timer.poll(cx).map(|()| {
            if watch.deadline.is_over(self.world.net().now()) {
                Streaming::TooLong
            } else if is_taken {
                Streaming::ClientStalled
            } else {
                Streaming::UpstreamLost
            }
        })
    }

    pub(super) fn poll_exchange(&mut self, watch: &mut Watch, cx: &mut Context<'_>) -> Poll<Wake> {
        if watch.chunks >= CHUNKS_PER_TURN {
            watch.chunks = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let now = self.world.net().now();
        if let Some(event) = self.look_at_client(watch, now, cx) {
            return Poll::Ready(event);
        }
        match self.stream.poll_unsent_below(cx, UNSENT_MAX) {
            Poll::Ready(Ok(())) => {
                watch.stalled = None;
                let Some(lease) = &mut self.lease else {
                    return Poll::Ready(Wake::UpstreamLost);
                };
                match lease.connection_mut().stream.poll_receive(cx) {
                    Poll::Ready(Ok(Some(buf))) => {
                        watch.chunks = watch.chunks.saturating_add(1);
                        return Poll::Ready(Wake::Reply(buf));
                    }
                    Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Wake::UpstreamLost),
                    Poll::Pending => {}
                }
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Wake::ClientGone),
            Poll::Pending => self.note_stall(watch, now),
        }
        if self.world.drain() == Drain::Now {
            return Poll::Ready(Wake::Drain);
        }
        self.set_exchange_timer(watch);
        self.timer.poll(cx).map(|()| self.which_deadline(watch))
    }

    /// Takes in what the client sends ahead, and notices that it leaves.
    fn look_at_client(
        &mut self,
        watch: &mut Watch,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Option<Wake> {
        if watch.gone_at.is_some() {
            return None;
        }
        if self.pending.is_none() {
            match self.stream.poll_receive(cx) {
                Poll::Ready(Ok(Some(buf))) => self.pending = Some(buf),
                Poll::Ready(Ok(None)) => watch.gone_at = Some(now),
                Poll::Ready(Err(_)) => return Some(Wake::ClientGone),
                Poll::Pending => {}
            }
        }
        if self.pending.is_some() {
            // The end is also seen behind commands that were sent ahead and are still to be read.
            match self.stream.poll_end(cx) {
                Poll::Ready(Ok(())) => watch.gone_at = Some(now),
                Poll::Ready(Err(_)) => return Some(Wake::ClientGone),
                Poll::Pending => {}
            }
        }
        None
    }

    fn note_stall(&self, watch: &mut Watch, now: Now) {
        let unsent = self.stream.unsent();
        match watch.stalled {
            Some((_, before)) if before == unsent => {}
            _ => watch.stalled = Some((now, unsent)),
        }
    }

    fn stall_deadline(&self, watch: &Watch) -> Deadline {
        let limit = self.admitted.replica.snapshot.deadlines.write_stall;
        watch
            .stalled
            .map_or(Deadline::NEVER, |(since, _)| since.plus(limit))
    }

    fn set_exchange_timer(&mut self, watch: &Watch) {
        let gone = watch
            .gone_at
            .map_or(Deadline::NEVER, |since| since.plus(GONE_GRACE));
        let stall = self.stall_deadline(watch);
        let next = watch.deadline.min(gone).min(stall);
        if self.timer.deadline() != next {
            self.timer.set(next);
        }
    }

    fn which_deadline(&self, watch: &Watch) -> Wake {
        let now = self.world.net().now();
        if watch
            .gone_at
            .is_some_and(|since| since.plus(GONE_GRACE).is_over(now))
        {
            Wake::ClientGone
        } else if self.stall_deadline(watch).is_over(now) {
            Wake::Stalled
        } else if watch.deadline.is_over(now) {
            Wake::TooLong
        } else {
            Wake::Yield
        }
    }
}
