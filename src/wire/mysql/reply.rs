//! Walks the reply to one command: packet headers only, row bytes are never looked at.
//!
//! The walker tells where the reply ends and which packets carry state (OK, EOF, ERR, the head of a
//! PREPARE reply). It does not copy: bytes that merely pass are reported as a count, and only what
//! is cut by the end of a chunk is carried over. Traps 1–5, 8, 11 and 13 of the protocol live here.
//!
//! Source: MySQL internals, "Text Resultset", "Binary Protocol Resultset", "OK_Packet",
//! "COM_STMT_PREPARE Response".

mod packets;
mod skim;

use super::cursor::{Reader, WireError};
use super::frame::{HEADER_LEN, Header, PAYLOAD_MAX};
use super::value::decode_column_count;

/// The longest packet that the walker collects whole (OK with session tracking, ERR).
pub const CONTROL_LEN_MAX: usize = 1 << 20;
/// Status flag: another result follows.
const MORE_RESULTS: u16 = 0x0008;
/// Status flag: a cursor is open, so no rows follow the column definitions.
const CURSOR_EXISTS: u16 = 0x0040;

/// What kind of reply a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// OK, ERR, or result sets (COM_QUERY, COM_STMT_EXECUTE).
    Results,
    /// The same of an EXECUTE that asks for a cursor: column definitions may be all.
    ResultsOrCursor,
    /// OK or ERR only (COM_INIT_DB, COM_PING, COM_STMT_RESET …); a legacy EOF counts as OK.
    Ok,
    /// COM_STMT_PREPARE.
    Prepare,
    /// Rows without column definitions (COM_STMT_FETCH).
    Rows,
}

/// What broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A sequence id other than the next one.
    Sequence,
    /// A packet that cannot stand here, or that is too short for its kind.
    Malformed,
    /// A state packet longer than [`CONTROL_LEN_MAX`].
    TooLarge,
    /// The server asks for a file (LOCAL INFILE), which was never offered.
    LocalInfile,
    /// Bytes after the reply's end.
    Surplus,
}

impl From<WireError> for ReplyError {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

/// A packet that carries state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// OK, or the packet that ends a result set (EOF, or OK headed 0xFE).
    Ok {
        /// Headed 0xFE: it ends rows.
        ends_rows: bool,
        /// Rows affected, as the packet says; 0 in a legacy EOF.
        affected: u64,
        /// The packet's last insert id; 0 in a legacy EOF.
        last_insert_id: u64,
        /// Server status flags.
        status: u16,
        /// Count of warnings.
        warnings: u16,
        /// Anything follows the fixed fields: an info text or session tracking.
        has_tail: bool,
        /// The reply is over.
        is_last: bool,
    },
    /// A legacy EOF after column or parameter definitions.
    ColumnsEnd {
        /// Server status flags.
        status: u16,
        /// The reply is over: a cursor was opened, or a PREPARE reply is complete.
        is_last: bool,
    },
    /// ERR: always the last packet of a reply.
    Err {
        /// The server's error number.
        errno: u16,
    },
    /// The head of a PREPARE reply.
    Prepared {
        /// The server's statement id.
        id: u32,
        /// Columns of the result, 0 if there is none.
        columns: u16,
        /// Parameter markers.
        params: u16,
        /// No definitions follow: the reply is over.
        is_last: bool,
    },
    /// The last definition of a PREPARE reply without legacy EOFs.
    DefinitionsEnd,
    /// No packet of the server's: here a reader that knows legacy EOFs is owed one, behind the last of a
    /// list of definitions. See [`ReplyWalker::owe_eofs`].
    EofOwed,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next bytes, this many, belong to the reply and pass on.
    Pass(usize),
    /// The next bytes, this many, were added to [`ReplyWalker::carried`], and all that is carried
    /// passes on.
    PassCarried(usize),
    /// A state packet: the next bytes, this many, header included.
    Packet(usize, Packet),
    /// A state packet, whole in [`ReplyWalker::carried`]; this many of the next bytes complete it.
    PacketCarried(usize, Packet),
    /// All bytes are taken in; more are needed.
    Starved,
}

/// What a packet that carries no state would be, if it came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The number of columns that heads a result.
    Head,
    /// A definition of a column or a parameter, or what ends a list of them.
    Definition,
    /// A row.
    Row,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first packet of a result.
    Head,
    /// Column definitions, this many to come.
    Columns(u64),
    /// The legacy EOF after column definitions.
    ColumnsEof,
    /// Rows until EOF, OK or ERR.
    Rows,
    /// Definitions of a PREPARE reply: parameters, then columns.
    Definitions { left: u16, then: u16 },
    /// The legacy EOF after definitions; columns to come.
    DefinitionsEof { then: u16 },
    /// The reader is owed a legacy EOF: rows come behind it, or so many definitions.
    EofOwed { then: Option<u16> },
    /// The reply is over.
    Done,
}

