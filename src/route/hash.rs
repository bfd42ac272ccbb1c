//! The versioned consistent hash from keys to placements.
//!
//! Version 1 is rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase
//! hit rates", 1998) with XXH3: every placement scores the key and the highest score wins. The scores
//! of other placements do not depend on a placement that comes or goes, so adding one moves just the
//! keys that the new one wins, 1/N of them on average. Placements count by name: neither their order
//! nor their ids matter, and every node and release computes the same.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The versions known; a configuration names the one it was made for.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

/// The index of the placement in `names` that holds `key`; `None` when there are no placements.
///
/// `seed` redistributes all keys. Equal scores, which no two distinct names are expected to have, go to
/// the name that sorts first.
pub fn place<'a>(key: &[u8], seed: u64, names: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let mut best: Option<(u64, &str, usize)> = None;
    for (index, name) in names.into_iter().enumerate() {
        let score = score(key, seed, name);
        let wins =
            best.is_none_or(|(top, holder, _)| score > top || (score == top && name < holder));
        if wins {
            best = Some((score, name, index));
        }
    }
    best.map(|(_, _, index)| index)
}

/// How strongly the placement `name` claims `key`.
fn score(key: &[u8], seed: u64, name: &str) -> u64 {
    xxh3_64_with_seed(key, xxh3_64_with_seed(name.as_bytes(), seed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placements(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("shard-{n}")).collect()
    }

    fn placed<'a>(key: &str, seed: u64, names: &'a [String]) -> &'a str {
        let index = place(key.as_bytes(), seed, names.iter().map(String::as_str)).unwrap();
        &names[index]
    }

    /// Data lives where these say: a release that changes one of them loses it. The values come from
    /// another implementation of XXH3 (the Python package `xxhash`).
    #[test]
    fn version_1_places_as_it_always_did() {
        let names = placements(5);
        let check = |key: &str, seed: u64, expect: &str| {
            assert_eq!(placed(key, seed, &names), expect, "{key} {seed}");
        };
        check("acme", 0, "shard-3");
        check("globex", 0, "shard-3");
        check("initech", 0, "shard-0");
        check("umbrella", 0, "shard-0");
        check("", 0, "shard-3");
        check("ключ", 0, "shard-2");
        check("acme", 1, "shard-4");
        check("globex", 1, "shard-0");
        assert_eq!(score(b"acme", 0, "shard-0"), 0x229a_4107_9535_a282);
        assert_eq!(score(b"acme", u64::MAX, "shard-a"), 0x5ca5_a91a_ec9b_5552);
    }

    #[test]
    fn no_placements_hold_nothing() {
        assert_eq!(place(b"acme", 0, []), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn adding_one_of_n_moves_one_nth_and_only_to_the_new_one(
            count in 2_usize..24,
            seed: u64,
            salt: u32,
        ) {
            let after = placements(count);
            let before = &after[..count - 1];
            let keys = 4_000_u32;
            let mut moved = 0;
            for n in 0..keys {
                let key = format!("{salt}-{n}");
                let (old, new) = (placed(&key, seed, before), placed(&key, seed, &after));
                if old != new {
                    prop_assert_eq!(new, after.last().unwrap());
                    moved += 1;
                }
            }
            let bound = f64::from(keys) * (1.0 / f64::from(u32::try_from(count).unwrap()) + 0.05);
            prop_assert!(f64::from(moved) <= bound, "{} moved, at most {} may", moved, bound);
        }

        #[test]
        fn keys_are_spread_evenly(count in 2_usize..12, seed: u64) {
            let names = placements(count);
            let keys = 6_000;
            for name in &names {
                let held = (0..keys).filter(|n| placed(&format!("k{n}"), seed, &names) == name).count();
                let share = keys / count;
                prop_assert!(held > share * 7 / 10 && held < share * 13 / 10, "{held} of {share}");
            }
        }

        #[test]
        fn the_order_of_placements_does_not_matter(seed: u64, key in ".*", turn in 0_usize..7) {
            let names = placements(7);
            let mut turned = names.clone();
            turned.rotate_left(turn);
            prop_assert_eq!(placed(&key, seed, &names), placed(&key, seed, &turned));
        }
    }
}
