//! The few forms of statements that the mock server understands.

use super::mock::{Conn, Data, Refusal, Reply, Table, no_table};
use super::reply::Column;
use super::variables::default_collation;

/// Lower case outside of quotes.
pub fn fold(sql: &str) -> String {
    let mut quote = None;
    sql.chars()
        .map(|c| {
            match quote {
                Some(open) if open == c => quote = None,
                Some(_) => return c,
                None if matches!(c, '\'' | '`') => quote = Some(c),
                None => {}
            }
            c.to_ascii_lowercase()
        })
        .collect()
}

/// Cuts at a separator outside of quotes and parentheses.
pub fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'`') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth = depth.saturating_sub(1),
            (None, byte) if byte == separator && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Whether a FROM names something that counts as a table.
pub fn is_name_of_table(name: &str) -> bool {
    !name.is_empty() && name != "dual"
}

/// The text in single quotes.
fn unquote(text: &str) -> Option<&str> {
    text.trim().strip_prefix('\'')?.strip_suffix('\'')
}

/// What is in the parentheses of a call of `name`.
fn call<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?
        .strip_prefix('(')?
        .strip_suffix(')')
}

fn syntax_error(sql: &str) -> Refusal {
    let near: String = sql.chars().take(40).collect();
    let text = format!("You have an error in your SQL syntax near '{near}'");
    Refusal(1064, "42000", text)
}

/// One statement in execution.
pub struct Exec<'a> {
    pub conn: &'a mut Conn,
    pub data: &'a mut Data,
    pub params: &'a [(u8, Option<String>)],
    pub next_param: usize,
}

/// One row of a table in a FROM.
struct Source {
    index: usize,
    value: String,
}

const OK: Reply = Reply::Ok {
    affected: 0,
    insert_id: 0,
    info: String::new(),
};

