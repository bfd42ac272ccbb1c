//! The process's own figures, as the kernel counts them under `/proc/self`.

use std::time::Duration;

/// Ticks per second in which the kernel tells CPU times to user space (`USER_HZ`), on every
/// architecture that this gateway runs on.
const TICKS: u64 = 100;

/// Figures of this process; zero where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// CPU time, user and system.
    pub(super) cpu: Duration,
    /// Bytes in RAM.
    pub(super) resident: u64,
    /// Open file descriptors.
    pub(super) descriptors: u64,
}

/// Reads the figures.
pub(super) fn figures() -> Figures {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count());
    Figures {
        cpu: cpu_of(&read("/proc/self/stat")).unwrap_or_default(),
        resident: resident_of(&read("/proc/self/status")).unwrap_or_default(),
        // One of them is the directory being read.
        descriptors: u64::try_from(descriptors.saturating_sub(1)).unwrap_or(u64::MAX),
    }
}

/// `utime` and `stime` of `/proc/PID/stat`: fields 14 and 15 (proc_pid_stat(5)).
fn cpu_of(stat: &str) -> Option<Duration> {
    // The second field is the name in parentheses, which may hold spaces: count from its end.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1000 / TICKS)))
}

/// `VmRSS` of `/proc/PID/status`, in bytes.
fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_fields() {
        let stat = "7 (a) (b) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("7 (a"), None);
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_of(""), None);
    }

    #[test]
    fn this_process_has_memory_and_open_files() {
        let figures = figures();
        assert!(figures.resident > 100 * 1024, "{figures:?}");
        assert!(figures.descriptors >= 3, "{figures:?}");
    }
}
