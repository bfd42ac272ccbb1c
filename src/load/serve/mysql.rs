//! A connection of a null MySQL server: the session on its stream, and the time that it takes.

use std::future::poll_fn;
use std::io;
use std::task::ready;

use super::answer::Rows;
use super::session::{Login, Said, Session, Shared};
use super::worker::{UNSENT_MAX, Worker};
use crate::net::{Alarm, Buf, Stream};
use crate::session::mysql::intake::{HEAD_LEN_MAX, Intake, Taken};
use crate::wire::mysql::auth;
use crate::wire::mysql::frame::{HEADER_LEN, Header};

/// Bytes of one send out of a block.
const PIECE_BYTES: usize = 256 * 1024;
/// The longest packet of a login that is read.
const LOGIN_PACKET_MAX: usize = 64 * 1024;

struct Connection<'w> {
    worker: &'w Worker,
    stream: Stream,
    alarm: Alarm,
    session: Session<'w>,
    out: Vec<u8>,
    /// Rows that the last command is to be answered with. They wait until its buffer was given
    /// back: while a thousand clients are being served, none holds a buffer of the ring.
    pending: Option<Rows>,
}

/// Serves one client to its end.
pub(super) async fn serve(worker: &Worker, shared: &Shared, stream: Stream) -> io::Result<()> {
    let nonce = auth::nonce().map_err(io::Error::other)?;
    let mut connection = Connection {
        worker,
        stream,
        alarm: worker.net.alarm(),
        session: Session::new(shared, worker.new_connection(), nonce),
        out: Vec::new(),
        pending: None,
    };
    connection.session.greet(&mut connection.out);
    connection.flush();
    let Some(rest) = connection.log_in().await? else {
        return Ok(());
    };
    connection.commands(rest).await
}

impl Connection<'_> {
    /// The next bytes, once those sent before are mostly gone; `None` after the last.
    async fn receive(&mut self) -> io::Result<Option<Buf>> {
        poll_fn(|cx| {
            ready!(self.stream.poll_unsent_below(cx, UNSENT_MAX))?;
            self.stream.poll_receive(cx)
        })
        .await
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.stream.send_bytes(&self.out);
            self.out.clear();
        }
    }

    /// Reads packets until the client is logged in; gives what came behind the last one. `None`:
    /// it was refused or has left.
    async fn log_in(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut held = Vec::new();
        loop {
            if let Some(header) = Header::parse(&held) {
                if header.len > LOGIN_PACKET_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let whole = HEADER_LEN + header.len;
                if let Some(payload) = held.get(HEADER_LEN..whole) {
                    let login = self.session.log_in(header.seq, payload, &mut self.out);
                    self.flush();
                    held.drain(..whole);
                    match login {
                        Login::More => continue,
                        Login::Done => return Ok(Some(held)),
                        Login::Refused => return Ok(None),
                    }
                }
            }
            let Some(buf) = self.receive().await? else {
                return Ok(None);
            };
            held.extend_from_slice(&buf);
        }
    }

    async fn commands(&mut self, early: Vec<u8>) -> io::Result<()> {
        let mut intake = Intake::default();
        let mut is_over = self.take(&mut intake, &early).await?;
        drop(early);
        loop {
            self.settle().await?;
            if is_over {
                return Ok(());
            }
            let Some(buf) = self.receive().await? else {
                return Ok(());
            };
            is_over = self.take(&mut intake, &buf).await?;
        }
    }

    /// Answers the commands in `bytes`. `true`: the client leaves.
    async fn take(&mut self, intake: &mut Intake, bytes: &[u8]) -> io::Result<bool> {
        let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if intake.is_streaming() {
                at += intake.stream(rest).map_err(broken)?;
                if !intake.is_streaming() && self.answer_long(intake).await? {
                    return Ok(true);
                }
                continue;
            }
            let taken = intake.next(rest).map_err(broken)?;
            let is_over = match taken {
                Taken::Starved => break,
                Taken::Inline(count) => {
                    at += count;
                    let command = rest.get(HEADER_LEN..count).unwrap_or_default();
                    self.answer(0, command).await?
                }
                Taken::Collected(count) => {
                    at += count;
                    let command = intake.head().get(HEADER_LEN..).unwrap_or_default().to_vec();
                    self.answer(0, &command).await?
                }
                Taken::Large(count) => {
                    at += count;
                    false
                }
            };
            if is_over {
                self.flush();
                return Ok(true);
            }
        }
        if self.pending.is_none() {
            self.flush();
        }
        Ok(false)
    }

    /// A command whose end has passed: its head tells enough.
    async fn answer_long(&mut self, intake: &mut Intake) -> io::Result<bool> {
        let sequence = intake.last_sequence();
        let head = intake
            .head()
            .get(HEADER_LEN..HEAD_LEN_MAX)
            .unwrap_or_default()
            .to_vec();
        self.answer(sequence, &head).await
    }

    async fn answer(&mut self, sequence: u8, command: &[u8]) -> io::Result<bool> {
        self.settle().await?;
        let before = self.out.len();
        let said = self.session.command(sequence, command, &mut self.out);
        let is_answered = matches!(said, Said::Rows(_)) || self.out.len() > before;
        self.worker.count(is_answered);
        if let Said::Rows(rows) = said {
            self.pending = Some(rows);
        }
        Ok(matches!(said, Said::Quit))
    }

    /// Answers with the rows that wait, if any, in the time that takes.
    async fn settle(&mut self) -> io::Result<()> {
        let Some(rows) = self.pending.take() else {
            return Ok(());
        };
        self.flush();
        if self.worker.takes_time() {
            self.worker.work(&mut self.alarm).await;
        }
        self.send(&rows).await
    }

    async fn send(&mut self, rows: &Rows) -> io::Result<()> {
        self.stream.send_static(rows.head);
        let blocks = (0..rows.blocks).map(|_| rows.block).chain([rows.rest]);
        for block in blocks {
            for piece in block.chunks(PIECE_BYTES) {
                poll_fn(|cx| self.stream.poll_unsent_below(cx, UNSENT_MAX)).await?;
                self.stream.send_static(piece);
            }
        }
        self.stream.send_static(rows.end);
        Ok(())
    }
}
