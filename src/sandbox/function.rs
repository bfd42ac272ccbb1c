//! MySQL's functions that SQLite lacks or computes differently, registered on every connection.

use super::catalog::{Catalog, SessionHandle, locked};
use super::date::Moment;
use super::variables::Variables;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What functions see and change of their session.
#[derive(Debug)]
pub struct State {
    /// System variables.
    pub variables: Variables,
    /// `@name` variables.
    pub user_variables: BTreeMap<String, Value>,
    /// Whether a statement set a user variable.
    pub user_variables_changed: bool,
    /// The current database.
    pub schema: Option<String>,
    /// `LAST_INSERT_ID()`.
    pub last_insert_id: i64,
    /// `ROW_COUNT()`.
    pub row_count: i64,
    /// `FOUND_ROWS()`.
    pub found_rows: i64,
}

impl State {
    /// The state of a session that has just logged in.
    pub fn new(schema: Option<String>) -> Self {
        Self {
            variables: Variables::default(),
            user_variables: BTreeMap::new(),
            user_variables_changed: false,
            schema,
            last_insert_id: 0,
            row_count: -1,
            found_rows: 0,
        }
    }
}

/// What the functions of one connection refer to.
#[derive(Clone)]
pub struct Environment {
    /// The session's state.
    pub state: Arc<Mutex<State>>,
    /// The shard.
    pub catalog: Arc<Catalog>,
    /// The session, as others see it.
    pub handle: Arc<SessionHandle>,
}

const PURE: FunctionFlags = FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC);

/// Registers all functions.
///
/// Errors: SQLite refuses one (only when out of memory).
pub fn register(connection: &Connection, environment: &Environment) -> Result<()> {
    register_session(connection, environment)?;
    register_locks(connection, environment)?;
    register_text(connection)?;
    register_numbers(connection)?;
    register_dates(connection)
}

fn register_session(connection: &Connection, environment: &Environment) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    let e = environment.clone();
    connection.create_scalar_function("system_variable", 1, flags, move |c| {
        let name: String = c.get(0)?;
        let state = locked(&e.state);
        match name.as_str() {
            "version" => Ok(Value::Text(e.catalog.server_version.clone())),
            "pseudo_thread_id" => Ok(Value::Integer(e.handle.id.into())),
            "last_insert_id" | "identity" => Ok(Value::Integer(state.last_insert_id)),
            _ => state
                .variables
                .value(&name)
                .ok_or_else(|| failure(format!("Unknown system variable '{name}'"))),
        }
    })?;
    let e = environment.clone();
    connection.create_scalar_function("user_variable", 1, flags, move |c| {
        let name: String = c.get(0)?;
        Ok(locked(&e.state)
            .user_variables
            .get(&name)
            .cloned()
            .unwrap_or(Value::Null))
    })?;
    let e = environment.clone();
    connection.create_scalar_function("set_user_variable", 2, flags, move |c| {
        let (name, value): (String, Value) = (c.get(0)?, c.get(1)?);
        let mut state = locked(&e.state);
        state.user_variables.insert(name, value.clone());
        state.user_variables_changed = true;
        Ok(value)
    })?;
    let e = environment.clone();
    connection.create_scalar_function("last_insert_id", -1, flags, move |c| {
        let mut state = locked(&e.state);
        if !c.is_empty() {
            state.last_insert_id = c.get(0)?;
        }
        Ok(state.last_insert_id)
    })?;
    let number = |name: &str, read: fn(&State) -> i64| {
        let e = environment.clone();
        connection.create_scalar_function(name, 0, flags, move |_| Ok(read(&locked(&e.state))))
    };
    number("row_count", |state| state.row_count)?;
    number("found_rows", |state| state.found_rows)?;
    let text = |name: &str, read: fn(&Environment) -> Option<String>| {
        let e = environment.clone();
        connection.create_scalar_function(name, 0, flags, move |_| Ok(read(&e)))
    };
    text("database", |e| locked(&e.state).schema.clone())?;
    text("version", |e| Some(e.catalog.server_version.clone()))?;
    for name in ["user", "session_user", "system_user"] {
        text(name, |e| {
            Some(format!("{}@{}", e.handle.user, e.handle.host))
        })?;
    }
    text("current_user", |e| Some(format!("{}@%", e.handle.user)))?;
    let id = i64::from(environment.handle.id);
    connection.create_scalar_function("connection_id", 0, flags, move |_| Ok(id))
}

