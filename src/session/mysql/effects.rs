//! What a statement's text says about the session, reduced to what an exchange has to do.

use super::text::{Flags, FoundRows, Kind, LexMode, Traits, ends_transaction, scan};
use crate::base::pin::PinReason;

/// A set of pin reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinSet(u32);

impl PinSet {
    /// No reason: the connection may go back to the pool.
    pub const EMPTY: Self = Self(0);

    /// The set of one reason.
    pub const fn of(reason: PinReason) -> Self {
        Self(1 << reason.index())
    }

    /// Whether there is no reason.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is in the set.
    pub const fn has(self, reason: PinReason) -> bool {
        self.0 & Self::of(reason).0 != 0
    }

    /// Both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Adds a reason.
    pub fn add(&mut self, reason: PinReason) {
        self.0 |= Self::of(reason).0;
    }

    /// Takes a reason out.
    pub fn remove(&mut self, reason: PinReason) {
        self.0 &= !Self::of(reason).0;
    }

    /// The reasons in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL
            .iter()
            .copied()
            .filter(move |reason| self.has(*reason))
    }
}

/// What a statement does to, or wants from, its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Reasons to keep the connection from now on.
    pub pins: PinSet,
    /// Ends LOCK TABLES.
    pub unlocks_tables: bool,
    /// May set LAST_INSERT_ID() without the reply's saying so.
    pub sets_insert_id: bool,
    /// May have inserted something when it fails: an ERR tells no id, and MariaDB keeps it.
    pub may_insert: bool,
    /// Reads LAST_INSERT_ID() or @@identity.
    pub reads_insert_id: bool,
    /// Reads ROW_COUNT().
    pub reads_row_count: bool,
    /// Reads FOUND_ROWS().
    pub reads_found_rows: bool,
    /// What becomes of FOUND_ROWS().
    pub found_rows: FoundRows,
    /// Reads the diagnostics of the statement before: SHOW WARNINGS and its kind.
    pub reads_conditions: bool,
    /// Is a SET statement.
    pub is_set: bool,
    /// Sets session trackers. A reason to keep the connection, unless all of them are set back.
    pub sets_trackers: bool,
    /// May set variables in a form that is not reported.
    pub sets_unreported: bool,
    /// Has a statement behind SET STATEMENT … FOR: the variables that the server reports may be those that
    /// hold for it alone. Where others may stay, it is a reason to keep the connection.
    pub sets_in_passing: bool,
    /// Its last words are COMMIT or ROLLBACK: once it has succeeded, SET TRANSACTION is used up, unless
    /// a transaction is open then.
    pub ends_transaction: bool,
    /// May end its connection by itself: COMMIT RELEASE, ROLLBACK RELEASE.
    pub releases: bool,
    /// May leave anything on its connection that no word here tells of.
    pub has_unseen: bool,
    /// Has no word.
    pub is_blank: bool,
    /// May define something: a routine, a trigger, a view.
    pub defines: bool,
    /// Its words may be those of a statement that writes to tables, which has their triggers run.
    pub may_write: bool,
    /// May hold a KILL, or a statement about the account that sessions share.
    pub may_be_refused: bool,
    /// Its words are those of a reading statement. A function or a view that it names may write.
    pub is_read_only: bool,
    /// Within a transaction: whatever it does is undone if the connection ends before a commit, and it
    /// is none itself.
    pub is_undone_with_transaction: bool,
}

impl Effects {
    /// Whether its connection must have the session's LAST_INSERT_ID(): it reads that, or may set it
    /// and may as well leave it as it was, by an error or for want of rows.
    pub fn needs_insert_id(&self) -> bool {
        self.reads_insert_id || self.sets_insert_id
    }

    /// Only the head of the text was seen: nothing is proved by it. Its end may read LAST_INSERT_ID() or set
    /// it; that it was cut says nothing more.
    pub fn overlook_rest(&mut self) {
        self.has_unseen = true;
        self.sets_insert_id = true;
        self.pins.remove(PinReason::Unknown);
        self.is_read_only = false;
        self.may_write = true;
        self.is_undone_with_transaction = false;
        self.ends_transaction = false;
        self.may_insert = true;
    }

