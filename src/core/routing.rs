//! The routing table as one core uses it: made from a snapshot, asked with the core's own view of
//! which endpoints can be used and how busy they are.

use std::rc::Rc;

use super::endpoint::EndpointState;
use super::world::{Replica, World};
use crate::base::ident::{EndpointId, PlacementId, TenantId};
use crate::config::{EndpointRole, Snapshot};
use crate::route::{Candidate, Role, RouteTable, Wanted, choose};

/// Tenant → placement → endpoint.
pub(super) struct Routing(RouteTable);

impl Routing {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut builder = RouteTable::builder();
        for placement in &snapshot.placements {
            let ids = placement.endpoints.iter();
            let candidates = ids.filter_map(|id| candidate(snapshot, *id)).collect();
            builder = builder.placement(&placement.name, candidates);
        }
        if let Some(hash) = &snapshot.hash {
            builder = builder.hash(hash.seed, &hash.placements);
        }
        for tenant in &snapshot.tenants {
            builder = builder.tenant(&tenant.name, tenant.placement);
        }
        Self(builder.build())
    }

    /// The placement of a tenant.
    pub(super) fn placement_of(&self, tenant: TenantId) -> Option<PlacementId> {
        self.0.placement_of(tenant)
    }

    /// A primary of a placement: a usable one if there is any, else one to wait for. `None` when the
    /// placement has no primary at all.
    pub(super) fn pick(
        &self,
        world: &World,
        replica: &Replica,
        placement: PlacementId,
    ) -> Option<Rc<EndpointState>> {
        let now = world.net.now();
        let candidates = self.0.endpoints(placement);
        let is_usable = |id| {
            replica
                .endpoint(id)
                .is_some_and(|endpoint| endpoint.is_usable(now))
        };
        let load = |id| {
            replica
                .endpoint(id)
                .map_or(0, |endpoint| endpoint.leased.get())
        };
        let prng = &mut world.prng.borrow_mut();
        let chosen = choose(candidates, Wanted::Primary, is_usable, load, prng)
            .or_else(|| choose(candidates, Wanted::Primary, |_| true, load, prng))?;
        replica.endpoint(chosen).cloned()
    }
}

fn candidate(snapshot: &Snapshot, id: EndpointId) -> Option<Candidate> {
    let endpoint = snapshot.endpoint(id)?;
    let zone = &snapshot.node.zone;
    Some(Candidate {
        id,
        role: match endpoint.role {
            EndpointRole::Primary => Role::Primary,
            EndpointRole::Replica => Role::Replica,
        },
        is_near: !zone.is_empty() && endpoint.zone == *zone,
        weight: endpoint.weight,
    })
}
