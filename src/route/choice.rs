//! The choice of one endpoint of a placement.

use crate::base::ident::EndpointIndex;
use crate::base::prng::Prng;

/// What an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and writes.
    Primary,
    /// Reads.
    Replica,
}

/// What the statement needs of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A primary and nothing else.
    Primary,
    /// A replica; a primary when no replica is usable.
    Replica,
}

/// An endpoint as the choice sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which endpoint this is.
    pub id: EndpointIndex,
    /// What it may be asked.
    pub role: Role,
    /// Whether it stands in this node's zone.
    pub is_near: bool,
    /// Its share of the load among equals; 0 takes it out of the choice.
    pub weight: u16,
}

/// Chooses an endpoint: of the wanted role, usable, near if one is; of these the less loaded of two
/// picks at random by weight (Mitzenmacher, "The power of two choices", 2001).
///
/// `is_usable` tells of health and back-off, `load` of work in progress in any unit; the load counts per
/// weight. `None` when nothing of the role is usable. Allocates nothing.
pub fn choose(
    candidates: &[Candidate],
    wanted: Wanted,
    is_usable: impl Fn(EndpointIndex) -> bool,
    load: impl Fn(EndpointIndex) -> u32,
    prng: &mut Prng,
) -> Option<EndpointIndex> {
    let is_open = |candidate: &&Candidate| candidate.weight > 0 && is_usable(candidate.id);
    let roles: &[Role] = match wanted {
        Wanted::Primary => &[Role::Primary],
        Wanted::Replica => &[Role::Replica, Role::Primary],
    };
    let tiers = roles
        .iter()
        .flat_map(|role| [(*role, true), (*role, false)]);
    for (role, is_near) in tiers {
        let tier = || {
            let open = candidates.iter().filter(is_open);
            open.filter(move |candidate| candidate.role == role && candidate.is_near == is_near)
        };
        let Some(first) = pick(tier(), prng) else {
            continue;
        };
        let others = || tier().filter(|candidate| candidate.id != first.id);
        let Some(second) = pick(others(), prng) else {
            return Some(first.id);
        };
        let is_busier = weighted(load(first.id), second) > weighted(load(second.id), first);
        return Some(if is_busier { second.id } else { first.id });
    }
    None
}

/// One of `candidates` with a probability in proportion to its weight.
fn pick<'a>(
    candidates: impl Iterator<Item = &'a Candidate> + Clone,
    prng: &mut Prng,
) -> Option<&'a Candidate> {
    let total: u64 = candidates
        .clone()
        .map(|candidate| u64::from(candidate.weight))
        .sum();
    let mut left = prng.below(total);
    let mut last = None;
    for candidate in candidates {
        last = Some(candidate);
        match left.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => left = rest,
            None => return last,
        }
    }
    last
}

/// `load / weight`, cross-multiplied with the other's weight to compare without dividing.
fn weighted(load: u32, other: &Candidate) -> u64 {
    u64::from(load) * u64::from(other.weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: u32, role: Role, is_near: bool, weight: u16) -> Candidate {
        Candidate {
            id: EndpointIndex(id),
            role,
            is_near,
            weight,
        }
    }

    #[test]
    fn role_then_usability_then_zone() {
        let all = [
            candidate(0, Role::Primary, false, 100),
            candidate(1, Role::Replica, false, 100),
            candidate(2, Role::Replica, true, 100),
            candidate(3, Role::Replica, true, 0),
            candidate(4, Role::Primary, true, 100),
        ];
        let check = |wanted: Wanted, down: &[u32], expect: Option<u32>| {
            let mut prng = Prng::new(1);
            for _ in 0..50 {
                let is_usable = |id: EndpointIndex| !down.contains(&id.0);
                let chosen = choose(&all, wanted, is_usable, |_| 0, &mut prng);
                assert_eq!(
                    chosen,
                    expect.map(EndpointIndex),
                    "{wanted:?} without {down:?}"
                );
            }
        };
        check(Wanted::Primary, &[], Some(4));
        check(Wanted::Primary, &[4], Some(0));
        check(Wanted::Primary, &[0, 4], None);
        check(Wanted::Replica, &[], Some(2));
        check(Wanted::Replica, &[2], Some(1));
        check(Wanted::Replica, &[1, 2], Some(4));
        check(Wanted::Replica, &[0, 1, 2, 4], None);
        assert_eq!(
            choose(&[], Wanted::Primary, |_| true, |_| 0, &mut Prng::new(1)),
            None
        );
    }

    #[test]
    fn of_two_the_less_loaded_for_its_weight_is_chosen() {
        let all = [
            candidate(0, Role::Primary, true, 300),
            candidate(1, Role::Primary, true, 100),
        ];
        let check = |loads: [u32; 2], expect: u32| {
            let mut prng = Prng::new(9);
            for _ in 0..50 {
                let load = |id: EndpointIndex| loads[usize::try_from(id.0).unwrap()];
                let chosen = choose(&all, Wanted::Primary, |_| true, load, &mut prng);
                assert_eq!(chosen, Some(EndpointIndex(expect)), "{loads:?}");
            }
        };
        check([2, 1], 0);
        check([4, 1], 1);
        check([u32::MAX, u32::MAX], 0);
    }

    #[test]
    fn idle_endpoints_are_picked_by_weight() {
        let all = [
            candidate(0, Role::Primary, true, 300),
            candidate(1, Role::Primary, true, 100),
        ];
        let mut prng = Prng::new(5);
        let picks = 4_000;
        let heavy = (0..picks)
            .filter(|_| {
                choose(&all, Wanted::Primary, |_| true, |_| 0, &mut prng) == Some(EndpointIndex(0))
            })
            .count();
        assert!((2_850..3_150).contains(&heavy), "{heavy} of {picks}");
    }

    proptest! {
        #[test]
        fn the_choice_is_usable_and_no_better_tier_was_left(
            rows in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u16..3, any::<bool>(), 0_u32..5), 0..12),
            replica: bool,
            seed: u64,
        ) {
            let all: Vec<Candidate> = rows
                .iter()
                .zip(0..)
                .map(|((primary, near, weight, _, _), id)| {
                    let role = if *primary { Role::Primary } else { Role::Replica };
                    candidate(id, role, *near, *weight)
                })
                .collect();
            let row = |id: EndpointIndex| rows[usize::try_from(id.0).unwrap()];
            let wanted = if replica { Wanted::Replica } else { Wanted::Primary };
            let rank = |c: &Candidate| {
                let open = c.weight > 0 && row(c.id).3 && (replica || c.role == Role::Primary);
                open.then(|| 2 * u8::from(replica && c.role == Role::Primary) + u8::from(!c.is_near))
            };
            let chosen = choose(&all, wanted, |id| row(id).3, |id| row(id).4, &mut Prng::new(seed));
            let best = all.iter().filter_map(rank).min();
            let found = chosen.map(|id| &all[usize::try_from(id.0).unwrap()]);
            prop_assert_eq!(found.and_then(rank), best);
            prop_assert_eq!(chosen.is_some(), best.is_some());
        }
    }
}
