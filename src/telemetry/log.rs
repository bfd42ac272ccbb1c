//! Log lines: `key=value` pairs through a bounded queue to a writer thread.
//!
//! A thread that logs never waits for the sink: when the queue is full the line is dropped and counted.
//! Names of events and values are escaped, so that one event is one line whatever a peer sent. Statements, passwords and
//! their literals are never passed here.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::flood::{Floods, Kind, LeftOut};

/// Lines that may wait for the sink.
const QUEUE_LINES: usize = 8192;
/// Characters of one value that are kept.
const VALUE_MAX: usize = 1024;
/// How long the writer sleeps at most; it is woken for every line.
const WRITER_SLEEP: Duration = Duration::from_secs(3600);

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is lost or broken: look now.
    Error,
    /// Something is not as it should be and was dealt with.
    Warn,
    /// The life of the node.
    Info,
    /// The life of single connections.
    Debug,
}

impl Level {
    /// The level's name in a line and in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug]
            .into_iter()
            .find(|level| level.label() == name)
    }
}

struct Shared {
    lines: ArrayQueue<String>,
    dropped: AtomicU64,
    least: AtomicU8,
    ended: AtomicBool,
    /// The time of day as milliseconds since 1970, told by the layer that may read clocks.
    clock: fn() -> u64,
    writer: OnceLock<std::thread::Thread>,
}

/// A log whose lines go to one sink.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

/// The thread that writes a log's lines. Dropping it writes what waits and ends the thread.
#[derive(Debug)]
pub struct Writer {
    log: Log,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// A log that writes lines of `level` and above to `sink`, on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(
        level: Level,
        clock: fn() -> u64,
        sink: Box<dyn Write + Send>,
    ) -> std::io::Result<(Self, Writer)> {
        Self::with_queue(QUEUE_LINES, level, clock, sink)
    }

    fn with_queue(
        lines: usize,
        level: Level,
        clock: fn() -> u64,
        sink: Box<dyn Write + Send>,
    ) -> std::io::Result<(Self, Writer)> {
        let log = Self(Arc::new(Shared {
            lines: ArrayQueue::new(lines),
            dropped: AtomicU64::new(0),
            least: AtomicU8::new(level as u8),
            ended: AtomicBool::new(false),
            clock,
            writer: OnceLock::new(),
        }));
        let shared = Arc::clone(&log.0);
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(&shared, sink))?;
        let _first = log.0.writer.set(thread.thread().clone());
        let writer = Writer {
            log: log.clone(),
            thread: Some(thread),
        };
        Ok((log, writer))
    }

    /// Changes the least level that is written.
    pub fn set_level(&self, level: Level) {
        self.0.least.store(level as u8, Ordering::Relaxed);
    }

    /// Whether lines of `level` are written.
    pub fn is_enabled(&self, level: Level) -> bool {
        level as u8 <= self.0.least.load(Ordering::Relaxed)
    }

    /// Queues one line; never blocks.
    pub fn line(&self, level: Level, event: &str, fields: &[(&str, &dyn fmt::Display)]) {
        if !self.is_enabled(level) {
            return;
        }
        self.push(render((self.0.clock)(), level, event, fields));
    }

    fn push(&self, line: String) {
        if self.0.lines.push(line).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(writer) = self.0.writer.get() {
            writer.unpark();
        }
    }

    /// One line for each kind of lines that were left out.
    fn tell(&self, left_out: Vec<LeftOut>) {
        for LeftOut {
            level,
            event,
            kind,
            count,
        } in left_out
        {
            let mut line = begin((self.0.clock)(), level, "lines left out");
            // Writing to a string cannot fail.
            let _infallible = writeln!(line, " of={}{kind} count={count}", Quoted(event));
            self.push(line);
        }
    }

    /// Lines dropped because the sink was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Writes what waits and ends the thread, for about `patience`; a sink that takes nothing for longer
    /// loses the rest.
    pub fn finish(mut self, patience: Duration) {
        const STEP: Duration = Duration::from_millis(1);
        self.log.0.ended.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else {
            return;
        };
        thread.thread().unpark();
        let mut left = patience;
        while !thread.is_finished() && !left.is_zero() {
            std::thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.0.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A writer that panicked has nothing left to write.
            let _ended = thread.join();
        }
    }
}

