//! `SET`: system variables, user variables, character sets, transaction characteristics.

use super::catalog::locked;
use super::error::SqlError;
use super::session::Session;
use super::token::{Lexeme, Token};
use super::translate::{position, split_commas};
use rusqlite::types::Value;

impl Session {
    /// Runs a `SET` statement, assignment by assignment.
    ///
    /// Errors: 1064, 1227 for a global variable, 1231 for an impossible value; earlier assignments stay.
    pub(super) fn set(
        &mut self,
        lexemes: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<(), SqlError> {
        let mut rest = lexemes.get(1..).unwrap_or_default();
        let scoped = rest
            .first()
            .is_some_and(|l| l.is_any(&["SESSION", "LOCAL"]));
        if scoped && rest.get(1).is_some_and(|l| l.is_word("TRANSACTION")) {
            rest = rest.get(1..).unwrap_or_default();
        }
        if rest.first().is_some_and(|l| l.is_word("TRANSACTION")) {
            return self.set_transaction(rest.get(1..).unwrap_or_default());
        }
        for assignment in split_commas(rest) {
            self.assign(assignment, text, values)?;
        }
        Ok(())
    }

    fn assign(
        &mut self,
        assignment: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<(), SqlError> {
        let Some(first) = assignment.first() else {
            return Err(SqlError::syntax("SET"));
        };
        let word_at = |at: usize| assignment.get(at).and_then(Lexeme::name_or_text);
        if first.is_word("NAMES") {
            let charset = word_at(1).ok_or_else(|| SqlError::syntax("NAMES"))?;
            let collation = if assignment.get(2).is_some_and(|l| l.is_word("COLLATE")) {
                word_at(3)
            } else {
                None
            };
            return self.set_names(&charset, collation);
        }
        if first.is_any(&["CHARSET", "CHARACTER"]) {
            let at = if first.is_word("CHARACTER") { 2 } else { 1 };
            let charset = word_at(at).ok_or_else(|| SqlError::syntax("CHARACTER SET"))?;
            return self.set_names(&charset, None);
        }
        if first.is_word("PASSWORD") || first.is_word("ROLE") || first.is_word("DEFAULT") {
            return Err(SqlError::unsupported("SET of accounts"));
        }
        let equals = position(assignment, |l| l.is_symbol("=") || l.is_symbol(":="))
            .ok_or_else(|| SqlError::syntax("SET"))?;
        let (target, expression) = assignment.split_at(equals);
        let expression = expression.get(1..).unwrap_or_default();
        let written = text
            .get(first.span.clone())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let last = target.last().unwrap_or(first);
        if first.is_any(&["GLOBAL", "PERSIST", "PERSIST_ONLY"]) || written.starts_with(b"@@global.")
        {
            let message = "Access denied; you need (at least one of) the SUPER privilege(s) for this operation";
            return Err(SqlError::new(1227, "42000", message));
        }
        if let Token::User(name) = &first.token {
            let value = self.evaluate(expression, text, values)?;
            locked(&self.environment.state)
                .user_variables
                .insert(name.clone(), value);
            self.state_changed = true;
            return Ok(());
        }
        let name = match &last.token {
            Token::System(name) => name.clone(),
            _ => last
                .name()
                .ok_or_else(|| SqlError::syntax("SET"))?
                .to_ascii_lowercase(),
        };
        self.set_variable(&name, expression, text, values)
    }

    fn set_variable(
        &mut self,
        name: &str,
        expression: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<(), SqlError> {
        let value = match expression {
            [only] if only.is_word("DEFAULT") => None,
            // A bare word is a value here: SET sql_mode = ANSI.
            [only] if only.name().is_some() && !only.is_word("NULL") => {
                only.name().map(str::to_owned)
            }
            other => match self.evaluate(other, text, values)? {
                Value::Null => Some(String::new()),
                Value::Integer(number) => Some(number.to_string()),
                Value::Real(number) => Some(number.to_string()),
                Value::Text(text) => Some(text),
                Value::Blob(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            },
        };
        if let Some(charset) = value
            .as_deref()
            .filter(|_| name.starts_with("character_set_"))
        {
            check_charset(charset)?;
        }
        let was_autocommit = locked(&self.environment.state)
            .variables
            .is_on("autocommit");
        let name = locked(&self.environment.state)
            .variables
            .set(name, value.as_deref());
        self.changed_variables.insert(name.clone());
        self.state_changed = true;
        let now_autocommit = locked(&self.environment.state)
            .variables
            .is_on("autocommit");
        match name.as_str() {
            "last_insert_id" | "identity" => {
                let id = value.and_then(|value| value.parse().ok());
                locked(&self.environment.state).last_insert_id = id.unwrap_or_default();
                Ok(())
            }
            "autocommit" if now_autocommit && !was_autocommit => self.commit(),
            "foreign_key_checks" => {
                let on = locked(&self.environment.state)
                    .variables
                    .is_on("foreign_key_checks");
                let sql = format!("PRAGMA foreign_keys = {}", if on { "ON" } else { "OFF" });
                self.store.script(&[sql])
            }
            "innodb_lock_wait_timeout" => {
                let seconds: u32 = value.and_then(|text| text.parse().ok()).unwrap_or(50);
                let milliseconds = u64::from(seconds).saturating_mul(1000).min(1 << 31);
                let pragma = format!("PRAGMA busy_timeout = {milliseconds}");
                self.rows(&pragma, &[]).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn evaluate(
        &mut self,
        expression: &[Lexeme],
        text: &[u8],
        values: &[Value],
    ) -> Result<Value, SqlError> {
        let mut select = vec![Lexeme {
            token: Token::Word("SELECT".into()),
            span: 0..0,
        }];
        select.extend_from_slice(expression);
        let rows = self.query(&select, text, values)?.rows;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .unwrap_or(Value::Null))
    }

    fn set_names(&mut self, charset: &str, collation: Option<String>) -> Result<(), SqlError> {
        let charset = charset.to_ascii_lowercase();
        let charset = if charset == "default" {
            "utf8mb4".to_owned()
        } else {
            charset
        };
        check_charset(&charset)?;
        let collation = collation.unwrap_or_else(|| default_collation(&charset));
        let mut state = locked(&self.environment.state);
        for name in [
            "character_set_client",
            "character_set_connection",
            "character_set_results",
        ] {
            self.changed_variables
                .insert(state.variables.set(name, Some(&charset)));
        }
        self.changed_variables.insert(
            state
                .variables
                .set("collation_connection", Some(&collation)),
        );
        self.state_changed = true;
        Ok(())
    }

    /// Takes the collation that a login chose by number.
    pub fn set_collation(&mut self, id: u16) {
        let Some(collation) = crate::wire::mysql::charset::collation(id) else {
            return;
        };
        // A login's choice is where the session starts: nothing to report.
        if self
            .set_names(collation.charset, Some(collation.name.to_owned()))
            .is_ok()
        {
            self.changed_variables.clear();
            self.state_changed = false;
        }
    }

    /// `ISOLATION LEVEL x` and `READ ONLY|WRITE`, for the session from here on.
    fn set_transaction(&mut self, rest: &[Lexeme]) -> Result<(), SqlError> {
        for part in split_commas(rest) {
            let words: Vec<String> = part
                .iter()
                .filter_map(Lexeme::name)
                .map(str::to_ascii_uppercase)
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (name, value) = match words.as_slice() {
                ["ISOLATION", "LEVEL", level @ ..] => ("transaction_isolation", level.join("-")),
                ["READ", "ONLY"] => ("transaction_read_only", "1".to_owned()),
                ["READ", "WRITE"] => ("transaction_read_only", "0".to_owned()),
                _ => return Err(SqlError::syntax("TRANSACTION")),
            };
            let name = locked(&self.environment.state)
                .variables
                .set(name, Some(&value));
            self.changed_variables.insert(name);
            self.state_changed = true;
        }
        Ok(())
    }
}

fn default_collation(charset: &str) -> String {
    match charset {
        "latin1" => "latin1_swedish_ci".to_owned(),
        "binary" => "binary".to_owned(),
        other => format!("{other}_general_ci"),
    }
}

fn check_charset(charset: &str) -> Result<(), SqlError> {
    const KNOWN: [&str; 8] = [
        "utf8mb4", "utf8mb3", "utf8", "latin1", "ascii", "binary", "cp1252", "",
    ];
    if KNOWN.contains(&charset.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(SqlError::new(
        1115,
        "42000",
        format!("Unknown character set: '{charset}'"),
    ))
}
