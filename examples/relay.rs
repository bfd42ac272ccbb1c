//! A plain TCP relay on one core: the floor that the gateway's cost is measured against.
//!
//!     relay LISTEN UPSTREAM [--buffer-bytes N]
//!
//! It uses the network ring and nothing else: no protocol, no pool. A side stops being read while the
//! other has more than 256 KiB unsent.

#![allow(
    clippy::print_stderr,
    reason = "a program without a log says what is wrong there"
)]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::task::{Context, Poll};

use glommio::{LocalExecutorBuilder, Placement};
use ringgate::net::{Net, NetOptions, SocketOptions, Stream, bind, ensure_free, preflight, spawn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Unsent bytes of one side above which the other is not read.
const UNSENT_MAX: usize = 256 * 1024;

struct Arguments {
    listen: SocketAddr,
    upstream: SocketAddr,
    buffer_bytes: Option<u32>,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    let listen = words.next()?.parse().ok()?;
    let upstream = words.next()?.parse().ok()?;
    let buffer_bytes = match words.next().as_deref() {
        None => None,
        Some("--buffer-bytes") => Some(words.next()?.parse().ok()?),
        Some(_) => return None,
    };
    Some(Arguments {
        listen,
        upstream,
        buffer_bytes,
    })
}

/// Moves bytes one way until nothing is left to move. `true` once the source has ended.
fn pump(from: &mut Stream, to: &mut Stream, cx: &mut Context<'_>) -> io::Result<bool> {
    while to.poll_unsent_below(cx, UNSENT_MAX)?.is_ready() {
        match from.poll_receive(cx)? {
            Poll::Ready(Some(buf)) => to.send(buf),
            Poll::Ready(None) => {
                to.shutdown_write();
                return Ok(true);
            }
            Poll::Pending => break,
        }
    }
    Ok(false)
}

async fn relay(mut down: Stream, mut up: Stream) -> io::Result<()> {
    let (mut down_ended, mut up_ended) = (false, false);
    poll_fn(|cx| {
        if !down_ended {
            down_ended = pump(&mut down, &mut up, cx)?;
        }
        if !up_ended {
            up_ended = pump(&mut up, &mut down, cx)?;
        }
        if down_ended && up_ended {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

async fn serve(arguments: Arguments) -> io::Result<()> {
    let mut options = NetOptions::default();
    options.buffer_bytes = arguments.buffer_bytes.unwrap_or(options.buffer_bytes);
    preflight(&options).map_err(io::Error::other)?;
    ensure_free(arguments.listen)?;
    let sockets = SocketOptions::default();
    let listener = bind(arguments.listen, 1024, &sockets)?;

    let net = Net::new(options)?;
    let ring = net.clone();
    spawn("ring", async move { ring.drive().await }).detach();
    let mut acceptor = net.listen(listener);
    loop {
        let (down, _) = poll_fn(|cx| acceptor.poll_accept(cx)).await?;
        let connecting = net.connect(arguments.upstream, &sockets);
        spawn("connection", async move {
            // A failure of one connection ends that connection; both streams close on drop.
            if let Ok(up) = connecting.await {
                let _ = relay(down, up).await;
            }
        })
        .detach();
    }
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: relay LISTEN UPSTREAM [--buffer-bytes N]");
        return ExitCode::from(64);
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound).name("relay");
    let ended = match executor.spawn(move || serve(arguments)) {
        Ok(handle) => handle.join(),
        Err(error) => Err(error),
    };
    match ended {
        Ok(Err(error)) => eprintln!("relay: {error}"),
        Err(error) => eprintln!("relay: {error}"),
        Ok(Ok(())) => return ExitCode::SUCCESS,
    }
    ExitCode::FAILURE
}
