//! Whether the generator did what was planned; if not, its figures are of itself.

use super::record::Record;
use super::result::Validity;
use super::run::Outcome;

/// The generator's own lag may be this long, or …
const LAG_FLOOR_NS: u64 = 100_000;
/// … this share of the median response, whichever is more.
const LAG_SHARE: f64 = 0.05;
/// The share of planned operations that must have been sent.
pub const SENT_SHARE: f64 = 0.995;
/// The share of its CPU that a generator core may use.
const CPU_SHARE: f64 = 0.90;

/// Whether too many operations of a step found no connection in time.
pub fn is_overloaded(records: &[Record]) -> bool {
    let sum = |of: fn(&Record) -> u64| records.iter().map(of).sum::<u64>() as f64;
    sum(|record| record.sent) < sum(|record| record.planned) * SENT_SHARE
}

/// The reason of a run that a signal ended.
pub const STOPPED: &str = "stopped before its end";

/// The generator's own lag in nanoseconds that is allowed at p99, where the median response takes
/// `median` nanoseconds.
pub fn lag_allowed(median: u64) -> u64 {
    LAG_FLOOR_NS.max((median as f64 * LAG_SHARE) as u64)
}

/// Judges a run.
pub fn judge(outcome: &Outcome) -> Validity {
    let mut total = Record::default();
    for (stretch, groups) in outcome.plan.iter().zip(&outcome.records) {
        if stretch.counts {
            groups.iter().for_each(|record| total.merge(record));
        }
    }
    let mut reasons = Vec::new();
    let mut generator_lagged = false;
    if total.completed == 0 {
        reasons.push("no operation completed".to_owned());
    }
    // Of few operations the worst one is no share.
    let judged = (1.0 - 1.5 / total.own_lag.count().max(2) as f64).min(0.99);
    let lag = total.own_lag.quantile(judged);
    let allowed = lag_allowed(total.response.quantile(0.5));
    if lag > allowed {
        generator_lagged = true;
        reasons.push(format!(
            "the generator itself sent late: {:.0} % of operations by {} µs and more ({} µs are allowed); \
             give it a CPU of its own (--cpus) or more cores; where the machine wakes threads late, \
             --spin longer than that (it was {} µs)",
            (1.0 - judged) * 100.0,
            lag / 1_000,
            allowed / 1_000,
            outcome.spin_ns / 1_000
        ));
    }
    // Rates beyond what the target carries are what a series of steps is made to show.
    let counted = outcome.plan.iter().zip(&outcome.records);
    let mut counted = counted.filter(|(stretch, _)| stretch.counts);
    let ended_early = outcome.was_stopped || outcome.refused.is_some();
    if !ended_early && counted.all(|(_, records)| is_overloaded(records)) {
        reasons.push(format!(
            "{} of {} planned operations were sent: all connections were busy until their callers had \
             given up; the target is overloaded at this rate, or there are too few connections",
            total.sent, total.planned
        ));
    }
    for (core, cpu) in outcome.cpu_ns.iter().enumerate() {
        let share = *cpu as f64 / outcome.counted_ns.max(1) as f64;
        if share > CPU_SHARE {
            generator_lagged = true;
            reasons.push(format!(
                "generator core {core} was busy {:.0} % of the time ({:.0} % are allowed); the \
                 generator may be the bottleneck: give it more cores",
                share * 100.0,
                CPU_SHARE * 100.0
            ));
        }
    }
    if let Some(why) = &outcome.refused {
        reasons.push(format!("ended by a login that was refused: {why}"));
    }
    if outcome.was_stopped {
        reasons.push(STOPPED.to_owned());
    }
    Validity {
        valid: reasons.is_empty(),
        reasons,
        ended_early,
        generator_lagged,
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Law, Stretch};
    use super::*;

    fn outcome(change: impl FnOnce(&mut Record)) -> Outcome {
        let mut record = Record {
            planned: 1_000,
            sent: 1_000,
            completed: 1_000,
            ..Record::default()
        };
        for _ in 0..1_000 {
            record.own_lag.record(1_000);
            record.response.record(500_000);
        }
        change(&mut record);
        Outcome {
            plan: vec![Stretch {
                law: Law::Closed,
                began: 0,
                length: 1_000_000_000,
                counts: true,
                begins_step: true,
            }],
            records: vec![vec![record]],
            process: None,
            cpu_ns: vec![100_000_000],
            spin_ns: 50_000,
            counted_ns: 1_000_000_000,
            ended: None,
            was_stopped: false,
            refused: None,
            firsts: Vec::new(),
        }
    }

    #[test]
    fn each_way_to_lag_is_named() {
        let check = |outcome: Outcome, expect: &str| {
            let validity = judge(&outcome);
            assert!(!validity.valid);
            assert!(
                validity.reasons.concat().contains(expect),
                "{:?}",
                validity.reasons
            );
        };
        assert!(judge(&outcome(|_| {})).valid);
        let late = |record: &mut Record| (0..20).for_each(|_| record.own_lag.record(200_000));
        check(outcome(late), "sent late");
        check(outcome(|record| record.sent = 990), "990 of 1000");
        check(
            outcome(|record| record.completed = 0),
            "no operation completed",
        );
        let mut steps = outcome(|record| record.sent = 500);
        steps.plan.push(steps.plan[0].clone());
        steps.records.extend(outcome(|_| {}).records);
        assert!(judge(&steps).valid, "another rate was carried");
        let mut busy = outcome(|_| {});
        busy.cpu_ns = vec![0, 950_000_000];
        check(busy, "core 1 was busy 95 %");
        let mut stopped = outcome(|_| {});
        stopped.was_stopped = true;
        check(stopped, "stopped");
    }
}
