//! Receive buffers are short: what waits gives them back, what works gets them, and nobody spins.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use net_support::*;
use ringgate::net::{Buf, Net, NetOptions, SocketOptions, Stream, spawn};

const BUFFER: usize = 4096;

fn few_buffers(count: u16) -> NetOptions {
    NetOptions {
        buffer_count: count,
        buffer_bytes: BUFFER as u32,
        buffer_window: 16,
        ..Default::default()
    }
}

/// The byte at `position` of the test pattern: its period divides no buffer size.
fn pattern(position: usize) -> u8 {
    (position % 251) as u8
}

fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

/// A connected pair of the upstream side.
async fn upstream(net: &Net) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stream = net.connect(address, &SocketOptions::default());
    let stream = stream.await.unwrap();
    (stream, listener.accept().unwrap().0)
}

/// Receives one buffer from each of `count` sessions and lets `keep` say what waits of it.
async fn hold(net: &Net, count: usize, mut keep: impl FnMut(&mut Buf)) -> Vec<(Stream, Buf)> {
    let mut held = Vec::new();
    for _ in 0..count {
        let (mut stream, mut peer) = pair(net).await;
        peer.write_all(b"a statement").unwrap();
        let mut buf = receive(&mut stream).await.unwrap().unwrap();
        keep(&mut buf);
        held.push((stream, buf));
    }
    held
}

/// Bytes go from a blocking peer through `stream` and back, so many times.
async fn exchange(net: &Net, stream: &mut Stream, mut peer: TcpStream, times: usize) -> TcpStream {
    for round in 0..times {
        peer.write_all(&[pattern(round); 100]).unwrap();
        let mut heard = 0;
        while heard < 100 {
            let buf = receive(stream).await.unwrap().unwrap();
            heard += buf.len();
            stream.send(buf);
        }
        peer = on_thread(net, move || {
            let mut back = [0; 100];
            peer.read_exact(&mut back).unwrap();
            assert_eq!(back, [pattern(round); 100]);
            peer
        })
        .await;
    }
    peer
}

#[test]
fn replies_find_room_whatever_clients_hold() {
    on_core_with(few_buffers(8), |net| async move {
        let held = hold(&net, 8, |_| {}).await;
        assert_eq!(net.stats().buffers_out, 8, "all of the clients' side");
        let (mut client, mut peer) = pair(&net).await;
        client.start_receiving();
        peer.write_all(b"one more").unwrap();
        until(&net, "a client starves", || net.stats().enobufs > 0).await;
        let (mut server, peer) = upstream(&net).await;
        exchange(&net, &mut server, peer, 50).await;
        assert_eq!(client.unread(), 0, "the client starves still");
        drop(held);
        assert_eq!(&*receive(&mut client).await.unwrap().unwrap(), b"one more");
    });
}

#[test]
fn what_a_server_has_sent_takes_no_room_from_clients() {
    on_core_with(few_buffers(4), |net| async move {
        let mut held = Vec::new();
        for _ in 0..4 {
            let (mut server, mut peer) = upstream(&net).await;
            peer.write_all(b"a reply").unwrap();
            held.push((receive(&mut server).await.unwrap().unwrap(), server, peer));
        }
        let (mut client, peer) = pair(&net).await;
        exchange(&net, &mut client, peer, 20).await;
        // One that another core has given is of the servers' side.
        let (given, mut far) = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        };
        let mut adopted = net.adopt(given.into());
        adopted.start_receiving();
        far.write_all(b"no room").unwrap();
        until(&net, "it starves", || net.stats().enobufs > 0).await;
        held.clear();
        assert_eq!(&*receive(&mut adopted).await.unwrap().unwrap(), b"no room");
    });
}

#[test]
fn more_statements_wait_than_there_are_buffers() {
    on_core_with(few_buffers(4), |net| async move {
        let held = hold(&net, 50, Buf::settle).await;
        assert_eq!(net.stats().buffers_out, 0);
        for (mut stream, buf) in held {
            assert_eq!(&*buf, b"a statement");
            stream.send(buf);
            unsent_below(&mut stream, 0).await.unwrap();
        }
    });
}

#[test]
fn sessions_that_read_nothing_leave_buffers_to_those_that_do() {
    on_core_with(few_buffers(8), |net| async move {
        let mut idle = Vec::new();
        for n in 0..40 {
            let (mut stream, mut peer) = pair(&net).await;
            stream.start_receiving();
            // Some leave a few bytes unread, some more than a buffer holds.
            let bytes = patterned(if n % 2 == 0 { 100 } else { 3 * BUFFER });
            peer.write_all(&bytes).unwrap();
            idle.push((stream, peer, bytes));
        }
        let (mut busy, peer) = pair(&net).await;
        let peer = exchange(&net, &mut busy, peer, 20).await;
        let all_here = |idle: &[(Stream, TcpStream, Vec<u8>)]| {
            idle.iter().all(|(s, _, bytes)| s.unread() == bytes.len())
        };
        until(&net, "all has come", || all_here(&idle)).await;
        exchange(&net, &mut busy, peer, 20).await;
        assert!(net.stats().buffers_spared > 0, "{:?}", net.stats());
        for (stream, _, bytes) in &mut idle {
            let mut heard = Vec::new();
            while heard.len() < bytes.len() {
                heard.extend_from_slice(&receive(stream).await.unwrap().unwrap());
            }
            assert!(heard == *bytes, "in order, and nothing is lost");
        }
    });
}

