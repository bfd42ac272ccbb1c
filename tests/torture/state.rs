//! What a session has set, as its writer knows it: what each setting makes of a text, and shows as.

use crate::ledger::Cell;
use crate::schemas::{Defaults, GONE, LOGIN_COLLATION};
use crate::support::Kind;

/// Modes that change how a text is read, in the order in which servers list them.
pub const MODES: [&str; 3] = ["PIPES_AS_CONCAT", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES"];
const PIPES: u8 = 1;
const ANSI: u8 = 2;
const SLASHES: u8 = 4;

pub const LEVELS: [&str; 3] = ["READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ"];

/// A column of a row, the expression that it is written from, and what it must hold.
#[derive(Clone, Debug)]
pub struct Shown {
    pub column: &'static str,
    pub sql: String,
    pub cell: Cell,
}

impl Shown {
    pub fn new(column: &'static str, sql: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            column,
            sql: sql.into(),
            cell: is(value),
        }
    }
}

pub fn is(value: impl Into<String>) -> Cell {
    Cell::Is(Some(value.into()))
}

/// A session's state. A new one is that of a login.
#[derive(Clone, Debug)]
pub struct State {
    defaults: Defaults,
    writer: u64,
    pub schema: &'static str,
    pub zone: String,
    /// Some of [`MODES`] and nothing else; `None` is what a login gives.
    pub mode: Option<u8>,
    pub collation: String,
    /// The client sends latin1, else utf8mb4.
    pub is_latin: bool,
    pub is_auto: bool,
    pub iso: String,
    /// `@mine`.
    pub mine: Cell,
    /// The session has its writer's lock.
    pub is_held: bool,
    /// A temporary table `mine`: its schema, and what is in it.
    pub temporary: Option<(&'static str, String)>,
    /// LAST_INSERT_ID().
    pub last: Cell,
}

impl State {
    pub fn new(defaults: &Defaults, writer: u64, schema: &'static str) -> Self {
        Self {
            defaults: defaults.clone(),
            writer,
            schema,
            zone: "SYSTEM".to_owned(),
            mode: None,
            collation: LOGIN_COLLATION.to_owned(),
            is_latin: false,
            is_auto: true,
            iso: defaults.iso.clone(),
            mine: Cell::Is(None),
            is_held: false,
            temporary: None,
            last: is("0"),
        }
    }

    /// COM_RESET_CONNECTION: all but the schema is as after a login.
    pub fn reset(&mut self) {
        *self = Self::new(&self.defaults, self.writer, self.schema);
        self.collation = self.defaults.reset_collation.clone();
    }

    pub fn isolation(&self) -> &'static str {
        self.defaults.isolation()
    }

    /// The writer's own lock.
    pub fn lock(&self) -> String {
        format!("w{}", self.writer)
    }

    pub fn mode_text(&self) -> String {
        let Some(mode) = self.mode else {
            return self.defaults.mode.clone();
        };
        let bits = [PIPES, ANSI, SLASHES];
        let named = MODES.iter().zip(bits);
        let names: Vec<&str> = named
            .filter_map(|(name, bit)| (mode & bit != 0).then_some(*name))
            .collect();
        names.join(",")
    }

    fn has(&self, bit: u8) -> bool {
        self.mode.is_some_and(|mode| mode & bit != 0)
    }

    /// Backslashes stand for themselves.
    pub fn has_plain_slashes(&self) -> bool {
        self.has(SLASHES)
    }

    /// A string's literal.
    pub fn literal(&self, text: &str) -> String {
        let doubled = text.replace('\'', "''");
        match self.has_plain_slashes() {
            true => format!("'{doubled}'"),
            false => format!("'{}'", doubled.replace('\\', "\\\\")),
        }
    }

