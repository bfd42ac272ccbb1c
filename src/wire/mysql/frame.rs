//! The 4-byte packet header and the bounds of a physical packet.
//!
//! Source: MySQL internals, "MySQL Packets" (page_protocol_basic_packets).

/// Bytes of a packet header: three of length, one of sequence id.
pub const HEADER_LEN: usize = 4;
/// The longest payload of one physical packet; one of this length is followed by a continuation.
pub const PAYLOAD_MAX: usize = 0xff_ffff;

/// A physical packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload, `0..=PAYLOAD_MAX`.
    pub len: usize,
    /// The sequence id, counting modulo 256 within a command.
    pub seq: u8,
}

impl Header {
    /// Reads a header from the first four bytes; `None` if there are fewer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[a, b, c, seq], _) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Some(Self { len, seq })
    }

    /// The header's bytes. A `len` over [`PAYLOAD_MAX`] is a bug of the caller and is cut to it.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [a, b, c, ..] = self.len.min(PAYLOAD_MAX).to_le_bytes();
        [a, b, c, self.seq]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_round_trip_and_short_input_is_none() {
        for len in [0, 1, 255, 256, 65_535, PAYLOAD_MAX] {
            let header = Header { len, seq: 7 };
            let bytes = header.encode();
            assert_eq!(Header::parse(&bytes), Some(header));
            assert_eq!(Header::parse(bytes.get(..3).unwrap_or_default()), None);
        }
    }
}
