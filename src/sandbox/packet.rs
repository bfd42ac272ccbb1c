//! Packets over a blocking stream: payloads split and joined at 16 MiB, sequence ids checked.

use crate::wire::mysql::cursor::{begin_packet, finish_packet};
use crate::wire::mysql::flags::limits::{HEADER_BYTES, PACKET_MAX};
use std::io::{self, BufReader, Read, Write};

/// The largest payload taken: the `max_allowed_packet` that the shard announces.
const PAYLOAD_MAX: usize = 64 << 20;

/// Answers are sent when this much has gathered, or when they are whole.
const FLUSH_BYTES: usize = 64 * 1024;

/// Reads and writes packets; `S` is a stream with both directions.
pub struct Packets<S> {
    reader: BufReader<S>,
    writer: S,
    sequence: u8,
    out: Vec<u8>,
}

impl<S: Read + Write> Packets<S> {
    /// Packets over one stream and its clone.
    pub fn new(reader: S, writer: S) -> Self {
        Self {
            reader: BufReader::with_capacity(FLUSH_BYTES, reader),
            writer,
            sequence: 0,
            out: Vec::new(),
        }
    }

    /// Begins a new command: both sides count from 0 again.
    pub fn restart(&mut self) {
        self.sequence = 0;
    }

    /// The next payload, or `None` when the peer closed between two.
    ///
    /// Errors: a gap in the sequence or a payload over 64 MiB is `InvalidData`.
    pub fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut payload = Vec::new();
        loop {
            let mut header = [0; HEADER_BYTES];
            if payload.is_empty() && self.reader.read(&mut header[..1])? == 0 {
                return Ok(None);
            }
            let rest = if payload.is_empty() { 1 } else { 0 };
            self.reader.read_exact(&mut header[rest..])?;
            let [a, b, c, sequence] = header;
            if sequence != self.sequence {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "packets out of order",
                ));
            }
            self.sequence = sequence.wrapping_add(1);
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            let start = payload.len();
            if start + length > PAYLOAD_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "packet too large",
                ));
            }
            payload.resize(start + length, 0);
            self.reader.read_exact(&mut payload[start..])?;
            if length < PACKET_MAX {
                return Ok(Some(payload));
            }
        }
    }

    /// Queues one payload that `write` appends.
    ///
    /// Errors: the stream's, when enough had gathered to be sent.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = begin_packet(&mut self.out);
        write(&mut self.out);
        self.sequence = finish_packet(&mut self.out, start, self.sequence);
        if self.out.len() >= FLUSH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Sends what is queued.
    ///
    /// Errors: the stream's.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self
            .writer
            .write_all(&self.out)
            .and_then(|()| self.writer.flush());
        self.out.clear();
        // One large row must not hold its memory for the life of the connection.
        self.out.shrink_to(FLUSH_BYTES * 2);
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    /// A pipe into itself.
    #[derive(Clone, Default)]
    struct Loop(Rc<RefCell<VecDeque<u8>>>);

    impl Read for Loop {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.borrow_mut().read(buffer)
        }
    }

    impl Write for Loop {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn payloads_of_every_length_come_back_whole() {
        for length in [
            0,
            1,
            PACKET_MAX - 1,
            PACKET_MAX,
            PACKET_MAX + 1,
            2 * PACKET_MAX,
        ] {
            let pipe = Loop::default();
            let mut sender = Packets::new(pipe.clone(), pipe.clone());
            sender
                .write(|out| out.resize(out.len() + length, 7))
                .unwrap();
            sender.flush().unwrap();
            let mut receiver = Packets::new(pipe.clone(), pipe);
            let payload = receiver.read().unwrap().unwrap();
            assert!(
                payload.len() == length && payload.iter().all(|byte| *byte == 7),
                "{length}"
            );
            assert_eq!(receiver.read().unwrap(), None, "{length}");
        }
    }

    #[test]
    fn a_gap_in_the_sequence_and_a_cut_are_errors() {
        let pipe = Loop::default();
        pipe.0.borrow_mut().extend([1, 0, 0, 5, 9]);
        assert_eq!(
            Packets::new(pipe.clone(), pipe).read().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let pipe = Loop::default();
        pipe.0.borrow_mut().extend([4, 0, 0, 0, 9]);
        assert_eq!(
            Packets::new(pipe.clone(), pipe).read().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