fn register_locks(connection: &Connection, environment: &Environment) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    let e = environment.clone();
    connection.create_scalar_function("sleep", 1, flags, move |c| {
        let interrupted = e.handle.sleep(seconds(number_at(c, 0)));
        if interrupted {
            Err(failure("interrupted".to_owned()))
        } else {
            Ok(0)
        }
    })?;
    let e = environment.clone();
    connection.create_scalar_function("get_lock", 2, flags, move |c| {
        let name: String = c.get(0)?;
        let wait = number_at(c, 1);
        let wait = if wait < 0.0 {
            Duration::from_secs(86_400)
        } else {
            seconds(wait)
        };
        Ok(i64::from(e.catalog.get_lock(&name, e.handle.id, wait)))
    })?;
    let e = environment.clone();
    connection.create_scalar_function("release_lock", 1, flags, move |c| {
        let name: String = c.get(0)?;
        Ok(e.catalog.release_lock(&name, e.handle.id).map(i64::from))
    })?;
    let e = environment.clone();
    connection.create_scalar_function("release_all_locks", 0, flags, move |_| {
        Ok(i64::try_from(e.catalog.release_all(e.handle.id)).unwrap_or(i64::MAX))
    })?;
    let e = environment.clone();
    connection.create_scalar_function("is_free_lock", 1, flags, move |c| {
        let name: String = c.get(0)?;
        Ok(i64::from(e.catalog.lock_owner(&name).is_none()))
    })?;
    let e = environment.clone();
    connection.create_scalar_function("is_used_lock", 1, flags, move |c| {
        let name: String = c.get(0)?;
        Ok(e.catalog.lock_owner(&name).map(i64::from))
    })
}

/// Registers a function of texts that is NULL when an argument is.
fn text_function(
    connection: &Connection,
    name: &str,
    count: i32,
    compute: fn(&[String]) -> Value,
) -> Result<()> {
    connection.create_scalar_function(name, count, PURE, move |c| {
        let arguments: Option<Vec<String>> = (0..c.len()).map(|at| text_at(c, at)).collect();
        Ok(arguments.map_or(Value::Null, |arguments| compute(&arguments)))
    })
}

fn register_text(connection: &Connection) -> Result<()> {
    text_function(connection, "concat", -1, |a| Value::Text(a.concat()))?;
    text_function(connection, "mysql_left", 2, |a| {
        Value::Text(at(a, 0).chars().take(count(a, 1)).collect())
    })?;
    text_function(connection, "mysql_right", 2, |a| {
        let length = at(a, 0).chars().count();
        Value::Text(
            at(a, 0)
                .chars()
                .skip(length.saturating_sub(count(a, 1)))
                .collect(),
        )
    })?;
    for name in ["char_length", "character_length"] {
        text_function(connection, name, 1, |a| whole(at(a, 0).chars().count()))?;
    }
    for name in ["length", "octet_length"] {
        connection.create_scalar_function(name, 1, PURE, |c| {
            Ok(match c.get_raw(0) {
                ValueRef::Null => Value::Null,
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => whole(bytes.len()),
                _ => whole(text_at(c, 0).unwrap_or_default().len()),
            })
        })?;
    }
    text_function(connection, "ucase", 1, |a| {
        Value::Text(at(a, 0).to_uppercase())
    })?;
    text_function(connection, "lcase", 1, |a| {
        Value::Text(at(a, 0).to_lowercase())
    })?;
    text_function(connection, "reverse", 1, |a| {
        Value::Text(at(a, 0).chars().rev().collect())
    })?;
    text_function(connection, "repeat", 2, |a| {
        // MySQL answers NULL to a result larger than max_allowed_packet.
        match at(a, 0).len().checked_mul(count(a, 1)) {
            Some(length) if length <= REPEAT_MAX => Value::Text(at(a, 0).repeat(count(a, 1))),
            _ => Value::Null,
        }
    })?;
    text_function(connection, "space", 1, |a| {
        Value::Text(" ".repeat(count(a, 0).min(REPEAT_MAX)))
    })?;
    text_function(connection, "locate", 2, |a| locate(at(a, 0), at(a, 1)))?;
    text_function(connection, "lpad", 3, |a| {
        Value::Text(padding(a) + &kept(a))
    })?;
    text_function(connection, "rpad", 3, |a| {
        Value::Text(kept(a) + &padding(a))
    })?;
    text_function(connection, "like", 2, |a| {
        Value::Integer(like(at(a, 0), at(a, 1), '\\').into())
    })?;
    text_function(connection, "like", 3, |a| {
        let escape = at(a, 2).chars().next().unwrap_or('\\');
        Value::Integer(like(at(a, 0), at(a, 1), escape).into())
    })?;
    text_function(connection, "sha1", 1, |a| {
        Value::Text(digest(&SHA1, at(a, 0)))
    })?;
    text_function(connection, "sha2", 2, |a| match at(a, 1) {
        "0" | "256" => Value::Text(digest(&SHA256, at(a, 0))),
        "512" => Value::Text(digest(&SHA512, at(a, 0))),
        _ => Value::Null,
    })?;
    connection.create_scalar_function("uuid", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(uuid()))
}