    /// Whether it wants anything that the statement before left behind.
    pub fn reads_last_statement(&self) -> bool {
        self.needs_insert_id()
            || self.reads_row_count
            || self.reads_found_rows
            || self.reads_conditions
    }
}

/// Flags that are reasons to keep the connection, each with its reason.
const PINS: &[(Flags, PinReason)] = &[
    (Flags::USER_VARIABLE, PinReason::UserVariable),
    (Flags::ASSIGNS_USER_VARIABLE, PinReason::UserVariable),
    (Flags::TEMPORARY_TABLE, PinReason::TemporaryTable),
    (Flags::NAMED_LOCK, PinReason::NamedLock),
    (Flags::LOCK_TABLES, PinReason::LockTables),
    (Flags::HANDLER, PinReason::Handler),
    (Flags::TEXT_PREPARE, PinReason::TextPrepare),
    (Flags::SET_TRANSACTION, PinReason::NextTransaction),
    (Flags::SET_ROLE, PinReason::Role),
    (Flags::SEQUENCE_STATE, PinReason::StatementState),
    (Flags::SESSION_STATUS, PinReason::StatementState),
    (Flags::CONNECTION_ID, PinReason::StatementState),
    (Flags::CALL, PinReason::Call),
    (Flags::XA, PinReason::Xa),
    (Flags::SETS_UNMOVABLE, PinReason::Variable),
    (Flags::UNCERTAIN, PinReason::Unknown),
];

/// Whether a text has a word that stands in every definition of a routine, a trigger or a view, or gives a
/// table with triggers another name.
fn may_define_program(sql: &[u8]) -> bool {
    let words: [&[u8]; 6] = [
        b"function",
        b"package",
        b"procedure",
        b"rename",
        b"trigger",
        b"view",
    ];
    let is_there = |word: &[u8]| {
        let mut places = sql.windows(word.len());
        places.any(|place| place.eq_ignore_ascii_case(word))
    };
    words.into_iter().any(is_there)
}

/// Whether a text is one statement of a kind that never commits. Of several the last one may.
fn is_undone(kind: Kind, sql: &[u8]) -> bool {
    let is_row_work = matches!(
        kind,
        Kind::Select | Kind::Insert | Kind::Update | Kind::Delete | Kind::Replace | Kind::Show
    );
    is_row_work && memchr::memchr(b';', sql).is_none()
}

/// Whether a text may be one that writes to tables. What else is not read-only locks, sets or ends something.
fn may_write(traits: &Traits) -> bool {
    let Traits { kind, flags, .. } = traits;
    let writes_nothing = matches!(
        kind,
        Kind::Empty
            | Kind::Select
            | Kind::Set
            | Kind::Use
            | Kind::Show
            | Kind::Begin
            | Kind::Commit
            | Kind::Rollback
            | Kind::Savepoint
            | Kind::Do
            | Kind::Lock
            | Kind::Unlock
            | Kind::Kill
            | Kind::Flush
            | Kind::Handler
            | Kind::Deallocate
    );
    let is_single = !flags.has_any(Flags::MULTI.and(Flags::SET_STATEMENT).and(Flags::UNCERTAIN));
    !(traits.is_read_only || writes_nothing && is_single)
}

/// Whether the text of a COMMIT or ROLLBACK, or of several statements, has the word RELEASE.
fn may_release(sql: &[u8]) -> bool {
    let word = b"release";
    sql.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word))
}

