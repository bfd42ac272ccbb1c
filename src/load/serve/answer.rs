//! The one result set of a null MySQL server, encoded before the first client comes.
//!
//! What differs between two answers is the form of its rows, whether EOF packets are deprecated, and
//! the status flags: a byte of the state of the session. All of these are encoded ahead; rows beyond
//! a small answer are one block of 256 rows that is sent again and again, because sequence ids
//! repeat themselves after as many packets.

use crate::wire::mysql::cursor::{packet, put_lenenc_bytes};
use crate::wire::mysql::flags::{caps, column_type, status};
use crate::wire::mysql::response::{EofPacket, OkPacket, encode_end_of_rows, encode_eof};
use crate::wire::mysql::value::{Column, encode_column_count};

/// Rows of a block: the period of sequence ids.
const BLOCK_ROWS: u64 = 256;
/// Bytes of rows up to which an answer is kept whole, once for each status.
const SMALL_BYTES: usize = 16 * 1024;
/// The longest value of a row. A block of such rows has 16 MiB.
pub const ROW_BYTES_MAX: usize = 64 * 1024;

/// Collation utf8mb4_general_ci.
const COLLATION: u16 = 45;

/// What is sent for one statement, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Column definitions; the whole answer if it is small.
    pub head: &'static [u8],
    /// Rows that are sent `blocks` times.
    pub block: &'static [u8],
    /// How often.
    pub blocks: u64,
    /// Rows behind the blocks.
    pub rest: &'static [u8],
    /// The end of the rows; empty if `head` has it already.
    pub end: &'static [u8],
}

/// All forms of the answer.
#[derive(Debug)]
pub struct Answers {
    /// By [`form`].
    forms: [Form; 4],
}

/// Which status flags an answer may carry, by their two lowest bits.
#[derive(Debug)]
struct Form {
    by_status: [Rows; 4],
}

fn form(is_binary: bool, deprecates_eof: bool) -> usize {
    usize::from(is_binary) * 2 + usize::from(deprecates_eof)
}

/// How a number of rows is named in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerShape {
    /// Rows of the answer.
    pub rows: u64,
    /// Bytes of each row's value, at most [`ROW_BYTES_MAX`].
    pub row_bytes: usize,
}

impl Answers {
    /// Encodes the answer in all forms. The memory is never given back: an answer is sent from it
    /// without a copy, and the process has one for its life.
    pub fn leaked(shape: AnswerShape) -> &'static Self {
        let forms = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(is_binary, deprecates_eof)| Form::new(shape, is_binary, deprecates_eof));
        Box::leak(Box::new(Self { forms }))
    }

    /// The answer for a session in the state `flags`, of which IN_TRANS and AUTOCOMMIT count.
    pub fn rows(&self, is_binary: bool, deprecates_eof: bool, flags: u16) -> Rows {
        let form = &self.forms[form(is_binary, deprecates_eof)];
        form.by_status[usize::from(flags & (status::IN_TRANS | status::AUTOCOMMIT))]
    }
}

impl Form {
    fn new(shape: AnswerShape, is_binary: bool, deprecates_eof: bool) -> Self {
        let first_row = if deprecates_eof { 3 } else { 4 };
        let block_rows = shape.rows.min(BLOCK_ROWS);
        let mut block = Vec::new();
        let mut sequence = first_row;
        for _ in 0..block_rows {
            sequence = packet(&mut block, sequence, |out| {
                put_row(out, shape.row_bytes, is_binary);
            });
        }
        let block: &'static [u8] = Box::leak(block.into_boxed_slice());
        let (blocks, rest_rows) = (shape.rows / BLOCK_ROWS, shape.rows % BLOCK_ROWS);
        let rest = match usize::try_from(rest_rows) {
            Ok(rows) if blocks > 0 => block.get(..block.len() / 256 * rows).unwrap_or_default(),
            _ => block,
        };
        // A shift by whole blocks changes no sequence id.
        let after_rows = u8::try_from((u64::from(first_row) + rest_rows) % 256).unwrap_or(0);
        let by_status = [0, 1, 2, 3].map(|flags| {
            let mut head = head(flags, deprecates_eof);
            let end = end(flags, deprecates_eof, after_rows);
            if blocks == 0 && rest.len() <= SMALL_BYTES {
                head.extend_from_slice(rest);
                head.extend_from_slice(&end);
                return Rows::whole(Box::leak(head.into_boxed_slice()));
            }
            Rows {
                head: Box::leak(head.into_boxed_slice()),
                block,
                blocks,
                rest,
                end: Box::leak(end.into_boxed_slice()),
            }
        });
        Self { by_status }
    }
}