/// The state of one reply. Reused for the next by [`ReplyWalker::start`].
#[derive(Debug)]
pub struct ReplyWalker {
    expect: Expect,
    phase: Phase,
    deprecate_eof: bool,
    /// The reader wants the legacy EOFs that the server leaves out.
    owes_eofs: bool,
    /// The sequence id of the next packet.
    seq: u8,
    /// Added to every sequence id as the bytes pass.
    seq_shift: u8,
    /// Payload bytes of the current passing packet still to come.
    remaining: usize,
    /// The next packet continues the one before.
    continues: bool,
    rows: u64,
    /// A packet of the reply was taken in.
    has_begun: bool,
    carry: Vec<u8>,
    carry_is_over: bool,
}

impl ReplyWalker {
    /// A walker for a connection with or without CLIENT_DEPRECATE_EOF; no reply is expected yet.
    pub fn new(deprecate_eof: bool) -> Self {
        Self {
            expect: Expect::Ok,
            phase: Phase::Done,
            deprecate_eof,
            owes_eofs: false,
            seq: 0,
            seq_shift: 0,
            remaining: 0,
            continues: false,
            rows: 0,
            has_begun: false,
            carry: Vec::new(),
            carry_is_over: false,
        }
    }

    /// Expects the reply to a command whose last packet had the sequence id `command_seq`.
    pub fn start(&mut self, expect: Expect, command_seq: u8) {
        self.expect = expect;
        self.phase = if expect == Expect::Rows {
            Phase::Rows
        } else {
            Phase::Head
        };
        self.owes_eofs = false;
        self.has_begun = false;
        self.seq = command_seq.wrapping_add(1);
        self.seq_shift = 0;
        self.remaining = 0;
        self.continues = false;
        self.rows = 0;
        self.clear_carry();
    }

    /// The reader of this reply knows nothing of CLIENT_DEPRECATE_EOF, though the server does: it is told
    /// by [`Packet::EofOwed`] where a list of definitions ends and another packet follows. Where the end of
    /// rows stands for both EOFs, as where a cursor was opened, it is told of that alone.
    pub fn owe_eofs(&mut self) {
        self.owes_eofs = self.deprecate_eof;
    }

    /// From the next packet on, adds `shift` (modulo 256) to the sequence ids that pass.
    pub fn shift_sequence(&mut self, shift: u8) {
        self.seq_shift = self.seq_shift.wrapping_add(shift);
    }

    fn has_results(&self) -> bool {
        matches!(self.expect, Expect::Results | Expect::ResultsOrCursor)
    }

    /// The reply is over.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Where in the reply the next packet stands.
    pub fn place(&self) -> Place {
        match self.phase {
            Phase::Head | Phase::Done => Place::Head,
            Phase::Rows => Place::Row,
            Phase::Columns(_)
            | Phase::ColumnsEof
            | Phase::Definitions { .. }
            | Phase::EofOwed { .. }
            | Phase::DefinitionsEof { .. } => Place::Definition,
        }
    }

    /// Not a byte of the reply has come.
    pub fn is_untouched(&self) -> bool {
        // Between two results the phase alone is that of a beginning.
        !self.has_begun && self.carry.is_empty()
    }

    /// All bytes so far were whole packets: an ERR may follow without breaking the framing.
    pub fn is_at_boundary(&self) -> bool {
        self.remaining == 0 && !self.continues && self.carry.is_empty()
    }

    /// The sequence id that the next packet to the reader would have.
    pub fn next_sequence(&self) -> u8 {
        self.seq.wrapping_add(self.seq_shift)
    }

    /// Rows passed in the current or last result set.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The bytes carried over, when a step says so.
    pub fn carried(&self) -> &[u8] {
        &self.carry
    }

    fn clear_carry(&mut self) {
        self.carry.clear();
        self.carry_is_over = false;
        if self.carry.capacity() > 4096 {
            self.carry = Vec::new();
        }
    }

