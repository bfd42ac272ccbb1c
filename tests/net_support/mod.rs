//! What the ring's tests share: a core to run on, blocking peers on threads, waiting on conditions.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::mpsc::{TryRecvError, channel};
use std::task::Poll;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use ringgate::net::{Buf, Net, NetOptions, SocketOptions, Stream, bind, ring_end, spawn};

/// Longest wait of any test: far above what is needed, so that only a hang ends here.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` on a core with a ring, then stops the ring and checks that nothing was lost.
pub fn on_core<F: Future<Output = ()> + 'static>(test: impl FnOnce(Net) -> F + Send + 'static) {
    on_core_with(NetOptions::default(), test);
}

/// As [`on_core`], with options of the test's own.
pub fn on_core_with<F: Future<Output = ()> + 'static>(
    options: NetOptions,
    test: impl FnOnce(Net) -> F + Send + 'static,
) {
    let executor = LocalExecutorBuilder::new(Placement::Unbound);
    let run = move || async move {
        let net = Net::new(options).unwrap();
        let ring = net.clone();
        let driver = spawn("ring", async move { ring.drive().await });
        let tested = spawn("test", test(net.clone())).await;
        assert!(tested.is_some(), "the test has panicked, see above");
        net.stop();
        ring_end(driver.await).unwrap();
        let stats = net.stats();
        assert_eq!((stats.closing, stats.buffers_out), (0, 0), "{stats:?}");
    };
    executor.spawn(run).unwrap().join().unwrap();
}

/// Runs `work` on a thread and waits for its value. One at a time per core.
pub async fn on_thread<T: Send + 'static>(
    net: &Net,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, result) = channel();
    let waker = net.waker().unwrap();
    let thread = std::thread::spawn(move || {
        let value = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.send(value).unwrap();
        waker.wake();
    });
    loop {
        match result.try_recv() {
            Ok(Ok(value)) => {
                thread.join().unwrap();
                return value;
            }
            Ok(Err(_)) => panic!("the peer's thread has panicked, see above"),
            Err(TryRecvError::Empty) => poll_fn(|cx| net.poll_woken(cx)).await,
            Err(TryRecvError::Disconnected) => panic!("the peer's thread is gone"),
        }
    }
}

/// Waits, on the ring's own deadlines, until `condition` holds.
pub async fn until(net: &Net, what: &str, mut condition: impl FnMut() -> bool) {
    let started = net.now();
    while !condition() {
        assert!(
            net.now().since(started) < PATIENCE,
            "never: {what}; {:?}",
            net.stats()
        );
        pause(net, Duration::from_millis(2)).await;
    }
}

/// Lets the ring turn for `time`.
pub async fn pause(net: &Net, time: Duration) {
    let mut timer = net.timer();
    timer.set(net.now().plus(time));
    poll_fn(|cx| timer.poll(cx)).await;
}

/// A loopback listener on a free port.
pub fn listener() -> (std::net::TcpListener, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = SocketOptions::default();
    let listener = bind(any, 4096, &options).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The next received bytes; `None` at the end.
pub async fn receive(stream: &mut Stream) -> std::io::Result<Option<Buf>> {
    poll_fn(|cx| stream.poll_receive(cx)).await
}

/// Waits until at most `limit` bytes are unsent.
pub async fn unsent_below(stream: &mut Stream, limit: usize) -> std::io::Result<()> {
    poll_fn(|cx| stream.poll_unsent_below(cx, limit)).await
}

/// Serves echo until each client closes; accepts for as long as the core runs.
pub fn echo(net: &Net) -> SocketAddr {
    let (listener, address) = listener();
    let mut acceptor = net.listen(listener);
    spawn("echo", async move {
        while let Ok((stream, _)) = poll_fn(|cx| acceptor.poll_accept(cx)).await {
            spawn("echo connection", echo_one(stream)).detach();
        }
    })
    .detach();
    address
}

/// Sends back what comes.
pub async fn echo_one(mut stream: Stream) {
    while let Ok(Some(buf)) = receive(&mut stream).await {
        stream.send(buf);
        if unsent_below(&mut stream, 256 * 1024).await.is_err() {
            return;
        }
    }
}

/// A connected pair: the ring's end, and a blocking socket.
pub async fn pair(net: &Net) -> (Stream, std::net::TcpStream) {
    let (listener, address) = listener();
    let mut acceptor = net.listen(listener);
    let peer = std::net::TcpStream::connect(address).unwrap();
    let (stream, from) = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
    assert_eq!(from, peer.local_addr().unwrap());
    (stream, peer)
}

/// Polls once, without waiting.
pub async fn now_or_pending<T>(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>,
) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(poll(cx))).await
}

/// Descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
