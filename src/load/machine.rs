//! Facts of this machine that decide figures, for the result file. No host name, no addresses.

use std::collections::BTreeMap;
use std::fs::read_to_string;

use super::result::Machine;
use crate::core::preflight::allowed_cpus;

/// Settings worth knowing, by their files.
const SETTINGS: &[(&str, &str)] = &[
    (
        "governor",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    ),
    (
        "clocksource",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    ),
    (
        "congestion_control",
        "/proc/sys/net/ipv4/tcp_congestion_control",
    ),
    ("smt", "/sys/devices/system/cpu/smt/control"),
    ("turbo_off", "/sys/devices/system/cpu/intel_pstate/no_turbo"),
    ("somaxconn", "/proc/sys/net/core/somaxconn"),
    (
        "transparent_hugepage",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ),
];

/// Reads what can be read.
pub fn detect() -> Machine {
    let line_after = |file: &str, key: &str, separator: char| {
        let text = read_to_string(file).unwrap_or_default();
        let found = text.lines().find_map(|line| {
            let (name, value) = line.split_once(separator)?;
            (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        });
        found.unwrap_or_default()
    };
    let memory = line_after("/proc/meminfo", "MemTotal", ':');
    let settings: BTreeMap<String, String> = SETTINGS
        .iter()
        .filter_map(|(name, file)| {
            let value = read_to_string(file).ok()?;
            Some(((*name).to_owned(), value.trim().to_owned()))
        })
        .collect();
    let cpus = allowed_cpus().map_or(0, |cpus| cpus.len());
    Machine {
        cpu: line_after("/proc/cpuinfo", "model name", ':'),
        cpus: u32::try_from(cpus).unwrap_or_default(),
        memory_kib: memory
            .split(' ')
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or_default(),
        kernel: read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        os: line_after("/etc/os-release", "PRETTY_NAME", '='),
        settings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linux_machine_tells_its_kernel_and_memory() {
        let machine = detect();
        assert!(machine.memory_kib > 0 && machine.cpus > 0 && !machine.kernel.is_empty());
    }
}