    /// Takes the next step over `bytes`, which begin where the last step ended. Sequence ids are
    /// rewritten in place where a shift is set.
    ///
    /// # Errors
    /// The reply broke the protocol; the connection must be closed.
    pub fn step(&mut self, bytes: &mut [u8]) -> Result<Step, ReplyError> {
        if self.carry_is_over {
            self.clear_carry();
        }
        if self.phase == Phase::Done {
            return if bytes.is_empty() {
                Ok(Step::Starved)
            } else {
                Err(ReplyError::Surplus)
            };
        }
        if !self.carry.is_empty() {
            return self.step_carried(bytes);
        }
        let mut at = 0;
        loop {
            if self.remaining > 0 {
                let rest = bytes.len().saturating_sub(at);
                let passed = self.remaining.min(rest);
                self.remaining -= passed;
                at = at.saturating_add(passed);
            }
            let skimmed = self.skim(bytes.get_mut(at..).unwrap_or_default());
            at = at.saturating_add(skimmed);
            if skimmed > 0 {
                // What comes next most likely carries state, and the next step would look at it again.
                return Ok(Step::Pass(at));
            }
            let Some(rest) = bytes.get_mut(at..) else {
                return Err(ReplyError::Malformed);
            };
            if rest.is_empty() {
                return Ok(if at == 0 {
                    Step::Starved
                } else {
                    Step::Pass(at)
                });
            }
            match self.look(rest)? {
                Look::Passes => at = at.saturating_add(HEADER_LEN),
                Look::State(_) | Look::Short | Look::Owed if at > 0 => return Ok(Step::Pass(at)),
                Look::Owed => return Ok(Step::Packet(0, self.owe_eof())),
                Look::Short => {
                    self.carry.extend_from_slice(rest);
                    return Ok(Step::Starved);
                }
                Look::State(len) => {
                    let whole = HEADER_LEN.saturating_add(len);
                    let Some(packet) = rest.get_mut(..whole) else {
                        self.carry.extend_from_slice(rest);
                        return Ok(Step::Starved);
                    };
                    return Ok(match self.opens_no_cursor(packet)? {
                        true => Step::Packet(0, self.owe_eof()),
                        false => Step::Packet(whole, self.take_packet(packet)?),
                    });
                }
            }
        }
    }

