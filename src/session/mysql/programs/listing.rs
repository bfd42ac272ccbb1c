//! The question for stored programs, and what is kept of its answer.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;

use super::super::own_question::Collect;
use super::super::text::{LexMode, Mention, mentions};
use crate::wire::mysql::value::Value;

/// Asks for kind, schema, name and text of routines, of tables with triggers and of views, and which triggers
/// the account is not shown. Texts that are too long to be looked at are as good as unseen.
///
/// It is asked in whatever state a connection is: the LIMIT holds against `sql_select_limit`, the bytes
/// against `character_set_results`, LENGTH against a mode in which `''` is NULL.
///
/// MariaDB loads the triggers of every table that the account may name, and only then looks whether it may see
/// them: the session's count of loads (`Feature_trigger`) before and after tells of how many tables (seen on
/// 10.11). MySQL has no such count and takes the comments for comments.
pub const QUESTION: &[u8] = b"\
    /*M!100000 SELECT _binary's' AS k, _binary'' AS s, CAST(CONVERT(VARIABLE_VALUE USING utf8mb4) AS BINARY) AS n, \
    NULL AS t FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'FEATURE_TRIGGER' UNION ALL */ \
    SELECT _binary't' AS k, CAST(CONVERT(EVENT_OBJECT_SCHEMA USING utf8mb4) AS BINARY) AS s, \
    CAST(CONVERT(EVENT_OBJECT_TABLE USING utf8mb4) AS BINARY) AS n, \
    IF(LENGTH(ACTION_STATEMENT) > 60000, NULL, CAST(CONVERT(ACTION_STATEMENT USING utf8mb4) AS BINARY)) AS t \
    FROM information_schema.TRIGGERS UNION ALL \
    /*M!100000 SELECT _binary's', _binary'', CAST(CONVERT(VARIABLE_VALUE USING utf8mb4) AS BINARY), NULL \
    FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'FEATURE_TRIGGER' UNION ALL */ \
    SELECT IF(ROUTINE_TYPE = 'PROCEDURE', _binary'p', _binary'f'), _binary'', \
    CAST(CONVERT(ROUTINE_NAME USING utf8mb4) AS BINARY), \
    IF(LENGTH(ROUTINE_DEFINITION) > 60000, NULL, CAST(CONVERT(ROUTINE_DEFINITION USING utf8mb4) AS BINARY)) \
    FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN ('sys', 'mysql') UNION ALL \
    SELECT _binary'v', _binary'', CAST(CONVERT(TABLE_NAME USING utf8mb4) AS BINARY), \
    IF(LENGTH(VIEW_DEFINITION) BETWEEN 1 AND 60000, CAST(CONVERT(VIEW_DEFINITION USING utf8mb4) AS BINARY), NULL) \
    FROM information_schema.VIEWS WHERE TABLE_SCHEMA NOT IN ('sys', 'mysql') UNION ALL \
    SELECT _binary'g', _binary'', \
    IF(COUNT(*) > 0 /*!80016 AND NOT @@GLOBAL.partial_revokes */, _binary'1', _binary'0'), NULL \
    FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'TRIGGER' \
    AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''') UNION ALL \
    SELECT _binary'd', _binary'', IF(COUNT(*) = 0, _binary'1', _binary'0'), NULL FROM information_schema.SCHEMATA s \
    WHERE s.SCHEMA_NAME NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys') AND NOT EXISTS \
    (SELECT 1 FROM information_schema.SCHEMA_PRIVILEGES p WHERE p.PRIVILEGE_TYPE = 'TRIGGER' \
    AND p.GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''') \
    AND s.SCHEMA_NAME LIKE p.TABLE_SCHEMA) \
    LIMIT 18446744073709551615";

/// Bytes of names and words that an answer may keep. Of programs beyond a half of it only the name is kept,
/// and they count as stateful; beyond it, everything does.
const KEPT_MAX: usize = 8 * 1024 * 1024;

/// What a kept name or word takes beside its bytes.
const OVERHEAD: usize = 48;

/// What servers say who have no such tables at all: no member of either family, and without programs.
const ABSENT: &[u16] = &[1046, 1049, 1054, 1064, 1109, 1146, 1235, 1305];

/// Words of a text that leave something in its session, or may.
const STATEFUL: &[&str] = &[
    "currval",
    "execute",
    "get_lock",
    "handler",
    "lastval",
    "nextval",
    "next",
    "prepare",
    "previous",
    "release_all_locks",
    "release_lock",
    "role",
    "temporary",
    "transaction",
];

/// Words of a text that may write to tables.
const WRITING: &[&str] = &["delete", "insert", "load", "replace", "update"];

/// A set of names or words in lower case.
pub(super) type Words = HashSet<Vec<u8>, RandomState>;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A procedure: only CALL and other programs run it.
    Procedure,
    /// A function, or a package of functions.
    Function,
    /// A trigger, by the name of its table.
    Trigger,
    View,
}

/// One routine, trigger or view.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) kind: Kind,
    pub(super) name: Vec<u8>,
    pub(super) words: Words,
    pub(super) is_stateful: bool,
    pub(super) is_unseen_view: bool,
    /// It may write to tables, or calls what may.
    pub(super) writes: bool,
    /// Of a view, as servers write it: functions that it calls.
    pub(super) calls: Words,
}