fn register_numbers(connection: &Connection) -> Result<()> {
    let number = |name: &str, compute: fn(f64) -> f64| {
        connection.create_scalar_function(name, 1, PURE, move |c| {
            if c.get_raw(0) == ValueRef::Null {
                return Ok(Value::Null);
            }
            let result = compute(number_at(c, 0));
            Ok(if result.is_nan() {
                Value::Null
            } else {
                Value::Real(result)
            })
        })
    };
    number("sqrt", f64::sqrt)?;
    number("ln", f64::ln)?;
    number("exp", f64::exp)?;
    for (name, compute) in [
        ("floor", f64::floor as fn(f64) -> f64),
        ("ceil", f64::ceil),
        ("ceiling", f64::ceil),
    ] {
        connection.create_scalar_function(name, 1, PURE, move |c| {
            Ok(match c.get_raw(0) {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Integer(number),
                _ => integer(compute(number_at(c, 0))),
            })
        })?;
    }
    for name in ["pow", "power"] {
        connection
            .create_scalar_function(name, 2, PURE, |c| Ok(number_at(c, 0).powf(number_at(c, 1))))?;
    }
    connection.create_scalar_function("mod", 2, PURE, |c| {
        Ok(match (c.get_raw(0), c.get_raw(1)) {
            (ValueRef::Null, _) | (_, ValueRef::Null) => Value::Null,
            (ValueRef::Integer(a), ValueRef::Integer(b)) => {
                a.checked_rem(b).map_or(Value::Null, Value::Integer)
            }
            _ => Value::Real(number_at(c, 0) % number_at(c, 1)),
        })
    })?;
    let flags = FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function("rand", -1, flags, |_| Ok(random_fraction()))
}

fn register_dates(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    for name in ["now", "sysdate"] {
        connection.create_scalar_function(name, -1, flags, |c| {
            let digits = if !c.is_empty() { c.get::<u8>(0)? } else { 0 };
            Ok(Moment::now().text(digits.into()))
        })?;
    }
    connection.create_scalar_function("curdate", 0, flags, |_| {
        Ok(part(&Moment::now().text(0), 0, 10))
    })?;
    connection.create_scalar_function("curtime", -1, flags, |_| {
        Ok(part(&Moment::now().text(0), 11, 19))
    })?;
    connection.create_scalar_function("unix_timestamp", -1, flags, |c| {
        let moment = if !c.is_empty() {
            moment_at(c, 0)
        } else {
            Some(Moment::now())
        };
        Ok(moment.map(|moment| moment.to_micros().div_euclid(1_000_000)))
    })?;
    connection.create_scalar_function("from_unixtime", 1, PURE, |c| {
        let seconds: i64 = c.get(0)?;
        Ok(Moment::from_micros(seconds.saturating_mul(1_000_000)).text(0))
    })?;
    for (name, sign) in [
        ("date_add", 1),
        ("adddate", 1),
        ("date_sub", -1),
        ("subdate", -1),
    ] {
        connection.create_scalar_function(name, 3, PURE, move |c| {
            let amount: i64 = c.get(1)?;
            let unit: String = c.get(2)?;
            let moved =
                moment_at(c, 0).and_then(|moment| moment.add(amount.checked_mul(sign)?, &unit));
            let date_only = text_at(c, 0).is_some_and(|text| text.len() == 10);
            let whole_days = matches!(unit.as_str(), "DAY" | "WEEK" | "MONTH" | "QUARTER" | "YEAR");
            Ok(moved.map(|moment| match date_only && whole_days {
                true => part(&moment.text(0), 0, 10),
                false => moment.text(0),
            }))
        })?;
    }
    connection.create_scalar_function("datediff", 2, PURE, |c| {
        Ok(moment_at(c, 0)
            .zip(moment_at(c, 1))
            .map(|(a, b)| a.days - b.days))
    })?;
    connection.create_scalar_function("date_format", 2, PURE, |c| {
        let pattern: String = c.get(1)?;
        Ok(moment_at(c, 0).map(|moment| moment.format(&pattern)))
    })?;
    let field = |name: &str, read: fn(Moment) -> i64| {
        connection.create_scalar_function(name, 1, PURE, move |c| Ok(moment_at(c, 0).map(read)))
    };
    field("year", |m| m.civil().0)?;
    field("month", |m| m.civil().1)?;
    field("day", |m| m.civil().2)?;
    field("dayofmonth", |m| m.civil().2)?;
    field("dayofweek", |m| (m.days + 4).rem_euclid(7) + 1)?;
    field("weekday", |m| (m.days + 3).rem_euclid(7))?;
    field("hour", |m| m.clock().0)?;
    field("minute", |m| m.clock().1)?;
    field("second", |m| m.clock().2)?;
    field("microsecond", |m| m.micros % 1_000_000)
}

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, SHA256, SHA512};

