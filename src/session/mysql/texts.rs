//! Texts of prepared statements, shared by all sessions of a core that mean the same by them.
//!
//! What a server takes at PREPARE belongs to a statement as its text does: the schema, `sql_mode`, the
//! character set that the text is in and the collation of its literals. The same bytes under other
//! settings are another statement, and are prepared elsewhere under those of their PREPARE.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::{Rc, Weak};

use foldhash::fast::FixedState;

use super::state::Vector;

/// What a server takes at PREPARE from the state that the session is in then.
#[derive(Debug)]
pub struct Settings {
    vector: Vector,
    hash: u64,
}

impl Settings {
    /// The schema and those variables, and no others.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// The schema; servers resolve names by it at every execution.
    pub fn schema(&self) -> Option<&[u8]> {
        self.vector.schema()
    }
}

/// What a client prepared.
#[derive(Debug)]
pub struct StatementText {
    /// Unique on this core.
    pub key: u64,
    /// The SQL text; empty if it was too long to be kept.
    pub sql: Box<[u8]>,
    /// Whether `sql` is the text, so that it can be prepared on any connection.
    pub is_kept: bool,
    /// Whether it stands for the same text of any session with the same settings.
    pub is_shared: bool,
    /// What it was prepared under.
    pub settings: Rc<Settings>,
}

/// The texts of one core, so that sessions which prepare the same share one key.
#[derive(Debug, Default)]
pub struct Texts {
    next_key: u64,
    by_hash: HashMap<u64, Weak<StatementText>, FixedState>,
    /// The state that was asked for last, and its settings: most sessions are in the same.
    last: Option<(Rc<Vector>, Rc<Settings>)>,
}

impl Texts {
    /// What a PREPARE in this state is done under.
    pub fn settings_of(&mut self, vector: &Rc<Vector>) -> Rc<Settings> {
        if let Some((last, settings)) = &self.last
            && Rc::ptr_eq(last, vector)
        {
            return settings.clone();
        }
        let bound = Vector::default().with_settings_of(vector);
        let settings = match &self.last {
            Some((_, settings)) if settings.vector == bound => settings.clone(),
            _ => Rc::new(Settings {
                hash: FixedState::default().hash_one(&bound),
                vector: bound,
            }),
        };
        self.last = Some((vector.clone(), settings.clone()));
        settings
    }

    /// The shared text of `sql` under `settings`. Two texts with the same hash get different keys, one
    /// of them unshared.
    pub fn intern(&mut self, sql: &[u8], settings: &Rc<Settings>) -> Rc<StatementText> {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(sql, settings.hash);
        if let Some(text) = self.by_hash.get(&hash).and_then(Weak::upgrade)
            && &*text.sql == sql
            && text.settings.vector == settings.vector
        {
            return text;
        }
        if self.by_hash.len() >= self.by_hash.capacity() {
            self.by_hash.retain(|_, text| text.strong_count() > 0);
        }
        let mut text = self.make(sql, true, settings);
        text.is_shared = true;
        let text = Rc::new(text);
        self.by_hash.insert(hash, Rc::downgrade(&text));
        text
    }

    /// A text with a key of its own, which nobody else gets.
    pub fn unshared(&mut self, sql: &[u8], settings: &Rc<Settings>) -> Rc<StatementText> {
        Rc::new(self.make(sql, true, settings))
    }

    /// Stands for a text that is too long to be kept, of which there is one connection's statement.
    pub fn unkept(&mut self, settings: &Rc<Settings>) -> Rc<StatementText> {
        Rc::new(self.make(b"", false, settings))
    }

    fn make(&mut self, sql: &[u8], is_kept: bool, settings: &Rc<Settings>) -> StatementText {
        self.next_key = self.next_key.wrapping_add(1);
        StatementText {
            key: self.next_key,
            sql: sql.into(),
            is_kept,
            is_shared: false,
            settings: settings.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(texts: &mut Texts, schema: &[u8], variables: &[(&str, &str)]) -> Rc<Settings> {
        let mut vector = Vector::at_login("utf8mb4", "utf8mb4_bin").with_schema(schema);
        for (name, value) in variables {
            vector.set(name.as_bytes(), value.as_bytes());
        }
        texts.settings_of(&Rc::new(vector))
    }

    #[test]
    fn texts_are_shared_by_sql_and_settings_and_forgotten_with_their_last_user() {
        let mut texts = Texts::default();
        let x = settings(&mut texts, b"x", &[]);
        let a = texts.intern(b"select 1", &x);
        let key = a.key;
        for (schema, variables, is_same) in [
            (&b"x"[..], &[][..], true),
            (
                b"x",
                &[("time_zone", "+01:00"), ("autocommit", "OFF")],
                true,
            ),
            (b"y", &[], false),
            (b"", &[], false),
            (b"x", &[("sql_mode", "ANSI_QUOTES")], false),
            (b"x", &[("character_set_client", "latin1")], false),
            (b"x", &[("character_set_connection", "latin1")], false),
            (
                b"x",
                &[("collation_connection", "utf8mb4_general_ci")],
                false,
            ),
        ] {
            let other = settings(&mut texts, schema, variables);
            let text = texts.intern(b"select 1", &other);
            assert_eq!(text.key == key, is_same, "{schema:?} {variables:?}");
        }
        assert_ne!(texts.intern(b"select 2", &x).key, key);
        drop(a);
        assert_ne!(texts.intern(b"select 1", &x).key, key);
    }

    #[test]
    fn settings_are_made_once_for_sessions_in_the_same_state() {
        let mut texts = Texts::default();
        let vector = Rc::new(Vector::default().with_schema(b"x"));
        let first = texts.settings_of(&vector);
        assert!(Rc::ptr_eq(&first, &texts.settings_of(&vector)));
        let equal = Rc::new((*vector).clone());
        assert!(Rc::ptr_eq(&first, &texts.settings_of(&equal)));
        assert_eq!(first.schema(), Some(&b"x"[..]));
    }
}
