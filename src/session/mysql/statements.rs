//! Prepared statements: the gateway's own ids downstream, the servers' ids upstream.
//!
//! A statement's text is shared by all sessions of a core that prepared it under the same settings
//! (`texts`), and may be prepared on any upstream connection. Each connection keeps at most a bounded
//! number of them and closes the least recently used for real (`max_prepared_stmt_count` is per server).

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::FixedState;

use super::effects::Effects;
use super::execute_body::is_set;
use super::state::Vector;
use super::text::LexMode;
pub use super::texts::{StatementText, Texts};

/// A statement of one downstream session.
#[derive(Debug)]
pub struct Statement {
    /// The shared text.
    pub text: Rc<StatementText>,
    /// Parameter markers.
    pub params: u16,
    /// The parameter types last bound, two bytes each; servers remember them per connection, so
    /// the gateway must remember them per session (trap 9).
    pub types: Option<Rc<[u8]>>,
    /// What its text does to the session at every execution.
    pub effects: Effects,
    /// How its text is read.
    pub mode: LexMode,
    /// Its text is not the client's own, but what was sent in its place.
    pub is_rewritten: bool,
    /// The text that was executed in the place of its own, and may have the cursor.
    pub instead: Option<Rc<StatementText>>,
    has_cursor: bool,
    has_long_data: bool,
    /// A bit for each parameter that came as long data; `None` if none has.
    long: Option<Box<[u8]>>,
}

impl Statement {
    /// A statement just prepared.
    pub fn new(text: Rc<StatementText>, params: u16, effects: Effects) -> Self {
        Self {
            text,
            params,
            types: None,
            effects,
            mode: LexMode::default(),
            is_rewritten: false,
            instead: None,
            has_cursor: false,
            has_long_data: false,
            long: None,
        }
    }

    /// Notes that a parameter came as long data, so that the next EXECUTE has no value for it.
    pub fn note_long(&mut self, index: u16) {
        if index >= self.params {
            return;
        }
        let len = usize::from(self.params).div_ceil(8);
        let bits = self.long.get_or_insert_with(|| vec![0; len].into());
        if let Some(byte) = bits.get_mut(usize::from(index / 8)) {
            *byte |= 1 << (index % 8);
        }
    }

    /// Whether a parameter came as long data.
    pub fn is_long(&self, index: u16) -> bool {
        self.long.as_deref().is_some_and(|bits| is_set(bits, index))
    }

    /// A cursor is open on the pinned connection.
    pub fn has_cursor(&self) -> bool {
        self.has_cursor
    }

    /// The text whose statement on the pinned connection has the cursor, if one is open; else its own.
    pub fn text_of_cursor(&self) -> &Rc<StatementText> {
        let instead = self.instead.as_ref().filter(|_| self.has_cursor);
        instead.unwrap_or(&self.text)
    }

    /// COM_STMT_SEND_LONG_DATA chunks wait on the pinned connection.
    pub fn has_long_data(&self) -> bool {
        self.has_long_data
    }
}

/// The statements of one downstream session.
#[derive(Debug, Default)]
pub struct Statements {
    next_id: u32,
    /// How many have an open cursor: every exchange asks whether any has.
    cursors: u32,
    /// How many have long data.
    long_data: u32,
    /// How many have a text that is not kept, so that they live on one connection.
    unkept: u32,
    /// Bytes of all texts that are kept.
    bytes: usize,
    /// The one prepared last; 0 if that has failed, or is closed.
    last: u32,
    by_id: HashMap<u32, Statement, FixedState>,
}

