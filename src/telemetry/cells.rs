//! The kinds of numbers a core keeps: plain cells, written by one core and copied by a scrape.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::base::close::CloseReason;
use crate::base::pin::PinReason;
use crate::telemetry::scrape::{HistogramCopy, Value};

/// How a metric's number behaves over time, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It grows and shrinks.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

impl Kind {
    /// The word of the `# TYPE` line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A number that a scrape can copy.
pub trait Sample: Default {
    /// How it behaves.
    const KIND: Kind;
    /// The label that its parts differ in, when it has parts.
    const LABEL: Option<&'static str>;

    /// A copy of the number as it is.
    fn sample(&self) -> Value;
}

/// A number that several owners of one core count on.
impl<T: Sample> Sample for Rc<T> {
    const KIND: Kind = T::KIND;
    const LABEL: Option<&'static str> = T::LABEL;

    fn sample(&self) -> Value {
        (**self).sample()
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    /// Takes over a total that is counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.set(total);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Sample for Counter {
    const KIND: Kind = Kind::Counter;
    const LABEL: Option<&'static str> = None;

    fn sample(&self) -> Value {
        Value::Counter(self.get())
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(Cell<i64>);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.set(self.0.get().wrapping_sub(1));
    }

    /// Replaces the number.
    pub fn set(&self, n: u64) {
        self.0.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// The number now.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

impl Sample for Gauge {
    const KIND: Kind = Kind::Gauge;
    const LABEL: Option<&'static str> = None;

    fn sample(&self) -> Value {
        Value::Gauge(self.get())
    }
}

/// A counter for each member of a closed list of reasons.
#[derive(Debug)]
pub struct ByClose(Box<[Cell<u64>]>);

impl ByClose {
    /// Adds one to `reason`.
    pub fn inc(&self, reason: CloseReason) {
        increment(&self.0, reason.index());
    }

    /// The count of `reason`.
    pub fn get(&self, reason: CloseReason) -> u64 {
        self.0.get(reason.index()).map_or(0, Cell::get)
    }
}

impl Default for ByClose {
    fn default() -> Self {
        Self(CloseReason::ALL.iter().map(|_| Cell::new(0)).collect())
    }
}

impl Sample for ByClose {
    const KIND: Kind = Kind::Counter;
    const LABEL: Option<&'static str> = Some("reason");

    fn sample(&self) -> Value {
        let names = CloseReason::ALL.iter().map(|reason| reason.label());
        Value::Parts(names.zip(self.0.iter().map(Cell::get)).collect())
    }
}

/// A counter for each [`PinReason`].
#[derive(Debug)]
pub struct ByPin(Box<[Cell<u64>]>);

impl ByPin {
    /// Adds one to `reason`.
    pub fn inc(&self, reason: PinReason) {
        increment(&self.0, reason.index());
    }

    /// The count of `reason`.
    pub fn get(&self, reason: PinReason) -> u64 {
        self.0.get(reason.index()).map_or(0, Cell::get)
    }
}

impl Default for ByPin {
    fn default() -> Self {
        Self(PinReason::ALL.iter().map(|_| Cell::new(0)).collect())
    }
}

impl Sample for ByPin {
    const KIND: Kind = Kind::Counter;
    const LABEL: Option<&'static str> = Some("reason");

    fn sample(&self) -> Value {
        let names = PinReason::ALL.iter().map(|reason| reason.label());
        Value::Parts(names.zip(self.0.iter().map(Cell::get)).collect())
    }
}

fn increment(cells: &[Cell<u64>], index: usize) {
    if let Some(cell) = cells.get(index) {
        cell.set(cell.get().wrapping_add(1));
    }
}

/// The longest duration told apart from longer ones, in microseconds: one minute.
const LONGEST_MICROS: u64 = 60_000_000;
/// Decimal digits of a duration that are kept: buckets are at most 1 % wide.
const DIGITS: u8 = 2;

/// A distribution of durations, in microseconds. Allocates when made, never when recording.
#[derive(Debug)]
pub struct Durations {
    /// `None` only if the constant bounds above were invalid.
    counts: RefCell<Option<hdrhistogram::Histogram<u64>>>,
    sum_micros: Cell<u64>,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            counts: RefCell::new(
                hdrhistogram::Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).ok(),
            ),
            sum_micros: Cell::new(0),
        }
    }
}

impl Durations {
    /// Counts one duration; more than a minute counts as a minute in the distribution, in full in the sum.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros
            .set(self.sum_micros.get().saturating_add(micros));
        if let Some(counts) = self.counts.borrow_mut().as_mut() {
            counts.saturating_record(micros);
        }
    }

    /// Durations counted so far.
    pub fn count(&self) -> u64 {
        self.counts
            .borrow()
            .as_ref()
            .map_or(0, |counts| counts.len())
    }
}

impl Sample for Durations {
    const KIND: Kind = Kind::Histogram;
    const LABEL: Option<&'static str> = None;

    fn sample(&self) -> Value {
        Value::Histogram(Box::new(HistogramCopy {
            counts: self.counts.borrow().clone(),
            sum_micros: self.sum_micros.get(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_cell() {
        let (closes, pins) = (ByClose::default(), ByPin::default());
        for &reason in CloseReason::ALL {
            closes.inc(reason);
        }
        closes.inc(CloseReason::Drain);
        pins.inc(PinReason::Unknown);
        assert_eq!(closes.get(CloseReason::Panic), 1);
        assert_eq!(closes.get(CloseReason::Drain), 2);
        assert_eq!(pins.get(PinReason::Unknown), 1);
        let Value::Parts(parts) = closes.sample() else {
            panic!("a counter with parts");
        };
        assert_eq!(parts.len(), CloseReason::ALL.len());
        assert!(parts.contains(&("drain", 2)));
    }

    #[test]
    fn durations_of_any_length_are_counted() {
        let durations = Durations::default();
        for duration in [Duration::ZERO, Duration::from_micros(15), Duration::MAX] {
            durations.record(duration);
        }
        assert_eq!(durations.count(), 3);
        assert_eq!(durations.sum_micros.get(), u64::MAX);
    }

    #[test]
    fn a_gauge_goes_below_zero_rather_than_wrapping_around() {
        let gauge = Gauge::default();
        gauge.dec();
        assert_eq!(gauge.get(), -1);
        gauge.set(u64::MAX);
        assert_eq!(gauge.get(), i64::MAX);
    }
}