/// What the text of a statement tells.
pub fn of_text(sql: &[u8], mode: LexMode) -> Effects {
    let traits = scan(sql, mode);
    let flags = traits.flags;
    let ends = matches!(traits.kind, Kind::Commit | Kind::Rollback);
    let mut effects = Effects {
        is_blank: traits.kind == Kind::Empty,
        is_set: traits.kind == Kind::Set,
        ends_transaction: ends && ends_transaction(sql),
        releases: ends && may_release(sql),
        defines: (traits.kind == Kind::Ddl || flags.has(Flags::MULTI)) && may_define_program(sql),
        is_read_only: traits.is_read_only,
        may_write: may_write(&traits),
        is_undone_with_transaction: is_undone(traits.kind, sql),
        found_rows: traits.found_rows,
        may_insert: matches!(traits.kind, Kind::Insert | Kind::Replace | Kind::Load),
        may_be_refused: traits.may_be_refused,
        ..Effects::default()
    };
    if flags.is_empty() {
        return effects;
    }
    effects.releases |= flags.has(Flags::MULTI) && may_release(sql);
    for (_, reason) in PINS.iter().filter(|(flag, _)| flags.has_any(*flag)) {
        effects.pins.add(*reason);
    }
    effects.sets_trackers = flags.has(Flags::SETS_TRACKERS);
    effects.sets_unreported = flags.has_any(Flags::SETS_UNSCOPED.and(Flags::SETS_LIST));
    effects.sets_in_passing = flags.has(Flags::SET_STATEMENT);
    effects.may_insert |= flags.has(Flags::MULTI);
    effects.ends_transaction |= flags.has(Flags::MULTI) && ends_transaction(sql);
    effects.unlocks_tables = flags.has(Flags::UNLOCK);
    // What EXECUTE runs by its name may read or set it as a CALL may.
    let runs_unseen = Flags::CALL.and(Flags::TEXT_PREPARE);
    effects.sets_insert_id = flags.has_any(Flags::SETS_LAST_INSERT_ID.and(runs_unseen));
    effects.reads_insert_id = flags.has_any(Flags::READS_LAST_INSERT_ID.and(Flags::READS_IDENTITY));
    effects.reads_row_count = flags.has(Flags::READS_ROW_COUNT);
    effects.reads_found_rows = flags.has(Flags::READS_FOUND_ROWS);
    effects.reads_conditions = flags.has(Flags::READS_DIAGNOSTICS);
    effects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_on_rows_is_undone_with_its_transaction() {
        for (sql, expect) in [
            ("INSERT INTO t VALUES (1)", true),
            ("UPDATE t SET a = 1", true),
            ("COMMIT", false),
            ("INSERT INTO t VALUES (1); COMMIT", false),
            ("CREATE TABLE u (a INT)", false),
            ("BEGIN", false),
            ("SET autocommit = 1", false),
            ("CALL p()", false),
        ] {
            let effects = of_text(sql.as_bytes(), LexMode::default());
            assert_eq!(effects.is_undone_with_transaction, expect, "{sql}");
        }
    }

    #[test]
    fn what_may_have_a_trigger_run_is_known_by_its_words() {
        for (sql, expect) in [
            ("INSERT INTO t VALUES (1)", true),
            ("REPLACE t SELECT 1", true),
            ("WITH a AS (SELECT 1) DELETE FROM t", true),
            ("UPDATE t SET a = 1", true),
            ("LOAD DATA INFILE 'x' INTO TABLE t", true),
            ("SELECT 1; DELETE FROM t", true),
            (
                "SET STATEMENT max_statement_time = 1 FOR INSERT INTO t VALUES (1)",
                true,
            ),
            ("ANALYZE INSERT INTO t VALUES (1)", true),
            ("/*!50000 INSERT INTO t VALUES (1) */", true),
            ("SELECT a FROM t FOR UPDATE", false),
            ("BEGIN", false),
            ("COMMIT", false),
            ("SET autocommit = 1", false),
            ("DO SLEEP(0)", false),
        ] {
            let effects = of_text(sql.as_bytes(), LexMode::default());
            assert_eq!(effects.may_write, expect, "{sql}");
        }
    }

    #[test]
    fn a_pin_set_holds_what_was_added() {
        let mut pins = PinSet::EMPTY;
        pins.add(PinReason::Cursor);
        pins.add(PinReason::Unknown);
        assert!(pins.has(PinReason::Cursor) && !pins.has(PinReason::Xa));
        assert_eq!(
            pins.iter().collect::<Vec<_>>(),
            [PinReason::Cursor, PinReason::Unknown]
        );
        pins.remove(PinReason::Cursor);
        pins.remove(PinReason::Unknown);
        assert!(pins.is_empty());
        assert!(PinReason::ALL.len() <= 32);
    }
}
