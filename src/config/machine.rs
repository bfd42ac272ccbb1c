//! What this machine grants the process, as far as a configuration can ask too much of it.

use super::units::parse_cpus;

/// What the machine grants. `None` where it is not known: nothing is checked against it then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs of the process's affinity mask, ascending.
    pub cpus: Option<Vec<u16>>,
    /// The hard limit of open files (`RLIMIT_NOFILE`).
    pub files_max: Option<u64>,
    /// Congestion controls that this process may choose (tcp(7)).
    pub congestions: Option<Vec<String>>,
}

impl Machine {
    /// Reads `/proc/self` (proc(5): `status`, `limits`).
    pub fn detect() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let list = if may_change_network(&status) {
            "/proc/sys/net/ipv4/tcp_available_congestion_control"
        } else {
            "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
        };
        Self {
            cpus: cpus_of_status(&status),
            files_max: files_of_limits(&read("/proc/self/limits")),
            congestions: names_of_list(&read(list)),
        }
    }
}

fn cpus_of_status(status: &str) -> Option<Vec<u16>> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpus(line.trim()).ok()
}

/// Whether the process has CAP_NET_ADMIN, which lifts the restriction to some congestion controls.
fn may_change_network(status: &str) -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> CAP_NET_ADMIN & 1 != 0)
}

fn names_of_list(list: &str) -> Option<Vec<String>> {
    let names: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
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
        assert!(may_change_network("CapEff:\t0000000000001000\n"));
        assert!(!may_change_network("CapEff:\t0000000000000fff\n"));
        assert!(!may_change_network(""));
        let names = names_of_list("reno cubic\n");
        assert_eq!(names, Some(vec!["reno".to_owned(), "cubic".to_owned()]));
        assert_eq!(names_of_list(""), None);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        assert!(Machine::detect().cpus.is_some_and(|cpus| !cpus.is_empty()));
    }
}
