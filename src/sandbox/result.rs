//! SQLite's values as MySQL's columns and rows, in both protocols.

use super::column::Kind;
use super::date::Moment;
use super::schema::text_of;
use super::session::ResultColumn;
use crate::wire::mysql::flags::{column_flag, column_type as t};
use crate::wire::mysql::value::{Column, DateTime, Time, Value as Wire};
use rusqlite::types::Value;

/// `utf8mb4_general_ci`.
const TEXT: u16 = 45;
/// `binary`.
const BINARY: u16 = 63;

/// The wire type of a kind.
pub fn column_type(kind: Kind) -> u8 {
    match kind {
        Kind::Integer { bits: 8, .. } => t::TINY,
        Kind::Integer { bits: 16, .. } => t::SHORT,
        Kind::Integer { bits: 24, .. } => t::INT24,
        Kind::Integer { bits: 32, .. } => t::LONG,
        Kind::Integer { .. } => t::LONGLONG,
        Kind::Decimal { .. } => t::NEWDECIMAL,
        Kind::Float => t::FLOAT,
        Kind::Double => t::DOUBLE,
        Kind::Char(_) | Kind::Binary(_) => t::STRING,
        Kind::Varchar(_) | Kind::Varbinary(_) => t::VAR_STRING,
        Kind::Text(_) | Kind::Blob(_) => t::BLOB,
        Kind::Date => t::DATE,
        Kind::DateTime(_) => t::DATETIME,
        Kind::Timestamp(_) => t::TIMESTAMP,
        Kind::Time(_) => t::TIME,
        Kind::Year => t::YEAR,
        Kind::Json => t::JSON,
        Kind::Bit(_) => t::BIT,
        Kind::Null => t::NULL,
    }
}

/// Appends the definition of a column.
pub fn put_definition(out: &mut Vec<u8>, schema: &str, table: &str, column: &ResultColumn) {
    let kind = column.kind;
    let text = kind.is_text();
    let mut flags = match kind {
        Kind::Integer { .. } | Kind::Decimal { .. } | Kind::Float | Kind::Double | Kind::Year => {
            column_flag::NUM | column_flag::BINARY
        }
        Kind::Text(_) => column_flag::BLOB,
        Kind::Blob(_) => column_flag::BLOB | column_flag::BINARY,
        _ if text => 0,
        _ => column_flag::BINARY,
    };
    if matches!(
        kind,
        Kind::Integer { unsigned: true, .. } | Kind::Year | Kind::Bit(_)
    ) {
        flags |= column_flag::UNSIGNED;
    }
    let definition = Column {
        schema: schema.as_bytes(),
        table: table.as_bytes(),
        org_table: table.as_bytes(),
        name: column.name.as_bytes(),
        org_name: column.name.as_bytes(),
        collation: if text { TEXT } else { BINARY },
        length: display_length(kind),
        column_type: column_type(kind),
        flags,
        decimals: match kind {
            Kind::Decimal { scale, .. } => scale,
            Kind::Float | Kind::Double => 31,
            Kind::DateTime(digits) | Kind::Timestamp(digits) | Kind::Time(digits) => digits,
            _ => 0,
        },
    };
    definition.encode(out);
}

fn display_length(kind: Kind) -> u32 {
    match kind {
        Kind::Integer { flag: true, .. } => 1,
        Kind::Integer { bits, .. } => match bits {
            8 => 4,
            16 => 6,
            24 => 9,
            32 => 11,
            _ => 20,
        },
        Kind::Decimal { precision, .. } => u32::from(precision) + 2,
        Kind::Float => 12,
        Kind::Double => 22,
        Kind::Char(n) | Kind::Varchar(n) => n.saturating_mul(4),
        Kind::Binary(n) | Kind::Varbinary(n) => n,
        Kind::Text(length) | Kind::Blob(length) => match length {
            1 => 255,
            2 => 65_535,
            3 => 16_777_215,
            _ => u32::MAX,
        },
        Kind::Date | Kind::Time(_) => 10,
        Kind::DateTime(_) | Kind::Timestamp(_) => 26,
        Kind::Year => 4,
        Kind::Json => u32::MAX,
        Kind::Bit(n) => n.into(),
        Kind::Null => 0,
    }
}

