//! Fields and rows of MySQL packets, for the blocking client.

use super::client::{ClientError, PACKET_MAX, Value};

pub(super) fn column_type(packet: &[u8]) -> Result<u8, ClientError> {
    let mut at = Cursor::new(packet);
    for _ in 0..6 {
        let length = at.length()?;
        at.take(usize::try_from(length).expect("a name's length"))?;
    }
    at.take(1 + 2 + 4)?;
    Ok(at.take(1)?[0])
}

pub(super) fn text_row(packet: &[u8], types: &[u8]) -> Result<Vec<Value>, ClientError> {
    let mut at = Cursor::new(packet);
    let mut row = Vec::with_capacity(types.len());
    for _ in types {
        row.push(at.text()?);
    }
    at.end()?;
    Ok(row)
}

pub(super) fn binary_row(packet: &[u8], types: &[u8]) -> Result<Vec<Value>, ClientError> {
    let mut at = Cursor::new(packet);
    at.take(1)?;
    let nulls = at.take((types.len() + 9) / 8)?.to_vec();
    let mut row = Vec::with_capacity(types.len());
    for (index, kind) in types.iter().enumerate() {
        if nulls[(index + 2) / 8] & (1 << ((index + 2) % 8)) != 0 {
            row.push(None);
            continue;
        }
        let value = match kind {
            1 => Some(i8::from_le_bytes([at.take(1)?[0]]).to_string().into_bytes()),
            3 => Some(i32::from_le_bytes(at.array()?).to_string().into_bytes()),
            8 => Some(i64::from_le_bytes(at.array()?).to_string().into_bytes()),
            5 => Some(f64::from_le_bytes(at.array()?).to_string().into_bytes()),
            249..=254 | 0 | 15 | 246 => at.text()?,
            other => return Err(ClientError::Protocol(format!("column type {other}"))),
        };
        row.push(value);
    }
    at.end()?;
    Ok(row)
}

pub(super) fn push_length(out: &mut Vec<u8>, length: usize) {
    let bytes = u64::try_from(length).expect("a length").to_le_bytes();
    match length {
        0..=250 => out.push(bytes[0]),
        251..=0xffff => out.extend_from_slice(&[0xfc, bytes[0], bytes[1]]),
        0x1_0000..=PACKET_MAX => out.extend_from_slice(&[0xfd, bytes[0], bytes[1], bytes[2]]),
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Reads a packet's fields; every one that is not there is a protocol error.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ClientError> {
        let split = self.rest.split_at_checked(count);
        let (taken, rest) = split.ok_or_else(|| ClientError::Protocol("short packet".into()))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ClientError> {
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| ClientError::Protocol("short packet".into()))
    }

    pub(super) fn u16(&mut self) -> Result<u16, ClientError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, ClientError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn until_nul(&mut self) -> Result<&'a [u8], ClientError> {
        let end = self.rest.iter().position(|&byte| byte == 0);
        let end = end.ok_or_else(|| ClientError::Protocol("no end of a string".into()))?;
        let taken = self.take(end)?;
        self.take(1)?;
        Ok(taken)
    }

    pub(super) fn length(&mut self) -> Result<u64, ClientError> {
        let width = match self.take(1)?[0] {
            small @ 0..=250 => return Ok(u64::from(small)),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            other => return Err(ClientError::Protocol(format!("length byte {other}"))),
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn text(&mut self) -> Result<Value, ClientError> {
        if self.rest.first() == Some(&0xfb) {
            self.take(1)?;
            return Ok(None);
        }
        let length = usize::try_from(self.length()?).expect("a length");
        Ok(Some(self.take(length)?.to_vec()))
    }

    pub(super) fn end(&self) -> Result<(), ClientError> {
        let left = self.rest.len();
        if left == 0 {
            Ok(())
        } else {
            Err(ClientError::Protocol(format!("{left} bytes too many")))
        }
    }
}
