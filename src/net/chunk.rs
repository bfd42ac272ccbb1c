//! Received bytes that nobody has used yet, in the ring's memory or in their own.

use std::ops::{Deref, DerefMut};

use super::buffer::Buf;

/// Part of a buffer below which bytes that wait are copied out of it: a buffer is held only while
/// somebody works on it.
const SMALL_PART: usize = 4;

/// Bytes that a session goes through from the front.
#[derive(Debug)]
pub enum Chunk {
    /// In a buffer of the ring.
    Ring(Buf),
    /// Copied.
    Heap(Vec<u8>, usize),
}

impl Chunk {
    /// Splits off the first `n` bytes (all of them if there are fewer); `self` keeps the rest.
    pub fn split_to(&mut self, n: usize) -> Chunk {
        match self {
            Self::Ring(buf) => Self::Ring(buf.split_to(n)),
            Self::Heap(bytes, at) => {
                let end = (*at + n).min(bytes.len());
                let first = bytes[*at..end].to_vec();
                *at = end;
                Self::Heap(first, 0)
            }
        }
    }

    /// Forgets the first `n` bytes (all of them if there are fewer).
    pub fn advance(&mut self, n: usize) {
        match self {
            Self::Ring(buf) => buf.advance(n),
            Self::Heap(bytes, at) => *at = (*at + n).min(bytes.len()),
        }
    }

    /// The bytes have to wait: if they are few, they are copied, and the buffer is free for others.
    pub fn settle(&mut self) {
        if let Self::Ring(buf) = self
            && buf.len() <= buf.capacity() / SMALL_PART
        {
            *self = Self::Heap(buf.to_vec(), 0);
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Ring(buf) => buf,
            Self::Heap(bytes, at) => &bytes[*at..],
        }
    }
}

impl DerefMut for Chunk {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Ring(buf) => buf,
            Self::Heap(bytes, at) => &mut bytes[*at..],
        }
    }
}
