//! The generic part with a protocol that is not MySQL: lines over real sockets, answered by a server
//! that counts who is connected.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::base::clock::Deadline;
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::ident::{CoreId, TenantId};
use crate::config::Snapshot;
use crate::core::Core;
use crate::core::jobs::{JobDone, Jobs};
use crate::core::mailbox::{Mailbox, Mailboxes};
use crate::net::{Net, NetOptions, Stream, Timer, spawn};
use crate::pool::Key;
use crate::route::Wanted;
use crate::telemetry::metrics::CoreMetrics;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

// --- the protocol -----------------------------------------------------------------------------------

/// Lines: each is answered by itself.
struct Line;

/// Whether an answer is awaited.
type Session = Cell<bool>;

impl Protocol for Line {
    type Session = Session;
    type Packed = ();
    type Login = &'static str;
    type Shared = ();

    const CLEANSE_LIMIT: Duration = Duration::from_secs(2);
    const KILLS: bool = false;

    async fn log_in(
        mut stream: Stream,
        login: &Rc<&'static str>,
        timer: &mut Timer,
    ) -> Result<(Stream, Session), DialError> {
        stream.send_bytes(login.as_bytes());
        let answer = poll_fn(|cx| match stream.poll_receive(cx) {
            Poll::Ready(received) => Poll::Ready(received.ok().flatten()),
            Poll::Pending => timer.poll(cx).map(|()| None),
        });
        let is_welcome = answer.await.is_some_and(|line| *line == *login.as_bytes());
        let refused = || DialError::new(CloseReason::UpstreamDenied, "not welcome");
        is_welcome
            .then_some((stream, Cell::new(false)))
            .ok_or_else(refused)
    }

    fn is_idle(session: &Session) -> bool {
        !session.get()
    }

    fn claim(_: &Session, _: u64) {}

    fn unclaim(_: &Session) {}

    fn holds_for(_: &Session, _: u64) -> bool {
        false
    }

    fn ask_for_what_is_left(_: &mut Session, _: &mut Vec<u8>) {}

    fn owes(_: &Session) -> bool {
        false
    }

    fn take_owed(_: &mut Session, _: &mut [u8]) -> Result<bool, Broken> {
        Err(Broken)
    }

    fn tell_others(_: &(), _: &Core) {}

    fn part(_: &mut Session, out: &mut Vec<u8>) {
        out.extend_from_slice(b"bye\n");
    }

    fn begin_kill(_: &mut Session, _: &Session, _: &mut Vec<u8>) {}

    fn on_kill_reply(_: &mut Session, _: &mut [u8]) -> Result<bool, String> {
        Err("nothing is killed here".to_owned())
    }

    fn begin_cleanse(session: &mut Session, out: &mut Vec<u8>) {
        session.set(true);
        out.extend_from_slice(b"cleanse\n");
    }

    fn on_cleanse_reply(session: &mut Session, bytes: &mut [u8]) -> Result<bool, String> {
        session.set(false);
        Ok(bytes == b"cleanse\n")
    }

    fn pack(session: &Session) -> Option<()> {
        (!session.get()).then_some(())
    }

    fn unpack((): (), (): &()) -> Session {
        Cell::new(false)
    }