impl Program {
    fn read(kind: Kind, name: &[u8], text: Option<&[u8]>) -> Self {
        let mut program = Self {
            kind,
            name: name.to_ascii_lowercase(),
            words: Words::default(),
            is_stateful: text.is_none() && kind != Kind::View,
            is_unseen_view: text.is_none() && kind == Kind::View,
            writes: false,
            calls: Words::default(),
        };
        let text = text.unwrap_or_default();
        // It is read under the modes of its definition, whatever these were.
        let quotes: &[bool] = if text.contains(&b'"') {
            &[false, true]
        } else {
            &[false]
        };
        let escapes: &[bool] = if text.contains(&b'\\') {
            &[false, true]
        } else {
            &[false]
        };
        for ansi_quotes in quotes {
            for no_backslash_escapes in escapes {
                program.look_at(
                    text,
                    LexMode {
                        ansi_quotes: *ansi_quotes,
                        no_backslash_escapes: *no_backslash_escapes,
                        ..LexMode::default()
                    },
                );
            }
        }
        program
    }

    fn look_at(&mut self, text: &[u8], mode: LexMode) {
        let is_certain = mentions(text, mode, |mention| match mention {
            Mention::Variable => self.is_stateful = true,
            Mention::Word(word) => {
                let known = std::str::from_utf8(word);
                self.is_stateful |= known.is_ok_and(|word| STATEFUL.contains(&word));
                self.writes |= known.is_ok_and(|word| WRITING.contains(&word));
                self.words.insert(word.to_vec());
            }
            Mention::QuotedCall(name) if self.kind == Kind::View => {
                self.calls.insert(name.to_vec());
            }
            Mention::QuotedCall(_) => {}
        });
        self.is_stateful |= !is_certain;
    }

    /// Bytes that it takes.
    fn size(&self) -> usize {
        let words = self
            .words
            .iter()
            .map(|word| word.len().saturating_add(OVERHEAD));
        words.fold(
            self.name.len().saturating_add(OVERHEAD),
            usize::saturating_add,
        )
    }
}

/// What has come of the answer to [`QUESTION`].
#[derive(Debug, Default)]
pub struct Listed {
    pub(super) programs: Vec<Program>,
    /// Hashes of the tables whose triggers are seen.
    tables: HashSet<u64, RandomState>,
    /// The session's count of loads of tables with triggers, before and after.
    loads: Vec<u64>,
    /// All triggers may be seen.
    sees_all: Option<bool>,
    /// Those of each schema that may be seen.
    sees_schemas: bool,
    kept: usize,
    refused: Option<u16>,
}

/// Which triggers an account is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sight {
    /// All there are.
    #[default]
    All,
    /// Those of every table that it may name itself. Programs that run as somebody else may write to others.
    Own,
    /// Not all of these.
    Some,
}

impl Listed {
    /// Whether there is more than may be kept.
    pub(super) fn overflows(&self) -> bool {
        self.kept > KEPT_MAX
    }

    /// Which triggers were shown.
    pub(super) fn sight(&self) -> Sight {
        let seen = u64::try_from(self.tables.len()).unwrap_or_default();
        let sees_own = match self.loads[..] {
            [before, after] => after.saturating_sub(before) <= seen,
            _ => self.sees_schemas,
        };
        match (self.sees_all, sees_own) {
            // Of no server that has them.
            (None | Some(true), _) => Sight::All,
            (Some(false), true) => Sight::Own,
            (Some(false), false) => Sight::Some,
        }
    }

    /// Whether the server has such tables and did not tell.
    pub(super) fn is_withheld(&self) -> bool {
        self.refused.is_some_and(|errno| !ABSENT.contains(&errno))
    }

    /// What the server says beside its programs.
    fn take_fact(&mut self, kind: &[u8], value: &[u8]) {
        match kind {
            b"s" if self.loads.len() < 2 => {
                let count = std::str::from_utf8(value).ok();
                let count = count.and_then(|count| count.parse::<u64>().ok());
                self.loads.extend(count);
            }
            b"g" => self.sees_all = Some(value == b"1"),
            b"d" => self.sees_schemas = value == b"1",
            _ => {}
        }
    }

    /// A table's triggers are seen. Two that have one hash count as one, and so as less than there are.
    fn note_table(&mut self, schema: &[u8], table: &[u8]) {
        let hash = xxhash_rust::xxh3::xxh3_64(&[schema, b"\0", table].concat());
        if !self.overflows() && self.tables.insert(hash) {
            self.kept = self.kept.saturating_add(OVERHEAD);
        }
    }

    fn keep(&mut self, mut program: Program) {
        if program.is_stateful || self.kept > KEPT_MAX / 2 {
            program.is_stateful = true;
            program.words = Words::default();
            program.calls = Words::default();
        }
        self.kept = self.kept.saturating_add(program.size());
        if self.overflows() {
            self.programs = Vec::new();
        } else {
            self.programs.push(program);
        }
    }
}

impl Collect for Listed {
    const ROW_MAX: usize = 128 * 1024;

    fn take_row(&mut self, values: &[Value<'_>]) {
        let [
            Value::Bytes(kind),
            Value::Bytes(schema),
            Value::Bytes(name),
            text,
        ] = *values
        else {
            return;
        };
        let kind = match kind {
            b"p" => Kind::Procedure,
            b"f" => Kind::Function,
            b"t" => Kind::Trigger,
            b"v" => Kind::View,
            _ => return self.take_fact(kind, name),
        };
        if kind == Kind::Trigger {
            self.note_table(schema, name);
            if schema == b"sys" {
                return;
            }
        }
        let text = match text {
            Value::Bytes(text) => Some(text),
            _ => None,
        };
        if !self.overflows() {
            self.keep(Program::read(kind, name, text));
        }
    }

    fn refused(&mut self, errno: u16) {
        self.refused = Some(errno);
    }
}
