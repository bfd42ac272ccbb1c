//! What the control side's threads know of the node together: plain atomics, no core reads them.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not every core has reported ready.
    Starting,
    /// It takes connections.
    Serving,
    /// It was asked to end, or must.
    Draining,
}

/// One core, as seen from outside.
#[derive(Debug, Default)]
pub(super) struct CoreStatus {
    /// It does not turn.
    pub(super) stalled: AtomicBool,
    /// Its thread has ended.
    pub(super) ended: AtomicBool,
}

/// The node's state for the admin listener and the watchdog.
#[derive(Debug)]
pub(super) struct Status {
    phase: AtomicU8,
    pub(super) started: Instant,
    pub(super) cores: Box<[CoreStatus]>,
    pub(super) descriptors_max: u64,
    pub(super) generation: AtomicU64,
    pub(super) reloads_refused: AtomicU64,
    pub(super) resolve_failures: AtomicU64,
}

impl Status {
    pub(super) fn new(cores: usize, started: Instant, descriptors_max: u64) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            started,
            cores: (0..cores).map(|_| CoreStatus::default()).collect(),
            descriptors_max,
            generation: AtomicU64::new(1),
            reloads_refused: AtomicU64::new(0),
            resolve_failures: AtomicU64::new(0),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Why the node should get no new connections; `None` when it should.
    pub(super) fn unready(&self) -> Option<&'static str> {
        let any = |flag: fn(&CoreStatus) -> &AtomicBool| {
            let mut cores = self.cores.iter();
            cores.any(|core| flag(core).load(Ordering::Acquire))
        };
        match self.phase() {
            Phase::Starting => Some("starting"),
            Phase::Draining => Some("draining"),
            Phase::Serving if any(|core| &core.ended) => Some("a core has ended"),
            Phase::Serving if any(|core| &core.stalled) => Some("a core is stalled"),
            Phase::Serving => None,
        }
    }

    /// Cores whose thread has not ended.
    pub(super) fn living(&self) -> usize {
        let living = |core: &&CoreStatus| !core.ended.load(Ordering::Acquire);
        self.cores.iter().filter(living).count()
    }

    /// Whether that core's thread has ended; true for a core that never was.
    pub(super) fn has_ended(&self, core: usize) -> bool {
        let core = self.cores.get(core);
        core.is_none_or(|core| core.ended.load(Ordering::Acquire))
    }

    pub(super) fn set_ended(&self, core: usize) {
        if let Some(core) = self.cores.get(core) {
            core.ended.store(true, Ordering::Release);
            core.stalled.store(false, Ordering::Release);
        }
    }

    pub(super) fn set_stalled(&self, core: usize, stalled: bool) {
        if let Some(core) = self.cores.get(core) {
            core.stalled.store(stalled, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_while_it_serves_with_every_core() {
        let status = Status::new(2, Instant::now(), 1024);
        assert_eq!(status.unready(), Some("starting"));
        status.set_phase(Phase::Serving);
        assert_eq!(status.unready(), None);
        status.set_stalled(1, true);
        assert_eq!(status.unready(), Some("a core is stalled"));
        status.set_stalled(1, false);
        assert_eq!(status.unready(), None);
        status.set_ended(0);
        assert_eq!(status.unready(), Some("a core has ended"));
        assert_eq!(status.living(), 1);
        assert!(status.has_ended(0) && !status.has_ended(1) && status.has_ended(2));
        status.set_phase(Phase::Draining);
        assert_eq!(status.unready(), Some("draining"));
    }
}
