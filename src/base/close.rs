//! Why a connection or a lease ended: one closed list, used alike in metrics, logs and docs.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a connection or a lease ended. The label is the metric label and the log field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The position in [`CloseReason::ALL`], for arrays of counters.
            pub const fn index(self) -> usize { self as usize }
        }
    };
}

reasons! {
    /// The client said COM_QUIT.
    ClientQuit = "client_quit",
    /// The client closed or reset its connection.
    ClientGone = "client_gone",
    /// The client broke the protocol.
    ClientProtocol = "client_protocol",
    /// The login was not completed in time.
    LoginTimeout = "login_timeout",
    /// Wrong password, unknown user or disabled tenant.
    LoginDenied = "login_denied",
    /// The listener, or the client's tenant, had its maximum of connections.
    AdmissionLimit = "admission_limit",
    /// The client was idle beyond its deadline.
    ClientIdle = "client_idle",
    /// The client was idle for too long while its transaction was open.
    TransactionIdle = "transaction_idle",
    /// A reload has removed the client's user.
    UserRemoved = "user_removed",
    /// The client stopped in the middle of a command.
    ClientStalled = "client_stalled",
    /// The client did not read what was sent to it before the write-stall deadline.
    WriteStall = "write_stall",
    /// The upstream connection was lost.
    UpstreamLost = "upstream_lost",
    /// The upstream broke the protocol, or answered what nobody asked.
    UpstreamProtocol = "upstream_protocol",
    /// The upstream refused our login.
    UpstreamDenied = "upstream_denied",
    /// The upstream could not be reached.
    UpstreamConnect = "upstream_connect",
    /// No upstream connection became free before the deadline.
    PoolWait = "pool_wait",
    /// The statement ran beyond its deadline.
    StatementTimeout = "statement_timeout",
    /// A pooled connection was idle for too long.
    PoolIdle = "pool_idle",
    /// A pooled connection reached its maximum age.
    PoolAge = "pool_age",
    /// A pooled connection gave its permit to another pool or core.
    PoolReclaimed = "pool_reclaimed",
    /// The session state of a leased connection could not be restored.
    StateLost = "state_lost",
    /// The node is draining.
    Drain = "drain",
    /// A task panicked.
    Panic = "panic",
}

/// Why a server does not let an account in. The account alone was refused: others may log in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Until somebody changes something.
    Lasting,
    /// For want of room, until a connection of the account's ends.
    Passing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_indexes_match() {
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            let same = CloseReason::ALL
                .iter()
                .filter(|r| r.label() == reason.label())
                .count();
            assert_eq!(same, 1, "{}", reason.label());
        }
    }
}
