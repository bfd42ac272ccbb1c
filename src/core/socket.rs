//! From configuration to socket options, for listeners and endpoints alike.

use crate::config::SocketSettings;
use crate::net::{Keepalive, SocketOptions};

/// The ring's form of configured socket options.
pub fn socket_options(settings: &SocketSettings) -> SocketOptions {
    let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    SocketOptions {
        keepalive: settings.keepalive.map(|idle| Keepalive {
            idle,
            interval: settings.keepalive_interval,
            count: settings.keepalive_count,
        }),
        user_timeout: settings.user_timeout,
        receive_buffer: settings.receive_buffer.map(size),
        send_buffer: settings.send_buffer.map(size),
        congestion: settings.congestion.clone(),
        ..SocketOptions::default()
    }
}
