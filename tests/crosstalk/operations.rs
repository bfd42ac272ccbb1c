//! One client's session: what it may do and what must be true of each answer.

use std::fmt;

use ringgate::base::prng::Prng;

use crate::ledger::{Fate, Ledger};
use crate::support::{Answer, Client, ClientError, Statement};

/// A broken rule.
#[derive(Debug)]
pub struct Violation {
    /// The rule's name.
    pub rule: &'static str,
    text: String,
}

impl Violation {
    /// A rule and what was seen.
    pub fn new(rule: &'static str, text: String) -> Self {
        Self { rule, text }
    }

    /// The same, with who saw it and how to see it again.
    pub fn of(mut self, client: u64, seed: u64) -> Self {
        self.text = format!("client {client}: {} (CROSSTALK_SEED={seed})", self.text);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

impl From<ClientError> for Violation {
    fn from(error: ClientError) -> Self {
        let rule = if matches!(error, ClientError::Protocol(_)) {
            "R2"
        } else {
            "answer"
        };
        Self::new(rule, error.to_string())
    }
}

type Checked = Result<(), Violation>;

fn same<T: PartialEq + fmt::Debug>(rule: &'static str, what: &str, found: T, expect: T) -> Checked {
    if found == expect {
        return Ok(());
    }
    Err(Violation::new(
        rule,
        format!("{what}: {found:?} instead of {expect:?}"),
    ))
}

/// A connection and what its client knows about it.
pub struct Session {
    client: Client,
    id: u64,
    tenant: &'static str,
    tags: u64,
    echo: Option<Statement>,
    insert: Option<Statement>,
    /// What the client last set `@mine` to.
    mine: Option<String>,
    /// The session keeps an upstream connection to itself: it must not live long.
    keeps: u32,
}

impl Session {
    /// A session that has just logged in.
    pub fn new(client: Client, id: u64, tenant: &'static str) -> Self {
        Self {
            client,
            id,
            tenant,
            tags: 0,
            echo: None,
            insert: None,
            mine: None,
            keeps: 0,
        }
    }

    /// Whether the session should end now, because it may hold a scarce upstream connection.
    pub fn is_spent(&self) -> bool {
        self.keeps > 4
    }

    /// Does one random thing and checks its answer.
    pub fn operate(&mut self, random: &mut Prng, ledger: &mut Ledger) -> Checked {
        self.keeps += u32::from(self.keeps > 0);
        match random.below(100) {
            0..20 => self.select_text()?,
            20..40 => self.select_prepared()?,
            40..48 => self.insert(random, ledger)?,
            48..54 => self.transaction(random, ledger)?,
            54..60 => self.pipeline(random)?,
            60..65 => self.variable()?,
            65..70 => self.who_am_i()?,
            70..75 => self.state()?,
            75..80 => self.counts(random)?,
            80..84 => self.warning()?,
            84..88 => self.error()?,
            88..91 => self.temporary_table()?,
            91..95 => self.rows(random)?,
            95..97 => self.slow(random)?,
            97..99 => self.reset()?,
            _ => self.long_answer(random)?,
        }
        match self.client.is_quiet() {
            Ok(quiet) => same("R7", "bytes after the answer", !quiet, false),
            Err(error) => Err(Violation::new("R7", error.to_string())),
        }
    }

    /// Ends the session in a random way; true when the connection was dropped in the middle.
    pub fn end(mut self, random: &mut Prng, ledger: &mut Ledger) -> bool {
        // What becomes of a connection that is dropped is the peer's business, so are errors here.
        match random.below(6) {
            0 | 1 => {
                drop(self.client.quit());
                return false;
            }
            2 => drop(
                self.client
                    .send_query("SELECT 'not for the next one', SLEEP(0.005)"),
            ),
            3 => {
                drop(self.client.send_query("SELECT 'half', seq FROM numbers"));
                drop(self.client.read_raw(1000));
            }
            4 => drop(self.client.send_raw(&[200, 0, 0, 0, 3, b'S', b'E'])),
            _ => {
                let sql = insert_sql(self.id, ledger.open());
                drop(self.client.send_query(&sql));
            }
        }
        true
    }

    fn tag(&mut self) -> String {
        self.tags += 1;
        format!("{}:{}:{}", self.tenant, self.id, self.tags)
    }

    fn one(&mut self, sql: &str) -> Result<Answer, Violation> {
        Ok(self.client.query_one(sql)?)
    }

    fn select_text(&mut self) -> Checked {
        let tag = self.tag();
        let answer = self.one(&format!("SELECT '{tag}'"))?;
        same("R1", "tag of a text answer", answer.text(0, 0), Some(tag))
    }

    fn select_prepared(&mut self) -> Checked {
        let tag = self.tag();
        let statement = match self.echo {
            Some(statement) => statement,
            None => self.client.prepare("SELECT ?, 1")?,
        };
        self.echo = Some(statement);
        let answer = self.client.execute(statement, &[tag.as_bytes()])?;
        same(
            "R1",
            "tag of a prepared answer",
            answer.text(0, 0),
            Some(tag),
        )?;
        if self.tags.is_multiple_of(16) {
            self.client.close_statement(statement)?;
            self.echo = None;
        }
        Ok(())
    }

    fn insert(&mut self, random: &mut Prng, ledger: &mut Ledger) -> Checked {
        let number = ledger.open();
        let answer = if random.below(2) == 0 {
            self.one(&insert_sql(self.id, number))?
        } else {
            let statement = match self.insert {
                Some(statement) => statement,
                None => self
                    .client
                    .prepare("INSERT INTO log (client, seq) VALUES (?, ?)")?,
            };
            self.insert = Some(statement);
            let (id, number) = (self.id.to_string(), number.to_string());
            self.client
                .execute(statement, &[id.as_bytes(), number.as_bytes()])?
        };
        ledger.settle(number, Fate::There);
        same("R3", "rows of an insert", answer.affected, 1)?;
        let expect = answer.insert_id.to_string();
        let found = self.one("SELECT LAST_INSERT_ID()")?;
        same("R4", "LAST_INSERT_ID()", found.text(0, 0), Some(expect))
    }

    fn transaction(&mut self, random: &mut Prng, ledger: &mut Ledger) -> Checked {
        self.one("START TRANSACTION")?;
        let before = self.one("SELECT CONNECTION_ID()")?.text(0, 0);
        let number = ledger.open();
        self.one(&insert_sql(self.id, number))?;
        self.select_prepared()?;
        let seen = self.one(&format!(
            "SELECT COUNT(*) FROM log WHERE client = {} AND seq = {number}",
            self.id
        ))?;
        same(
            "R5",
            "own row inside a transaction",
            seen.text(0, 0),
            Some("1".to_owned()),
        )?;
        let after = self.one("SELECT CONNECTION_ID()")?.text(0, 0);
        same("R5", "connection inside a transaction", after, before)?;
        if random.below(2) == 0 {
            self.one("COMMIT")?;
            ledger.settle(number, Fate::There);
        } else {
            self.one("ROLLBACK")?;
            ledger.settle(number, Fate::Absent);
        }
        Ok(())
    }

    fn pipeline(&mut self, random: &mut Prng) -> Checked {
        let tags: Vec<String> = (0..2 + random.below(6)).map(|_| self.tag()).collect();
        let statements: Vec<String> = tags.iter().map(|tag| format!("SELECT '{tag}'")).collect();
        self.client.send_queries(&statements)?;
        for tag in tags {
            let answer = self.client.read_query()?;
            same(
                "R2",
                "tag of a pipelined answer",
                answer.text(0, 0),
                Some(tag),
            )?;
        }
        Ok(())
    }

    fn variable(&mut self) -> Checked {
        let found = self.one("SELECT @mine")?.text(0, 0);
        same("R4", "@mine", found, self.mine.clone())?;
        let tag = self.tag();
        self.one(&format!("SET @mine = '{tag}'"))?;
        self.keeps += 1;
        let found = self.one("SELECT @mine")?.text(0, 0);
        self.mine = Some(tag);
        same("R4", "@mine after SET", found, self.mine.clone())
    }

    fn who_am_i(&mut self) -> Checked {
        let found = self.one("SELECT name FROM whoami")?.text(0, 0);
        same(
            "R8",
            "the tenant's own data",
            found,
            Some(self.tenant.to_owned()),
        )
    }

    fn state(&mut self) -> Checked {
        let first = self.one("SELECT DATABASE(), @@time_zone, @@autocommit")?;
        let found: Vec<_> = (0..3).map(|column| first.text(0, column)).collect();
        let expect = ["test", "SYSTEM", "1"].map(|text| Some(text.to_owned()));
        same("R4", "schema, zone and autocommit", found, expect.to_vec())?;
        let minutes = 10 + self.id % 50;
        self.one(&format!("SET time_zone = '+07:{minutes}'"))?;
        let zone = self.one("SELECT @@time_zone")?.text(0, 0);
        same("R4", "time zone", zone, Some(format!("+07:{minutes}")))?;
        self.one("SET time_zone = 'SYSTEM'")?;
        Ok(())
    }

    fn counts(&mut self, random: &mut Prng) -> Checked {
        let rows = 2 + random.below(500);
        self.one(&format!(
            "SELECT SQL_CALC_FOUND_ROWS seq FROM numbers WHERE seq <= {rows} LIMIT 1"
        ))?;
        let found = self.one("SELECT FOUND_ROWS()")?.text(0, 0);
        same("R4", "FOUND_ROWS()", found, Some(rows.to_string()))
    }

    fn warning(&mut self) -> Checked {
        let tag = self.tag();
        let answer = self.one(&format!("SELECT CAST('w{tag}' AS SIGNED)"))?;
        same("R4", "number of warnings", answer.warnings, 1)?;
        let text = self.one("SHOW WARNINGS")?.text(0, 2).unwrap_or_default();
        let own = text.contains(&format!("'w{tag}'"));
        same("R4", &format!("warning {text:?} is of {tag}"), own, true)
    }

    fn error(&mut self) -> Checked {
        let table = self.tag().replace(':', "_");
        match self
            .client
            .query_one(&format!("SELECT * FROM missing_{table}"))
        {
            Err(ClientError::Server {
                errno: 1146, text, ..
            }) => {
                let own = text.contains(&format!("missing_{table}'"));
                same("R1", &format!("error {text:?} is of {table}"), own, true)
            }
            Err(other) => Err(other.into()),
            Ok(answer) => Err(Violation::new(
                "R1",
                format!("{answer:?} instead of an error"),
            )),
        }
    }

    fn temporary_table(&mut self) -> Checked {
        let tag = self.tag();
        match self
            .client
            .query_one("CREATE TEMPORARY TABLE mine (tag VARCHAR(80))")
        {
            Err(error) if error.errno() == 1050 => {
                return Err(Violation::new("R4", "another's temporary table".to_owned()));
            }
            made => made?,
        };
        self.keeps += 1;
        self.one(&format!("INSERT INTO mine VALUES ('{tag}')"))?;
        let answer = self.one("SELECT tag FROM mine")?;
        same("R4", "rows of the temporary table", answer.rows.len(), 1)?;
        same("R4", "temporary table", answer.text(0, 0), Some(tag))?;
        self.one("DROP TEMPORARY TABLE mine")?;
        Ok(())
    }

    fn rows(&mut self, random: &mut Prng) -> Checked {
        let (count, tag) = (1 + random.below(2000), self.tag());
        let answer = self.one(&format!(
            "SELECT seq, '{tag}' FROM numbers WHERE seq <= {count} ORDER BY seq"
        ))?;
        same(
            "R6",
            "number of rows",
            answer.rows.len().to_string(),
            count.to_string(),
        )?;
        for row in [0, answer.rows.len() / 2, answer.rows.len() - 1] {
            same(
                "R6",
                "row number",
                answer.text(row, 0),
                Some((row + 1).to_string()),
            )?;
            same("R1", "tag of a row", answer.text(row, 1), Some(tag.clone()))?;
        }
        Ok(())
    }

    fn slow(&mut self, random: &mut Prng) -> Checked {
        let (tag, milliseconds) = (self.tag(), 1 + random.below(20));
        let answer = self.one(&format!("SELECT '{tag}', SLEEP(0.0{milliseconds:02})"))?;
        same("R1", "tag of a slow answer", answer.text(0, 0), Some(tag))
    }

    fn reset(&mut self) -> Checked {
        self.client.reset()?;
        (self.mine, self.echo, self.insert, self.keeps) = (None, None, None, 0);
        let found = self.one("SELECT @mine")?.text(0, 0);
        same("R4", "@mine after a reset", found, None)
    }

    fn long_answer(&mut self, random: &mut Prng) -> Checked {
        // Rarely beyond the size of one packet.
        let size = if random.below(20) == 0 {
            17 << 20
        } else {
            100_000 + random.below(400_000)
        };
        let letter = char::from(b'a' + u8::try_from(self.id % 26).expect("a letter"));
        let answer = self.one(&format!("SELECT REPEAT('{letter}', {size})"))?;
        let value = answer.rows.first().and_then(|row| row.first()?.as_ref());
        let length = value.map_or(0, Vec::len).to_string();
        same("R6", "length of a long value", length, size.to_string())?;
        let pure = value.is_some_and(|value| value.iter().all(|byte| char::from(*byte) == letter));
        same("R6", "bytes of a long value", pure, true)
    }
}

fn insert_sql(client: u64, number: usize) -> String {
    format!("INSERT INTO log (client, seq) VALUES ({client}, {number})")
}
