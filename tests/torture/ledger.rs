//! What each writer has written, in which session as it believed, and what it was told: compared with what
//! is on the server after the storm.

use std::collections::HashMap;
use std::fmt;

use crate::schemas::{COLUMNS, GONE};

/// What must be true of a write at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged: its row is there exactly once.
    There,
    /// It was refused, or never committed: its row is not there.
    Absent,
    /// Nobody could tell its writer: its row is there at most once.
    Unknown,
}

/// What a column of a row must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Is(Option<String>),
    /// One of these.
    OneOf(Vec<Option<String>>),
    /// This. NULL too if its writer was told nothing: where a KILL meets MariaDB in a subquery, the row may be
    /// committed with NULL in its place.
    IsUnlessKilled(String),
    /// Nobody knows, as what it tells of was lost.
    Any,
}

impl Cell {
    /// Whether a row whose writer was told this of it may have this value.
    pub fn allows(&self, value: Option<&str>, fate: Fate) -> bool {
        match self {
            Self::Is(known) => known.as_deref() == value,
            Self::OneOf(all) => all.iter().any(|known| known.as_deref() == value),
            Self::IsUnlessKilled(known) => match value {
                Some(value) => value == known,
                None => fate == Fate::Unknown,
            },
            Self::Any => true,
        }
    }

    /// The same, or this.
    pub fn or(self, value: Option<&str>) -> Self {
        let other = value.map(str::to_owned);
        match self {
            Self::Is(known) => Self::OneOf(vec![known, other]),
            Self::OneOf(all) => Self::OneOf(all.into_iter().chain([other]).collect()),
            Self::IsUnlessKilled(_) => panic!("nothing may be in the place of {self:?}"),
            Self::Any => Self::Any,
        }
    }
}

/// A row as it was found.
#[derive(Clone, Debug)]
pub struct Row {
    pub schema: String,
    pub writer: u64,
    pub seq: u64,
    pub id: u64,
    /// In the order of [`COLUMNS`].
    pub values: Vec<Option<String>>,
}

#[derive(Debug)]
struct Write {
    schema: &'static str,
    /// In the order of [`COLUMNS`].
    cells: Vec<Cell>,
    fate: Fate,
    /// What the answer called its row.
    id: Option<u64>,
    /// How many steps of the history were before it.
    step: usize,
}

/// The writes of one writer, and all that it was told.
#[derive(Debug)]
pub struct Ledger {
    writer: u64,
    writes: Vec<Write>,
    history: Vec<String>,
}

impl Ledger {
    /// An empty one.
    pub fn new(writer: u64) -> Self {
        Self {
            writer,
            writes: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The number that the next write has.
    pub fn next(&self) -> usize {
        self.writes.len()
    }

    /// The next write, in this schema as its writer believes. It is unknown until [`Ledger::settle`].
    pub fn open(&mut self, schema: &'static str, known: &[(&'static str, Cell)]) -> usize {
        let of_column = |column: &&'static str| {
            let found = known.iter().find(|(name, _)| name == column);
            found.map_or(Cell::Is(None), |(_, cell)| cell.clone())
        };
        self.writes.push(Write {
            schema,
            cells: COLUMNS.iter().map(of_column).collect(),
            fate: Fate::Unknown,
            id: None,
            step: self.history.len(),
        });
        self.writes.len() - 1
    }

    /// Notes what its writer was told.
    pub fn settle(&mut self, number: usize, fate: Fate) {
        self.writes[number].fate = fate;
    }

    /// Notes what the answer called the row.
    pub fn name(&mut self, number: usize, id: u64) {
        self.writes[number].id = Some(id);
    }

    /// A command and its answer, for whoever reads what went wrong.
    pub fn note(&mut self, step: &str, answer: &dyn fmt::Debug) {
        let step: String = step.chars().take(500).collect();
        let answer: String = format!("{answer:?}").chars().take(160).collect();
        self.history.push(format!("{step} => {answer}"));
    }

    /// What came before and just behind a step, the last by default.
    pub fn around(&self, step: Option<usize>) -> String {
        let step = step.unwrap_or(self.history.len());
        let last = (step + 2).min(self.history.len());
        let first = step.saturating_sub(12);
        let steps = self.history.get(first..last).unwrap_or_default();
        format!("\n      {}", steps.join("\n      "))
    }

    fn count(&self, fate: Fate) -> usize {
        let is_it = |write: &&Write| write.fate == fate;
        self.writes.iter().filter(is_it).count()
    }
}

/// How many writes of all writers have this fate.
pub fn count(ledgers: &[Ledger], fate: Fate) -> usize {
    ledgers.iter().map(|ledger| ledger.count(fate)).sum()
}

