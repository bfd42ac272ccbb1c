//! Column definitions, rows and values, of the text and the binary protocol.
//!
//! Source: MySQL source documentation, "Column Definition", "Text Resultset Row", "Binary Protocol
//! Resultset Row", "Binary Protocol Value", "COM_STMT_PREPARE Response". Rows on the data path are
//! never decoded: this is for the gateway's own queries, the sandbox and tests.

use super::command::Parameters;
use super::cursor::{Reader, WireError, put_lenenc, put_lenenc_bytes, put_u8, put_u16, put_u32};
use super::flags::{column_flag, header};

/// A column definition (4.1 form; MariaDB's extended metadata is not negotiated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// The schema.
    pub schema: &'a [u8],
    /// The table's alias.
    pub table: &'a [u8],
    /// The table's name.
    pub org_table: &'a [u8],
    /// The column's alias.
    pub name: &'a [u8],
    /// The column's name.
    pub org_name: &'a [u8],
    /// The collation's number.
    pub collation: u16,
    /// The longest value, in bytes.
    pub length: u32,
    /// One of [`super::flags::column_type`].
    pub column_type: u8,
    /// [`column_flag`] flags.
    pub flags: u16,
    /// Digits after the point; 31 for a floating number, 0 for integers and strings.
    pub decimals: u8,
}

/// The length of a column definition's fixed part, which precedes it as a length-encoded integer.
const FIXED_FIELDS: u64 = 0x0c;

impl<'a> Column<'a> {
    /// Reads the payload. A default value after it (COM_FIELD_LIST) is accepted and left.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        reader.lenenc_bytes()?; // The catalogue: always "def".
        let schema = reader.lenenc_bytes()?;
        let table = reader.lenenc_bytes()?;
        let org_table = reader.lenenc_bytes()?;
        let name = reader.lenenc_bytes()?;
        let org_name = reader.lenenc_bytes()?;
        if reader.lenenc()? != FIXED_FIELDS {
            return Err(WireError::Malformed);
        }
        let column = Self {
            schema,
            table,
            org_table,
            name,
            org_name,
            collation: reader.u16()?,
            length: reader.u32()?,
            column_type: reader.u8()?,
            flags: reader.u16()?,
            decimals: reader.u8()?,
        };
        reader.take(2)?;
        Ok(column)
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_lenenc_bytes(out, b"def");
        for text in [
            self.schema,
            self.table,
            self.org_table,
            self.name,
            self.org_name,
        ] {
            put_lenenc_bytes(out, text);
        }
        put_lenenc(out, FIXED_FIELDS);
        put_u16(out, self.collation);
        put_u32(out, self.length);
        put_u8(out, self.column_type);
        put_u16(out, self.flags);
        put_u8(out, self.decimals);
        put_u16(out, 0);
    }

    /// Whether the numbers of this column are unsigned.
    pub fn is_unsigned(&self) -> bool {
        self.flags & column_flag::UNSIGNED != 0
    }
}

/// The number of columns that opens a result set.
///
/// `Malformed` for 0 (that is an OK) and for more than 65,535, which no server sends.
pub fn decode_column_count(payload: &[u8]) -> Result<u16, WireError> {
    let mut reader = Reader::new(payload);
    let count = u16::try_from(reader.lenenc()?).map_err(|_| WireError::Malformed)?;
    reader.finish()?;
    if count == 0 {
        return Err(WireError::Malformed);
    }
    Ok(count)
}

/// The fields of a text row: bytes, or `None` for NULL. Ends after the first error.
#[derive(Clone, Debug)]
pub struct TextRow<'a>(Reader<'a>);

impl<'a> TextRow<'a> {
    /// Starts on a row's payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(Reader::new(payload))
    }
}

impl<'a> Iterator for TextRow<'a> {
    type Item = Result<Option<&'a [u8]>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.0.lenenc_bytes_or_null();
        if field.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(field)
    }
}

/// Appends one field of a text row.
pub fn put_text_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(bytes) => put_lenenc_bytes(out, bytes),
        None => put_u8(out, 0xfb),
    }
}

/// Appends a text row's payload.
pub fn encode_text_row<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = Option<&'a [u8]>>) {
    for field in fields {
        put_text_field(out, field);
    }
}