    fn joined(_: &Session, _: &&'static str) {}
}

/// Counts of a server.
#[derive(Default)]
struct Counts {
    accepted: AtomicU32,
    open: AtomicU32,
    peak: AtomicU32,
}

/// A server that lives as long as its process.
fn serve() -> (SocketAddr, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
            shared.peak.fetch_max(open, Ordering::SeqCst);
            let counts = Arc::clone(&shared);
            std::thread::spawn(move || {
                answer(stream);
                counts.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, counts)
}

fn answer(mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for line in lines.map_while(Result::ok).take_while(|line| line != "bye") {
        if stream.write_all(format!("{line}\n").as_bytes()).is_err() {
            return;
        }
    }
}

// --- the cores --------------------------------------------------------------------------------------

enum Message {
    Peer(PeerMessage<Line>),
    Job,
}

impl From<JobDone> for Message {
    fn from(_: JobDone) -> Self {
        Self::Job
    }
}

/// One core, as a test's body sees it.
struct Here {
    core: Rc<Core>,
    pool: Rc<PoolState<Line>>,
    endpoint: Rc<Endpoint<Line>>,
    counts: Arc<Counts>,
    /// How far the test is, over all cores.
    step: Arc<AtomicU32>,
}

impl Here {
    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let started = self.core.net.now();
        let mut timer = self.core.net.timer();
        while !condition() {
            let now = self.core.net.now();
            assert!(now.since(started) < PATIENCE, "never: {what}");
            timer.set(now.plus(Duration::from_millis(1)));
            poll_fn(|cx| timer.poll(cx)).await;
        }
    }

    /// Leases a connection for `owner`, however long it takes.
    async fn lease(&self, owner: u64) -> Result<Leased<Line>, Event> {
        match self.pool.acquire(owner, false, Deadline::NEVER)? {
            Acquired::Now(leased) => Ok(leased),
            Acquired::Later(mut wait) => poll_fn(|cx| wait.poll(cx)).await,
        }
    }

    fn permits(&self) -> (u32, u32) {
        let permits = self.endpoint.permits.borrow();
        (permits.owned(), permits.in_use())
    }
}

/// Asks on a leased connection.
async fn ask(leased: &mut Leased<Line>, line: &'static str) {
    let connection = leased.connection_mut();
    connection.stream.send_bytes(line.as_bytes());
    connection.session.set(true);
    let received = poll_fn(|cx| connection.stream.poll_receive(cx)).await;
    assert_eq!(&*received.unwrap().unwrap(), line.as_bytes());
    connection.session.set(false);
}

type Body = fn(Here) -> Pin<Box<dyn Future<Output = ()>>>;

/// Runs `body` on each of `cores` cores that share a budget of two connections.
fn on_cores(cores: u16, body: Body) {
    let (address, counts) = serve();
    let text = format!(
        "version = 1\n[listeners.main]\nprotocol = \"mysql\"\naddress = \"127.0.0.1:0\"\n\
         [admin]\naddress = \"127.0.0.1:0\"\n[pools]\nbudget = 2\n\
         [placements.a]\nendpoints = [{{ address = \"{address}\", role = \"primary\" }}]\n\
         upstream = {{ user = \"u\", password = {{ env = \"P\" }} }}\n\
         [tenants.t]\nplacement = \"a\"\n\
         [users.u]\ntenant = \"t\"\npassword = {{ env = \"P\" }}\n"
    );
    let env = |_: &str| Some("secret".to_owned());
    let snapshot = Arc::new(crate::config::parse("test.toml", &text, &env).unwrap());
    let (mailboxes, receivers) = Mailboxes::new(cores);
    let jobs = Jobs::start(mailboxes.clone()).unwrap();
    let step = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = mailboxes
        .ids()
        .zip(receivers)
        .map(|(id, mailbox)| {
            let seat = (id, mailbox, mailboxes.clone(), jobs.clone());
            let shared = (address, Arc::clone(&snapshot), Arc::clone(&counts));
            let step = Arc::clone(&step);
            let executor = LocalExecutorBuilder::new(Placement::Unbound);
            let run = move || live(seat, shared, step, body);
            executor.spawn(run).unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

type Seat = (CoreId, Mailbox<Message>, Mailboxes<Message>, Jobs);

async fn live(
    (id, mut mailbox, mailboxes, jobs): Seat,
    (address, snapshot, counts): (SocketAddr, Arc<Snapshot>, Arc<Counts>),
    step: Arc<AtomicU32>,
    body: Body,
) {
    let net = Net::new(NetOptions::default()).unwrap();
    mailbox.join(&net).unwrap();
    let ring = net.clone();
    let driver = spawn("ring", async move { ring.drive().await });
    let core = Core::new(id, mailboxes.cores(), net.clone(), jobs);
    let post = Box::new(move |to, message| {
        let sent = mailboxes.send(to, Message::Peer(message));
        assert!(sent.is_ok(), "a mailbox that is not full");
        Ok(())
    });
    let site = Upstreams::new(&core, (), &snapshot, post);
    let addresses = Addresses {
        generation: 1,
        by_endpoint: vec![vec![address.into()]],
    };
    let routing = site.apply(&snapshot, &addresses, &CoreMetrics::new(id.0));
    let target = Target {
        placement: routing.placement_of(TenantId(0)).unwrap(),
        wanted: Wanted::Primary,
    };
    let endpoint = routing.pick(&core, target).unwrap();
    let key = Key {
        tenant: "t".into(),
        user: "u".into(),
        credential_version: 1,
        capabilities: 0,
    };
    let pool = endpoint.pool(&key, || Rc::new("hello\n"));
    let (messages, keeping) = (Rc::clone(&site), Rc::clone(&site));
    spawn("mailbox", async move {
        loop {
            if let Message::Peer(message) = mailbox.next(&messages.core.net).await {
                messages.on_message(message);
            }
        }
    })
    .detach();
    spawn("keeper", async move {
        let mut timer = keeping.core.net.timer();
        loop {
            // Without a tick: it is told whenever there is something to look at.
            let looks = keeping.look().next;
            timer.set(looks);
            let mut is_kicked = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut is_kicked, true) {
                    return Poll::Ready(());
                }
                keeping.core.keeper_waits(cx.waker(), looks);
                timer.poll(cx)
            })
            .await;
        }
    })
    .detach();
    let here = Here {
        core,
        pool,
        endpoint,
        counts,
        step,
    };
    let tested = spawn("test", body(here)).await;
    assert!(tested.is_some(), "the test has panicked, see above");
    net.stop();
    assert!(driver.await.is_some(), "the ring has panicked");
}

#[test]
fn a_lease_is_returned_waited_for_and_discarded_within_the_budget() {
    on_cores(1, |here| {
        Box::pin(async move {
            let mut first = here.lease(1).await.unwrap();
            let mut second = here.lease(2).await.unwrap();
            ask(&mut first, "one\n").await;
            ask(&mut second, "two\n").await;
            assert_eq!(here.permits(), (2, 2));
            // The third waits, and has the connection that is returned.
            let Ok(Acquired::Later(mut wait)) = here.pool.acquire(3, false, Deadline::NEVER) else {
                panic!("there is no third connection");
            };
            first.end(Ending::Return);
            let mut third = poll_fn(|cx| wait.poll(cx)).await.unwrap();
            ask(&mut third, "three\n").await;
            assert_eq!(here.counts.accepted.load(Ordering::SeqCst), 2);
            // In the middle of an exchange, and let go of: both end at the server, and their permits
            // open new ones.
            third.connection().session.set(true);
            drop(third);
            second.end(Ending::Discard(CloseReason::StateLost));
            let mut again = here.lease(4).await.unwrap();
            let other = here.lease(5).await.unwrap();
            ask(&mut again, "four\n").await;
            assert_eq!(here.counts.accepted.load(Ordering::SeqCst), 4);
            assert_eq!(here.counts.peak.load(Ordering::SeqCst), 2);
            // Who leaves the queue leaves nothing behind.
            assert!(matches!(
                here.pool.acquire(6, false, Deadline::NEVER),
                Ok(Acquired::Later(_))
            ));
            again.end(Ending::Return);
            other.end(Ending::Return);
            assert_eq!(here.permits(), (2, 2));
            let reused = here.lease(7).await.unwrap();
            assert_eq!(here.counts.accepted.load(Ordering::SeqCst), 4);
            reused.end(Ending::Return);
        })
    });
}

#[test]
fn connections_and_their_permits_go_to_the_core_that_needs_them() {
    on_cores(2, |here| {
        Box::pin(async move {
            let reaches = |step| here.step.load(Ordering::SeqCst) >= step;
            let turns = [(CoreId(0), 0), (CoreId(1), 1), (CoreId(0), 2)];
            for (core, turn) in turns {
                here.until("the other core's turn", || reaches(turn)).await;
                if here.core.id != core {
                    continue;
                }
                // Both connections at once, of a core that has one permit of its own.
                let mut first = here.lease(1).await.unwrap();
                let mut second = here.lease(2).await.unwrap();
                ask(&mut first, "one\n").await;
                ask(&mut second, "two\n").await;
                assert_eq!(here.permits(), (2, 2));
                first.end(Ending::Return);
                second.end(Ending::Return);
                here.step.fetch_add(1, Ordering::SeqCst);
            }
            here.until("the last turn", || reaches(3)).await;
            // They were handed over as they are: no third one was ever made.
            assert_eq!(here.counts.accepted.load(Ordering::SeqCst), 2);
            assert_eq!(here.counts.open.load(Ordering::SeqCst), 2);
            here.step.fetch_add(1, Ordering::SeqCst);
            here.until("the other core's look", || reaches(5)).await;
        })
    });
}

/// The other tenant's connection is idle for so short a time that it may be taken later only. The keeper sleeps.
#[test]
fn who_waits_alone_gets_the_idle_connection_of_another_pool_once_it_may() {
    on_cores(1, |here| {
        Box::pin(async move {
            let key = Key {
                tenant: "other".into(),
                ..here.pool.key.clone()
            };
            let other = here.endpoint.pool(&key, || Rc::new("hello\n"));
            let first = here.lease(1).await.unwrap();
            let Ok(Acquired::Later(mut wait)) = other.acquire(2, false, Deadline::NEVER) else {
                unreachable!("there is none yet");
            };
            let second = poll_fn(|cx| wait.poll(cx)).await.unwrap();
            second.end(Ending::Return);
            // The keeper has seen all of that.
            let mut timer = here.core.net.timer();
            timer.set(here.core.net.now().plus(Duration::from_millis(20)));
            poll_fn(|cx| timer.poll(cx)).await;
            let begun = here.core.net.now();
            timer.set(begun.plus(PATIENCE));
            let third = {
                let mut wait = match here.pool.acquire(3, false, Deadline::NEVER) {
                    Ok(Acquired::Later(wait)) => wait,
                    _ => unreachable!("the budget is used up"),
                };
                poll_fn(|cx| match timer.poll(cx) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending => wait.poll(cx).map(Some),
                })
                .await
            };
            let third = third.expect("it is taken").unwrap();
            assert_eq!(here.counts.accepted.load(Ordering::SeqCst), 3);
            drop((first, third));
        })
    });
}

