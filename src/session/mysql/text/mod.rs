//! What the text of a statement says about its session: a scanner, not a parser.
//!
//! It decides when a session must keep its upstream connection and which statements read what the
//! one before left behind, so it errs towards reporting. It does not see into stored programs or
//! prepared text, and it changes nothing but what [`substitute`] is asked to. What the server reports
//! itself (status flags, session tracking) comes first; this covers what no server reports.

mod account;
mod counting;
mod grammar;
mod keyword;
mod lexer;
mod literal;
mod mention;
mod reread;
mod rewrite;
mod set;
pub(super) mod words;

pub use account::{Refusal, refusal};
pub use mention::{Mention, mentions};
pub use rewrite::{ends_transaction, is_show_warnings, name_schema, substitute};

pub use set::{Collation, SetText, Trackers, look_at_set, trackers_set_by};

use crate::wire::mysql::charset::Cut;
use grammar::Grammar;
use lexer::Lexer;

/// What the cut of a statement into words depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LexMode {
    /// `sql_mode` has ANSI_QUOTES: `"` quotes identifiers.
    pub ansi_quotes: bool,
    /// `sql_mode` has NO_BACKSLASH_ESCAPES: a backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
    /// How `character_set_client` is cut beyond ASCII.
    pub cut: Cut,
    /// The text may be several statements, each cut once those before it have run.
    pub takes_several: bool,
    /// The settings above may be others: nothing tells of their changes any more.
    pub is_unsure: bool,
}

/// The kind of a statement, by its first words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing but blank space, comments and semicolons.
    #[default]
    Empty,
    /// SELECT, TABLE, VALUES, also in parentheses or after WITH.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// REPLACE.
    Replace,
    /// Any SET.
    Set,
    /// USE.
    Use,
    /// SHOW or HELP.
    Show,
    /// EXPLAIN, DESCRIBE, DESC.
    Explain,
    /// BEGIN or START TRANSACTION.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK of the whole transaction.
    Rollback,
    /// SAVEPOINT, RELEASE SAVEPOINT, ROLLBACK TO.
    Savepoint,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// CREATE, ALTER, DROP, TRUNCATE, RENAME, GRANT, REVOKE, ANALYZE, OPTIMIZE, REPAIR.
    Ddl,
    /// LOCK.
    Lock,
    /// UNLOCK.
    Unlock,
    /// PREPARE.
    Prepare,
    /// EXECUTE.
    Execute,
    /// DEALLOCATE PREPARE, DROP PREPARE.
    Deallocate,
    /// KILL.
    Kill,
    /// LOAD.
    Load,
    /// HANDLER.
    Handler,
    /// XA.
    Xa,
    /// FLUSH.
    Flush,
    /// Anything else.
    Other,
}

/// A set of [`Traits`] flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal,)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            const NAMES: &[(&'static str, Self)] = &[$((stringify!($name), Self::$name),)*];
        }
    };
}

flags! {
    /// A user variable, `@x`.
    USER_VARIABLE = 0,
    /// A user variable is, or may be, assigned.
    ASSIGNS_USER_VARIABLE = 1,
    /// CREATE [OR REPLACE] TEMPORARY.
    TEMPORARY_TABLE = 2,
    /// GET_LOCK(), RELEASE_LOCK() and their kind.
    NAMED_LOCK = 3,
    /// LOCK TABLES, LOCK INSTANCE, FLUSH … WITH READ LOCK or FOR EXPORT, BACKUP.
    LOCK_TABLES = 4,
    /// UNLOCK.
    UNLOCK = 5,
    /// HANDLER.
    HANDLER = 6,
    /// PREPARE, EXECUTE, DEALLOCATE as text.
    TEXT_PREPARE = 7,
    /// SET TRANSACTION without a scope: for the next transaction only.
    SET_TRANSACTION = 8,
    /// SET ROLE.
    SET_ROLE = 9,
    /// SET STATEMENT … FOR (MariaDB): holds for this statement alone.
    SET_STATEMENT = 10,
    /// A SET that names a session tracker.
    SETS_TRACKERS = 11,
    /// `LAST_INSERT_ID()`.
    READS_LAST_INSERT_ID = 12,
    /// `LAST_INSERT_ID(expression)`, INSERT and REPLACE that answer with rows.
    SETS_LAST_INSERT_ID = 13,
    /// `FOUND_ROWS()`.
    READS_FOUND_ROWS = 14,
    /// `ROW_COUNT()`.
    READS_ROW_COUNT = 15,
    /// SHOW WARNINGS, SHOW ERRORS, GET DIAGNOSTICS, `@@warning_count`, `@@error_count`.
    READS_DIAGNOSTICS = 16,
    /// `@@identity`, `@@last_insert_id`.
    READS_IDENTITY = 17,
    /// NEXTVAL, which takes from a sequence, and LASTVAL, which says what this session last took: by
    /// any of their names.
    SEQUENCE_STATE = 18,
    /// `SHOW [SESSION] STATUS`, `SHOW PROFILE`, profiling: figures of this very connection.
    SESSION_STATUS = 19,
    /// `CONNECTION_ID()`, `@@pseudo_thread_id`.
    CONNECTION_ID = 20,
    /// CALL, or a compound statement, whose effects are not visible here.
    CALL = 21,
    /// XA.
    XA = 22,
    /// More than one statement.
    MULTI = 23,
    /// A SET that names a variable no other connection can be given, such as sql_log_bin.
    SETS_UNMOVABLE = 25,
    /// Servers may disagree on where the words are: assume anything.
    UNCERTAIN = 26,
    /// A SET that names `@@x` without a scope: servers do not report what it sets.
    SETS_UNSCOPED = 27,
    /// A SET of several items: some of what these set is not reported.
    SETS_LIST = 28,
}

