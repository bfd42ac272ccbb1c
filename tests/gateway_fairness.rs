//! Pools of one endpoint beside each other, when there are fewer connections than clients.

#![allow(clippy::expect_used, reason = "a test")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::{Gateway, MariaDb, Shape};

/// Ten clients of a pool that is there first loop; one of another pool must still get its turns.
#[test]
fn a_permit_that_one_pool_gives_up_for_another_goes_there() {
    let server = MariaDb::with_test_schema("");
    let shape = Shape {
        budget: 2,
        extra: "[deadlines]\npool_wait = \"3s\"\n",
        ..Shape::default()
    };
    let gateway = Gateway::in_shape(server.port(), &shape);
    let is_over = AtomicBool::new(false);
    let served = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.query("SELECT SLEEP(0.05)");
                    served.fetch_add(u32::from(answer.is_ok()), Ordering::Relaxed);
                }
            });
        }
        // Once they have been served, their pool is the older one.
        let begun = Instant::now();
        while served.load(Ordering::Relaxed) < 10 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // A session in a schema has connections of its own.
        let mut other = gateway.client();
        let answers: Vec<_> = (0..3)
            .map(|_| {
                other
                    .query("USE test")
                    .and_then(|_| other.query("SELECT 1"))
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        let refused = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(refused, 0, "{answers:?}");
    });
}
