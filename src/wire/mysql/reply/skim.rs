//! The quick way over packets that are whole in a chunk and carry no state: nearly all of most replies.

use super::super::frame::{HEADER_LEN, PAYLOAD_MAX};
use super::{Phase, ReplyWalker};

impl ReplyWalker {
    /// Passes over packets from the start of `bytes` on, where a packet begins, as long as one look at each
    /// is enough; how many bytes that were. The walker is then as if [`Self::look`] had seen them.
    ///
    /// Whatever is not plainly a row, a definition of a column or a small column count is left for that: what
    /// is cut by the end of the chunk, continues in another packet, is out of sequence, is empty, or begins with
    /// 0xFE or 0xFF. All that carries state behind the head of a result does, and no OK, ERR or LOCAL INFILE
    /// request at its head begins with 1 to 250.
    pub(super) fn skim(&mut self, bytes: &mut [u8]) -> usize {
        if self.continues {
            return 0;
        }
        let used = self.count(bytes);
        self.has_begun |= used > 0;
        if self.seq_shift != 0 {
            shift(bytes.get_mut(..used).unwrap_or_default(), self.seq_shift);
        }
        used
    }

    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0_usize;
        while let Some(&[a, b, c, seq, first]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let len = length(a, b, c);
            let end = at.saturating_add(HEADER_LEN).saturating_add(len);
            let is_usual = seq == self.seq && len != 0 && len != PAYLOAD_MAX && first < 0xfe;
            if !is_usual || end > bytes.len() {
                break;
            }
            match self.phase {
                Phase::Rows => self.rows = self.rows.saturating_add(1),
                Phase::Columns(_) => self.advance_definitions(),
                Phase::Head if len == 1 && matches!(first, 1..=250) && self.has_results() => {
                    self.phase = Phase::Columns(u64::from(first));
                    self.rows = 0;
                }
                _ => break,
            }
            self.seq = seq.wrapping_add(1);
            at = end;
        }
        at
    }
}

/// A payload's length in its header, bytes.
fn length(a: u8, b: u8, c: u8) -> usize {
    usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16
}

/// Adds to the sequence ids of whole packets.
fn shift(mut bytes: &mut [u8], by: u8) {
    while let Some([a, b, c, seq]) = bytes.first_chunk_mut() {
        *seq = seq.wrapping_add(by);
        let end = HEADER_LEN.saturating_add(length(*a, *b, *c));
        bytes = bytes.get_mut(end..).unwrap_or_default();
    }
}
