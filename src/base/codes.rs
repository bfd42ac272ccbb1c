//! The code policy: what a client is told for each thing that can go wrong, and whether its
//! connection is kept. One table for protocol sessions, drivers, docs and metrics.
//!
//! Numbers are the servers' own wherever one fits (MySQL "Server Error Message Reference"). None is
//! in 2000–2999 or 5000–5999: clients take those for their own errors, and MariaDB calls such a
//! packet malformed. SQLSTATE class 08 makes client pools drop the connection, so it stands only
//! where that is wanted.

/// What an event means on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The error number.
    pub errno: u16,
    /// The SQLSTATE.
    pub sqlstate: [u8; 5],
    /// A stable word for logs and for people who search.
    pub reason: &'static str,
    /// What is said, before any detail.
    pub text: &'static str,
    /// Whether the client's connection is kept.
    pub keep: bool,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $errno:literal $state:literal $reason:literal $keep:ident $text:literal;)*) => {
        /// Something that goes wrong and that a MySQL client is told of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// Every event, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        /// The table's row for `event`.
        pub const fn code(event: Event) -> Code {
            match event {
                $(Event::$name => Code {
                    errno: $errno,
                    sqlstate: *$state,
                    reason: $reason,
                    text: $text,
                    keep: matches!(stringify!($keep).as_bytes(), b"keep"),
                },)*
            }
        }
    };
}

events! {
    /// The listener's connection limit, or the node's file descriptors, are used up.
    TooManyConnections = 1040 b"08004" "admission_limit" close "Too many connections";
    /// A tenant's connection limit is reached.
    TenantLimit = 1203 b"42000" "tenant_limit" close "The tenant has its maximum of connections already";
    /// The login packet cannot be read, or wants what is not offered.
    BadHandshake = 1043 b"08S01" "bad_handshake" close "Bad handshake";
    /// The login was not completed in time.
    LoginTimeout = 1159 b"08S01" "login_timeout" close "Got timeout reading communication packets";
    /// The command's framing is broken by a wrong sequence id.
    OutOfOrder = 1156 b"08S01" "out_of_order" close "Got packets out of order";
    /// The client stopped in the middle of a command.
    CommandStalled = 1159 b"08S01" "command_stalled" close "Got timeout reading communication packets";
    /// The command is longer than any server accepts.
    TooLarge = 1153 b"08S01" "too_large" close "Got a packet bigger than 'max_allowed_packet' bytes";
    /// The command's body does not fit its kind; the framing is intact.
    MalformedCommand = 1835 b"HY000" "malformed" keep "Malformed communication packet";
    /// The command is none that the gateway carries.
    UnknownCommand = 1047 b"08S01" "unknown_command" keep "Unknown command";
    /// COM_QUERY without a statement.
    EmptyQuery = 1065 b"42000" "empty_query" keep "Query was empty";
    /// No such prepared statement.
    UnknownStatement = 1243 b"HY000" "unknown_statement" keep "Unknown prepared statement handler given to the command";
    /// COM_STMT_FETCH of a prepared statement that has no open cursor.
    NoCursor = 1421 b"HY000" "no_cursor" keep "The statement has no open cursor";
    /// The session has its maximum of prepared statements.
    TooManyStatements = 1461 b"42000" "too_many_statements" keep "Can't create more prepared statements than the session may hold";
    /// COM_STMT_EXECUTE whose parameters are cut short, of unknown types, or of types never sent.
    WrongArguments = 1210 b"HY000" "wrong_arguments" keep "Incorrect arguments to mysqld_stmt_execute";
    /// Diagnostics were moved off their connection and can be shown by SHOW WARNINGS only.
    DiagnosticsMoved = 1235 b"42000" "diagnostics_moved" keep "The last statement's diagnostics are kept for SHOW WARNINGS only";
    /// KILL names a connection by a number that means another one upstream.
    KillRefused = 1235 b"42000" "kill_refused" keep "KILL is not carried through the gateway";
    /// A text so long that nobody looks at its end has no word where somebody looks.
    StatementUnseen = 1235 b"42000" "statement_unseen" keep "The first word of a statement must be within its first 64 KiB";
    /// The statement is about the account that the gateway logs in with for many clients.
    SharedAccount = 1235 b"42000" "shared_account" keep "The account is the gateway's own, which all clients share: it is not changed through the gateway";
    /// What the last statement left was lost with its upstream connection.
    LastStatementLost = 1235 b"42000" "last_statement_lost" keep "What the last statement left was lost with its upstream connection";
    /// A command relies on state that cannot be carried to another connection.
    Unmovable = 1295 b"HY000" "unmovable" keep "The prepared statement cannot be carried over to another connection; prepare it again";
    /// No upstream connection came free before the deadline.
    PoolWait = 3168 b"HY000" "pool_wait" keep "No upstream connection became free in time";
    /// The queue stands, and the statement has waited for longer than is right.
    PoolOverload = 3168 b"HY000" "pool_overload" keep "More statements wait for an upstream connection than are served";
    /// A long command came too slowly for the connection that it had, for which others waited.
    CommandSlow = 3168 b"HY000" "command_slow" keep "The command came too slowly while others waited for a connection";
    /// The waiting queue is full.
    PoolFull = 3168 b"HY000" "pool_full" keep "Too many statements wait for an upstream connection";
    /// No endpoint of the placement can be used.
    NoEndpoint = 3168 b"HY000" "no_endpoint" keep "No healthy endpoint";
    /// The server does not let in the account that the gateway logs in with.
    AccountRefused = 3168 b"HY000" "account_refused" keep "The server refuses the gateway's account";
    /// The upstream was lost after the statement was sent; whether it ran is unknown.
    OutcomeUnknown = 1158 b"08S01" "outcome_unknown" keep "The upstream connection was lost; the statement's outcome unknown";
    /// The upstream was lost inside a transaction, a pinned session or a result.
    SessionLost = 1053 b"08S01" "session_lost" close "The upstream connection was lost, and the session's state with it";
    /// The sql_mode was not known at the login, which told the client otherwise: strings would be misread.
    ModeUntold = 1053 b"08S01" "mode_untold" close "The server has NO_BACKSLASH_ESCAPES, which was not known at the login; connect again";
    /// The statement's deadline passed.
    StatementDeadline = 3024 b"HY000" "statement_deadline" keep "Query execution was interrupted, maximum statement execution time exceeded";
    /// The deadline of a statement that may have written passed while it ran.
    DeadlineUnknown = 1158 b"08S01" "deadline_unknown" keep "The statement took too long and was ended; its outcome unknown";
    /// The client was idle for too long.
    IdleClient = 4031 b"HY000" "idle_client" close "The client was disconnected by the gateway because of inactivity";
    /// The client was idle for too long while its transaction, or something like one, was open.
    TransactionIdle = 4031 b"HY000" "transaction_idle" close "The client was disconnected by the gateway because its transaction was idle for too long; it is rolled back";
    /// A reload has removed the client's user, or moved it to another tenant.
    UserRemoved = 1045 b"28000" "user_removed" close "Access denied: the user is no longer one of this tenant's";
    /// The same, while a statement ran that may have written.
    RemovedUnknown = 1158 b"08S01" "removed_unknown" close "The statement was cut off as its user was removed; its outcome unknown";
    /// The node drains.
    Drain = 1053 b"08S01" "drain" close "Server shutdown in progress";
    /// The node ended while a statement ran that may have written.
    DrainUnknown = 1158 b"08S01" "drain_unknown" close "The statement was cut off by a shutdown; its outcome unknown";
}