impl Flags {
    /// No flag.
    pub const EMPTY: Self = Self(0);

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no flag is set: the usual statement.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = Self::NAMES.iter().filter(|(_, flag)| self.has(*flag));
        f.debug_set().entries(set.map(|(name, _)| name)).finish()
    }
}

/// What FOUND_ROWS() is after a statement that succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FoundRows {
    /// What it was before.
    #[default]
    Kept,
    /// The number of rows sent.
    Sent,
    /// Another value that it sets.
    Counted,
    /// Kept or set: only the server knows.
    Unclear,
}

impl FoundRows {
    /// Both of two statements, the first of which gives `self`.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Kept, Self::Kept) => Self::Kept,
            (Self::Kept | Self::Unclear, Self::Kept | Self::Unclear) => Self::Unclear,
            // Whose rows were sent last is not followed.
            _ => Self::Counted,
        }
    }
}

/// What a statement's text says about its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// The kind of the first statement.
    pub kind: Kind,
    /// Flags of all statements together.
    pub flags: Flags,
    /// Whether no statement writes, locks or leaves anything in its session, as far as its words
    /// say: a stored function may still do all of that.
    pub is_read_only: bool,
    /// What becomes of FOUND_ROWS().
    pub found_rows: FoundRows,
    /// Whether it is worth asking [`refusal`].
    pub may_be_refused: bool,
}

/// A scan under way, for a statement that arrives in pieces. Allocates nothing.
#[derive(Clone, Debug)]
pub struct Scan {
    lexer: Lexer,
    grammar: Grammar,
}

impl Scan {
    /// Before the first byte.
    pub fn new(mode: LexMode) -> Self {
        Self {
            lexer: Lexer::new(mode),
            grammar: Grammar::default(),
        }
    }

    /// Takes the next piece of the text, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lexer.feed(bytes, &mut self.grammar);
    }

    /// The text is complete.
    pub fn finish(mut self) -> Traits {
        self.lexer.finish(&mut self.grammar);
        self.grammar.traits(&self.lexer)
    }
}

/// Scans a whole text.
pub fn scan(sql: &[u8], mode: LexMode) -> Traits {
    // Not by way of a `Scan`, which would be copied.
    let (mut lexer, mut grammar) = (Lexer::new(mode), Grammar::default());
    lexer.feed(sql, &mut grammar);
    lexer.finish(&mut grammar);
    let traits = grammar.traits(&lexer);
    let is_in_passing = traits.flags.has(Flags::SET_STATEMENT);
    match is_in_passing || mode.is_unsure || mode.takes_several && traits.flags.has(Flags::MULTI) {
        true => look_again(sql, mode, traits),
        false => traits,
    }
}

/// What a text is that servers may read otherwise.
#[cold]
fn look_again(sql: &[u8], mode: LexMode, mut traits: Traits) -> Traits {
    if reread::cut_otherwise(sql, mode).is_some() {
        traits.flags.add(Flags::UNCERTAIN);
        traits.is_read_only = false;
        traits.may_be_refused = true;
    }
    if traits.flags.has(Flags::SET_STATEMENT) && has_glued_number(sql) {
        traits.flags.add(Flags::UNCERTAIN);
    }
    traits
}

