//! What this machine grants the process, as far as a configuration can ask too much of it.

use super::units::parse_cpus;

/// What the machine grants. `None` where it is not known: nothing is checked against it then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs of the process's affinity mask, ascending.
    pub cpus: Option<Vec<u16>>,
    /// The hard limit of open files (`RLIMIT_NOFILE`).
    pub files_max: Option<u64>,
}

impl Machine {
    /// Reads `/proc/self` (proc(5): `status`, `limits`).
    pub fn detect() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpus: cpus_of_status(&read("/proc/self/status")),
            files_max: files_of_limits(&read("/proc/self/limits")),
        }
    }
}

fn cpus_of_status(status: &str) -> Option<Vec<u16>> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpus(line.trim()).ok()
}

/// The third column of "Max open files": soft limit, then hard limit, then the unit.
fn files_of_limits(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_proc() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 20000                files\n";
        assert_eq!(files_of_limits(limits), Some(20_000));
        assert_eq!(
            files_of_limits("Max open files  1024  unlimited  files"),
            None
        );
        let status = "Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1,4\n";
        assert_eq!(cpus_of_status(status), Some(vec![0, 1, 4]));
        assert_eq!(cpus_of_status(""), None);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        assert!(Machine::detect().cpus.is_some_and(|cpus| !cpus.is_empty()));
    }
}