/// Pools of clients of many kinds, as they come and go.
#[test]
fn pools_that_are_empty_and_that_nobody_can_come_back_to_go() {
    on_cores(1, |here| {
        Box::pin(async move {
            let of_kind = |capabilities| {
                let key = Key {
                    capabilities,
                    ..here.pool.key.clone()
                };
                here.endpoint.pool(&key, || Rc::new("hello\n"))
            };
            let count = || here.endpoint.pools.borrow().all().count();
            for kind in 1..=512 {
                drop(of_kind(kind));
            }
            let used = of_kind(7);
            let Ok(Acquired::Later(mut wait)) = used.acquire(1, false, Deadline::NEVER) else {
                unreachable!("there is none yet");
            };
            let leased = poll_fn(|cx| wait.poll(cx)).await.unwrap();
            drop((wait, used));
            here.endpoint.sweep();
            assert_eq!(count(), 2, "this one and the one with a connection");
            leased.end(Ending::Return);
            here.endpoint.sweep();
            assert_eq!(count(), 2, "an idle one is one");
            let closed = of_kind(7).take_idle(2, false).unwrap();
            closed.end(Ending::Close(CloseReason::PoolIdle));
            here.until("its permit's return", || here.permits().1 == 0)
                .await;
            here.endpoint.sweep();
            assert_eq!(count(), 1);
        })
    });
}

