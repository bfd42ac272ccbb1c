//! Why a session keeps its upstream connection between exchanges.

macro_rules! pins {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a session keeps its upstream connection between exchanges.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PinReason { $($(#[$doc])* $name,)* }

        impl PinReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The position in [`PinReason::ALL`], for arrays of counters and bit sets.
            pub const fn index(self) -> usize { self as usize }
        }
    };
}

pins! {
    /// A transaction is open, or the server's status says that one may be.
    Transaction = "transaction",
    /// A user variable was read or assigned.
    UserVariable = "user_variable",
    /// A temporary table may exist.
    TemporaryTable = "temporary_table",
    /// GET_LOCK and its kind.
    NamedLock = "named_lock",
    /// LOCK TABLES, FLUSH TABLES WITH READ LOCK, BACKUP STAGE.
    LockTables = "lock_tables",
    /// A server-side cursor is open.
    Cursor = "cursor",
    /// COM_STMT_SEND_LONG_DATA chunks wait for their execute.
    LongData = "long_data",
    /// A statement whose text is too long to be kept is prepared on the connection.
    LongStatement = "long_statement",
    /// PREPARE … FROM as text.
    TextPrepare = "text_prepare",
    /// SET TRANSACTION for the next transaction only.
    NextTransaction = "next_transaction",
    /// A session variable that cannot be moved was changed.
    Variable = "variable",
    /// HANDLER … OPEN.
    Handler = "handler",
    /// An XA transaction.
    Xa = "xa",
    /// SET ROLE, or a resource group (MySQL): a reset does not undo it.
    Role = "role",
    /// CALL, whose effects on the session are not visible.
    Call = "call",
    /// A statement names a stored program that leaves something in its session.
    StoredProgram = "stored_program",
    /// State of the last statement that a prepared statement reads.
    StatementState = "statement_state",
    /// The server reported a change of session state that nothing explains.
    Unknown = "unknown",
}
