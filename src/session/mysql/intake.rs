//! Cuts a downstream byte stream into commands without copying those that come in one piece.
//!
//! A command up to [`HEAD_LEN_MAX`] is handed over whole. Of a longer one the head is handed over
//! first and the rest is streamed, so that a 1 GiB INSERT costs no memory. Whoever needs more of it
//! than that says so ([`Intake::collect_more`]).

use smallvec::SmallVec;

use crate::wire::mysql::frame::{HEADER_LEN, Header, PAYLOAD_MAX};

/// Bytes of a command, headers included, that are collected for a look before it is streamed.
pub const HEAD_LEN_MAX: usize = 64 * 1024;
/// The longest command, over all its packets: MySQL's own largest `max_allowed_packet`.
pub const COMMAND_LEN_MAX: usize = 1 << 30;

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// More bytes are needed; all were taken in.
    Starved,
    /// The next bytes, this many, are one whole command with its header.
    Inline(usize),
    /// One whole command is in [`Intake::head`]; this many bytes completed it.
    Collected(usize),
    /// The head of a long command is in [`Intake::head`]; this many bytes completed it. The rest
    /// comes by [`Intake::stream`].
    Large(usize),
}

/// What is wrong with the client's framing. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeError {
    /// A sequence id other than the next one.
    Sequence,
    /// The command is longer than [`COMMAND_LEN_MAX`].
    TooLarge,
}

/// The framing state of one client.
#[derive(Debug, Default)]
pub struct Intake {
    head: Vec<u8>,
    /// How much of the command is collected beyond [`HEAD_LEN_MAX`]; 0 for no more.
    want: usize,
    /// Bytes of `head` that were handed over and must be dropped.
    head_is_over: bool,
    /// Of a streamed command: payload bytes of the current packet to come.
    remaining: usize,
    /// Of a streamed command: another packet follows the current one.
    continues: bool,
    seq: u8,
    len: usize,
    /// Of a streamed command: a packet header that was cut by the end of a chunk.
    partial: SmallVec<[u8; HEADER_LEN]>,
}

impl Intake {
    /// The collected head or command.
    pub fn head(&mut self) -> &mut [u8] {
        &mut self.head
    }

    /// Forgets a head that was handed over: an idle client does not hold the memory of its last long
    /// command.
    pub fn forget_head(&mut self) {
        if std::mem::take(&mut self.head_is_over) {
            self.want = 0;
            if self.head.capacity() > 1024 {
                self.head = Vec::new();
            } else {
                self.head.clear();
            }
        }
    }

    /// Takes back a head that was handed over by [`Taken::Large`]: it is to be handed over again with
    /// `len` bytes of the command, headers included, or all that it has.
    pub fn collect_more(&mut self, len: usize) {
        self.want = len;
        self.head_is_over = false;
        (self.remaining, self.continues) = (0, false);
    }

    /// Whether a command has begun and is not complete.
    pub fn is_mid_command(&self) -> bool {
        self.is_streaming() || (!self.head.is_empty() && !self.head_is_over)
    }

    /// Whether the rest of a long command is awaited.
    pub fn is_streaming(&self) -> bool {
        self.remaining > 0 || self.continues
    }

    /// The sequence id of the last packet seen; replies count on from it.
    pub fn last_sequence(&self) -> u8 {
        self.seq
    }

