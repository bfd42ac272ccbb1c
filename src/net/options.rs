//! Settings of a ring, and socket options set through `setsockopt`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::base::address::Address;
use crate::config::SocketSettings;

/// Sizes and times of one core's ring.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Submission queue entries; a fuller queue is submitted early.
    pub entries: u32,
    /// Completion queue entries.
    pub completions: u32,
    /// Receive buffers of each side, clients' and servers'. A ceiling: memory that was never needed is
    /// never resident.
    pub buffer_count: u16,
    /// Bytes per receive buffer.
    pub buffer_bytes: u32,
    /// Buffers of a side offered to the kernel at a time; rounded up to a power of two.
    pub buffer_window: u16,
    /// Make all buffers resident at start.
    pub prefault: bool,
    /// Received and unread bytes of a connection above which receiving stops until half is read.
    pub unread_max: usize,
    /// Longest time to block in the ring before glommio gets the thread back.
    pub hot_wait: Duration,
    /// Time without work after which the core parks in glommio instead of waiting in the ring.
    pub idle_spell: Duration,
    /// How long a client that lives may keep its window closed, whatever its connection's
    /// [`SocketOptions::user_timeout`] is.
    pub write_stall: Duration,
    /// How long a dropped stream may take to send what is queued and to see its peer close.
    pub linger: Duration,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            entries: 1024,
            completions: 8192,
            buffer_count: 1024,
            // CPU seconds of a relay per GiB: 16 KiB 0.55, 32 KiB 0.36, 64 KiB 0.37 (Linux 6.18).
            buffer_bytes: 32 * 1024,
            buffer_window: 256,
            prefault: false,
            unread_max: 256 * 1024,
            hot_wait: Duration::from_millis(10),
            idle_spell: Duration::from_millis(20),
            write_stall: Duration::from_secs(60),
            linger: Duration::from_secs(2),
        }
    }
}

/// TCP keep-alive: when probing starts, how often it repeats, how many losses end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe; whole seconds.
    pub idle: Duration,
    /// Time between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

/// Options of a listener's or an endpoint's sockets. `None` leaves the system's default. Small segments
/// are always sent at once (`TCP_NODELAY`). Unix sockets take the buffers' sizes only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Keep-alive probing (`SO_KEEPALIVE` and the `TCP_KEEP*` options).
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`, milliseconds). A second at
    /// least, or a peer whose window is closed may be taken for gone before the ring has seen it.
    pub user_timeout: Option<Duration>,
    /// Receive buffer of the kernel, bytes (`SO_RCVBUF`); fixes what is otherwise tuned by itself.
    pub receive_buffer: Option<usize>,
    /// Send buffer of the kernel, bytes (`SO_SNDBUF`).
    pub send_buffer: Option<usize>,
    /// Congestion control algorithm (`TCP_CONGESTION`), e.g. `cubic`.
    pub congestion: Option<String>,
}

/// The one way from configuration to sockets: listeners, accepted and connected ones.
impl From<&SocketSettings> for SocketOptions {
    fn from(settings: &SocketSettings) -> Self {
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            keepalive: settings.keepalive.map(|idle| Keepalive {
                idle,
                interval: settings.keepalive_interval,
                count: settings.keepalive_count,
            }),
            user_timeout: settings.user_timeout,
            receive_buffer: settings.receive_buffer.map(size),
            send_buffer: settings.send_buffer.map(size),
            congestion: settings.congestion.clone(),
        }
    }
}

impl SocketOptions {
    /// Sets the options on a socket, those that its protocol has.
    ///
    /// # Errors
    /// The first option the system refuses, e.g. a congestion control it does not offer.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match socket.set_tcp_nodelay(true) {
            // The system's word that this is no socket of TCP: a Unix socket.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => {
                other?;
                self.apply_to_tcp(&socket)?;
            }
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }

    fn apply_to_tcp(&self, socket: &SockRef<'_>) -> io::Result<()> {
        // What is off is turned off: an accepted socket has inherited its listener's.
        match self.keepalive {
            Some(keepalive) => {
                let wanted = TcpKeepalive::new()
                    .with_time(keepalive.idle)
                    .with_interval(keepalive.interval)
                    .with_retries(keepalive.count);
                socket.set_tcp_keepalive(&wanted)?;
            }
            None => socket.set_keepalive(false)?,
        }
        socket.set_tcp_user_timeout(self.user_timeout)?;
        if let Some(algorithm) = &self.congestion {
            socket.set_tcp_congestion(algorithm.as_bytes())?;
        }
        Ok(())
    }
}

/// An unconnected socket of TCP.
pub(super) fn tcp(address: SocketAddr) -> io::Result<Socket> {
    // socket2 sets SOCK_CLOEXEC. The socket stays blocking: io_uring refuses to wait on others.
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// An unconnected socket for `address` with `options`.
pub(super) fn socket_for(address: &Address, options: &SocketOptions) -> io::Result<Socket> {
    let socket = match address {
        Address::Tcp(address) => tcp(*address)?,
        Address::Unix(_) => Socket::new(Domain::UNIX, Type::STREAM, None)?,
    };
    options.apply(&socket)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Address {
        SocketAddr::from(([127, 0, 0, 1], 0)).into()
    }

    #[test]
    fn options_reach_the_socket() {
        let options = SocketOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(30),
                interval: Duration::from_secs(5),
                count: 3,
            }),
            user_timeout: Some(Duration::from_secs(20)),
            receive_buffer: Some(100_000),
            send_buffer: Some(50_000),
            congestion: Some("reno".into()),
        };
        let socket = socket_for(&loopback(), &options).unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(30)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(5)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(20))
        );
        // The kernel doubles what it is asked for, to account for its own bookkeeping.
        assert_eq!(socket.recv_buffer_size().unwrap(), 200_000);
        assert_eq!(socket.send_buffer_size().unwrap(), 100_000);
        assert_eq!(&socket.tcp_congestion().unwrap()[..4], b"reno");
    }

    #[test]
    fn an_unknown_congestion_control_is_an_error() {
        let options = SocketOptions {
            congestion: Some("no-such".into()),
            ..Default::default()
        };
        assert!(socket_for(&loopback(), &options).is_err());
    }

    #[test]
    fn each_setting_of_the_configuration_reaches_the_options() {
        let settings = SocketSettings {
            keepalive: Some(Duration::from_secs(7)),
            keepalive_interval: Duration::from_secs(8),
            keepalive_count: 9,
            user_timeout: Some(Duration::from_secs(10)),
            receive_buffer: Some(11_000),
            send_buffer: Some(12_000),
            congestion: Some("reno".into()),
        };
        let expected = SocketOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(7),
                interval: Duration::from_secs(8),
                count: 9,
            }),
            user_timeout: Some(Duration::from_secs(10)),
            receive_buffer: Some(11_000),
            send_buffer: Some(12_000),
            congestion: Some("reno".into()),
        };
        assert_eq!(SocketOptions::from(&settings), expected);
    }
}
