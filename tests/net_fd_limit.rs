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
use ringgate::net::spawn;

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
        let tell = move |mut client: TcpStream| {
            let mut told = String::new();
            client.read_to_string(&mut told).unwrap();
            told
        };
        let told = on_thread(&net, move || tell(TcpStream::connect(address).unwrap())).await;
        assert_eq!(told, "fine");

        // The clients' own sockets exist before the last descriptor is taken.
        let clients: Vec<_> = (0..40)
            .map(|_| {
                let address = address.into();
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                (socket.unwrap(), address)
            })
            .collect();
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        let before = net.stats();
        for (socket, address) in &clients {
            socket.connect(address).unwrap();
        }
        until(&net, "accepting pauses", || {
            net.stats().accept_backoffs >= 5
        })
        .await;
        let enters = net.stats().enters;
        pause(&net, Duration::from_millis(300)).await;
        let spun = net.stats().enters - enters;
        assert!(spun < 200, "{spun} system calls in 300 ms");
        assert!(
            net.stats().accepts_reserved > before.accepts_reserved,
            "{:?}",
            net.stats()
        );

        drop(hoard);
        let told = on_thread(&net, move || {
            let sockets = clients.into_iter().map(|(socket, _)| socket.into());
            sockets.map(tell).collect::<Vec<_>>()
        })
        .await;
        let full = told.iter().filter(|told| *told == "full").count();
        let fine = told.iter().filter(|told| *told == "fine").count();
        assert!(full >= 1 && full + fine == 40, "{told:?}");
        until(&net, "all are closed", || net.stats().open == 0).await;
    });
}
