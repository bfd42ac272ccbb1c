//! Comparing a MySQL answer with what the scenario expects of it.

use super::keys::Drawn;
use super::scenario::Expectation;
use crate::wire::mysql::flags::header;
use crate::wire::mysql::frame::{HEADER_LEN, Header};
use crate::wire::mysql::value::{Column, TextRow, Value, decode_binary_row, decode_column_count};

/// Bytes of an answer that are kept to look at its first row.
const KEPT_MAX: usize = 256 * 1024;

/// The answer in progress, as far as somebody will look at it.
#[derive(Debug)]
pub(super) struct Answer {
    expect: Option<Expectation>,
    /// The argument that the first column should equal.
    wanted: Option<String>,
    bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn new(expect: Option<Expectation>) -> Self {
        Self {
            expect,
            wanted: None,
            bytes: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self) {
        self.bytes.clear();
    }

    fn wants_column(&self) -> Option<u32> {
        self.expect
            .as_ref()
            .and_then(|expect| expect.first_column_is_argument)
    }

    /// Remembers an argument, counted from 1, if the answer is to repeat it.
    pub(super) fn note(&mut self, number: usize, argument: &Drawn<'_>) {
        if self.wants_column().map(|wanted| wanted as usize) == Some(number) {
            self.wanted = Some(match argument {
                Drawn::Number(number) => number.to_string(),
                Drawn::Text(text) => (*text).to_owned(),
            });
        }
    }

    /// Keeps what has come, if the first row will be looked at.
    pub(super) fn collect(&mut self, bytes: &[u8]) {
        if self.wants_column().is_some() {
            let room = KEPT_MAX.saturating_sub(self.bytes.len());
            let kept = bytes.get(..bytes.len().min(room)).unwrap_or_default();
            self.bytes.extend_from_slice(kept);
        }
    }

    /// Whether the complete answer, with `rows` rows, is as expected.
    pub(super) fn is_right(&self, rows: u64, is_binary: bool) -> bool {
        let Some(expect) = &self.expect else {
            return true;
        };
        if expect.rows.is_some_and(|wanted| wanted != rows) {
            return false;
        }
        match (expect.first_column_is_argument, &self.wanted) {
            (Some(_), Some(wanted)) => {
                first_value(&self.bytes, is_binary).is_some_and(|found| found == *wanted)
            }
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

/// The first column of the first row, as text.
fn first_value(mut bytes: &[u8], is_binary: bool) -> Option<String> {
    let mut next = || -> Option<&[u8]> {
        let header = Header::parse(bytes)?;
        let (_, after) = bytes.split_at_checked(HEADER_LEN)?;
        let (payload, after) = after.split_at_checked(header.len)?;
        bytes = after;
        Some(payload)
    };
    let count = decode_column_count(next()?).ok()?;
    let mut types = Vec::new();
    for _ in 0..count {
        let column = Column::decode(next()?).ok()?;
        types.push((column.column_type, column.is_unsigned()));
    }
    let row = next()?;
    if row.first() == Some(&header::EOF) && row.len() < 9 {
        return None;
    }
    if !is_binary {
        let first = TextRow::new(row).next()?.ok()??;
        return String::from_utf8(first.to_vec()).ok();
    }
    let values = decode_binary_row(row, &types).ok()?;
    match values.first()? {
        Value::Signed(number) => Some(number.to_string()),
        Value::Unsigned(number) => Some(number.to_string()),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}