/// A value of the binary protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A signed integer of any width.
    Signed(i64),
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// Strings, blobs, decimals, JSON, bits, enumerations.
    Bytes(&'a [u8]),
    /// DATE, DATETIME, TIMESTAMP.
    Date(DateTime),
    /// TIME.
    Time(Time),
}

/// A point in time as the server writes it; all zero is the zero date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateTime {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub microsecond: u32,
}

/// A span of time as the server writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Whether it is before zero.
    pub negative: bool,
    /// 0 to 34.
    pub days: u32,
    /// 0 to 23.
    pub hours: u8,
    /// 0 to 59.
    pub minutes: u8,
    /// 0 to 59.
    pub seconds: u8,
    /// 0 to 999,999.
    pub microseconds: u32,
}

/// How a type's values are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Nothing,
    Integer(usize),
    Float,
    Double,
    DateTime,
    Time,
    LengthEncoded,
}

fn layout(column_type: u8) -> Result<Layout, WireError> {
    use super::flags::column_type as t;
    Ok(match column_type {
        t::NULL => Layout::Nothing,
        t::TINY => Layout::Integer(1),
        t::SHORT | t::YEAR => Layout::Integer(2),
        t::LONG | t::INT24 => Layout::Integer(4),
        t::LONGLONG => Layout::Integer(8),
        t::FLOAT => Layout::Float,
        t::DOUBLE => Layout::Double,
        t::DATE | t::DATETIME | t::TIMESTAMP | t::NEWDATE | t::TIMESTAMP2 | t::DATETIME2 => {
            Layout::DateTime
        }
        t::TIME | t::TIME2 => Layout::Time,
        t::DECIMAL | t::VARCHAR | t::BIT | t::VECTOR | t::JSON..=t::GEOMETRY => {
            Layout::LengthEncoded
        }
        _ => return Err(WireError::Malformed),
    })
}

/// Reads one value of `column_type` (a parameter's type byte or a column's type).
pub fn decode_value<'a>(
    reader: &mut Reader<'a>,
    column_type: u8,
    unsigned: bool,
) -> Result<Value<'a>, WireError> {
    Ok(match layout(column_type)? {
        Layout::Nothing => Value::Null,
        Layout::Integer(width) => integer(reader.take(width)?, unsigned),
        Layout::Float => Value::Float(f32::from_le_bytes(reader.array()?)),
        Layout::Double => Value::Double(f64::from_le_bytes(reader.array()?)),
        Layout::DateTime => Value::Date(decode_date_time(reader)?),
        Layout::Time => Value::Time(decode_time(reader)?),
        Layout::LengthEncoded => Value::Bytes(reader.lenenc_bytes()?),
    })
}

/// Passes over one value.
pub fn skip_value(reader: &mut Reader<'_>, column_type: u8) -> Result<(), WireError> {
    decode_value(reader, column_type, false).map(|_| ())
}

/// How many bytes one value of `column_type` takes that begins where `bytes` do, by what it says of
/// its own length; there may be fewer. `None` if the type is unknown or the length is cut short.
/// Dates and times may have any length, as servers see it.
#[inline]
pub fn value_len(column_type: u8, bytes: &[u8]) -> Option<usize> {
    Some(match layout(column_type).ok()? {
        Layout::Nothing => 0,
        Layout::Integer(width) => width,
        Layout::Float => 4,
        Layout::Double => 8,
        Layout::DateTime | Layout::Time => usize::from(*bytes.first()?).saturating_add(1),
        Layout::LengthEncoded => {
            let mut reader = Reader::new(bytes);
            let len = usize::try_from(reader.lenenc().ok()?).ok()?;
            let prefix = bytes.len().saturating_sub(reader.rest().len());
            prefix.saturating_add(len)
        }
    })
}

/// How many bytes servers read of such a value, which of a date or a time with a length of its own making
/// are more than it has: `set_param_datetime` and `set_param_time` of both families look whether it is
/// longer than 4 or 7 and than 7 or 8 bytes, and read 7, 11 or 12.
#[inline]
pub fn value_reach(column_type: u8, bytes: &[u8]) -> Option<usize> {
    let len = value_len(column_type, bytes)?;
    let reach = match (layout(column_type).ok()?, len.saturating_sub(1)) {
        (Layout::DateTime, 5..=7) => 8,
        (Layout::DateTime, 8..=11) => 12,
        (Layout::Time, 9..=11) => 13,
        _ => len,
    };
    Some(reach.max(len))
}

