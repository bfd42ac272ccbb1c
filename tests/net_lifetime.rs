//! Whatever becomes of a session, its descriptor, its buffers and its last bytes are accounted for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use net_support::*;
use ringgate::net::{NetOptions, SocketOptions, spawn};

#[test]
fn a_dropped_session_sends_what_it_has_queued() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        stream.send_bytes(b"the last words, ");
        stream.send_static(b"in order");
        drop(stream);
        let heard = on_thread(&net, move || {
            let mut heard = String::new();
            peer.read_to_string(&mut heard).unwrap();
            heard
        })
        .await;
        assert_eq!(heard, "the last words, in order");
        let name = "the slot is gone";
        until(&net, name, || net.stats().open == 0).await;
    });
}

#[test]
fn a_session_dropped_while_a_send_is_in_flight_completes_it_for_a_slow_reader() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        const BYTES: usize = 16 << 20;
        for chunk in 0..BYTES / 4096 {
            stream.send_bytes(&[chunk as u8; 4096]);
        }
        drop(stream);
        let (count, ordered) = on_thread(&net, move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            let chunks = all.chunks(4096).enumerate();
            (
                all.len(),
                chunks
                    .into_iter()
                    .all(|(n, c)| c.iter().all(|b| *b == n as u8)),
            )
        })
        .await;
        assert_eq!((count, ordered), (BYTES, true));
    });
}

#[test]
fn the_peer_sees_the_end_promptly() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        peer.write_all(b"unread").unwrap();
        until(&net, "it came", || stream.unread() == 6).await;
        drop(stream);
        let waited = on_thread(&net, move || {
            let started = Instant::now();
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "an orderly end");
            started.elapsed()
        })
        .await;
        assert!(waited < Duration::from_secs(1), "{waited:?}");
    });
}

#[test]
fn last_words_survive_a_peer_that_is_still_sending() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.send_static(b"go away");
        drop(stream);
        let heard = on_thread(&net, move || {
            // Bytes that arrive after the end are discarded, not answered with a reset that would
            // take the message away before it was read.
            peer.write_all(&[0; 10_000]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).unwrap();
            heard
        })
        .await;
        assert_eq!(heard, b"go away");
    });
}

#[test]
fn abort_resets() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        pause(&net, Duration::from_millis(5)).await;
        stream.send_bytes(b"queued, never sent");
        stream.abort();
        let error = on_thread(&net, move || peer.read(&mut [0; 64]).unwrap_err()).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        until(&net, "the slot is gone", || net.stats().open == 0).await;
    });
}

#[test]
fn half_close_leaves_the_other_half_open() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.send_bytes(b"question");
        stream.shutdown_write();
        stream.send_bytes(b"too late");
        on_thread(&net, move || {
            let mut question = String::new();
            peer.read_to_string(&mut question).unwrap();
            assert_eq!(question, "question");
            peer.write_all(b"answer").unwrap();
        })
        .await;
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"answer");
        assert!(receive(&mut stream).await.unwrap().is_none());
        assert!(
            receive(&mut stream).await.unwrap().is_none(),
            "the end stays"
        );
    });
}

#[test]
fn a_reset_is_an_error_after_the_bytes_before_it() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        peer.write_all(b"bytes").unwrap();
        until(&net, "bytes came", || stream.unread() == 5).await;
        assert!(stream.is_disturbed());
        let linger = socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO));
        linger.unwrap();
        drop(peer);
        pause(&net, Duration::from_millis(10)).await;
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"bytes");
        let error = receive(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        stream.send_bytes(b"into the void");
        let error = unsent_below(&mut stream, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(stream.unsent(), 0);
    });
}

