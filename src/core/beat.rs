//! Heartbeats: each core says that it turns, and a watcher outside of it notices when it does not.
//!
//! A core writes its beat from a task of its own executor; nobody else writes it. The watcher reads
//! all beats at a fixed interval. It counts its own ticks instead of comparing clocks, so that a
//! process that was stopped or throttled as a whole does not look like a stalled core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How often a core beats at least: its timer's interval.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(250);
/// How often the watcher looks.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// A core that does not turn for so long is reported.
pub const STALLED_AFTER: Duration = Duration::from_secs(1);
/// A core that does not turn for so long ends the process.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);

/// One core's heartbeat word; written by its core alone.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<Word>);

#[derive(Debug, Default)]
struct Word {
    beats: AtomicU64,
    thread: AtomicU32,
}

impl Beat {
    /// A core's word before its first beat.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the core has turned since the last call.
    pub fn beat(&self) {
        // A plain store: only this core writes.
        let next = self.0.beats.load(Ordering::Relaxed).wrapping_add(1);
        self.0.beats.store(next, Ordering::Release);
    }

    /// Beats so far.
    pub fn count(&self) -> u64 {
        self.0.beats.load(Ordering::Acquire)
    }

    /// Notes the kernel's id of the core's thread, for the report of a stall.
    pub fn set_thread(&self, id: u32) {
        self.0.thread.store(id, Ordering::Release);
    }

    /// The kernel's id of the core's thread; 0 before it runs.
    pub fn thread(&self) -> u32 {
        self.0.thread.load(Ordering::Acquire)
    }
}

/// What one look at a core found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// It turns.
    Alive,
    /// It has just been silent for [`STALLED_AFTER`]: report it.
    Stalled,
    /// It is silent still, and has been reported.
    Silent,
    /// It beats again after a reported stall that lasted so long.
    Recovered(Duration),
    /// It has been silent for [`DEAD_AFTER`].
    Dead,
}

/// The watcher's memory of one core.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: u64,
    silent: Duration,
    reported: bool,
}

impl Watch {
    /// Judges a core whose beat reads `count`, `elapsed` after the last look.
    ///
    /// Of `elapsed` at most two intervals count: a watcher that was itself held up knows nothing about
    /// the core in that time.
    pub fn look(&mut self, count: u64, elapsed: Duration) -> Pulse {
        if count != self.seen {
            let silent = std::mem::take(&mut self.silent);
            self.seen = count;
            return match std::mem::take(&mut self.reported) {
                true => Pulse::Recovered(silent),
                false => Pulse::Alive,
            };
        }
        self.silent += elapsed.min(WATCH_INTERVAL * 2);
        if self.silent >= DEAD_AFTER {
            return Pulse::Dead;
        }
        if self.silent < STALLED_AFTER {
            return Pulse::Alive;
        }
        match std::mem::replace(&mut self.reported, true) {
            true => Pulse::Silent,
            false => Pulse::Stalled,
        }
    }

    /// Whether the core counts as stalled now.
    pub fn is_stalled(&self) -> bool {
        self.reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds beat counts at the watch interval and lists the pulses that are not plain.
    fn check(counts: &[(u64, usize)], expect: &[Pulse]) {
        let mut watch = Watch::default();
        let mut got = Vec::new();
        for &(count, times) in counts {
            for _ in 0..times {
                match watch.look(count, WATCH_INTERVAL) {
                    Pulse::Alive | Pulse::Silent => {}
                    pulse => got.push(pulse),
                }
            }
        }
        assert_eq!(got, expect, "{counts:?}");
    }

    #[test]
    fn a_stall_is_reported_once_and_ends_in_recovery_or_death() {
        let second = Duration::from_secs(1);
        check(&[(1, 3), (2, 3), (3, 1)], &[]);
        check(&[(1, 10)], &[]);
        check(&[(1, 11)], &[Pulse::Stalled]);
        check(&[(1, 40)], &[Pulse::Stalled]);
        check(&[(1, 51)], &[Pulse::Stalled, Pulse::Dead]);
        check(
            &[(1, 31), (2, 1)],
            &[Pulse::Stalled, Pulse::Recovered(second * 3)],
        );
        check(
            &[(1, 11), (2, 11)],
            &[Pulse::Stalled, Pulse::Recovered(second), Pulse::Stalled],
        );
    }

    #[test]
    fn a_watcher_that_was_held_up_blames_no_core() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(1, WATCH_INTERVAL), Pulse::Alive);
        assert_eq!(watch.look(1, Duration::from_secs(60)), Pulse::Alive);
        assert!(!watch.is_stalled());
    }

    #[test]
    fn a_beat_is_seen_from_another_thread() {
        let beat = Beat::new();
        let core = beat.clone();
        std::thread::spawn(move || core.beat()).join().unwrap();
        assert_eq!(beat.count(), 1);
    }
}