fn write_lines(shared: &Shared, mut sink: Box<dyn Write + Send>) {
    let mut batch = String::new();
    loop {
        let ended = shared.ended.load(Ordering::Acquire);
        while let Some(line) = shared.lines.pop() {
            batch.push_str(&line);
            if batch.len() > 64 * 1024 {
                break;
            }
        }
        if !batch.is_empty() {
            // There is nowhere to report a broken log to.
            let _lost = sink.write_all(batch.as_bytes());
            batch.clear();
            continue;
        }
        if ended {
            let _lost = sink.flush();
            return;
        }
        std::thread::park_timeout(WRITER_SLEEP);
    }
}

static NODE: OnceLock<Log> = OnceLock::new();

/// Makes `log` the one that [`crate::log!`] and [`node`] use; only the first call counts.
pub fn install(log: Log) {
    let _first_counts = NODE.set(log);
}

/// The process's log, once installed.
pub fn node() -> Option<&'static Log> {
    NODE.get()
}

thread_local! {
    static FLOODS: RefCell<Floods> = RefCell::default();
}

/// Writes a line to the process's log, as [`crate::log!`], of an event that peers can bring about as often
/// as they like: of each `kind` the first lines of an interval are written, the others counted. The
/// thread has to call [`tell_left_out`] from time to time.
pub fn often(
    level: Level,
    event: &'static str,
    kind: &Kind<'_>,
    more: &[(&str, &dyn fmt::Display)],
) {
    let Some(log) = node().filter(|log| log.is_enabled(level)) else {
        return;
    };
    tell_left_out();
    let now = (log.0.clock)();
    if !FLOODS.with_borrow_mut(|floods| floods.admits(level, event, kind, now)) {
        return;
    }
    let kind = kind
        .iter()
        .map(|(key, value)| (*key, value as &dyn fmt::Display));
    let fields: Vec<_> = kind.chain(more.iter().copied()).collect();
    log.line(level, event, &fields);
}

/// Writes how many lines [`often`] has left out on this thread in intervals that are over.
pub fn tell_left_out() {
    let Some(log) = node() else { return };
    let now = (log.0.clock)();
    log.tell(FLOODS.with_borrow_mut(|floods| floods.ended(now)));
}

/// As [`tell_left_out`], at the end of the thread: of all intervals.
pub fn tell_all_left_out() {
    let Some(log) = node() else { return };
    log.tell(FLOODS.with_borrow_mut(Floods::end));
}

/// Writes a line to the process's log: `log!(Info, "listening", door = name, address = address)`.
/// The event is a fixed word; fields are evaluated only when the level is enabled.
#[macro_export]
macro_rules! log {
    ($level:ident, $event:literal $(, $key:ident = $value:expr)* $(,)?) => {
        if let Some(log) = $crate::telemetry::log::node()
            && log.is_enabled($crate::telemetry::log::Level::$level)
        {
            log.line(
                $crate::telemetry::log::Level::$level,
                $event,
                &[$((stringify!($key), &$value as &dyn std::fmt::Display),)*],
            );
        }
    };
}

/// What every line begins with.
fn begin(millis: u64, level: Level, event: &str) -> String {
    let mut line = String::with_capacity(128);
    let (time, level) = (Utc(millis), level.label());
    // Writing to a string cannot fail.
    let _infallible = write!(line, "time={time} level={level} event={}", Quoted(event));
    line
}

fn render(millis: u64, level: Level, event: &str, fields: &[(&str, &dyn fmt::Display)]) -> String {
    let mut line = begin(millis, level, event);
    let mut value = String::new();
    for (key, field) in fields {
        value.clear();
        // Writing to a string cannot fail.
        let _infallible = write!(value, "{field}");
        let _infallible = write!(line, " {key}={}", Quoted(&value));
    }
    line.push('\n');
    line
}

