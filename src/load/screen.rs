//! The terminal of a live view: a thread that draws, reads keys, and gives the terminal back.
//!
//! The thread is its own, and samples reach it over a bounded channel that is never waited for. A
//! terminal may take nothing for as long as it likes (Ctrl-S, a slow line): were the coordinator to
//! draw, the cores' reports would then fill their channel, and the series' file would stand still.
//! The thread also keeps off the CPUs of the generator's cores where there are others.

use std::io::{self, IsTerminal, stdout};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::dashboard::{Dashboard, Sample};
use crate::core::preflight::allowed_cpus;
use crate::net::read_clock;

/// How long a key may wait, and how often the elapsed time moves.
const LOOK: Duration = Duration::from_millis(100);

/// Samples that may wait for a terminal that takes nothing: ten minutes of them. Later ones are lost
/// to the view alone.
const SAMPLES_MAX: usize = 600;

/// The thread's name, by which a panic's hook knows it.
const THREAD: &str = "load-screen";

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// A terminal with a live view. Dropping it gives the terminal back.
pub struct Screen {
    samples: Option<SyncSender<Sample>>,
    thread: Option<JoinHandle<()>>,
    claim: Arc<Claim>,
    hook: Arc<Hook>,
}

/// Whether standard input and output are a terminal that a live view may take: one with cursor
/// movement, and this process in its foreground.
pub fn is_there() -> bool {
    let input = io::stdin();
    // Fails for a terminal that does not control this process; nobody is in its foreground then.
    let foreground = rustix::termios::tcgetpgrp(&input);
    input.is_terminal()
        && stdout().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        && foreground.map_or(true, |group| group == rustix::process::getpgrp())
}

/// Whether colours are wanted: `NO_COLOR` is absent or empty (<https://no-color.org>).
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Screen {
    /// Takes the terminal. `stop` is set by `q` and Ctrl-C, which is a key while this lives; `cpus`
    /// are those to keep off.
    ///
    /// # Errors
    /// When the terminal refuses, or no thread can be made; the terminal is as before.
    pub fn open(dashboard: Dashboard, stop: Arc<AtomicBool>, cpus: &[usize]) -> io::Result<Self> {
        let claim = Arc::new(Claim::take()?);
        // From here on a panic anywhere gives the terminal back before it is reported.
        let hook = Arc::new(std::panic::take_hook());
        let (mine, former) = (Arc::clone(&claim), Arc::clone(&hook));
        std::panic::set_hook(Box::new(move |info| {
            mine.give_back();
            former(info);
        }));
        let (samples, received) = sync_channel(SAMPLES_MAX);
        let mut screen = Self {
            samples: Some(samples),
            thread: None,
            claim: Arc::clone(&claim),
            hook,
        };
        let cpus = cpus.to_vec();
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        let thread = thread.spawn(move || {
            keep_off(&cpus);
            // A terminal that fails is given back; the run goes on unseen.
            let _unseen = live(dashboard, &received, &stop, &claim);
            claim.give_back();
        });
        screen.thread = Some(thread?);
        Ok(screen)
    }

    /// Shows a sample soon. Never waits.
    pub fn show(&self, sample: Sample) {
        if let Some(samples) = &self.samples {
            let _lost_to_the_view = samples.try_send(sample);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.claim.is_over.store(true, Ordering::Relaxed);
        self.samples = None;
        if let Some(thread) = self.thread.take() {
            let _panic_was_reported = thread.join();
        }
        self.claim.give_back();
        // A thread that panics may not change the hook; it stays, and does nothing more.
        if !std::thread::panicking() {
            let hook = Arc::clone(&self.hook);
            std::panic::set_hook(Box::new(move |info| hook(info)));
        }
    }
}

/// What was done to the terminal, and whether it has been undone.
struct Claim {
    is_over: AtomicBool,
    /// Held while a frame is written; holds whether the terminal has been given back.
    is_back: Mutex<bool>,
}

impl Claim {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let claim = Self {
            is_over: AtomicBool::new(false),
            is_back: Mutex::new(false),
        };
        execute!(stdout(), EnterAlternateScreen, Hide).inspect_err(|_| claim.give_back())?;
        Ok(claim)
    }

    /// Undoes everything, once. Waits for a frame that another thread is writing.
    fn give_back(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut guard = None;
        // The drawing thread itself may have panicked amid a frame: it would wait for itself.
        if std::thread::current().name() != Some(THREAD) || !std::thread::panicking() {
            guard = Some(self.is_back.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if guard.as_ref().is_some_and(|is_back| **is_back) {
            return;
        }
        // There is nobody to tell: the terminal is gone.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        if let Some(is_back) = &mut guard {
            **is_back = true;
        }
    }
}

fn keep_off(cpus: &[usize]) {
    let mut others = CpuSet::new();
    let allowed = allowed_cpus().unwrap_or_default();
    let mut any = false;
    for cpu in allowed.into_iter().filter(|cpu| !cpus.contains(cpu)) {
        others.set(cpu);
        any = true;
    }
    if any {
        // Where it is refused the scheduler decides, as for any thread.
        let _ = sched_setaffinity(None, &others);
    }
}

fn live(
    mut dashboard: Dashboard,
    samples: &Receiver<Sample>,
    stop: &AtomicBool,
    claim: &Claim,
) -> io::Result<()> {
    let mut terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
    let mut seen = read_clock();
    while !claim.is_over.load(Ordering::Relaxed) {
        while let Ok(sample) = samples.try_recv() {
            dashboard.add(sample);
            seen = read_clock();
        }
        if stop.load(Ordering::Relaxed) {
            dashboard.end();
        }
        let since = read_clock().since(seen).as_secs_f64();
        let elapsed = dashboard.known_until().map(|until| until + since);
        {
            let is_back = claim.is_back.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_back {
                return Ok(());
            }
            terminal.draw(|frame| dashboard.draw(frame, elapsed))?;
        }
        if event::poll(LOOK)?
            && let Event::Key(key) = event::read()?
            && ends_run(&key)
        {
            stop.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn ends_run(key: &KeyEvent) -> bool {
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && (is_interrupt || matches!(key.code, KeyCode::Char('q' | 'Q')))
}
