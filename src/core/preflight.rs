//! What the process needs from the machine before a core starts, and the sentence when it is missing.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::net::{self, NetOptions};

/// Locked memory an executor needs: below, its registered buffers and rings cannot be made.
const LOCKED_MIN: u64 = 512 * 1024;

/// Descriptors of one core without its listeners: rings, eventfds, pipes, the ring's reserve.
const DESCRIPTORS_PER_CORE: usize = 24;
/// Descriptors of the control side, and a few connections.
const DESCRIPTORS_SPARE: u64 = 32;

/// Why the node cannot start: what is missing and how to get it, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(pub String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// Which CPUs to serve on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuChoice {
    /// Each CPU of the process's affinity mask.
    Allowed,
    /// So many of them, the first ones.
    Count(usize),
    /// These, by the kernel's numbers.
    These(Vec<usize>),
}

/// The CPUs of the process's affinity mask, ascending.
///
/// # Errors
/// [`Unfit`] when the kernel does not tell.
pub fn allowed_cpus() -> Result<Vec<usize>, Unfit> {
    let mask = sched_getaffinity(None)
        .map_err(|error| Unfit(format!("the CPU affinity mask cannot be read ({error})")))?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| mask.is_set(cpu))
        .collect())
}

/// The CPUs to pin cores to.
///
/// # Errors
/// [`Unfit`] when `choice` wants more than `allowed` or others.
pub fn choose_cpus(choice: &CpuChoice, allowed: &[usize]) -> Result<Vec<usize>, Unfit> {
    match choice {
        CpuChoice::Allowed => Ok(allowed.to_vec()),
        CpuChoice::Count(count) => match allowed.get(..*count) {
            Some(cpus) if *count > 0 => Ok(cpus.to_vec()),
            _ => Err(Unfit(format!(
                "{count} cores are configured but the process may run on {} CPUs; lower \
                 `cores.count` or widen the affinity mask (cpuset, taskset)",
                allowed.len()
            ))),
        },
        CpuChoice::These(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            None => Ok(cpus.clone()),
            Some(cpu) => Err(Unfit(format!(
                "CPU {cpu} is configured but the process may not run on it; change `cores.cpus` or \
                 widen the affinity mask (cpuset, taskset)"
            ))),
        },
    }
}

/// Raises the soft limit of open files to the hard one, and gives what then holds.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // A process may always raise its soft limit; if a sandbox forbids it, the old limit serves.
    let held = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    held.unwrap_or(u64::MAX)
}

/// Checks that the cores' rings, pipes and listeners leave descriptors for connections.
///
/// # Errors
/// [`Unfit`] with the remedy, given the limit of open files and the number of cores and listeners.
pub fn check_descriptors(limit: u64, cores: usize, listeners: usize) -> Result<(), Unfit> {
    let own = cores.saturating_mul(DESCRIPTORS_PER_CORE.saturating_add(listeners));
    let needed = u64::try_from(own).unwrap_or(u64::MAX);
    let needed = needed.saturating_add(DESCRIPTORS_SPARE);
    if limit >= needed {
        return Ok(());
    }
    Err(Unfit(format!(
        "only {limit} files may be open, and {needed} are needed before the first client; raise the \
         limit (`ulimit -n`, LimitNOFILE=)"
    )))
}

/// Checks that a ring with every feature can be made here.
///
/// # Errors
/// [`Unfit`] with the cause and the remedy.
pub fn check_ring(options: &NetOptions) -> Result<(), Unfit> {
    net::preflight(options).map_err(|error| Unfit(error.to_string()))
}

/// The remedy to name when an executor could not be made: glommio's own text blames the kernel.
pub fn executor_hint() -> String {
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if bytes < LOCKED_MIN => format!(
            "the locked-memory limit is {} KiB; raise it to 512 KiB or more (`ulimit -l`, \
             LimitMEMLOCK=)",
            bytes / 1024
        ),
        _ => {
            "io_uring must be allowed here (sysctl kernel.io_uring_disabled, seccomp profile) and \
              open files not exhausted (`ulimit -n`)"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_taken_from_the_mask_only() {
        let allowed = [2, 3, 6];
        let check = |choice: CpuChoice, expect: Option<&[usize]>| {
            let got = choose_cpus(&choice, &allowed);
            assert_eq!(got.as_deref().ok(), expect, "{choice:?}");
        };
        check(CpuChoice::Allowed, Some(&[2, 3, 6]));
        check(CpuChoice::Count(2), Some(&[2, 3]));
        check(CpuChoice::Count(0), None);
        check(CpuChoice::Count(4), None);
        check(CpuChoice::These(vec![6, 2]), Some(&[6, 2]));
        check(CpuChoice::These(vec![0]), None);
    }

    #[test]
    fn descriptors_for_cores_and_a_few_connections_are_needed() {
        let check = |limit, cores, fit| {
            let checked = check_descriptors(limit, cores, 1);
            assert_eq!(checked.is_ok(), fit, "{limit} {cores}: {checked:?}");
        };
        check(1024, 8, true);
        check(57, 1, true);
        check(56, 1, false);
        check(1024, 128, false);
        check(u64::MAX, usize::MAX, true);
    }

    #[test]
    fn this_process_may_run_somewhere_and_open_files() {
        assert!(!allowed_cpus().unwrap().is_empty());
        assert!(raise_descriptor_limit() > 0);
        assert_eq!(
            getrlimit(Resource::Nofile).current,
            getrlimit(Resource::Nofile).maximum
        );
    }
}
