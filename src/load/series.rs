//! The course of a run: what all cores saw in each interval, put together again.

use std::collections::BTreeMap;

use super::engine::INTERVAL;
use super::record::Record;
use super::run::Progress;

/// One interval of the whole run.
#[derive(Debug)]
pub struct Tick {
    /// Its beginning, in seconds after the run's.
    pub began_s: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// Operations per second that were to arrive; `None` in a closed loop.
    pub offered_rate: Option<f64>,
    /// Whether it counts, or is a warm-up.
    pub counts: bool,
    /// What each group did.
    pub groups: Vec<Record>,
    /// Connections open.
    pub connections: u64,
    /// Arrivals that wait for a connection.
    pub backlog: u64,
    /// Operations completed by each core.
    pub by_core: Vec<u64>,
}

impl Tick {
    /// All groups together.
    pub fn total(&self) -> Record {
        let mut total = Record::default();
        self.groups.iter().for_each(|record| total.merge(record));
        total
    }
}

/// Puts the cores' reports of an interval together.
#[derive(Debug)]
pub struct Series {
    cores: usize,
    groups: usize,
    open: BTreeMap<u64, (usize, Tick)>,
}

impl Series {
    /// Of a run with so many cores and groups.
    pub fn new(cores: usize, groups: usize) -> Self {
        Self {
            cores,
            groups,
            open: BTreeMap::new(),
        }
    }

    /// Takes a report; gives the intervals that every core has reported.
    pub fn add(&mut self, progress: &Progress<'_>) -> Vec<Tick> {
        let interval = progress.interval;
        // A core's last report belongs to the interval in which it ended.
        let tick = match interval.tick {
            u64::MAX => (progress.at_s / INTERVAL.as_secs_f64()) as u64,
            tick => tick,
        };
        let began_s = tick as f64 * INTERVAL.as_secs_f64();
        let (seen, open) = self.open.entry(tick).or_insert_with(|| {
            let middle = ((began_s + INTERVAL.as_secs_f64() / 2.0) * 1e9) as u64;
            let stretch = progress
                .plan
                .iter()
                .find(|stretch| middle < stretch.end())
                .or(progress.plan.last());
            let tick = Tick {
                began_s,
                seconds: INTERVAL.as_secs_f64(),
                offered_rate: stretch.and_then(|stretch| stretch.law.rate()),
                counts: stretch.is_some_and(|stretch| stretch.counts),
                groups: vec![Record::default(); self.groups],
                connections: 0,
                backlog: 0,
                by_core: vec![0; self.cores],
            };
            (0, tick)
        });
        *seen += 1;
        open.connections += u64::from(interval.connections);
        open.backlog += interval.backlog;
        for (_, groups) in &interval.records {
            for (total, record) in open.groups.iter_mut().zip(groups) {
                total.merge(record);
                if let Some(done) = open.by_core.get_mut(progress.core as usize) {
                    *done += record.completed;
                }
            }
        }
        let cores = self.cores;
        let mut done = Vec::new();
        while let Some(first) = self.open.first_entry() {
            if first.get().0 < cores {
                break;
            }
            done.push(first.remove().1);
        }
        done
    }

    /// Intervals that were never complete, at the run's end.
    pub fn rest(self) -> impl Iterator<Item = Tick> {
        let rest = self.open.into_values().map(|(_, tick)| tick);
        // The last one is empty where every core ended with its last report.
        rest.filter(|tick| tick.groups.iter().any(|record| record.sent > 0))
    }
}
