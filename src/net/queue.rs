//! What a socket has still to send: received buffers, small copies and static bytes, in order.

use std::collections::VecDeque;

use super::buffer::Buf;

/// Bytes of a small chunk.
pub(super) const SMALL_BYTES: usize = 4096;
/// A received buffer up to this size is copied if something is queued before it: a copy costs less
/// than another element of the send, and a peer that is slow to read cannot pin a whole buffer
/// with a few bytes.
const COPY_BELOW: usize = 1024;
/// Chunks of one send at most.
pub(super) const GATHER_MAX: usize = 64;
/// Free small chunks, and free queues, kept for re-use.
const SPARE_MAX: usize = 256;
/// The most elements that a queue kept for re-use has room for.
const SPARE_ROOM_MAX: usize = 64;

/// Memory of queues, re-used so that the steady state does not allocate. It is a socket's only while
/// something is queued there: an idle one has none.
pub(super) struct SmallPool {
    /// For small copies.
    spare: Vec<Box<[u8; SMALL_BYTES]>>,
    queues: Spares<Chunk>,
}

/// Empty queues with room.
pub(super) struct Spares<T>(Vec<VecDeque<T>>);

impl<T> Spares<T> {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(SPARE_MAX))
    }

    /// Adds to a queue, which gets the room of a spare one if it has none.
    #[inline]
    pub(super) fn push(&mut self, queue: &mut VecDeque<T>, value: T) {
        if queue.capacity() == 0 {
            *queue = self.0.pop().unwrap_or_default();
        }
        queue.push_back(value);
    }

    /// Takes the room of a queue that is empty now.
    #[inline]
    pub(super) fn settle(&mut self, queue: &mut VecDeque<T>) {
        if queue.is_empty() {
            let queue = std::mem::take(queue);
            let has_room = (1..=SPARE_ROOM_MAX).contains(&queue.capacity());
            if has_room && self.0.len() < SPARE_MAX {
                self.0.push(queue);
            }
        }
    }
}

impl SmallPool {
    pub(super) fn new() -> Self {
        Self {
            spare: Vec::with_capacity(SPARE_MAX),
            queues: Spares::new(),
        }
    }

    fn take(&mut self) -> Box<[u8; SMALL_BYTES]> {
        self.spare
            .pop()
            .unwrap_or_else(|| Box::new([0; SMALL_BYTES]))
    }

    fn give_back(&mut self, memory: Box<[u8; SMALL_BYTES]>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(memory);
        }
    }
}

enum Chunk {
    Buffer(Buf),
    /// `start <= end <= SMALL_BYTES`.
    Small {
        memory: Box<[u8; SMALL_BYTES]>,
        start: usize,
        end: usize,
    },
    Static(&'static [u8]),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buf) => buf,
            Self::Small { memory, start, end } => &memory[*start..*end],
            Self::Static(bytes) => bytes,
        }
    }

    /// Whether this holds a buffer of a pool whose buffers are short.
    fn is_scarce(&self) -> bool {
        matches!(self, Self::Buffer(buf) if buf.is_scarce())
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Buffer(buf) => buf.advance(n),
            Self::Small { start, end, .. } => *start = (*start + n).min(*end),
            Self::Static(bytes) => *bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
}

/// An ordered queue of owned chunks. The first `lent` of them belong to a send the kernel has not
/// completed: they are neither moved in memory, changed nor dropped until [`SendQueue::complete`].
pub(super) struct SendQueue {
    chunks: VecDeque<Chunk>,
    lent: usize,
    bytes: usize,
}

