//! The files of a run: `result.json`, and the histograms in forms that HdrHistogram's tools read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;

use super::histogram::Latencies;
use super::record::Failure;
use super::result::{FILE_NAME, RunResult};
use super::series::Tick;

/// Response times by interval, with the group as tag: the log form of HdrHistogram.
pub const LOG_NAME: &str = "latency.hlog";
/// Response times by percentile, for HdrHistogram's plotter.
pub const PERCENTILES_NAME: &str = "latency.hgrm";
/// One JSON object a line for each interval.
pub const SERIES_NAME: &str = "series.ndjson";

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

/// The files that are written while a run goes on.
pub struct Files {
    directory: PathBuf,
    log: BufWriter<File>,
    series: BufWriter<File>,
    tags: Vec<String>,
}

/// A line of the series.
#[derive(Serialize)]
struct Line<'a> {
    began_s: f64,
    seconds: f64,
    counts: bool,
    offered_rate: Option<f64>,
    group: &'a str,
    planned: u64,
    sent: u64,
    completed: u64,
    wrong: u64,
    errors: std::collections::BTreeMap<&'static str, u64>,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    send_lag_p99_ns: u64,
}

impl Files {
    /// Makes `directory` and the files in it. An earlier run's files are replaced.
    ///
    /// # Errors
    /// [`WriteError`] with the path.
    pub fn create(
        directory: &Path,
        groups: Vec<String>,
        began: SystemTime,
    ) -> Result<Self, WriteError> {
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let open = |name: &str| {
            let path = directory.join(name);
            File::create(&path).map(BufWriter::new).map_err(at(&path))
        };
        let (mut log, series) = (open(LOG_NAME)?, open(SERIES_NAME)?);
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .with_start_time(began)
            .with_base_time(began)
            .add_comment("response times in nanoseconds, counted from the intended start")
            .begin_log_with(&mut log, &mut serializer)
            .map_err(at(&directory.join(LOG_NAME)))?;
        // Tags may hold no comma, blank or line end.
        let tag = |name: &String| name.replace([',', ' ', '\n', '\r'], "_");
        Ok(Self {
            directory: directory.to_owned(),
            log,
            series,
            tags: groups.iter().map(tag).collect(),
        })
    }

    /// Appends an interval.
    ///
    /// # Errors
    /// [`WriteError`] with the path.
    pub fn tick(&mut self, tick: &Tick) -> Result<(), WriteError> {
        for (record, tag) in tick.groups.iter().zip(&self.tags) {
            let path = self.directory.join(LOG_NAME);
            let mut serializer = V2DeflateSerializer::new();
            IntervalLogWriterBuilder::new()
                .begin_log_with(&mut self.log, &mut serializer)
                .map_err(at(&path))?
                .write_histogram(
                    record.response.inner(),
                    Duration::from_secs_f64(tick.began_s),
                    Duration::from_secs_f64(tick.seconds),
                    Tag::new(tag),
                )
                .map_err(|error| at(&path)(io::Error::other(format!("{error:?}"))))?;
            let failures = Failure::ALL.iter().zip(record.failures);
            let line = Line {
                began_s: tick.began_s,
                seconds: tick.seconds,
                counts: tick.counts,
                offered_rate: tick.offered_rate,
                group: tag,
                planned: record.planned,
                sent: record.sent,
                completed: record.completed,
                wrong: record.wrong,
                errors: failures
                    .filter(|(_, count)| *count > 0)
                    .map(|(class, count)| (class.label(), count))
                    .collect(),
                p50_ns: record.response.quantile(0.5),
                p99_ns: record.response.quantile(0.99),
                p999_ns: record.response.quantile(0.999),
                max_ns: record.response.bounds().1,
                send_lag_p99_ns: record.send_lag.quantile(0.99),
            };
            let path = self.directory.join(SERIES_NAME);
            serde_json::to_writer(&mut self.series, &line)
                .map_err(io::Error::from)
                .and_then(|()| self.series.write_all(b"\n"))
                .map_err(at(&path))?;
        }
        Ok(())
    }