    /// What depends on how a text is read, which is when it is prepared. `way` is the column's value where
    /// columns may be named.
    pub fn read(&self, way: Option<&str>, is_odd: bool) -> Vec<Shown> {
        let chars = if self.is_latin { "2" } else { "1" };
        let same = if self.collation == "utf8mb4_bin" {
            "0"
        } else {
            "1"
        };
        let piped = if self.has(PIPES) { "11" } else { "1" };
        let slash = match (self.has_plain_slashes(), is_odd) {
            // Elsewhere this literal would not end here.
            (true, true) => Shown::new("slash", r"'\'", r"\"),
            (true, false) => Shown::new("slash", r"'a\\b'", r"a\\b"),
            (false, _) => Shown::new("slash", r"'a\\b'", r"a\b"),
        };
        let mut all = vec![
            slash,
            Shown::new("piped", "'1'||'1'", piped),
            Shown::new("same", "'a' = 'A'", same),
            Shown::new("chars", "CHAR_LENGTH('é')", chars),
        ];
        if let Some(way) = way {
            // A name, or a string.
            let quoted = if self.has(ANSI) { way } else { "way" };
            all.push(Shown::new("quoted", "\"way\"", quoted));
        }
        all
    }

    /// What is taken as it is when a statement runs, and moves with its session. `schema` is where it runs.
    pub fn run(&self, column: &'static str, schema: &str) -> Shown {
        let isolation = format!("@@{}", self.isolation());
        let (sql, cell) = match column {
            // A server that comes back to a schema that has gone leaves its session without one.
            "db" if schema == GONE => ("DATABASE()".to_owned(), is(GONE).or(None)),
            "db" => ("DATABASE()".to_owned(), is(schema)),
            "zone" => ("@@time_zone".to_owned(), is(self.zone.as_str())),
            "mode" => ("@@sql_mode".to_owned(), is(self.mode_text())),
            "coll" => (
                "@@collation_connection".to_owned(),
                is(self.collation.as_str()),
            ),
            "auto" => {
                let value = if self.is_auto { "1" } else { "0" };
                ("@@autocommit".to_owned(), is(value))
            }
            "iso" => (isolation, is(self.iso.as_str())),
            "prior" => ("LAST_INSERT_ID()".to_owned(), self.last.clone()),
            "mine" => ("@mine".to_owned(), self.mine.clone()),
            "held" => {
                let lock = self.lock();
                let sql = format!("IFNULL(IS_USED_LOCK('{lock}') = CONNECTION_ID(), 0)");
                (sql, is(if self.is_held { "1" } else { "0" }))
            }
            "seen" => ("(SELECT MAX(tag) FROM mine)".to_owned(), self.seen()),
            other => panic!("no column {other}"),
        };
        Shown { column, sql, cell }
    }

    /// What is in `mine`, a table in each schema but the one that comes and goes.
    fn seen(&self) -> Cell {
        let tag = match &self.temporary {
            Some((schema, tag)) if *schema == self.schema => tag.as_str(),
            _ => "real",
        };
        match self.defaults.kind {
            Kind::MariaDb => Cell::IsUnlessKilled(tag.to_owned()),
            Kind::MySql => is(tag),
        }
    }

    pub fn is_in_gone(&self) -> bool {
        self.schema == GONE
    }

    /// Something of it is nowhere but on its connection.
    pub fn is_kept(&self) -> bool {
        self.is_held || self.temporary.is_some() || self.mine != Cell::Is(None)
    }
}

/// `INSERT` of a row: `key` is the writer and the number.
pub fn insert(table: &str, key: &str, shown: &[Shown]) -> String {
    let names: Vec<&str> = shown.iter().map(|shown| shown.column).collect();
    let values: Vec<&str> = shown.iter().map(|shown| shown.sql.as_str()).collect();
    format!(
        "INSERT INTO {table} (writer, seq, {}) VALUES ({key}, {})",
        names.join(", "),
        values.join(", ")
    )
}

/// A call of a function that inserts it.
pub fn call(function: &str, key: &str, shown: &[Shown]) -> String {
    let of_column = |column: &&str| {
        let found = shown.iter().find(|shown| shown.column == *column);
        found.map_or("NULL", |shown| shown.sql.as_str())
    };
    let values: Vec<&str> = crate::schemas::COLUMNS.iter().map(of_column).collect();
    format!("SELECT {function}({key}, {})", values.join(", "))
}