impl SendQueue {
    pub(super) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            lent: 0,
            bytes: 0,
        }
    }

    /// Bytes not yet taken by the kernel, lent ones included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a send holds chunks of this queue.
    pub(super) fn is_lent(&self) -> bool {
        self.lent > 0
    }

    /// Queues a received buffer as it is (or its bytes, if few and something is queued before them).
    pub(super) fn push(&mut self, buf: Buf, small: &mut SmallPool) {
        if buf.is_empty() {
            return;
        }
        let len = buf.len();
        let buf = match self.open_chunk() {
            Some(Chunk::Buffer(last)) => match last.absorb(buf) {
                Ok(()) => {
                    self.bytes += len;
                    return;
                }
                Err(buf) => buf,
            },
            _ => buf,
        };
        if len <= COPY_BELOW && !self.chunks.is_empty() {
            return self.push_bytes(&buf, small);
        }
        self.bytes += len;
        small.queues.push(&mut self.chunks, Chunk::Buffer(buf));
    }

    /// Queues a copy of `bytes`, joined to a preceding copy that is not yet lent.
    pub(super) fn push_bytes(&mut self, mut bytes: &[u8], small: &mut SmallPool) {
        self.bytes += bytes.len();
        if let Some(Chunk::Small { memory, end, .. }) = self.open_chunk() {
            let n = bytes.len().min(SMALL_BYTES - *end);
            memory[*end..*end + n].copy_from_slice(&bytes[..n]);
            *end += n;
            bytes = &bytes[n..];
        }
        while !bytes.is_empty() {
            let mut memory = small.take();
            let n = bytes.len().min(SMALL_BYTES);
            memory[..n].copy_from_slice(&bytes[..n]);
            let chunk = Chunk::Small {
                memory,
                start: 0,
                end: n,
            };
            small.queues.push(&mut self.chunks, chunk);
            bytes = &bytes[n..];
        }
    }

    /// Queues bytes that live for ever.
    pub(super) fn push_static(&mut self, bytes: &'static [u8], small: &mut SmallPool) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            small.queues.push(&mut self.chunks, Chunk::Static(bytes));
        }
    }

    /// The last chunk, if no send holds it.
    fn open_chunk(&mut self) -> Option<&mut Chunk> {
        if self.chunks.len() > self.lent {
            self.chunks.back_mut()
        } else {
            None
        }
    }

    /// Chunks the next send will carry; 0 when there is nothing to send or a send is under way.
    pub(super) fn sendable(&self) -> usize {
        if self.lent > 0 {
            0
        } else {
            self.chunks.len().min(GATHER_MAX)
        }
    }

    /// Marks the first `n` chunks as held by a send and yields their ranges.
    pub(super) fn lend(&mut self, n: usize) -> impl Iterator<Item = &[u8]> {
        self.lent = n;
        self.chunks.iter().take(n).map(Chunk::bytes)
    }

    /// Takes the loan back: the kernel has sent the first `n` bytes and holds nothing any more.
    pub(super) fn complete(&mut self, mut n: usize, small: &mut SmallPool) {
        self.lent = 0;
        self.bytes = self.bytes.saturating_sub(n);
        while let Some(front) = self.chunks.front_mut() {
            let len = front.bytes().len();
            if n < len {
                front.advance(n);
                return;
            }
            n -= len;
            if let Some(Chunk::Small { memory, .. }) = self.chunks.pop_front() {
                small.give_back(memory);
            }
        }
        small.queues.settle(&mut self.chunks);
    }

    /// Whether a send holds buffers of a pool whose buffers are short.
    pub(super) fn lends_scarce(&self) -> bool {
        self.chunks.iter().take(self.lent).any(Chunk::is_scarce)
    }

    /// Copies what no send holds out of buffers that are short; gives how many chunks that were.
    pub(super) fn spare(&mut self, small: &mut SmallPool) -> u64 {
        if !self.chunks.iter().skip(self.lent).any(Chunk::is_scarce) {
            return 0;
        }
        let mut spared = 0;
        for chunk in self.chunks.split_off(self.lent) {
            match chunk {
                Chunk::Buffer(buf) if buf.is_scarce() => {
                    spared += 1;
                    self.bytes = self.bytes.saturating_sub(buf.len());
                    self.push_bytes(&buf, small);
                }
                other => self.chunks.push_back(other),
            }
        }
        spared
    }

    /// Drops what is queued. Must not be called while a send holds chunks.
    pub(super) fn clear(&mut self, small: &mut SmallPool) {
        debug_assert!(self.lent == 0, "the kernel may still read these chunks");
        self.bytes = 0;
        for chunk in self.chunks.drain(..) {
            if let Chunk::Small { memory, .. } = chunk {
                small.give_back(memory);
            }
        }
        small.queues.settle(&mut self.chunks);
    }

    /// Drops the chunks behind the lent ones.
    pub(super) fn clear_open(&mut self) {
        for chunk in self.chunks.drain(self.lent..) {
            self.bytes = self.bytes.saturating_sub(chunk.bytes().len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::pool::Pool;
    use super::*;

    fn contents(queue: &SendQueue) -> Vec<u8> {
        queue
            .chunks
            .iter()
            .flat_map(|c| c.bytes().to_vec())
            .collect()
    }

    fn buffer(pool: &Rc<Pool>, id: u16, len: usize) -> Buf {
        let mut buf = pool.take(id, len as u32).unwrap();
        buf.fill(b'a' + id as u8);
        buf
    }

    fn pool() -> Rc<Pool> {
        let pool = Pool::new(4, 4096, 4, false).unwrap();
        pool.provide();
        pool
    }

    #[test]
    fn small_copies_are_joined_until_they_are_lent() {
        let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
        queue.push_bytes(b"ab", &mut small);
        queue.push_bytes(b"cd", &mut small);
        assert_eq!(queue.sendable(), 1);
        assert_eq!(queue.lend(1).collect::<Vec<_>>(), [b"abcd"]);
        queue.push_bytes(b"ef", &mut small);
        assert_eq!(
            (queue.chunks.len(), queue.sendable(), queue.bytes()),
            (2, 0, 6)
        );
        queue.complete(4, &mut small);
        assert_eq!((contents(&queue), queue.bytes()), (b"ef".to_vec(), 2));
    }

    #[test]
    fn a_short_send_leaves_exactly_the_rest() {
        let pool = pool();
        for sent in 0..=2000 + 5 + 3 {
            let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
            queue.push(buffer(&pool, 0, 2000), &mut small);
            queue.push_bytes(b"small", &mut small);
            queue.push_static(b"end", &mut small);
            let whole = contents(&queue);
            assert_eq!(queue.lend(3).map(<[u8]>::len).sum::<usize>(), 2008);
            queue.complete(sent, &mut small);
            assert_eq!(contents(&queue), whole[sent..]);
            assert_eq!(queue.bytes(), 2008 - sent);
        }
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn neighbouring_parts_of_a_buffer_become_one_chunk() {
        let pool = pool();
        let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
        let mut rest = buffer(&pool, 0, 100);
        queue.push(rest.split_to(10), &mut small);
        queue.push(rest.split_to(10), &mut small);
        queue.push(rest, &mut small);
        assert_eq!((queue.sendable(), queue.bytes()), (1, 100));
    }

    #[test]
    fn few_bytes_behind_others_do_not_pin_a_buffer() {
        let pool = pool();
        let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
        queue.push(buffer(&pool, 0, 1), &mut small);
        queue.push(buffer(&pool, 1, 1), &mut small);
        queue.push(buffer(&pool, 2, 1), &mut small);
        queue.push(buffer(&pool, 3, 2000), &mut small);
        assert_eq!(pool.out(), 2);
        assert_eq!((queue.chunks.len(), queue.bytes()), (3, 2003));
        assert_eq!(&contents(&queue)[..4], b"abcd");
    }

    #[test]
    fn a_large_copy_is_cut_into_chunks_and_their_memory_is_kept() {
        let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        queue.push_bytes(&bytes, &mut small);
        assert_eq!((contents(&queue), queue.chunks.len()), (bytes, 3));
        queue.complete(10_000, &mut small);
        assert_eq!((queue.bytes(), small.spare.len()), (0, 3));
        queue.push_bytes(b"x", &mut small);
        assert_eq!(small.spare.len(), 2);
    }

    #[test]
    fn clearing_spares_what_is_lent() {
        let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
        queue.push_static(b"lent", &mut small);
        assert_eq!(queue.lend(1).count(), 1);
        queue.push_static(b"open", &mut small);
        queue.clear_open();
        assert_eq!((contents(&queue), queue.bytes()), (b"lent".to_vec(), 4));
        queue.complete(1, &mut small);
        queue.clear(&mut small);
        assert_eq!((queue.bytes(), queue.sendable()), (0, 0));
    }

    #[test]
    fn open_chunks_leave_buffers_that_are_short_and_keep_their_order() {
        let pool = pool();
        let (mut small, mut queue) = (SmallPool::new(), SendQueue::new());
        queue.push(buffer(&pool, 0, 2000), &mut small);
        assert_eq!(queue.lend(1).count(), 1);
        queue.push_bytes(b"before", &mut small);
        queue.push(buffer(&pool, 1, 3000), &mut small);
        queue.push_static(b"between", &mut small);
        queue.push(buffer(&pool, 2, 4096), &mut small);
        queue.push_bytes(b"after", &mut small);
        let whole = contents(&queue);
        assert_eq!(queue.spare(&mut small), 0, "a buffer is left");
        let last = buffer(&pool, 3, 1);
        assert!(queue.lends_scarce());
        assert_eq!(queue.spare(&mut small), 1, "and then buffers are not short");
        assert_eq!((pool.out(), queue.lends_scarce()), (3, false));
        pool.provide();
        let again = buffer(&pool, 1, 1);
        assert_eq!(queue.spare(&mut small), 1);
        assert_eq!((contents(&queue), queue.bytes()), (whole, 2000 + 7114));
        drop((last, again));
        queue.complete(2000 + 7114, &mut small);
        assert_eq!((pool.out(), queue.bytes()), (0, 0));
    }
}
