//! The movable part of a MySQL session: its schema and the variables that differ from a fresh one.
//!
//! A downstream session carries the vector that its client has built up; an upstream connection
//! carries the one it is in. On lease only the difference is sent. What the server reports through
//! session tracking is the truth; values therefore have the form in which servers report them.
//! Anything that is not in the table of movable variables pins its session instead.

use std::rc::Rc;

use super::baseline::Base;
use super::text::LexMode;
use crate::wire::mysql::charset;

/// How a variable is moved to another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Goes back to the wanted vector's baseline where that does not name it.
    Plain,
    /// Part of the character-set group: always explicit, never DEFAULT.
    Charset,
}

/// Session variables that mean the same on every connection to the same server.
/// Sorted by name; the position is the variable's number.
const MOVABLE: &[(&str, Kind)] = &[
    ("auto_increment_increment", Kind::Plain),
    ("auto_increment_offset", Kind::Plain),
    ("autocommit", Kind::Plain),
    ("bulk_insert_buffer_size", Kind::Plain),
    ("character_set_client", Kind::Charset),
    ("character_set_connection", Kind::Charset),
    ("character_set_results", Kind::Charset),
    ("check_constraint_checks", Kind::Plain),
    ("collation_connection", Kind::Charset),
    ("cte_max_recursion_depth", Kind::Plain),
    ("default_storage_engine", Kind::Plain),
    ("div_precision_increment", Kind::Plain),
    ("eq_range_index_dive_limit", Kind::Plain),
    ("explicit_defaults_for_timestamp", Kind::Plain),
    ("foreign_key_checks", Kind::Plain),
    ("group_concat_max_len", Kind::Plain),
    ("innodb_lock_wait_timeout", Kind::Plain),
    ("innodb_strict_mode", Kind::Plain),
    ("interactive_timeout", Kind::Plain),
    ("join_buffer_size", Kind::Plain),
    ("lc_messages", Kind::Plain),
    ("lc_time_names", Kind::Plain),
    ("lock_wait_timeout", Kind::Plain),
    ("long_query_time", Kind::Plain),
    ("low_priority_updates", Kind::Plain),
    ("max_error_count", Kind::Plain),
    ("max_execution_time", Kind::Plain),
    ("max_heap_table_size", Kind::Plain),
    ("max_join_size", Kind::Plain),
    ("max_length_for_sort_data", Kind::Plain),
    ("max_recursive_iterations", Kind::Plain),
    ("max_seeks_for_key", Kind::Plain),
    ("max_sort_length", Kind::Plain),
    ("max_statement_time", Kind::Plain),
    ("net_read_timeout", Kind::Plain),
    ("net_write_timeout", Kind::Plain),
    ("old_mode", Kind::Plain),
    ("optimizer_prune_level", Kind::Plain),
    ("optimizer_search_depth", Kind::Plain),
    ("optimizer_switch", Kind::Plain),
    ("optimizer_use_condition_selectivity", Kind::Plain),
    ("read_buffer_size", Kind::Plain),
    ("read_rnd_buffer_size", Kind::Plain),
    ("sort_buffer_size", Kind::Plain),
    ("sql_auto_is_null", Kind::Plain),
    ("sql_big_selects", Kind::Plain),
    ("sql_buffer_result", Kind::Plain),
    ("sql_mode", Kind::Plain),
    ("sql_notes", Kind::Plain),
    ("sql_quote_show_create", Kind::Plain),
    ("sql_require_primary_key", Kind::Plain),
    ("sql_safe_updates", Kind::Plain),
    ("sql_select_limit", Kind::Plain),
    ("sql_warnings", Kind::Plain),
    ("storage_engine", Kind::Plain),
    ("time_zone", Kind::Plain),
    ("tmp_disk_table_size", Kind::Plain),
    ("tmp_memory_table_size", Kind::Plain),
    ("tmp_table_size", Kind::Plain),
    ("transaction_isolation", Kind::Plain),
    ("transaction_read_only", Kind::Plain),
    ("tx_isolation", Kind::Plain),
    ("tx_read_only", Kind::Plain),
    ("unique_checks", Kind::Plain),
    ("updatable_views_with_limit", Kind::Plain),
    ("wait_timeout", Kind::Plain),
    ("windowing_use_high_precision", Kind::Plain),
];