impl Rows {
    fn whole(head: &'static [u8]) -> Self {
        Self {
            head,
            block: &[],
            blocks: 0,
            rest: &[],
            end: &[],
        }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        let parts = self.head.len() + self.rest.len() + self.end.len();
        self.blocks * self.block.len() as u64 + parts as u64
    }
}

/// The column of the answer: the one that sysbench asks for.
pub fn column(row_bytes: usize) -> Column<'static> {
    text_column(b"c", u32::try_from(row_bytes).unwrap_or(u32::MAX))
}

/// A column of text.
pub fn text_column(name: &[u8], length: u32) -> Column<'_> {
    Column {
        schema: b"",
        table: b"",
        org_table: b"",
        name,
        org_name: name,
        collation: COLLATION,
        length,
        column_type: column_type::VAR_STRING,
        flags: 0,
        decimals: 0,
    }
}

fn head(flags: u16, deprecates_eof: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let columns = [column(ROW_BYTES_MAX)];
    let mut sequence = packet(&mut out, 1, |out| encode_column_count(out, &columns));
    for column in &columns {
        sequence = packet(&mut out, sequence, |out| column.encode(out));
    }
    if !deprecates_eof {
        let eof = EofPacket {
            warnings: 0,
            status: flags,
        };
        packet(&mut out, sequence, |out| encode_eof(out, eof));
    }
    out
}

fn end(flags: u16, deprecates_eof: bool, sequence: u8) -> Vec<u8> {
    let negotiated = if deprecates_eof {
        caps::DEPRECATE_EOF
    } else {
        0
    };
    let ok = OkPacket {
        status: flags,
        ..OkPacket::default()
    };
    let mut out = Vec::new();
    packet(&mut out, sequence, |out| {
        encode_end_of_rows(out, negotiated, &ok);
    });
    out
}

/// A row of one value.
fn put_row(out: &mut Vec<u8>, row_bytes: usize, is_binary: bool) {
    if is_binary {
        // The header and the bitmap of NULLs, of which there are none.
        out.extend_from_slice(&[0, 0]);
    }
    let value: Vec<u8> = b"0123456789-"
        .iter()
        .copied()
        .cycle()
        .take(row_bytes)
        .collect();
    put_lenenc_bytes(out, &value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::cursor::Reader;
    use crate::wire::mysql::reply::{Expect, Packet, ReplyWalker, Step};

    fn sent(rows: &Rows) -> Vec<u8> {
        let mut bytes = rows.head.to_vec();
        (0..rows.blocks).for_each(|_| bytes.extend_from_slice(rows.block));
        bytes.extend_from_slice(rows.rest);
        bytes.extend_from_slice(rows.end);
        assert_eq!(bytes.len() as u64, rows.bytes());
        bytes
    }

    #[test]
    fn every_form_is_one_whole_reply_of_so_many_rows() {
        for rows in [0, 1, 2, 255, 256, 257, 511, 512, 5_000] {
            for (is_binary, deprecates_eof) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let shape = AnswerShape { rows, row_bytes: 7 };
                let form = Form::new(shape, is_binary, deprecates_eof);
                for flags in 0..4 {
                    let mut bytes = sent(&form.by_status[flags]);
                    let mut walker = ReplyWalker::new(deprecates_eof);
                    walker.start(Expect::Results, 0);
                    let mut at = 0;
                    let status = loop {
                        match walker.step(&mut bytes[at..]).unwrap() {
                            Step::Pass(count) => at += count,
                            Step::Packet(count, Packet::ColumnsEnd { .. }) => at += count,
                            Step::Packet(
                                count,
                                Packet::Ok {
                                    status, is_last, ..
                                },
                            ) => {
                                assert!(is_last);
                                at += count;
                                break status;
                            }
                            step => panic!("{step:?}"),
                        }
                    };
                    assert_eq!((at, walker.rows()), (bytes.len(), rows));
                    assert!(walker.is_done());
                    assert_eq!(usize::from(status), flags);
                }
            }
        }
    }

    #[test]
    fn values_have_the_length_asked_for() {
        let mut out = Vec::new();
        put_row(&mut out, 300, true);
        let mut reader = Reader::new(&out[2..]);
        assert_eq!(reader.lenenc_bytes().unwrap().len(), 300);
        assert!(reader.is_empty());
    }
}
