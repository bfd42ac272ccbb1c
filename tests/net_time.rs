//! Deadlines, wakes from other threads, and a core with nothing to do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use net_support::*;
use ringgate::base::clock::Deadline;
use ringgate::net::{Net, read_clock, spawn};

/// Long enough that the core has parked.
const SPELL: Duration = Duration::from_millis(120);

#[test]
fn deadlines_pass_in_order_and_never_early() {
    on_core(|net| async move {
        let passed = Rc::new(RefCell::new(Vec::new()));
        let start = net.now();
        let tasks: Vec<_> = [40_u64, 5, 90, 20, 60]
            .into_iter()
            .map(|ms| {
                let (net, passed) = (net.clone(), passed.clone());
                spawn("timer", async move {
                    let mut timer = net.timer();
                    timer.set(start.plus(Duration::from_millis(ms)));
                    poll_fn(|cx| timer.poll(cx)).await;
                    assert!(read_clock().since(start) >= Duration::from_millis(ms));
                    passed.borrow_mut().push(ms);
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.is_some());
        }
        assert_eq!(*passed.borrow(), [5, 20, 40, 60, 90]);
    });
}

#[test]
fn a_deadline_pushed_out_again_and_again_fires_only_at_last() {
    on_core(|net| async move {
        let mut timer = net.timer();
        let started = net.now();
        let step = Duration::from_millis(10);
        timer.set(started.plus(step));
        for _ in 0..8 {
            pause(&net, Duration::from_millis(4)).await;
            timer.set(net.now().plus(step));
            assert!(now_or_pending(|cx| timer.poll(cx)).await.is_pending());
        }
        let last = timer.deadline();
        poll_fn(|cx| timer.poll(cx)).await;
        assert!(last.is_over(net.now()));
        assert!(net.now().since(started) >= Duration::from_millis(42));
        assert!(
            now_or_pending(|cx| timer.poll(cx)).await.is_ready(),
            "it stays passed"
        );
        timer.clear();
        assert!(now_or_pending(|cx| timer.poll(cx)).await.is_pending());
        assert_eq!(timer.deadline(), Deadline::NEVER);
    });
}

#[test]
fn a_parked_core_keeps_its_deadlines() {
    on_core(|net| async move {
        for ms in [150_u64, 300] {
            let parks = net.stats().cold_parks;
            let started = net.now();
            pause(&net, Duration::from_millis(ms)).await;
            let took = net.now().since(started);
            assert!(
                took >= Duration::from_millis(ms) && took < Duration::from_secs(5),
                "{took:?}"
            );
            assert!(
                net.stats().cold_parks > parks,
                "it never parked: {:?}",
                net.stats()
            );
        }
    });
}

#[test]
fn a_deadline_set_while_parked_is_kept() {
    on_core(|net| async move {
        // A task of glommio's own, whose polls the ring does not see, sets the deadline.
        let other = net.clone();
        let set = glommio::spawn_local(async move {
            glommio::timer::sleep(SPELL).await;
            assert!(other.stats().cold_parks > 0);
            let mut timer = other.timer();
            let started = Instant::now();
            let behind = read_clock().since(other.now());
            assert!(
                behind < SPELL / 2,
                "the clock stood still while parked: {behind:?}"
            );
            timer.set(other.now().plus(Duration::from_millis(30)));
            poll_fn(|cx| timer.poll(cx)).await;
            started.elapsed()
        });
        let took = set.await;
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

/// Wakes the core `gap` after it reported to be waiting, several times.
async fn woken_across(net: Net, gap: Duration) {
    let waker = net.waker().unwrap();
    let (waiting, waits) = channel::<()>();
    let caller = std::thread::spawn(move || {
        let mut calls = 0;
        while waits.recv().is_ok() {
            std::thread::sleep(gap);
            waker.wake();
            calls += 1;
        }
        calls
    });
    for _ in 0..10 {
        waiting.send(()).unwrap();
        poll_fn(|cx| net.poll_woken(cx)).await;
    }
    drop(waiting);
    assert_eq!(caller.join().unwrap(), 10);
}

#[test]
fn another_thread_wakes_a_core_that_waits_in_its_ring() {
    on_core(|net| async move {
        woken_across(net.clone(), Duration::from_millis(2)).await;
        assert!(net.stats().hot_waits > 0);
    });
}

#[test]
fn another_thread_wakes_a_parked_core() {
    on_core(|net| async move {
        woken_across(net.clone(), SPELL).await;
        assert!(net.stats().cold_parks >= 10, "{:?}", net.stats());
    });
}

#[test]
fn wakes_are_not_lost_while_the_core_is_at_work() {
    on_core(|net| async move {
        const MESSAGES: u32 = 20_000;
        let waker = net.waker().unwrap();
        let (sender, receiver) = channel();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (sender, waker) = (sender.clone(), waker.clone());
                std::thread::spawn(move || {
                    for n in 0..MESSAGES {
                        sender.send(n).unwrap();
                        waker.wake();
                    }
                })
            })
            .collect();
        drop(sender);
        let mut count = 0;
        while count < 2 * MESSAGES {
            count += receiver.try_iter().count() as u32;
            if count < 2 * MESSAGES {
                poll_fn(|cx| net.poll_woken(cx)).await;
            }
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn traffic_wakes_a_parked_core() {
    on_core(|net| async move {
        let address = echo(&net);
        on_thread(&net, move || {
            use std::io::{Read, Write};
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            for _ in 0..5 {
                std::thread::sleep(SPELL);
                socket.write_all(b"knock").unwrap();
                socket.read_exact(&mut [0; 5]).unwrap();
            }
        })
        .await;
        assert!(net.stats().cold_parks >= 5, "{:?}", net.stats());
    });
}

#[test]
fn an_idle_core_does_nothing() {
    on_core(|net| async move {
        let address = echo(&net);
        let open: Vec<_> = (0..50)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        until(&net, "all are accepted", || net.stats().open == 50).await;
        let (before, after) = {
            let inner = net.clone();
            pause(&net, SPELL).await;
            let before = inner.stats();
            on_thread(&net, || std::thread::sleep(Duration::from_secs(1))).await;
            (before, inner.stats())
        };
        // Two hot waits before the park, the park itself, and the wake.
        assert!(after.turns - before.turns < 40, "{before:?} {after:?}");
        assert!(after.enters - before.enters < 40, "{before:?} {after:?}");
        drop(open);
    });
}

#[test]
fn alarms_ring_in_order_never_early_and_on_a_parked_core_too() {
    on_core(|net| async move {
        // Longer than the idle spell: the core has parked before the first one.
        let base = net.now().plus(4 * SPELL).0;
        let order: Rc<RefCell<Vec<u64>>> = Rc::default();
        let tasks: Vec<_> = [300, 100, 200]
            .map(|after| {
                let (mut alarm, order) = (net.alarm(), order.clone());
                let at = Deadline(base + after * 1_000);
                let clock = net.clone();
                spawn("alarm", async move {
                    alarm.set(at);
                    poll_fn(|cx| alarm.poll(cx)).await;
                    assert!(at.is_over(clock.now()), "rang early");
                    order.borrow_mut().push(after);
                })
            })
            .into();
        for task in tasks {
            assert!(task.await.is_some());
        }
        assert_eq!(*order.borrow(), [100, 200, 300]);
    });
}
