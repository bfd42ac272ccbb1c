//! Points at which a debug build fails when it is told to, so that tests can see what a panic or a broken
//! ring leaves behind. Release builds have nothing of it.

/// Panics if `RINGGATE_TEST_FAULT` names this point: `NAME`, or `NAME:N` for the N-th time that a core
/// comes by. A core panics once.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    assert!(!is_due(name), "a panic was asked for at {name}");
}

/// Nothing: there are no such points in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Whether this is the point and the time that `RINGGATE_TEST_FAULT` names.
#[cfg(debug_assertions)]
pub fn is_due(name: &str) -> bool {
    use std::cell::Cell;
    use std::sync::OnceLock;

    static ASKED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    thread_local! {
        static PASSED: Cell<u32> = const { Cell::new(0) };
    }
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("RINGGATE_TEST_FAULT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().ok()?))
    });
    let Some((asked, count)) = asked else {
        return false;
    };
    if asked != name {
        return false;
    }
    let passed = PASSED.get().saturating_add(1);
    PASSED.set(passed);
    passed == *count
}
