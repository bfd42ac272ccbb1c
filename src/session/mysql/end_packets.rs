//! What ends lists of definitions and rows, where client and server differ in CLIENT_DEPRECATE_EOF.
//!
//! Upstream connections leave legacy EOFs out wherever their server can, whatever their clients know, so
//! that all clients share them and every end of rows has room for what a statement has changed. A client
//! that knows legacy EOFs is given them: behind definitions, and in place of the OK that ends rows.
//!
//! Source: MySQL internals, "Text Resultset", "Binary Protocol Resultset", "EOF_Packet".

use super::answer::{pass, raw_of};
use super::downstream::Session;
use super::exchange::Piece;
use super::output::Output;
use super::upstream::Upstream;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com, status};
use crate::wire::mysql::response::{OkPacket, encode_end_of_rows};

/// The longest first row that is held back until it is known whether it is all, bytes. The OUT parameters
/// of a procedure that are longer together are not marked for clients with legacy EOFs.
const FIRST_ROW_MAX: usize = 1 << 20;

/// A first row, held back because it may be a procedure's OUT parameters: the EOF ahead of it says so and
/// a server that leaves that EOF out says so at the end.
#[derive(Debug)]
pub(super) struct FirstRow {
    /// The sequence id of the EOF ahead.
    sequence: u8,
    bytes: Vec<u8>,
}

impl Session {
    /// Whether legacy EOFs must be taken out of `upstream`'s replies.
    pub(super) fn drops_eof(&self, upstream: &Upstream) -> bool {
        self.has(caps::DEPRECATE_EOF) && !upstream.deprecates_eof
    }

    /// Whether the client is given legacy EOFs that `upstream` leaves out.
    pub(super) fn adds_eof(&self, upstream: &Upstream) -> bool {
        !self.has(caps::DEPRECATE_EOF) && upstream.deprecates_eof
    }

    /// A list of definitions is over, and more packets follow.
    pub(super) fn give_eof(&mut self, upstream: &mut Upstream, out: &mut Output) {
        let sequence = upstream.walker.next_sequence();
        upstream.walker.shift_sequence(1);
        let may_be_out_params = self.op.command == com::STMT_EXECUTE
            && !self.op.effects.is_read_only
            && self.has(caps::PS_MULTI_RESULTS);
        if may_be_out_params {
            self.op.first_row = Some(Box::new(FirstRow {
                sequence,
                bytes: Vec::new(),
            }));
        } else {
            self.write_eof(sequence, 0, out);
        }
    }

    /// Part of a reply whose first row is held back: goes behind it, or both are passed on.
    pub(super) fn hold_back(
        &mut self,
        upstream: &Upstream,
        bytes: &[u8],
        piece: Piece,
        out: &mut Output,
    ) {
        let raw = raw_of(upstream, bytes, piece);
        let held = self.op.first_row.as_mut();
        match held.filter(|held| {
            upstream.walker.rows() < 2
                && held.bytes.len().saturating_add(raw.len()) <= FIRST_ROW_MAX
        }) {
            Some(held) => held.bytes.extend_from_slice(raw),
            None => {
                self.let_go(0, out);
                pass(upstream, piece, out);
            }
        }
    }

    /// Passes on what was held back. The rows end with `end`, if they have ended.
    pub(super) fn let_go(&mut self, end: u16, out: &mut Output) {
        if let Some(held) = self.op.first_row.take() {
            let marks = status::PS_OUT_PARAMS | status::MORE_RESULTS_EXISTS;
            self.write_eof(held.sequence, end & marks, out);
            out.bytes(&held.bytes);
        }
    }

    /// The reply goes no further: forgets what was held back; the sequence id that comes next to the client
    /// then.
    pub(super) fn forget_first_row(&mut self) -> Option<u8> {
        self.op.first_row.take().map(|held| held.sequence)
    }

    /// Writes a legacy EOF with the status of the session and these `marks`.
    pub(super) fn write_eof(&self, sequence: u8, marks: u16, out: &mut Output) {
        let ok = OkPacket {
            status: self.visible_status() | marks,
            ..OkPacket::default()
        };
        let capabilities = self.capabilities;
        out.write(|own| {
            packet(own, sequence, |own| {
                encode_end_of_rows(own, capabilities, &ok);
            })
        });
    }

    /// The EOF between definitions and rows, which a client with DEPRECATE_EOF does not know.
    pub(super) fn pass_columns_end(
        &mut self,
        upstream: &mut Upstream,
        piece: Piece,
        status: u16,
        is_last: bool,
        out: &mut Output,
    ) {
        let ends_result = is_last && self.op.command != com::STMT_PREPARE;
        if ends_result {
            self.note_status(status, 0);
            self.note_cursor(status, true);
        }
        if !self.drops_eof(upstream) {
            return pass(upstream, piece, out);
        }
        if ends_result {
            let ok = OkPacket {
                status,
                ..OkPacket::default()
            };
            let sequence = upstream.walker.next_sequence().wrapping_sub(1);
            let capabilities = self.capabilities;
            out.write(|own| {
                packet(own, sequence, |own| {
                    encode_end_of_rows(own, capabilities, &ok);
                })
            });
        } else {
            upstream.walker.shift_sequence(u8::MAX);
        }
    }
}