#[test]
fn connecting_succeeds_fails_or_is_dropped_without_a_trace() {
    on_core(|net| async move {
        let options = SocketOptions::default();
        let address = echo(&net);
        let mut stream = net.connect(address, &options).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let here = stream.local_addr().unwrap();
        assert!(here.tcp().unwrap().ip().is_loopback());
        stream.send_bytes(b"ping");
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"ping");
        drop(stream);

        let closed = listener().1;
        let Err(error) = net.connect(closed, &options).await else {
            panic!("nobody listens")
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        // A full backlog leaves connects hanging: dropping one must cancel it.
        let full = ringgate::net::bind(([127, 0, 0, 1], 0).into(), 0, &options).unwrap();
        let address = full.local_addr().unwrap();
        let mut hanging: Vec<_> = (0..8)
            .map(|_| Box::pin(net.connect(address, &options)))
            .collect();
        pause(&net, Duration::from_millis(5)).await;
        let mut pending = 0;
        for connecting in &mut hanging {
            let polled = now_or_pending(|cx| connecting.as_mut().poll(cx)).await;
            pending += usize::from(polled.is_pending());
        }
        assert!(pending > 0, "no connect is hanging");
        drop(hanging);
        until(&net, "all slots are gone", || net.stats().open == 0).await;
    });
}

#[test]
fn a_connection_moves_to_another_ring_unless_bytes_have_come() {
    on_core(|net| async move {
        let (mut stream, mut peer) = pair(&net).await;
        stream.start_receiving();
        stream.send_bytes(b"from the first");
        pause(&net, Duration::from_millis(5)).await;
        let fd = stream.detach().await.ok().unwrap();
        assert_eq!(net.stats().open, 0);
        let mut stream = net.adopt(fd);
        stream.send_bytes(b", from the second");
        let mut heard = [0; 31];
        unsent_below(&mut stream, 0).await.unwrap();
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"from the first, from the second");
        peer.write_all(b"!").unwrap();
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"!");

        assert!(!stream.is_readable());
        peer.write_all(b"?").unwrap();
        until(&net, "it came", || stream.unread() == 1).await;
        // It stays where it is, and goes on.
        let mut stream = stream.detach().await.unwrap_err().unwrap();
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"?");
        peer.write_all(b"more").unwrap();
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"more");
        let fd = stream.detach().await.ok().unwrap();
        peer.write_all(b"late").unwrap();
        let stream = net.adopt(fd);
        until(&net, "the kernel has it", || stream.is_readable()).await;
        assert!(
            !stream.is_disturbed(),
            "nobody has asked the ring to receive"
        );
    });
}

#[test]
fn a_ring_dropped_at_work_cancels_what_the_kernel_holds() {
    let options = NetOptions {
        linger: Duration::from_millis(50),
        ..Default::default()
    };
    on_core_with(options, |_| async move {
        let net = ringgate::net::Net::new(NetOptions::default()).unwrap();
        let (listener, address) = listener();
        let _acceptor = net.listen(listener);
        let peer = TcpStream::connect(address).unwrap();
        let mut stream = net.adopt(peer.try_clone().unwrap().into());
        stream.start_receiving();
        stream.send_bytes(&[1; 100_000]);
        let _waker = net.waker().unwrap();
        let net = Rc::new(net);
        let ring = net.clone();
        let driver = spawn("ring", async move { ring.drive().await });
        futures_lite::future::yield_now().await;
        futures_lite::future::yield_now().await;
        driver.cancel();
        let _ = driver.await;
    });
}

#[test]
fn a_panic_ends_its_own_connection_and_nothing_else() {
    on_core(|net| async move {
        let (mut doomed, mut peer) = pair(&net).await;
        let (mut other, mut other_peer) = pair(&net).await;
        let ended = spawn("doomed", async move {
            let _ = receive(&mut doomed).await;
            panic!("on purpose");
        });
        peer.write_all(b"x").unwrap();
        assert_eq!(ended.await, None::<()>);
        assert_eq!(net.stats().panics, 1);
        let end = on_thread(&net, move || peer.read(&mut [0; 1])).await;
        // Not an orderly end: what was said may be incomplete.
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        other_peer.write_all(b"still here").unwrap();
        assert_eq!(&*receive(&mut other).await.unwrap().unwrap(), b"still here");
        let fine = spawn("fine", poll_fn(|_| std::task::Poll::Ready(5))).await;
        assert_eq!(fine, Some(5));
    });
}