#[test]
fn single_bytes_that_nobody_reads_share_their_copies() {
    on_core_with(few_buffers(4), |net| async move {
        let _held = hold(&net, 3, |_| {}).await;
        let (mut stream, mut peer) = pair(&net).await;
        peer.set_nodelay(true).unwrap();
        stream.start_receiving();
        for n in 0..600 {
            peer.write_all(&[pattern(n)]).unwrap();
            until(&net, "it came", || stream.unread() > n).await;
        }
        until(&net, "it left the last buffer", || {
            net.stats().buffers_out == 3
        })
        .await;
        let (mut heard, mut pieces) = (Vec::new(), 0);
        while heard.len() < 600 {
            heard.extend_from_slice(&receive(&mut stream).await.unwrap().unwrap());
            pieces += 1;
        }
        assert!(heard == patterned(600));
        assert!(pieces <= 8, "{pieces} pieces");
    });
}

/// Queues `bytes` of the pattern, received from a source, to a peer that does not read; at most
/// `limit` of them are unsent at a time.
async fn feed(mut source: Stream, sink: Rc<RefCell<Stream>>, bytes: usize, limit: usize) {
    let mut fed = 0;
    while fed < bytes {
        std::future::poll_fn(|cx| sink.borrow_mut().poll_unsent_below(cx, limit))
            .await
            .unwrap();
        let buf = receive(&mut source).await.unwrap().unwrap();
        fed += buf.len();
        sink.borrow_mut().send(buf);
    }
}

#[test]
fn peers_that_never_read_leave_buffers_to_those_that_do() {
    const PEERS: usize = 12;
    const BYTES: usize = 8 << 20;
    let options = NetOptions {
        linger: Duration::from_millis(200),
        ..few_buffers(16)
    };
    on_core_with(options, |net| async move {
        let mut deaf = Vec::new();
        for _ in 0..PEERS {
            let (source, mut sender) = pair(&net).await;
            let (sink, peer) = pair(&net).await;
            let sink = Rc::new(RefCell::new(sink));
            let feeding = spawn("feed", feed(source, Rc::clone(&sink), BYTES, 64 << 10));
            let sending = std::thread::spawn(move || {
                // Fails once the test has ended the source.
                let _ = sender.write_all(&patterned(BYTES));
            });
            deaf.push((sink, peer, feeding, sending));
        }
        let stuck = |(sink, ..): &(Rc<RefCell<Stream>>, _, _, _)| sink.borrow().unsent() > 60 << 10;
        until(&net, "all queues are full", || deaf.iter().all(stuck)).await;
        let (mut busy, peer) = pair(&net).await;
        exchange(&net, &mut busy, peer, 50).await;
        let (mut server, peer) = upstream(&net).await;
        exchange(&net, &mut server, peer, 50).await;
        let stats = net.stats();
        assert!(stats.sends_interrupted > 0, "{stats:?}");
        // One of them reads after all: every byte is there, in order.
        let (_, mut reader, feeding, sending) = deaf.pop().unwrap();
        let heard = on_thread(&net, move || {
            let mut heard = vec![0; BYTES];
            reader.read_exact(&mut heard).unwrap();
            heard
        })
        .await;
        assert!(heard == patterned(BYTES));
        feeding.await.unwrap();
        sending.join().unwrap();
        // The others never do: they are closed when they are dropped.
        for (_, _, feeding, _) in &deaf {
            feeding.cancel();
        }
        let threads: Vec<_> = deaf
            .into_iter()
            .map(|(sink, peer, _, sending)| {
                drop(sink);
                (peer, sending)
            })
            .collect();
        drop((busy, server));
        until(&net, "all are closed", || net.stats().open == 0).await;
        threads.into_iter().for_each(|(_, t)| t.join().unwrap());
    });
}

#[test]
fn a_core_without_free_buffers_sleeps_until_one_comes_back() {
    on_core_with(few_buffers(4), |net| async move {
        let mut held = hold(&net, 4, |_| {}).await;
        let (mut hungry, mut peer) = pair(&net).await;
        hungry.start_receiving();
        peer.write_all(b"let me in").unwrap();
        until(&net, "it starves", || net.stats().enobufs > 0).await;
        pause(&net, Duration::from_millis(100)).await;
        let before = net.stats();
        pause(&net, Duration::from_millis(400)).await;
        let after = net.stats();
        assert!(after.turns - before.turns < 100, "{before:?} {after:?}");
        // A buffer that comes back while the core is parked, from a task the ring knows nothing of.
        let (_kept, buf) = held.pop().unwrap();
        glommio::spawn_local(async move {
            glommio::timer::sleep(Duration::from_millis(200)).await;
            drop(buf);
        })
        .detach();
        assert_eq!(&*receive(&mut hungry).await.unwrap().unwrap(), b"let me in");
    });
}
