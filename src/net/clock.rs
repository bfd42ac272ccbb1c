//! The monotonic clock, read against one origin per process so that cores agree.

use std::sync::OnceLock;
use std::time::Instant;

use crate::base::clock::Now;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Reads the clock. The first reading in the process is the origin.
pub fn now() -> Now {
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    Now(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