    /// As [`Self::step`] when the start of the packet was carried over from an earlier chunk.
    fn step_carried(&mut self, bytes: &mut [u8]) -> Result<Step, ReplyError> {
        let mut used = 0_usize;
        loop {
            let mut carry = std::mem::take(&mut self.carry);
            let look = self.look(&mut carry);
            self.carry = carry;
            let want = match look? {
                Look::Passes => {
                    // A passing packet: whatever of its payload is carried has passed as well.
                    let carried = self.carry.len().saturating_sub(HEADER_LEN);
                    self.remaining = self.remaining.saturating_sub(carried);
                    self.carry_is_over = true;
                    return Ok(Step::PassCarried(used));
                }
                // What is carried comes behind it, and is looked at again.
                Look::Owed => return Ok(Step::PacketCarried(used, self.owe_eof())),
                Look::Short if self.carry.len() < HEADER_LEN => HEADER_LEN,
                Look::Short => HEADER_LEN.saturating_add(1),
                Look::State(len) => HEADER_LEN.saturating_add(len),
            };
            let missing = want.saturating_sub(self.carry.len());
            if missing == 0 {
                if self.opens_no_cursor(&self.carry)? {
                    return Ok(Step::PacketCarried(used, self.owe_eof()));
                }
                let mut carry = std::mem::take(&mut self.carry);
                let packet = self.take_packet(&mut carry);
                self.carry = carry;
                self.carry_is_over = true;
                return Ok(Step::PacketCarried(used, packet?));
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let taken = rest.get(..missing).unwrap_or(rest);
            self.carry.extend_from_slice(taken);
            used = used.saturating_add(taken.len());
            if taken.len() < missing {
                return Ok(Step::Starved);
            }
        }
    }

    /// Looks at a packet's start. A passing packet's header is taken in at once.
    fn look(&mut self, bytes: &mut [u8]) -> Result<Look, ReplyError> {
        let Some(header) = Header::parse(bytes) else {
            return Ok(Look::Short);
        };
        if header.seq != self.seq {
            return Err(ReplyError::Sequence);
        }
        if self.continues {
            self.pass(header, bytes);
            return Ok(Look::Passes);
        }
        if header.len == 0 {
            return Err(ReplyError::Malformed);
        }
        let Some(&first) = bytes.get(HEADER_LEN) else {
            return Ok(Look::Short);
        };
        if let Phase::EofOwed { then } = self.phase {
            let may_open_cursor = self.expect == Expect::ResultsOrCursor && then.is_none();
            let ends = first == 0xff || first == 0xfe && header.len < PAYLOAD_MAX;
            if !may_open_cursor || !ends {
                return Ok(Look::Owed);
            }
        }
        if self.carries_state(first, header.len)? {
            if header.len > CONTROL_LEN_MAX {
                return Err(ReplyError::TooLarge);
            }
            return Ok(Look::State(header.len));
        }
        if self.phase == Phase::Head && !self.read_column_count(header.len, bytes)? {
            return Ok(Look::State(header.len));
        }
        self.advance_definitions();
        self.pass(header, bytes);
        Ok(Look::Passes)
    }

    /// Whether a packet with this first byte and length carries state in the current phase.
    fn carries_state(&self, first: u8, len: usize) -> Result<bool, ReplyError> {
        let is_err = first == 0xff;
        Ok(match self.phase {
            Phase::Head => match (self.expect, first) {
                (_, 0x00 | 0xff) => true,
                (_, 0xfb) if self.has_results() => return Err(ReplyError::LocalInfile),
                _ if self.has_results() => false,
                // To COM_SET_OPTION. MySQL puts what it tracks behind it.
                (Expect::Ok, 0xfe) if len < 9 || self.deprecate_eof => true,
                _ => return Err(ReplyError::Malformed),
            },
            Phase::Columns(_) => is_err,
            // Only what may open a cursor is looked at before the EOF is given.
            Phase::EofOwed { .. } => true,
            // The last definition of a PREPARE reply ends it when no legacy EOF follows.
            Phase::Definitions { left, then } => {
                is_err || (self.deprecate_eof && left <= 1 && then == 0)
            }
            Phase::ColumnsEof | Phase::DefinitionsEof { .. } => {
                if first != 0xff && !(first == 0xfe && len < 9) {
                    return Err(ReplyError::Malformed);
                }
                true
            }
            Phase::Rows => {
                let ends = first == 0xfe
                    && if self.deprecate_eof {
                        len < PAYLOAD_MAX
                    } else {
                        len < 9
                    };
                is_err || ends
            }
            Phase::Done => return Err(ReplyError::Surplus),
        })
    }

    /// Reads the column count that heads a result set; `false` if the packet is not whole.
    fn read_column_count(&mut self, len: usize, bytes: &[u8]) -> Result<bool, ReplyError> {
        let Some(payload) = bytes.get(HEADER_LEN..HEADER_LEN.saturating_add(len)) else {
            // A count is a few bytes; a longer packet cannot be one.
            return if len > 9 {
                Err(ReplyError::Malformed)
            } else {
                Ok(false)
            };
        };
        let count = decode_column_count(payload)?;
        // `advance_definitions` follows and must not count this packet as a definition.
        self.phase = Phase::Columns(u64::from(count).saturating_add(1));
        self.rows = 0;
        Ok(true)
    }

    fn advance_definitions(&mut self) {
        match self.phase {
            Phase::Columns(left) if left > 1 => self.phase = Phase::Columns(left.saturating_sub(1)),
            Phase::Columns(_) => {
                self.phase = match self.deprecate_eof {
                    true if self.owes_eofs => Phase::EofOwed { then: None },
                    true => Phase::Rows,
                    false => Phase::ColumnsEof,
                };
            }
            Phase::Definitions { left, then } if left > 1 => {
                self.phase = Phase::Definitions {
                    left: left.saturating_sub(1),
                    then,
                };
            }
            Phase::Definitions { then, .. } if self.owes_eofs => {
                self.phase = Phase::EofOwed { then: Some(then) };
            }
            Phase::Definitions { then, .. } if self.deprecate_eof => {
                self.phase = Phase::Definitions {
                    left: then,
                    then: 0,
                };
            }
            Phase::Definitions { then, .. } => self.phase = Phase::DefinitionsEof { then },
            Phase::Rows => self.rows = self.rows.saturating_add(1),
            Phase::Head
            | Phase::ColumnsEof
            | Phase::DefinitionsEof { .. }
            | Phase::EofOwed { .. }
            | Phase::Done => {}
        }
    }

    /// The reader is told of the EOF that it is owed.
    fn owe_eof(&mut self) -> Packet {
        if let Phase::EofOwed { then } = self.phase {
            self.phase = then.map_or(Phase::Rows, |left| Phase::Definitions { left, then: 0 });
        }
        Packet::EofOwed
    }

    /// Whether an EOF is owed ahead of this packet, which ends rows: it is not where a cursor was opened or
    /// could not be, for then the one packet ends the definitions and all.
    fn opens_no_cursor(&self, packet: &[u8]) -> Result<bool, ReplyError> {
        let is_owed = matches!(self.phase, Phase::EofOwed { .. });
        if !is_owed || packet.get(HEADER_LEN) == Some(&0xff) {
            return Ok(false);
        }
        let mut reader = Reader::new(
            packet
                .get(HEADER_LEN.saturating_add(1)..)
                .unwrap_or_default(),
        );
        reader.lenenc()?;
        reader.lenenc()?;
        let status = reader.u16()?;
        Ok(status & CURSOR_EXISTS == 0 || status & MORE_RESULTS != 0)
    }

    fn pass(&mut self, header: Header, bytes: &mut [u8]) {
        self.count_packet(bytes);
        self.remaining = header.len;
        self.continues = header.len == PAYLOAD_MAX;
    }

    fn count_packet(&mut self, bytes: &mut [u8]) {
        if self.seq_shift != 0
            && let Some(seq) = bytes.get_mut(3)
        {
            *seq = seq.wrapping_add(self.seq_shift);
        }
        self.seq = self.seq.wrapping_add(1);
        self.has_begun = true;
    }
}

enum Look {
    /// A legacy EOF is owed to the reader ahead of the packet, which is not taken in.
    Owed,
    /// A packet that passes; its header is taken in.
    Passes,
    /// A state packet with a payload of this many bytes.
    State(usize),
    /// Too few bytes to tell.
    Short,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    fn packet(out: &mut Vec<u8>, seq: &mut u8, payload: &[u8]) {
        let mut rest = payload;
        loop {
            let len = rest.len().min(PAYLOAD_MAX);
            out.extend_from_slice(&Header { len, seq: *seq }.encode());
            out.extend_from_slice(&rest[..len]);
            *seq = seq.wrapping_add(1);
            rest = &rest[len..];
            if len < PAYLOAD_MAX {
                return;
            }
        }
    }

