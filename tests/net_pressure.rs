//! Peers that are slow, silent or many: memory stays bounded, and every byte arrives in order.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use net_support::*;
use ringgate::net::{NetOptions, spawn};

/// Kernel buffers take this much at most before a sender blocks, with room to spare.
const KERNEL_MAX: usize = 32 << 20;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// The byte at `position` of the test pattern: its period divides no buffer size.
fn pattern(position: usize) -> u8 {
    (position % 251) as u8
}

fn fill(bytes: &mut [u8], position: usize) {
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(position + n);
    }
}

fn check(bytes: &[u8], position: usize) {
    let wrong = bytes
        .iter()
        .enumerate()
        .find(|(n, byte)| **byte != pattern(position + n));
    assert!(
        wrong.is_none(),
        "at {}: {wrong:?}",
        position + wrong.map_or(0, |w| w.0)
    );
}

#[test]
fn unread_bytes_are_bounded_and_arrive_in_order_once_read() {
    const BYTES: usize = 3 * KERNEL_MAX;
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        let sender = std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            for position in (0..BYTES).step_by(64 * 1024) {
                fill(&mut chunk, position);
                peer.write_all(&chunk).unwrap();
            }
        });
        until(&net, "the receive is held back", || {
            net.stats().receives_held_back > 0
        })
        .await;
        pause(&net, Duration::from_millis(100)).await;
        let held = stream.unread();
        pause(&net, Duration::from_millis(50)).await;
        assert_eq!(stream.unread(), held, "nothing more is received");
        // One turn may bring more at once, but no more than the buffers offered for a turn hold.
        let options = NetOptions::default();
        let turn = usize::from(options.buffer_window) * options.buffer_bytes as usize;
        assert!(held <= options.unread_max + turn, "{held} bytes unread");
        assert!(!sender.is_finished(), "the sender blocks");
        let mut position = 0;
        while position < BYTES {
            let buf = receive(&mut stream).await.unwrap().unwrap();
            check(&buf, position);
            position += buf.len();
        }
        sender.join().unwrap();
        assert!(receive(&mut stream).await.unwrap().is_none());
        assert!(net.stats().buffers_out_max <= 264, "{:?}", net.stats());
    });
}

#[test]
fn a_paused_stream_receives_no_more_until_it_is_resumed() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        stream.pause_receiving();
        peer.write_all(b"one").unwrap();
        until(&net, "what was under way has come", || stream.unread() == 3).await;
        peer.write_all(b"two").unwrap();
        pause(&net, Duration::from_millis(20)).await;
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"one");
        assert_eq!(stream.unread(), 0);
        stream.resume_receiving();
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"two");
    });
}

#[test]
fn a_peer_that_reads_nothing_holds_bounded_memory_and_is_dropped_within_linger() {
    let options = NetOptions {
        linger: Duration::from_millis(300),
        ..Default::default()
    };
    on_core_with(options, |net| async move {
        let (mut source, mut sender) = pair(&net).await;
        let (mut sink, deaf) = pair(&net).await;
        sender
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let sender = std::thread::spawn(move || {
            let chunk = [1; 64 * 1024];
            let mut sent = 0;
            while let Ok(n) = sender.write(&chunk) {
                sent += n;
                assert!(sent < 1 << 30, "nothing holds the sender back");
            }
            sent
        });
        let relayed = spawn("relay", async move {
            let mut total = 0;
            while unsent_below(&mut sink, 256 * 1024).await.is_ok() {
                match receive(&mut source).await {
                    Ok(Some(buf)) => {
                        total += buf.len();
                        sink.send(buf);
                    }
                    _ => break,
                }
            }
            total
        });
        until(&net, "the sender gave up", || sender.is_finished()).await;
        let stats = net.stats();
        assert!(stats.buffers_out <= 120, "{stats:?}");
        sender.join().unwrap();
        // The source has ended; the sink still waits for a peer that will never read.
        relayed.cancel();
        until(&net, "both are closed", || net.stats().open == 0).await;
        assert_eq!(net.stats().buffers_out, 0);
        drop(deaf);
    });
}

