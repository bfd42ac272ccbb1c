//! Log lines of a kind that comes in floods: the first few of an interval are written, the others
//! counted, and the count is a line of its own when the interval is over.
//!
//! Each thread has counts of its own, so that nobody waits for anybody. What is remembered is bounded
//! whatever peers do: beyond [`KINDS_MAX`] kinds, those of one event are one kind.

use std::collections::HashMap;
use std::fmt::Write as _;

use foldhash::fast::FixedState;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::log::{Level, Quoted};

/// Lines of one kind that are written in an interval.
pub const LINES_MAX: u32 = 10;
/// The length of an interval, in milliseconds.
pub const INTERVAL_MS: u64 = 10_000;
/// Kinds that are told apart at the same time.
const KINDS_MAX: usize = 256;

/// What tells the kinds of an event apart, beside its name: fields that each of its lines begins with.
/// Their values are from closed lists, or names of the configuration.
pub type Kind<'a> = [(&'a str, &'a str)];

/// Lines of a kind that were not written.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// That of the first line in the interval.
    pub level: Level,
    /// The event's name.
    pub event: &'static str,
    /// The kind, as fields of a line.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// One thread's counts.
#[derive(Debug, Default)]
pub struct Floods(HashMap<u64, Flood, FixedState>);

/// One kind in its present interval.
#[derive(Debug)]
struct Flood {
    level: Level,
    event: &'static str,
    kind: String,
    /// When the interval began, in milliseconds since 1970.
    since: u64,
    lines: u32,
    left_out: u64,
}

impl Flood {
    /// A clock that was set back ends the interval too.
    fn is_over(&self, now: u64) -> bool {
        now.checked_sub(self.since)
            .is_none_or(|passed| passed >= INTERVAL_MS)
    }

    fn into_left_out(self) -> Option<LeftOut> {
        (self.left_out > 0).then_some(LeftOut {
            level: self.level,
            event: self.event,
            kind: self.kind,
            count: self.left_out,
        })
    }
}

impl Floods {
    /// Whether a line of this kind is to be written at `now`, milliseconds since 1970; it counts as
    /// written then. Ask for [`Floods::ended`] before.
    pub fn admits(&mut self, level: Level, event: &'static str, kind: &Kind<'_>, now: u64) -> bool {
        let mark = |kind: &Kind<'_>| {
            let seed = xxh3_64_with_seed(event.as_bytes(), 0);
            let parts = kind.iter().flat_map(|(key, value)| [key, value]);
            parts.fold(seed, |seed, part| xxh3_64_with_seed(part.as_bytes(), seed))
        };
        let (mut key, mut kind) = (mark(kind), kind);
        if self.0.len() >= KINDS_MAX && !self.0.contains_key(&key) {
            (key, kind) = (mark(&[]), &[]);
        }
        let fresh = || Flood {
            level,
            event,
            kind: fields(kind),
            since: now,
            lines: 0,
            left_out: 0,
        };
        let flood = self.0.entry(key).or_insert_with(fresh);
        if flood.lines < LINES_MAX {
            flood.lines = flood.lines.saturating_add(1);
            return true;
        }
        flood.left_out = flood.left_out.saturating_add(1);
        false
    }

    /// What was left out in intervals that are over at `now`. They are forgotten.
    pub fn ended(&mut self, now: u64) -> Vec<LeftOut> {
        let over = self.0.extract_if(|_, flood| flood.is_over(now));
        over.filter_map(|(_, flood)| flood.into_left_out())
            .collect()
    }

    /// What was left out in all intervals, of which this is the end.
    pub fn end(&mut self) -> Vec<LeftOut> {
        let all = self.0.drain();
        all.filter_map(|(_, flood)| flood.into_left_out()).collect()
    }
}

/// The kind as it stands in a line, each field behind a blank.
fn fields(kind: &Kind<'_>) -> String {
    let mut text = String::new();
    for (key, value) in kind {
        // Writing to a string cannot fail.
        let _infallible = write!(text, " {key}={}", Quoted(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` lines at `now` are written.
    fn written(floods: &mut Floods, kind: &Kind<'_>, now: u64, count: u32) -> u32 {
        let lines = (0..count).filter(|_| floods.admits(Level::Warn, "e", kind, now));
        u32::try_from(lines.count()).unwrap()
    }

    #[test]
    fn the_first_lines_of_an_interval_are_written_and_the_others_counted() {
        let mut floods = Floods::default();
        let (a, b) = ([("reason", "a b")], [("reason", "b")]);
        assert_eq!(written(&mut floods, &a, 5, 1_000), LINES_MAX);
        assert_eq!(written(&mut floods, &b, 5, LINES_MAX), LINES_MAX);
        assert_eq!(floods.ended(4 + INTERVAL_MS), [], "the interval goes on");
        let left_out = LeftOut {
            level: Level::Warn,
            event: "e",
            kind: " reason=\"a b\"".to_owned(),
            count: 1_000 - u64::from(LINES_MAX),
        };
        assert_eq!(floods.ended(5 + INTERVAL_MS), [left_out], "of one kind");
        assert!(floods.0.is_empty(), "nothing is kept of kinds that ended");
        assert_eq!(written(&mut floods, &a, 5 + INTERVAL_MS, 20), LINES_MAX);
        assert_eq!(floods.end().first().map(|last| last.count), Some(10));
        assert_eq!(floods.end(), []);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_interval() {
        let mut floods = Floods::default();
        written(&mut floods, &[], 1_000_000, LINES_MAX + 7);
        let ended = floods.ended(999_999);
        assert_eq!(ended.first().map(|left_out| left_out.count), Some(7));
    }

    #[test]
    fn kinds_beyond_the_bound_are_one() {
        let mut floods = Floods::default();
        let mut lines = 0;
        for n in 0..10_000 {
            let name = n.to_string();
            lines += written(&mut floods, &[("tenant", &name)], 0, 1);
        }
        assert_eq!(floods.0.len(), KINDS_MAX + 1);
        let most = u32::try_from(KINDS_MAX).unwrap() + LINES_MAX;
        assert_eq!(lines, most);
        let counts = floods.end();
        assert_eq!(counts.len(), 1, "{counts:?}");
        assert_eq!(counts[0].count, 10_000 - u64::from(lines));
        assert_eq!(counts[0].kind, "");
    }
}