    fn stream(payloads: &[&[u8]]) -> Vec<u8> {
        let (mut out, mut seq) = (Vec::new(), 1);
        payloads
            .iter()
            .for_each(|payload| packet(&mut out, &mut seq, payload));
        out
    }

    /// Feeds `chunks`; returns the bytes that came out and the state packets.
    fn walk(
        walker: &mut ReplyWalker,
        chunks: &mut [Vec<u8>],
    ) -> Result<(Vec<u8>, Vec<Packet>), ReplyError> {
        let (mut out, mut packets) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let mut at = 0;
            loop {
                let used = match walker.step(&mut chunk[at..])? {
                    Step::Starved => break,
                    Step::Pass(n) => {
                        out.extend_from_slice(&chunk[at..at + n]);
                        n
                    }
                    Step::PassCarried(n) => {
                        out.extend_from_slice(walker.carried());
                        n
                    }
                    Step::Packet(n, packet) => {
                        out.extend_from_slice(&chunk[at..at + n]);
                        packets.push(packet);
                        n
                    }
                    Step::PacketCarried(n, packet) => {
                        if packet != Packet::EofOwed {
                            out.extend_from_slice(walker.carried());
                        }
                        packets.push(packet);
                        n
                    }
                };
                at += used;
            }
        }
        Ok((out, packets))
    }

