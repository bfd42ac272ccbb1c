//! What a session wants sent: spans of the chunk it was given and small packets of its own.

use std::ops::Range;

/// One piece, in the order of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// These bytes of the chunk that the session was given, as they are now.
    Input(Range<usize>),
    /// These bytes of [`Output::own`].
    Own(Range<usize>),
}

/// A reusable list of pieces. Neighbouring pieces are joined.
#[derive(Debug, Default)]
pub struct Output {
    own: Vec<u8>,
    spans: Vec<Span>,
}

impl Output {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.own.clear();
        self.spans.clear();
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all pieces together.
    pub fn len(&self) -> usize {
        let lens = self.spans.iter().map(|span| match span {
            Span::Input(range) | Span::Own(range) => range.len(),
        });
        lens.sum()
    }

    /// The pieces.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The session's own bytes, which [`Span::Own`] refers to.
    pub fn own(&self) -> &[u8] {
        &self.own
    }

    /// Passes on a range of the input.
    pub fn input(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.spans.last_mut() {
            Some(Span::Input(last)) if last.end == range.start => last.end = range.end,
            _ => self.spans.push(Span::Input(range)),
        }
    }

    /// Appends all pieces to `to`, in order; `input` is the chunk that they are spans of.
    pub fn gather(&self, input: &[u8], to: &mut Vec<u8>) {
        for span in &self.spans {
            let piece = match span {
                Span::Input(range) => input.get(range.clone()),
                Span::Own(range) => self.own.get(range.clone()),
            };
            to.extend_from_slice(piece.unwrap_or_default());
        }
    }

    /// Sends bytes of the session's own.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.write(|own| own.extend_from_slice(bytes));
    }

    /// Sends whatever `write` appends.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.own.len();
        let result = write(&mut self.own);
        let end = self.own.len();
        match self.spans.last_mut() {
            _ if start == end => {}
            Some(Span::Own(last)) => last.end = end,
            _ => self.spans.push(Span::Own(start..end)),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_order_is_kept() {
        let mut out = Output::default();
        out.input(0..4);
        out.input(4..9);
        out.bytes(b"ab");
        out.bytes(b"c");
        out.input(12..13);
        out.input(13..13);
        assert_eq!(
            out.spans(),
            [Span::Input(0..9), Span::Own(0..3), Span::Input(12..13)]
        );
        assert_eq!(out.own(), b"abc");
    }
}