/// Of [`MOVABLE`] what a server takes at PREPARE and not at EXECUTE (measured with MariaDB 10.11: nearly every
/// variable of the table, under statements of all kinds).
const BOUND_AT_PREPARE: &[&str] = &[
    "character_set_client",
    "character_set_connection",
    "collation_connection",
    "old_mode",
    "sql_mode",
];

/// `autocommit` in [`MOVABLE`]: every statement asks for it.
const AUTOCOMMIT: u8 = 2;

/// `collation_connection` in [`MOVABLE`]: every move of state asks for it.
const COLLATION_CONNECTION: u8 = 8;

/// Reported, but a consequence of something else that is moved.
const DERIVED: &[&str] = &["character_set_database", "collation_database"];

/// What became of a variable that the server reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is in the vector now.
    Moved,
    /// It follows from something else; nothing to do.
    Derived,
    /// It cannot be moved: the session must keep its connection.
    Pins,
}

/// The movable state of a session. Immutable: changes make a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vector {
    schema: Option<Box<[u8]>>,
    /// (position in [`MOVABLE`], value as the server reports it), sorted by position.
    variables: Vec<(u8, Box<[u8]>)>,
    /// What variables are that are not in `variables`; `None` before that is known.
    base: Option<Base>,
}

/// Names of all movable variables.
pub fn movable() -> impl Iterator<Item = &'static str> {
    MOVABLE.iter().map(|(name, _)| *name)
}

/// Names of the variables of character sets.
pub fn charsets() -> impl Iterator<Item = &'static str> {
    let charsets = MOVABLE.iter().filter(|(_, kind)| *kind == Kind::Charset);
    charsets.map(|(name, _)| *name)
}

/// Names of the variables that are restored to a baseline.
pub fn moved_by_value() -> impl Iterator<Item = &'static str> {
    let plain = MOVABLE.iter().filter(|(_, kind)| *kind == Kind::Plain);
    plain.map(|(name, _)| *name)
}

impl Vector {
    /// The state right after a login with this character set and collation, with no schema.
    pub fn at_login(charset: &str, collation: &str) -> Self {
        let mut vector = Self::default();
        for name in [
            "character_set_client",
            "character_set_connection",
            "character_set_results",
        ] {
            vector.set(name.as_bytes(), charset.as_bytes());
        }
        vector.set(b"collation_connection", collation.as_bytes());
        vector
    }

    /// Whether the character sets are known; if not, they are the server's defaults, and no statement
    /// may run before these are.
    pub fn has_charsets(&self) -> bool {
        self.value("character_set_client").is_some()
    }

    /// The same vector with the character sets of the server's `globals`, if they are known, in the place of its
    /// own.
    pub fn with_charsets_of(&self, globals: Option<&Base>) -> Self {
        let mut vector = Self::at_login("utf8mb4", "utf8mb4_general_ci");
        for (number, value) in globals.into_iter().flat_map(Base::values) {
            // In their order the collation comes behind its character set.
            if let Some((name, Kind::Charset)) = MOVABLE.get(usize::from(number)) {
                vector.set(name.as_bytes(), value);
            }
        }
        let others = self.variables.iter().filter(|(n, _)| !is_charset(*n));
        vector.variables.extend(others.cloned());
        vector.variables.sort_unstable_by_key(|(n, _)| *n);
        Self {
            schema: self.schema.clone(),
            base: self.base.clone(),
            ..vector
        }
    }

    /// The current schema.
    pub fn schema(&self) -> Option<&[u8]> {
        self.schema.as_deref()
    }