/// Widens 1 to 8 little-endian bytes.
fn integer(bytes: &[u8], unsigned: bool) -> Value<'static> {
    let negative = !unsigned && bytes.last().is_some_and(|top| top & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    if unsigned {
        Value::Unsigned(u64::from_le_bytes(wide))
    } else {
        Value::Signed(i64::from_le_bytes(wide))
    }
}

fn decode_date_time(reader: &mut Reader<'_>) -> Result<DateTime, WireError> {
    let mut value = DateTime::default();
    let count = reader.u8()?;
    if !matches!(count, 0 | 4 | 7 | 11) {
        return Err(WireError::Malformed);
    }
    if count >= 4 {
        value.year = reader.u16()?;
        value.month = reader.u8()?;
        value.day = reader.u8()?;
    }
    if count >= 7 {
        value.hour = reader.u8()?;
        value.minute = reader.u8()?;
        value.second = reader.u8()?;
    }
    if count == 11 {
        value.microsecond = reader.u32()?;
    }
    Ok(value)
}

fn decode_time(reader: &mut Reader<'_>) -> Result<Time, WireError> {
    let mut value = Time::default();
    let count = reader.u8()?;
    if !matches!(count, 0 | 8 | 12) {
        return Err(WireError::Malformed);
    }
    if count >= 8 {
        value.negative = reader.u8()? != 0;
        value.days = reader.u32()?;
        value.hours = reader.u8()?;
        value.minutes = reader.u8()?;
        value.seconds = reader.u8()?;
    }
    if count == 12 {
        value.microseconds = reader.u32()?;
    }
    Ok(value)
}

