//! How a door feeds a conversation: where the client's bytes come from, and where replies go.

use std::task::{Context, Poll};

use crate::net::{Buf, Stream};
use crate::session::mysql::output::{Output, Span};

/// The client's side of a conversation.
pub(super) trait Front {
    /// The next bytes of the client; `None` after its last one.
    ///
    /// # Errors
    /// The client's connection has failed.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Buf>, Failed>>;

    /// Ready once the client has sent its last byte, whether or not all of them were taken.
    ///
    /// # Errors
    /// The client's connection has failed.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>>;

    /// Ready when at most `limit` bytes wait for the client to take them.
    ///
    /// # Errors
    /// The client's connection has failed.
    fn poll_room(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), Failed>>;

    /// Takes what is for the client: packets of our own, and spans of `reply`.
    fn send(&mut self, out: &Output, reply: Option<Buf>);

    /// Bytes that wait for the client to take them.
    fn unsent(&self) -> usize;

    /// Bytes that the client has taken so far.
    fn taken(&self) -> u64;

    /// A figure that changes whenever the client takes bytes, if more is known than `taken` tells.
    fn progress(&self) -> u64;

    /// What was sent is not complete; the client must not take it for the whole.
    fn cut(&mut self);
}

/// A client's connection has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// A MySQL client on its socket: bytes pass through as they are.
pub(super) struct StreamFront {
    stream: Stream,
    /// What came along with the login's last packet, and is still to be taken.
    early: Option<Buf>,
}

impl StreamFront {
    /// A client that has logged in, and has sent these bytes behind its login.
    pub(super) fn new(stream: Stream, early: Option<Buf>) -> Self {
        Self {
            stream,
            early: early.filter(|early| !early.is_empty()),
        }
    }

    /// The socket, and what came early on it.
    #[cfg_attr(
        not(debug_assertions),
        expect(dead_code, reason = "SQL over HTTP is to be its first user")
    )]
    pub(super) fn into_parts(self) -> (Stream, Option<Buf>) {
        (self.stream, self.early)
    }

    /// Sends bytes that no conversation has to do with: the login's end.
    pub(super) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.send_bytes(bytes);
    }
}

impl Front for StreamFront {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Buf>, Failed>> {
        if let Some(early) = self.early.take() {
            return Poll::Ready(Ok(Some(early)));
        }
        self.stream.poll_receive(cx).map(|received| match received {
            Ok(buf) => Ok(buf),
            Err(_) => Err(Failed),
        })
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.stream.poll_end(cx).map_err(|_| Failed)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), Failed>> {
        self.stream.poll_unsent_below(cx, limit).map_err(|_| Failed)
    }

    fn send(&mut self, out: &Output, mut reply: Option<Buf>) {
        send_spans(&mut self.stream, out, reply.as_mut());
    }

    fn unsent(&self) -> usize {
        self.stream.unsent()
    }

    fn taken(&self) -> u64 {
        self.stream.taken()
    }

    fn progress(&self) -> u64 {
        self.stream.progress()
    }

    fn cut(&mut self) {
        self.stream.abort_when_dropped();
    }
}

/// A reply of several pieces up to this size, bytes, is copied into one: a send of several costs more.
const JOIN_BELOW: usize = 1024;

/// Sends pieces in their order, without a copy of what merely passes, unless all of it is small: spans of
/// the input are taken out of `input`, which keeps what is behind the last of them.
pub(super) fn send_spans(stream: &mut Stream, out: &Output, mut input: Option<&mut Buf>) {
    let joins = out.spans().len() > 1 && out.len() <= JOIN_BELOW;
    let mut at = 0_usize;
    for span in out.spans() {
        match span {
            Span::Own(range) => {
                stream.send_bytes(out.own().get(range.clone()).unwrap_or_default());
            }
            Span::Input(range) => {
                let Some(input) = input.as_deref_mut() else {
                    continue;
                };
                input.advance(range.start.saturating_sub(at));
                let piece = input.split_to(range.len());
                if joins {
                    stream.send_bytes(&piece);
                } else {
                    stream.send(piece);
                }
                at = range.end;
            }
        }
    }
}