#[test]
fn resident_memory_stays_flat_while_a_gigabyte_passes_to_a_slow_reader() {
    const BYTES: usize = 1 << 30;
    on_core(|net| async move {
        let (mut source, mut sender) = pair(&net).await;
        let (mut sink, mut reader) = pair(&net).await;
        let writing = std::thread::spawn(move || {
            let chunk = vec![3; 1 << 20];
            (0..BYTES >> 20).for_each(|_| sender.write_all(&chunk).unwrap());
        });
        let reading = std::thread::spawn(move || {
            let mut chunk = vec![0; 256 * 1024];
            let (mut total, mut reads) = (0, 0_u32);
            loop {
                match reader.read(&mut chunk).unwrap() {
                    0 => return total,
                    n => total += n,
                }
                reads += 1;
                if reads.is_multiple_of(64) {
                    // The slow reader: time for the queues before it to fill.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut moved = 0;
        let mut early = 0;
        loop {
            unsent_below(&mut sink, 256 * 1024).await.unwrap();
            let Some(buf) = receive(&mut source).await.unwrap() else {
                break;
            };
            moved += buf.len();
            sink.send(buf);
            if early == 0 && moved > BYTES / 8 {
                early = resident_bytes();
            }
        }
        drop(sink);
        assert_eq!(moved, BYTES);
        let grown = resident_bytes().saturating_sub(early);
        assert!(grown < 8 << 20, "{grown} bytes more; {:?}", net.stats());
        let heard = on_thread(&net, move || reading.join().unwrap()).await;
        assert_eq!(heard, BYTES);
        writing.join().unwrap();
    });
}

#[test]
fn a_peer_that_sends_byte_by_byte_holds_no_buffer_per_byte() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        peer.set_nodelay(true).unwrap();
        stream.start_receiving();
        for n in 0..3000 {
            peer.write_all(&[pattern(n)]).unwrap();
            if n % 100 == 0 {
                pause(&net, Duration::from_millis(1)).await;
            }
        }
        until(&net, "all came", || stream.unread() == 3000).await;
        assert!(net.stats().buffers_out <= 2, "{:?}", net.stats());
        // And a queue of single bytes to a peer that does not read yet, likewise.
        let address = echo(&net);
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        on_thread(&net, move || {
            for n in 0..500 {
                client.write_all(&[pattern(n)]).unwrap();
                let mut back = [0];
                client.read_exact(&mut back).unwrap();
                assert_eq!(back, [pattern(n)]);
            }
        })
        .await;
        let mut position = 0;
        while position < 3000 {
            let buf = receive(&mut stream).await.unwrap().unwrap();
            check(&buf, position);
            position += buf.len();
        }
    });
}

#[test]
fn receives_without_a_buffer_go_on_when_buffers_come_back() {
    let options = NetOptions {
        buffer_count: 4,
        buffer_bytes: 4096,
        buffer_window: 4,
        ..Default::default()
    };
    on_core_with(options, |net| async move {
        let address = echo(&net);
        let clients: Vec<_> = (0..32)
            .map(|client| {
                std::thread::spawn(move || {
                    let mut socket = TcpStream::connect(address).unwrap();
                    let mut sent = vec![0; 20_000];
                    for round in 0..20 {
                        fill(&mut sent, client + round);
                        let mut writer = socket.try_clone().unwrap();
                        let chunk = sent.clone();
                        let writing = std::thread::spawn(move || writer.write_all(&chunk));
                        let mut back = vec![0; sent.len()];
                        socket.read_exact(&mut back).unwrap();
                        check(&back, client + round);
                        writing.join().unwrap().unwrap();
                    }
                })
            })
            .collect();
        let all = || clients.iter().all(std::thread::JoinHandle::is_finished);
        until(&net, "all clients are served", all).await;
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        let stats = net.stats();
        assert!(stats.enobufs > 0, "the pool never ran out: {stats:?}");
        assert!(stats.buffers_out_max <= 4, "{stats:?}");
    });
}

#[test]
fn a_dropped_session_frees_the_buffers_that_starve_others() {
    let options = NetOptions {
        buffer_count: 2,
        buffer_bytes: 4096,
        buffer_window: 2,
        ..Default::default()
    };
    on_core_with(options, |net| async move {
        let (mut hoarder, mut rich) = pair(&net).await;
        let mut hoard = Vec::new();
        let (mut starving, mut poor) = pair(&net).await;
        rich.write_all(&[0; 2 * 4096]).unwrap();
        for _ in 0..2 {
            hoard.push(receive(&mut hoarder).await.unwrap().unwrap());
        }
        until(&net, "all buffers are held", || {
            net.stats().buffers_out == 2
        })
        .await;
        poor.write_all(b"me too").unwrap();
        starving.start_receiving();
        until(&net, "the other starves", || net.stats().enobufs > 0).await;
        assert_eq!(starving.unread(), 0);
        drop((hoarder, hoard));
        assert_eq!(&*receive(&mut starving).await.unwrap().unwrap(), b"me too");
    });
}
