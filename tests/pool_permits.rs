//! The budget of an endpoint, shared by simulated cores. A failure names its seed, which replays it.

#![expect(
    clippy::unwrap_used,
    reason = "a simulation stops at its first surprise"
)]

#[path = "support/pool_sim.rs"]
mod pool_sim;

use pool_sim::{MS, Shape, Sim, US};
use ringgate::base::{ident::CoreId, prng::Prng};
use ringgate::pool::split;

fn random_shape(seed: u64) -> Shape {
    let mut prng = Prng::new(seed ^ 0x5eed);
    let cores = u16::try_from(1 + prng.below(6)).unwrap();
    Shape {
        cores,
        budget: u32::try_from(1 + prng.below(24)).unwrap(),
        clients: (0..cores)
            .map(|_| u32::try_from(prng.below(20)).unwrap())
            .collect(),
        keys: usize::try_from(1 + prng.below(3)).unwrap(),
        exchange: 1 + prng.below(2 * MS),
        long_ones: 1,
        think: prng.below(20 * MS),
        failures: prng.below(3) * 5,
        until: 600 * MS,
    }
}

#[test]
fn the_parts_of_a_budget_add_up() {
    for budget in 0..70 {
        for cores in 1..20 {
            let sum: u32 = (0..cores).map(|c| split(budget, cores, CoreId(c))).sum();
            assert_eq!(sum, budget);
        }
    }
}

#[test]
fn random_demand_never_exceeds_the_budget_loses_a_permit_or_starves_anyone() {
    for seed in 0..150 {
        let shape = random_shape(seed);
        let clients: u32 = shape.clients.iter().sum();
        let mut sim = Sim::new(seed, shape.clone());
        sim.run(shape.until);
        // All clients in one queue in front of the budget would wait about `fair`.
        let mean = shape.exchange * 3 / 4 + 10 * US;
        let fair = mean * u64::from(clients) / u64::from(shape.budget);
        let bound = 20 * fair + 50 * shape.exchange + 300 * MS;
        let worst = sim.worst_wait();
        assert!(
            worst < bound,
            "seed {seed}: {} ms, bound {} ms, {shape:?}",
            worst / MS,
            bound / MS
        );
        assert!(clients == 0 || sim.served > 0, "seed {seed}");
    }
}

#[test]
fn one_core_with_all_the_clients_reaches_the_whole_budget() {
    for seed in 0..20 {
        for cores in [2, 4, 8] {
            let mut clients = vec![0; usize::from(cores)];
            let busy = usize::try_from(seed).unwrap() % clients.len();
            clients[busy] = 100;
            let mut sim = Sim::new(
                seed,
                Shape {
                    cores,
                    budget: 64,
                    clients,
                    keys: 1,
                    exchange: 5 * MS,
                    long_ones: 1,
                    think: 0,
                    failures: 0,
                    until: 0,
                },
            );
            sim.run(50 * MS);
            assert_eq!(sim.most_on_core[busy], 64, "seed {seed}, {cores} cores");
        }
    }
}

#[test]
fn idle_connections_of_other_cores_are_given_to_the_core_that_has_the_clients() {
    for seed in 0..20 {
        let mut sim = Sim::new(
            seed,
            Shape {
                cores: 4,
                budget: 32,
                clients: vec![40, 40, 40, 40],
                keys: 2,
                exchange: 5 * MS,
                long_ones: 1,
                think: MS,
                failures: 0,
                until: 0,
            },
        );
        sim.run(100 * MS);
        let before = sim.cores[0].permits.owned();
        assert!(
            before < 24,
            "seed {seed}: shared while all are busy, {before}"
        );
        for core in &mut sim.cores[1..] {
            for client in &mut core.clients {
                client.is_leaving = true;
                client.next = None;
            }
        }
        sim.shape.think = 0;
        // The longest exchange lasts a quarter of a second.
        sim.run(500 * MS);
        assert_eq!(sim.cores[0].permits.owned(), 32, "seed {seed}");
        assert_eq!(sim.cores[0].permits.in_use(), 32, "seed {seed}");
        assert!(sim.lent > 0, "seed {seed}: none was handed over");
    }
}

#[test]
fn connections_follow_the_clients_from_core_to_core_instead_of_being_made_again() {
    for seed in 0..20 {
        let mut sim = Sim::new(
            seed,
            Shape {
                cores: 2,
                budget: 8,
                clients: vec![16, 16],
                keys: 1,
                exchange: 2 * MS,
                long_ones: 1,
                think: 0,
                failures: 0,
                until: 0,
            },
        );
        sim.run(300 * MS);
        let opened = sim.opened;
        for round in 0..6 {
            let (busy, quiet) = (round % 2, (round + 1) % 2);
            for client in &mut sim.cores[quiet].clients {
                (client.is_leaving, client.next) = (true, None);
            }
            for client in &mut sim.cores[busy].clients {
                client.is_leaving = false;
                client.next = (client.waits_since.is_none()).then_some(sim.now);
            }
            let until = sim.now + 400 * MS;
            sim.run(until);
            assert_eq!(sim.cores[busy].permits.in_use(), 8, "seed {seed}");
        }
        assert_eq!(sim.opened, opened, "seed {seed}: {} lent", sim.lent);
    }
}

