//! Reading and writing the protocol's basic types, and packet headers around payloads.
//!
//! Source: MySQL source documentation, "Protocol Basics" (integers, strings, packets).

use super::flags::limits::{HEADER_BYTES, PACKET_MAX};

/// Why bytes from a peer are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The packet is shorter or longer than its contents say, or holds a forbidden value.
    #[error("malformed packet")]
    Malformed,
    /// A part of the packet is longer than this gateway accepts.
    #[error("part of a packet too large")]
    TooLarge,
}

/// A cursor over one payload. Never reads past the end; borrows what it gives out.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether every byte was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte, not consumed.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// `Malformed` if bytes are left.
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Malformed)
        }
    }

    /// Takes `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or(WireError::Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(WireError::Malformed)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Three bytes, little endian.
    pub fn u24(&mut self) -> Result<u32, WireError> {
        let [a, b, c] = self.array()?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length-encoded integer; `None` for 0xFB, the NULL of text rows.
    pub fn lenenc_or_null(&mut self) -> Result<Option<u64>, WireError> {
        match self.u8()? {
            small @ 0..=0xfa => Ok(Some(u64::from(small))),
            0xfb => Ok(None),
            0xfc => self.u16().map(|n| Some(u64::from(n))),
            0xfd => self.u24().map(|n| Some(u64::from(n))),
            0xfe => self.u64().map(Some),
            0xff => Err(WireError::Malformed),
        }
    }

    /// A length-encoded integer that cannot be NULL.
    pub fn lenenc(&mut self) -> Result<u64, WireError> {
        self.lenenc_or_null()?.ok_or(WireError::Malformed)
    }

    /// A length-encoded string; `None` for NULL.
    pub fn lenenc_bytes_or_null(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.lenenc_or_null()? {
            None => Ok(None),
            Some(length) => {
                let length = usize::try_from(length).map_err(|_| WireError::Malformed)?;
                self.take(length).map(Some)
            }
        }
    }

    /// A length-encoded string that cannot be NULL.
    pub fn lenenc_bytes(&mut self) -> Result<&'a [u8], WireError> {
        self.lenenc_bytes_or_null()?.ok_or(WireError::Malformed)
    }

    /// A string that ends with a NUL, which is consumed and not part of the result.
    pub fn nul_bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = memchr::memchr(0, self.rest).ok_or(WireError::Malformed)?;
        let text = self.take(length)?;
        self.take(1)?;
        Ok(text)
    }
}

/// Appends one byte.
pub fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

/// Appends two bytes, little endian.
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the low three bytes, little endian.
pub fn put_u24(out: &mut Vec<u8>, value: u32) {
    let [a, b, c, _] = value.to_le_bytes();
    out.extend_from_slice(&[a, b, c]);
}

/// Appends four bytes, little endian.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends eight bytes, little endian.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a length-encoded integer in its shortest form.
pub fn put_lenenc(out: &mut Vec<u8>, value: u64) {
    let [a, b, c, ..] = value.to_le_bytes();
    match value {
        0..=0xfa => out.push(a),
        0xfb..=0xffff => out.extend_from_slice(&[0xfc, a, b]),
        0x1_0000..=0xff_ffff => out.extend_from_slice(&[0xfd, a, b, c]),
        _ => {
            out.push(0xfe);
            put_u64(out, value);
        }
    }
}

/// Appends a length-encoded string.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, length(bytes));
    out.extend_from_slice(bytes);
}

/// Appends a string and its NUL. `bytes` must hold no NUL itself: what follows the first one is
/// left out, so that a value can never spill into the next field.
pub fn put_nul_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    out.extend_from_slice(bytes.get(..end).unwrap_or_default());
    out.push(0);
}

/// A slice's length as the protocol counts it.
pub fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Reserves the header of a packet whose payload the caller then appends; gives the position that
/// [`finish_packet`] wants.
#[must_use]
pub fn begin_packet(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    start
}

/// Writes the header reserved at `start` around all that was appended since, and gives the
/// sequence id after it.
///
/// A payload of 0xFFFFFF bytes or more becomes several packets with consecutive sequence ids, the
/// last one shorter than 0xFFFFFF and empty if need be ("Sending More Than 16Mb").
pub fn finish_packet(out: &mut Vec<u8>, start: usize, sequence: u8) -> u8 {
    let body = start.saturating_add(HEADER_BYTES);
    let payload = out.len().saturating_sub(body);
    if payload < PACKET_MAX {
        if let Some(header) = out.get_mut(start..).and_then(|at| at.first_chunk_mut()) {
            *header = packet_header(payload, sequence);
        }
        return sequence.wrapping_add(1);
    }
    // Rare and large: one copy, so that the common case stays a single store.
    let payload = out.get(body..).unwrap_or_default().to_vec();
    out.truncate(start);
    let mut next = sequence;
    for chunk in payload.chunks(PACKET_MAX) {
        out.extend_from_slice(&packet_header(chunk.len(), next));
        out.extend_from_slice(chunk);
        next = next.wrapping_add(1);
    }
    if payload.len().is_multiple_of(PACKET_MAX) {
        out.extend_from_slice(&packet_header(0, next));
        next = next.wrapping_add(1);
    }
    next
}