/// A listener whose queue is full: a connect there is neither taken nor refused.
fn full_queue() -> (SocketAddr, Vec<Socket>) {
    let tcp = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = tcp();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    loop {
        let socket = tcp();
        let is_full = socket
            .connect_timeout(&address, Duration::from_millis(300))
            .is_err();
        sockets.push(socket);
        if is_full {
            return (address.as_socket().unwrap(), sockets);
        }
    }
}

#[test]
fn all_addresses_together_take_no_longer_than_the_whole_connect_may() {
    on_cores(1, |here| {
        Box::pin(async move {
            let holes = [full_queue(), full_queue(), full_queue()];
            let addresses = holes.iter().map(|(address, _)| (*address).into());
            *here.endpoint.addresses.borrow_mut() = addresses.collect();
            for (total, expect) in [(1_000, 900..1_600), (500, 500..850)] {
                // A reload writes here too.
                *here.endpoint.site.limits.borrow_mut() = site::DialLimits {
                    connect: Duration::from_millis(300),
                    total: Duration::from_millis(total),
                    login: Duration::from_secs(9),
                };
                let begun = here.core.net.now();
                assert!(dial::dial(&here.pool).await.is_err());
                let took = here.core.net.now().since(begun).as_millis();
                assert!(expect.contains(&took), "{took} ms of {total}");
            }
        })
    });
}
