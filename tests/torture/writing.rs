//! The ways of writing a row, each with what it must hold.

use crate::ledger::Cell;
use crate::schemas::{GONE, LASTING};
use crate::state::{Shown, call, insert, is};
use crate::support::{Answer, Kind, Statement};
use crate::writer::{Session, Stop, Told, is_set};

/// More than the gateway looks at.
const LONG: u64 = 66_000;

/// A prepared statement that writes a row, and what its PREPARE has fixed.
#[derive(Debug)]
pub struct Prepared {
    /// Its id; the one that has a name has none.
    statement: Option<Statement>,
    schema: &'static str,
    read: Vec<Shown>,
    run: Vec<&'static str>,
    is_call: bool,
}

/// The way of a statement that has a name instead of an id.
const NAMED: &str = "named";

impl Session<'_> {
    /// One row, in one of all ways.
    pub fn write(&mut self) -> Result<(), Stop> {
        if self.state.is_in_gone() {
            return match self.prng.below(3) {
                0 => self.write_prepared(),
                _ => self.write_text(),
            };
        }
        match self.prng.below(22) {
            0..6 => self.write_text(),
            6..11 => self.write_prepared(),
            11..14 => self.write_by_call(),
            14 => self.write_noting(),
            15 | 16 => self.write_by_view(),
            17 => self.write_returning(),
            18 => self.write_named(),
            _ => self.write_long(),
        }
    }

    /// A row in the session's own schema, to be sent as it is.
    pub fn plain_write(&mut self, way: &'static str) -> (usize, String) {
        let schema = self.state.schema;
        let shown = self.shown(way, schema, true, false);
        self.open(schema, "w", &shown)
    }

    /// The next write, as a text.
    fn open(&mut self, schema: &'static str, table: &str, shown: &[Shown]) -> (usize, String) {
        let number = self.ledger.open(schema, &cells(shown));
        let key = format!("{}, {number}", self.writer);
        (number, insert(table, &key, shown))
    }

    /// All that a text of now shows, with what keeps a connection only now and then.
    fn shown(
        &mut self,
        way: &'static str,
        schema: &'static str,
        is_insert: bool,
        is_long: bool,
    ) -> Vec<Shown> {
        let mut shown = heads(way, schema);
        if is_long {
            let length = LONG + self.prng.below(100_000);
            let count = usize::try_from(length).expect("a length");
            let sql = format!("CHAR_LENGTH('{}')", "x".repeat(count));
            shown.push(Shown::new("pad", sql, length.to_string()));
        }
        let is_odd = self.chance(2);
        shown.extend(self.state.read(is_insert.then_some(way), is_odd));
        let here = self.state.schema;
        for column in self.run_columns(true) {
            shown.push(self.state.run(column, here));
        }
        shown
    }

    /// Which columns a statement takes as they are when it runs.
    fn run_columns(&mut self, is_now: bool) -> Vec<&'static str> {
        let mut columns = vec!["db", "zone", "mode", "coll", "auto"];
        if self.chance(2) {
            columns.push("iso");
        }
        if self.chance(3) {
            columns.push("prior");
        }
        let one_in = if self.state.is_kept() { 2 } else { 5 };
        if self.chance(one_in) {
            columns.extend(["mine", "held"]);
            self.is_kept = true;
        }
        if is_now && !self.state.is_in_gone() && self.chance(3) {
            columns.push("seen");
        }
        columns
    }

    fn write_text(&mut self) -> Result<(), Stop> {
        let here = self.state.schema;
        let (schema, table) = match self.prng.below(4) {
            0 => {
                let other = self.pick(&LASTING);
                (other, format!("{other}.w"))
            }
            _ => (here, "w".to_owned()),
        };
        let shown = self.shown("text", schema, true, false);
        let (number, sql) = self.open(schema, &table, &shown);
        let told = self.ask(&sql, &[]);
        self.settle(number, told.map(id_of), false)
    }

    fn write_long(&mut self) -> Result<(), Stop> {
        let schema = self.state.schema;
        let mut shown = self.shown("long", schema, true, true);
        for shown in shown.iter_mut().filter(|shown| shown.column == "prior") {
            // In the end of the text too: what was lost with a connection is not told there, but found to be 0.
            shown.cell = shown.cell.clone().or(Some("0"));
        }
        let leaves = !self.chance(4);
        if leaves {
            shown.retain(|shown| shown.column != "mine");
            let tag = format!("l{}:{}", self.writer, self.ledger.next());
            shown.push(Shown::new("mine", format!("@mine := '{tag}'"), tag));
        }
        let (number, sql) = self.open(schema, "w", &shown);
        let told = self.ask(&sql, &[]);
        if leaves {
            // Only the end of the text tells, which nobody looks at: it may be lost to this session.
            self.state.mine = Cell::Any;
        }
        self.settle(number, told.map(id_of), false)
    }

    fn write_returning(&mut self) -> Result<(), Stop> {
        if self.home.defaults.kind == Kind::MySql {
            return self.write_text();
        }
        let (number, sql) = self.plain_write("returning");
        let told = self.ask(&format!("{sql} RETURNING id"), &[]);
        let id = |answer: Answer| answer.text(0, 0)?.parse().ok();
        self.settle(number, told.map(id), false)
    }

    /// A trigger leaves a variable.
    fn write_noting(&mut self) -> Result<(), Stop> {
        let schema = self.state.schema;
        let shown = self.shown("trigger", schema, true, false);
        let (number, sql) = self.open(schema, "noting", &shown);
        let told = self.ask(&sql, &[]);
        self.is_kept = true;
        self.state.mine = match told {
            Ok(_) => is(format!("t{}:{number}", self.writer)),
            Err(_) => Cell::Any,
        };
        self.settle(number, told.map(id_of), false)
    }

    /// A SELECT of a function that inserts.
    fn write_by_call(&mut self) -> Result<(), Stop> {
        let here = self.state.schema;
        let notes = self.chance(4);
        let function = if notes { "put_noting" } else { "put" };
        let (schema, function) = match self.prng.below(3) {
            0 => {
                let other = self.pick(&LASTING);
                (other, format!("`{other}` . {function}"))
            }
            _ => (here, function.to_owned()),
        };
        let shown = self.shown("call", schema, false, false);
        let number = self.ledger.open(schema, &cells(&shown));
        let sql = call(&function, &format!("{}, {number}", self.writer), &shown);
        let told = self.ask(&sql, &[]);
        if notes {
            self.is_kept = true;
            self.state.mine = match told {
                Ok(_) => is(format!("f{}:{number}", self.writer)),
                Err(_) => Cell::Any,
            };
        }
        self.settle(number, told.map(|_| None), true)
    }

    /// A SELECT of a view that calls one.
    fn write_by_view(&mut self) -> Result<(), Stop> {
        let k = self.writer * 1_000_000 + self.ledger.next() as u64;
        let told = self.ask(&format!("INSERT INTO queue VALUES ({k})"), &[]);
        match told {
            Ok(_) => {}
            // Not queued, and this number is not used for another view: what is queued twice is told.
            Err(told) => {
                self.state.last = Cell::Any;
                let number = self.ledger.open(self.state.schema, &[]);
                self.ledger.settle(number, crate::ledger::Fate::Absent);
                let goes_on = self.state.is_auto && !self.is_open && told != Told::Ended;
                return if goes_on { Ok(()) } else { Err(Stop) };
            }
        }
        let schema = self.state.schema;
        let mut shown = heads("view", schema);
        for column in ["zone", "auto"] {
            shown.push(self.state.run(column, schema));
        }
        let number = self.ledger.open(schema, &cells(&shown));
        let sql = format!("SELECT done FROM putting WHERE k = {k}");
        let told = self.ask(&sql, &[]);
        if let Ok(answer) = &told {
            let found = answer.text(0, 0);
            if found.as_deref() != Some(number.to_string().as_str()) {
                self.problem(&format!("the view gave {found:?}"));
            }
        }
        self.settle(number, told.map(|_| None), true)
    }

    /// By a statement that was prepared some time ago, or now.
    fn write_prepared(&mut self) -> Result<(), Stop> {
        let known: Vec<usize> = (0..self.prepared.len())
            .filter(|index| self.prepared[*index].statement.is_some())
            .collect();
        let in_gone = self.state.is_in_gone();
        if known.is_empty() || (!in_gone && known.len() < 6 && self.chance(3)) {
            return if in_gone {
                self.write_text()
            } else {
                self.prepare()
            };
        }
        let index = self.pick(&known);
        if self.chance(12) {
            let one = self.prepared.swap_remove(index);
            let statement = one.statement.expect("an id");
            let told = self.tell("CLOSE", &[], |client| client.close_statement(statement));
            return told.map_err(|_| Stop);
        }
        self.execute(index)
    }

    fn prepare(&mut self) -> Result<(), Stop> {
        let is_call = self.chance(3);
        let (one, sql) = self.draft("binary", is_call);
        let what = format!("PREPARE {sql}");
        let told = self.tell(&what, &[], |client| client.prepare(&sql));
        let statement = told.as_ref().ok().copied();
        if !is_set(told)? {
            return Ok(());
        }
        self.prepared.push(Prepared { statement, ..one });
        self.execute(self.prepared.len() - 1)
    }

    /// A statement without its id, and its text.
    fn draft(&mut self, way: &'static str, is_call: bool) -> (Prepared, String) {
        let schema = self.state.schema;
        let mut read = heads(way, schema);
        let is_odd = self.chance(2);
        read.extend(self.state.read((!is_call).then_some(way), is_odd));
        if way == NAMED && self.home.defaults.kind == Kind::MySql {
            // It converts a text in a variable or a literal before it reads it.
            read.retain(|shown| shown.column != "chars");
        }
        let run = self.run_columns(false);
        let mut shown = read.clone();
        shown.extend(run.iter().map(|column| self.state.run(column, schema)));
        let sql = match is_call {
            true => call("put", "?, ?", &shown),
            false => insert("w", "?, ?", &shown),
        };
        let one = Prepared {
            statement: None,
            schema,
            read,
            run,
            is_call,
        };
        (one, sql)
    }

    /// The number of what this statement writes now.
    fn open_prepared(&mut self, index: usize) -> (usize, bool) {
        let one = &self.prepared[index];
        let mut shown = one.read.clone();
        // It runs in the schema of its PREPARE.
        let run = one.run.iter();
        shown.extend(run.map(|column| self.state.run(column, one.schema)));
        let number = self.ledger.open(one.schema, &cells(&shown));
        (number, one.is_call)
    }

    fn execute(&mut self, index: usize) -> Result<(), Stop> {
        let (number, is_call) = self.open_prepared(index);
        let statement = self.prepared[index].statement.expect("an id");
        let (writer, seq) = (self.writer.to_string(), number.to_string());
        let what = format!(
            "EXECUTE {} (of {}) for write {number}",
            statement.id, self.prepared[index].schema
        );
        let told = self.tell(&what, &[], |client| {
            client.execute(statement, &[writer.as_bytes(), seq.as_bytes()])
        });
        let id = |answer| if is_call { None } else { id_of(answer) };
        self.settle(number, told.map(id), is_call)
    }

    /// By a statement that has a name.
    fn write_named(&mut self) -> Result<(), Stop> {
        self.is_kept = true;
        let found = self.prepared.iter().position(|one| one.statement.is_none());
        let index = match found {
            Some(index) => index,
            None => {
                let (one, sql) = self.draft(NAMED, false);
                let text = format!("PREPARE ps FROM {}", self.state.literal(&sql));
                if !self.set(&text)? {
                    return Ok(());
                }
                self.prepared.push(one);
                self.prepared.len() - 1
            }
        };
        let number = self.ledger.next();
        if !self.set(&format!("SET @w = {}, @s = {number}", self.writer))? {
            return Ok(());
        }
        let (number, _) = self.open_prepared(index);
        let told = self.ask("EXECUTE ps USING @w, @s", &[]);
        self.settle(number, told.map(id_of), false)
    }

    /// Sent, and its answer is not read.
    pub fn write_unread(&mut self) {
        let way = "unread";
        let schema = match self.state.schema {
            GONE => LASTING[0],
            schema => schema,
        };
        let shown = self.shown(way, schema, true, false);
        let (number, sql) = self.open(schema, &format!("{schema}.w"), &shown);
        self.ledger.note(&sql, &"not read");
        drop(self.client.send_query(&sql));
        if self.is_open || !self.state.is_auto {
            self.ledger.settle(number, crate::ledger::Fate::Absent);
        }
    }
}

fn id_of(answer: Answer) -> Option<u64> {
    Some(answer.insert_id)
}

fn heads(way: &'static str, schema: &'static str) -> Vec<Shown> {
    vec![
        Shown::new("believed", format!("'{schema}'"), schema),
        Shown::new("way", format!("'{way}'"), way),
    ]
}

fn cells(shown: &[Shown]) -> Vec<(&'static str, Cell)> {
    let of = |shown: &Shown| (shown.column, shown.cell.clone());
    shown.iter().map(of).collect()
}