/// A value as the text protocol sends it; `None` is NULL.
pub fn as_text(value: &Value, kind: Kind) -> Option<Vec<u8>> {
    Some(match (value, kind) {
        (Value::Null, _) => return None,
        (Value::Blob(bytes), _) => bytes.clone(),
        (Value::Integer(number), Kind::Bit(bits)) => bit_bytes(*number, bits),
        (Value::Integer(number), Kind::Integer { .. }) => number.to_string().into_bytes(),
        (Value::Integer(_) | Value::Real(_), Kind::Decimal { scale, .. }) => {
            format!("{:.*}", usize::from(scale), number_of(value)).into_bytes()
        }
        (Value::Real(number), _) => real_text(*number).into_bytes(),
        (other, _) => text_of(Some(other)).unwrap_or_default().into_bytes(),
    })
}

/// The shortest text that gives the number back, with an exponent where MySQL has one.
fn real_text(number: f64) -> String {
    match number.abs() {
        size if size != 0.0 && !(1e-15..1e15).contains(&size) => format!("{number:e}"),
        _ => number.to_string(),
    }
}

fn number_of(value: &Value) -> f64 {
    text_of(Some(value))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0)
}

fn whole_of(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => format!("{:.0}", number_of(other)).parse().unwrap_or(0),
    }
}

fn bit_bytes(number: i64, bits: u8) -> Vec<u8> {
    let count = usize::from(bits).div_ceil(8).clamp(1, 8);
    number
        .to_be_bytes()
        .get(8 - count..)
        .unwrap_or_default()
        .to_vec()
}

/// A value made ready for the binary protocol: the wire borrows the bytes it needs.
pub struct Prepared {
    kind: Kind,
    null: bool,
    bytes: Vec<u8>,
    value: Option<Wire<'static>>,
}

/// Prepares a value of a column for the binary protocol.
pub fn prepare(value: &Value, kind: Kind) -> Prepared {
    let text = || text_of(Some(value)).unwrap_or_default();
    let wire = match (value, kind) {
        (Value::Null, _) => Some(Wire::Null),
        (_, Kind::Integer { bits, unsigned, .. }) => Some(fitting(whole_of(value), bits, unsigned)),
        (_, Kind::Year) => Some(fitting(whole_of(value), 16, true)),
        (_, Kind::Double) => Some(Wire::Double(number_of(value))),
        (_, Kind::Float) => Some(Wire::Float(text().parse().unwrap_or(0.0))),
        (_, Kind::Date | Kind::DateTime(_) | Kind::Timestamp(_)) => {
            Some(Wire::Date(date_of(&text())))
        }
        (_, Kind::Time(_)) => Some(Wire::Time(time_of(&text()))),
        _ => None,
    };
    let bytes = if wire.is_some() {
        Vec::new()
    } else {
        as_text(value, kind).unwrap_or_default()
    };
    Prepared {
        kind,
        null: matches!(value, Value::Null),
        bytes,
        value: wire,
    }
}

impl Prepared {
    /// The type and value for [`crate::wire::mysql::value::encode_binary_row`].
    pub fn wire(&self) -> (u8, Wire<'_>) {
        let value = if self.null {
            Wire::Null
        } else {
            self.value.unwrap_or(Wire::Bytes(&self.bytes))
        };
        (column_type(self.kind), value)
    }
}

/// SQLite does not enforce a column's width: what does not fit is sent as the nearest that does.
fn fitting(number: i64, bits: u8, unsigned: bool) -> Wire<'static> {
    let bits = bits.clamp(8, 64);
    if unsigned {
        let most = u64::MAX >> (64 - bits);
        return Wire::Unsigned(u64::try_from(number).unwrap_or(0).min(most));
    }
    let most = i64::MAX >> (64 - bits);
    Wire::Signed(number.clamp(-most - 1, most))
}

fn date_of(text: &str) -> DateTime {
    let Some(moment) = Moment::parse(text) else {
        return DateTime::default();
    };
    let ((year, month, day), (hour, minute, second)) = (moment.civil(), moment.clock());
    let small = |number: i64| u8::try_from(number).unwrap_or(0);
    DateTime {
        year: u16::try_from(year).unwrap_or(0),
        month: small(month),
        day: small(day),
        hour: small(hour),
        minute: small(minute),
        second: small(second),
        microsecond: u32::try_from(moment.micros % 1_000_000).unwrap_or(0),
    }
}

