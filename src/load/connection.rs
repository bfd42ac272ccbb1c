//! A connection of the generator on its core's ring, whatever it speaks.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;

use super::dialogue::{Broken, Dialogue, Event};
use super::record::Failure;
use crate::base::address::Address;
use crate::base::clock::{Deadline, Now};
use crate::net::{Buf, Net, SocketOptions, Stream, Timer};

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchanged {
    /// What the peer said.
    pub(super) event: Event,
    /// When the first bytes of the answer were there, if they were not all.
    pub(super) first_byte: Option<Now>,
    /// When the last byte was there.
    pub(super) last_byte: Now,
    /// Bytes of the answer.
    pub(super) received: u64,
}

/// A connected peer.
pub(super) struct Connection {
    net: Net,
    stream: Stream,
    timer: Timer,
    dialogue: Dialogue,
    out: Vec<u8>,
}

impl Connection {
    /// Connects and logs in, until `deadline`.
    pub(super) async fn open(
        net: &Net,
        address: &Address,
        dialogue: Dialogue,
        deadline: Deadline,
    ) -> Result<Self, Broken> {
        let mut timer = net.timer();
        timer.set(deadline);
        let options = SocketOptions::default();
        let mut connecting = pin!(net.connect(address.clone(), &options));
        let connected = poll_fn(|cx| {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            timer.poll(cx).map(|()| None)
        });
        let stream = match connected.await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                let broken = Broken::new(Failure::Dial, format!("{address}: {error}"));
                let kind = error.kind();
                let lasts = matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::NotFound);
                return Err(Broken { lasts, ..broken });
            }
            None => {
                let why = format!("{address}: no connection in time");
                return Err(Broken::new(Failure::Dial, why));
            }
        };
        let has_greeting = dialogue.has_greeting();
        let mut connection = Self {
            net: net.clone(),
            stream,
            timer,
            dialogue,
            out: Vec::new(),
        };
        if has_greeting {
            connection.exchange(deadline).await?;
        }
        Ok(connection)
    }

    /// Begins the next operation.
    pub(super) fn begin(&mut self) {
        self.out.clear();
        self.dialogue.begin(&mut self.out);
        self.stream.send_bytes(&self.out);
    }

    /// Takes in the answer, until `deadline`.
    pub(super) async fn exchange(&mut self, deadline: Deadline) -> Result<Exchanged, Broken> {
        self.timer.set(deadline);
        let mut received = 0;
        let mut first_byte = None;
        loop {
            let received_now = self.receive().await?;
            let now = self.net.now();
            self.out.clear();
            let event = match received_now {
                Some(mut buf) => {
                    received += buf.len() as u64;
                    self.dialogue.on_bytes(&mut buf, &mut self.out)?
                }
                None => self.dialogue.on_end()?,
            };
            if !self.out.is_empty() {
                self.stream.send_bytes(&self.out);
            }
            if event != Event::More {
                return Ok(Exchanged {
                    event,
                    first_byte,
                    last_byte: now,
                    received,
                });
            }
            first_byte.get_or_insert(now);
        }
    }

    /// The next bytes; `None` when the peer has ended its side.
    async fn receive(&mut self) -> Result<Option<Buf>, Broken> {
        poll_fn(|cx| {
            if let Poll::Ready(received) = self.stream.poll_receive(cx) {
                let reset = |error: std::io::Error| Broken::new(Failure::Reset, error.to_string());
                return Poll::Ready(received.map_err(reset));
            }
            let over = Broken::new(Failure::Timeout, "no complete answer in time");
            self.timer.poll(cx).map(|()| Err(over))
        })
        .await
    }

    /// Ready when the connection has ended or said something unasked.
    pub(super) fn poll_disturbed(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Broken> {
        self.stream.poll_receive(cx).map(|_| {
            Broken::new(
                Failure::Reset,
                "the peer ended the connection while it was idle",
            )
        })
    }

    /// What the last operation was refused with.
    pub(super) fn said(&self) -> String {
        self.dialogue.said()
    }

    /// Whether it serves no further operation.
    pub(super) fn is_spent(&self) -> bool {
        self.dialogue.is_spent()
    }

    /// Says goodbye and closes.
    pub(super) fn close(mut self) {
        self.stream.send_static(self.dialogue.goodbye());
    }
}
