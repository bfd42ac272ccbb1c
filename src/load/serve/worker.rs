//! One core of a null server: what its connections share, and its life.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::Duration;

use super::service::ServiceTime;
use super::{Event, Served, http, mysql, session};
use crate::base::prng::Prng;
use crate::net::{self, Acceptor, Alarm, Listener, Net, NetOptions, Stream};

/// Unsent bytes of a connection above which nothing more is read from it or said to it.
pub(super) const UNSENT_MAX: usize = 512 * 1024;

/// What a server says, to all its cores alike.
pub(super) enum Part {
    /// The answers of a MySQL server.
    Mysql(session::Shared),
    /// Those of an HTTP server.
    Http(http::Answers),
}

/// What connections of one core share.
pub(super) struct Worker {
    pub(super) net: Net,
    service: ServiceTime,
    prng: RefCell<Prng>,
    served: RefCell<Served>,
    core: u32,
    next_connection: Cell<u32>,
}

impl Worker {
    /// A number for a connection, which no other of this server has for a long time.
    pub(super) fn new_connection(&self) -> u32 {
        let count = self.next_connection.get();
        self.next_connection.set(count.wrapping_add(1));
        self.core << 24 | count & 0x00ff_ffff
    }

    /// Counts a request, answered or not.
    pub(super) fn count(&self, is_answered: bool) {
        let mut served = self.served.borrow_mut();
        served.requests += 1;
        served.answers += u64::from(is_answered);
    }

    /// Whether answers take time at all.
    pub(super) fn takes_time(&self) -> bool {
        self.service != ServiceTime::None
    }

    /// Takes the time that one answer takes.
    pub(super) async fn work(&self, alarm: &mut Alarm) {
        let drawn = self.service.draw(&mut self.prng.borrow_mut());
        let began = self.net.now();
        if !drawn.is_zero() {
            alarm.set(began.plus(drawn));
            poll_fn(|cx| alarm.poll(cx)).await;
        }
        let taken = self.net.now().since(began);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut served = self.served.borrow_mut();
        served.drawn.record(nanos(drawn));
        served.taken.record(nanos(taken));
    }
}

/// What a core begins with.
pub(super) struct Seed {
    pub(super) core: u32,
    pub(super) net: NetOptions,
    pub(super) listener: Listener,
    pub(super) service: ServiceTime,
    pub(super) seed: u64,
    pub(super) part: Arc<Part>,
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) events: Sender<Event>,
}

/// The life of one core.
pub(super) async fn live(seed: Seed) -> Result<(), String> {
    if seed.service != ServiceTime::None {
        // The default slack of 50 us is as long as short service times. A refusal (seccomp) costs
        // that precision, and shows in what the server says it took.
        let _coarse = rustix::thread::set_current_timer_slack(Some(std::num::NonZeroU64::MIN));
    }
    let said = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let net = Net::new(seed.net).map_err(said("no network ring"))?;
    let waker = net.waker().map_err(said("no waker"))?;
    let ring = net.clone();
    let driving = net::spawn("ring", async move { ring.drive().await });
    let worker = Rc::new(Worker {
        net: net.clone(),
        service: seed.service,
        prng: RefCell::new(Prng::new(seed.seed.wrapping_add(u64::from(seed.core)))),
        served: RefCell::default(),
        core: seed.core,
        next_connection: Cell::new(1),
    });
    let acceptor = net.listen(seed.listener);
    let accepting = accept(Rc::clone(&worker), seed.part, acceptor);
    net::spawn("accept", accepting).detach();
    // Whoever started the server waits for this; if it has gone, so has the process.
    let _nobody_left = seed.events.send(Event::Ready(waker));
    let mut driving = pin!(driving);
    let broken = poll_fn(|cx| {
        if let Poll::Ready(driven) = driving.as_mut().poll(cx) {
            return Poll::Ready(Some(driven));
        }
        loop {
            if seed.is_stopping.load(Ordering::Acquire) {
                return Poll::Ready(None);
            }
            if net.poll_woken(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
    let served = worker.served.replace(Served::default());
    let _nobody_left = seed.events.send(Event::Served(Box::new(served)));
    if let Some(driven) = broken {
        return net::ring_end(driven).and(Err("the ring has stopped by itself".into()));
    }
    net.stop();
    net::ring_end(driving.await)
}

async fn accept(worker: Rc<Worker>, part: Arc<Part>, mut acceptor: Acceptor) {
    // An error here is the listener's end; connections go on.
    while let Ok((stream, _)) = poll_fn(|cx| acceptor.poll_accept(cx)).await {
        let (worker, part) = (Rc::clone(&worker), Arc::clone(&part));
        net::spawn("client", async move {
            // A client that breaks off or breaks the protocol ends its own connection.
            let _ended = serve(&worker, &part, stream).await;
        })
        .detach();
    }
}

async fn serve(worker: &Worker, part: &Part, stream: Stream) -> io::Result<()> {
    worker.served.borrow_mut().connections += 1;
    match part {
        Part::Mysql(shared) => mysql::serve(worker, shared, stream).await,
        Part::Http(answers) => http::serve(worker, answers, stream).await,
    }
}
