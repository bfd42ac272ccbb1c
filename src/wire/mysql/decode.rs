//! Decodes replies into columns, rows and what ends them: for those who speak for a client that does not
//! speak MySQL itself.
//!
//! Where a reply's packets stand, [`ReplyWalker`] knows; this is the side that looks into them. Memory is
//! bounded by the longest row that its user allows and by what the user feeds at once.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::flags::{caps, com, header, status};
use super::frame::{HEADER_LEN, Header, PAYLOAD_MAX};
use super::reply::{Expect, Packet, Place, ReplyError, ReplyWalker, Step};
use super::response::{ErrPacket, OkPacket, decode_eof, decode_err, decode_ok, is_eof};
use super::rows::{Columns, Row, RowForm};
use super::value::PrepareOk;

/// Bytes at a command's start that say what reply it has: the command, a statement's id, flags.
pub const COMMAND_HEAD: usize = 6;

/// Decoded bytes that are kept in front of those to come before the latter are moved.
const SPENT_MAX: usize = 64 * 1024;

/// A piece of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A result begins: its columns.
    Columns(&'a Columns),
    /// A row of the result, or of the cursor that COM_STMT_FETCH reads.
    Row(Row<'a>),
    /// A result is over: its last row has come, or a cursor was opened for its rows.
    RowsEnd {
        /// Status, warnings and, if the peer sent it, more.
        ok: OkPacket<'a>,
        /// A cursor was opened, from which the rows can be fetched.
        opens_cursor: bool,
        /// The reply is over.
        is_last: bool,
    },
    /// Done, without a result.
    Ok {
        /// What the peer says of it.
        ok: OkPacket<'a>,
        /// The reply is over.
        is_last: bool,
    },
    /// The command has failed, and its reply is over.
    Err(ErrPacket<'a>),
    /// The reply to COM_STMT_PREPARE, whole.
    Prepared {
        /// The statement's id.
        id: u32,
        /// Its parameters.
        params: &'a Columns,
        /// The columns of its result; none if it has no result.
        columns: &'a Columns,
        /// Number of warnings.
        warnings: u16,
    },
    /// The peer ends the connection, and nobody had asked: no reply comes any more.
    Goodbye(ErrPacket<'a>),
}

impl Event<'_> {
    /// Whether the reply ends with it.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Columns(_) | Self::Row(_) => false,
            Self::RowsEnd { is_last, .. } | Self::Ok { is_last, .. } => *is_last,
            Self::Err(_) | Self::Prepared { .. } | Self::Goodbye(_) => true,
        }
    }
}

/// A reply that is to come.
#[derive(Clone, Copy, Debug)]
struct Asked {
    expect: Expect,
    form: RowForm,
    /// The statement that is executed or fetched from.
    statement: u32,
    /// The sequence id of the command's last packet.
    sequence: u8,
}

/// What was found, by where it is.
#[derive(Debug)]
enum Found {
    Columns,
    Row(Range<usize>),
    LongRow,
    RowsEnd { at: Range<usize>, is_last: bool },
    CursorOpened { status: u16 },
    Ok { at: Range<usize>, is_last: bool },
    Err(Range<usize>),
    Prepared,
    Goodbye(Range<usize>),
}

/// The replies of one connection, one after the other.
#[derive(Debug)]
pub struct Decoder {
    capabilities: u32,
    row_max: usize,
    walker: ReplyWalker,
    asked: VecDeque<Asked>,
    now: Asked,
    /// Fed; the first `spent` bytes are decoded.
    bytes: Vec<u8>,
    spent: usize,
    /// The row of several packets that is coming.
    long_row: Vec<u8>,
    long_row_goes_on: bool,
    columns: Columns,
    params: Columns,
    /// The head of the PREPARE reply in progress.
    prepared: PrepareOk,
    /// The columns of the statements that have a cursor open.
    cursors: HashMap<u32, Columns>,
    /// A cursor was opened by the EOF behind the columns, which were told of.
    opened: Option<u16>,
    found: Option<Found>,
}

