//! The clock of an open loop: it hands every arrival to its group at its intended start.

use std::future::poll_fn;
use std::rc::Rc;

use futures_lite::future::yield_now;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::engine::{Engine, clock, takes_arrivals};
use super::schedule::Schedule;
use crate::base::clock::Deadline;
use crate::net::Alarm;

/// The end of a wait that is spent turning the ring instead of sleeping: the kernel's timers are
/// later than that only rarely.
const SPIN_NS: u64 = 20_000;

/// Arrivals that are handed out before the connections get a turn.
const BURST: u32 = 128;

/// Paces one core's arrivals, then ends the run at the plan's end.
pub(super) async fn pace(engine: Rc<Engine>) {
    engine.started().await;
    let mut alarm = engine.net.alarm();
    if engine.scenario.arrivals.is_open() {
        hand_out(&engine, &mut alarm).await;
    }
    let end = engine.plan.last().map_or(0, |stretch| stretch.end());
    alarm.set(engine.instant(end));
    poll_fn(|cx| alarm.poll(cx)).await;
    engine.is_over.set(true);
    engine.wake_all();
    engine.notify();
}

async fn hand_out(engine: &Engine, alarm: &mut Alarm) {
    let seed = engine.scenario.seed;
    let plan = engine.plan.clone();
    let schedule = Schedule::new(plan, engine.core, engine.cores, seed);
    let mut choice = Choice::new(engine);
    let mut burst = 0;
    let mut stretch = 0;
    for arrival in schedule {
        let due = engine.instant(arrival.at);
        if !due.is_over(clock()) {
            wait_until(engine, alarm, due).await;
            burst = 0;
        }
        if engine.is_over.get() {
            return;
        }
        if stretch != arrival.stretch {
            // What one step could not carry is not for the next one to carry, and may have been handed out late.
            let new = engine.plan.get(arrival.stretch);
            if new.is_some_and(|new| new.begins_step) {
                engine.withdraw_backlog(arrival.stretch);
            }
            stretch = arrival.stretch;
        }
        let Some(group) = choice.next() else { return };
        engine.record(arrival.stretch, group, |record| record.planned += 1);
        engine.dispatch(group, arrival);
        burst += 1;
        if burst >= BURST {
            burst = 0;
            yield_now().await;
        }
    }
}

/// Sleeps in the ring, then turns it until the instant is there.
async fn wait_until(engine: &Engine, alarm: &mut Alarm, due: Deadline) {
    let early = Deadline(due.0.saturating_sub(SPIN_NS));
    if !early.is_over(clock()) {
        alarm.set(early);
        poll_fn(|cx| alarm.poll(cx)).await;
    }
    while !due.is_over(clock()) && !engine.is_over.get() {
        yield_now().await;
    }
}

/// Shares arrivals out between groups by weight.
struct Choice {
    random: SmallRng,
    /// Running sums of the weights, with the groups.
    sums: Vec<(u64, usize)>,
    total: u64,
}

impl Choice {
    fn new(engine: &Engine) -> Self {
        let mut mixed =
            crate::base::prng::Prng::new(engine.scenario.seed ^ 0x9e37 ^ u64::from(engine.core));
        let mut total = 0;
        let mut sums = Vec::new();
        for (index, state) in engine.groups.iter().enumerate() {
            if takes_arrivals(&state.group) {
                total += u64::from(state.group.weight);
                sums.push((total, index));
            }
        }
        Self {
            random: SmallRng::seed_from_u64(mixed.next_u64()),
            sums,
            total,
        }
    }

    fn next(&mut self) -> Option<usize> {
        if let [(_, only)] = self.sums.as_slice() {
            return Some(*only);
        }
        if self.total == 0 {
            return None;
        }
        let drawn = self.random.random_range(0..self.total);
        let found = self.sums.iter().find(|(sum, _)| drawn < *sum);
        found.map(|(_, group)| *group)
    }
}
