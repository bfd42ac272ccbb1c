//! The question for stored programs, and what is kept of its answer.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;

use super::super::own_question::Collect;
use super::super::text::{LexMode, Mention, mentions};
use crate::wire::mysql::value::Value;

/// Asks for kind, name and text of routines, of tables with triggers and of views. Texts that are too long
/// to be looked at are as good as unseen.
///
/// It is asked in whatever state a connection is: the LIMIT holds against `sql_select_limit`, the bytes
/// against `character_set_results`, LENGTH against a mode in which `''` is NULL.
pub const QUESTION: &[u8] = b"SELECT IF(ROUTINE_TYPE = 'PROCEDURE', 'p', 'f'), \
    CAST(CONVERT(ROUTINE_NAME USING utf8mb4) AS BINARY), \
    IF(LENGTH(ROUTINE_DEFINITION) > 60000, NULL, CAST(CONVERT(ROUTINE_DEFINITION USING utf8mb4) AS BINARY)) \
    FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN ('sys', 'mysql') \
    UNION ALL SELECT 't', CAST(CONVERT(EVENT_OBJECT_TABLE USING utf8mb4) AS BINARY), \
    IF(LENGTH(ACTION_STATEMENT) > 60000, NULL, CAST(CONVERT(ACTION_STATEMENT USING utf8mb4) AS BINARY)) \
    FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN ('sys', 'mysql') \
    UNION ALL SELECT 'v', CAST(CONVERT(TABLE_NAME USING utf8mb4) AS BINARY), \
    IF(LENGTH(VIEW_DEFINITION) BETWEEN 1 AND 60000, CAST(CONVERT(VIEW_DEFINITION USING utf8mb4) AS BINARY), NULL) \
    FROM information_schema.VIEWS WHERE TABLE_SCHEMA NOT IN ('sys', 'mysql') \
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
}

impl Program {
    fn read(kind: Kind, name: &[u8], text: Option<&[u8]>) -> Self {
        let mut program = Self {
            kind,
            name: name.to_ascii_lowercase(),
            words: Words::default(),
            is_stateful: text.is_none() && kind != Kind::View,
            is_unseen_view: text.is_none() && kind == Kind::View,
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
                        multibyte_unsafe: false,
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
                self.words.insert(word.to_vec());
            }
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
    kept: usize,
    refused: Option<u16>,
}

impl Listed {
    /// Whether there is more than may be kept.
    pub(super) fn overflows(&self) -> bool {
        self.kept > KEPT_MAX
    }

    /// Whether the server has such tables and did not tell.
    pub(super) fn is_withheld(&self) -> bool {
        self.refused.is_some_and(|errno| !ABSENT.contains(&errno))
    }

    fn keep(&mut self, mut program: Program) {
        if program.is_stateful || self.kept > KEPT_MAX / 2 {
            program.is_stateful = true;
            program.words = Words::default();
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
        let [Value::Bytes(kind), Value::Bytes(name), text] = *values else {
            return;
        };
        let kind = match kind {
            b"p" => Kind::Procedure,
            b"f" => Kind::Function,
            b"t" => Kind::Trigger,
            b"v" => Kind::View,
            _ => return,
        };
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
