//! From a tenant to an endpoint.

use std::hint::black_box;

use ringgate::base::ident::{EndpointIndex, PlacementId, TenantId};
use ringgate::base::prng::Prng;
use ringgate::route::{Candidate, Role, RouteTable, Wanted, choose};

use super::{Case, case};

struct Routing {
    table: RouteTable,
    prng: Prng,
}

/// Ten placements of a primary and two replicas each, a thousand tenants hashed over them.
fn routing() -> Routing {
    let placements: Vec<PlacementId> = (0..10).map(PlacementId).collect();
    let mut builder = RouteTable::builder().hash(1, &placements);
    for placement in 0..10 {
        let endpoints = (0..3).map(|number| Candidate {
            id: EndpointIndex(placement * 3 + number),
            role: if number == 0 {
                Role::Primary
            } else {
                Role::Replica
            },
            is_near: true,
            weight: 100,
        });
        builder = builder.placement(&format!("shard-{placement}"), endpoints.collect());
    }
    for tenant in 0..1000 {
        builder = builder.tenant(&format!("tenant-{tenant}"), None);
    }
    Routing {
        table: builder.build(),
        prng: Prng::new(1),
    }
}

fn routed(routing: &mut Routing, wanted: Wanted) {
    let Routing { table, prng } = routing;
    let placement = table.placement_of(black_box(TenantId(500))).unwrap();
    let endpoints = table.endpoints(placement);
    assert!(choose(endpoints, wanted, |_| true, |id| id.0, prng).is_some());
}

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        case(
            "route to a primary",
            routing(),
            |_| (),
            |s| {
                routed(s, Wanted::Primary);
            },
        ),
        case(
            "route to one of two replicas",
            routing(),
            |_| (),
            |s| {
                routed(s, Wanted::Replica);
            },
        ),
    ]
}