fn time_of(text: &str) -> Time {
    let (negative, text) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock
        .split(':')
        .map(|part| part.trim().parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let (hours, minutes, seconds) = (next(), next(), next());
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let small = |number: u32| u8::try_from(number).unwrap_or(0);
    Time {
        negative,
        days: hours / 24,
        hours: small(hours % 24),
        minutes: small(minutes),
        seconds: small(seconds),
        microseconds: fraction.parse().unwrap_or(0),
    }
}

/// A parameter as SQLite binds it.
pub fn parameter(value: &Wire<'_>) -> Value {
    match *value {
        Wire::Null => Value::Null,
        Wire::Signed(number) => Value::Integer(number),
        Wire::Unsigned(number) => {
            i64::try_from(number).map_or_else(|_| Value::Text(number.to_string()), Value::Integer)
        }
        Wire::Float(number) => Value::Real(number.into()),
        Wire::Double(number) => Value::Real(number),
        Wire::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(bytes.to_vec()),
        },
        Wire::Date(date) => Value::Text(date_text(&date)),
        Wire::Time(time) => {
            let sign = if time.negative { "-" } else { "" };
            let hours = u64::from(time.days) * 24 + u64::from(time.hours);
            let fraction = fraction_text(time.microseconds);
            Value::Text(format!(
                "{sign}{hours:02}:{:02}:{:02}{fraction}",
                time.minutes, time.seconds
            ))
        }
    }
}

fn date_text(date: &DateTime) -> String {
    let day = format!("{:04}-{:02}-{:02}", date.year, date.month, date.day);
    let fraction = fraction_text(date.microsecond);
    if (date.hour, date.minute, date.second) == (0, 0, 0) && fraction.is_empty() {
        return day;
    }
    format!(
        "{day} {:02}:{:02}:{:02}{fraction}",
        date.hour, date.minute, date.second
    )
}

fn fraction_text(micros: u32) -> String {
    if micros == 0 {
        String::new()
    } else {
        format!(".{micros:06}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_their_columns_form() {
        let check = |value: Value, kind: Kind, text: &str, wire: Wire<'_>| {
            assert_eq!(as_text(&value, kind).unwrap(), text.as_bytes(), "{value:?}");
            assert_eq!(prepare(&value, kind).wire().1, wire, "{value:?}");
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let tiny = Kind::Integer {
            bits: 8,
            unsigned: false,
            flag: false,
        };
        check(Value::Integer(5), Kind::BIGINT, "5", Wire::Signed(5));
        check(Value::Integer(300), tiny, "300", Wire::Signed(127));
        check(
            Value::Integer(3),
            Kind::Decimal {
                precision: 9,
                scale: 2,
            },
            "3.00",
            Wire::Bytes(b"3.00"),
        );
        check(Value::Real(0.5), Kind::Double, "0.5", Wire::Double(0.5));
        check(
            Value::Real(1e300),
            Kind::Double,
            "1e300",
            Wire::Double(1e300),
        );
        check(
            Value::Integer(5),
            Kind::Bit(9),
            "\0\u{5}",
            Wire::Bytes(&[0, 5]),
        );
        let date = DateTime {
            year: 2024,
            month: 2,
            day: 29,
            hour: 1,
            minute: 2,
            second: 3,
            microsecond: 500_000,
        };
        check(
            text("2024-02-29 01:02:03.5"),
            Kind::DateTime(1),
            "2024-02-29 01:02:03.5",
            Wire::Date(date),
        );
        let time = Time {
            negative: true,
            days: 1,
            hours: 2,
            minutes: 3,
            seconds: 4,
            microseconds: 0,
        };
        check(
            text("-26:03:04"),
            Kind::Time(0),
            "-26:03:04",
            Wire::Time(time),
        );
        assert_eq!(
            parameter(&Wire::Date(date)),
            text("2024-02-29 01:02:03.500000")
        );
        assert_eq!(parameter(&Wire::Time(time)), text("-26:03:04"));
        assert_eq!(as_text(&Value::Null, Kind::BIGINT), None);
        assert_eq!(prepare(&Value::Null, Kind::BIGINT).wire().1, Wire::Null);
    }
}
