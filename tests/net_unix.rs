//! Unix sockets on the ring: what TCP does, and what only they do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod net_support;

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use net_support::*;
use ringgate::base::address::Address;
use ringgate::net::{Listener, Net, NetOptions, SocketOptions, bind_unix, ring_end, spawn};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    (folder, path)
}

fn listen_at(path: &Path, backlog: i32) -> Listener {
    bind_unix(path, 0o777, backlog, &SocketOptions::default()).unwrap()
}

#[test]
fn bytes_come_back_in_order() {
    let (_folder, path) = folder();
    on_core(|net| async move {
        let mut acceptor = net.listen(listen_at(&path, 16));
        let nameless = Address::Unix(PathBuf::new());
        spawn("echo", async move {
            while let Ok((stream, peer)) = poll_fn(|cx| acceptor.poll_accept(cx)).await {
                assert_eq!(peer, nameless);
                stream.set_options(&SocketOptions::default()).unwrap();
                spawn("echo connection", echo_one(stream)).detach();
            }
        })
        .detach();
        let to = path.clone();
        on_thread(&net, move || {
            let mut socket = UnixStream::connect(to).unwrap();
            for round in 0..200_usize {
                let sent = vec![round as u8; 1 + round * 997];
                socket.write_all(&sent).unwrap();
                let mut back = vec![0; sent.len()];
                socket.read_exact(&mut back).unwrap();
                assert!(sent == back, "round {round}");
            }
        })
        .await;
        // The ring's own end of one.
        let address = Address::Unix(path);
        let options = SocketOptions {
            user_timeout: Some(Duration::from_secs(1)),
            ..Default::default()
        };
        let connecting = net.connect(address.clone(), &options);
        let mut stream = connecting.await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        stream.send_bytes(b"ping");
        assert_eq!(&*receive(&mut stream).await.unwrap().unwrap(), b"ping");
    });
}

#[test]
fn connecting_fails_or_is_dropped_without_a_trace() {
    let (_folder, path) = folder();
    on_core(|net| async move {
        let options = SocketOptions::default();
        let address = Address::Unix(path.clone());
        let refused = net.connect(address.clone(), &options).await;
        let error = refused.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        // A full queue leaves connects hanging: dropping one must cancel it, and meanwhile the ring
        // must not go round for it.
        let full = listen_at(&path, 0);
        let mut hanging: Vec<_> = (0..8)
            .map(|_| Box::pin(net.connect(address.clone(), &options)))
            .collect();
        pause(&net, Duration::from_millis(20)).await;
        let mut pending = 0;
        for connecting in &mut hanging {
            let polled = now_or_pending(|cx| connecting.as_mut().poll(cx)).await;
            pending += usize::from(polled.is_pending());
        }
        assert!(pending > 0, "no connect is hanging");
        let turns = net.stats().turns;
        pause(&net, Duration::from_millis(200)).await;
        let turned = net.stats().turns - turns;
        assert!(turned < 1_000, "{turned} turns in 200 ms");
        drop(hanging);
        until(&net, "all slots are gone", || net.stats().open == 0).await;
        drop(full);
        assert!(!path.exists());
    });
}

#[test]
fn the_file_goes_when_accepting_stops() {
    let (_folder, path) = folder();
    on_core(|net| async move {
        let acceptor = net.listen(listen_at(&path, 16));
        pause(&net, Duration::from_millis(5)).await;
        assert!(path.exists());
        acceptor.stop();
        until(&net, "the listener is gone", || net.stats().listeners == 0).await;
        assert!(!path.exists());
        assert!(UnixStream::connect(&path).is_err());
    });
}

#[test]
fn a_peer_that_does_not_read_is_no_affair_of_tcp() {
    let (_folder, path) = folder();
    on_core(|net| async move {
        let mut acceptor = net.listen(listen_at(&path, 16));
        let mut peer = UnixStream::connect(&path).unwrap();
        let (mut stream, _) = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
        const SENT: usize = 4 << 20;
        stream.send_bytes(&[7; SENT]);
        // The look at windows comes by more than once.
        pause(&net, Duration::from_millis(800)).await;
        assert_eq!(net.stats().windows_closed, 0);
        assert!(stream.unsent() > 0);
        let read = on_thread(&net, move || {
            let mut read = vec![0; SENT];
            peer.read_exact(&mut read).map(|()| read.len())
        });
        assert_eq!(read.await.unwrap(), SENT);
        unsent_below(&mut stream, 0).await.unwrap();
    });
}

/// A core of its own thread that tells `accepted` its number for every connection; it accepts already.
fn core(number: usize, listener: Listener, accepted: Sender<usize>) -> (Core, Sender<()>) {
    let (stop, stopped) = channel::<()>();
    let (accepts, begun) = channel();
    let executor = LocalExecutorBuilder::new(Placement::Unbound);
    let run = move || async move {
        let net = Net::new(NetOptions::default()).unwrap();
        let ring = net.clone();
        let driver = spawn("ring", async move { ring.drive().await });
        let mut acceptor = net.listen(listener);
        let accepting = spawn("accept", async move {
            while let Ok((mut stream, _)) = poll_fn(|cx| acceptor.poll_accept(cx)).await {
                stream.send_bytes(b"!");
                let _ = accepted.send(number);
            }
        });
        // Some turns later the accept is in the kernel.
        pause(&net, Duration::from_millis(20)).await;
        accepts.send(()).unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            pause(&net, Duration::from_millis(5)).await;
        }
        accepting.cancel();
        until(&net, "all is closed", || {
            let stats = net.stats();
            (stats.open, stats.listeners) == (0, 0)
        })
        .await;
        net.stop();
        ring_end(driver.await).unwrap();
    };
    let core = executor.spawn(run).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    (core, stop)
}

type Core = glommio::ExecutorJoinHandle<()>;

#[test]
fn two_cores_share_what_comes() {
    const CLIENTS: usize = 200;
    let (_folder, path) = folder();
    let first = listen_at(&path, 1024);
    let second = first.try_clone().unwrap();
    let (sender, accepted) = channel();
    let cores = [
        core(0, first, sender.clone()),
        core(1, second, sender.clone()),
    ];
    // One after the other: nothing but the kernel's choice of whom to wake spreads them.
    for _ in 0..CLIENTS {
        let mut client = UnixStream::connect(&path).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let mut by_core = [0_usize; 2];
    for _ in 0..CLIENTS {
        by_core[accepted.recv_timeout(PATIENCE).unwrap()] += 1;
    }
    assert!(
        by_core.iter().all(|&share| share >= CLIENTS / 4),
        "{by_core:?}"
    );
    // And all at once.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for mut client in clients {
        client.read_exact(&mut [0]).unwrap();
    }
    // One core stops: the other serves on, and the file stays until it stops too.
    let [(one, stop_one), (other, stop_other)] = cores;
    stop_one.send(()).unwrap();
    one.join().unwrap();
    for _ in 0..20 {
        let mut client = UnixStream::connect(&path).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    stop_other.send(()).unwrap();
    other.join().unwrap();
    assert!(!path.exists());
}