/// Whether a number has letters at its end: servers take `1e1for` for two words, the second of which may be
/// that behind which a statement begins.
fn has_glued_number(sql: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    sql.split(|byte| !is_part(byte)).any(|word| {
        word.first().is_some_and(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type F = Flags;

    type Case = (&'static str, Kind, &'static [Flags], bool);

    fn union(flags: &[Flags]) -> Flags {
        flags.iter().fold(F::EMPTY, |all, flag| all.and(*flag))
    }

    fn check_in(mode: LexMode, sql: &[u8], kind: Kind, flags: &[Flags], is_read_only: bool) {
        let expect = Traits {
            kind,
            flags: union(flags),
            is_read_only,
            found_rows: scan(sql, mode).found_rows,
            may_be_refused: scan(sql, mode).may_be_refused,
        };
        let name = String::from_utf8_lossy(sql);
        assert_eq!(scan(sql, mode), expect, "{name}");
        for cut in 0..=sql.len() {
            let mut scan = Scan::new(mode);
            scan.feed(&sql[..cut]);
            scan.feed(&sql[cut..]);
            assert_eq!(scan.finish(), expect, "cut at {cut}: {name}");
        }
        let mut bytewise = Scan::new(mode);
        for byte in sql {
            bytewise.feed(std::slice::from_ref(byte));
        }
        assert_eq!(bytewise.finish(), expect, "byte by byte: {name}");
    }

    fn check(cases: &[Case]) {
        for (sql, kind, flags, is_read_only) in cases {
            check_in(
                LexMode::default(),
                sql.as_bytes(),
                *kind,
                flags,
                *is_read_only,
            );
            let upper = sql.to_ascii_uppercase();
            check_in(
                LexMode::default(),
                upper.as_bytes(),
                *kind,
                flags,
                *is_read_only,
            );
        }
    }

    #[test]
    fn kinds_by_first_words() {
        check(&[
            ("", Kind::Empty, &[], true),
            (" ; /* nothing */ -- at all\n;#", Kind::Empty, &[], true),
            ("select 1", Kind::Select, &[], true),
            (
                "/* why */ (select 1) union (select 2)",
                Kind::Select,
                &[],
                true,
            ),
            (
                "with a as (select 1) select * from a",
                Kind::Select,
                &[],
                true,
            ),
            (
                "with a as (select 1) delete from t",
                Kind::Delete,
                &[],
                false,
            ),
            ("table t", Kind::Select, &[], true),
            ("values row(1)", Kind::Select, &[], true),
            ("select 1 from t for update", Kind::Select, &[], false),
            ("select 1 from t for share", Kind::Select, &[], false),
            (
                "select 1 from t lock in share mode",
                Kind::Select,
                &[],
                false,
            ),
            ("select 1 into outfile 'x'", Kind::Select, &[], false),
            ("insert into t values (1)", Kind::Insert, &[], false),
            ("update t set a = 1", Kind::Update, &[], false),
            ("delete from t", Kind::Delete, &[], false),
            ("replace into t values (1)", Kind::Replace, &[], false),
            ("set names utf8mb4", Kind::Set, &[], false),
            ("set session transaction read only", Kind::Set, &[], false),
            ("use db", Kind::Use, &[], false),
            ("show tables", Kind::Show, &[], true),
            ("show table status", Kind::Show, &[], true),
            ("show global status", Kind::Show, &[], true),
            ("show engine innodb status", Kind::Show, &[], true),
            ("explain select 1", Kind::Explain, &[], true),
            ("explain analyze select 1", Kind::Explain, &[], false),
            ("desc t", Kind::Explain, &[], true),
            ("begin", Kind::Begin, &[], false),
            ("begin work", Kind::Begin, &[], false),
            ("start transaction read only", Kind::Begin, &[], false),
            ("start replica", Kind::Other, &[], false),
            ("commit", Kind::Commit, &[], false),
            ("rollback", Kind::Rollback, &[], false),
            ("rollback to savepoint a", Kind::Savepoint, &[], false),
            ("savepoint a", Kind::Savepoint, &[], false),
            ("do sleep(1)", Kind::Do, &[], false),
            ("create table t (a int)", Kind::Ddl, &[], false),
            ("truncate t", Kind::Ddl, &[], false),
            ("load data infile 'x' into table t", Kind::Load, &[], false),
            ("flush privileges", Kind::Flush, &[], false),
            ("kill 5", Kind::Kill, &[], false),
            ("purge binary logs", Kind::Other, &[], false),
        ]);
    }

    const KEEPING: &[Case] = &[
        ("select @a", Kind::Select, &[F::USER_VARIABLE], true),
        ("select @`a b`", Kind::Select, &[F::USER_VARIABLE], true),
        ("select@a", Kind::Select, &[F::USER_VARIABLE], true),
        ("select @@version", Kind::Select, &[], true),
        (
            "select @a := 1",
            Kind::Select,
            &[F::USER_VARIABLE, F::ASSIGNS_USER_VARIABLE],
            false,
        ),
        (
            "select @a:=@a+1 from t",
            Kind::Select,
            &[F::USER_VARIABLE, F::ASSIGNS_USER_VARIABLE],
            false,
        ),
        (
            "select a into @b from t",
            Kind::Select,
            &[F::USER_VARIABLE, F::ASSIGNS_USER_VARIABLE],
            false,
        ),
        (
            "set @a = 1",
            Kind::Set,
            &[F::USER_VARIABLE, F::ASSIGNS_USER_VARIABLE],
            false,
        ),
        (
            "call p(@a)",
            Kind::Call,
            &[F::CALL, F::USER_VARIABLE, F::ASSIGNS_USER_VARIABLE],
            false,
        ),
        ("create user 'a'@'b'", Kind::Ddl, &[], false),
        (
            "create definer=`a`@`b` view v as select 1",
            Kind::Ddl,
            &[],
            false,
        ),
        (
            "create temporary table t (a int)",
            Kind::Ddl,
            &[F::TEMPORARY_TABLE],
            false,
        ),
        (
            "create or replace temporary table t (a int)",
            Kind::Ddl,
            &[F::TEMPORARY_TABLE],
            false,
        ),
        (
            "create/**/ temporary sequence s",
            Kind::Ddl,
            &[F::TEMPORARY_TABLE],
            false,
        ),
        (
            "select get_lock('a', 1)",
            Kind::Select,
            &[F::NAMED_LOCK],
            false,
        ),
        (
            "select `get_lock`('a', 1)",
            Kind::Select,
            &[F::NAMED_LOCK],
            false,
        ),
        ("do release_all_locks ()", Kind::Do, &[F::NAMED_LOCK], false),
        (
            "select is_free_lock('a')",
            Kind::Select,
            &[F::NAMED_LOCK],
            false,
        ),
        ("select get_lock from t", Kind::Select, &[], true),
        ("lock tables t read", Kind::Lock, &[F::LOCK_TABLES], false),
        (
            "lock instance for backup",
            Kind::Lock,
            &[F::LOCK_TABLES],
            false,
        ),
        (
            "flush tables with read lock",
            Kind::Flush,
            &[F::LOCK_TABLES],
            false,
        ),
        (
            "flush tables t for export",
            Kind::Flush,
            &[F::LOCK_TABLES],
            false,
        ),
        ("backup stage start", Kind::Other, &[F::LOCK_TABLES], false),
        ("unlock tables", Kind::Unlock, &[F::UNLOCK], false),
        ("handler t open", Kind::Handler, &[F::HANDLER], false),
        (
            "prepare s from 'select 1'",
            Kind::Prepare,
            &[F::TEXT_PREPARE],
            false,
        ),
        (
            "prepare s from @a",
            Kind::Prepare,
            &[F::TEXT_PREPARE, F::USER_VARIABLE],
            false,
        ),
        (
            "execute s using @a",
            Kind::Execute,
            &[F::TEXT_PREPARE, F::USER_VARIABLE],
            false,
        ),
        (
            "execute immediate 'x'",
            Kind::Execute,
            &[F::TEXT_PREPARE, F::CALL],
            false,
        ),
        (
            "deallocate prepare s",
            Kind::Deallocate,
            &[F::TEXT_PREPARE],
            false,
        ),
        (
            "drop prepare s",
            Kind::Deallocate,
            &[F::TEXT_PREPARE],
            false,
        ),
        ("set role r", Kind::Set, &[F::SET_ROLE], false),
        ("set resource group r", Kind::Set, &[F::SET_ROLE], false),
        (
            "SET /* */ RESOURCE GROUP r FOR 5",
            Kind::Set,
            &[F::SET_ROLE],
            false,
        ),
        (
            "set statement max_statement_time=1 for set transaction read only",
            Kind::Set,
            &[F::SET_STATEMENT, F::SET_TRANSACTION],
            false,
        ),
        (
            "set statement max_statement_time=1 for create temporary table t (a int)",
            Kind::Set,
            &[F::SET_STATEMENT, F::TEMPORARY_TABLE],
            false,
        ),
        (
            "set statement max_statement_time=substring('123' from 1 for 2) for lock tables t read",
            Kind::Set,
            &[F::SET_STATEMENT, F::LOCK_TABLES],
            false,
        ),
        (
            "set statement max_statement_time=1 for set sql_notes=0",
            Kind::Set,
            &[F::SET_STATEMENT, F::SETS_UNMOVABLE],
            false,
        ),
        (
            "set statement max_statement_time=1 for select 1",
            Kind::Set,
            &[F::SET_STATEMENT],
            false,
        ),
        ("xa start 'a'", Kind::Xa, &[F::XA], false),
        ("begin not atomic select 1", Kind::Other, &[F::CALL], false),
        (
            "l: begin not atomic select 1",
            Kind::Other,
            &[F::CALL],
            false,
        ),
        ("if 1 then select 1", Kind::Other, &[F::CALL], false),
        (
            "set sql_log_bin = 0",
            Kind::Set,
            &[F::SETS_UNMOVABLE],
            false,
        ),
        (
            "set @@session.`gtid_next` = 'x'",
            Kind::Set,
            &[F::SETS_UNMOVABLE],
            false,
        ),
        (
            "set timestamp = 1, names utf8",
            Kind::Set,
            &[F::SETS_UNMOVABLE, F::SETS_LIST],
            false,
        ),
        ("select timestamp from t", Kind::Select, &[], true),
    ];

    #[test]
    fn what_keeps_a_connection() {
        check(KEEPING);
    }

    #[test]
    fn next_transaction_only() {
        check(&[
            (
                "set transaction read only",
                Kind::Set,
                &[F::SET_TRANSACTION],
                false,
            ),
            ("set session transaction read only", Kind::Set, &[], false),
            ("set global transaction read only", Kind::Set, &[], false),
            ("set transaction_isolation = 'x'", Kind::Set, &[], false),
            ("set @@session.tx_isolation = 'x'", Kind::Set, &[], false),
            (
                "set @@transaction_isolation = 'x'",
                Kind::Set,
                &[F::SET_TRANSACTION],
                false,
            ),
            (
                "set a = 1, @@tx_read_only = 1",
                Kind::Set,
                &[F::SET_TRANSACTION, F::SETS_LIST],
                false,
            ),
            ("select @@transaction_isolation", Kind::Select, &[], true),
        ]);
    }

    const READING: &[Case] = &[
        (
            "select last_insert_id()",
            Kind::Select,
            &[F::READS_LAST_INSERT_ID],
            true,
        ),
        (
            "select last_insert_id /**/ ( )",
            Kind::Select,
            &[F::READS_LAST_INSERT_ID],
            true,
        ),
        (
            "insert into t values (last_insert_id())",
            Kind::Insert,
            &[F::READS_LAST_INSERT_ID],
            false,
        ),
        (
            "update t set a = last_insert_id(a + 1)",
            Kind::Update,
            &[F::SETS_LAST_INSERT_ID],
            false,
        ),
        (
            "select last_insert_id(last_insert_id() + 1)",
            Kind::Select,
            &[F::SETS_LAST_INSERT_ID, F::READS_LAST_INSERT_ID],
            false,
        ),
        (
            "insert into t values (1) returning a",
            Kind::Insert,
            &[F::SETS_LAST_INSERT_ID],
            false,
        ),
        (
            "replace into t select 1 returning a",
            Kind::Replace,
            &[F::SETS_LAST_INSERT_ID],
            false,
        ),
        ("delete from t returning a", Kind::Delete, &[], false),
        (
            "analyze format=json insert into t values (1)",
            Kind::Ddl,
            &[F::SETS_LAST_INSERT_ID],
            false,
        ),
        ("analyze table t", Kind::Ddl, &[], false),
        (
            "select next value for s",
            Kind::Select,
            &[F::SEQUENCE_STATE],
            false,
        ),
        (
            "select nextval(s)",
            Kind::Select,
            &[F::SEQUENCE_STATE],
            false,
        ),
        (
            "select s.nextval",
            Kind::Select,
            &[F::SEQUENCE_STATE],
            false,
        ),
        (
            "insert into t values (next value for s)",
            Kind::Insert,
            &[F::SEQUENCE_STATE],
            false,
        ),
        (
            "select @@identity",
            Kind::Select,
            &[F::READS_IDENTITY],
            true,
        ),
        (
            "select @@session.last_insert_id",
            Kind::Select,
            &[F::READS_IDENTITY],
            true,
        ),
        (
            "select @@local . `identity`",
            Kind::Select,
            &[F::READS_IDENTITY],
            true,
        ),
        ("select identity from t", Kind::Select, &[], true),
        (
            "select sql_calc_found_rows * from t",
            Kind::Select,
            &[],
            true,
        ),
        (
            "select found_rows()",
            Kind::Select,
            &[F::READS_FOUND_ROWS],
            true,
        ),
        (
            "select row_count()",
            Kind::Select,
            &[F::READS_ROW_COUNT],
            true,
        ),
        (
            "select row_count, found_rows from t",
            Kind::Select,
            &[],
            true,
        ),
        ("show warnings", Kind::Show, &[F::READS_DIAGNOSTICS], true),
        (
            "show count(*) errors",
            Kind::Show,
            &[F::READS_DIAGNOSTICS],
            true,
        ),
        (
            "select @@warning_count, @@error_count",
            Kind::Select,
            &[F::READS_DIAGNOSTICS],
            true,
        ),
        (
            "select @@session.warning_count",
            Kind::Select,
            &[F::READS_DIAGNOSTICS],
            true,
        ),
        (
            "get diagnostics @n = number",
            Kind::Other,
            &[
                F::READS_DIAGNOSTICS,
                F::USER_VARIABLE,
                F::ASSIGNS_USER_VARIABLE,
            ],
            false,
        ),
        (
            "get current diagnostics condition 1 x = y",
            Kind::Other,
            &[F::READS_DIAGNOSTICS],
            false,
        ),
        (
            "show status like 'x'",
            Kind::Show,
            &[F::SESSION_STATUS],
            true,
        ),
        (
            "show session status",
            Kind::Show,
            &[F::SESSION_STATUS],
            true,
        ),
        ("show local status", Kind::Show, &[F::SESSION_STATUS], true),
        (
            "show profile for query 1",
            Kind::Show,
            &[F::SESSION_STATUS],
            true,
        ),
        ("show profiles", Kind::Show, &[F::SESSION_STATUS], true),
        (
            "select @@profiling",
            Kind::Select,
            &[F::SESSION_STATUS],
            true,
        ),
        (
            "select * from information_schema.session_status",
            Kind::Select,
            &[F::SESSION_STATUS],
            true,
        ),
        (
            "select connection_id()",
            Kind::Select,
            &[F::CONNECTION_ID],
            true,
        ),
        (
            "select @@pseudo_thread_id",
            Kind::Select,
            &[F::CONNECTION_ID],
            true,
        ),
        (
            "select lastval(s)",
            Kind::Select,
            &[F::SEQUENCE_STATE],
            true,
        ),
        (
            "select previous value for s",
            Kind::Select,
            &[F::SEQUENCE_STATE],
            true,
        ),
        ("select s.currval", Kind::Select, &[F::SEQUENCE_STATE], true),
    ];

    #[test]
    fn what_reads_the_statement_before_or_the_connection() {
        check(READING);
    }

    /// As seen on MariaDB 10.11.
    #[test]
    fn what_becomes_of_found_rows() {
        use FoundRows::{Counted, Kept, Sent, Unclear};
        for (sql, expect) in [
            ("", Kept),
            ("select 1 from t limit 1", Sent),
            ("(select 1) union (select 2)", Sent),
            ("with a as (select 1) select * from a", Sent),
            ("select (select 1), a from (select 2) b limit 1", Sent),
            ("select 1 union select 2 limit 1", Counted),
            ("(select 1 limit 1) except select 2", Counted),
            ("select sql_calc_found_rows 1 from t limit 1", Counted),
            ("select 1 into outfile 'x'", Counted),
            ("select a from t procedure analyse()", Counted),
            ("values (1), (2)", Unclear),
            ("show tables", Sent),
            ("show full columns from t", Sent),
            ("show global variables like 'x'", Sent),
            ("show warnings limit 5", Kept),
            ("show errors", Kept),
            ("show count(*) warnings", Unclear),
            ("show create table tables", Unclear),
            ("show grants for keys", Unclear),
            ("explain select 1", Unclear),
            ("set names utf8mb4", Kept),
            ("set a = (select 1)", Unclear),
            ("do 1", Kept),
            ("do (select 1)", Unclear),
            ("begin", Kept),
            ("insert into t (a, b) values (1, 2), (3, 4)", Kept),
            ("insert into t (a, b) select 1, 2", Unclear),
            ("insert into t values ((select 1))", Unclear),
            ("create table t as select 1", Unclear),
            ("create table t (a int, b int)", Kept),
            ("update t set a = 1, b = 2 where c = 3 order by d, e", Kept),
            ("update t set a = (select 1)", Unclear),
            ("update t, u set t.a = u.a", Unclear),
            ("update t join u using (a) set t.b = u.b", Unclear),
            ("delete from t where a in (1, 2)", Kept),
            ("delete t from t join u", Unclear),
            ("delete from t using t, u", Unclear),
            ("with a as (select 1) delete from t", Unclear),
            ("call p()", Sent),
            ("commit; set a = 1", Kept),
            ("select 1; select 2", Counted),
            ("commit; select 1", Counted),
            (";; select 1;;", Sent),
            ("select 1; show warnings", Counted),
            ("commit; explain t", Unclear),
            ("select 1; explain t", Counted),
        ] {
            let found_rows = scan(sql.as_bytes(), LexMode::default()).found_rows;
            assert_eq!(found_rows, expect, "{sql}");
        }
    }

    #[test]
    fn comments_and_strings() {
        check(&[
            (
                "select 'get_lock(1, 1) @a ;' , \"@b\" , `@c`",
                Kind::Select,
                &[],
                true,
            ),
            ("select 'it''s @a', '\\' @b'", Kind::Select, &[], true),
            (
                "select 1 -- @a\n + @b",
                Kind::Select,
                &[F::USER_VARIABLE],
                true,
            ),
            ("select 1--@a", Kind::Select, &[F::USER_VARIABLE], true),
            ("select 1 --", Kind::Select, &[], true),
            ("select 1 # @a ; set @b", Kind::Select, &[], true),
            ("select 1 /* @a */ /* ** @b **/", Kind::Select, &[], true),
            ("select 4 /*/ @a */ / 2 * 3", Kind::Select, &[], true),
            (
                "select /*+ max_execution_time(1) */ 1",
                Kind::Select,
                &[],
                true,
            ),
            ("/*!40101 set names utf8 */", Kind::Set, &[], false),
            (
                "/*!50003create temporary table t (a int)*/",
                Kind::Ddl,
                &[F::TEMPORARY_TABLE],
                false,
            ),
            (
                "select 1 /*!50000 , @a */",
                Kind::Select,
                &[F::USER_VARIABLE],
                true,
            ),
            (
                "/*!999999 x */ select get_lock('*', '/')",
                Kind::Other,
                &[F::NAMED_LOCK],
                false,
            ),
            (
                "/*! select /* inner @a */ @b */",
                Kind::Select,
                &[F::USER_VARIABLE],
                true,
            ),
            (
                "select 2 /*!*/ * @b",
                Kind::Select,
                &[F::USER_VARIABLE],
                true,
            ),
        ]);
        // MariaDB's mark is a capital M alone.
        let executed = b"select 1 /*M!100000 , @a */";
        check_in(
            LexMode::default(),
            executed,
            Kind::Select,
            &[F::USER_VARIABLE],
            true,
        );
        let comment = b"select 1 /*m!100000 , @a */ /*M*/";
        check_in(LexMode::default(), comment, Kind::Select, &[], true);
    }

    #[test]
    fn where_servers_may_disagree_anything_is_assumed() {
        const UNCERTAIN: &[Flags] = &[F::UNCERTAIN];
        check(&[
            ("select 'open", Kind::Select, UNCERTAIN, false),
            ("select 'open\\'", Kind::Select, UNCERTAIN, false),
            ("select `open", Kind::Select, UNCERTAIN, false),
            ("select 1 /* open", Kind::Select, UNCERTAIN, false),
            ("select 1 /*! open", Kind::Select, UNCERTAIN, false),
            // A server that skips the comment runs what looks like a string here.
            (
                "select 1 /*!99999 ' */ + 1 -- '",
                Kind::Select,
                UNCERTAIN,
                false,
            ),
            (
                "select 1 /*!99999 ` */ + 1 -- `",
                Kind::Select,
                UNCERTAIN,
                false,
            ),
            (
                "select 1 /*!99999 # */ + 1 \n */",
                Kind::Select,
                UNCERTAIN,
                false,
            ),
        ]);
    }

    #[test]
    fn several_statements() {
        check(&[
            ("select 1;", Kind::Select, &[], true),
            ("select 1; ; -- that is all", Kind::Select, &[], true),
            (";; select 1", Kind::Select, &[], true),
            ("select 1; select 2", Kind::Select, &[F::MULTI], true),
            (
                "select 1; insert into t values (1)",
                Kind::Select,
                &[F::MULTI],
                false,
            ),
            (
                "select 1; set sql_log_bin = 0",
                Kind::Select,
                &[F::MULTI, F::SETS_UNMOVABLE],
                false,
            ),
            (
                "insert into t values (1); select row_count()",
                Kind::Insert,
                &[F::MULTI, F::READS_ROW_COUNT],
                false,
            ),
            ("set a = 1; select timestamp", Kind::Set, &[F::MULTI], false),
        ]);
    }

    #[test]
    fn modes_decide_what_a_quote_is() {
        let ansi = LexMode {
            ansi_quotes: true,
            ..LexMode::default()
        };
        let plain = LexMode {
            no_backslash_escapes: true,
            ..LexMode::default()
        };
        let uv: &[Flags] = &[F::USER_VARIABLE];
        let default = LexMode::default();
        let lock: &[Flags] = &[F::NAMED_LOCK];
        for (mode, sql, flags) in [
            (ansi, &b"select \"get_lock\"('a', 1)"[..], lock),
            (ansi, b"select \"a\\\", @b, \"c\"", uv),
            (plain, b"select '\\', @b, 'c'", uv),
            (default, b"select '\\', @b, 'c'", &[F::UNCERTAIN]),
            (default, b"select \"a\\\", @b, \"c\"", &[F::UNCERTAIN]),
        ] {
            let is_read_only = flags == uv;
            check_in(mode, sql, Kind::Select, flags, is_read_only);
        }
    }

    #[test]
    fn second_bytes_of_characters_are_no_backslashes() {
        let gbk = LexMode {
            cut: Cut::Gbk,
            ..LexMode::default()
        };
        let [sjis, unknown] = [Cut::Sjis, Cut::Unknown].map(|cut| LexMode {
            cut,
            ..LexMode::default()
        });
        let utf8 = LexMode::default();
        let uv: &[Flags] = &[F::USER_VARIABLE];
        for (mode, sql, flags, is_read_only) in [
            // 0x95 0x5C is one character: the string ends behind it.
            (gbk, &b"select '\x95\\', @b, 'c'"[..], uv, true),
            (utf8, b"select '\x95\\', @b, 'c'", &[F::UNCERTAIN], false),
            // 0xB1 stands alone in sjis and begins a character in gbk.
            (gbk, b"select '\xb1\\', @b, 'c'", uv, true),
            (sjis, b"select '\xb1\\', @b, 'c'", &[F::UNCERTAIN], false),
            (sjis, b"select '\xa1\x81\\', @b, 'c'", uv, true),
            (
                unknown,
                b"select '\xb1\\', @b, 'c'",
                &[F::USER_VARIABLE, F::UNCERTAIN],
                false,
            ),
            // 0xBF 0x27 is no character: the quote ends the string.
            (gbk, b"select '\xbf', @b, 'c'", uv, true),
            // 0x95 0x60 inside a quoted identifier.
            (gbk, b"select `\x95``, @b", uv, true),
            // A backslash takes one byte with it, here the first half of a character.
            (gbk, b"select '\\\x95\\', @b, 'c'", &[F::UNCERTAIN], false),
        ] {
            check_in(mode, sql, Kind::Select, flags, is_read_only);
        }
    }

    #[test]
    fn any_bytes_cut_anywhere_give_the_same() {
        use crate::base::prng::Prng;
        let parts: &[&[u8]] = &[
            b"select ",
            b"@",
            b"@@",
            b"a",
            b"'",
            b"\"",
            b"`",
            b"\\",
            b"/*",
            b"*/",
            b"/*!",
            b"/*M!",
            b"-- ",
            b"--",
            b"#",
            b"\n",
            b";",
            b"(",
            b")",
            b"row_count",
            b"last_insert_id",
            b":=",
            b"\x95",
            b"\xb1",
            b"50000",
            b" ",
            b"set ",
            b"*",
            b"/",
            b"session",
            b".",
            b"into ",
        ];
        for seed in 0..3000 {
            let mut prng = Prng::new(seed);
            let mut sql = Vec::new();
            for _ in 0..prng.below(25) {
                let at = usize::try_from(prng.below(parts.len() as u64)).unwrap();
                sql.extend_from_slice(parts[at]);
            }
            let cuts = [
                Cut::Plain,
                Cut::Gbk,
                Cut::Sjis,
                Cut::Big5,
                Cut::Single(Some(0xb1)),
                Cut::Unknown,
            ];
            let mode = LexMode {
                ansi_quotes: prng.below(2) == 0,
                no_backslash_escapes: prng.below(2) == 0,
                cut: cuts[usize::try_from(prng.below(6)).unwrap()],
                ..LexMode::default()
            };
            let whole = scan(&sql, mode);
            let mut pieces = Scan::new(mode);
            let mut rest = &sql[..];
            while !rest.is_empty() {
                let len = usize::try_from(prng.below(rest.len() as u64 + 1)).unwrap();
                pieces.feed(&rest[..len]);
                rest = &rest[len..];
            }
            assert_eq!(
                pieces.finish(),
                whole,
                "seed {seed}: {}",
                sql.escape_ascii()
            );
        }
    }
}