    const OK: &[u8] = &[0, 1, 5, 2, 0, 0, 0];
    const OK_MORE: &[u8] = &[0, 1, 5, 0x0a, 0, 0, 0];
    const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
    const EOF_CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0];
    const OK_ROWS: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];
    const OK_ROWS_TRACKED: &[u8] = &[0xfe, 0, 0, 2, 0x40, 0, 0, 0, 4, 2, 2, 1, b'1'];
    const ERR: &[u8] = b"\xff\x15\x04#28000no";
    const COLUMN: &[u8] =
        b"\x03def\x00\x00\x00\x01a\x00\x0c\x21\x00\x01\x00\x00\x00\x08\x81\x00\x00\x00\x00";

    /// Name, what is expected, DEPRECATE_EOF, payloads, rows.
    type Case<'a> = (&'a str, Expect, bool, Vec<&'a [u8]>, u64);

    fn replies(row: &[u8]) -> Vec<Case<'_>> {
        let prepare: &[u8] = &[0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        let legacy_prepare: &[u8] = &[0, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        let no_op: &[u8] = &[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let rows = vec![&[2], COLUMN, COLUMN, row, row, OK_ROWS];
        let cursor = vec![&[1], COLUMN, EOF_CURSOR];
        let no_cursor = vec![&[1], COLUMN, EOF_CURSOR, row, EOF];
        let prepared = vec![prepare, COLUMN, COLUMN, COLUMN];
        let legacy_prepared = vec![legacy_prepare, COLUMN, EOF, COLUMN, EOF];
        let fetched = vec![&[0, 0, 1], &[0, 0, 2], OK_ROWS];
        let (results, prepares) = (Expect::Results, Expect::Prepare);
        vec![
            ("ok", results, true, vec![OK], 0),
            ("err", results, true, vec![ERR], 0),
            ("multi", results, true, vec![OK_MORE, OK], 0),
            ("rows", results, true, rows, 2),
            (
                "legacy",
                results,
                false,
                vec![&[1], COLUMN, EOF, row, EOF],
                1,
            ),
            ("cursor", Expect::ResultsOrCursor, false, cursor, 0),
            ("a procedure's own cursor", results, false, no_cursor, 1),
            (
                "mid-result error",
                results,
                true,
                vec![&[1], COLUMN, row, ERR],
                1,
            ),
            ("no-op prepare", prepares, true, vec![no_op], 0),
            ("prepare", prepares, true, prepared, 0),
            ("legacy prepare", prepares, false, legacy_prepared, 0),
            ("fetch", Expect::Rows, true, fetched, 2),
            ("init db", Expect::Ok, true, vec![OK], 0),
            ("set option", Expect::Ok, true, vec![OK_ROWS], 0),
            ("legacy set option", Expect::Ok, false, vec![EOF], 0),
            (
                "tracked set option",
                Expect::Ok,
                true,
                vec![OK_ROWS_TRACKED],
                0,
            ),
        ]
    }

    #[test]
    fn every_cut_of_every_reply_gives_the_same_bytes_and_packets() {
        let row = [b"\x02".as_slice(), b"ab"].concat();
        for (name, expect, deprecate_eof, payloads, rows) in replies(&row) {
            let whole = stream(&payloads);
            let mut walker = ReplyWalker::new(deprecate_eof);
            walker.start(expect, 0);
            let expected = walk(&mut walker, &mut [whole.clone()]).expect(name);
            assert!(walker.is_done(), "{name}");
            assert_eq!(walker.rows(), rows, "{name}");
            assert_eq!(expected.0, whole, "{name}");
            for cut in 0..=whole.len() {
                let mut chunks = [whole[..cut].to_vec(), whole[cut..].to_vec()];
                walker.start(expect, 0);
                assert_eq!(
                    walk(&mut walker, &mut chunks).expect(name),
                    expected,
                    "{name} at {cut}"
                );
                assert!(walker.is_done(), "{name} cut at {cut}");
            }
            let mut bytes: Vec<_> = whole.iter().map(|byte| vec![*byte]).collect();
            walker.start(expect, 0);
            assert_eq!(
                walk(&mut walker, &mut bytes).expect(name),
                expected,
                "{name} byte by byte"
            );
        }
    }

    /// What a reader that knows legacy EOFs is given of a reply without them.
    fn give(walker: &mut ReplyWalker, chunks: &mut [Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            let mut at = 0;
            loop {
                let rest = &mut chunk[at..];
                let (used, packet, carried) = match walker.step(rest).expect("a reply") {
                    Step::Starved => break,
                    Step::Pass(n) => (n, None, false),
                    Step::PassCarried(n) => (n, None, true),
                    Step::Packet(n, packet) => (n, Some(packet), false),
                    Step::PacketCarried(n, packet) => (n, Some(packet), true),
                };
                let piece = match carried {
                    true => walker.carried(),
                    false => &chunk[at..at + used],
                };
                match packet {
                    Some(Packet::EofOwed) => {
                        super::super::cursor::packet(&mut out, walker.next_sequence(), |out| {
                            out.extend_from_slice(EOF);
                        });
                        walker.shift_sequence(1);
                    }
                    _ => out.extend_from_slice(piece),
                }
                at += used;
            }
        }
        out
    }

    /// Name, what is expected, payloads without legacy EOFs and with those that a reader is owed.
    type Owed<'a> = (&'a str, Expect, Vec<&'a [u8]>, Vec<&'a [u8]>);

    fn owed_in_results() -> Vec<Owed<'static>> {
        let row: &[u8] = b"\x02ab";
        let cursor: &[u8] = &[0xfe, 0, 0, 0x42, 0, 0, 0];
        let left_over: &[u8] = &[0xfe, 0, 0, 0x4a, 0, 0, 0];
        let (results, or_cursor) = (Expect::Results, Expect::ResultsOrCursor);
        let rows = [&[2], COLUMN, COLUMN, row, row, OK_ROWS];
        let with_eof = [&[2], COLUMN, COLUMN, EOF, row, row, OK_ROWS];
        vec![
            ("rows", results, rows.to_vec(), with_eof.to_vec()),
            (
                "rows, no cursor",
                or_cursor,
                rows.to_vec(),
                with_eof.to_vec(),
            ),
            (
                "none",
                results,
                vec![&[1], COLUMN, OK_ROWS],
                vec![&[1], COLUMN, EOF, OK_ROWS],
            ),
            (
                "none, no cursor",
                or_cursor,
                vec![&[1], COLUMN, OK_ROWS],
                vec![&[1], COLUMN, EOF, OK_ROWS],
            ),
            (
                "cursor",
                or_cursor,
                vec![&[1], COLUMN, cursor],
                vec![&[1], COLUMN, cursor],
            ),
            (
                "a procedure's own cursor",
                or_cursor,
                vec![&[1], COLUMN, left_over, OK],
                vec![&[1], COLUMN, EOF, left_over, OK],
            ),
        ]
    }

    fn owed_elsewhere(long: &[u8]) -> Vec<Owed<'_>> {
        let row: &[u8] = b"\x02ab";
        let prepare: &[u8] = &[0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        let (results, or_cursor) = (Expect::Results, Expect::ResultsOrCursor);
        vec![
            (
                "an error",
                results,
                vec![&[1], COLUMN, ERR],
                vec![&[1], COLUMN, EOF, ERR],
            ),
            (
                "an error in the place of a cursor",
                or_cursor,
                vec![&[1], COLUMN, ERR],
                vec![&[1], COLUMN, ERR],
            ),
            (
                "an error among definitions",
                results,
                vec![&[2], COLUMN, ERR],
                vec![&[2], COLUMN, ERR],
            ),
            (
                "several",
                results,
                vec![
                    OK_MORE,
                    &[1],
                    COLUMN,
                    row,
                    &[0xfe, 0, 0, 0x0a, 0, 0, 0],
                    &[1],
                    COLUMN,
                    OK_ROWS,
                ],
                vec![
                    OK_MORE,
                    &[1],
                    COLUMN,
                    EOF,
                    row,
                    &[0xfe, 0, 0, 0x0a, 0, 0, 0],
                    &[1],
                    COLUMN,
                    EOF,
                    OK_ROWS,
                ],
            ),
            (
                "parameters and columns",
                Expect::Prepare,
                vec![prepare, COLUMN, COLUMN, COLUMN],
                vec![prepare, COLUMN, COLUMN, EOF, COLUMN],
            ),
            (
                "fetch",
                Expect::Rows,
                vec![&[0, 0, 1], OK_ROWS],
                vec![&[0, 0, 1], OK_ROWS],
            ),
            (
                "a row that looks like an end",
                or_cursor,
                vec![&[1], COLUMN, long, OK_ROWS],
                vec![&[1], COLUMN, EOF, long, OK_ROWS],
            ),
        ]
    }

    #[test]
    fn legacy_eofs_are_owed_behind_every_list_of_definitions_wherever_the_reply_is_cut() {
        let long = vec![0xfe; PAYLOAD_MAX];
        for (name, expect, from, to) in [owed_in_results(), owed_elsewhere(&long)].concat() {
            let (whole, wanted) = (stream(&from), stream(&to));
            let mut walker = ReplyWalker::new(true);
            let mut check = |mut chunks: Vec<Vec<u8>>, cut: &str| {
                walker.start(expect, 0);
                walker.owe_eofs();
                assert!(give(&mut walker, &mut chunks) == wanted, "{name}, {cut}");
                assert!(walker.is_done(), "{name}, {cut}");
            };
            check(vec![whole.clone()], "whole");
            let cuts = whole.len().min(256);
            for cut in 0..cuts {
                let chunks = vec![whole[..cut].to_vec(), whole[cut..].to_vec()];
                check(chunks, &format!("cut at {cut}"));
            }
            let bytes = |len: usize| whole.chunks(len).map(<[u8]>::to_vec).collect();
            check(
                bytes(if whole.len() > 256 { 997 } else { 1 }),
                "in small pieces",
            );
        }
    }

    #[test]
    fn a_reply_is_touched_from_its_first_byte_on_and_between_results() {
        let mut walker = ReplyWalker::new(true);
        let whole = stream(&[OK_MORE, OK]);
        for cut in 0..=whole.len() {
            walker.start(Expect::Results, 0);
            walk(&mut walker, &mut [whole[..cut].to_vec()]).expect("a reply");
            assert_eq!(walker.is_untouched(), cut == 0, "{cut}");
        }
        let more: &[u8] = &[0xfe, 0, 0, 0x0a, 0, 0, 0];
        walker.start(Expect::Results, 0);
        let mut chunks = [stream(&[&[1], COLUMN, &[1, b'x'], more])];
        walk(&mut walker, &mut chunks).expect("a reply");
        assert!(!walker.is_untouched() && walker.is_at_boundary());
        assert_eq!(walker.next_sequence(), 5);
    }

    #[test]
    fn a_server_with_legacy_eofs_owes_none() {
        let whole = stream(&[&[1], COLUMN, EOF, b"\x02ab", EOF]);
        let mut walker = ReplyWalker::new(false);
        walker.start(Expect::Results, 0);
        walker.owe_eofs();
        assert_eq!(give(&mut walker, &mut [whole.clone()]), whole);
    }

    #[test]
    fn replies_in_one_piece_are_walked_as_those_byte_by_byte() {
        // What comes byte by byte is never skimmed.
        let mut prng = Prng::new(7);
        let mut done = 0;
        for round in 0..4000_u16 {
            let payloads: Vec<Vec<u8>> = (0..prng.below(6))
                .map(|_| {
                    let firsts = [0, 1, 2, 250, 251, 252, 253, 254, 255];
                    let index = usize::try_from(prng.below(9)).unwrap();
                    let len = usize::try_from(prng.below(12)).unwrap();
                    let mut payload = vec![0; len];
                    payload.iter_mut().take(1).for_each(|b| *b = firsts[index]);
                    payload
                })
                .collect();
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let whole = stream(&payloads);
            let expects = [Expect::Results, Expect::Ok, Expect::Prepare, Expect::Rows];
            for expect in expects {
                let mut walks = [
                    vec![whole.clone()],
                    whole.chunks(1).map(Vec::from).collect(),
                ]
                .map(|mut chunks| {
                    let mut walker = ReplyWalker::new(round % 2 == 0);
                    walker.start(expect, 0);
                    walker.shift_sequence(u8::try_from(round % 3).unwrap());
                    if round % 4 == 0 {
                        walker.owe_eofs();
                    }
                    let found = walk(&mut walker, &mut chunks);
                    done += u32::from(found.is_ok() && walker.is_done());
                    (found, walker.rows(), walker.next_sequence(), walker.place())
                })
                .into_iter();
                let (at_once, by_bytes) = (walks.next().unwrap(), walks.next().unwrap());
                // What has passed of a cut packet, or before an error, may differ.
                match at_once.0.is_ok() {
                    true => assert_eq!(at_once, by_bytes, "round {round}: {whole:?}"),
                    false => assert_eq!(at_once.0, by_bytes.0, "round {round}: {whole:?}"),
                }
            }
        }
        assert!(done > 1000, "{done}");
    }

    #[test]
    fn rows_of_16_mib_continue_and_only_the_walker_knows() {
        for size in [
            PAYLOAD_MAX - 1,
            PAYLOAD_MAX,
            PAYLOAD_MAX + 1,
            2 * PAYLOAD_MAX,
        ] {
            // A row whose first field is longer than 16 MiB starts with 0xFE: no EOF (trap 3).
            let mut row = vec![0xab; size];
            row[0] = if size >= PAYLOAD_MAX { 0xfe } else { 0xfd };
            let whole = stream(&[&[1], COLUMN, &row, OK_ROWS]);
            let mut walker = ReplyWalker::new(true);
            walker.start(Expect::Results, 0);
            let mut chunks: Vec<_> = whole.chunks(65_521).map(<[u8]>::to_vec).collect();
            let (out, packets) = walk(&mut walker, &mut chunks).expect("walk");
            assert!(
                out == whole && walker.is_done() && walker.rows() == 1,
                "{size}"
            );
            assert_eq!(packets.len(), 1);
        }
    }

    #[test]
    fn a_sequence_shift_rewrites_what_passes() {
        let whole = stream(&[&[1], COLUMN, &[1, b'x'], OK_ROWS]);
        let mut walker = ReplyWalker::new(true);
        walker.start(Expect::Results, 0);
        walker.shift_sequence(255);
        let (out, _) = walk(&mut walker, &mut [whole]).expect("walk");
        let mut seqs = Vec::new();
        let mut at = 0;
        while let Some(header) = out.get(at..).and_then(Header::parse) {
            seqs.push(header.seq);
            at += HEADER_LEN + header.len;
        }
        assert_eq!(seqs, [0, 1, 2, 3]);
        assert_eq!(walker.next_sequence(), 4);
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let check = |expect, bytes: Vec<u8>, error| {
            let mut walker = ReplyWalker::new(true);
            walker.start(expect, 0);
            assert_eq!(walk(&mut walker, &mut [bytes]), Err(error));
        };
        check(Expect::Results, vec![1, 0, 0, 9, 0], ReplyError::Sequence);
        check(Expect::Results, vec![0, 0, 0, 1], ReplyError::Malformed);
        check(
            Expect::Results,
            stream(&[b"\xfb/etc/passwd"]),
            ReplyError::LocalInfile,
        );
        check(
            Expect::Results,
            stream(&[&[0xfe; 9]]),
            ReplyError::Malformed,
        );
        check(
            Expect::Results,
            stream(&[&[0xfd, 0, 0, 1]]),
            ReplyError::Malformed,
        );
        check(Expect::Results, stream(&[&[0, 0]]), ReplyError::Malformed);
        check(Expect::Results, stream(&[OK, OK]), ReplyError::Surplus);
        check(Expect::Ok, stream(&[&[1]]), ReplyError::Malformed);
        check(Expect::Prepare, stream(&[&[0, 1]]), ReplyError::Malformed);
        let huge = vec![0; CONTROL_LEN_MAX + 1];
        check(Expect::Results, stream(&[&huge]), ReplyError::TooLarge);
    }
}