/// Bytes of an EOF packet's payload.
const EOF_LEN: usize = 5;

impl Decoder {
    /// For a connection with these capabilities. A row of more than `row_max` bytes is an error.
    pub fn new(capabilities: u32, row_max: usize) -> Self {
        Self {
            capabilities,
            row_max,
            walker: ReplyWalker::new(capabilities & caps::DEPRECATE_EOF != 0),
            asked: VecDeque::new(),
            now: Asked {
                expect: Expect::Ok,
                form: RowForm::Text,
                statement: 0,
                sequence: 0,
            },
            bytes: Vec::new(),
            spent: 0,
            long_row: Vec::new(),
            long_row_goes_on: false,
            columns: Columns::default(),
            params: Columns::default(),
            prepared: PrepareOk::default(),
            cursors: HashMap::new(),
            opened: None,
            found: None,
        }
    }

    /// A command was sent: `head` are the first bytes of its payload ([`COMMAND_HEAD`] of them tell all),
    /// `sequence` is the sequence id of its last packet.
    pub fn await_reply(&mut self, head: &[u8], sequence: u8) {
        let id = head.get(1..).and_then(|rest| rest.first_chunk().copied());
        let statement = u32::from_le_bytes(id.unwrap_or_default());
        let (expect, form) = match head.first().copied() {
            Some(com::QUIT | com::STMT_SEND_LONG_DATA) => return,
            Some(com::STMT_CLOSE) => {
                self.cursors.remove(&statement);
                return;
            }
            Some(com::RESET_CONNECTION) => {
                self.cursors.clear();
                (Expect::Ok, RowForm::Text)
            }
            Some(com::QUERY) => (Expect::Results, RowForm::Text),
            Some(com::STMT_EXECUTE) => {
                let asks_for_none = matches!(head.get(COMMAND_HEAD - 1), None | Some(0));
                let expect = match asks_for_none {
                    true => Expect::Results,
                    false => Expect::ResultsOrCursor,
                };
                (expect, RowForm::Binary)
            }
            Some(com::STMT_FETCH) => (Expect::Rows, RowForm::Binary),
            Some(com::STMT_PREPARE) => (Expect::Prepare, RowForm::Text),
            _ => (Expect::Ok, RowForm::Text),
        };
        self.asked.push_back(Asked {
            expect,
            form,
            statement,
            sequence,
        });
    }

