//! A long command into whose first packet something was put: every boundary between its packets of
//! 16 MiB moves by as much, and the last packet may become two.

use std::ops::Range;

use smallvec::SmallVec;

use super::output::Output;
use crate::wire::mysql::frame::{HEADER_LEN, Header, PAYLOAD_MAX};

/// Cuts the payload of a streamed command into packets anew. Holds back no more than was put in.
#[derive(Debug)]
pub struct Regrown {
    /// Payload bytes of the client's current packet to come.
    remaining: usize,
    /// The client's current packet is its last.
    is_last: bool,
    /// A header of the client's that was cut by the end of a chunk.
    partial: SmallVec<[u8; HEADER_LEN]>,
    /// Payload bytes that still fit into the packet on its way.
    room: usize,
    /// That packet is one of 16 MiB, so that another follows.
    is_full: bool,
    /// Payload bytes that wait for the header of the next packet.
    carry: Vec<u8>,
    /// The sequence id of the next packet.
    seq: u8,
}

impl Regrown {
    /// Begins with the client's first packet, of which `len` payload bytes follow `start`, which stands
    /// for those before. `is_last`: it is the only one.
    pub fn new(start: Vec<u8>, len: usize, is_last: bool, out: &mut Vec<u8>) -> Self {
        let mut new = Self {
            remaining: 0,
            is_last,
            partial: SmallVec::new(),
            room: 0,
            is_full: false,
            carry: start,
            seq: 0,
        };
        new.open(len, |bytes| out.extend_from_slice(bytes));
        new
    }

    /// The sequence id of the last packet so far.
    pub fn last_sequence(&self) -> u8 {
        self.seq.wrapping_sub(1)
    }

    /// Takes in bytes of the client's first packet that were collected.
    pub fn push_head(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut pieces = Output::default();
        self.push(bytes, 0..bytes.len(), &mut pieces);
        pieces.gather(bytes, out);
    }

    /// Takes in `input[range]`, which goes on where the last bytes ended.
    pub fn push(&mut self, input: &[u8], range: Range<usize>, out: &mut Output) {
        let mut at = range.start;
        while at < range.end {
            let rest = input.get(at..range.end).unwrap_or_default();
            if self.remaining > 0 {
                let taken = self.remaining.min(rest.len());
                let passed = self.room.min(taken);
                out.input(at..at.saturating_add(passed));
                self.carry
                    .extend_from_slice(rest.get(passed..taken).unwrap_or_default());
                self.room = self.room.saturating_sub(passed);
                self.remaining = self.remaining.saturating_sub(taken);
                at = at.saturating_add(taken);
            } else {
                let missing = HEADER_LEN.saturating_sub(self.partial.len());
                let taken = rest.get(..missing).unwrap_or(rest);
                self.partial.extend_from_slice(taken);
                at = at.saturating_add(taken.len());
                let Some(header) = Header::parse(&self.partial) else {
                    return;
                };
                self.partial.clear();
                self.is_last = header.len < PAYLOAD_MAX;
                self.open(header.len, |bytes| out.bytes(bytes));
            }
            if self.remaining == 0 && self.is_last && self.is_full {
                self.open(0, |bytes| out.bytes(bytes));
            }
        }
    }

    /// Begins the next packet: what was held back, and of `len` bytes to come what fits.
    fn open(&mut self, len: usize, mut write: impl FnMut(&[u8])) {
        let whole = self.carry.len().saturating_add(len);
        let header = Header {
            len: whole.min(PAYLOAD_MAX),
            seq: self.seq,
        };
        write(&header.encode());
        write(&self.carry);
        self.seq = self.seq.wrapping_add(1);
        self.room = header.len.saturating_sub(self.carry.len());
        self.is_full = header.len == PAYLOAD_MAX;
        self.remaining = len;
        self.carry.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let (mut out, mut seq, mut rest) = (Vec::new(), 0_u8, payload);
        loop {
            let len = rest.len().min(PAYLOAD_MAX);
            out.extend_from_slice(&Header { len, seq }.encode());
            out.extend_from_slice(&rest[..len]);
            (rest, seq) = (&rest[len..], seq.wrapping_add(1));
            if len < PAYLOAD_MAX {
                return out;
            }
        }
    }

    /// A command of `len` bytes of which the first ten become 10 + `more`.
    fn check(len: usize, more: usize, chunk: usize) {
        let mut payload = vec![0; len];
        for (at, mark) in payload.iter_mut().step_by(997).zip((1_u8..=250).cycle()) {
            *at = mark;
        }
        let command = framed(&payload);
        let start = vec![7; 10 + more];
        let expect = framed(&[&start[..], &payload[10..]].concat());
        let head = 4 + len.min(1000);
        let first = len.min(PAYLOAD_MAX) - 10;
        let mut got = Vec::new();
        let mut regrown = Regrown::new(start, first, len < PAYLOAD_MAX, &mut got);
        regrown.push_head(&command[14..head], &mut got);
        for piece in command[head..].chunks(chunk) {
            let mut out = Output::default();
            regrown.push(piece, 0..piece.len(), &mut out);
            out.gather(piece, &mut got);
        }
        assert!(got == expect, "{len} bytes and {more} more by {chunk}");
        let packets = (len + more) / PAYLOAD_MAX;
        assert_eq!(usize::from(regrown.last_sequence()), packets);
    }

    #[test]
    fn every_boundary_moves() {
        let max = PAYLOAD_MAX;
        for len in [
            2000,
            max - 300,
            max - 1,
            max,
            max + 1,
            2 * max - 300,
            2 * max,
        ] {
            for more in [1, 299, 300, 301, 131_070] {
                check(len, more, 1 << 20);
            }
        }
        for chunk in [1_000_003, PAYLOAD_MAX + 1] {
            check(2 * PAYLOAD_MAX + 9, 77, chunk);
        }
    }

    #[test]
    fn headers_cut_anywhere_are_read() {
        let payload = vec![3; PAYLOAD_MAX + 40];
        let command = framed(&payload);
        let expect = framed(&[&[7; 30][..], &payload[10..]].concat());
        for cut in PAYLOAD_MAX..PAYLOAD_MAX + 20 {
            let mut got = Vec::new();
            let mut regrown = Regrown::new(vec![7; 30], PAYLOAD_MAX - 10, false, &mut got);
            let (first, rest) = command[14..].split_at(cut - 14);
            regrown.push_head(first, &mut got);
            regrown.push_head(rest, &mut got);
            assert!(got == expect, "cut at {cut}");
        }
    }
}