    /// Writes the result, and all response times by percentile.
    ///
    /// # Errors
    /// [`WriteError`] with the path.
    pub fn finish(mut self, result: &RunResult, response: &Latencies) -> Result<(), WriteError> {
        self.log
            .flush()
            .map_err(at(&self.directory.join(LOG_NAME)))?;
        self.series
            .flush()
            .map_err(at(&self.directory.join(SERIES_NAME)))?;
        let path = self.directory.join(PERCENTILES_NAME);
        std::fs::write(&path, percentiles(response)).map_err(at(&path))?;
        result.write(&self.directory)
    }
}

impl RunResult {
    /// Writes `result.json` into `directory`, which is made where it is missing.
    ///
    /// # Errors
    /// [`WriteError`] with the path.
    pub fn write(&self, directory: &Path) -> Result<(), WriteError> {
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join(FILE_NAME);
        let text = serde_json::to_string_pretty(self).map_err(|e| at(&path)(e.into()))?;
        std::fs::write(&path, text + "\n").map_err(at(&path))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> WriteError + use<> {
    let path = path.to_owned();
    move |error| WriteError {
        path: path.clone(),
        error,
    }
}

/// The percentile distribution as HdrHistogram's own tools print it, in milliseconds.
fn percentiles(latencies: &Latencies) -> String {
    use std::fmt::Write;
    const MILLISECOND: f64 = 1e6;
    let histogram = latencies.inner();
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / MILLISECOND;
        let quantile = step.quantile_iterated_to();
        // Writing to memory does not fail.
        let _ = write!(out, "{value:>12.3} {quantile:>2.12} {total:>10}");
        let _ = match quantile < 1.0 {
            true => writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(out),
        };
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.mean() / MILLISECOND,
        histogram.stdev() / MILLISECOND,
        histogram.max() as f64 / MILLISECOND,
        histogram.len(),
        histogram.buckets(),
        2048,
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::record::Record;

    #[test]
    fn the_log_is_read_back_by_the_library() {
        let directory = std::env::temp_dir().join(format!("ringgate-files-{}", std::process::id()));
        let groups = vec!["a group".to_owned()];
        let mut files = Files::create(&directory, groups, SystemTime::now()).unwrap();
        let mut record = Record::default();
        record.response.record(1_500_000);
        for second in 0..3_u8 {
            let tick = Tick {
                began_s: second.into(),
                seconds: 1.0,
                offered_rate: Some(10.0),
                counts: true,
                groups: vec![record.clone()],
                connections: 1,
                backlog: 0,
                by_core: vec![1],
            };
            files.tick(&tick).unwrap();
        }
        files.log.flush().unwrap();
        files.series.flush().unwrap();
        let bytes = std::fs::read(directory.join(LOG_NAME)).unwrap();
        let mut seen = 0;
        for entry in IntervalLogIterator::new(&bytes) {
            let LogEntry::Interval(interval) = entry.unwrap() else {
                continue;
            };
            assert_eq!(
                interval.tag().map(|tag| tag.as_str().to_owned()),
                Some("a_group".to_owned())
            );
            let encoded = interval.encoded_histogram();
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .unwrap();
            let histogram: hdrhistogram::Histogram<u64> = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .unwrap();
            assert_eq!(histogram.len(), 1);
            seen += 1;
        }
        assert_eq!(seen, 3);
        let series = std::fs::read_to_string(directory.join(SERIES_NAME)).unwrap();
        assert_eq!(series.lines().count(), 3);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn percentiles_end_at_the_maximum_and_count_everything() {
        let mut latencies = Latencies::new();
        (1..=1_000).for_each(|n| latencies.record(n * 10_000));
        let text = percentiles(&latencies);
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(fields, ["10.002", "1.000000000000", "1000"], "{text}");
    }
}
