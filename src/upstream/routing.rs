//! The routing table as one core uses it: made from a snapshot, asked with the core's own view of
//! which endpoints can be used and how busy they are.

use std::rc::Rc;

use super::endpoint::Endpoint;
use super::protocol::Protocol;
use crate::base::ident::{EndpointIndex, PlacementId, TenantId};
use crate::config::{EndpointRole, Snapshot};
use crate::core::Core;
use crate::route::{Candidate, Role, RouteTable, Wanted, choose};

/// What a lease is to be of. The endpoint is chosen for each lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the data is.
    pub placement: PlacementId,
    /// What the endpoint has to be.
    pub wanted: Wanted,
}

/// Where a configuration has each tenant's data.
pub fn route_table(snapshot: &Snapshot) -> RouteTable {
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
    builder.build()
}

/// Tenant → placement → endpoint.
pub struct Routing<P: Protocol> {
    table: RouteTable,
    /// By their position in the snapshot.
    endpoints: Vec<Rc<Endpoint<P>>>,
}

impl<P: Protocol> Routing<P> {
    pub(super) fn new(snapshot: &Snapshot, endpoints: Vec<Rc<Endpoint<P>>>) -> Self {
        Self {
            table: route_table(snapshot),
            endpoints,
        }
    }

    /// The placement of a tenant.
    pub fn placement_of(&self, tenant: TenantId) -> Option<PlacementId> {
        self.table.placement_of(tenant)
    }

    /// An endpoint for a lease of `target`: a usable one if there is any, else one to wait for. `None`
    /// when the placement has none of that role at all.
    pub fn pick(&self, core: &Core, target: Target) -> Option<Rc<Endpoint<P>>> {
        let now = core.net.now();
        let candidates = self.table.endpoints(target.placement);
        let is_usable = |id| self.endpoint(id).is_some_and(|found| found.is_usable(now));
        let load = |id| self.endpoint(id).map_or(0, |found| found.leased.get());
        let prng = &mut core.prng.borrow_mut();
        let chosen = choose(candidates, target.wanted, is_usable, load, prng)
            .or_else(|| choose(candidates, target.wanted, |_| true, load, prng))?;
        self.endpoint(chosen).cloned()
    }

    fn endpoint(&self, id: EndpointIndex) -> Option<&Rc<Endpoint<P>>> {
        self.endpoints.get(usize::try_from(id.0).ok()?)
    }
}

fn candidate(snapshot: &Snapshot, id: EndpointIndex) -> Option<Candidate> {
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
