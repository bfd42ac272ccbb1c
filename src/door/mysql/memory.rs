//! A front in memory: encoded commands come from somebody in this process who speaks for a client, and
//! decoded replies go to him. Between the two all is as for a client on a socket: users, routing, pools,
//! pins, errors.
//!
//! Debug builds put one between each client's socket and its conversation when `RINGGATE_TEST_FRONT` is
//! `memory`, so that what is tested with real clients holds for this front too.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::front::{Failed, Front};
use crate::net::Buf;
use crate::session::mysql::output::{Output, Span};
use crate::wire::mysql::decode::{COMMAND_HEAD, Decoder, Event};
use crate::wire::mysql::frame::{HEADER_LEN, Header, PAYLOAD_MAX};
use crate::wire::mysql::reply::ReplyError;

/// What passes between a conversation and who speaks for its client.
#[derive(Default)]
struct Pipe {
    commands: Vec<u8>,
    /// No more commands come.
    is_ended: bool,
    replies: Vec<u8>,
    /// Bytes of replies that were taken.
    taken: u64,
    /// The last reply is not complete.
    is_cut: bool,
    /// The conversation has ended.
    is_closed: bool,
    conversation: Option<Waker>,
    speaker: Option<Waker>,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The conversation's side.
pub(super) struct MemoryFront(Rc<RefCell<Pipe>>);

/// The side of who speaks for the client. Dropped, the client has left.
pub(super) struct Speaker {
    pipe: Rc<RefCell<Pipe>>,
    commands: Commands,
    decoder: Decoder,
}

/// A front for a client with these capabilities, and who speaks through it. A row of more than `row_max`
/// bytes is not understood.
pub(super) fn pair(capabilities: u32, row_max: usize) -> (MemoryFront, Speaker) {
    let pipe = Rc::new(RefCell::new(Pipe::default()));
    let speaker = Speaker {
        pipe: Rc::clone(&pipe),
        commands: Commands::default(),
        decoder: Decoder::new(capabilities, row_max),
    };
    (MemoryFront(pipe), speaker)
}

/// What a speaker hears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A piece of the reply to the oldest command whose reply is not over.
    Piece {
        event: Event<'a>,
        /// The sequence id that the command's last packet had.
        sequence: u8,
    },
    /// What came was no reply, or a row was too long: nothing can be heard any more.
    Broken(ReplyError),
    /// The conversation has ended.
    Closed {
        /// In the middle of a reply.
        is_cut: bool,
    },
}