/// Appends one value as `column_type`. `Malformed` when the value is none of that type; an integer
/// that does not fit the type's width is refused, not cut. NULL appends nothing.
pub fn encode_value(
    out: &mut Vec<u8>,
    column_type: u8,
    value: &Value<'_>,
) -> Result<(), WireError> {
    match (layout(column_type)?, *value) {
        (_, Value::Null) => {}
        (Layout::Integer(width), Value::Signed(n)) => put_signed(out, n, width)?,
        (Layout::Integer(width), Value::Unsigned(n)) => put_unsigned(out, n, width)?,
        (Layout::Float, Value::Float(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Layout::Double, Value::Double(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Layout::DateTime, Value::Date(date)) => put_date_time(out, &date),
        (Layout::Time, Value::Time(time)) => put_time(out, &time),
        (Layout::LengthEncoded, Value::Bytes(bytes)) => put_lenenc_bytes(out, bytes),
        _ => return Err(WireError::Malformed),
    }
    Ok(())
}

fn put_signed(out: &mut Vec<u8>, value: i64, width: usize) -> Result<(), WireError> {
    let bytes = value.to_le_bytes();
    let (kept, cut) = bytes.split_at_checked(width).ok_or(WireError::Malformed)?;
    let fill = if value < 0 { 0xff } else { 0 };
    let sign_kept = kept
        .last()
        .is_some_and(|top| (top & 0x80 != 0) == (value < 0));
    if !sign_kept || cut.iter().any(|&byte| byte != fill) {
        return Err(WireError::TooLarge);
    }
    out.extend_from_slice(kept);
    Ok(())
}

fn put_unsigned(out: &mut Vec<u8>, value: u64, width: usize) -> Result<(), WireError> {
    let bytes = value.to_le_bytes();
    let (kept, cut) = bytes.split_at_checked(width).ok_or(WireError::Malformed)?;
    if cut.iter().any(|&byte| byte != 0) {
        return Err(WireError::TooLarge);
    }
    out.extend_from_slice(kept);
    Ok(())
}

fn put_date_time(out: &mut Vec<u8>, date: &DateTime) {
    let clock = date.hour != 0 || date.minute != 0 || date.second != 0;
    let count = match date {
        _ if date.microsecond != 0 => 11,
        _ if clock => 7,
        _ if *date == DateTime::default() => 0,
        _ => 4,
    };
    put_u8(out, count);
    if count >= 4 {
        put_u16(out, date.year);
        out.extend_from_slice(&[date.month, date.day]);
    }
    if count >= 7 {
        out.extend_from_slice(&[date.hour, date.minute, date.second]);
    }
    if count == 11 {
        put_u32(out, date.microsecond);
    }
}

fn put_time(out: &mut Vec<u8>, time: &Time) {
    let count = match time {
        _ if time.microseconds != 0 => 12,
        _ if *time == Time::default() => 0,
        _ => 8,
    };
    put_u8(out, count);
    if count >= 8 {
        put_u8(out, u8::from(time.negative));
        put_u32(out, time.days);
        out.extend_from_slice(&[time.hours, time.minutes, time.seconds]);
    }
    if count == 12 {
        put_u32(out, time.microseconds);
    }
}

/// Bits of a row's bitmap before the first column's.
const ROW_BITMAP_OFFSET: usize = 2;

/// Appends a binary row's payload: one (column type, value) for each column.
pub fn encode_binary_row(out: &mut Vec<u8>, row: &[(u8, Value<'_>)]) -> Result<(), WireError> {
    put_u8(out, header::OK);
    let bitmap = out.len();
    let bytes = row.len().saturating_add(ROW_BITMAP_OFFSET).div_ceil(8);
    out.resize(bitmap.saturating_add(bytes), 0);
    for (index, (column_type, value)) in row.iter().enumerate() {
        if *value == Value::Null {
            let bit = index + ROW_BITMAP_OFFSET;
            if let Some(byte) = out.get_mut(bitmap + bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        } else {
            encode_value(out, *column_type, value)?;
        }
    }
    Ok(())
}

/// Reads a binary row; `columns` gives each column's type and whether it is unsigned.
pub fn decode_binary_row<'a>(
    payload: &'a [u8],
    columns: &[(u8, bool)],
) -> Result<Vec<Value<'a>>, WireError> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != header::OK {
        return Err(WireError::Malformed);
    }
    let bitmap = reader.take(columns.len().saturating_add(ROW_BITMAP_OFFSET).div_ceil(8))?;
    let mut row = Vec::with_capacity(columns.len());
    for (index, &(column_type, unsigned)) in columns.iter().enumerate() {
        let bit = index + ROW_BITMAP_OFFSET;
        let null = bitmap
            .get(bit / 8)
            .is_some_and(|byte| byte >> (bit % 8) & 1 != 0);
        row.push(if null {
            Value::Null
        } else {
            decode_value(&mut reader, column_type, unsigned)?
        });
    }
    reader.finish()?;
    Ok(row)
}

/// The parameters of an execution, one by one. `types` are the two bytes a parameter that the
/// client sent now or earlier; `is_long(n)` says that parameter *n* came by
/// COM_STMT_SEND_LONG_DATA and has no value here (`None` is given for it).
///
/// `Malformed` when the values end early or do not end with the packet.
pub fn decode_parameters<'a>(
    parameters: &Parameters<'a>,
    types: &[u8],
    mut is_long: impl FnMut(usize) -> bool,
    mut each: impl FnMut(usize, Option<Value<'a>>),
) -> Result<(), WireError> {
    let mut reader = Reader::new(parameters.values);
    for (index, pair) in types.chunks_exact(2).enumerate() {
        let &[column_type, sign] = pair else {
            return Err(WireError::Malformed);
        };
        let value = if is_long(index) {
            None
        } else if parameters.is_null(index) {
            Some(Value::Null)
        } else {
            Some(decode_value(&mut reader, column_type, sign & 0x80 != 0)?)
        };
        each(index, value);
    }
    reader.finish()
}

/// Checks that the values of an execution are whole: [`decode_parameters`] without a result.
pub fn skip_parameters(
    parameters: &Parameters<'_>,
    types: &[u8],
    is_long: impl FnMut(usize) -> bool,
) -> Result<(), WireError> {
    decode_parameters(parameters, types, is_long, |_, _| {})
}

/// The first packet of COM_STMT_PREPARE's reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareOk {
    /// The statement's id.
    pub statement: u32,
    /// How many column definitions follow the parameters'.
    pub columns: u16,
    /// How many parameter definitions follow.
    pub parameters: u16,
    /// The number of warnings.
    pub warnings: u16,
}

impl PrepareOk {
    /// Reads the payload. Bytes after the warnings (metadata options) are left.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != header::OK {
            return Err(WireError::Malformed);
        }
        let statement = reader.u32()?;
        let columns = reader.u16()?;
        let parameters = reader.u16()?;
        reader.u8()?;
        // Servers before 5.0 send no warnings.
        let warnings = reader.u16().unwrap_or(0);
        Ok(Self {
            statement,
            columns,
            parameters,
            warnings,
        })
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, header::OK);
        put_u32(out, self.statement);
        put_u16(out, self.columns);
        put_u16(out, self.parameters);
        put_u8(out, 0);
        put_u16(out, self.warnings);
    }
}

