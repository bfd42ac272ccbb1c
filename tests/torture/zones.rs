//! Time zones that tell a session by its own: no two writers have one in common, and the server keeps each apart.
//!
//! MariaDB 10.11 does not keep all apart. It finds an offset by its seconds, whose bytes it compares as latin1 text
//! without regard to case: '+05:09' is 18,540 seconds, bytes "lH", and '+07:25' 26,700, bytes "Lh", so whichever comes
//! second is the first one, on a direct connection too.

use std::ops::Range;

/// Numbers of writers for which there are zones.
const WRITERS: usize = 48;

/// Offsets, minutes: two digits of hours.
const MINUTES: Range<u64> = 60..720;

/// Whether no other offset of this kind is the same to the server: its bytes are ASCII and no capitals.
fn is_kept_apart(minutes: u64) -> bool {
    let seconds = minutes * 60;
    seconds
        .to_le_bytes()
        .iter()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// The zones of a writer.
pub fn of(writer: u64) -> Vec<String> {
    let own = usize::try_from(writer).expect("few writers") % WRITERS;
    MINUTES
        .filter(|minutes| is_kept_apart(*minutes))
        .skip(own)
        .step_by(WRITERS)
        .map(|minutes| format!("+{:02}:{:02}", minutes / 60, minutes % 60))
        .collect()
}

#[test]
fn every_writer_has_zones_that_nobody_else_has() {
    let writers = u64::try_from(WRITERS).expect("few writers");
    let mut all: Vec<String> = (0..writers).flat_map(of).collect();
    assert!((0..writers).all(|writer| of(writer).len() >= 3));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    assert!(!all.contains(&"+07:25".to_owned()));
}
