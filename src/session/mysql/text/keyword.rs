//! The words of SQL that say something about the session.

macro_rules! keywords {
    ($($name:ident = $text:literal,)*) => {
        /// A word that the scanner knows; `Other` is any other word or number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Keyword { Other, $($name,)* }

        /// Every known word in upper case, in alphabetical order.
        const KEYWORDS: &[(&[u8], Keyword)] = &[$(($text, Keyword::$name),)*];
    };
}

keywords! {
    All = b"ALL", Alter = b"ALTER", Analyze = b"ANALYZE", As = b"AS",
    Backup = b"BACKUP", Begin = b"BEGIN",
    Call = b"CALL", Case = b"CASE", Collation = b"COLLATION", Columns = b"COLUMNS",
    Commit = b"COMMIT", Connection = b"CONNECTION", ConnectionId = b"CONNECTION_ID",
    Create = b"CREATE", Currval = b"CURRVAL",
    Databases = b"DATABASES", Deallocate = b"DEALLOCATE", Debug = b"DEBUG", Declare = b"DECLARE", Delete = b"DELETE",
    Desc = b"DESC", Describe = b"DESCRIBE", Diagnostics = b"DIAGNOSTICS", Distinct = b"DISTINCT",
    Distinctrow = b"DISTINCTROW", Do = b"DO", Drop = b"DROP",
    Engines = b"ENGINES", ErrorCount = b"ERROR_COUNT", Errors = b"ERRORS", Except = b"EXCEPT", Execute = b"EXECUTE",
    Explain = b"EXPLAIN",
    Export = b"EXPORT",
    Fields = b"FIELDS", Flush = b"FLUSH", For = b"FOR", FoundRows = b"FOUND_ROWS", From = b"FROM",
    Get = b"GET", GetLock = b"GET_LOCK", Global = b"GLOBAL", Grant = b"GRANT", Group = b"GROUP",
    GtidDomainId = b"GTID_DOMAIN_ID", GtidNext = b"GTID_NEXT", GtidSeqNo = b"GTID_SEQ_NO",
    Handler = b"HANDLER", Having = b"HAVING", Help = b"HELP",
    HighPriority = b"HIGH_PRIORITY",
    Identity = b"IDENTITY", If = b"IF", Immediate = b"IMMEDIATE", Index = b"INDEX",
    Indexes = b"INDEXES", Insert = b"INSERT",
    InsertId = b"INSERT_ID", Intersect = b"INTERSECT", Into = b"INTO",
    IsFreeLock = b"IS_FREE_LOCK", IsUsedLock = b"IS_USED_LOCK",
    Join = b"JOIN",
    Keys = b"KEYS", Kill = b"KILL",
    LastInsertId = b"LAST_INSERT_ID", Lastval = b"LASTVAL", Limit = b"LIMIT", Load = b"LOAD",
    Local = b"LOCAL", Lock = b"LOCK", Loop = b"LOOP",
    Next = b"NEXT", Nextval = b"NEXTVAL",
    Optimize = b"OPTIMIZE", Order = b"ORDER",
    Password = b"PASSWORD", Plugins = b"PLUGINS",
    Prepare = b"PREPARE", Previous = b"PREVIOUS", Procedure = b"PROCEDURE", Profile = b"PROFILE",
    Profiles = b"PROFILES", Profiling = b"PROFILING",
    ProfilingHistorySize = b"PROFILING_HISTORY_SIZE", PseudoReplicaMode = b"PSEUDO_REPLICA_MODE",
    PseudoSlaveMode = b"PSEUDO_SLAVE_MODE", PseudoThreadId = b"PSEUDO_THREAD_ID",
    Query = b"QUERY",
    RandSeed1 = b"RAND_SEED1", RandSeed2 = b"RAND_SEED2", Read = b"READ", Release = b"RELEASE",
    ReleaseAllLocks = b"RELEASE_ALL_LOCKS", ReleaseLock = b"RELEASE_LOCK", Rename = b"RENAME",
    Repair = b"REPAIR", Repeat = b"REPEAT", Replace = b"REPLACE",
    Resource = b"RESOURCE", Returning = b"RETURNING", Revoke = b"REVOKE",
    Role = b"ROLE", Rollback = b"ROLLBACK", RowCount = b"ROW_COUNT",
    Savepoint = b"SAVEPOINT", Schemas = b"SCHEMAS", Select = b"SELECT", ServerId = b"SERVER_ID", Session = b"SESSION",
    SessionStatus = b"SESSION_STATUS", SessionTrackGtids = b"SESSION_TRACK_GTIDS",
    SessionTrackSchema = b"SESSION_TRACK_SCHEMA",
    SessionTrackStateChange = b"SESSION_TRACK_STATE_CHANGE",
    SessionTrackSystemVariables = b"SESSION_TRACK_SYSTEM_VARIABLES",
    SessionTrackTransactionInfo = b"SESSION_TRACK_TRANSACTION_INFO", Set = b"SET",
    Setval = b"SETVAL", Share = b"SHARE", Show = b"SHOW", SkipReplication = b"SKIP_REPLICATION",
    SqlBigResult = b"SQL_BIG_RESULT", SqlBufferResult = b"SQL_BUFFER_RESULT",
    SqlCache = b"SQL_CACHE", SqlCalcFoundRows = b"SQL_CALC_FOUND_ROWS",
    SqlLogBin = b"SQL_LOG_BIN", SqlLogOff = b"SQL_LOG_OFF", SqlNoCache = b"SQL_NO_CACHE",
    SqlSmallResult = b"SQL_SMALL_RESULT", Start = b"START", Statement = b"STATEMENT",
    Status = b"STATUS", StraightJoin = b"STRAIGHT_JOIN",
    Table = b"TABLE", Tables = b"TABLES", Temporary = b"TEMPORARY", Timestamp = b"TIMESTAMP", To = b"TO",
    Transaction = b"TRANSACTION", TransactionIsolation = b"TRANSACTION_ISOLATION",
    TransactionReadOnly = b"TRANSACTION_READ_ONLY", Triggers = b"TRIGGERS", Truncate = b"TRUNCATE",
    TxIsolation = b"TX_ISOLATION", TxReadOnly = b"TX_READ_ONLY",
    Union = b"UNION", Unlock = b"UNLOCK", Update = b"UPDATE", Use = b"USE", User = b"USER", Using = b"USING",
    Value = b"VALUE", Values = b"VALUES", Variables = b"VARIABLES",
    WarningCount = b"WARNING_COUNT", Warnings = b"WARNINGS", Where = b"WHERE", While = b"WHILE",
    With = b"WITH", Work = b"WORK", WsrepOn = b"WSREP_ON",
    Xa = b"XA",
}

