//! Out of descriptors: accepting pauses instead of spinning, a few clients are told, and all are
//! served once descriptors come back. Alone in its binary, for the limit is the process's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::fs::File;
use std::future::poll_fn;
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use net_support::*;
use ringgate::net::{Listener, Net, SocketOptions, bind_unix, spawn};
use socket2::{SockAddr, Socket, Type};

#[test]
#[allow(unsafe_code, reason = "there is no safe way to set a limit")]
fn accepting_pauses_when_descriptors_run_out() {
    // Before the first accept: the kernel notes the limit when an accept is armed.
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit lives across the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = 300;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    on_core(|net| async move {
        let (listener, address) = listener();
        run_out(&net, listener.into(), address.into()).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = bind_unix(&path, 0o777, 4096, &SocketOptions::default()).unwrap();
        run_out(&net, listener, SockAddr::unix(&path).unwrap()).await;
    });
}

fn tell(client: Socket) -> String {
    let mut told = String::new();
    TcpStream::from(client).read_to_string(&mut told).unwrap();
    told
}

async fn run_out(net: &Net, listener: Listener, address: SockAddr) {
    let mut acceptor = net.listen(listener);
    spawn("door", async move {
        while let Ok((mut stream, _)) = poll_fn(|cx| acceptor.poll_accept(cx)).await {
            stream.send_static(if stream.is_reserved() {
                b"full"
            } else {
                b"fine"
            });
        }
    })
    .detach();
    let client = Socket::new(address.domain(), Type::STREAM, None).unwrap();
    client.connect(&address).unwrap();
    let told = on_thread(net, move || tell(client)).await;
    assert_eq!(told, "fine");

    // The clients' own sockets exist before the last descriptor is taken.
    let clients: Vec<_> = (0..40)
        .map(|_| Socket::new(address.domain(), Type::STREAM, None).unwrap())
        .collect();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let before = net.stats();
    for socket in &clients {
        socket.connect(&address).unwrap();
    }
    until(net, "accepting pauses", || {
        net.stats().accept_backoffs >= before.accept_backoffs + 5
    })
    .await;
    let enters = net.stats().enters;
    pause(net, Duration::from_millis(300)).await;
    let spun = net.stats().enters - enters;
    assert!(spun < 200, "{spun} system calls in 300 ms");
    assert!(
        net.stats().accepts_reserved > before.accepts_reserved,
        "{:?}",
        net.stats()
    );

    drop(hoard);
    let told = on_thread(net, move || {
        clients.into_iter().map(tell).collect::<Vec<_>>()
    })
    .await;
    let full = told.iter().filter(|told| *told == "full").count();
    let fine = told.iter().filter(|told| *told == "fine").count();
    assert!(full >= 1 && full + fine == 40, "{told:?}");
    until(net, "all are closed", || net.stats().open == 0).await;
}
