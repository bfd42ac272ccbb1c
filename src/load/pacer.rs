//! The clock of an open loop: it hands every arrival to its group at its intended start.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::yield_now;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::engine::{Engine, clock, takes_arrivals};
use super::schedule::Schedule;
use crate::base::clock::{Deadline, Now};
use crate::net::Alarm;

/// The end of a wait that is spent turning the ring instead of sleeping, before anything is known of how late
/// this machine wakes.
const SPIN_FIRST: Duration = Duration::from_micros(50);

/// A turn of the ring that takes longer has done something: it is the generator's work and no spinning.
const IDLE_TURN_NS: u64 = 5_000;

/// The longest such end that is chosen by itself.
const SPIN_MAX: Duration = Duration::from_millis(1);

/// How long the end of a wait is that is spent turning the ring: virtual machines wake a thread some tenths of a
/// millisecond late, which would be the generator's own lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Spin {
    /// A quarter longer than the latest wake-up so far, a millisecond at most.
    #[default]
    Measured,
    /// So long.
    Fixed(Duration),
}

impl Spin {
    /// What a core begins with, nanoseconds.
    pub(super) fn first(self) -> u64 {
        let first = match self {
            Self::Measured => SPIN_FIRST,
            Self::Fixed(length) => length,
        };
        nanos(first)
    }

    /// After a wake-up that was so late.
    fn after(self, spin: u64, late: u64) -> u64 {
        match self {
            Self::Measured => spin.max(late.saturating_add(late / 4).min(nanos(SPIN_MAX))),
            Self::Fixed(_) => spin,
        }
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// How long after the plan's end arrivals are still handed out that were due before it: as long as a machine pauses.
const SLACK: Duration = Duration::from_millis(100);

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
    engine.ends();
}

async fn hand_out(engine: &Engine, alarm: &mut Alarm) {
    let seed = engine.scenario.seed;
    let plan = engine.plan.clone();
    let end = plan.last().map_or(0, |stretch| stretch.end());
    let end = engine.instant(end.saturating_add(nanos(SLACK)));
    let timeout = nanos(engine.scenario.timeout);
    let mut schedule = Schedule::new(plan, engine.core, engine.cores, seed);
    let mut choice = Choice::new(engine);
    let mut burst = 0;
    while let Some(arrival) = schedule.next() {
        let due = engine.instant(arrival.at);
        if !due.is_over(clock()) {
            wait_until(engine, alarm, due).await;
            burst = 0;
        }
        if engine.is_over.get() {
            return;
        }
        engine.begins(arrival.stretch);
        let Some(group) = choice.next() else { return };
        engine.is_due(group, arrival.stretch);
        let now = clock();
        match engine
            .instant(arrival.at.saturating_add(timeout))
            .is_over(now)
        {
            true => engine.gave_up(group, arrival),
            false => engine.dispatch(group, arrival),
        }
        if end.is_over(now) {
            // What comes too late to be handed out is taken back with all that waits.
            for arrival in schedule.by_ref() {
                let Some(group) = choice.next() else { return };
                engine.is_due(group, arrival.stretch);
                engine.withdraw(group, arrival);
            }
            return;
        }
        burst += 1;
        if burst >= BURST {
            burst = 0;
            yield_now().await;
        }
    }
}

/// Sleeps in the ring, then turns it until the instant is there.
async fn wait_until(engine: &Engine, alarm: &mut Alarm, due: Deadline) {
    let early = Deadline(due.0.saturating_sub(engine.spin.get()));
    if !early.is_over(clock()) {
        alarm.set(early);
        poll_fn(|cx| alarm.poll(cx)).await;
        let late = clock().0.saturating_sub(early.0);
        engine.spin.set(engine.spins.after(engine.spin.get(), late));
    }
    let mut now = clock();
    while !due.is_over(now) && !engine.is_over.get() {
        yield_now().await;
        let turn = clock().0.saturating_sub(now.0);
        if turn < IDLE_TURN_NS {
            engine.spun.set(engine.spun.get() + turn);
        }
        now = Now(now.0.saturating_add(turn));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_is_as_long_as_wake_ups_are_late_and_no_longer_than_its_bound() {
        let measured = Spin::Measured;
        assert_eq!(measured.first(), 50_000);
        assert_eq!(measured.after(50_000, 20_000), 50_000, "early enough");
        assert_eq!(measured.after(50_000, 400_000), 500_000, "a quarter more");
        assert_eq!(measured.after(500_000, 80_000), 500_000, "it stays");
        assert_eq!(measured.after(500_000, 30_000_000), 1_000_000);
        let fixed = Spin::Fixed(Duration::from_micros(7));
        assert_eq!((fixed.first(), fixed.after(7_000, 900_000)), (7_000, 7_000));
    }
}
