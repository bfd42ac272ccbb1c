//! What a core's ring has done and holds. Plain numbers, copied out on request.

/// Counters since the ring was made, and gauges (marked) as of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Gauge: sockets held, dropped streams that still close included.
    pub open: usize,
    /// Gauge: dropped streams that still flush or close.
    pub closing: usize,
    /// Gauge: listeners held, stopped ones that still close included.
    pub listeners: usize,
    /// Gauge: receive buffers of which a part is held.
    pub buffers_out: u32,
    /// The most receive buffers that were ever held, each side by itself.
    pub buffers_out_max: u32,
    /// Receives that found no free buffer and had to wait for one.
    pub enobufs: u64,
    /// Buffers given back because they were short and nobody worked on what they held: it was copied.
    pub buffers_spared: u64,
    /// Sends cancelled because they held buffers that were short, to a peer that did not read.
    pub sends_interrupted: u64,
    /// Times a peer's closed window put `TCP_USER_TIMEOUT` off.
    pub windows_closed: u64,
    /// Multishot receives put to the kernel.
    pub receives_armed: u64,
    /// Receives cancelled because too much was unread or reading was paused.
    pub receives_held_back: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Times accepting paused because descriptors or memory ran out.
    pub accept_backoffs: u64,
    /// Connections accepted on a reserved descriptor, only to be refused politely.
    pub accepts_reserved: u64,
    /// Connects started.
    pub connects: u64,
    /// Turns of the ring.
    pub turns: u64,
    /// Turns that blocked in the ring.
    pub hot_waits: u64,
    /// Times the thread was given back to glommio for want of work.
    pub cold_parks: u64,
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Send operations put to the kernel.
    pub sends: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Deadlines that fired.
    pub deadlines: u64,
    /// Panics contained on this thread.
    pub panics: u64,
}
