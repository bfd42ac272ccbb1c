//! The watchdog thread: notices from outside when a core does not turn.
//!
//! It is a thread of its own so that a slow control thread hides nothing. It logs, marks the core in the
//! status, and ends the process when a core is beyond help. Time in which the kernel gave a core's thread
//! no CPU is not the core's silence: a machine that is too busy makes every core slow and none stuck.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::beat::{Beat, DEAD_AFTER, Pulse, WATCH_INTERVAL, Watch};
use crate::log;

use super::status::Status;

/// How long the log may take to write the last line before the process ends.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Starts watching; `dead` is called with the core that did not turn for [`DEAD_AFTER`].
///
/// # Errors
/// When the thread cannot be made.
pub(super) fn start(
    beats: Vec<Beat>,
    status: Arc<Status>,
    dead: impl Fn(usize) + Send + 'static,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("watchdog".into());
    thread.spawn(move || watch(&beats, &status, dead)).map(drop)
}

/// Ends the process because a core is stuck. Its thread cannot be stopped, so nothing is unwound.
pub(super) fn end_process(_core: usize) {
    std::thread::sleep(LAST_WORDS);
    signal_hook::low_level::exit(1);
}

fn watch(beats: &[Beat], status: &Status, dead: impl Fn(usize)) {
    let mut watches: Vec<_> = beats.iter().map(|_| Patient::default()).collect();
    let mut last = Instant::now();
    while status.living() > 0 {
        std::thread::sleep(WATCH_INTERVAL);
        let elapsed = last.elapsed();
        last += elapsed;
        for (core, (beat, patient)) in beats.iter().zip(&mut watches).enumerate() {
            if status.has_ended(core) {
                continue;
            }
            let pulse = patient.look(beat, elapsed);
            status.set_stalled(core, patient.watch.is_stalled());
            if report(core, beat, pulse, &patient.silent) {
                dead(core);
            }
        }
    }
}

/// Logs what is worth a line; true when the core is dead.
fn report(core: usize, beat: &Beat, pulse: Pulse, silent: &CpuTimes) -> bool {
    let (ran_ms, waited_ms) = (silent.ran.as_millis(), silent.waited.as_millis());
    match pulse {
        Pulse::Alive | Pulse::Silent => {}
        Pulse::Stalled => {
            let thread = thread_state(beat.thread());
            log!(
                Error,
                "core_stalled",
                core = core,
                thread = thread,
                ran_ms = ran_ms,
                waited_ms = waited_ms
            );
        }
        Pulse::Recovered(silent) => {
            log!(
                Warn,
                "core_recovered",
                core = core,
                silent_ms = silent.as_millis()
            );
        }
        Pulse::Dead => {
            let thread = thread_state(beat.thread());
            let after = DEAD_AFTER.as_secs();
            log!(
                Error,
                "core_dead",
                core = core,
                after_s = after,
                thread = thread,
                ran_ms = ran_ms,
                waited_ms = waited_ms,
                exit = 1
            );
            return true;
        }
    }
    false
}

/// The watcher's memory of one core and of its thread.
#[derive(Debug, Default)]
struct Patient {
    watch: Watch,
    count: u64,
    /// At the last look, if that found no beat.
    times: Option<CpuTimes>,
    /// Since the last look that found a beat.
    silent: CpuTimes,
}

impl Patient {
    fn look(&mut self, beat: &Beat, elapsed: Duration) -> Pulse {
        let count = beat.count();
        if count != self.count {
            self.count = count;
            (self.times, self.silent) = (None, CpuTimes::default());
            return self.watch.look(count, elapsed);
        }
        let times = CpuTimes::of(&read(beat.thread(), "schedstat")).unwrap_or_default();
        let Some(before) = self.times.replace(times) else {
            return self.watch.look(count, elapsed);
        };
        let (ran, waited) = times.since(&before);
        self.silent.ran += ran;
        self.silent.waited += waited;
        // The kernel counts a wait for a CPU when it is over.
        let starved = ran.is_zero() && is_runnable(&read(beat.thread(), "stat"));
        let silent = match starved {
            true => Duration::ZERO,
            false => elapsed.saturating_sub(waited),
        };
        self.watch.look(count, silent)
    }
}

/// How long a thread has run, and how long it could have run and was given no CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    ran: Duration,
    waited: Duration,
}

