//! The words of SQL that say something about the session.

use super::words::Table;

macro_rules! keywords {
    ($($name:ident = $text:literal,)*) => {
        /// A word that the scanner knows; `Other` is any other word or number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Keyword { Other, $($name,)* }

        /// Every known word in upper case, in alphabetical order.
        const TEXTS: &[&[u8]] = &[$($text,)*];

        /// What they are, in the same order.
        const KEYWORDS: &[Keyword] = &[$(Keyword::$name,)*];
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

static TABLE: Table = Table::new(TEXTS);

/// The known word that `word` is, in any case.
pub(super) fn lookup(word: &[u8]) -> Keyword {
    if word.first().is_some_and(u8::is_ascii_digit) {
        return Keyword::Other;
    }
    let number = TABLE.find(word, |byte| byte.to_ascii_uppercase());
    let keyword = number.and_then(|number| KEYWORDS.get(number));
    keyword.copied().unwrap_or(Keyword::Other)
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
        for (text, keyword) in TEXTS.iter().zip(KEYWORDS) {
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