impl Exec<'_> {
    pub fn run(mut self, sql: &str) -> Result<Reply, Refusal> {
        let sql = match sql.split_once(" /*") {
            Some((before, _)) => before,
            None => sql,
        };
        let folded = fold(sql);
        let (word, rest) = folded.split_once(' ').unwrap_or((&folded, ""));
        let original = sql.get(word.len()..).unwrap_or_default().trim_start();
        match word {
            "select" => self.select(original),
            "do" => self.run_do(rest),
            "set" => self.set(original),
            "insert" => self.insert(original),
            "begin" | "start" => {
                self.conn.commit();
                self.conn.state.in_transaction = true;
                Ok(OK)
            }
            "commit" => {
                self.conn.commit();
                Ok(OK)
            }
            "rollback" => {
                self.conn.rollback(self.data);
                Ok(OK)
            }
            "use" => self.conn.use_schema(self.data, rest).map(|()| OK),
            "create" | "drop" => self.temporary(word, rest),
            "lock" | "unlock" => {
                self.conn.commit();
                self.conn.state.locks.remove("tables");
                if word == "lock" {
                    self.touch_table(false);
                    self.conn.state.locks.insert("tables".to_owned());
                }
                Ok(OK)
            }
            "show" => Ok(self.show(rest)),
            "execute" => match rest.strip_prefix("immediate ").and_then(unquote) {
                Some(text) => self.run(text),
                None => Err(syntax_error(sql)),
            },
            _ => Err(syntax_error(sql)),
        }
    }

    fn run_do(&mut self, rest: &str) -> Result<Reply, Refusal> {
        if rest.contains(" from ") {
            self.conn.conditions.clear();
            if !rest.starts_with("1 or ") {
                self.conn.found_rows = 1;
            }
        }
        Ok(OK)
    }

    fn show(&mut self, rest: &str) -> Reply {
        match rest {
            "tables" => return self.list("Tables", true),
            "privileges" => return self.list("Privilege", false),
            _ => {}
        }
        let columns = ["Level", "Code", "Message"];
        let limit = rest
            .strip_prefix("warnings limit ")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(usize::MAX);
        let only_errors = rest == "errors";
        let conditions = self.conn.conditions.iter();
        let rows = conditions
            .filter(|(level, ..)| !only_errors || *level == "Error")
            .take(limit)
            .map(|(level, errno, text)| {
                vec![
                    Some((*level).to_owned()),
                    Some(errno.to_string()),
                    Some(text.clone()),
                ]
            })
            .collect();
        Reply::Rows {
            columns: columns.map(|name| (name.to_owned(), false)).to_vec(),
            rows,
            uses_table: false,
        }
    }

    /// A SHOW of two rows; some of them are SELECTs on tables in disguise.
    fn list(&mut self, column: &str, is_select: bool) -> Reply {
        if is_select {
            self.touch_table(false);
            self.conn.found_rows = 2;
        }
        let rows = ["a", "b"].map(|name| vec![Some(name.to_owned())]);
        Reply::Rows {
            columns: vec![(column.to_owned(), false)],
            rows: rows.to_vec(),
            uses_table: false,
        }
    }

    /// What every statement on a table does.
    fn touch_table(&mut self, is_stored: bool) {
        if self.conn.warnings == 0 {
            self.conn.conditions.clear();
            self.conn.has_fresh_conditions = true;
            self.conn.sets_conditions = true;
        }
        if is_stored && !self.conn.state.variables.is_on("autocommit") {
            self.conn.state.in_transaction = true;
        }
    }

    fn source(&mut self, name: &str) -> Result<Vec<Source>, Refusal> {
        let rows: Vec<String> = if let Some(count) = name.strip_prefix("seq_") {
            self.touch_table(false);
            vec![String::new(); count.parse().unwrap_or(0)]
        } else if name.starts_with("tmp") {
            self.touch_table(false);
            match self.conn.state.temporary.get(name) {
                Some(table) => table.rows.clone(),
                None => return Err(no_table(&self.conn.state, self.data, name)),
            }
        } else {
            self.touch_table(true);
            let table = self.data.tables.get(name);
            table.map(|table| table.rows.clone()).unwrap_or_default()
        };
        let rows = rows.into_iter().enumerate();
        Ok(rows.map(|(index, value)| Source { index, value }).collect())
    }

    fn select(&mut self, rest: &str) -> Result<Reply, Refusal> {
        let (rest, is_counting) = match rest.strip_prefix("sql_calc_found_rows ") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (rest, limit) = match rest.rsplit_once(" limit ") {
            Some((before, count)) => (before, count.parse().unwrap_or(usize::MAX)),
            None => (rest, usize::MAX),
        };
        let (list, table) = match rest.rsplit_once(" from ") {
            Some((list, table)) => (list, Some(table)),
            None => (rest, None),
        };
        let before = (self.conn.row_count, self.conn.found_rows);
        let mut sources = match table {
            Some(table) => self.source(table)?,
            None => vec![Source {
                index: 0,
                value: String::new(),
            }],
        };
        let total = sources.len();
        sources.truncate(limit);
        let expressions: Vec<(&str, String)> = split(list, b',')
            .into_iter()
            .map(str::trim)
            .map(|item| match item.rsplit_once(" AS `") {
                Some((expression, name)) => (expression, name.trim_end_matches('`').to_owned()),
                None => (item, item.to_owned()),
            })
            .collect();
        let mut columns: Vec<Column> = Vec::new();
        for (expression, name) in &expressions {
            columns.push((name.clone(), is_number(expression)));
        }
        let mut rows = Vec::new();
        for source in &sources {
            self.next_param = 0;
            let mut row = Vec::new();
            for (expression, _) in &expressions {
                row.push(self.eval(expression, source, before)?);
            }
            rows.push(row);
        }
        let found = if is_counting { total } else { rows.len() };
        self.conn.found_rows = u64::try_from(found).unwrap_or(u64::MAX);
        Ok(Reply::Rows {
            columns,
            rows,
            uses_table: table.is_some(),
        })
    }

    fn eval(
        &mut self,
        expression: &str,
        source: &Source,
        before: (i64, u64),
    ) -> Result<Option<String>, Refusal> {
        let folded = fold(expression);
        let text = folded.as_str();
        if let Some(quoted) = text.strip_suffix("+0").and_then(unquote) {
            let message = format!("Truncated incorrect DOUBLE value: '{quoted}'");
            self.conn.add_condition("Warning", 1292, message);
            return Ok(Some("0".to_owned()));
        }
        if let Some(quoted) = unquote(text) {
            return Ok(Some(quoted.to_owned()));
        }
        if let Some(inner) = call(text, "repeat") {
            let parts = split(inner, b',');
            let what = parts.first().and_then(|part| unquote(part));
            let count = parts.get(1).and_then(|count| count.trim().parse().ok());
            return Ok(what.map(|what| what.repeat(count.unwrap_or(1))));
        }
        if let Some(id) = call(text, "last_insert_id") {
            if let Ok(id) = id.parse() {
                self.conn.insert_id = id;
                self.conn.sets_insert_id = true;
            }
            return Ok(Some(self.conn.insert_id.to_string()));
        }
        if let Some(name) = call(text, "get_lock") {
            self.conn.state.locks.insert(name.to_owned());
            return Ok(Some("1".to_owned()));
        }
        if let Some(name) = call(text, "release_lock") {
            let held = self.conn.state.locks.remove(name);
            return Ok(Some(u8::from(held).to_string()));
        }
        if let Some(number) = call(text, "cast").and_then(|cast| cast.strip_suffix(" as signed")) {
            return Ok(Some(number.to_owned()));
        }
        let value = match text {
            "?" => return Ok(self.param_with_type()),
            "i" => source.index.to_string(),
            "v" => source.value.clone(),
            "database()" => return Ok(self.conn.state.schema.clone()),
            "state()" => self.conn.state.digest(self.data),
            "settings()" => {
                let bound = self.conn.executes_under.clone();
                bound.unwrap_or_else(|| self.conn.state.variables.settings())
            }
            "@@identity" => self.conn.insert_id.to_string(),
            "row_count()" => before.0.to_string(),
            "found_rows()" => before.1.to_string(),
            "@@warning_count" => self.conn.conditions.len().to_string(),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => number.to_owned(),
            variable => {
                if let Some(name) = variable.strip_prefix("@@")
                    && let Some(value) = self.conn.state.variables.get(name)
                {
                    return Ok(Some(value.to_owned()));
                }
                if let Some(name) = variable.strip_prefix('@') {
                    return Ok(self.conn.state.user_variables.get(name).cloned());
                }
                let text = format!("Unknown column '{variable}' in 'field list'");
                return Err(Refusal(1054, "42S22", text));
            }
        };
        Ok(Some(value))
    }

    fn param(&mut self) -> Option<(u8, Option<String>)> {
        let param = self.params.get(self.next_param).cloned();
        self.next_param += 1;
        param
    }

    /// A parameter with the type it was bound as.
    fn param_with_type(&mut self) -> Option<String> {
        let (kind, value) = self.param()?;
        value.map(|value| format!("{value}:{kind:02x}"))
    }

    fn insert(&mut self, rest: &str) -> Result<Reply, Refusal> {
        let Some((table, values)) = rest
            .strip_prefix("into ")
            .and_then(|rest| rest.split_once(" values "))
        else {
            return Err(syntax_error(rest));
        };
        let is_temporary = table.starts_with("tmp");
        if is_temporary && !self.conn.state.temporary.contains_key(table) {
            return Err(no_table(&self.conn.state, self.data, table));
        }
        self.touch_table(!is_temporary);
        let mut rows = Vec::new();
        for item in split(values, b',') {
            let item = item.trim().trim_start_matches('(').trim_end_matches(')');
            let value = match item {
                "?" => self
                    .param()
                    .and_then(|(_, value)| value)
                    .unwrap_or_default(),
                _ => unquote(item).unwrap_or_default().to_owned(),
            };
            *self.data.ran.entry(value.clone()).or_default() += 1;
            rows.push(value);
        }
        if let Some(value) = rows.iter().find(|value| value.ends_with("dup")) {
            if !rows[0].ends_with("dup") {
                // The first row's, though the row is gone.
                let id = self.data.tables.get(table).map_or(0, |table| table.last_id) + 1;
                self.conn.insert_id = id + id_base(table);
                self.conn.sets_insert_id = true;
            }
            let text = format!("Duplicate entry '{value}' for key 'v'");
            return Err(Refusal(1062, "23000", text));
        }
        for value in rows.iter().filter(|value| value.ends_with("warn")) {
            let text = format!("Data truncated for column 'v': {value}");
            self.conn.add_condition("Warning", 1265, text);
        }
        let count = rows.len();
        // As if the text gave the rows their ids: the OK has one all the same.
        let is_given = rows.iter().any(|value| value.ends_with("own"));
        if !is_temporary && self.conn.state.in_transaction {
            let len = self
                .data
                .tables
                .get(table)
                .map_or(0, |table| table.rows.len());
            self.conn.undo.push((table.to_owned(), len));
        }
        let store: &mut Table = if is_temporary {
            self.conn
                .state
                .temporary
                .entry(table.to_owned())
                .or_default()
        } else {
            self.data.tables.entry(table.to_owned()).or_default()
        };
        let first = store.last_id + 1;
        store.last_id += u64::try_from(count).unwrap_or(0);
        store.rows.extend(rows);
        let insert_id = if is_temporary {
            first
        } else {
            first + id_base(table)
        };
        if !is_given {
            self.conn.insert_id = insert_id;
            self.conn.sets_insert_id = true;
        }
        Ok(Reply::Ok {
            affected: u64::try_from(count).unwrap_or(0),
            insert_id,
            info: match count {
                1 => String::new(),
                _ => format!("Records: {count}  Duplicates: 0  Warnings: 0"),
            },
        })
    }

    fn temporary(&mut self, word: &str, rest: &str) -> Result<Reply, Refusal> {
        let Some(name) = rest.strip_prefix("temporary table ") else {
            return Err(syntax_error(rest));
        };
        self.touch_table(false);
        let name = name.split(' ').next().unwrap_or_default().to_owned();
        let tables = &mut self.conn.state.temporary;
        if word == "create" {
            tables.entry(name).or_default();
        } else if tables.remove(&name).is_none() {
            return Err(no_table(&self.conn.state, self.data, &name));
        }
        self.conn.report_state_change();
        Ok(OK)
    }

    fn set(&mut self, rest: &str) -> Result<Reply, Refusal> {
        if let Some(charset) = rest.strip_prefix("names ") {
            return Ok(self.set_names(charset));
        }
        // All names and values are checked before the first is set.
        let before = self.conn.state.variables.clone();
        for item in split(rest, b',') {
            let Some((name, value)) = item.trim().split_once('=') else {
                return Err(syntax_error(item));
            };
            let name = fold(name);
            let text = unquote(value).unwrap_or(value);
            if let Some(name) = name.strip_prefix('@') {
                let user = &mut self.conn.state.user_variables;
                user.insert(name.to_owned(), text.to_owned());
            } else if name == "last_insert_id" {
                self.conn.insert_id = match if_zero(text) {
                    Some(_) if self.conn.insert_id != 0 => self.conn.insert_id,
                    Some(value) => value,
                    None => text.parse().unwrap_or(0),
                };
                self.conn.sets_insert_id = true;
                let value = self.conn.insert_id.to_string();
                self.conn.report("last_insert_id", &value);
            } else {
                if let Err(refusal) = self.set_variable(&name, value) {
                    self.conn.state.variables = before;
                    return Err(refusal);
                }
            }
        }
        if !before.is_on("autocommit") && self.conn.state.variables.is_on("autocommit") {
            self.conn.commit();
        }
        self.conn.report_state_change();
        Ok(OK)
    }

    fn set_variable(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let given = match (unquote(value), value) {
            (Some(text), _) => Some(text),
            (None, value) if value.eq_ignore_ascii_case("default") => None,
            (None, value) if value.eq_ignore_ascii_case("null") => Some(""),
            (None, value) => match value.strip_prefix("@@") {
                Some(other) => self.conn.state.variables.get(other),
                None => Some(value),
            },
        };
        let given = given.map(str::to_owned);
        let given = given.as_deref();
        let Some(value) = self.conn.state.variables.set(name, given) else {
            let text = format!("Unknown system variable '{name}'");
            return Err(Refusal(1193, "HY000", text));
        };
        self.conn.report(name, &value);
        Ok(())
    }

    fn set_names(&mut self, rest: &str) -> Reply {
        let (charset, collation) = match rest.split_once(" collate ") {
            Some((charset, collation)) => (charset, collation),
            None => (rest, default_collation(rest)),
        };
        let variables = &mut self.conn.state.variables;
        for name in ["client", "results", "connection"] {
            variables.set(&format!("character_set_{name}"), Some(charset));
        }
        variables.set("collation_connection", Some(collation));
        // The collation is not reported.
        for name in ["connection", "client", "results"] {
            self.conn.report(&format!("character_set_{name}"), charset);
        }
        self.conn.report_state_change();
        OK
    }
}

/// Insert ids tell whose they are: table tN counts from N thousand.
fn id_base(table: &str) -> u64 {
    let number = table.strip_prefix('t').and_then(|n| n.parse().ok());
    1000 * number.unwrap_or(0)
}

/// The value of what sets `last_insert_id` where it is 0.
fn if_zero(text: &str) -> Option<u64> {
    let folded = fold(text);
    let value = folded.strip_prefix("last_insert_id()|")?;
    value.strip_suffix("*(last_insert_id()=0)")?.parse().ok()
}

fn is_number(expression: &str) -> bool {
    let folded = fold(expression);
    let starts = ["last_insert_id(", "cast(", "row_count(", "found_rows("];
    starts.iter().any(|start| folded.starts_with(start))
}