    /// Adds bytes of replies. All that was fed before should be decoded by then.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.spent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(SPENT_MAX);
            self.spent = 0;
        } else if self.spent > SPENT_MAX {
            self.bytes.drain(..self.spent);
            self.spent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Goes on to the next piece of a reply: [`Decoder::event`] tells what it is. False if more bytes are
    /// needed.
    ///
    /// # Errors
    /// The replies broke the protocol, or a row is too long: nothing behind it can be decoded.
    pub fn advance(&mut self) -> Result<bool, ReplyError> {
        self.found = self.find()?;
        Ok(self.found.is_some())
    }

    /// The piece that [`Decoder::advance`] has found, as long as nothing else is asked of the decoder.
    ///
    /// # Errors
    /// It is not what its packet says.
    pub fn event(&self) -> Result<Option<Event<'_>>, ReplyError> {
        let Some(found) = &self.found else {
            return Ok(None);
        };
        let payload = |at: &Range<usize>| self.bytes.get(at.clone()).unwrap_or_default();
        Ok(Some(match found {
            Found::Columns => Event::Columns(&self.columns),
            Found::Row(at) => Event::Row(self.row(payload(at))),
            Found::LongRow => Event::Row(self.row(&self.long_row)),
            Found::RowsEnd { at, is_last } => Event::RowsEnd {
                ok: self.decode_end(payload(at))?,
                opens_cursor: self.cursors.contains_key(&self.now.statement)
                    && self.now.expect == Expect::ResultsOrCursor,
                is_last: *is_last,
            },
            Found::CursorOpened { status } => Event::RowsEnd {
                ok: OkPacket {
                    status: *status,
                    ..OkPacket::default()
                },
                opens_cursor: true,
                is_last: true,
            },
            Found::Ok { at, is_last } => Event::Ok {
                ok: self.decode_end(payload(at))?,
                is_last: *is_last,
            },
            Found::Err(at) => Event::Err(decode_err(payload(at))?),
            Found::Prepared => Event::Prepared {
                id: self.prepared.statement,
                params: &self.params,
                columns: &self.columns,
                warnings: self.prepared.warnings,
            },
            Found::Goodbye(at) => Event::Goodbye(decode_err(payload(at))?),
        }))
    }

    /// The sequence id that the last packet of the command in progress had.
    pub fn command_sequence(&self) -> u8 {
        self.now.sequence
    }

    /// Whether a piece of a reply is still to come.
    pub fn is_mid_reply(&self) -> bool {
        !self.walker.is_done() || self.spent < self.bytes.len()
    }

    fn row<'a>(&'a self, payload: &'a [u8]) -> Row<'a> {
        let cursor = match self.now.expect {
            Expect::Rows => self.cursors.get(&self.now.statement),
            Expect::Results | Expect::ResultsOrCursor | Expect::Ok | Expect::Prepare => None,
        };
        Row {
            payload,
            form: self.now.form,
            columns: cursor.unwrap_or(&self.columns),
        }
    }

    /// OK, or the EOF that stands in its place.
    fn decode_end<'a>(&self, payload: &'a [u8]) -> Result<OkPacket<'a>, ReplyError> {
        // The shortest OK has seven bytes.
        if is_eof(payload) && payload.len() == EOF_LEN {
            let eof = decode_eof(payload)?;
            return Ok(OkPacket {
                status: eof.status,
                warnings: eof.warnings,
                ..OkPacket::default()
            });
        }
        Ok(decode_ok(payload, self.capabilities)?)
    }

    /// Goes on to the next packet that is worth telling of.
    fn find(&mut self) -> Result<Option<Found>, ReplyError> {
        if let Some(status) = self.opened.take() {
            return Ok(Some(Found::CursorOpened { status }));
        }
        if !self.long_row_goes_on {
            self.long_row.clear();
        }
        loop {
            let rest = self.bytes.get(self.spent..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else {
                return Ok(None);
            };
            if self.long_row.len().saturating_add(header.len) > self.row_max {
                return Err(ReplyError::TooLarge);
            }
            let start = self.spent.saturating_add(HEADER_LEN);
            let end = start.saturating_add(header.len);
            if self.bytes.len() < end {
                return Ok(None);
            }
            if let Some(found) = self.take(header, start..end)? {
                return Ok(Some(found));
            }
        }
    }

    /// Takes a whole packet, whose payload is `at`.
    fn take(&mut self, packet: Header, at: Range<usize>) -> Result<Option<Found>, ReplyError> {
        if self.walker.is_done() {
            let first = self.bytes.get(at.clone()).and_then(<[u8]>::first);
            let is_asked = packet.seq != 0 && !self.asked.is_empty();
            if first == Some(&header::ERR) && !is_asked {
                self.spent = at.end;
                self.asked.clear();
                return Ok(Some(Found::Goodbye(at)));
            }
            self.now = self.asked.pop_front().ok_or(ReplyError::Surplus)?;
            self.walker.start(self.now.expect, self.now.sequence);
            self.columns.clear();
            self.params.clear();
        }
        let place = self.walker.place();
        let whole = self.bytes.get_mut(self.spent..at.end).unwrap_or_default();
        let len = whole.len();
        let step = self.walker.step(whole)?;
        self.spent = at.end;
        match step {
            Step::Pass(n) if n == len => self.pass(place, packet, at),
            Step::Packet(n, packet) if n == len => self.take_state(packet, at),
            _ => Err(ReplyError::Malformed),
        }
    }

    /// Takes a packet that carries no state.
    fn pass(
        &mut self,
        place: Place,
        packet: Header,
        at: Range<usize>,
    ) -> Result<Option<Found>, ReplyError> {
        match place {
            Place::Head => {
                self.columns.clear();
                Ok(None)
            }
            Place::Definition => {
                self.define(at)?;
                let is_complete = self.walker.place() == Place::Row;
                Ok(is_complete.then_some(Found::Columns))
            }
            Place::Row if packet.len < PAYLOAD_MAX && !self.long_row_goes_on => {
                Ok(Some(Found::Row(at)))
            }
            Place::Row => {
                let part = self.bytes.get(at).unwrap_or_default();
                self.long_row.extend_from_slice(part);
                self.long_row_goes_on = packet.len == PAYLOAD_MAX;
                Ok((!self.long_row_goes_on).then_some(Found::LongRow))
            }
        }
    }

    /// Takes in a definition: of a parameter, as long as the head of a PREPARE reply said there are some.
    fn define(&mut self, at: Range<usize>) -> Result<(), ReplyError> {
        let payload = self.bytes.get(at).unwrap_or_default();
        let is_param = self.now.expect == Expect::Prepare
            && self.params.len() < usize::from(self.prepared.parameters);
        let list = match is_param {
            true => &mut self.params,
            false => &mut self.columns,
        };
        Ok(list.push(payload)?)
    }

    fn take_state(
        &mut self,
        packet: Packet,
        at: Range<usize>,
    ) -> Result<Option<Found>, ReplyError> {
        Ok(Some(match packet {
            Packet::Err { .. } => {
                self.long_row.clear();
                self.long_row_goes_on = false;
                Found::Err(at)
            }
            Packet::Ok {
                ends_rows: true,
                status,
                is_last,
                ..
            } if self.now.expect != Expect::Ok => {
                self.follow_cursor(status);
                Found::RowsEnd { at, is_last }
            }
            Packet::Ok { is_last, .. } => Found::Ok { at, is_last },
            Packet::ColumnsEnd { status, is_last } if self.has_results() => {
                if is_last {
                    self.follow_cursor(status);
                    self.opened = Some(status);
                }
                Found::Columns
            }
            Packet::ColumnsEnd { is_last, .. } => return Ok(is_last.then_some(Found::Prepared)),
            Packet::Prepared { is_last, .. } => {
                let payload = self.bytes.get(at).unwrap_or_default();
                self.prepared = PrepareOk::decode(payload)?;
                return Ok(is_last.then_some(Found::Prepared));
            }
            Packet::DefinitionsEnd => {
                self.define(at)?;
                Found::Prepared
            }
            // Told only where it is asked for.
            Packet::EofOwed => return Err(ReplyError::Malformed),
        }))
    }

    fn has_results(&self) -> bool {
        matches!(self.now.expect, Expect::Results | Expect::ResultsOrCursor)
    }

    /// Keeps the columns of a cursor for those who fetch from it, as long as it is open.
    fn follow_cursor(&mut self, flags: u16) {
        if self.now.form == RowForm::Text {
            return;
        }
        let id = self.now.statement;
        if self.now.expect == Expect::Rows {
            if flags & status::LAST_ROW_SENT != 0 {
                // The rows that end with it were told of before.
                self.cursors.remove(&id);
            }
        } else if self.now.expect == Expect::ResultsOrCursor
            && flags & (status::CURSOR_EXISTS | status::MORE_RESULTS_EXISTS)
                == status::CURSOR_EXISTS
        {
            self.cursors.insert(id, self.columns.clone());
        } else {
            self.cursors.remove(&id);
        }
    }
}
