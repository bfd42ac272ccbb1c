//! Which placement each tenant belongs to, and which endpoints each placement has.

use crate::base::ident::{PlacementId, TenantId};

use super::choice::Candidate;
use super::hash;

/// Tenants' placements and placements' endpoints, decided once for a snapshot.
///
/// A lookup is an index into an array: hashing is done when the table is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    tenants: Vec<Option<PlacementId>>,
    placements: Vec<Vec<Candidate>>,
}

impl RouteTable {
    /// Begins a table without tenants and placements.
    pub fn builder() -> RouteTableBuilder {
        RouteTableBuilder::default()
    }

    /// The placement that holds the tenant's data; `None` for an unknown tenant, or one that has
    /// neither a placement nor a hash to find it by.
    pub fn placement_of(&self, tenant: TenantId) -> Option<PlacementId> {
        *self.tenants.get(usize::try_from(tenant.0).ok()?)?
    }

    /// The endpoints of a placement; none for an unknown one.
    pub fn endpoints(&self, placement: PlacementId) -> &[Candidate] {
        let index = usize::try_from(placement.0).ok();
        index
            .and_then(|index| self.placements.get(index))
            .map_or(&[], Vec::as_slice)
    }
}

/// Takes the parts of a [`RouteTable`], in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct RouteTableBuilder {
    placements: Vec<(String, Vec<Candidate>)>,
    hashed: Vec<PlacementId>,
    seed: u64,
    tenants: Vec<(String, Option<PlacementId>)>,
}

impl RouteTableBuilder {
    /// Adds the next placement.
    pub fn placement(mut self, name: &str, endpoints: Vec<Candidate>) -> Self {
        self.placements.push((name.to_owned(), endpoints));
        self
    }

    /// Tenants without a placement are hashed over `placements` (version 1 of [`hash`]).
    pub fn hash(mut self, seed: u64, placements: &[PlacementId]) -> Self {
        self.seed = seed;
        self.hashed = placements.to_vec();
        self
    }

    /// Adds the next tenant. Its name is the routing key when `placement` is `None`.
    pub fn tenant(mut self, name: &str, placement: Option<PlacementId>) -> Self {
        self.tenants.push((name.to_owned(), placement));
        self
    }

    /// Decides every tenant's placement. Ids of placements that were not added lead nowhere.
    pub fn build(self) -> RouteTable {
        let name_of = |id: &PlacementId| {
            let (name, _) = self.placements.get(usize::try_from(id.0).ok()?)?;
            Some((*id, name.as_str()))
        };
        let hashed: Vec<(PlacementId, &str)> = self.hashed.iter().filter_map(name_of).collect();
        let by_hash = |key: &str| {
            let index = hash::place(
                key.as_bytes(),
                self.seed,
                hashed.iter().map(|(_, name)| *name),
            )?;
            hashed.get(index).map(|(id, _)| *id)
        };
        let tenants = self
            .tenants
            .iter()
            .map(|(name, placement)| match placement {
                Some(id) => name_of(id).map(|(id, _)| id),
                None => by_hash(name),
            });
        RouteTable {
            tenants: tenants.collect(),
            placements: self
                .placements
                .iter()
                .map(|(_, endpoints)| endpoints.clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_placements_win_over_the_hash() {
        let ids = [PlacementId(0), PlacementId(1), PlacementId(2)];
        let mut builder = RouteTable::builder().hash(7, &ids[..2]);
        for name in ["a", "b", "c"] {
            builder = builder.placement(name, Vec::new());
        }
        builder = builder
            .tenant("pinned", Some(PlacementId(2)))
            .tenant("lost", Some(PlacementId(9)));
        for n in 0..100 {
            builder = builder.tenant(&format!("tenant-{n}"), None);
        }
        let table = builder.build();
        assert_eq!(table.placement_of(TenantId(0)), Some(PlacementId(2)));
        assert_eq!(table.placement_of(TenantId(1)), None);
        let held = |id: PlacementId| {
            (2..102)
                .filter(|n| table.placement_of(TenantId(*n)) == Some(id))
                .count()
        };
        assert_eq!(held(PlacementId(0)) + held(PlacementId(1)), 100);
        assert!(held(PlacementId(0)) > 25 && held(PlacementId(1)) > 25);
        assert_eq!(table.placement_of(TenantId(102)), None);
    }

    #[test]
    fn hashing_goes_by_names_whatever_the_ids_are() {
        let build = |names: [&'static str; 3]| {
            let ids = [PlacementId(0), PlacementId(1), PlacementId(2)];
            let builder = names
                .into_iter()
                .fold(RouteTable::builder(), |b, n| b.placement(n, Vec::new()));
            let table = builder.hash(0, &ids).tenant("acme", None).build();
            let id = table.placement_of(TenantId(0)).unwrap();
            names[usize::try_from(id.0).unwrap()]
        };
        assert_eq!(build(["a", "b", "c"]), build(["c", "a", "b"]));
    }

    #[test]
    fn without_a_hash_a_tenant_without_a_placement_has_none() {
        let table = RouteTable::builder()
            .placement("a", Vec::new())
            .tenant("t", None)
            .build();
        assert_eq!(table.placement_of(TenantId(0)), None);
        assert_eq!(table.endpoints(PlacementId(0)), &[]);
        assert_eq!(table.endpoints(PlacementId(1)), &[]);
    }
}