/// Appends the column count that opens a result set.
pub fn encode_column_count(out: &mut Vec<u8>, columns: &[impl Sized]) {
    put_lenenc(out, u64::try_from(columns.len()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::super::flags::column_type as t;
    use super::*;

    #[test]
    fn integers_keep_their_sign_and_refuse_what_does_not_fit() {
        #[track_caller]
        fn check(column_type: u8, value: Value<'_>, expect: Result<&[u8], WireError>) {
            let mut out = Vec::new();
            let result = encode_value(&mut out, column_type, &value);
            assert_eq!(result.map(|()| out.as_slice()), expect);
            if let Ok(bytes) = expect {
                let unsigned = matches!(value, Value::Unsigned(_));
                let again = decode_value(&mut Reader::new(bytes), column_type, unsigned);
                assert_eq!(again, Ok(value));
            }
        }
        use Value::{Signed, Unsigned};
        check(t::TINY, Signed(-128), Ok(&[0x80]));
        check(t::TINY, Signed(127), Ok(&[0x7f]));
        check(t::TINY, Signed(128), Err(WireError::TooLarge));
        check(t::TINY, Signed(-129), Err(WireError::TooLarge));
        check(t::TINY, Unsigned(255), Ok(&[0xff]));
        check(t::TINY, Unsigned(256), Err(WireError::TooLarge));
        check(t::SHORT, Signed(-2), Ok(&[0xfe, 0xff]));
        check(t::YEAR, Unsigned(2026), Ok(&[0xea, 0x07]));
        check(t::INT24, Signed(-1), Ok(&[0xff; 4]));
        check(t::LONG, Unsigned(u64::from(u32::MAX)), Ok(&[0xff; 4]));
        check(
            t::LONGLONG,
            Signed(i64::MIN),
            Ok(&[0, 0, 0, 0, 0, 0, 0, 0x80]),
        );
        check(t::LONGLONG, Unsigned(u64::MAX), Ok(&[0xff; 8]));
        check(t::LONG, Value::Double(1.0), Err(WireError::Malformed));
        check(t::BLOB, Signed(1), Err(WireError::Malformed));
        check(0x70, Signed(1), Err(WireError::Malformed));
    }

    #[test]
    fn dates_and_times_have_four_lengths_and_three() {
        #[track_caller]
        fn check(column_type: u8, bytes: &[u8], valid: bool) {
            let mut reader = Reader::new(bytes);
            let value = decode_value(&mut reader, column_type, false);
            assert_eq!(value.is_ok(), valid, "{bytes:?}");
            if let Ok(value) = value {
                assert!(reader.is_empty());
                let mut again = Vec::new();
                encode_value(&mut again, column_type, &value).unwrap();
                assert_eq!(again, bytes);
                for cut in 0..bytes.len() {
                    let mut short = Reader::new(&bytes[..cut]);
                    assert!(decode_value(&mut short, column_type, false).is_err());
                }
            }
        }
        check(t::DATE, &[0], true);
        check(t::DATE, &[4, 0xea, 7, 11, 21], true);
        check(t::DATETIME, &[7, 0xea, 7, 11, 21, 7, 8, 9], true);
        check(
            t::TIMESTAMP,
            &[11, 0xea, 7, 11, 21, 0, 0, 0, 1, 0, 0, 0],
            true,
        );
        check(t::TIME, &[0], true);
        check(t::TIME, &[8, 1, 34, 0, 0, 0, 22, 59, 59], true);
        check(t::TIME, &[12, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], true);
        for wrong in [1, 3, 5, 8, 10, 12, 255] {
            let mut bytes = vec![0; 20];
            bytes[0] = wrong;
            check(t::DATETIME, &bytes, false);
        }
        for wrong in [1, 4, 7, 11, 13, 255] {
            let mut bytes = vec![0; 20];
            bytes[0] = wrong;
            check(t::TIME, &bytes, false);
        }
    }

    #[test]
    fn column_counts() {
        #[track_caller]
        fn check(payload: &[u8], expect: Option<u16>) {
            assert_eq!(decode_column_count(payload).ok(), expect);
        }
        check(&[1], Some(1));
        check(&[0xfc, 0xff, 0xff], Some(65_535));
        check(&[0], None);
        check(&[0xfb], None);
        check(&[], None);
        check(&[1, 0], None);
        check(&[0xfd, 0, 0, 1], None);
        check(
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            None,
        );
        let mut out = Vec::new();
        encode_column_count(&mut out, &[(); 300]);
        check(&out, Some(300));
    }

    #[test]
    fn text_rows_end_at_the_first_lie() {
        let fields: Vec<_> = TextRow::new(b"\x01a\xfb\x00\x05abc").collect();
        assert_eq!(
            fields,
            [
                Ok(Some(&b"a"[..])),
                Ok(None),
                Ok(Some(&b""[..])),
                Err(WireError::Malformed)
            ]
        );
    }

    #[test]
    fn column_definitions_cut_anywhere() {
        let column = Column {
            schema: b"shop",
            table: b"o",
            org_table: b"orders",
            name: b"id",
            org_name: b"id",
            collation: 63,
            length: 11,
            column_type: t::LONG,
            flags: column_flag::UNSIGNED,
            decimals: 0,
        };
        assert!(column.is_unsigned());
        let mut bytes = Vec::new();
        column.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Column::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        // COM_FIELD_LIST appends the default value.
        bytes.extend(b"\x0242");
        assert_eq!(Column::decode(&bytes), Ok(column));
    }

    #[test]
    fn parameters_must_fill_their_packet() {
        #[track_caller]
        fn check(
            values: &[u8],
            types: &[u8],
            null_bitmap: &[u8],
            expect: Result<usize, WireError>,
        ) {
            let parameters = Parameters {
                null_bitmap,
                types: None,
                values,
                values_at: 0,
            };
            let mut seen = 0;
            let long = |index| index == 3;
            let result = decode_parameters(&parameters, types, long, |_, _| seen += 1);
            assert_eq!(result.map(|()| seen), expect);
            assert_eq!(
                skip_parameters(&parameters, types, long),
                expect.map(|_| ())
            );
        }
        let bad = Err(WireError::Malformed);
        check(b"\x2a", &[t::TINY, 0], &[0], Ok(1));
        check(b"", &[t::TINY, 0], &[1], Ok(1));
        check(b"", &[t::TINY, 0], &[0], bad);
        check(b"\x2a\0", &[t::TINY, 0], &[0], bad);
        check(b"\x05abc", &[t::BLOB, 0], &[0], bad);
        check(
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
            &[t::BLOB, 0],
            &[0],
            bad,
        );
        check(b"", &[0x70, 0], &[0], bad);
        // The fourth came as long data and has no value here.
        check(
            b"\x01\x02\x03",
            &[t::TINY, 0, t::TINY, 0, t::TINY, 0, t::BLOB, 0],
            &[0],
            Ok(4),
        );
    }

    #[test]
    fn prepare_replies_cut_anywhere() {
        let whole = b"\x00\x01\0\0\0\x02\0\x03\0\0\x04\0";
        let ok = PrepareOk {
            statement: 1,
            columns: 2,
            parameters: 3,
            warnings: 4,
        };
        assert_eq!(PrepareOk::decode(whole), Ok(ok));
        for cut in 0..10 {
            assert_eq!(PrepareOk::decode(&whole[..cut]), Err(WireError::Malformed));
        }
        let old = PrepareOk { warnings: 0, ..ok };
        assert_eq!(PrepareOk::decode(&whole[..10]), Ok(old));
    }
}