/// Appends one packet, header and all, whose payload `write` appends; gives the next sequence id.
pub fn packet(out: &mut Vec<u8>, sequence: u8, write: impl FnOnce(&mut Vec<u8>)) -> u8 {
    let start = begin_packet(out);
    write(out);
    finish_packet(out, start, sequence)
}

/// The four bytes before a payload of `length` bytes (at most 0xFFFFFF; longer is cut to that).
pub fn packet_header(length: usize, sequence: u8) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(length.min(PACKET_MAX)).unwrap_or(0);
    let [a, b, c, _] = length.to_le_bytes();
    [a, b, c, sequence]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lenenc_forms() {
        #[track_caller]
        fn check(input: &[u8], expect: Result<Option<u64>, WireError>) {
            assert_eq!(Reader::new(input).lenenc_or_null(), expect, "{input:x?}");
            for cut in 0..input.len() {
                let short = Reader::new(&input[..cut]).lenenc_or_null();
                assert_eq!(short, Err(WireError::Malformed), "{input:x?} cut at {cut}");
            }
        }
        check(&[0], Ok(Some(0)));
        check(&[0xfa], Ok(Some(0xfa)));
        check(&[0xfb], Ok(None));
        check(&[0xfc, 0xfb, 0], Ok(Some(0xfb)));
        check(&[0xfd, 1, 2, 3], Ok(Some(0x03_0201)));
        check(&[0xfe, 1, 0, 0, 0, 0, 0, 0, 0x80], Ok(Some(1 << 63 | 1)));
        assert_eq!(
            Reader::new(&[0xff, 1, 2, 3, 4, 5, 6, 7, 8]).lenenc_or_null(),
            Err(WireError::Malformed)
        );
        assert_eq!(Reader::new(&[0xfb]).lenenc(), Err(WireError::Malformed));
    }

    #[test]
    fn strings_end_where_they_say_or_fail() {
        assert_eq!(Reader::new(b"ab\0c").nul_bytes(), Ok(&b"ab"[..]));
        assert_eq!(Reader::new(b"ab").nul_bytes(), Err(WireError::Malformed));
        assert_eq!(Reader::new(b"\x02ab").lenenc_bytes(), Ok(&b"ab"[..]));
        assert_eq!(
            Reader::new(b"\x03ab").lenenc_bytes(),
            Err(WireError::Malformed)
        );
        let lying = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            Reader::new(&lying).lenenc_bytes(),
            Err(WireError::Malformed)
        );
        let mut out = Vec::new();
        put_nul_bytes(&mut out, b"a\0b");
        assert_eq!(out, b"a\0");
    }

    #[test]
    fn long_payloads_are_split_and_the_last_packet_is_short() {
        #[track_caller]
        fn check(bytes: usize, expect: &[usize]) {
            let mut out = b"before".to_vec();
            let next = packet(&mut out, 254, |out| out.resize(out.len() + bytes, 7));
            let mut reader = Reader::new(&out[6..]);
            let mut sequence = 254_u8;
            for &length in expect {
                assert_eq!(reader.u24().unwrap() as usize, length);
                assert_eq!(reader.u8().unwrap(), sequence);
                assert!(reader.take(length).unwrap().iter().all(|&b| b == 7));
                sequence = sequence.wrapping_add(1);
            }
            assert!(reader.is_empty());
            assert_eq!(next, sequence);
        }
        check(0, &[0]);
        check(5, &[5]);
        check(PACKET_MAX - 1, &[PACKET_MAX - 1]);
        check(PACKET_MAX, &[PACKET_MAX, 0]);
        check(PACKET_MAX + 1, &[PACKET_MAX, 1]);
        check(2 * PACKET_MAX, &[PACKET_MAX, PACKET_MAX, 0]);
    }

    proptest! {
        #[test]
        fn lenenc_round_trips_in_its_shortest_form(value: u64) {
            let mut out = Vec::new();
            put_lenenc(&mut out, value);
            let mut oracle = Vec::new();
            mysql_common::io::WriteMysqlExt::write_lenenc_int(&mut oracle, value).unwrap();
            prop_assert_eq!(&out, &oracle);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.lenenc(), Ok(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn strings_round_trip(bytes: Vec<u8>, tail: Vec<u8>) {
            let mut out = Vec::new();
            put_lenenc_bytes(&mut out, &bytes);
            out.extend_from_slice(&tail);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.lenenc_bytes(), Ok(&bytes[..]));
            prop_assert_eq!(reader.rest(), &tail[..]);
        }
    }
}
