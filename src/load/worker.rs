//! One connection's life: open, take an arrival, ask, record, again; open anew when it breaks.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::or;

use super::connection::Connection;
use super::dialogue::{Broken, Dialogue, Event};
use super::engine::{Engine, GroupState, Report, Seat, clock};
use super::keys::Keys;
use super::opening::Opening;
use super::record::Failure;
use super::scenario::{Arrivals, Operation};
use super::schedule::Arrival;
use crate::base::clock::{Deadline, Now};

/// The pause after a connection that could not be opened, and the longest after several.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How long a connection may take to be opened before the run and after a loss.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection's life, from its first opening to the run's end.
pub(super) async fn work(engine: Rc<Engine>, group: usize, index: u32) {
    if let Some(state) = engine.groups.get(group) {
        let worker = Worker {
            engine: &engine,
            state,
            group,
            index,
        };
        match state.group.operation {
            Operation::Connect => worker.churn().await,
            Operation::Hold => worker.hold().await,
            _ => worker.ask().await,
        }
    }
    engine.worker_ended();
}

struct Worker<'a> {
    engine: &'a Rc<Engine>,
    state: &'a GroupState,
    group: usize,
    index: u32,
}

impl Worker<'_> {
    async fn open(&self, deadline: Deadline) -> Result<Connection, Broken> {
        let engine = self.engine;
        let (seed, of) = (engine.scenario.seed, self.state.group.connections);
        let group = (self.group as u64) << 48;
        let keys = |arguments| Keys::new(arguments, seed ^ group, self.index, of);
        let none = Vec::new();
        let arguments = match &self.state.group.operation {
            Operation::Text(statement) | Operation::Prepared(statement) => {
                vec![&statement.arguments]
            }
            Operation::Transaction(statements) => statements.iter().map(|s| &s.arguments).collect(),
            Operation::Request(request) => vec![&request.arguments],
            Operation::Ping | Operation::Connect | Operation::Hold => vec![&none],
        };
        let keys = keys(arguments.into_iter().flatten().collect::<Vec<_>>());
        let dialogue = Dialogue::new(&self.state.program, keys);
        let opened = Connection::open(&engine.net, &self.state.address, dialogue, deadline).await;
        opened.map_err(|broken| Broken {
            why: format!("target `{}`: {}", self.state.group.target.name, broken.why),
            ..broken
        })
    }

    /// Opens a connection, however often it takes; `None` when the run is over.
    async fn open_at_last(&self, mut is_first: bool) -> Option<Connection> {
        let mut pause = RETRY.0;
        loop {
            let turn = Opening::turn(self.engine).await;
            if self.engine.is_over.get() {
                return None;
            }
            let now = self.engine.net.now();
            let opening = async { Some(self.open(now.plus(OPEN_TIMEOUT)).await) };
            let ended = async {
                self.engine.until(|engine| engine.is_over.get()).await;
                None
            };
            let opened = or(opening, ended).await?;
            drop(turn);
            match opened {
                Ok(connection) => {
                    let open = &self.engine.connections;
                    open.set(open.get() + 1);
                    if is_first {
                        self.engine.is_ready();
                    }
                    return Some(connection);
                }
                Err(broken) => {
                    if self.engine.start.get().is_none() {
                        let report = Report::CannotConnect(broken.why, broken.lasts);
                        self.engine.tell(report);
                        if broken.lasts && self.engine.counts_refusals && is_first {
                            // The run begins without it.
                            self.engine.is_ready();
                            is_first = false;
                        }
                    } else {
                        self.refused(&broken);
                    }
                    self.pause(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// A connection could not be opened anew. A login that is refused once will be again.
    fn refused(&self, broken: &Broken) {
        let engine = self.engine;
        engine.failed(self.group, broken.failure, || broken.why.clone());
        if let Some(stretch) = engine.stretch_at(engine.elapsed(engine.net.now())) {
            engine.record(stretch, self.group, |record| record.reconnects_failed += 1);
        }
        if broken.failure == Failure::Login {
            self.engine.tell(Report::LoginRefused(broken.why.clone()));
        }
    }

    async fn pause(&self, length: Duration) {
        let mut timer = self.engine.net.timer();
        timer.set(self.engine.net.now().plus(length));
        poll_fn(|cx| timer.poll(cx)).await;
    }

    fn closed(&self) {
        let open = &self.engine.connections;
        open.set(open.get().saturating_sub(1));
    }

    /// Asks one question after the other.
    async fn ask(&self) {
        let seat = Rc::new(Seat::default());
        let mut is_first = true;
        while let Some(mut connection) = self.open_at_last(is_first).await {
            is_first = false;
            let mut free_since = clock();
            loop {
                let Some(arrival) = self.next(&seat, free_since).await else {
                    self.closed();
                    return connection.close();
                };
                match self.operate(&mut connection, arrival, free_since).await {
                    Ok(ended) if !connection.is_spent() => free_since = ended,
                    Ok(_) | Err(_) => break,
                }
            }
            self.closed();
        }
    }

    /// The next arrival for a connection that is free since `since`; `None` when the run is over.
    async fn next(&self, seat: &Rc<Seat>, since: Now) -> Option<Arrival> {
        let engine = self.engine;
        match engine.scenario.arrivals {
            Arrivals::Closed { think } => self.next_closed(since, think).await,
            Arrivals::Max => self.next_closed(since, Duration::ZERO).await,
            _ => self.next_open(seat).await,
        }
    }

    async fn next_closed(&self, since: Now, think: Duration) -> Option<Arrival> {
        let engine = self.engine;
        let start = match engine.start.get() {
            Some(start) => start,
            None => {
                engine
                    .until(|engine| engine.start.get().is_some() || engine.is_over.get())
                    .await;
                engine.start.get()?
            }
        };
        let due = since.max(start).plus(think);
        if !due.is_over(clock()) {
            let mut alarm = engine.net.alarm();
            alarm.set(due);
            poll_fn(|cx| alarm.poll(cx)).await;
        }
        if engine.is_over.get() {
            return None;
        }
        let at = due.0.saturating_sub(start.0);
        let stretch = engine.stretch_at(at)?;
        engine.is_due(self.group, stretch);
        Some(Arrival { at, stretch })
    }

    async fn next_open(&self, seat: &Rc<Seat>) -> Option<Arrival> {
        let engine = self.engine;
        let mut is_listed = false;
        poll_fn(|cx| {
            if let Some(arrival) = seat.arrival.take() {
                return Poll::Ready(Some(arrival));
            }
            if engine.is_stopped.get() {
                return Poll::Ready(None);
            }
            if !is_listed {
                let oldest = self.state.backlog.borrow_mut().pop_front();
                if oldest.is_some() {
                    return Poll::Ready(oldest);
                }
            }
            if engine.is_over.get() {
                return Poll::Ready(None);
            }
            *seat.waker.borrow_mut() = Some(cx.waker().clone());
            if !std::mem::replace(&mut is_listed, true) {
                self.state.free.borrow_mut().push(Rc::clone(seat));
            }
            Poll::Pending
        })
        .await
    }

    /// One operation. Gives when the connection was free again.
    async fn operate(
        &self,
        connection: &mut Connection,
        arrival: Arrival,
        free_since: Now,
    ) -> Result<Now, Broken> {
        let engine = self.engine;
        let intended = engine.instant(arrival.at).0;
        let deadline = Now(intended).plus(engine.scenario.timeout);
        let sent = clock();
        if deadline.is_over(sent) {
            engine.gave_up(self.group, arrival);
            return Ok(sent);
        }
        connection.begin();
        let exchanged = connection.exchange(deadline).await;
        let ended = match &exchanged {
            Ok(exchanged) => exchanged.last_byte,
            Err(_) => clock(),
        };
        let event = exchanged.as_ref().ok().map(|exchanged| exchanged.event);
        let is_right = matches!(event, Some(Event::More | Event::Ready | Event::Done));
        if is_right {
            engine.answered(self.group, ended);
        }
        engine.record(arrival.stretch, self.group, |record| {
            record.sent += 1;
            record.send_lag.record(sent.0.saturating_sub(intended));
            let could = intended.max(free_since.0);
            record.own_lag.record(sent.0.saturating_sub(could));
            let service = ended.0.saturating_sub(sent.0);
            let response = ended.0.saturating_sub(intended);
            match &exchanged {
                Ok(exchanged) => {
                    record.received += exchanged.received;
                    match exchanged.event {
                        Event::Refused(failure) => {
                            engine.failed(self.group, failure, || connection.said());
                            return record.fail(failure);
                        }
                        Event::Wrong => record.wrong += 1,
                        Event::More | Event::Ready | Event::Done => record.completed += 1,
                    }
                    record.service.record(service);
                    record.response.record(response);
                    if let Some(first) = exchanged.first_byte {
                        let nanos = first.0.saturating_sub(sent.0);
                        record.first_byte.record(nanos);
                    }
                }
                Err(broken) => {
                    engine.failed(self.group, broken.failure, || broken.why.clone());
                    record.fail(broken.failure);
                    if broken.failure == Failure::Timeout {
                        record.response.record(response);
                    }
                }
            }
        });
        exchanged.map(|_| clock())
    }

    /// Connects, logs in and leaves, once for each arrival.
    async fn churn(&self) {
        self.engine.is_ready();
        let seat = Rc::new(Seat::default());
        let mut free_since = clock();
        while let Some(arrival) = self.next(&seat, free_since).await {
            let engine = self.engine;
            let intended = engine.instant(arrival.at).0;
            let sent = clock();
            let opened = self.open(Now(intended).plus(engine.scenario.timeout)).await;
            let ended = clock();
            if let Err(broken) = &opened
                && broken.failure == Failure::Login
            {
                engine.tell(Report::LoginRefused(broken.why.clone()));
            }
            if opened.is_ok() {
                engine.answered(self.group, ended);
            }
            engine.record(arrival.stretch, self.group, |record| {
                record.sent += 1;
                record.send_lag.record(sent.0.saturating_sub(intended));
                let could = intended.max(free_since.0);
                record.own_lag.record(sent.0.saturating_sub(could));
                let response = ended.0.saturating_sub(intended);
                match &opened {
                    Ok(_) => {
                        record.completed += 1;
                        record.service.record(ended.0.saturating_sub(sent.0));
                        record.response.record(response);
                    }
                    Err(broken) => {
                        engine.failed(self.group, broken.failure, || broken.why.clone());
                        record.fail(broken.failure);
                        if broken.failure == Failure::Timeout {
                            record.response.record(response);
                        }
                    }
                }
            });
            if let Ok(connection) = opened {
                connection.close();
            }
            free_since = clock();
        }
    }

    /// Stays logged in until the run ends; comes back when it is thrown out.
    async fn hold(&self) {
        let mut is_first = true;
        while let Some(mut connection) = self.open_at_last(is_first).await {
            if is_first {
                let counted = self.engine.plan.iter().position(|stretch| stretch.counts);
                self.engine
                    .record(counted.unwrap_or_default(), self.group, |record| {
                        record.planned += 1;
                        record.sent += 1;
                        record.completed += 1;
                        record.in_window += 1;
                    });
            }
            is_first = false;
            let mut over = std::pin::pin!(self.engine.until(|engine| engine.is_over.get()));
            let ended = poll_fn(|cx| {
                if let Poll::Ready(broken) = connection.poll_disturbed(cx) {
                    return Poll::Ready(Some(broken));
                }
                over.as_mut().poll(cx).map(|()| None)
            });
            let ended = ended.await;
            self.closed();
            match ended {
                Some(broken) => self.lost(&broken),
                None => return connection.close(),
            }
        }
    }

    /// A connection that was held was lost.
    fn lost(&self, broken: &Broken) {
        let engine = self.engine;
        engine.failed(self.group, broken.failure, || broken.why.clone());
        if let Some(stretch) = engine.stretch_at(engine.elapsed(engine.net.now())) {
            engine.record(stretch, self.group, |record| record.fail(broken.failure));
        }
    }
}