impl CpuTimes {
    /// From `/proc/…/schedstat`, whose first two fields these are, in nanoseconds (Linux,
    /// Documentation/scheduler/sched-stats.rst).
    fn of(schedstat: &str) -> Option<Self> {
        let mut fields = schedstat.split(' ').map(str::parse);
        let mut next = || Some(Duration::from_nanos(fields.next()?.ok()?));
        Some(Self {
            ran: next()?,
            waited: next()?,
        })
    }

    /// What has come since `before`.
    fn since(&self, before: &Self) -> (Duration, Duration) {
        let ran = self.ran.saturating_sub(before.ran);
        (ran, self.waited.saturating_sub(before.waited))
    }
}

fn read(thread: u32, file: &str) -> String {
    let path = format!("/proc/self/task/{thread}/{file}");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The state in `/proc/…/stat`. The name in parentheses may hold anything: it follows the last one.
fn state_of(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}

/// Whether a thread runs or waits for a CPU.
fn is_runnable(stat: &str) -> bool {
    state_of(stat) == Some('R')
}

/// What the kernel says about a thread: its state, and where it sleeps or which call it is in.
fn thread_state(thread: u32) -> String {
    let state = state_of(&read(thread, "stat")).map_or_else(|| "gone".to_owned(), String::from);
    let call = read(thread, "syscall");
    let call = call.split_whitespace().next().unwrap_or("unknown");
    let at = read(thread, "wchan");
    format!("{thread} state {state} syscall {call} at {}", at.trim())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::status::Phase;
    use super::*;

    #[test]
    fn a_silent_core_is_marked_within_two_seconds_and_reported_dead_within_six() {
        let beats = vec![Beat::new(), Beat::new()];
        let status = Arc::new(Status::new(2, Instant::now(), 0));
        status.set_phase(Phase::Serving);
        let (sender, died) = mpsc::channel();
        let begun = Instant::now();
        start(beats.clone(), Arc::clone(&status), move |core| {
            let _listener_gone = sender.send(core);
        })
        .unwrap();
        let mut stalled_after = None;
        let dead = loop {
            // Core 0 beats, core 1 is silent from the start.
            beats[0].beat();
            if status.unready().is_some() {
                stalled_after.get_or_insert_with(|| begun.elapsed());
            }
            if let Ok(core) = died.recv_timeout(Duration::from_millis(20)) {
                break core;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "never reported");
        };
        assert_eq!(dead, 1);
        // On a busy machine the watcher's ticks come late, never early.
        let stalled_after = stalled_after.unwrap();
        assert!(stalled_after >= Duration::from_secs(1), "{stalled_after:?}");
        assert!(begun.elapsed() >= DEAD_AFTER);
        assert!(
            !status.cores[0]
                .stalled
                .load(std::sync::atomic::Ordering::Acquire)
        );
        status.set_ended(0);
        status.set_ended(1);
    }

    #[test]
    fn a_runnable_thread_that_gets_no_cpu_is_told_from_a_stuck_one() {
        assert!(is_runnable("7 (a) b) R 1 2"));
        assert!(!is_runnable("7 (R) S 1 2"));
        assert!(!is_runnable("7 (x) T 1 2"));
        assert!(!is_runnable(""));
    }

    #[test]
    fn times_are_those_of_the_scheduler() {
        let times = CpuTimes::of("350805 481069 5\n").unwrap();
        assert_eq!(times.ran, Duration::from_nanos(350_805));
        assert_eq!(times.waited, Duration::from_nanos(481_069));
        let later = CpuTimes::of("350905 481069 6\n").unwrap();
        let since = later.since(&times);
        assert_eq!(since, (Duration::from_nanos(100), Duration::ZERO));
        assert_eq!(CpuTimes::of(""), None);
        assert_eq!(CpuTimes::of("350805"), None);
    }

    #[test]
    fn a_thread_that_spins_without_a_beat_is_stalled() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (beat, stop) = (Beat::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let this = rustix::thread::gettid();
                beat.set_thread(this.as_raw_nonzero().get().unsigned_abs());
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let (mut patient, begun) = (Patient::default(), Instant::now());
            let mut reported = false;
            while !reported && begun.elapsed() < Duration::from_secs(60) {
                reported = patient.look(&beat, WATCH_INTERVAL) == Pulse::Stalled;
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::Relaxed);
            assert!(reported);
        });
    }

    #[test]
    fn a_thread_is_described() {
        let this = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        let text = thread_state(this);
        assert!(text.starts_with(&format!("{this} state R")), "{text}");
        assert!(thread_state(u32::MAX).contains("state gone"));
    }
}
