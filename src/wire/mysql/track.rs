//! Session state changes inside OK packets.
//!
//! Source: MySQL source documentation, "OK_Packet: Session State Information"; MariaDB, "OK_Packet"
//! (one entry may hold several system variables).

use super::cursor::{Reader, WireError, put_lenenc_bytes, put_u8};

const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE_CHANGE: u8 = 2;
const GTIDS: u8 = 3;
const TRANSACTION_CHARACTERISTICS: u8 = 4;
const TRANSACTION_STATE: u8 = 5;

/// One change of session state as the server reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A tracked system variable was set.
    SystemVariable {
        /// Its name.
        name: &'a [u8],
        /// Its new value as text.
        value: &'a [u8],
    },
    /// The default schema changed.
    Schema(&'a [u8]),
    /// `session_track_state_change`: some state changed ("1").
    StateChanged(bool),
    /// GTIDs of the statement, opaque: an encoding byte and a length-encoded string.
    Gtids(&'a [u8]),
    /// The SQL that would start the open transaction again.
    TransactionCharacteristics(&'a [u8]),
    /// Eight characters, one per feature of the open transaction (`T_______`).
    TransactionState(&'a [u8]),
    /// A kind that is not known here.
    Other {
        /// The kind's number.
        kind: u8,
        /// Its data.
        data: &'a [u8],
    },
}

/// An iterator over the changes of one OK packet. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    entries: Reader<'a>,
    variables: Reader<'a>,
}

impl<'a> Changes<'a> {
    /// Starts on [`super::response::OkPacket::session_changes`].
    pub fn new(session_changes: &'a [u8]) -> Self {
        Self {
            entries: Reader::new(session_changes),
            variables: Reader::new(&[]),
        }
    }

    fn read(&mut self) -> Result<Change<'a>, WireError> {
        if self.variables.is_empty() {
            let kind = self.entries.u8()?;
            let data = self.entries.lenenc_bytes()?;
            if kind != SYSTEM_VARIABLES {
                return change(kind, data);
            }
            self.variables = Reader::new(data);
        }
        Ok(Change::SystemVariable {
            name: self.variables.lenenc_bytes()?,
            value: self.variables.lenenc_bytes()?,
        })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.entries.is_empty() && self.variables.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            *self = Self::new(&[]);
        }
        Some(item)
    }
}

fn change(kind: u8, data: &[u8]) -> Result<Change<'_>, WireError> {
    let text = || {
        let mut reader = Reader::new(data);
        let text = reader.lenenc_bytes()?;
        reader.finish().map(|()| text)
    };
    Ok(match kind {
        SCHEMA => Change::Schema(text()?),
        // Unlike the others a bare byte: what MySQL and MariaDB send.
        STATE_CHANGE => Change::StateChanged(data == b"1"),
        GTIDS => Change::Gtids(data),
        TRANSACTION_CHARACTERISTICS => Change::TransactionCharacteristics(text()?),
        TRANSACTION_STATE => Change::TransactionState(text()?),
        kind => Change::Other { kind, data },
    })
}

/// Appends one change in the form that [`Changes`] reads.
pub fn encode_change(out: &mut Vec<u8>, change: &Change<'_>) {
    let mut data = Vec::new();
    let kind = match *change {
        Change::SystemVariable { name, value } => {
            put_lenenc_bytes(&mut data, name);
            put_lenenc_bytes(&mut data, value);
            SYSTEM_VARIABLES
        }
        Change::Schema(name) => {
            put_lenenc_bytes(&mut data, name);
            SCHEMA
        }
        Change::StateChanged(changed) => {
            data.push(if changed { b'1' } else { b'0' });
            STATE_CHANGE
        }
        Change::Gtids(raw) => {
            data.extend_from_slice(raw);
            GTIDS
        }
        Change::TransactionCharacteristics(sql) => {
            put_lenenc_bytes(&mut data, sql);
            TRANSACTION_CHARACTERISTICS
        }
        Change::TransactionState(state) => {
            put_lenenc_bytes(&mut data, state);
            TRANSACTION_STATE
        }
        Change::Other { kind, data: raw } => {
            data.extend_from_slice(raw);
            kind
        }
    };
    put_u8(out, kind);
    put_lenenc_bytes(out, &data);
}

/// Appends those changes of `session_changes` that `keep` wants. On an error nothing is appended.
pub fn filter(
    out: &mut Vec<u8>,
    session_changes: &[u8],
    mut keep: impl FnMut(&Change<'_>) -> bool,
) -> Result<(), WireError> {
    let start = out.len();
    for change in Changes::new(session_changes) {
        match change {
            Ok(change) if keep(&change) => encode_change(out, &change),
            Ok(_) => {}
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(block: &[u8]) -> Result<Vec<Change<'_>>, WireError> {
        Changes::new(block).collect()
    }

    #[test]
    fn several_variables_in_one_entry() {
        // MariaDB may put them so; MySQL sends an entry each.
        let block = b"\x00\x08\x01a\x011\x01b\x012\x02\x011";
        let variable = |name, value| Change::SystemVariable { name, value };
        assert_eq!(
            list(block),
            Ok(vec![
                variable(b"a", b"1"),
                variable(b"b", b"2"),
                Change::StateChanged(true)
            ])
        );
        assert_eq!(list(b""), Ok(vec![]));
        assert_eq!(
            list(b"\x09\x01x"),
            Ok(vec![Change::Other {
                kind: 9,
                data: b"x"
            }])
        );
    }

    #[test]
    fn lengths_that_lie_end_the_list() {
        #[track_caller]
        fn check(block: &[u8], before: usize) {
            let mut changes = Changes::new(block);
            for _ in 0..before {
                assert!(changes.next().unwrap().is_ok());
            }
            assert_eq!(changes.next(), Some(Err(WireError::Malformed)));
            assert_eq!(changes.next(), None);
        }
        check(b"\x01", 0);
        check(b"\x01\x05\x01a", 0);
        check(b"\x01\x03\x01ab", 0);
        check(b"\x00\x03\x01a\x01", 0);
        check(b"\x00\x05\x01a\x011\x01", 1);
        check(b"\x02\x011\xff", 1);
    }

    #[test]
    fn filtering_keeps_order_and_is_all_or_nothing() {
        let block = b"\x00\x04\x01a\x011\x01\x02\x01s\x00\x04\x01b\x012\x02\x011";
        let mut out = b"before".to_vec();
        filter(&mut out, block, |change| {
            !matches!(change, Change::SystemVariable { name: b"a", .. })
        })
        .unwrap();
        assert_eq!(out, b"before\x01\x02\x01s\x00\x04\x01b\x012\x02\x011");
        for cut in [1, 3, 7, block.len() - 1] {
            let mut out = b"before".to_vec();
            let result = filter(&mut out, &block[..cut], |_| true);
            assert_eq!(result, Err(WireError::Malformed));
            assert_eq!(out, b"before");
        }
    }
}