    /// Whether the vector says `autocommit=0`.
    pub fn is_autocommit_off(&self) -> bool {
        // Sorted, with hardly anything before it: found sooner than by a search from the middle.
        fn of<'a>(mut sorted: impl Iterator<Item = (u8, &'a [u8])>) -> Option<&'a [u8]> {
            let (number, value) = sorted.find(|(number, _)| *number >= AUTOCOMMIT)?;
            (number == AUTOCOMMIT).then_some(value)
        }
        let own = || {
            of(self
                .variables
                .iter()
                .map(|(number, value)| (*number, &**value)))
        };
        let base = || of(self.base.as_ref()?.values());
        own()
            .or_else(base)
            .is_some_and(|value| value == b"OFF" || value == b"0")
    }

    /// A variable's value, if it was set or belongs to a character set.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.value_of(number_of(name.as_bytes())?)
    }

    /// The value of the variable at this position of [`MOVABLE`].
    fn value_of(&self, number: u8) -> Option<&[u8]> {
        let at = self
            .variables
            .binary_search_by_key(&number, |(n, _)| *n)
            .ok()?;
        self.variables.get(at).map(|(_, value)| &**value)
    }

    /// A variable's value, as far as it is known.
    pub fn effective(&self, name: &str) -> Option<&[u8]> {
        self.effective_of(number_of(name.as_bytes())?)
    }

    fn effective_of(&self, number: u8) -> Option<&[u8]> {
        let base = || self.base.as_ref()?.value_of(number);
        self.value_of(number).or_else(base)
    }

    /// Whether it is known what variables are that were not set.
    pub fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// The same vector on this baseline.
    pub fn with_base(&self, base: Base) -> Self {
        Self {
            base: Some(base),
            ..self.clone()
        }
    }

    /// The state in which the variables are as `found`, on the same baseline and in the same schema; `None`
    /// if there is none to compare with.
    pub fn found_to_be(&self, found: &Base) -> Option<Self> {
        let base = self.base.clone()?;
        let is_own = |(number, value): &(u8, &[u8])| base.value_of(*number) != Some(value);
        let variables = found.values().filter(is_own);
        Some(Self {
            schema: self.schema.clone(),
            variables: variables
                .map(|(number, value)| (number, value.into()))
                .collect(),
            base: Some(base.clone()),
        })
    }

    /// The same vector on the baseline of `other`, if it has none.
    pub fn with_base_of(&self, other: &Self) -> Self {
        Self {
            base: self.base.clone().or_else(|| other.base.clone()),
            ..self.clone()
        }
    }

    /// How long a client in this state may be idle, if it has set that.
    pub fn wait_timeout(&self) -> Option<std::time::Duration> {
        let seconds = std::str::from_utf8(self.value("wait_timeout")?).ok()?;
        seconds.parse().ok().map(std::time::Duration::from_secs)
    }

    /// How SQL text is read in this state.
    pub fn lex_mode(&self) -> LexMode {
        let charset = self.value("character_set_client");
        let charset = std::str::from_utf8(charset.unwrap_or_default()).unwrap_or_default();
        let mode = self.effective("sql_mode").unwrap_or_default();
        LexMode {
            ansi_quotes: has_word(mode, b"ANSI_QUOTES"),
            no_backslash_escapes: has_word(mode, b"NO_BACKSLASH_ESCAPES"),
            cut: charset::cut_of(charset),
            ..LexMode::default()
        }
    }

    /// The same vector in another schema; an empty name is no schema.
    pub fn with_schema(&self, schema: &[u8]) -> Self {
        let schema = (!schema.is_empty()).then(|| schema.into());
        Self {
            schema,
            ..self.clone()
        }
    }

    /// The same vector with the schema of `other`, if it has one, and all that a server takes at
    /// PREPARE.
    pub fn with_settings_of(&self, other: &Self) -> Self {
        let mine = self.variables.iter().filter(|(n, _)| !is_bound(*n));
        let theirs = other.settings().map(|(n, value)| (n, value.into()));
        let mut variables: Vec<_> = mine.cloned().chain(theirs).collect();
        variables.sort_unstable_by_key(|(n, _)| *n);
        Self {
            schema: other.schema.clone().or_else(|| self.schema.clone()),
            variables,
            base: self.base.clone(),
        }
    }

    /// Whether [`Self::with_settings_of`] would change nothing.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        let is_there = other.schema.is_none() || other.schema == self.schema;
        is_there && self.settings().eq(other.settings())
    }

    /// What a server takes at PREPARE, set or not.
    fn settings(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let numbers = BOUND_AT_PREPARE
            .iter()
            .map(|name| number_of(name.as_bytes()));
        numbers
            .flatten()
            .filter_map(|n| Some((n, self.effective_of(n)?)))
    }

    /// Takes over a variable's new value as the server reported it.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Noted {
        if DERIVED
            .iter()
            .any(|derived| name.eq_ignore_ascii_case(derived.as_bytes()))
        {
            return Noted::Derived;
        }
        let Some(number) = number_of(name) else {
            return Noted::Pins;
        };
        if name.eq_ignore_ascii_case(b"character_set_connection") {
            // The collation falls back to the character set's default one, without being reported.
            self.variables.retain(|(n, _)| *n != COLLATION_CONNECTION);
        }
        match self.variables.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => {
                if let Some(slot) = self.variables.get_mut(at) {
                    slot.1 = value.into();
                }
            }
            Err(at) => self.variables.insert(at, (number, value.into())),
        }
        Noted::Moved
    }

    /// Appends the SET statement that turns a connection in state `from` into this one, schema
    /// aside. Returns whether there was anything to set.
    pub fn write_set(&self, from: &Self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let mut item = |name: &str, value: Option<&[u8]>| {
            out.extend_from_slice(if out.len() == before { b"SET " } else { b"," });
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            match value {
                Some(value) => write_value(name, value, out),
                None => out.extend_from_slice(b"DEFAULT"),
            }
        };
        let collation_was_set = from.value_of(COLLATION_CONNECTION).is_some();
        let collation_falls_back =
            collation_was_set && self.value_of(COLLATION_CONNECTION).is_none();
        let mut charset_changed = false;
        for &(number, ref value) in &self.variables {
            let Some((name, _)) = MOVABLE.get(usize::from(number)) else {
                continue;
            };
            let is_charset = *name == "character_set_connection";
            let is_collation = *name == "collation_connection";
            // Setting the character set resets the collation, so that one must follow.
            let forced = is_charset && collation_falls_back || is_collation && charset_changed;
            if forced || from.effective_of(number) != Some(value) {
                item(name, Some(value));
                charset_changed |= is_charset;
            }
        }
        let base = self.base.as_ref().or(from.base.as_ref());
        for &(number, ref value) in &from.variables {
            let Some((name, kind)) = MOVABLE.get(usize::from(number)) else {
                continue;
            };
            let wanted = base.and_then(|base| base.value_of(number));
            if *kind == Kind::Plain && self.value_of(number).is_none() && wanted != Some(value) {
                item(name, wanted);
            }
        }
        if let (Some(mine), Some(theirs)) = (&self.base, &from.base)
            && !mine.is_shared_with(theirs)
        {
            for (number, value) in mine.values() {
                let is_set = self.value_of(number).is_some() || from.value_of(number).is_some();
                if !is_set
                    && theirs.value_of(number) != Some(value)
                    && let Some((name, _)) = MOVABLE.get(usize::from(number))
                {
                    item(name, Some(value));
                }
            }
        }
        out.len() > before
    }
}

fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|item| item.eq_ignore_ascii_case(word))
}

/// Whether two sessions are in the same state; cheap when they share the vector.
pub fn is_same(a: &Rc<Vector>, b: &Rc<Vector>) -> bool {
    Rc::ptr_eq(a, b) || a == b
}

/// Whether the variable at this position of [`MOVABLE`] is part of the character-set group.
fn is_charset(number: u8) -> bool {
    let kind = MOVABLE.get(usize::from(number)).map(|(_, kind)| *kind);
    kind == Some(Kind::Charset)
}

/// Whether the variable at this position of [`MOVABLE`] is one of [`BOUND_AT_PREPARE`].
fn is_bound(number: u8) -> bool {
    let name = MOVABLE.get(usize::from(number)).map(|(name, _)| *name);
    name.is_some_and(|name| BOUND_AT_PREPARE.contains(&name))
}

/// The number of a movable variable.
pub(super) fn number_of(name: &[u8]) -> Option<u8> {
    let at = MOVABLE
        .binary_search_by(|(known, _)| known.bytes().cmp(name.iter().map(u8::to_ascii_lowercase)))
        .ok()?;
    u8::try_from(at).ok()
}

/// Numbers stand bare (a quoted one is refused for numeric variables), everything else is quoted.
fn write_value(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let is_number = !value.is_empty()
        && value
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.' || *byte == b'-')
        && value.iter().any(u8::is_ascii_digit);
    if value.is_empty() && name == "character_set_results" {
        out.extend_from_slice(b"NULL");
    } else if is_number {
        out.extend_from_slice(value);
    } else {
        out.push(b'\'');
        for &byte in value {
            // Doubling works with and without NO_BACKSLASH_ESCAPES; values with a backslash do not
            // occur among the movable variables and would only fail to be set.
            if byte == b'\'' {
                out.push(b'\'');
            }
            out.push(byte);
        }
        out.push(b'\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(pairs: &[(&str, &str)]) -> Vector {
        let mut vector = Vector::default();
        for (name, value) in pairs {
            assert_eq!(vector.set(name.as_bytes(), value.as_bytes()), Noted::Moved);
        }
        vector
    }

    fn delta(from: &Vector, to: &Vector) -> String {
        let mut out = Vec::new();
        to.write_set(from, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(MOVABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(number_of(b"autocommit"), Some(AUTOCOMMIT));
        assert_eq!(
            number_of(b"collation_connection"),
            Some(COLLATION_CONNECTION)
        );
    }

    #[test]
    fn what_a_server_takes_at_prepare_is_known_and_can_be_taken_over() {
        let known = |name: &&str| number_of(name.as_bytes()).is_some_and(is_bound);
        assert!(BOUND_AT_PREPARE.iter().all(known));
        let mine = vector(&[("autocommit", "OFF"), ("sql_mode", "A")]).with_schema(b"x");
        let other = vector(&[("old_mode", "B"), ("time_zone", "C")]).with_schema(b"y");
        let both = mine.with_settings_of(&other);
        let expect = vector(&[("autocommit", "OFF"), ("old_mode", "B")]).with_schema(b"y");
        assert_eq!(both, expect);
        assert!(both.has_settings_of(&other) && !mine.has_settings_of(&other));
        // A connection that is in a schema cannot leave it for none.
        let nowhere = mine.with_settings_of(&Vector::default());
        assert_eq!(nowhere, vector(&[("autocommit", "OFF")]).with_schema(b"x"));
        assert_eq!(delta(&mine, &both), "SET old_mode='B',sql_mode=DEFAULT");
    }

    #[test]
    fn only_the_difference_is_set() {
        let check = |from: &[(&str, &str)], to: &[(&str, &str)], expect: &str| {
            assert_eq!(delta(&vector(from), &vector(to)), expect);
        };
        check(&[], &[], "");
        check(&[("sql_mode", "")], &[("sql_mode", "")], "");
        check(
            &[],
            &[("sql_mode", "ANSI_QUOTES")],
            "SET sql_mode='ANSI_QUOTES'",
        );
        check(&[("sql_mode", "ANSI_QUOTES")], &[], "SET sql_mode=DEFAULT");
        check(
            &[("time_zone", "+01:00")],
            &[("autocommit", "OFF"), ("max_statement_time", "1.500000")],
            "SET autocommit='OFF',max_statement_time=1.500000,time_zone=DEFAULT",
        );
        check(&[], &[("time_zone", "a'b")], "SET time_zone='a''b'");
    }

    #[test]
    fn a_character_set_takes_its_collation_along() {
        let login = Vector::at_login("utf8mb4", "utf8mb4_bin");
        let mut names = login.clone();
        names.set(b"character_set_connection", b"latin1");
        assert_eq!(names.value("collation_connection"), None);
        assert_eq!(
            delta(&login, &names),
            "SET character_set_connection='latin1'"
        );
        assert_eq!(
            delta(&names, &login),
            "SET character_set_connection='utf8mb4',collation_connection='utf8mb4_bin'"
        );
        let mut default = login.clone();
        default
            .variables
            .retain(|(n, _)| Some(*n) != number_of(b"collation_connection"));
        assert_eq!(
            delta(&login, &default),
            "SET character_set_connection='utf8mb4'"
        );
        let mut raw = login.clone();
        raw.set(b"character_set_results", b"");
        assert_eq!(delta(&login, &raw), "SET character_set_results=NULL");
    }

    #[test]
    fn a_login_without_a_character_set_has_the_servers() {
        let unnamed = Vector::default().with_schema(b"x");
        assert!(!unnamed.has_charsets() && unnamed.lex_mode().cut == charset::Cut::Unknown);
        let default = unnamed.with_charsets_of(None);
        let expect = Vector::at_login("utf8mb4", "utf8mb4_general_ci").with_schema(b"x");
        assert_eq!(default, expect);
        assert_eq!(default.lex_mode().cut, charset::Cut::Plain);
    }

    #[test]
    fn what_cannot_be_moved_pins() {
        let mut vector = Vector::default();
        assert_eq!(vector.set(b"timestamp", b"5"), Noted::Pins);
        assert_eq!(vector.set(b"collation_database", b"x"), Noted::Derived);
        assert_eq!(vector.set(b"SQL_MODE", b""), Noted::Moved);
        assert_eq!(vector.value("sql_mode"), Some(b"".as_slice()));
    }
}
