//! Descriptors and buffers are counted before and after: none is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_support::*;
use ringgate::net::NetOptions;

/// The count is the process's: these tests run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_session_dropped_with_receive_and_send_in_flight_loses_nothing() {
    let _alone = alone();
    let options = NetOptions {
        linger: Duration::from_millis(200),
        ..Default::default()
    };
    on_core_with(options, |net| async move {
        let before = open_descriptors();
        for round in 0..20_u32 {
            let (mut stream, mut peer) = pair(&net).await;
            stream.start_receiving();
            peer.write_all(&[7; 50_000]).unwrap();
            until(&net, "bytes have come", || stream.unread() > 0).await;
            // More than the kernel takes: the send stays in flight, its buffers with it.
            let received = receive(&mut stream).await.unwrap().unwrap();
            stream.send(received);
            for _ in 0..200 {
                stream.send_bytes(&[round as u8; 65_536]);
            }
            until(&net, "the send is stuck", || net.stats().sends > 0).await;
            assert!(stream.unsent() > 0);
            drop(stream);
            // The peer never reads: the linger deadline must end it.
            until(&net, "the slot is gone", || net.stats().open == 0).await;
            assert_eq!(net.stats().buffers_out, 0, "round {round}");
            drop(peer);
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let _alone = alone();
    on_core(|net| async move {
        let address = echo(&net);
        pause(&net, Duration::from_millis(5)).await;
        net.waker().unwrap();
        let before = open_descriptors();
        for batch in 0..20 {
            on_thread(&net, move || {
                let mut sockets: Vec<_> = (0..500)
                    .map(|_| TcpStream::connect(address).unwrap())
                    .collect();
                for socket in &mut sockets {
                    socket.write_all(b"hello").unwrap();
                }
                for (n, socket) in sockets.iter_mut().enumerate() {
                    // A third of the clients leaves without waiting for the answer.
                    if n % 3 != 0 {
                        socket.read_exact(&mut [0; 5]).unwrap();
                    }
                }
            })
            .await;
            let gone = || net.stats().open == 0;
            until(&net, "all slots are gone", gone).await;
            assert_eq!(net.stats().buffers_out, 0, "batch {batch}");
        }
        assert_eq!(net.stats().accepts, 10_000);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_stopped_acceptor_closes_its_port_and_what_nobody_claimed() {
    let _alone = alone();
    on_core(|net| async move {
        let (listener, address) = listener();
        let before = open_descriptors() - 1;
        let acceptor = net.listen(listener);
        let mut peer = TcpStream::connect(address).unwrap();
        until(&net, "accepted", || net.stats().accepts == 1).await;
        acceptor.stop();
        until(&net, "the listener is gone", || net.stats().listeners == 0).await;
        assert_eq!(
            peer.read(&mut [0; 1]).unwrap_or(0),
            0,
            "the unclaimed connection was closed"
        );
        drop(peer);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(open_descriptors(), before);
    });
}
