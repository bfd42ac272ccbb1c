//! Answers to the gateway's own questions: one reader of rows for whatever is to be collected of them.

use crate::wire::mysql::decode::{Decoder, Event};
use crate::wire::mysql::flags::{caps, com};
use crate::wire::mysql::reply::ReplyError;
use crate::wire::mysql::value::Value;

/// What is kept of an answer, row by row. Bounded, whatever comes.
pub trait Collect: Default {
    /// Bytes that a row may have; a longer one is an error.
    const ROW_MAX: usize;

    /// Takes the values of the next row.
    fn take_row(&mut self, values: &[Value<'_>]);

    /// The server has refused the question with this error.
    fn refused(&mut self, errno: u16);
}

/// The reply to a question, as it comes. What it takes is bounded, whatever comes.
#[derive(Debug)]
pub struct Answer<C> {
    decoder: Decoder,
    pub(super) found: C,
    /// Replies that have not ended.
    awaited: usize,
}

impl<C: Collect> Answer<C> {
    /// To one question, on a connection with or without DEPRECATE_EOF, on which session tracking was asked
    /// for.
    pub fn new(deprecates_eof: bool) -> Self {
        Self::to(1, deprecates_eof)
    }

    /// To so many questions, one behind the other.
    pub fn to(questions: usize, deprecates_eof: bool) -> Self {
        let capabilities = match deprecates_eof {
            true => caps::PROTOCOL_41 | caps::SESSION_TRACK | caps::DEPRECATE_EOF,
            false => caps::PROTOCOL_41 | caps::SESSION_TRACK,
        };
        let mut decoder = Decoder::new(capabilities, C::ROW_MAX);
        for _ in 0..questions {
            decoder.await_reply(&[com::QUERY], 0);
        }
        Self {
            decoder,
            found: C::default(),
            awaited: questions,
        }
    }

    /// Takes the next bytes, packets with their headers, cut anywhere; whether the reply is over.
    ///
    /// # Errors
    /// They are no reply.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, ReplyError> {
        self.decoder.feed(bytes);
        while self.decoder.advance()? {
            let Some(event) = self.decoder.event()? else {
                break;
            };
            if event.is_last() {
                self.awaited = self.awaited.saturating_sub(1);
            }
            match event {
                Event::Row(row) => self.found.take_row(&row.values()?),
                Event::Err(err) => self.found.refused(err.errno),
                _ => {}
            }
        }
        Ok(self.awaited == 0)
    }
}
