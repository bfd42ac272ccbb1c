//! A front in memory: commands come from somebody in this process who speaks for a client, and replies
//! go to him. Between the two all is as for a client on a socket: users, routing, pools, pins, errors.
//!
//! Debug builds put one between each client's socket and its conversation when `RINGGATE_TEST_FRONT` is
//! `memory`, so that what is tested with real clients holds for this front too.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::front::{Failed, Front};
use crate::net::{Buf, Stream};
use crate::session::mysql::output::{Output, Span};

/// Bytes that wait on the way from or to a socket before no more are taken in.
const WAITING_MAX: usize = 64 * 1024;

/// What passes between a conversation and who speaks for its client.
#[derive(Default)]
struct Pipe {
    commands: Vec<u8>,
    /// No more commands come.
    is_ended: bool,
    replies: Vec<u8>,
    /// Bytes of replies that were taken.
    taken: u64,
    /// Commands that are over since the speaker asked.
    over: u32,
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
pub(super) struct Speaker(Rc<RefCell<Pipe>>);

/// A front, and who speaks through it.
pub(super) fn pair() -> (MemoryFront, Speaker) {
    let pipe = Rc::new(RefCell::new(Pipe::default()));
    (MemoryFront(Rc::clone(&pipe)), Speaker(pipe))
}

/// What a speaker hears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Bytes of replies, in their order.
    Bytes(Vec<u8>),
    /// So many commands are over: all bytes of their replies were heard before.
    Over(u32),
    /// The conversation has ended.
    Closed {
        /// In the middle of a reply.
        is_cut: bool,
    },
}

impl Speaker {
    /// Sends encoded commands.
    pub(super) fn say(&mut self, commands: &[u8]) {
        let mut pipe = self.0.borrow_mut();
        pipe.commands.extend_from_slice(commands);
        wake(&mut pipe.conversation);
    }

    /// Bytes of commands that the conversation has not taken yet.
    pub(super) fn unsaid(&self) -> usize {
        self.0.borrow().commands.len()
    }

    /// Says that no more commands come.
    pub(super) fn end(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.is_ended = true;
        wake(&mut pipe.conversation);
    }

    /// What comes next.
    pub(super) fn poll_heard(&mut self, cx: &Context<'_>) -> Poll<Heard> {
        let mut pipe = self.0.borrow_mut();
        if !pipe.replies.is_empty() {
            let bytes = std::mem::take(&mut pipe.replies);
            let len = u64::try_from(bytes.len()).unwrap_or_default();
            pipe.taken = pipe.taken.wrapping_add(len);
            wake(&mut pipe.conversation);
            return Poll::Ready(Heard::Bytes(bytes));
        }
        if pipe.over > 0 {
            return Poll::Ready(Heard::Over(std::mem::take(&mut pipe.over)));
        }
        if pipe.is_closed {
            let is_cut = pipe.is_cut;
            return Poll::Ready(Heard::Closed { is_cut });
        }
        pipe.speaker = Some(cx.waker().clone());
        Poll::Pending
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

    fn reply_is_over(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.over = pipe.over.saturating_add(1);
        wake(&mut pipe.speaker);
    }

    fn cut(&mut self) {
        self.0.borrow_mut().is_cut = true;
    }
}

/// Speaks for a client on a socket, until both sides have nothing more to say.
pub(super) async fn speak_for(mut stream: Stream, mut speaker: Speaker) {
    let is_cut = poll_fn(|cx| poll_speech(&mut stream, &mut speaker, cx)).await;
    if is_cut {
        stream.abort_when_dropped();
    }
}

/// Passes on what there is; ready when the conversation has ended, with whether its last reply was cut.
fn poll_speech(stream: &mut Stream, speaker: &mut Speaker, cx: &mut Context<'_>) -> Poll<bool> {
    while speaker.unsaid() < WAITING_MAX {
        match stream.poll_receive(cx) {
            Poll::Ready(Ok(Some(buf))) => speaker.say(&buf),
            Poll::Ready(Ok(None) | Err(_)) => {
                speaker.end();
                break;
            }
            Poll::Pending => break,
        }
    }
    loop {
        match stream.poll_unsent_below(cx, WAITING_MAX) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(true),
            Poll::Pending => return Poll::Pending,
        }
        match speaker.poll_heard(cx) {
            Poll::Ready(Heard::Bytes(bytes)) => stream.send_bytes(&bytes),
            Poll::Ready(Heard::Over(_)) => {}
            Poll::Ready(Heard::Closed { is_cut }) => return Poll::Ready(is_cut),
            Poll::Pending => return Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(speaker: &mut Speaker) -> Option<Heard> {
        let cx = Context::from_waker(Waker::noop());
        match speaker.poll_heard(&cx) {
            Poll::Ready(heard) => Some(heard),
            Poll::Pending => None,
        }
    }

    fn said(bytes: &[u8]) -> Output {
        let mut out = Output::default();
        out.bytes(bytes);
        out
    }

    #[test]
    fn a_reply_is_heard_before_its_end_and_the_close_comes_last() {
        let (mut front, mut speaker) = pair();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(front.poll_bytes(&mut cx).is_pending());
        speaker.say(b"one");
        speaker.say(b"two");
        let taken = front.poll_bytes(&mut cx);
        assert!(matches!(taken, Poll::Ready(Ok(Some(buf))) if *buf == *b"onetwo"));
        assert_eq!((speaker.unsaid(), heard(&mut speaker)), (0, None));
        let mut reply = Output::default();
        reply.bytes(b"<");
        reply.input(1..3);
        front.send(&reply, Some(Buf::copied(b"abcd")));
        front.reply_is_over();
        front.send(&said(b"next"), None);
        front.cut();
        drop(front);
        // What comes behind an end is heard with what was before: the end names no place in between.
        assert_eq!(heard(&mut speaker), Some(Heard::Bytes(b"<bcnext".to_vec())));
        assert_eq!(heard(&mut speaker), Some(Heard::Over(1)));
        assert_eq!(heard(&mut speaker), Some(Heard::Closed { is_cut: true }));
    }

    #[test]
    fn a_speaker_that_does_not_listen_leaves_no_room() {
        let (mut front, mut speaker) = pair();
        let mut cx = Context::from_waker(Waker::noop());
        front.send(&said(b"four"), None);
        assert!(front.poll_room(&mut cx, 3).is_pending());
        assert_eq!((front.unsent(), front.taken()), (4, 0));
        assert_eq!(heard(&mut speaker), Some(Heard::Bytes(b"four".to_vec())));
        assert!(front.poll_room(&mut cx, 3).is_ready());
        assert_eq!((front.unsent(), front.taken()), (0, 4));
        assert!(front.poll_end(&mut cx).is_pending());
        drop(speaker);
        assert!(front.poll_end(&mut cx).is_ready());
        assert!(matches!(front.poll_bytes(&mut cx), Poll::Ready(Ok(None))));
    }
}
