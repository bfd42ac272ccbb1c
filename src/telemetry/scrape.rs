//! A copy of one core's numbers that may leave it, and how copies of several cores are added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::telemetry::metrics::Group;

/// A copied number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A counter.
    Counter(u64),
    /// A gauge.
    Gauge(i64),
    /// A counter in parts: each part's label value and number.
    Parts(Vec<(&'static str, u64)>),
    /// A distribution of durations.
    Histogram(Box<HistogramCopy>),
}

/// A copied distribution of durations.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramCopy {
    /// Counts by duration in microseconds.
    pub counts: Option<hdrhistogram::Histogram<u64>>,
    /// Sum of all durations, in microseconds.
    pub sum_micros: u64,
}

impl Value {
    /// Adds another core's number of the same metric; a number of another kind changes nothing.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter(a), Self::Counter(b)) => *a = a.wrapping_add(*b),
            (Self::Gauge(a), Self::Gauge(b)) => *a = a.wrapping_add(*b),
            (Self::Parts(a), Self::Parts(b)) => {
                for ((_, a), (_, b)) in a.iter_mut().zip(b) {
                    *a = a.wrapping_add(*b);
                }
            }
            (Self::Histogram(a), Self::Histogram(b)) => {
                a.sum_micros = a.sum_micros.saturating_add(b.sum_micros);
                if let (Some(a), Some(b)) = (a.counts.as_mut(), b.counts.as_ref()) {
                    // Fails only for values beyond the bounds, which all cores share.
                    let _same_bounds = a.add(b);
                }
            }
            _ => {}
        }
    }
}

/// The values of a group's labels, in the order of [`Group::labels`].
pub type LabelValues = Vec<Arc<str>>;

/// Copied numbers: by group and label values, a value for each of the group's families.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    series: BTreeMap<(Group, LabelValues), Vec<Value>>,
}

impl Scrape {
    /// Adds one series; numbers of a series that is there already are added up.
    pub fn insert(&mut self, group: Group, labels: LabelValues, values: Vec<Value>) {
        match self.series.entry((group, labels)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(values);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                for (mine, other) in entry.get_mut().iter_mut().zip(&values) {
                    mine.add(other);
                }
            }
        }
    }

    /// Adds another core's numbers.
    pub fn merge(&mut self, other: Self) {
        for ((group, labels), values) in other.series {
            self.insert(group, labels, values);
        }
    }

    /// The series of `group`, ordered by their labels.
    pub fn of(&self, group: Group) -> impl Iterator<Item = (&LabelValues, &Vec<Value>)> {
        self.series
            .range((group, Vec::new())..)
            .take_while(move |((of, _), _)| *of == group)
            .map(|((_, labels), values)| (labels, values))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::close::CloseReason;
    use crate::telemetry::metrics::CoreMetrics;

    #[test]
    fn cores_add_up_series_by_series() {
        let cores = [CoreMetrics::new(0), CoreMetrics::new(1)];
        for (core, exchanges) in cores.iter().zip([3, 4]) {
            let series = core.exchanges("main", "shard-a");
            for _ in 0..exchanges {
                series.exchanges.inc();
                series.total.record(Duration::from_micros(100));
            }
            series.errors.inc(CloseReason::UpstreamLost);
        }
        cores[1].exchanges("main", "shard-b").exchanges.inc();
        let mut merged = cores[0].scrape();
        merged.merge(cores[1].scrape());
        let of = |placement: &str| {
            let (_, values) = merged
                .of(Group::Exchange)
                .find(|(labels, _)| &*labels[1] == placement)
                .unwrap();
            values.clone()
        };
        assert_eq!(of("shard-a")[0], Value::Counter(7));
        assert_eq!(of("shard-b")[0], Value::Counter(1));
        let durations = of("shard-a").into_iter().find_map(|value| match value {
            Value::Histogram(copy) if copy.sum_micros > 0 => Some(copy),
            _ => None,
        });
        let durations = durations.unwrap();
        assert_eq!(durations.sum_micros, 700);
        assert_eq!(durations.counts.unwrap().len(), 7);
        assert_eq!(merged.of(Group::Core).count(), 2);
    }
}