impl Speaker {
    /// Sends encoded commands: packets with their headers, cut anywhere.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let decoder = &mut self.decoder;
        self.commands
            .follow(bytes, |head, sequence| decoder.await_reply(head, sequence));
        let mut pipe = self.pipe.borrow_mut();
        pipe.commands.extend_from_slice(bytes);
        wake(&mut pipe.conversation);
    }

    /// Bytes of commands that the conversation has not taken yet.
    pub(super) fn unsaid(&self) -> usize {
        self.pipe.borrow().commands.len()
    }

    /// Says that no more commands come.
    pub(super) fn end(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.is_ended = true;
        wake(&mut pipe.conversation);
    }

    /// What comes next.
    pub(super) fn poll_heard(&mut self, cx: &Context<'_>) -> Poll<Heard<'_>> {
        loop {
            match self.decoder.advance() {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => return Poll::Ready(Heard::Broken(error)),
            }
            let mut pipe = self.pipe.borrow_mut();
            if pipe.replies.is_empty() {
                if pipe.is_closed {
                    let is_cut = pipe.is_cut || self.decoder.is_mid_reply();
                    return Poll::Ready(Heard::Closed { is_cut });
                }
                pipe.speaker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.decoder.feed(&pipe.replies);
            let len = u64::try_from(pipe.replies.len()).unwrap_or_default();
            pipe.taken = pipe.taken.wrapping_add(len);
            pipe.replies.clear();
            wake(&mut pipe.conversation);
        }
        let sequence = self.decoder.command_sequence();
        Poll::Ready(match self.decoder.event() {
            Ok(Some(event)) => Heard::Piece { event, sequence },
            Ok(None) => Heard::Broken(ReplyError::Malformed),
            Err(error) => Heard::Broken(error),
        })
    }
}

/// Where the commands that are said begin and end.
#[derive(Default)]
struct Commands {
    /// The packet's header, as far as it has come.
    header: Vec<u8>,
    /// Bytes of the packet's payload to come.
    remaining: usize,
    /// The first bytes of the command's payload.
    head: Vec<u8>,
}

impl Commands {
    /// Tells of each command that is whole now: its first bytes, and its last packet's sequence id.
    fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], u8)) {
        while !bytes.is_empty() {
            let is_inside = self.header.len() == HEADER_LEN;
            let wanted = match is_inside {
                true => self.remaining,
                false => HEADER_LEN.saturating_sub(self.header.len()),
            };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if is_inside {
                let missing = COMMAND_HEAD.saturating_sub(self.head.len());
                self.head.extend(taken.iter().take(missing));
                self.remaining = self.remaining.saturating_sub(taken.len());
            } else {
                self.header.extend_from_slice(taken);
            }
            let Some(header) = Header::parse(&self.header) else {
                return;
            };
            if !is_inside {
                self.remaining = header.len;
            }
            if self.remaining > 0 {
                continue;
            }
            self.header.clear();
            if header.len < PAYLOAD_MAX {
                each(&self.head, header.seq);
                self.head.clear();
            }
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for MemoryFront {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        // A panic's reply is not complete.
        pipe.is_cut |= std::thread::panicking();
        pipe.is_closed = true;
        wake(&mut pipe.speaker);
    }
}

impl Front for MemoryFront {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Buf>, Failed>> {
        let mut pipe = self.0.borrow_mut();
        if !pipe.commands.is_empty() {
            let commands = std::mem::take(&mut pipe.commands);
            wake(&mut pipe.speaker);
            return Poll::Ready(Ok(Some(Buf::copied(&commands))));
        }
        if pipe.is_ended {
            return Poll::Ready(Ok(None));
        }
        pipe.conversation = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_ended {
            return Poll::Ready(Ok(()));
        }
        pipe.conversation = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), Failed>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.replies.len() <= limit {
            return Poll::Ready(Ok(()));
        }
        pipe.conversation = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, out: &Output, reply: Option<Buf>) {
        let mut pipe = self.0.borrow_mut();
        for span in out.spans() {
            let bytes = match span {
                Span::Own(range) => out.own().get(range.clone()),
                Span::Input(range) => reply.as_deref().and_then(|reply| reply.get(range.clone())),
            };
            pipe.replies.extend_from_slice(bytes.unwrap_or_default());
        }
        wake(&mut pipe.speaker);
    }

    fn unsent(&self) -> usize {
        self.0.borrow().replies.len()
    }

    fn taken(&self) -> u64 {
        self.0.borrow().taken
    }

    fn progress(&self) -> u64 {
        self.taken()
    }

    fn cut(&mut self) {
        self.0.borrow_mut().is_cut = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::cursor::{begin_packet, finish_packet, packet};
    use crate::wire::mysql::flags::{caps, com};
    use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

    const CAPABILITIES: u32 = caps::PROTOCOL_41 | caps::DEPRECATE_EOF;
    const ROW_MAX: usize = 1024;

    /// What is heard next, told in a line.
    fn heard(speaker: &mut Speaker) -> Option<String> {
        let cx = Context::from_waker(Waker::noop());
        match speaker.poll_heard(&cx) {
            Poll::Ready(Heard::Piece { event, sequence }) => Some(match event {
                Event::Ok { ok, is_last } => {
                    format!("ok {} {is_last} {sequence}", ok.affected_rows)
                }
                Event::Err(err) => format!("err {} {sequence}", err.errno),
                Event::Goodbye(err) => format!("goodbye {}", err.errno),
                other => format!("{other:?}"),
            }),
            Poll::Ready(other) => Some(format!("{other:?}")),
            Poll::Pending => None,
        }
    }

    fn ok(affected_rows: u64, sequence: u8) -> Output {
        let ok = OkPacket {
            affected_rows,
            ..OkPacket::default()
        };
        let mut bytes = Vec::new();
        packet(&mut bytes, sequence, |out| {
            encode_ok(out, CAPABILITIES, &ok);
        });
        said(&bytes)
    }

    fn err(errno: u16, sequence: u8) -> Output {
        let err = ErrPacket::new(errno, "HY000", b"no");
        let mut bytes = Vec::new();
        packet(&mut bytes, sequence, |out| encode_err(out, &err));
        said(&bytes)
    }

    fn said(bytes: &[u8]) -> Output {
        let mut out = Output::default();
        out.bytes(bytes);
        out
    }

    fn query(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet(&mut bytes, 0, |out| {
            out.push(com::QUERY);
            out.extend_from_slice(text.as_bytes());
        });
        bytes
    }

    #[test]
    fn replies_are_heard_in_the_order_of_their_commands_and_the_close_comes_last() {
        let (mut front, mut speaker) = pair(CAPABILITIES, ROW_MAX);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(front.poll_bytes(&mut cx).is_pending());
        // A command may be said byte by byte.
        query("DO 1").iter().for_each(|byte| speaker.say(&[*byte]));
        speaker.say(&query("DO 2"));
        let both = [query("DO 1"), query("DO 2")].concat();
        let taken = front.poll_bytes(&mut cx);
        assert!(matches!(taken, Poll::Ready(Ok(Some(buf))) if *buf == *both));
        assert_eq!((speaker.unsaid(), heard(&mut speaker)), (0, None));
        front.send(&ok(7, 1), None);
        front.send(&err(1064, 1), None);
        assert_eq!(heard(&mut speaker).as_deref(), Some("ok 7 true 0"));
        assert_eq!(heard(&mut speaker).as_deref(), Some("err 1064 0"));
        front.send(&err(1053, 0), None);
        front.cut();
        drop(front);
        assert_eq!(heard(&mut speaker).as_deref(), Some("goodbye 1053"));
        let closed = Some("Closed { is_cut: true }".to_owned());
        assert_eq!(heard(&mut speaker), closed);
        assert_eq!(heard(&mut speaker), closed, "and stays so");
    }

    #[test]
    fn a_reply_may_lie_in_a_received_buffer_and_end_too_early() {
        let (mut front, mut speaker) = pair(CAPABILITIES, ROW_MAX);
        speaker.say(&query("DO 1"));
        let mut bytes = b"<".to_vec();
        bytes.extend_from_slice(ok(1, 1).own());
        let mut spans = Output::default();
        spans.input(1..bytes.len() - 1);
        front.send(&spans, Some(Buf::copied(&bytes)));
        assert_eq!(heard(&mut speaker), None);
        drop(front);
        // Half a packet is no reply, though nobody said that it was cut.
        let closed = Some("Closed { is_cut: true }".to_owned());
        assert_eq!(heard(&mut speaker), closed);
    }

    #[test]
    fn what_is_no_reply_is_not_understood() {
        let (mut front, mut speaker) = pair(CAPABILITIES, ROW_MAX);
        front.send(&ok(1, 1), None);
        assert_eq!(heard(&mut speaker).as_deref(), Some("Broken(Surplus)"));
        let (mut front, mut speaker) = pair(CAPABILITIES, ROW_MAX);
        speaker.say(&query("SELECT 1"));
        let mut long = Vec::new();
        packet(&mut long, 1, |out| out.extend([1; ROW_MAX + 1]));
        front.send(&said(&long), None);
        assert_eq!(heard(&mut speaker).as_deref(), Some("Broken(TooLarge)"));
    }

    #[test]
    fn commands_of_several_packets_are_one_and_some_have_no_reply() {
        let mut bytes = Vec::new();
        let start = begin_packet(&mut bytes);
        bytes.push(com::QUERY);
        bytes.resize(bytes.len() + PAYLOAD_MAX, b' ');
        finish_packet(&mut bytes, start, 0);
        for command in [com::STMT_CLOSE, com::STMT_SEND_LONG_DATA, com::PING] {
            packet(&mut bytes, 0, |out| out.extend([command, 1, 0, 0, 0, 8, 9]));
        }
        for chunk in [1000, 4096, PAYLOAD_MAX + HEADER_LEN, usize::MAX] {
            let (mut commands, mut told) = (Commands::default(), Vec::new());
            for part in bytes.chunks(chunk.min(bytes.len())) {
                commands.follow(part, |head, sequence| told.push((head.to_vec(), sequence)));
            }
            let short = |command| (vec![command, 1, 0, 0, 0, 8], 0);
            let long = (vec![com::QUERY, b' ', b' ', b' ', b' ', b' '], 1);
            let rest = [com::STMT_CLOSE, com::STMT_SEND_LONG_DATA, com::PING].map(short);
            assert_eq!(told, [vec![long], rest.to_vec()].concat(), "{chunk}");
        }
    }

    #[test]
    fn a_speaker_that_does_not_listen_leaves_no_room() {
        let (mut front, mut speaker) = pair(CAPABILITIES, ROW_MAX);
        let mut cx = Context::from_waker(Waker::noop());
        speaker.say(&query("DO 1"));
        front.send(&ok(0, 1), None);
        let len = ok(0, 1).own().len();
        assert!(front.poll_room(&mut cx, len - 1).is_pending());
        assert_eq!((front.unsent(), front.taken()), (len, 0));
        assert_eq!(heard(&mut speaker).as_deref(), Some("ok 0 true 0"));
        assert!(front.poll_room(&mut cx, 3).is_ready());
        assert_eq!((front.unsent(), front.taken()), (0, len as u64));
        assert!(front.poll_end(&mut cx).is_pending());
        drop(speaker);
        assert!(front.poll_end(&mut cx).is_ready());
        front
            .poll_bytes(&mut cx)
            .is_ready()
            .then_some(())
            .expect("the command");
        assert!(matches!(front.poll_bytes(&mut cx), Poll::Ready(Ok(None))));
    }
}
