//! The routing table as one core uses it.

use std::rc::Rc;

use super::endpoint::EndpointState;
use super::world::{Replica, World};
use crate::base::ident::{PlacementId, TenantId};
use crate::config::Snapshot;

/// Tenant → placement → endpoint, made from a snapshot.
pub(super) struct Routing {
    placements: Vec<Option<PlacementId>>,
}

impl Routing {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let placements = snapshot
            .tenants
            .iter()
            .map(|tenant| tenant.placement)
            .collect();
        Self { placements }
    }

    /// The placement of a tenant.
    pub(super) fn placement_of(&self, tenant: TenantId) -> Option<PlacementId> {
        *self.placements.get(usize::try_from(tenant.0).ok()?)?
    }

    /// A usable endpoint of a placement.
    pub(super) fn pick(
        &self,
        world: &World,
        replica: &Replica,
        placement: PlacementId,
    ) -> Option<Rc<EndpointState>> {
        let ids = &replica.snapshot.placement(placement)?.endpoints;
        let states = || {
            ids.iter()
                .filter_map(|id| replica.endpoints.get(usize::try_from(id.0).ok()?))
        };
        let usable = states().find(|endpoint| endpoint.is_usable(world.net.now()));
        usable.or_else(|| states().next()).cloned()
    }
}