fn digest(algorithm: &'static aws_lc_rs::digest::Algorithm, text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(algorithm, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `max_allowed_packet`'s default.
const REPEAT_MAX: usize = 64 << 20;

fn failure(message: String) -> Error {
    Error::UserFunctionError(message.into())
}

fn text_at(context: &Context<'_>, index: usize) -> Option<String> {
    match context.get_raw(index) {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

fn number_at(context: &Context<'_>, index: usize) -> f64 {
    text_at(context, index)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0)
}

fn moment_at(context: &Context<'_>, index: usize) -> Option<Moment> {
    Moment::parse(&text_at(context, index)?)
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number.clamp(0.0, 86_400.0)).unwrap_or_default()
}

fn at(arguments: &[String], index: usize) -> &str {
    arguments.get(index).map_or("", String::as_str)
}

fn count(arguments: &[String], index: usize) -> usize {
    at(arguments, index)
        .trim()
        .parse::<f64>()
        .map_or(0, |number| match integer(number) {
            Value::Integer(whole) => usize::try_from(whole).unwrap_or(0),
            _ => 0,
        })
}

fn whole(count: usize) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// A whole number, or the number itself when it is too large for 64 bits.
fn integer(number: f64) -> Value {
    format!("{number:.0}")
        .parse()
        .map_or(Value::Real(number), Value::Integer)
}

fn locate(needle: &str, text: &str) -> Value {
    let found = text.to_lowercase().find(&needle.to_lowercase());
    whole(found.map_or(0, |at| {
        text.get(..at).unwrap_or_default().chars().count() + 1
    }))
}

fn kept(arguments: &[String]) -> String {
    at(arguments, 0).chars().take(count(arguments, 1)).collect()
}

fn padding(arguments: &[String]) -> String {
    let missing = count(arguments, 1)
        .min(REPEAT_MAX)
        .saturating_sub(at(arguments, 0).chars().count());
    at(arguments, 2).chars().cycle().take(missing).collect()
}

fn part(text: &str, from: usize, to: usize) -> String {
    text.get(from..to).unwrap_or_default().to_owned()
}

/// `LIKE` without regard to case: `%` any run, `_` one character, `escape` takes the next as it is.
pub fn like(pattern: &str, text: &str, escape: char) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let matched = match pattern.get(p) {
            Some('%') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(c) if *c == escape && pattern.get(p + 1).is_some() => {
                (pattern.get(p + 1) == text.get(t)).then_some(2)
            }
            Some('_') => text.get(t).map(|_| 1),
            Some(c) => (text.get(t) == Some(c)).then_some(1),
            None if t == text.len() => return true,
            None => None,
        };
        match (matched, retry) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // No randomness gives zeros: these values promise no secrecy.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

fn random_fraction() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / (f64::from(u32::MAX) + 1.0)
}

fn uuid() -> String {
    let hex: String = random_bytes::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
        .map(|(from, to)| part(&hex, from, to))
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_matches_as_mysql_does() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(like(pattern, text, '\\'), expect, "{text} LIKE {pattern}");
        };
        check("a%", "Abc", true);
        check("%b%c", "abbc", true);
        check("a_c", "abc", true);
        check("a_c", "ac", false);
        check("%", "", true);
        check("", "a", false);
        check(r"50\%", "50%", true);
        check(r"50\%", "500", false);
        check("ä%", "Äpfel", true);
        check("%a", "bb", false);
    }
}
