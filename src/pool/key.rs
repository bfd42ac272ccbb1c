//! What two sessions must have in common before they may use the same upstream connection.

use std::sync::Arc;

/// The identity of a pool beside its core and its endpoint. Two sessions whose keys differ never
/// meet on one connection.
///
/// Names, not indexes: an index means something else after a reload, and a connection outlives
/// reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The tenant's name. Never two tenants on one upstream connection.
    pub tenant: Arc<str>,
    /// The upstream account.
    pub user: Arc<str>,
    /// Changes whenever the upstream credential does, so that connections opened with the old one
    /// are never given to a session that was admitted under the new one.
    pub credential_version: u64,
    /// The capability bits that are fixed at connect and change what a statement means or how its
    /// reply looks: FOUND_ROWS, NO_SCHEMA, MULTI_RESULTS, PS_MULTI_RESULTS and the extended ones (MySQL protocol, "Capabilities Flags"; MariaDB's extended
    /// bits in the upper half). The caller masks out all others.
    pub capabilities: u64,
}

impl Key {
    /// Whether the server takes both for the same account, of the same tenant.
    pub fn has_account_of(&self, other: &Self) -> bool {
        self.tenant == other.tenant
            && self.user == other.user
            && self.credential_version == other.credential_version
    }
}