impl Statements {
    /// Adds a statement under a fresh id, never 0 nor 0xFFFFFFFF (which MariaDB's clients use for
    /// "the last one prepared").
    pub fn add(&mut self, statement: Statement) -> u32 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if matches!(self.next_id, 0 | u32::MAX) || self.by_id.contains_key(&self.next_id) {
                continue;
            }
            self.unkept = self
                .unkept
                .saturating_add(u32::from(!statement.text.is_kept));
            self.bytes = self.bytes.saturating_add(statement.text.sql.len());
            self.by_id.insert(self.next_id, statement);
            self.last = self.next_id;
            return self.next_id;
        }
    }

    /// What a client means by an id: by 0xFFFFFFFF its last PREPARE, and nothing if that has failed.
    pub fn resolve(&self, id: u32) -> u32 {
        if id == u32::MAX { self.last } else { id }
    }

    /// A PREPARE begins: until it has succeeded there is none that was prepared last.
    pub fn begin_prepare(&mut self) {
        self.last = 0;
    }

    /// The statement with this id, to be looked at.
    pub fn get(&self, id: u32) -> Option<&Statement> {
        self.by_id.get(&id)
    }

    /// The statement with this id.
    pub fn find(&mut self, id: u32) -> Option<&mut Statement> {
        self.by_id.get_mut(&id)
    }

    /// Whether one with this text's key cannot be prepared elsewhere, or has a cursor or long data,
    /// which live on the connection.
    pub fn holds(&self, key: u64) -> bool {
        self.by_id.values().any(|s| {
            let has_own = s.text.key == key && (s.has_long_data || !s.text.is_kept);
            has_own || s.has_cursor && s.text_of_cursor().key == key
        })
    }

    /// Whether one of them has this very text.
    pub fn any_of(&self, text: &Rc<StatementText>) -> bool {
        let mut all = self.by_id.values();
        Rc::strong_count(text) > 1 && all.any(|statement| Rc::ptr_eq(&statement.text, text))
    }

    /// Forgets a statement.
    pub fn remove(&mut self, id: u32) -> Option<Statement> {
        self.set_cursor(id, false);
        self.set_long_data(id, false);
        if self.last == id {
            self.last = 0;
        }
        let removed = self.by_id.remove(&id)?;
        self.unkept = self.unkept.saturating_sub(u32::from(!removed.text.is_kept));
        self.bytes = self.bytes.saturating_sub(removed.text.sql.len());
        Some(removed)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self {
            next_id: self.next_id,
            ..Self::default()
        };
    }

    /// Notes that a statement's cursor was opened, or has ended.
    pub fn set_cursor(&mut self, id: u32, is_open: bool) {
        // Asked after every EXECUTE: where none has one, none is to be looked up.
        if !is_open && self.cursors == 0 {
            return;
        }
        if let Some(statement) = self.by_id.get_mut(&id) {
            set_counted(&mut statement.has_cursor, is_open, &mut self.cursors);
        }
    }

    /// Notes that a statement was sent long data, or that it has used it.
    pub fn set_long_data(&mut self, id: u32, is_there: bool) {
        // As above. What is noted of parameters is so of a statement that has long data.
        if !is_there && self.long_data == 0 {
            return;
        }
        if let Some(statement) = self.by_id.get_mut(&id) {
            set_counted(&mut statement.has_long_data, is_there, &mut self.long_data);
            if !is_there {
                statement.long = None;
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Bytes of the texts that are kept for them, those that others share included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether any has an open cursor.
    pub fn any_cursor(&self) -> bool {
        self.cursors > 0
    }

    /// Whether any has a text that is not kept.
    pub fn any_unkept(&self) -> bool {
        self.unkept > 0
    }

    /// Whether any waits with long data.
    pub fn any_long_data(&self) -> bool {
        self.long_data > 0
    }
}

/// Sets a flag and counts how many of its kind are set.
fn set_counted(flag: &mut bool, value: bool, count: &mut u32) {
    match (std::mem::replace(flag, value), value) {
        (false, true) => *count = count.saturating_add(1),
        (true, false) => *count = count.saturating_sub(1),
        (false, false) | (true, true) => {}
    }
}

/// A statement as one upstream connection knows it.
#[derive(Debug)]
pub struct Prepared {
    /// What was prepared: kept, so that its key stays good for whoever prepares the same later, and
    /// so that another core can be told.
    text: Rc<StatementText>,
    /// The server's id on this connection.
    pub id: u32,
    /// Parameter types bound by the last execution there; `None` before the first.
    pub types: Option<Rc<[u8]>>,
    used_at: u64,
}

/// A prepared statement on its way to another core, where its text has another key.
#[derive(Debug)]
pub struct PackedStatement {
    sql: Box<[u8]>,
    settings: Vector,
    is_shared: bool,
    id: u32,
    types: Option<Box<[u8]>>,
}

/// The statements prepared on one upstream connection.
#[derive(Debug)]
pub struct PreparedSet {
    by_key: HashMap<u64, Prepared, FixedState>,
    clock: u64,
    len_max: usize,
}

impl PreparedSet {
    /// An empty set of at most `len_max` (at least 1) statements.
    pub fn new(len_max: usize) -> Self {
        Self {
            by_key: HashMap::default(),
            clock: 0,
            len_max: len_max.max(1),
        }
    }

    /// Finds a statement and marks it as used.
    pub fn touch(&mut self, key: u64) -> Option<&mut Prepared> {
        self.clock = self.clock.wrapping_add(1);
        let prepared = self.by_key.get_mut(&key)?;
        prepared.used_at = self.clock;
        Some(prepared)
    }

    /// Adds a statement. Returns the server's id of the one replaced, which must be closed.
    pub fn add(&mut self, text: Rc<StatementText>, id: u32) -> Option<u32> {
        self.clock = self.clock.wrapping_add(1);
        let key = text.key;
        let prepared = Prepared {
            text,
            id,
            types: None,
            used_at: self.clock,
        };
        self.by_key
            .insert(key, prepared)
            .map(|replaced| replaced.id)
    }

    /// Forgets the least recently used statement if there are too many, but none that `is_held` by
    /// its key, nor the one used last. Returns the server's id, to be closed.
    pub fn evict(&mut self, is_held: impl Fn(u64) -> bool) -> Option<u32> {
        if self.by_key.len() <= self.len_max {
            return None;
        }
        let free = self
            .by_key
            .iter()
            .filter(|(key, prepared)| prepared.used_at != self.clock && !is_held(**key));
        let key = *free.min_by_key(|(_, prepared)| prepared.used_at)?.0;
        self.remove(key)
    }

    /// Forgets the types of a statement: the server has refused an execution, perhaps before it read
    /// them.
    pub fn forget_types(&mut self, key: u64) {
        if let Some(prepared) = self.by_key.get_mut(&key) {
            prepared.types = None;
        }
    }

    /// Forgets a statement; returns the server's id, to be closed.
    pub fn remove(&mut self, key: u64) -> Option<u32> {
        self.by_key.remove(&key).map(|prepared| prepared.id)
    }

    /// The set in a form that may leave its core: least recently used first.
    pub fn pack(&self) -> Vec<PackedStatement> {
        let mut all: Vec<_> = self.by_key.values().collect();
        all.sort_by_key(|prepared| prepared.used_at);
        let pack = |prepared: &Prepared| PackedStatement {
            sql: prepared.text.sql.clone(),
            settings: prepared.text.settings.vector().clone(),
            is_shared: prepared.text.is_shared,
            id: prepared.id,
            types: prepared.types.as_deref().map(Into::into),
        };
        all.into_iter().map(pack).collect()
    }

    /// The set that another core has packed, under this core's keys.
    pub fn unpack(packed: Vec<PackedStatement>, len_max: usize, texts: &mut Texts) -> Self {
        let mut set = Self::new(len_max);
        for statement in packed {
            let settings = texts.settings_of(&Rc::new(statement.settings));
            // One of a session's own is nobody's here.
            let text = match statement.is_shared {
                true => texts.intern(&statement.sql, &settings),
                false => texts.unshared(&statement.sql, &settings),
            };
            let key = text.key;
            set.add(text, statement.id);
            if let Some(prepared) = set.by_key.get_mut(&key) {
                prepared.types = statement.types.map(Into::into);
            }
        }
        set
    }

    /// The most that it holds.
    pub fn len_max(&self) -> usize {
        self.len_max
    }

    /// How many are prepared.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is prepared.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::texts::Settings;
    use super::*;

    fn settings(texts: &mut Texts, schema: &[u8]) -> Rc<Settings> {
        texts.settings_of(&Rc::new(Vector::default().with_schema(schema)))
    }

    fn intern(texts: &mut Texts, sql: &[u8]) -> Rc<StatementText> {
        let settings = settings(texts, b"");
        texts.intern(sql, &settings)
    }

    #[test]
    fn ids_are_never_the_reserved_ones_and_the_last_is_remembered() {
        let mut texts = Texts::default();
        let text = intern(&mut texts, b"select ?");
        let make = || Statement::new(text.clone(), 1, Effects::default());
        let mut statements = Statements {
            next_id: u32::MAX - 1,
            ..Statements::default()
        };
        assert_eq!(statements.resolve(u32::MAX), 0, "nothing");
        assert_eq!(statements.add(make()), 1);
        assert_eq!(statements.resolve(u32::MAX), 1);
        statements.next_id = 0;
        assert_eq!(statements.add(make()), 2);
        assert!(statements.remove(1).is_some() && statements.find(1).is_none());
        assert_eq!(statements.resolve(u32::MAX), 2, "another one was closed");
        statements.remove(2);
        assert_eq!(statements.resolve(u32::MAX), 0, "the last one was");
        statements.add(make());
        statements.begin_prepare();
        assert_eq!(statements.resolve(u32::MAX), 0, "a PREPARE has failed");
    }

    #[test]
    fn statements_whose_text_is_not_kept_are_counted() {
        let mut texts = Texts::default();
        let mut statements = Statements::default();
        let settings = settings(&mut texts, b"");
        let text = texts.unkept(&settings);
        let id = statements.add(Statement::new(text.clone(), 1, Effects::default()));
        assert!(statements.any_unkept() && statements.holds(text.key));
        statements.remove(id);
        assert!(!statements.any_unkept() && !statements.holds(text.key));
        statements.add(Statement::new(text, 1, Effects::default()));
        statements.clear();
        assert!(!statements.any_unkept());
    }

    #[test]
    fn any_cursor_and_any_long_data_are_those_of_the_statements_there_are() {
        let text = intern(&mut Texts::default(), b"select ?");
        let mut statements = Statements::default();
        let [a, b] =
            [1, 2].map(|_| statements.add(Statement::new(text.clone(), 1, Effects::default())));
        let check = |statements: &Statements, cursor: bool, long_data: bool| {
            let any = |has: fn(&Statement) -> bool| statements.by_id.values().any(has);
            assert_eq!(statements.any_cursor(), cursor);
            assert_eq!(any(Statement::has_cursor), cursor);
            assert_eq!(statements.any_long_data(), long_data);
            assert_eq!(any(Statement::has_long_data), long_data);
        };
        check(&statements, false, false);
        for _ in 0..2 {
            statements.set_cursor(a, true);
            statements.set_long_data(b, true);
        }
        statements.set_cursor(b, true);
        check(&statements, true, true);
        statements.set_cursor(a, false);
        check(&statements, true, true);
        statements.remove(b);
        check(&statements, false, false);
        statements.set_cursor(b, true);
        statements.set_long_data(a, true);
        check(&statements, false, true);
        statements.clear();
        check(&statements, false, false);
    }

    #[test]
    fn the_least_recently_used_statement_is_closed() {
        let mut texts = Texts::default();
        let [a, b, c] = [b"a", b"b", b"c"].map(|sql| intern(&mut texts, sql));
        let mut set = PreparedSet::new(2);
        assert_eq!(set.add(a.clone(), 10), None);
        assert_eq!(set.add(b, 20), None);
        assert!(set.touch(a.key).is_some());
        assert_eq!(set.add(c.clone(), 30), None);
        assert_eq!(set.evict(|_| false), Some(20));
        assert_eq!(set.evict(|_| false), None);
        assert_eq!(set.add(c.clone(), 31), Some(30));
        assert_eq!((set.len(), set.remove(c.key)), (2, Some(31)));
    }

    #[test]
    fn a_packed_set_keeps_ids_types_and_order_under_the_other_cores_keys() {
        let mut here = Texts::default();
        let mut set = PreparedSet::new(2);
        let [a, b] = [b"a", b"b"].map(|sql| {
            let settings = settings(&mut here, b"x");
            here.intern(sql, &settings)
        });
        set.add(a.clone(), 10);
        set.add(b, 20);
        set.touch(a.key).unwrap().types = Some([3, 0].as_slice().into());
        let mut there = Texts::default();
        let other = intern(&mut there, b"c");
        let mut set = PreparedSet::unpack(set.pack(), 2, &mut there);
        let there_x = settings(&mut there, b"x");
        let a = there.intern(b"a", &there_x);
        let found = set.by_key.get(&a.key).unwrap();
        assert_eq!(
            (found.id, found.types.as_deref()),
            (10, Some([3, 0].as_slice()))
        );
        assert_eq!(set.add(other, 30), None);
        assert_eq!(
            set.evict(|_| false),
            Some(20),
            "`b` is the least recently used"
        );
        assert!(
            set.touch(intern(&mut there, b"a").key).is_none(),
            "another schema"
        );
    }

    #[test]
    fn a_statement_with_a_cursor_is_not_closed_for_want_of_room() {
        let mut texts = Texts::default();
        let [a, b, c] = [b"a", b"b", b"c"].map(|sql| intern(&mut texts, sql));
        let mut set = PreparedSet::new(1);
        for (text, id) in [(&a, 10), (&b, 20), (&c, 30)] {
            assert_eq!(set.add(text.clone(), id), None);
        }
        let is_held = |key| key == a.key;
        assert_eq!(set.evict(is_held), Some(20));
        assert_eq!(set.evict(is_held), None, "the last one is in use");
        assert!(set.touch(c.key).is_some());
        assert_eq!(set.evict(|_| false), Some(10));
    }
}