#[test]
fn an_even_load_beyond_the_budget_rarely_reopens_connections() {
    for seed in 0..5 {
        let mut sim = Sim::new(
            seed,
            Shape {
                cores: 4,
                budget: 32,
                clients: vec![40; 4],
                keys: 1,
                exchange: MS,
                long_ones: 1,
                think: MS,
                failures: 0,
                until: 0,
            },
        );
        sim.run(1_000 * MS);
        assert!(sim.served > 10_000, "seed {seed}: {}", sim.served);
        assert!(
            sim.opened * 100 < sim.served,
            "seed {seed}: {} opened",
            sim.opened
        );
    }
}

#[test]
fn a_budget_of_one_serves_every_core() {
    for seed in 0..20 {
        let mut sim = Sim::new(
            seed,
            Shape {
                cores: 4,
                budget: 1,
                clients: vec![3, 3, 3, 3],
                keys: 2,
                exchange: MS,
                long_ones: 1,
                think: 0,
                failures: 5,
                until: 0,
            },
        );
        sim.run(1_000 * MS);
        let worst = sim.worst_wait();
        assert!(worst < 800 * MS, "seed {seed}: {} ms", worst / MS);
    }
}

#[test]
fn a_changed_budget_is_reached_without_closing_busy_connections() {
    for seed in 0..50 {
        let mut shape = random_shape(seed);
        shape.budget += 4;
        let mut sim = Sim::new(seed, shape);
        for (step, budget) in [3, 20, 1, 7].into_iter().enumerate() {
            sim.run((step as u64 + 1) * 300 * MS);
            let old = sim.budget;
            sim.budget = budget;
            for core in &mut sim.cores {
                core.permits.resize(old, budget);
            }
            for core in 0..sim.cores.len() {
                sim.turn(core);
            }
            sim.check();
        }
        sim.run(1_700 * MS);
        let debt: u32 = sim.cores.iter().map(|c| c.permits.debt()).sum();
        assert_eq!(debt, 0, "seed {seed}");
    }
}

/// Tenants whose clients never pause.
fn tenants(seed: u64, cores: u16, budget: u32, clients: u32, tenants: usize) -> Sim {
    let shape = Shape {
        cores,
        budget,
        clients: vec![
            clients * u32::try_from(tenants).unwrap() / u32::from(cores);
            usize::from(cores)
        ],
        keys: tenants,
        exchange: 10 * MS,
        long_ones: 0,
        think: 0,
        failures: 0,
        until: 0,
    };
    let mut sim = Sim::new(seed, shape);
    for core in &mut sim.cores {
        for (number, client) in core.clients.iter_mut().enumerate() {
            client.key = number % tenants;
        }
    }
    sim
}

#[test]
fn equal_tenants_are_served_alike_with_few_connects() {
    for (cores, budget, count) in [
        (1, 8, 2),
        (1, 7, 2),
        (1, 1, 2),
        (1, 4, 3),
        (2, 8, 2),
        (2, 7, 2),
        (2, 2, 2),
    ] {
        for seed in 0..10 {
            let mut sim = tenants(seed, cores, budget, 20, count);
            sim.run(20_000 * MS);
            let (most, least) = (
                sim.served_by_key.iter().max().copied().unwrap(),
                sim.served_by_key.iter().min().copied().unwrap(),
            );
            let what = format!(
                "seed {seed}, {cores} cores, budget {budget}: {:?} served, {} opened",
                sim.served_by_key, sim.opened
            );
            assert!(most * 4 <= least * 5, "{what}");
            assert!(sim.opened * 1000 <= sim.served * 20, "{what}");
        }
    }
}

#[test]
fn more_tenants_than_connections_are_all_served_soon() {
    for (cores, budget, clients, count) in
        [(1, 1, 1, 20), (1, 2, 2, 20), (2, 4, 2, 40), (2, 3, 20, 10)]
    {
        for seed in 0..5 {
            let mut sim = tenants(seed, cores, budget, clients, count);
            sim.run(10_000 * MS);
            let least = sim.served_by_key.iter().min().copied().unwrap();
            let most = sim.served_by_key.iter().max().copied().unwrap();
            let what = format!(
                "seed {seed}, {cores} cores, budget {budget}, {count} tenants: {least} to {most}, {} ms",
                sim.worst_wait() / MS
            );
            assert!(sim.worst_wait() < 2_500 * MS, "{what}");
            assert!(most <= least * 3, "{what}");
        }
    }
}