/// A value as it stands in a line: bare when it is plain, otherwise quoted and escaped.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@+-[]%,".contains(c);
        if !self.0.is_empty() && self.0.len() <= VALUE_MAX && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars().take(VALUE_MAX) {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                // Control characters and those that reorder or hide text on a terminal.
                c if c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) => {
                    write!(f, "\\u{{{:x}}}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
        }
        if self.0.chars().nth(VALUE_MAX).is_some() {
            f.write_str("…")?;
        }
        f.write_char('"')
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub struct Utc(pub u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: years
        // that begin in March, eras of 400 years.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = era * 400 + year + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _reader_gone = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn text(lines: &mpsc::Receiver<Vec<u8>>) -> String {
        String::from_utf8(lines.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn times_are_rfc_3339() {
        let check = |millis, expect: &str| assert_eq!(Utc(millis).to_string(), expect);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_000, "2024-02-29T23:59:59.000Z");
        check(1_767_225_600_123, "2026-01-01T00:00:00.123Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_value_never_breaks_out_of_its_line() {
        let check = |value: &str, expect: &str| assert_eq!(Quoted(value).to_string(), expect);
        check("127.0.0.1:3306", "127.0.0.1:3306");
        check("", "\"\"");
        check("two words", "\"two words\"");
        check("a\nlevel=error", "\"a\\nlevel=error\"");
        check("q\"\\", "\"q\\\"\\\\\"");
        check("\u{1b}[31m\0", "\"\\u{1b}[31m\\u{0}\"");
        check("\u{202e}x", "\"\\u{202e}x\"");
        check("k=v", "\"k=v\"");
        assert_eq!(
            Quoted(&"x".repeat(2000)).to_string().chars().count(),
            VALUE_MAX + 3
        );
    }

    #[test]
    fn lines_below_the_level_are_not_written_and_the_rest_arrives_in_order() {
        let (sink, lines) = mpsc::channel();
        let (log, writer) = Log::start(Level::Info, || 0, Box::new(Sink(sink))).unwrap();
        log.line(Level::Debug, "hidden", &[]);
        log.line(
            Level::Info,
            "listening",
            &[("door", &"main"), ("cores", &2)],
        );
        log.line(Level::Error, "two words", &[]);
        log.set_level(Level::Debug);
        log.line(Level::Debug, "shown", &[]);
        drop(writer);
        assert_eq!(
            text(&lines),
            "time=1970-01-01T00:00:00.000Z level=info event=listening door=main cores=2\n\
             time=1970-01-01T00:00:00.000Z level=error event=\"two words\"\n\
             time=1970-01-01T00:00:00.000Z level=debug event=shown\n"
        );
    }

    #[test]
    fn a_sink_that_takes_nothing_costs_lines_but_no_time() {
        /// Takes its first write only when told to.
        struct Blocked(mpsc::Receiver<()>, Sink);
        impl Write for Blocked {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _told_or_gone = self.0.recv();
                self.1.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (open, blocked) = mpsc::channel();
        let (sink, lines) = mpsc::channel();
        let sink = Box::new(Blocked(blocked, Sink(sink)));
        let (log, writer) = Log::with_queue(4, Level::Info, || 0, sink).unwrap();
        for n in 0..100 {
            log.line(Level::Info, "n", &[("n", &n)]);
        }
        // The queue holds 4; the writer may have taken some of them before it was blocked.
        let written = 100 - log.dropped();
        assert!((4..100).contains(&written), "{written}");
        drop(open);
        drop(writer);
        assert_eq!(text(&lines).lines().count() as u64, written);
    }

    #[test]
    fn level_names_are_read_back() {
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug] {
            assert_eq!(Level::parse(level.label()), Some(level));
        }
        assert_eq!(Level::parse("INFO"), None);
    }
}
