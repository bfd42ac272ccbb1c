//! What servers say of their variables, as tests put it together.

use super::baseline::{Answer, Base};
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, column_type};
use crate::wire::mysql::response::{EofPacket, OkPacket, encode_end_of_rows, encode_eof};
use crate::wire::mysql::value::{Column, encode_text_row};

/// Names and values.
type Values<'a> = &'a [(&'a str, &'a str)];

/// A reply of rows with a name and a value.
pub(super) fn rows(values: Values<'_>, deprecates_eof: bool) -> Vec<u8> {
    let capabilities = if deprecates_eof {
        caps::DEPRECATE_EOF
    } else {
        0
    };
    let column = Column {
        schema: b"",
        table: b"",
        org_table: b"",
        name: b"",
        org_name: b"",
        collation: 45,
        length: 64,
        column_type: column_type::VARCHAR,
        flags: 0,
        decimals: 0,
    };
    let (mut reply, mut sequence) = (Vec::new(), 1);
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        sequence = packet(&mut reply, sequence, write);
    };
    add(&|out| out.push(2));
    add(&|out| column.encode(out));
    add(&|out| column.encode(out));
    if !deprecates_eof {
        add(&|out| encode_eof(out, EofPacket::default()));
    }
    for (name, value) in values {
        let fields = [name, value].map(|field| Some(field.as_bytes()));
        add(&|out| encode_text_row(out, fields));
    }
    add(&|out| encode_end_of_rows(out, capabilities, &OkPacket::default()));
    reply
}

/// The same, read.
pub(super) fn answer(values: Values<'_>) -> Answer {
    let mut answer = Answer::new(true);
    assert_eq!(answer.take(&rows(values, true)), Ok(true));
    answer
}

/// The values, each of a variable that moves.
pub(super) fn base(values: Values<'_>) -> Base {
    answer(values).end().expect("values")
}
