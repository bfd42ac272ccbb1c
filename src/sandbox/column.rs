//! MySQL column types and the type names that SQLite's tables keep them under.
//!
//! SQLite derives a column's affinity from pieces of its declared type, so names whose pieces would
//! mislead it carry a suffix (`DATETIME_TEXT`); [`Kind::declared`] and [`Kind::parse`] are inverse.

use super::token::{Lexeme, Token};

/// The MySQL type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `TINYINT` (8) to `BIGINT` (64); `flag` marks `TINYINT(1)`, which clients show as a boolean.
    Integer {
        /// Width: 8, 16, 24, 32, 64.
        bits: u8,
        /// No negative values.
        unsigned: bool,
        /// Declared as `TINYINT(1)` or `BOOL`.
        flag: bool,
    },
    /// `DECIMAL(precision, scale)`.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `FLOAT`.
    Float,
    /// `DOUBLE`.
    Double,
    /// `CHAR(n)`; characters.
    Char(u32),
    /// `VARCHAR(n)`; characters.
    Varchar(u32),
    /// `TINYTEXT` to `LONGTEXT`: 1 to 4 bytes of length.
    Text(u8),
    /// `BINARY(n)`; bytes.
    Binary(u32),
    /// `VARBINARY(n)`; bytes.
    Varbinary(u32),
    /// `TINYBLOB` to `LONGBLOB`: 1 to 4 bytes of length.
    Blob(u8),
    /// `DATE`.
    Date,
    /// `DATETIME(fraction digits)`.
    DateTime(u8),
    /// `TIMESTAMP(fraction digits)`.
    Timestamp(u8),
    /// `TIME(fraction digits)`.
    Time(u8),
    /// `YEAR`.
    Year,
    /// `JSON`.
    Json,
    /// `BIT(n)`.
    Bit(u8),
    /// A column of NULLs, of which nothing is known.
    Null,
}

impl Kind {
    /// `BIGINT`, the type of whole-number expressions.
    pub const BIGINT: Self = Self::Integer {
        bits: 64,
        unsigned: false,
        flag: false,
    };

    /// The kind for a type's name (upper case) and its arguments.
    pub fn named(name: &str, arguments: &[u32], unsigned: bool) -> Option<Self> {
        let first = arguments.first().copied();
        let small = |default: u8| first.map_or(default, |n| u8::try_from(n).unwrap_or(u8::MAX));
        let integer = |bits| Self::Integer {
            bits,
            unsigned,
            flag: bits == 8 && first == Some(1),
        };
        Some(match name {
            "TINYINT" => integer(8),
            "SMALLINT" => integer(16),
            "MEDIUMINT" => integer(24),
            "INT" => integer(32),
            "BIGINT" | "INTEGER" => integer(64),
            "BOOL" | "BOOLEAN" => Self::Integer {
                bits: 8,
                unsigned: false,
                flag: true,
            },
            "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" => Self::Decimal {
                precision: small(10),
                scale: arguments
                    .get(1)
                    .map_or(0, |n| u8::try_from(*n).unwrap_or(30)),
            },
            "FLOAT" => Self::Float,
            "DOUBLE" | "REAL" => Self::Double,
            "CHAR" | "NCHAR" | "CHARACTER" => Self::Char(first.unwrap_or(1)),
            "VARCHAR" | "NVARCHAR" | "ENUM" | "SET" => Self::Varchar(first.unwrap_or(255)),
            "TINYTEXT" => Self::Text(1),
            "TEXT" => Self::Text(2),
            "MEDIUMTEXT" => Self::Text(3),
            "LONGTEXT" => Self::Text(4),
            "BINARY" | "BINARY_BLOB" => Self::Binary(first.unwrap_or(1)),
            "VARBINARY" | "VARBINARY_BLOB" => Self::Varbinary(first.unwrap_or(255)),
            "TINYBLOB" => Self::Blob(1),
            "BLOB" => Self::Blob(2),
            "MEDIUMBLOB" => Self::Blob(3),
            "LONGBLOB" => Self::Blob(4),
            "DATE" | "DATE_TEXT" => Self::Date,
            "DATETIME" | "DATETIME_TEXT" => Self::DateTime(small(0)),
            "TIMESTAMP" | "TIMESTAMP_TEXT" => Self::Timestamp(small(0)),
            "TIME" | "TIME_TEXT" => Self::Time(small(0)),
            "YEAR" | "YEAR_INT" => Self::Year,
            "JSON" | "JSON_TEXT" => Self::Json,
            "BIT" | "BIT_INT" => Self::Bit(small(1)),
            _ => return None,
        })
    }

    /// Reads a declared type back from SQLite's catalog.
    pub fn parse(declared: &str) -> Option<Self> {
        let (head, arguments) = declared.split_once('(').unwrap_or((declared, ""));
        let mut words = head.split_ascii_whitespace();
        let name = words.next()?.to_ascii_uppercase();
        let unsigned = words.any(|word| word.eq_ignore_ascii_case("UNSIGNED"));
        let arguments: Vec<u32> = arguments
            .trim_end_matches(')')
            .split(',')
            .filter_map(|argument| argument.trim().parse().ok())
            .collect();
        Self::named(&name, &arguments, unsigned)
    }

