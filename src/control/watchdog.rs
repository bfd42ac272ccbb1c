//! The watchdog thread: notices from outside when a core does not turn.
//!
//! It is a thread of its own so that a slow control thread hides nothing. It logs, marks the core in the
//! status, and ends the process when a core is beyond help.

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
    let mut watches: Vec<_> = beats.iter().map(|_| Watch::default()).collect();
    let mut last = Instant::now();
    while status.living() > 0 {
        std::thread::sleep(WATCH_INTERVAL);
        let elapsed = last.elapsed();
        last += elapsed;
        for (core, (beat, watch)) in beats.iter().zip(&mut watches).enumerate() {
            if status.has_ended(core) {
                continue;
            }
            let pulse = watch.look(beat.count(), elapsed);
            status.set_stalled(core, watch.is_stalled());
            if report(core, beat, pulse) {
                dead(core);
            }
        }
    }
}

/// Logs what is worth a line; true when the core is dead.
fn report(core: usize, beat: &Beat, pulse: Pulse) -> bool {
    match pulse {
        Pulse::Alive | Pulse::Silent => {}
        Pulse::Stalled => {
            let thread = thread_state(beat.thread());
            log!(Error, "core_stalled", core = core, thread = thread);
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
                exit = 1
            );
            return true;
        }
    }
    false
}

/// What the kernel says about a thread: its state, and where it sleeps or which call it is in.
fn thread_state(thread: u32) -> String {
    let read = |file: &str| {
        let path = format!("/proc/self/task/{thread}/{file}");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let stat = read("stat");
    // The name in parentheses may hold anything; the state follows the last one.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    let call = read("syscall");
    let call = call.split_whitespace().next().unwrap_or("unknown");
    let state = state.map_or_else(|| "gone".to_owned(), String::from);
    format!(
        "{thread} state {state} syscall {call} at {}",
        read("wchan").trim()
    )
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
