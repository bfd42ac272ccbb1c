//! Outgoing connections.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Net;
use super::slab::Key;
use super::stream::Stream;

/// A connect of a socket slot.
pub(super) struct Connect {
    /// Read by the kernel until the connect completes.
    pub(super) address: socket2::SockAddr,
    /// 0 or an errno, once completed.
    pub(super) result: Option<i32>,
}

/// A connection under way. Dropping it cancels the connect and closes the socket.
#[must_use = "a connection that is not awaited is closed again"]
pub struct Connecting {
    net: Net,
    state: Stage,
}

enum Stage {
    /// No socket could be made.
    Failed(Option<io::Error>),
    Pending(Key),
    Done,
}

impl Connecting {
    pub(super) fn new(net: Net, started: io::Result<Key>) -> Self {
        let state = match started {
            Ok(key) => Stage::Pending(key),
            Err(error) => Stage::Failed(Some(error)),
        };
        Self { net, state }
    }
}

impl Future for Connecting {
    type Output = io::Result<Stream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let key = match &mut self.state {
            Stage::Pending(key) => *key,
            Stage::Failed(error) => {
                let error = error
                    .take()
                    .unwrap_or_else(|| io::ErrorKind::NotConnected.into());
                return Poll::Ready(Err(error));
            }
            Stage::Done => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        let mut state = self.net.state();
        let Some(socket) = state.sockets.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match socket.connect.as_ref().and_then(|connect| connect.result) {
            None => {
                socket.reader.register(cx);
                Poll::Pending
            }
            Some(0) => {
                socket.connect = None;
                drop(state);
                self.state = Stage::Done;
                Poll::Ready(Ok(Stream::new(self.net.clone(), key)))
            }
            Some(errno) => {
                // The slot is released by the drop of this future.
                Poll::Ready(Err(io::Error::from_raw_os_error(errno)))
            }
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Stage::Pending(key) = self.state {
            self.net.state().orphan(key);
        }
    }
}