/// What is wrong with one write, of which these are the rows.
fn wrong_with(write: &Write, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (least, most) = match write.fate {
        // With its schema everything in it is gone.
        Fate::There if write.schema == GONE => (0, 1),
        Fate::There => (1, 1),
        Fate::Absent => (0, 0),
        Fate::Unknown => (0, 1),
    };
    if !(least..=most).contains(&rows.len()) {
        wrong.push(format!("{} rows", rows.len()));
    }
    for row in rows {
        if row.schema != write.schema {
            wrong.push(format!("a row in {}, not {}", row.schema, write.schema));
        }
        if write.id.is_some_and(|id| id != row.id) {
            wrong.push(format!("a row of id {}, not {:?}", row.id, write.id));
        }
        for ((column, cell), value) in COLUMNS.iter().zip(&write.cells).zip(&row.values) {
            if !cell.allows(value.as_deref(), write.fate) {
                wrong.push(format!("{column} {value:?}, not {cell:?}"));
            }
        }
    }
    wrong
}

/// Compares what writers were told with the rows that are there; what is wrong.
pub fn compare(rows: Vec<Row>, ledgers: &[Ledger]) -> Vec<String> {
    let mut found: HashMap<(u64, u64), Vec<Row>> = HashMap::new();
    for row in rows {
        found.entry((row.writer, row.seq)).or_default().push(row);
    }
    let mut problems = Vec::new();
    for ledger in ledgers {
        for (number, write) in (0_u64..).zip(&ledger.writes) {
            let rows = found.remove(&(ledger.writer, number)).unwrap_or_default();
            let wrong = wrong_with(write, &rows);
            if !wrong.is_empty() {
                problems.push(format!(
                    "writer {} write {number} ({:?}): {}{}",
                    ledger.writer,
                    write.fate,
                    wrong.join("; "),
                    ledger.around(Some(write.step)),
                ));
            }
        }
    }
    let strangers = found.into_values().flatten();
    problems.extend(strangers.map(|row| format!("nobody has written {row:?}")));
    problems
}

#[test]
fn knows_what_a_column_may_hold() {
    let text = |value: &str| Some(value.to_owned());
    let killed = Cell::IsUnlessKilled("real".to_owned());
    let either = Cell::Is(text("7")).or(Some("0"));
    for (cell, value, fate, expect) in [
        (&Cell::Is(None), None, Fate::There, true),
        (&Cell::Is(None), Some("7"), Fate::There, false),
        (&either, Some("7"), Fate::There, true),
        (&either, Some("0"), Fate::There, true),
        (&either, Some("1"), Fate::There, false),
        (&either, None, Fate::There, false),
        (&killed, Some("real"), Fate::There, true),
        (&killed, Some("other"), Fate::Unknown, false),
        (&killed, None, Fate::Unknown, true),
        (&killed, None, Fate::There, false),
        (&Cell::Any, None, Fate::There, true),
    ] {
        let found = cell.allows(value, fate);
        assert_eq!(found, expect, "{cell:?} {value:?} {fate:?}");
    }
}

#[test]
fn compares_what_was_told_with_what_is_there() {
    let row = |schema: &str, seq: u64, zone: &str| Row {
        schema: schema.to_owned(),
        writer: 7,
        seq,
        id: 40 + seq,
        values: COLUMNS
            .map(|column| (column == "zone").then(|| zone.to_owned()))
            .into(),
    };
    let check = |schema: &'static str, fate: Fate, rows: &[Row], expect: usize| {
        let mut ledger = Ledger::new(7);
        let zone = Cell::Is(Some("+01:00".to_owned()));
        let number = ledger.open(schema, &[("zone", zone)]);
        ledger.settle(number, fate);
        ledger.name(number, 40);
        let problems = compare(rows.to_vec(), &[ledger]);
        assert_eq!(problems.len(), expect, "{fate:?} {rows:?}: {problems:?}");
    };
    let (once, none) = (row("one", 0, "+01:00"), &[][..]);
    let twice = [once.clone(), once.clone()];
    for (fate, of_none, of_one, of_two) in [
        (Fate::There, 1, 0, 1),
        (Fate::Absent, 0, 1, 1),
        (Fate::Unknown, 0, 0, 1),
    ] {
        check("one", fate, none, of_none);
        check("one", fate, std::slice::from_ref(&once), of_one);
        check("one", fate, &twice, of_two);
    }
    check(GONE, Fate::There, none, 0);
    for fate in [Fate::There, Fate::Unknown] {
        check("two", fate, std::slice::from_ref(&once), 1);
        check("one", fate, &[row("one", 0, "+02:00")], 1);
        let other_id = Row {
            id: 41,
            ..once.clone()
        };
        check("one", fate, &[other_id], 1);
    }
    check("one", Fate::There, &[once, row("one", 1, "+01:00")], 1);
}
