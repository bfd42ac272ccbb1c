//! Every TCP socket of a ring sends small segments at once, however it came to be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::future::poll_fn;
use std::net::{TcpListener, TcpStream};

use net_support::*;
use ringgate::net::{SocketOptions, Stream};
use socket2::SockRef;

/// Takes the stream off the ring to ask its socket.
async fn is_nodelay(stream: Stream) -> bool {
    let Ok(fd) = stream.detach().await else {
        panic!("nothing has come that could hinder it");
    };
    SockRef::from(&fd).tcp_nodelay().unwrap()
}

#[test]
fn every_way_to_a_stream_sets_nodelay() {
    on_core(|net| async move {
        let (bound, address) = listener();
        let mut acceptor = net.listen(bound);
        let connected = net.connect(address, &SocketOptions::default());
        let connected = connected.await.unwrap();
        let (accepted, _) = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
        assert!(is_nodelay(connected).await, "connected");
        assert!(is_nodelay(accepted).await, "accepted");
        // A listener and a connection that somebody else made, without options.
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap();
        let mut acceptor = net.listen(plain);
        let peer = TcpStream::connect(address).unwrap();
        assert!(!peer.nodelay().unwrap(), "the system's default");
        let (accepted, _) = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
        assert!(is_nodelay(net.adopt(peer.into())).await, "adopted");
        assert!(is_nodelay(accepted).await, "accepted from a plain listener");
    });
}
