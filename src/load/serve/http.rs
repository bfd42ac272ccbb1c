//! A null HTTP server: one fixed answer to whatever is asked.

use std::future::poll_fn;
use std::io;
use std::task::ready;

use super::worker::{UNSENT_MAX, Worker};
use crate::net::{Alarm, Stream};
use crate::wire::http::encode::{HeadWriter, Unwritable};
use crate::wire::http::walk::{Event, RequestWalker};
use crate::wire::http::{HttpError, Limits};

/// Bytes of one send out of a body.
const PIECE_BYTES: usize = 256 * 1024;

/// Bytes of a body up to which it is kept together with its head.
const SMALL_BYTES: usize = 16 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The answer, encoded before the first client comes.
#[derive(Debug)]
pub(super) struct Answers {
    /// For connections that end after it.
    close: Form,
    /// For connections that go on.
    keep: Form,
}

#[derive(Clone, Copy, Debug)]
struct Form {
    /// All there is to say to HEAD.
    head: &'static [u8],
    /// The head, and the body if it is small: the common answer is one piece.
    start: &'static [u8],
    /// The rest of the body.
    rest: &'static [u8],
}

/// What is known of a request when its head was read.
#[derive(Clone, Copy)]
struct Request {
    keep_alive: bool,
    /// With HEAD: the head alone is the answer.
    is_head: bool,
}

impl Answers {
    /// Encodes the answer: `body_bytes` bytes under `status`. The memory is never given back.
    pub(super) fn leaked(status: u16, body_bytes: usize) -> Result<Self, Unwritable> {
        // RFC 9110, section 8.6: neither has a body, and 204 not even its length.
        let body_bytes = if matches!(status, 204 | 304) {
            0
        } else {
            body_bytes
        };
        let head = |keep_alive: bool| {
            let mut out = Vec::new();
            let mut head = HeadWriter::response(&mut out, status, reason(status))?;
            head = head.field("Server", b"ringgate-null")?;
            if status != 204 {
                head = head.field("Content-Type", b"application/octet-stream")?;
                head = head.content_length(u64::try_from(body_bytes).unwrap_or(u64::MAX));
            }
            if !keep_alive {
                head = head.field("Connection", b"close")?;
            }
            head.finish();
            Ok::<Vec<u8>, Unwritable>(out)
        };
        let cycle = b"0123456789-".iter().copied().cycle();
        let body: &'static [u8] = Box::leak(cycle.take(body_bytes).collect());
        let form = |head: Vec<u8>| {
            let head: &'static [u8] = Box::leak(head.into_boxed_slice());
            let (small, rest) = body.split_at(if body_bytes > SMALL_BYTES {
                0
            } else {
                body_bytes
            });
            let start: &'static [u8] = Box::leak([head, small].concat().into_boxed_slice());
            Form { head, start, rest }
        };
        Ok(Self {
            close: form(head(false)?),
            keep: form(head(true)?),
        })
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Null",
    }
}

/// Serves one client to its end.
pub(super) async fn serve(worker: &Worker, answers: &Answers, stream: Stream) -> io::Result<()> {
    let mut connection = Connection {
        worker,
        answers,
        stream,
        alarm: worker.net.alarm(),
        current: None,
        pending: None,
    };
    connection.requests().await
}

struct Connection<'w> {
    worker: &'w Worker,
    answers: &'w Answers,
    stream: Stream,
    alarm: Alarm,
    /// The request that is being read.
    current: Option<Request>,
    /// The request that was read and is to be answered.
    pending: Option<Request>,
}

impl Connection<'_> {
    async fn requests(&mut self) -> io::Result<()> {
        let mut walker = RequestWalker::new(Limits::default());
        loop {
            if let Some(request) = self.pending.take() {
                // Its buffer has been given back by now.
                self.answer(request).await?;
                if !request.keep_alive {
                    return Ok(());
                }
            }
            let received = poll_fn(|cx| {
                ready!(self.stream.poll_unsent_below(cx, UNSENT_MAX))?;
                self.stream.poll_receive(cx)
            });
            let Some(buf) = received.await? else {
                return Ok(());
            };
            if let Err(error) = self.take(&mut walker, &buf).await? {
                return self.refuse(error).await;
            }
        }
    }

    /// Reads requests and answers all but the last one that is complete. Behind one that ends the
    /// connection nothing is read.
    async fn take(
        &mut self,
        walker: &mut RequestWalker,
        bytes: &[u8],
    ) -> io::Result<Result<(), HttpError>> {
        let mut at = 0;
        loop {
            if self.pending.is_some_and(|request| !request.keep_alive) {
                return Ok(Ok(()));
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let (taken, event) = match walker.next(rest) {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            at += taken;
            match event {
                Event::More | Event::Switched => return Ok(Ok(())),
                Event::Content(_) => {}
                Event::Head(head) => {
                    let request = Request {
                        keep_alive: head.keep_alive,
                        is_head: head.method == "HEAD",
                    };
                    let expects_continue = head.expects_continue;
                    if let Some(before) = self.pending.take() {
                        self.answer(before).await?;
                    }
                    if expects_continue {
                        self.stream.send_static(CONTINUE);
                    }
                    self.current = Some(request);
                }
                Event::End => self.pending = self.current.take(),
            }
        }
    }

    async fn answer(&mut self, request: Request) -> io::Result<()> {
        self.worker.count(true);
        if self.worker.takes_time() {
            self.worker.work(&mut self.alarm).await;
        }
        let form = match request.keep_alive {
            true => self.answers.keep,
            false => self.answers.close,
        };
        if request.is_head {
            self.stream.send_static(form.head);
            return Ok(());
        }
        self.stream.send_static(form.start);
        for piece in form.rest.chunks(PIECE_BYTES) {
            poll_fn(|cx| self.stream.poll_unsent_below(cx, UNSENT_MAX)).await?;
            self.stream.send_static(piece);
        }
        Ok(())
    }

    /// Says what is wrong, and ends.
    async fn refuse(&mut self, error: HttpError) -> io::Result<()> {
        if let Some(before) = self.pending.take() {
            self.answer(before).await?;
        }
        self.worker.count(false);
        let mut out = Vec::new();
        let text = format!("{error}\n");
        let head = HeadWriter::response(&mut out, error.status(), "Refused");
        let head = head.and_then(|head| head.field("Connection", b"close"));
        let head = head.map_err(io::Error::other)?;
        head.content_length(u64::try_from(text.len()).unwrap_or(0))
            .finish();
        out.extend_from_slice(text.as_bytes());
        self.stream.send_bytes(&out);
        poll_fn(|cx| self.stream.poll_unsent_below(cx, 0)).await
    }
}
