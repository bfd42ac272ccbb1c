//! What a process has used, from `/proc` (proc(5)).

use std::path::PathBuf;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

use super::result::ProcessUse;

/// A reading of a process's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its name.
    pub name: String,
    /// User time in microseconds.
    pub user_us: u64,
    /// System time in microseconds.
    pub system_us: u64,
    /// Both, by the process's CPU clock, in nanoseconds: the two above come in ticks of some milliseconds.
    pub cpu_ns: u64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
}

/// The process cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} cannot be read: {error}; name a running process with --pid")]
pub struct NoProcess {
    /// Its number.
    pub pid: u32,
    /// What the system says.
    pub error: std::io::Error,
}

/// Reads the counters of `pid`, its threads included.
///
/// # Errors
/// [`NoProcess`] when it does not run or may not be looked at.
pub fn read(pid: u32) -> Result<Usage, NoProcess> {
    let base = PathBuf::from("/proc").join(pid.to_string());
    let file = |name: &str| {
        std::fs::read_to_string(base.join(name)).map_err(|error| NoProcess { pid, error })
    };
    let (stat, status) = (file("stat")?, file("status")?);
    let ticks = rustix::param::clock_ticks_per_second();
    let mut usage = parse_stat(&stat, ticks).unwrap_or_default();
    usage.rss_kib = parse_rss(&status);
    usage.cpu_ns = cpu_clock(pid).map_err(|error| NoProcess { pid, error })?;
    Ok(usage)
}

/// CPU time of a process and its threads, in nanoseconds (clock_getcpuclockid(3)).
fn cpu_clock(pid: u32) -> std::io::Result<u64> {
    let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?.now()?;
    Ok(u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

/// The times in `/proc/PID/stat`: the name stands in parentheses and may itself contain any.
fn parse_stat(stat: &str, ticks: u64) -> Option<Usage> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let mut micros = || -> Option<u64> {
        let count: u64 = fields.next()?.parse().ok()?;
        Some(count.saturating_mul(1_000_000) / ticks.max(1))
    };
    Some(Usage {
        name: name.to_owned(),
        user_us: micros()?,
        system_us: micros()?,
        cpu_ns: 0,
        rss_kib: 0,
    })
}

fn parse_rss(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

/// Adds up what was used between readings.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    began: Option<Usage>,
    total: Usage,
}

impl Meter {
    /// Counting starts here.
    pub fn begin(&mut self, usage: Usage) {
        self.began = Some(usage);
    }

    /// Counting stops here.
    pub fn end(&mut self, usage: Usage) {
        if let Some(began) = self.began.take() {
            self.total.user_us += usage.user_us.saturating_sub(began.user_us);
            self.total.cpu_ns += usage.cpu_ns.saturating_sub(began.cpu_ns);
            self.total.system_us += usage.system_us.saturating_sub(began.system_us);
        }
        self.total.rss_kib = usage.rss_kib;
        self.total.name = usage.name;
    }

    /// Adds what another one counted after this one.
    pub fn add(&mut self, later: &Self) {
        self.total.user_us += later.total.user_us;
        self.total.system_us += later.total.system_us;
        self.total.cpu_ns += later.total.cpu_ns;
        self.total.rss_kib = later.total.rss_kib;
        self.total.name.clone_from(&later.total.name);
    }

    /// Whether anything was counted.
    pub fn is_used(&self) -> bool {
        !self.total.name.is_empty()
    }

    /// The sum, by `completed` operations.
    pub fn total(&self, completed: u64) -> ProcessUse {
        let cpu = self.total.cpu_ns as f64 / 1e3;
        ProcessUse {
            name: self.total.name.clone(),
            user_us: self.total.user_us,
            system_us: self.total.system_us,
            cpu_us: self.total.cpu_ns / 1_000,
            rss_kib: self.total.rss_kib,
            cpu_us_per_operation: match completed {
                0 => 0.0,
                _ => cpu / completed as f64,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        let usage = parse_stat(stat, 100).unwrap();
        assert_eq!(usage.name, "a) b (c)");
        assert_eq!((usage.user_us, usage.system_us), (2_500_000, 500_000));
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t  1234 kB\n"), 1234);
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_named() {
        let usage = read(std::process::id()).unwrap();
        assert!(usage.rss_kib > 0 && usage.cpu_ns > 0);
        let error = read(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("4294967295"), "{error}");
    }

    #[test]
    fn a_meter_counts_only_between_its_marks() {
        let at = |user_us, rss_kib| Usage {
            name: "x".into(),
            user_us,
            system_us: 0,
            cpu_ns: user_us * 1_000 + 7,
            rss_kib,
        };
        let mut meter = Meter::default();
        meter.begin(at(100, 1));
        meter.end(at(150, 2));
        meter.begin(at(1_000, 3));
        meter.end(at(1_050, 4));
        let total = meter.total(10);
        assert_eq!((total.user_us, total.rss_kib), (100, 4));
        assert!((total.cpu_us_per_operation - 10.0).abs() < 1e-9);
    }
}