/// The message for `event`: the table's text, the detail, the reason word and the id of the client's
/// connection, by which its log lines are found.
pub fn message(event: Event, detail: &str, id: u64) -> String {
    let Code { text, reason, .. } = code(event);
    let colon = if detail.is_empty() { "" } else { ": " };
    format!("{text}{colon}{detail} [ringgate {reason} {id}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the policy, by event: errno, SQLSTATE, keep. Written out a second time on
    /// purpose, so that a changed row is a changed promise.
    #[test]
    fn every_row_is_as_promised() {
        let rows: &[(Event, u16, &[u8; 5], bool)] = &[
            (Event::TooManyConnections, 1040, b"08004", false),
            (Event::TenantLimit, 1203, b"42000", false),
            (Event::BadHandshake, 1043, b"08S01", false),
            (Event::LoginTimeout, 1159, b"08S01", false),
            (Event::OutOfOrder, 1156, b"08S01", false),
            (Event::CommandStalled, 1159, b"08S01", false),
            (Event::TooLarge, 1153, b"08S01", false),
            (Event::MalformedCommand, 1835, b"HY000", true),
            (Event::UnknownCommand, 1047, b"08S01", true),
            (Event::EmptyQuery, 1065, b"42000", true),
            (Event::UnknownStatement, 1243, b"HY000", true),
            (Event::NoCursor, 1421, b"HY000", true),
            (Event::TooManyStatements, 1461, b"42000", true),
            (Event::WrongArguments, 1210, b"HY000", true),
            (Event::DiagnosticsMoved, 1235, b"42000", true),
            (Event::KillRefused, 1235, b"42000", true),
            (Event::StatementUnseen, 1235, b"42000", true),
            (Event::SharedAccount, 1235, b"42000", true),
            (Event::LastStatementLost, 1235, b"42000", true),
            (Event::Unmovable, 1295, b"HY000", true),
            (Event::PoolWait, 3168, b"HY000", true),
            (Event::PoolOverload, 3168, b"HY000", true),
            (Event::CommandSlow, 3168, b"HY000", true),
            (Event::PoolFull, 3168, b"HY000", true),
            (Event::NoEndpoint, 3168, b"HY000", true),
            (Event::AccountRefused, 3168, b"HY000", true),
            (Event::OutcomeUnknown, 1158, b"08S01", true),
            (Event::SessionLost, 1053, b"08S01", false),
            (Event::ModeUntold, 1053, b"08S01", false),
            (Event::StatementDeadline, 3024, b"HY000", true),
            (Event::DeadlineUnknown, 1158, b"08S01", true),
            (Event::IdleClient, 4031, b"HY000", false),
            (Event::TransactionIdle, 4031, b"HY000", false),
            (Event::UserRemoved, 1045, b"28000", false),
            (Event::RemovedUnknown, 1158, b"08S01", false),
            (Event::Drain, 1053, b"08S01", false),
            (Event::DrainUnknown, 1158, b"08S01", false),
        ];
        assert_eq!(rows.len(), Event::ALL.len());
        for &(event, errno, sqlstate, keep) in rows {
            let code = code(event);
            assert_eq!(
                (code.errno, &code.sqlstate, code.keep),
                (errno, sqlstate, keep),
                "{event:?}"
            );
        }
    }

    #[test]
    fn no_number_is_in_the_ranges_of_clients() {
        for event in Event::ALL {
            let errno = code(*event).errno;
            assert!(
                !(2000..3000).contains(&errno) && !(5000..6000).contains(&errno),
                "{event:?}"
            );
        }
    }

    #[test]
    fn messages_carry_detail_reason_and_id() {
        assert_eq!(
            message(Event::PoolWait, "5 waiting", 9),
            "No upstream connection became free in time: 5 waiting [ringgate pool_wait 9]"
        );
        assert!(message(Event::OutcomeUnknown, "", 1).contains("outcome unknown"));
    }
}
