//! Who counts as gone: a peer that does not answer does, one that lives and does not read does not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use net_support::*;
use ringgate::net::{Net, NetOptions, SocketOptions, Stream};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

/// What the configuration allows as the least.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the kernel takes to end a connection whose timeout is [`TIMEOUT`].
const PAUSE: Duration = Duration::from_millis(3500);

fn options() -> SocketOptions {
    SocketOptions {
        user_timeout: Some(TIMEOUT),
        ..Default::default()
    }
}

/// An accepted stream, and a peer whose window is small.
async fn accepted(net: &Net) -> (Stream, TcpStream) {
    accepted_with(net, options()).await
}

async fn accepted_with(net: &Net, options: SocketOptions) -> (Stream, TcpStream) {
    let (listener, address) = listener();
    let mut acceptor = net.listen(listener);
    let peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    peer.set_recv_buffer_size(64 << 10).unwrap();
    peer.connect(&address.into()).unwrap();
    let (stream, _) = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
    stream.set_options(&options).unwrap();
    (stream, peer.into())
}

/// A connected stream, and a peer whose window is small.
async fn connected(net: &Net) -> (Stream, TcpStream) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(64 << 10).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let stream = net.connect(address, &options()).await.unwrap();
    (stream, listener.accept().unwrap().0.into())
}

/// From here on the peer's kernel drops whatever comes: as if the machine were gone.
fn vanish(peer: &impl AsFd) {
    // "Return 0": no byte of a packet is kept.
    let drop_all = [SockFilter::new(0x06, 0, 0, 0)];
    SockRef::from(peer).attach_filter(&drop_all).unwrap();
}

async fn read_all(net: &Net, mut peer: TcpStream, bytes: usize) {
    on_thread(net, move || {
        let mut heard = vec![0; bytes];
        peer.read_exact(&mut heard).unwrap();
        assert!(heard.iter().all(|byte| *byte == 7));
    })
    .await;
}

async fn ended_with(stream: &mut Stream) -> ErrorKind {
    loop {
        match receive(stream).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an orderly end"),
            Err(error) => return error.kind(),
        }
    }
}

#[test]
fn a_living_peer_may_pause_for_longer_than_the_timeout() {
    // With bytes waiting on this side, and with all of them in the kernel's hands.
    for bytes in [20 << 20, 1 << 20] {
        on_core(move |net| async move {
            let (mut down, reader) = accepted(&net).await;
            let (mut up, server) = connected(&net).await;
            down.send_bytes(&vec![7; bytes]);
            up.send_bytes(&vec![7; bytes]);
            if bytes == 1 << 20 {
                unsent_below(&mut down, 0).await.unwrap();
                unsent_below(&mut up, 0).await.unwrap();
            }
            pause(&net, PAUSE).await;
            assert_eq!(net.stats().windows_closed, 2);
            read_all(&net, reader, bytes).await;
            read_all(&net, server, bytes).await;
            unsent_below(&mut down, 0).await.unwrap();
            unsent_below(&mut up, 0).await.unwrap();
        });
    }
}

#[test]
fn a_peer_that_has_read_on_is_watched_as_before() {
    on_core(|net| async move {
        let (mut stream, reader) = accepted(&net).await;
        stream.send_bytes(&[7; 1 << 20]);
        until(&net, "the closed window is seen", || {
            net.stats().windows_closed == 1
        })
        .await;
        read_all(&net, reader.try_clone().unwrap(), 1 << 20).await;
        vanish(&reader);
        stream.send_bytes(b"is anybody there?");
        let before = net.now();
        assert_eq!(ended_with(&mut stream).await, ErrorKind::TimedOut);
        let default = NetOptions::default().write_stall;
        assert!(net.now().since(before) < default, "it was the silence");
    });
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    on_core(|net| async move {
        let (mut down, reader) = accepted(&net).await;
        let (mut up, server) = connected(&net).await;
        vanish(&reader);
        vanish(&server);
        down.send_bytes(b"a reply");
        up.send_bytes(b"a statement");
        assert_eq!(ended_with(&mut down).await, ErrorKind::TimedOut);
        assert_eq!(ended_with(&mut up).await, ErrorKind::TimedOut);
        assert_eq!(net.stats().windows_closed, 0);
    });
}

#[test]
fn a_peer_that_goes_while_its_window_is_closed_is_noticed() {
    on_core(|net| async move {
        let (mut stream, reader) = accepted(&net).await;
        stream.send_bytes(&[7; 4 << 20]);
        until(&net, "the closed window is seen", || {
            net.stats().windows_closed == 1
        })
        .await;
        vanish(&reader);
        let before = net.now();
        assert_eq!(ended_with(&mut stream).await, ErrorKind::TimedOut);
        let default = NetOptions::default().write_stall;
        assert!(net.now().since(before) < default, "it was the silence");
    });
}

#[test]
fn a_client_that_reads_nothing_for_the_time_of_a_write_stall_is_ended_whatever_its_timeout() {
    let stall = Duration::from_secs(4);
    // The last one is longer than any wait of this test.
    for user_timeout in [Some(TIMEOUT), None, Some(20 * PATIENCE)] {
        on_core(move |net| async move {
            net.set_patience(Duration::from_millis(100), stall);
            let options = SocketOptions {
                user_timeout,
                ..options()
            };
            let (mut stream, reader) = accepted_with(&net, options).await;
            stream.send_bytes(&[7; 1 << 20]);
            unsent_below(&mut stream, 0).await.unwrap();
            let before = net.now();
            assert_eq!(ended_with(&mut stream).await, ErrorKind::TimedOut);
            let lasted = net.now().since(before);
            // The probing began a little after the window was closed.
            assert!(lasted >= stall - Duration::from_secs(1), "{lasted:?}");
            drop(reader);
        });
    }
}

#[test]
fn a_server_that_is_busy_is_not_ended_by_a_clients_deadline() {
    on_core(|net| async move {
        net.set_patience(Duration::from_millis(100), TIMEOUT);
        let (mut stream, server) = connected(&net).await;
        stream.send_bytes(&[7; 1 << 20]);
        pause(&net, PAUSE).await;
        read_all(&net, server, 1 << 20).await;
    });
}

#[test]
fn a_connection_leaves_the_ring_with_the_timeout_that_it_came_with() {
    on_core(|net| async move {
        let (mut stream, reader) = connected(&net).await;
        stream.start_receiving();
        stream.send_bytes(&[7; 1 << 20]);
        until(&net, "the closed window is seen", || {
            net.stats().windows_closed == 1
        })
        .await;
        let Ok(fd) = stream.detach().await else {
            panic!("nothing has come that could hinder it");
        };
        let timeout = SockRef::from(&fd).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(TIMEOUT));
        drop(reader);
    });
}

#[test]
fn an_idle_core_looks_at_nothing() {
    on_core(|net| async move {
        let (mut stream, reader) = accepted(&net).await;
        stream.send_bytes(&[7; 100]);
        read_all(&net, reader.try_clone().unwrap(), 100).await;
        pause(&net, Duration::from_millis(800)).await;
        let before = net.stats();
        pause(&net, Duration::from_millis(1500)).await;
        let fired = net.stats().deadlines - before.deadlines;
        assert_eq!(fired, 1, "the test's own");
        drop((stream, reader));
    });
}