/// No known word is longer.
pub(super) const LEN_MAX: usize = 30;

/// Slots of the hash table: a power of two, at least three times the words, so that most other
/// words meet an empty slot at once.
const SLOTS: usize = 512;

/// What is known of the word in each slot before it is compared. 0, the key of no word, for an empty slot.
static KEYS: [u32; SLOTS] = table().0;

/// The index in [`KEYWORDS`] of the word in each slot.
static NUMBERS: [u8; SLOTS] = table().1;

/// What tells words apart at first sight: the length, the first two bytes and the last, letters in one case.
/// Few known words share one, and few others have that of a known word.
const fn key(len: u8, first: u8, second: u8, last: u8) -> u32 {
    u32::from_le_bytes([len, first | 0x20, second | 0x20, last | 0x20])
}

/// The slot at which the search for a key begins, below [`SLOTS`]. The factor was searched for: with it most
/// known words are in that slot, and none is more than two beyond.
const fn first_slot(key: u32) -> u32 {
    key.wrapping_mul(0x8d64_b3ad) >> 23
}

const fn table() -> ([u32; SLOTS], [u8; SLOTS]) {
    let (mut keys, mut numbers) = ([0; SLOTS], [0; SLOTS]);
    let (mut at, mut number) = (0, 0_u8);
    while at < KEYWORDS.len() {
        let text = KEYWORDS[at].0;
        let (mut len, mut rest) = (0, text.len());
        while rest > 0 {
            (len, rest) = (len + 1, rest - 1);
        }
        let key = key(len, text[0], text[1], text[text.len() - 1]);
        let mut slot = widen(first_slot(key));
        while keys[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        (keys[slot], numbers[slot]) = (key, number);
        at += 1;
        number += 1;
    }
    (keys, numbers)
}

/// A conversion that no trait does in a `const fn`.
const fn widen(slot: u32) -> usize {
    let (mut wide, mut rest) = (0, slot);
    while rest > 0 {
        (wide, rest) = (wide + 1, rest - 1);
    }
    wide
}

/// The known word that `word` is, in any case.
pub(super) fn lookup(word: &[u8]) -> Keyword {
    // No known word is of one byte.
    let ([first, second, ..], Some(last)) = (word, word.last()) else {
        return Keyword::Other;
    };
    let Ok(len) = u8::try_from(word.len()) else {
        return Keyword::Other;
    };
    let wanted = key(len, *first, *second, *last);
    let mut slot = usize::try_from(first_slot(wanted)).unwrap_or_default();
    while let Some(found) = KEYS.get(slot).filter(|key| **key != 0) {
        if *found == wanted
            && let Some(number) = NUMBERS.get(slot)
            && let Some((text, keyword)) = KEYWORDS.get(usize::from(*number))
            && is_in_any_case(word, text)
        {
            return *keyword;
        }
        slot = (slot + 1) % SLOTS;
    }
    Keyword::Other
}

/// Whether a word is `text`, which is in upper case and as long. Byte by byte: for words as short as these
/// that costs less than to compare them by the block.
fn is_in_any_case(word: &[u8], text: &[u8]) -> bool {
    let mut pairs = word.iter().zip(text);
    pairs.all(|(byte, upper)| byte.to_ascii_uppercase() == *upper)
}

impl Keyword {
    /// Session variables that no server reports and no other connection can be given.
    pub(super) fn is_unmovable(self) -> bool {
        use Keyword as K;
        matches!(
            self,
            K::SqlLogBin
                | K::SqlLogOff
                | K::GtidNext
                | K::GtidDomainId
                | K::GtidSeqNo
                | K::ServerId
                | K::SkipReplication
                | K::WsrepOn
                | K::PseudoThreadId
                | K::PseudoSlaveMode
                | K::PseudoReplicaMode
                | K::InsertId
                | K::LastInsertId
                | K::Identity
                | K::Timestamp
                | K::RandSeed1
                | K::RandSeed2
                | K::Profiling
                | K::ProfilingHistorySize
                | K::Debug
        )
    }

    /// What a server tells of session state, which the gateway relies on.
    pub(super) fn is_tracker(self) -> bool {
        use Keyword as K;
        matches!(
            self,
            K::SessionTrackGtids
                | K::SessionTrackSchema
                | K::SessionTrackStateChange
                | K::SessionTrackSystemVariables
                | K::SessionTrackTransactionInfo
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case_and_no_other_is() {
        let empty = KEYS.iter().filter(|key| **key == 0).count();
        assert_eq!(empty, SLOTS - KEYWORDS.len());
        for (text, keyword) in KEYWORDS {
            assert_eq!(lookup(text), *keyword);
            assert_eq!(lookup(&text.to_ascii_lowercase()), *keyword);
            assert_ne!(lookup(&text[..text.len() - 1]), *keyword);
            assert!(text.len() <= LEN_MAX);
        }
        for other in [
            "",
            "selec",
            "selects",
            "1",
            "_",
            "\u{e9}",
            "users",
            "ROW-COUNT",
            // Of the same key as a known one: LOOP, GET_LOCK, SELECT, LOCAL.
            "LOXP",
            "GET\x7fLOCK",
            "SE\x0cECT",
            "LO\u{e9}L",
        ] {
            assert_eq!(lookup(other.as_bytes()), Keyword::Other, "{other}");
        }
    }
}
