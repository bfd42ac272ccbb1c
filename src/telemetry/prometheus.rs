//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::{Display, Write};

use crate::telemetry::metrics::{Family, Group};
use crate::telemetry::scrape::{HistogramCopy, Scrape, Value};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the published buckets, in microseconds, with their text in seconds.
const BUCKETS: [(u64, &str); 20] = [
    (25, "0.000025"),
    (50, "0.00005"),
    (75, "0.000075"),
    (100, "0.0001"),
    (150, "0.00015"),
    (250, "0.00025"),
    (500, "0.0005"),
    (750, "0.00075"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

/// A page of metrics under construction.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Writes a metric's `# HELP` and `# TYPE` lines.
    pub fn head(&mut self, family: &Family) {
        self.write(format_args!(
            "# HELP {name} {help}\n# TYPE {name} {kind}\n",
            name = family.name,
            help = family.help.trim(),
            kind = family.kind.word(),
        ));
    }

    /// Writes one sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.write(format_args!("{label}=\"{}\"", Escaped(text)));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    /// Writes a metric that has one number.
    pub fn single(&mut self, family: &Family, labels: &[(&str, &str)], value: impl Display) {
        self.head(family);
        self.sample(family.name, labels, value);
    }

    /// Writes all metrics of all groups.
    pub fn scrape(&mut self, scrape: &Scrape) {
        for &group in Group::ALL {
            for (index, family) in group.families().iter().enumerate() {
                self.head(family);
                for (values, numbers) in scrape.of(group) {
                    let values = values.iter().map(AsRef::as_ref);
                    let labels: Vec<_> = group.labels().iter().copied().zip(values).collect();
                    if let Some(number) = numbers.get(index) {
                        self.value(family, labels, number);
                    }
                }
            }
        }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }

    fn value(&mut self, family: &Family, mut labels: Vec<(&str, &str)>, value: &Value) {
        match value {
            Value::Counter(n) => self.sample(family.name, &labels, n),
            Value::Gauge(n) => self.sample(family.name, &labels, n),
            Value::Parts(parts) => {
                for (part, n) in parts {
                    labels.push((family.part.unwrap_or("part"), part));
                    self.sample(family.name, &labels, n);
                    labels.pop();
                }
            }
            Value::Histogram(copy) => self.histogram(family.name, labels, copy),
        }
    }

    fn histogram(&mut self, name: &str, mut labels: Vec<(&str, &str)>, copy: &HistogramCopy) {
        let Some(counts) = &copy.counts else { return };
        let bucket = format!("{name}_bucket");
        let (mut below, mut from) = (0, 0);
        for (bound, text) in BUCKETS {
            below += counts.count_between(from, bound);
            // The next bucket begins after everything that counts as equal to this bound.
            from = counts.highest_equivalent(bound).saturating_add(1);
            labels.push(("le", text));
            self.sample(&bucket, &labels, below);
            labels.pop();
        }
        labels.push(("le", "+Inf"));
        self.sample(&bucket, &labels, counts.len());
        labels.pop();
        let (seconds, micros) = (copy.sum_micros / 1_000_000, copy.sum_micros % 1_000_000);
        let sum = format_args!("{seconds}.{micros:06}").to_string();
        self.sample(&format!("{name}_sum"), &labels, sum);
        self.sample(&format!("{name}_count"), &labels, counts.len());
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _infallible = self.0.write_fmt(text);
    }
}

/// A label's value as the format wants it: `\`, `"` and line feeds escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::CoreMetrics;

    fn page(metrics: &CoreMetrics) -> String {
        let mut page = Page::default();
        page.scrape(&metrics.scrape());
        page.into_text()
    }

    fn lines(page: &str, start: &str) -> Vec<String> {
        let found = page.lines().filter(|line| line.starts_with(start));
        found.map(str::to_owned).collect()
    }

    #[test]
    fn a_counter_has_help_type_and_labels() {
        let metrics = CoreMetrics::new(3);
        metrics.door("ma\"in\n").accepted.add(2);
        metrics.core().panics.inc();
        let page = page(&metrics);
        assert!(page.contains(
            "# HELP ringgate_connections_accepted_total Downstream connections accepted.\n\
             # TYPE ringgate_connections_accepted_total counter\n\
             ringgate_connections_accepted_total{door=\"ma\\\"in\\n\"} 2\n"
        ));
        assert_eq!(
            lines(&page, "ringgate_panics_total"),
            ["ringgate_panics_total{core=\"3\"} 1"]
        );
    }

    #[test]
    fn a_counter_in_parts_has_a_sample_for_each_reason() {
        use crate::base::close::CloseReason;
        let metrics = CoreMetrics::new(0);
        metrics.door("main").closed.inc(CloseReason::ClientQuit);
        let page = page(&metrics);
        let samples = lines(&page, "ringgate_connections_closed_total{");
        assert_eq!(samples.len(), CloseReason::ALL.len());
        assert_eq!(
            samples[0],
            "ringgate_connections_closed_total{door=\"main\",reason=\"client_quit\"} 1"
        );
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_end_with_the_count() {
        let metrics = CoreMetrics::new(0);
        let series = metrics.exchanges("main", "a");
        for micros in [0, 20, 25, 26, 30, 900, 2_000_000, 90_000_000] {
            series.total.record(Duration::from_micros(micros));
        }
        let page = page(&metrics);
        let of = "ringgate_exchange_seconds";
        let check = |le: &str, expect: u64| {
            let sample =
                format!("{of}_bucket{{door=\"main\",placement=\"a\",le=\"{le}\"}} {expect}");
            assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
        };
        check("0.000025", 3);
        check("0.00005", 5);
        check("0.00075", 5);
        check("0.001", 6);
        check("1", 6);
        check("2.5", 7);
        check("10", 7);
        check("+Inf", 8);
        assert_eq!(
            lines(&page, "ringgate_exchange_seconds_"),
            [
                lines(&page, "ringgate_exchange_seconds_bucket"),
                vec![
                    format!("{of}_sum{{door=\"main\",placement=\"a\"}} 92.001001"),
                    format!("{of}_count{{door=\"main\",placement=\"a\"}} 8"),
                ]
            ]
            .concat()
        );
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let metrics = CoreMetrics::new(0);
        metrics.exchanges("main", "a");
        metrics.endpoint("a", "db1:3306");
        metrics.door("main");
        for line in page(&metrics).lines() {
            let sample = line.rsplit_once(' ').is_some_and(|(series, number)| {
                series.starts_with("ringgate_") && number.parse::<f64>().is_ok()
            });
            assert!(sample || line.starts_with("# "), "{line}");
        }
    }
}