    /// Looks for the next command in `bytes`. Not to be called while streaming.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Taken, IntakeError> {
        self.forget_head();
        if self.head.is_empty()
            && let Some(header) = Header::parse(bytes)
        {
            self.check_first(header)?;
            let whole = header.len.saturating_add(HEADER_LEN);
            if header.len < PAYLOAD_MAX && whole <= bytes.len() {
                return Ok(Taken::Inline(whole));
            }
        }
        self.collect(bytes)
    }

    fn check_first(&mut self, header: Header) -> Result<(), IntakeError> {
        self.seq = header.seq;
        if header.seq == 0 {
            Ok(())
        } else {
            Err(IntakeError::Sequence)
        }
    }

    fn collect(&mut self, bytes: &[u8]) -> Result<Taken, IntakeError> {
        let mut used = self.fill(bytes, 0, HEADER_LEN);
        let Some(header) = Header::parse(&self.head) else {
            return Ok(Taken::Starved);
        };
        self.check_first(header)?;
        let whole = header.len.saturating_add(HEADER_LEN);
        let want = whole.min(self.want.max(HEAD_LEN_MAX));
        used = self.fill(bytes, used, want);
        if self.head.len() < want {
            return Ok(Taken::Starved);
        }
        self.head_is_over = true;
        if want == whole && header.len < PAYLOAD_MAX {
            return Ok(Taken::Collected(used));
        }
        self.remaining = whole.saturating_sub(want);
        self.continues = header.len == PAYLOAD_MAX;
        self.len = header.len;
        Ok(Taken::Large(used))
    }

    fn fill(&mut self, bytes: &[u8], used: usize, want: usize) -> usize {
        let missing = want.saturating_sub(self.head.len());
        let rest = bytes.get(used..).unwrap_or_default();
        let taken = rest.get(..missing).unwrap_or(rest);
        self.head.extend_from_slice(taken);
        used.saturating_add(taken.len())
    }

    /// Of a streamed command: how many of the next bytes belong to it. They pass on as they are.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn stream(&mut self, bytes: &[u8]) -> Result<usize, IntakeError> {
        let mut at = 0_usize;
        while self.is_streaming() {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.remaining > 0 {
                let passed = self.remaining.min(rest.len());
                self.remaining = self.remaining.saturating_sub(passed);
                at = at.saturating_add(passed);
                if passed == 0 {
                    break;
                }
                continue;
            }
            let missing = HEADER_LEN.saturating_sub(self.partial.len());
            let taken = rest.get(..missing).unwrap_or(rest);
            self.partial.extend_from_slice(taken);
            at = at.saturating_add(taken.len());
            let Some(header) = Header::parse(&self.partial) else {
                break;
            };
            self.partial.clear();
            if header.seq != self.seq.wrapping_add(1) {
                return Err(IntakeError::Sequence);
            }
            self.seq = header.seq;
            self.len = self.len.saturating_add(header.len);
            if self.len > COMMAND_LEN_MAX {
                return Err(IntakeError::TooLarge);
            }
            self.remaining = header.len;
            self.continues = header.len == PAYLOAD_MAX;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(payload: &[u8]) -> Vec<u8> {
        let (mut out, mut seq, mut rest) = (Vec::new(), 0_u8, payload);
        loop {
            let len = rest.len().min(PAYLOAD_MAX);
            out.extend_from_slice(&Header { len, seq }.encode());
            out.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
            seq = seq.wrapping_add(1);
            if len < PAYLOAD_MAX {
                return out;
            }
        }
    }

    /// Feeds chunks as a driver does; returns each command's bytes.
    fn run(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, IntakeError> {
        let (mut intake, mut commands, mut held) = (Intake::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            held.extend_from_slice(chunk);
            loop {
                if intake.is_streaming() {
                    let n = intake.stream(&held)?;
                    let last: &mut Vec<u8> = commands.last_mut().expect("begun");
                    last.extend(held.drain(..n));
                    if intake.is_streaming() {
                        break;
                    }
                }
                match intake.next(&held)? {
                    Taken::Starved => {
                        held.clear();
                        break;
                    }
                    Taken::Inline(n) => commands.push(held.drain(..n).collect()),
                    Taken::Collected(n) | Taken::Large(n) => {
                        held.drain(..n);
                        commands.push(intake.head().to_vec());
                    }
                }
            }
        }
        Ok(commands)
    }

    #[test]
    fn every_cut_gives_the_same_commands() {
        let commands = [
            command(b"\x03select 1"),
            command(b"\x0e"),
            command(&[3; 300]),
        ];
        let whole = commands.concat();
        for cut in 0..=whole.len() {
            assert_eq!(
                run(&[&whole[..cut], &whole[cut..]]),
                Ok(commands.to_vec()),
                "cut at {cut}"
            );
        }
        let bytes: Vec<_> = whole.chunks(1).collect();
        assert_eq!(run(&bytes), Ok(commands.to_vec()));
    }

    #[test]
    fn long_commands_stream_through_every_boundary() {
        for len in [
            HEAD_LEN_MAX - 5,
            HEAD_LEN_MAX - 4,
            HEAD_LEN_MAX,
            PAYLOAD_MAX - 1,
            PAYLOAD_MAX,
        ] {
            for len in [len, len + 1, 2 * PAYLOAD_MAX] {
                let commands = [command(&vec![3; len]), command(b"\x0e")];
                let whole = commands.concat();
                let chunks: Vec<_> = whole.chunks(40_009).collect();
                assert!(run(&chunks) == Ok(commands.to_vec()), "{len}");
            }
        }
    }

    #[test]
    fn wrong_sequence_ids_are_refused() {
        assert_eq!(run(&[&[1, 0, 0, 1, 3]]), Err(IntakeError::Sequence));
        let mut jump = command(&vec![3; PAYLOAD_MAX]);
        let at = jump.len() - 1;
        jump[at] = 5;
        assert_eq!(run(&[&jump]), Err(IntakeError::Sequence));
    }
}
