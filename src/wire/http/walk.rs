//! Walks through the messages of one connection, from chunks of any size.
//!
//! A caller gives what it received to `next`, again and again with what is left of it, until
//! [`Event::More`]. Each byte is seen once. Heads borrow from what was given, or from the walker if
//! they came in pieces.

use super::body::{Body, BodyStep};
use super::head::{Asked, RequestHead, ResponseHead, parse_request, parse_response};
use super::lines::{Lines, Overrun};
use super::{HttpError, Limits};

/// What the bytes taken have brought. `H` is a [`RequestHead`] or a [`ResponseHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<H> {
    /// Nothing more: everything given was taken.
    More,
    /// A head, after which the body or the next head comes. A response may have several, see
    /// [`ResponseHead::is_interim`].
    Head(H),
    /// The last so many of the bytes taken are content.
    Content(usize),
    /// The message ends after the bytes taken.
    End,
    /// The head said that what follows is another protocol's; nothing is taken any more.
    Switched,
}

#[derive(Debug)]
enum State {
    /// No response is outstanding. Never in a request walker.
    Idle,
    Head,
    Body(Body),
    Switched,
}

/// The requests of one connection, on the server's side.
#[derive(Debug)]
pub struct RequestWalker {
    limits: Limits,
    lines: Lines,
    state: State,
}

impl RequestWalker {
    /// A new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: Lines::new(true),
            state: State::Head,
        }
    }

    /// Takes some of `bytes`; gives how many, and what they brought.
    ///
    /// # Errors
    /// Answer with [`HttpError::status`] and end the connection.
    pub fn next<'a>(
        &'a mut self,
        bytes: &'a [u8],
    ) -> Result<(usize, Event<RequestHead<'a>>), HttpError> {
        match &mut self.state {
            State::Idle | State::Switched => Ok((0, Event::Switched)),
            State::Body(body) => {
                let (taken, step) = body.step(bytes, &self.limits)?;
                if step == BodyStep::End {
                    self.state = State::Head;
                }
                Ok((taken, step.into()))
            }
            State::Head => {
                // A line end may be left over from what came before; anything else is the method's.
                let first = bytes.first().filter(|_| self.lines.is_empty());
                if first.is_some_and(|&byte| byte != b'\r' && !super::body::is_token(byte)) {
                    return Err(HttpError::Head);
                }
                let max = self.limits.head_bytes_max;
                let taken = self.lines.take(bytes, max).map_err(|error| match error {
                    Ok(Overrun::InFirstLine) => HttpError::TargetTooLong,
                    Ok(Overrun::Later) => HttpError::HeadTooLarge,
                    Err(error) => error,
                });
                let (taken, section) = taken?;
                let Some(section) = section else {
                    return Ok((taken, Event::More));
                };
                let head = parse_request(section, &self.limits)?;
                self.state = State::Body(Body::new(head.framing));
                Ok((taken, Event::Head(head)))
            }
        }
    }

    /// The server has accepted the upgrade of the request just read: the rest of the stream is
    /// another protocol's.
    pub fn switch(&mut self) {
        self.state = State::Switched;
    }

    /// The client's stream has ended.
    ///
    /// # Errors
    /// [`HttpError::Truncated`] when that is inside of a request.
    pub fn end(&self) -> Result<(), HttpError> {
        match &self.state {
            State::Head if self.lines.is_empty() => Ok(()),
            State::Idle | State::Switched => Ok(()),
            State::Head | State::Body(_) => Err(HttpError::Truncated),
        }
    }
}

/// The responses of one connection, on the client's side.
#[derive(Debug)]
pub struct ResponseWalker {
    limits: Limits,
    lines: Lines,
    state: State,
    asked: Asked,
    interims: u32,
}

impl ResponseWalker {
    /// A new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: Lines::new(false),
            state: State::Idle,
            asked: Asked::Plain,
            interims: 0,
        }
    }

    /// A request is sent, and its response is the next one. With pipelined requests this is called
    /// after each [`Event::End`].
    pub fn expect(&mut self, asked: Asked) {
        self.asked = asked;
        self.interims = 0;
        self.state = State::Head;
    }

    /// Takes some of `bytes`; gives how many, and what they brought.
    ///
    /// # Errors
    /// The connection is of no further use. [`HttpError::Unsolicited`] also for bytes behind a
    /// response: its framing was a lie, and so may be what was read of it.
    pub fn next<'a>(
        &'a mut self,
        bytes: &'a [u8],
    ) -> Result<(usize, Event<ResponseHead<'a>>), HttpError> {
        match &mut self.state {
            State::Switched => Ok((0, Event::Switched)),
            State::Idle if bytes.is_empty() => Ok((0, Event::More)),
            State::Idle => Err(HttpError::Unsolicited),
            State::Body(body) => {
                let (taken, step) = body.step(bytes, &self.limits)?;
                if step == BodyStep::End {
                    self.state = State::Idle;
                }
                Ok((taken, step.into()))
            }
            State::Head => {
                let first = bytes.first().filter(|_| self.lines.is_empty());
                if first.is_some_and(|&byte| byte != b'H') {
                    return Err(HttpError::Head);
                }
                let taken = self.lines.take(bytes, self.limits.head_bytes_max);
                let taken = taken.map_err(|e| e.err().unwrap_or(HttpError::HeadTooLarge));
                let (taken, section) = taken?;
                let Some(section) = section else {
                    return Ok((taken, Event::More));
                };
                let head = parse_response(section, self.asked, &self.limits)?;
                if head.is_interim() {
                    self.interims = self.interims.saturating_add(1);
                    if self.interims > self.limits.interims_max {
                        return Err(HttpError::TooManyInterims);
                    }
                } else if head.status == 101 {
                    self.state = State::Switched;
                } else {
                    self.state = State::Body(Body::new(head.framing));
                }
                Ok((taken, Event::Head(head)))
            }
        }
    }

    /// The server's stream has ended. `true` if that ends a response.
    ///
    /// # Errors
    /// [`HttpError::Truncated`] when that is inside of a response, or before one that is
    /// outstanding.
    pub fn end(&mut self) -> Result<bool, HttpError> {
        match &self.state {
            State::Idle | State::Switched => Ok(false),
            State::Body(body) if body.ends_at_close() => {
                self.state = State::Idle;
                Ok(true)
            }
            State::Head | State::Body(_) => Err(HttpError::Truncated),
        }
    }
}

impl<H> From<BodyStep> for Event<H> {
    fn from(step: BodyStep) -> Self {
        match step {
            BodyStep::More => Self::More,
            BodyStep::Content(count) => Self::Content(count),
            BodyStep::End => Self::End,
        }
    }
}
