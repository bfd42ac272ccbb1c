//! The options that sockets of a running process have, read from outside: by a duplicate of its descriptor.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

/// What is set on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketState {
    /// Idle time, interval and count; `None` without probes.
    pub keepalive: Option<(Duration, Duration, u32)>,
    pub user_timeout: Option<Duration>,
    /// As the kernel counts: twice what was asked for.
    pub receive_buffer: usize,
    pub send_buffer: usize,
    pub congestion: String,
}

impl SocketState {
    /// Of the process's connection to the peer at this address.
    pub fn of(pid: u32, peer: SocketAddr) -> Self {
        let found = find(pid, |socket| {
            socket
                .peer_addr()
                .is_ok_and(|addr| addr.as_socket() == Some(peer))
        });
        Self::read(&SockRef::from(
            &found.unwrap_or_else(|| panic!("no socket to {peer}")),
        ))
    }

    /// Of the process's connections to a port, newest first as far as descriptors tell.
    pub fn to_port(pid: u32, port: u16) -> Vec<Self> {
        let mut seen = Vec::new();
        find(pid, |socket| {
            let peer = socket.peer_addr().ok().and_then(|addr| addr.as_socket());
            if peer.is_some_and(|peer| peer.port() == port) {
                seen.push(Self::read(socket));
            }
            false
        });
        seen
    }

    /// Of the process's socket that listens on this port.
    pub fn listening(pid: u32, port: u16) -> Self {
        let found = find(pid, |socket| {
            let local = socket.local_addr().ok().and_then(|addr| addr.as_socket());
            let listens = socket.is_listener().unwrap_or(false);
            listens && local.is_some_and(|local| local.port() == port)
        });
        Self::read(&SockRef::from(
            &found.unwrap_or_else(|| panic!("nobody listens on {port}")),
        ))
    }

    fn read(socket: &SockRef<'_>) -> Self {
        let probes = socket.keepalive().expect("a socket");
        let congestion = socket.tcp_congestion().expect("a socket of TCP");
        let name = congestion
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Self {
            keepalive: probes.then(|| {
                (
                    socket.tcp_keepalive_time().expect("a socket of TCP"),
                    socket.tcp_keepalive_interval().expect("a socket of TCP"),
                    socket.tcp_keepalive_retries().expect("a socket of TCP"),
                )
            }),
            user_timeout: socket.tcp_user_timeout().expect("a socket of TCP"),
            receive_buffer: socket.recv_buffer_size().expect("a socket"),
            send_buffer: socket.send_buffer_size().expect("a socket"),
            congestion: String::from_utf8_lossy(name).into_owned(),
        }
    }
}

/// The first of the process's TCP sockets for which `is_it`.
fn find(pid: u32, mut is_it: impl FnMut(&SockRef<'_>) -> bool) -> Option<OwnedFd> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let process = pidfd_open(raw, PidfdFlags::empty()).expect("a child");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("a child's descriptors");
    let mut numbers: Vec<i32> = entries
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.into_iter().find_map(|number| {
        // One that was closed meanwhile is none.
        let fd = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let is_found = is_it(&SockRef::from(&fd));
        is_found.then_some(fd)
    })
}
