//! The ring task: turns while there is work, a blocking wait in the ring while there is hardly any, and
//! the thread back to glommio when there is none.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::{or, yield_now};
use glommio::io::BufferedFile;

use super::Net;
use super::remote::{eventfd, ring_bell};
use super::spawn::{Spawned, current_task, polls, spawn};
use super::state::Turned;

impl Net {
    /// Turns the ring until [`Net::stop`], and then until the streams dropped by that time are closed.
    /// Run it as one task of the core.
    ///
    /// # Errors
    /// The ring is broken: an errno of `io_uring_enter`, or no descriptor for the eventfd. Nothing that
    /// waits on this ring goes on, so the core has to end.
    pub async fn drive(&self) -> io::Result<()> {
        let mut bell = Bell::new(self)?;
        let (hot_wait, idle_spell) = {
            let state = self.state();
            (state.hub.options.hot_wait, state.hub.options.idle_spell)
        };
        let mut last_work = self.now();
        // This task's own resumption is no sign of work.
        let own = u64::from(!current_task().is_empty());
        loop {
            #[cfg(debug_assertions)]
            if self.state().hub.is_broken {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            // Whoever was woken runs now. If nobody ran and nothing was queued, nothing is runnable.
            let before = polls();
            yield_now().await;
            let ran = polls().wrapping_sub(before) > own;
            let busy = ran || self.state().hub.touched;
            let turned = if busy {
                self.state().turn(None)?
            } else if self.now().since(last_work) < idle_spell || self.has_alarm_within(idle_spell)
            {
                self.state().turn(Some(hot_wait))?
            } else {
                bell.park(self).await?
            };
            if busy || turned.events > 0 {
                last_work = self.now();
            }
            let state = self.state();
            if state.stopping && state.closing == 0 {
                break;
            }
        }
        bell.close().await;
        Ok(())
    }
}

/// How a core's ring has ended, in words for whoever started the core: `driven` is what the task that
/// runs [`Net::drive`] gave.
///
/// # Errors
/// The ring is broken, or its task has panicked.
pub fn ring_end(driven: Option<io::Result<()>>) -> Result<(), String> {
    match driven {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(format!("the network ring has failed: {error}")),
        None => Err("the network ring's task panicked".to_owned()),
    }
}

impl Net {
    /// Whether somebody waits for an instant so near that glommio's timers would miss it.
    fn has_alarm_within(&self, spell: Duration) -> bool {
        let state = self.state();
        let left = state.alarms.left(state.hub.now);
        left.is_some_and(|left| left < spell)
    }
}

/// What the last turn before a park has found.
struct BeforePark {
    events: usize,
    /// Nothing happened and nothing is queued: park.
    idle: bool,
    /// Time until the next deadline.
    left: Option<Duration>,
}

/// Lets completions signal, then turns: what completed before the signal was on must be seen now, for
/// nothing else would tell of it.
fn before_park(net: &Net) -> io::Result<BeforePark> {
    let mut state = net.state();
    state.hub.signal_eventfd(true);
    let events = state.turn(None)?.events;
    let idle = events == 0 && !state.has_work();
    state.hub.stats.cold_parks += u64::from(idle);
    Ok(BeforePark {
        events,
        idle,
        left: state.next_left(),
    })
}

/// The eventfd that ends a cold park: the ring signals it, glommio reads it.
struct Bell {
    fd: OwnedFd,
    read: Option<Rc<BufferedFile>>,
    reader: Option<Spawned<()>>,
    /// A read is under way in glommio. It outlives a park that something else has ended.
    reading: Rc<Cell<bool>>,
    parked: Rc<Cell<Option<Waker>>>,
}

impl Bell {
    fn new(net: &Net) -> io::Result<Self> {
        let fd = eventfd()?;
        net.state().hub.register_eventfd(fd.as_raw_fd())?;
        let own = fd.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor is a fresh duplicate; the file owns it from here on.
        let read = Some(Rc::new(unsafe { BufferedFile::from_raw_fd(own) }));
        let reading = Rc::new(Cell::new(false));
        Ok(Self {
            fd,
            read,
            reader: None,
            reading,
            parked: Rc::default(),
        })
    }

    /// Gives the thread to glommio until the ring has a completion, something was queued or the next
    /// deadline comes; then turns.
    async fn park(&mut self, net: &Net) -> io::Result<Turned> {
        let before = before_park(net)?;
        if before.idle {
            self.listen();
            let called = self.called(net);
            match before.left {
                Some(left) => or(called, async { glommio::timer::sleep(left).await }).await,
                None => called.await,
            }
        }
        let mut state = net.state();
        state.hub.driver = None;
        state.hub.signal_eventfd(false);
        let after = state.turn(None)?;
        Ok(Turned {
            events: before.events + after.events,
        })
    }

    /// Waits until the bell rings or the hub is touched.
    async fn called(&self, net: &Net) {
        poll_fn(|cx| {
            let mut state = net.state();
            if state.has_work() || !self.reading.get() {
                state.hub.driver = None;
                return Poll::Ready(());
            }
            state.hub.groups.await_return(cx.waker());
            state.hub.driver = Some(cx.waker().clone());
            self.parked.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Has glommio read the eventfd, unless it does already.
    fn listen(&mut self) {
        let Some(file) = self.read.clone() else {
            return;
        };
        if self.reading.replace(true) {
            return;
        }
        let (reading, parked) = (self.reading.clone(), self.parked.clone());
        self.reader = Some(spawn("bell", async move {
            // An error ends the park as well: the turn that follows shows what is wrong.
            let _ = file.read_at(0, size_of::<u64>()).await;
            reading.set(false);
            if let Some(waker) = parked.take() {
                waker.wake();
            }
        }));
    }

    /// Ends the read in glommio and closes the descriptors.
    async fn close(mut self) {
        ring_bell(&self.fd);
        if let Some(reader) = self.reader.take() {
            reader.await;
        }
        if let Some(file) = self.read.take().and_then(|file| Rc::try_unwrap(file).ok()) {
            let _ = file.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use glommio::{LocalExecutorBuilder, Placement};

    use super::super::{Net, NetOptions};
    use super::*;

    #[test]
    fn a_broken_ring_ends_its_task_with_the_reason() {
        let executor = LocalExecutorBuilder::new(Placement::Unbound);
        let run = || async {
            let net = Net::new(NetOptions::default()).unwrap();
            let ring = net.clone();
            let driver = spawn("ring", async move { ring.drive().await });
            let mut timer = net.timer();
            timer.set(net.now().plus(Duration::from_millis(5)));
            poll_fn(|cx| timer.poll(cx)).await;
            net.state().hub.break_ring();
            // Something to do for it.
            net.alarm().set(net.now().plus(Duration::from_millis(1)));
            let driven = driver.await;
            assert!(matches!(driven, Some(Err(_))), "{driven:?}");
            let text = ring_end(driven).unwrap_err();
            assert!(text.starts_with("the network ring has failed: "), "{text}");
        };
        executor.spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn each_end_of_a_ring_has_words() {
        assert_eq!(ring_end(Some(Ok(()))), Ok(()));
        assert!(ring_end(None).unwrap_err().contains("panicked"));
    }
}
