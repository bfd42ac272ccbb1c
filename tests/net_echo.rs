//! Bytes come back as they went, whatever their sizes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::io::{Read, Write};
use std::net::TcpStream;

use net_support::{echo, on_core, on_thread};

#[test]
fn bytes_come_back_in_order() {
    on_core(|net| async move {
        let address = echo(&net);
        on_thread(&net, move || {
            let mut socket = TcpStream::connect(address).unwrap();
            for round in 0..200_usize {
                let sent = vec![round as u8; 1 + round * 97];
                socket.write_all(&sent).unwrap();
                let mut back = vec![0; sent.len()];
                socket.read_exact(&mut back).unwrap();
                assert!(sent == back, "round {round}");
            }
        })
        .await;
    });
}