    /// The type name for SQLite's `CREATE TABLE`.
    pub fn declared(self) -> String {
        match self {
            Self::Binary(n) => format!("BINARY_BLOB({n})"),
            Self::Varbinary(n) => format!("VARBINARY_BLOB({n})"),
            Self::Date => "DATE_TEXT".to_owned(),
            Self::DateTime(n) => format!("DATETIME_TEXT({n})"),
            Self::Timestamp(n) => format!("TIMESTAMP_TEXT({n})"),
            Self::Time(n) => format!("TIME_TEXT({n})"),
            Self::Year => "YEAR_INT".to_owned(),
            Self::Json => "JSON_TEXT".to_owned(),
            Self::Bit(n) => format!("BIT_INT({n})"),
            other => other.to_string().to_ascii_uppercase(),
        }
    }

    /// Whether it holds characters and so compares without regard to case.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Char(_) | Self::Varchar(_) | Self::Text(_))
    }
}

/// As `SHOW COLUMNS` prints it.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sized = |f: &mut std::fmt::Formatter<'_>, name: &str, digits: u8| match digits {
            0 => f.write_str(name),
            n => write!(f, "{name}({n})"),
        };
        let prefix = |length: u8| match length {
            1 => "tiny",
            3 => "medium",
            4 => "long",
            _ => "",
        };
        match *self {
            Self::Integer { flag: true, .. } => f.write_str("tinyint(1)"),
            Self::Integer { bits, unsigned, .. } => {
                f.write_str(match bits {
                    8 => "tinyint",
                    16 => "smallint",
                    24 => "mediumint",
                    32 => "int",
                    _ => "bigint",
                })?;
                f.write_str(if unsigned { " unsigned" } else { "" })
            }
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Char(n) => write!(f, "char({n})"),
            Self::Varchar(n) => write!(f, "varchar({n})"),
            Self::Text(length) => write!(f, "{}text", prefix(length)),
            Self::Binary(n) => write!(f, "binary({n})"),
            Self::Varbinary(n) => write!(f, "varbinary({n})"),
            Self::Blob(length) => write!(f, "{}blob", prefix(length)),
            Self::Date => f.write_str("date"),
            Self::DateTime(digits) => sized(f, "datetime", digits),
            Self::Timestamp(digits) => sized(f, "timestamp", digits),
            Self::Time(digits) => sized(f, "time", digits),
            Self::Year => f.write_str("year"),
            Self::Json => f.write_str("json"),
            Self::Bit(n) => write!(f, "bit({n})"),
            Self::Null => f.write_str("null"),
        }
    }
}

/// Reads a column type off the front of `lexemes`; returns it and how many tokens it took.
pub fn read_type(lexemes: &[Lexeme]) -> Option<(Kind, usize)> {
    let name = lexemes.first()?.name()?.to_ascii_uppercase();
    let mut used = 1;
    if lexemes
        .get(1)
        .is_some_and(|l| l.is_any(&["PRECISION", "VARYING"]))
    {
        used += 1;
    }
    let mut arguments = Vec::new();
    if lexemes.get(used).is_some_and(|l| l.is_symbol("(")) {
        let close = super::translate::matching(lexemes, used)?;
        arguments = lexemes
            .get(used..close)?
            .iter()
            .filter_map(number)
            .collect();
        used = close + 1;
    }
    let flags = lexemes
        .get(used..)?
        .iter()
        .take_while(|l| l.is_any(&["UNSIGNED", "SIGNED", "ZEROFILL"]));
    let flags: Vec<bool> = flags.map(|l| !l.is_word("SIGNED")).collect();
    // INTEGER is SQLite's own word for a row id; a client's means INT.
    let name = if name == "INTEGER" { "INT" } else { &name };
    let kind = Kind::named(name, &arguments, flags.contains(&true))?;
    Some((kind, used + flags.len()))
}

fn number(lexeme: &Lexeme) -> Option<u32> {
    match &lexeme.token {
        Token::Number(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::{Quoting, read};
    use super::*;

    #[test]
    fn types_survive_sqlites_catalog() {
        let check = |sql: &str, declared: &str, shown: &str| {
            let lexemes = read(sql.as_bytes(), Quoting::default())
                .unwrap()
                .remove(0)
                .lexemes;
            let (kind, used) = read_type(&lexemes).unwrap();
            assert_eq!(used, lexemes.len(), "{sql}");
            assert_eq!(
                (kind.declared().as_str(), kind.to_string().as_str()),
                (declared, shown),
                "{sql}"
            );
            assert_eq!(Kind::parse(&kind.declared()), Some(kind), "{sql}");
        };
        check("int(10) unsigned", "INT UNSIGNED", "int unsigned");
        check("INTEGER", "INT", "int");
        check("tinyint(1)", "TINYINT(1)", "tinyint(1)");
        check("decimal(10,2)", "DECIMAL(10,2)", "decimal(10,2)");
        check("double precision", "DOUBLE", "double");
        check("varchar(20)", "VARCHAR(20)", "varchar(20)");
        check("datetime(6)", "DATETIME_TEXT(6)", "datetime(6)");
        check("longtext", "LONGTEXT", "longtext");
        check("varbinary(16)", "VARBINARY_BLOB(16)", "varbinary(16)");
        check("json", "JSON_TEXT", "json");
        check("enum('a','b')", "VARCHAR(255)", "varchar(255)");
        assert_eq!(Kind::parse("GEOMETRY"), None);
    }
}
