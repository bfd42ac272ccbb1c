//! The admin listener: `/metrics`, `/livez`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::process;
use super::status::{Phase, Status};
use crate::door::message::{CoreMessage, Mailboxes, Reply};
use crate::telemetry::metrics::node;
use crate::telemetry::prometheus::{CONTENT_TYPE, Page};
use crate::telemetry::scrape::Scrape;

/// How long a core may take to answer a scrape.
const SCRAPE: Duration = Duration::from_millis(500);

/// What the admin listener answers from.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) status: Arc<Status>,
    pub(super) mailboxes: Mailboxes,
}

/// Answers on `listener` for ever.
pub(super) async fn answer(listener: tokio::net::TcpListener, desk: Desk) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(desk);
    axum::serve(listener, routes).await
}

async fn ready(State(desk): State<Desk>) -> impl IntoResponse {
    match desk.status.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(desk): State<Desk>) -> impl IntoResponse {
    let (scrape, unanswered) = collect(&desk).await;
    let mut page = Page::default();
    page.scrape(&scrape);
    write_node(&mut page, &desk, unanswered);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.into_text())
}

/// Asks every living core for its numbers, all at once. Also how many did not answer in time.
async fn collect(desk: &Desk) -> (Scrape, usize) {
    let until = Instant::now() + SCRAPE;
    let mut answers = Vec::new();
    let mut unanswered = 0;
    for core in desk.mailboxes.ids() {
        if desk.status.has_ended(usize::from(core.0)) {
            continue;
        }
        let (answer, answered) = oneshot::channel();
        let reply = Reply::new(move |scrape| {
            // The asker may have stopped waiting.
            let _too_late = answer.send(scrape);
        });
        match desk.mailboxes.send(core, CoreMessage::Scrape(reply)) {
            Ok(()) => answers.push(answered),
            Err(_) => unanswered += 1,
        }
    }
    let mut merged = Scrape::default();
    for answered in answers {
        match timeout_at(until, answered).await {
            Ok(Ok(scrape)) => merged.merge(scrape),
            _ => unanswered += 1,
        }
    }
    (merged, unanswered)
}

fn write_node(page: &mut Page, desk: &Desk, unanswered: usize) {
    let Desk { status, mailboxes } = desk;
    let draining = status.phase() == Phase::Draining;
    let figures = process::figures();
    let dropped = crate::telemetry::log::node().map_or(0, |log| log.dropped());
    let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let ready = u8::from(status.unready().is_none());
    page.single(&node::BUILD.family, &version, 1);
    page.single(&node::READY.family, &[], ready);
    page.single(&node::DRAINING.family, &[], u8::from(draining));
    page.single(&node::CORES.family, &[], status.living());
    page.head(&node::STALLED.family);
    for (core, state) in status.cores.iter().enumerate() {
        let stalled = u8::from(state.stalled.load(Ordering::Acquire));
        page.sample(
            node::STALLED.family.name,
            &[("core", &core.to_string())],
            stalled,
        );
    }
    page.single(&node::UNANSWERED.family, &[], unanswered);
    page.single(&node::GENERATION.family, &[], load(&status.generation));
    page.single(
        &node::RELOADS_REFUSED.family,
        &[],
        load(&status.reloads_refused),
    );
    page.single(
        &node::RESOLVE_FAILURES.family,
        &[],
        load(&status.resolve_failures),
    );
    page.single(&node::MAILBOX_REFUSED.family, &[], mailboxes.refused());
    page.single(&node::LOG_DROPPED.family, &[], dropped);
    page.single(&node::CPU.family, &[], figures.cpu.as_secs_f64());
    page.single(&node::RESIDENT.family, &[], figures.resident);
    page.single(&node::DESCRIPTORS.family, &[], figures.descriptors);
    page.single(&node::DESCRIPTORS_MAX.family, &[], status.descriptors_max);
    page.single(
        &node::UPTIME.family,
        &[],
        status.started.elapsed().as_secs_f64(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::CoreMetrics;

    fn desk(cores: u16) -> (Desk, Vec<crate::core::mailbox::Mailbox<CoreMessage>>) {
        let (mailboxes, receivers) = Mailboxes::new(cores);
        let status = Status::new(usize::from(cores), std::time::Instant::now(), 1024);
        let status = Arc::new(status);
        (Desk { status, mailboxes }, receivers)
    }

    #[test]
    fn cores_that_answer_are_merged_and_silent_ones_are_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let (desk, mut receivers) = desk(4);
            desk.status.set_ended(3);
            // Core 0 and 1 answer, core 2 has the message and never does.
            let silent = receivers.remove(2);
            for core in 0..2 {
                let mut mailbox = receivers.remove(0);
                tokio::spawn(async move {
                    loop {
                        if let Some(CoreMessage::Scrape(reply)) = mailbox.take() {
                            let metrics = CoreMetrics::new(core);
                            metrics.door("main").accepted.inc();
                            reply.send(metrics.scrape());
                        }
                        tokio::task::yield_now().await;
                    }
                });
            }
            let (scrape, unanswered) = collect(&desk).await;
            assert_eq!(unanswered, 1);
            let mut page = Page::default();
            page.scrape(&scrape);
            let text = page.into_text();
            assert!(
                text.contains("ringgate_connections_accepted_total{door=\"main\"} 2\n"),
                "{text}"
            );
            drop(silent);
        });
    }

    #[test]
    fn every_metric_of_the_node_is_written_once() {
        let (desk, _receivers) = desk(2);
        desk.status.set_stalled(1, true);
        let mut page = Page::default();
        write_node(&mut page, &desk, 0);
        let text = page.into_text();
        for family in node::ALL {
            let head = format!("# TYPE {} ", family.family.name);
            assert_eq!(text.matches(&head).count(), 1, "{head}\n{text}");
        }
        assert!(text.contains("ringgate_core_stalled{core=\"1\"} 1\n"));
        assert!(text.contains("ringgate_ready 0\n"));
    }
}
