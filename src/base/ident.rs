//! Identifiers as types of their own, so that none is taken for another.

use std::sync::Arc;

/// The index of a core (a pinned executor), `0..cores`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// The index of a placement in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacementId(pub u32);

/// An endpoint's position over all placements of one snapshot; in the next one it may be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointIndex(pub u32);

/// What an endpoint is, on every core and in every snapshot: all that outlives a snapshot is known by
/// this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointName {
    /// The placement's name.
    pub placement: Arc<str>,
    /// The address as the configuration names it.
    pub address: Arc<str>,
}

/// The index of a tenant in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);
