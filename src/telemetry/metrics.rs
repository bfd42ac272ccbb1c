//! Every metric, declared once: its place in a core's memory, its name, kind, help and labels.
//!
//! `docs/metrics.md` is rendered from this table. Labels come from the configuration (door, placement,
//! endpoint) or from closed lists (reasons): never an address of a client, a user or a statement.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::telemetry::cells::{ByClose, ByPin, Counter, Durations, Gauge, Kind, Sample};
use crate::telemetry::scrape::{Scrape, Value};

/// One metric as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name, with its unit.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The label its parts differ in, beside the group's labels.
    pub part: Option<&'static str>,
}

macro_rules! groups {
    ($(
        $(#[$doc:meta])*
        $group:ident $series:ident [$($label:literal),*] {
            $($(#[doc = $help:literal])+ $field:ident: $kind:ty = $name:literal,)*
        }
    )*) => {
        /// A set of metrics that share their labels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Group { $($(#[$doc])* $group,)* }

        impl Group {
            /// Every group.
            pub const ALL: &[Self] = &[$(Self::$group,)*];

            /// The names of the labels of every series in the group.
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$group => &[$($label),*],)* }
            }

            /// The metrics of every series in the group.
            pub const fn families(self) -> &'static [Family] {
                match self { $(Self::$group => $series::FAMILIES,)* }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Default)]
            pub struct $series { $($(#[doc = $help])+ pub $field: $kind,)* }

            impl $series {
                /// The metrics, in the order of the fields.
                pub const FAMILIES: &[Family] = &[$(Family {
                    name: $name,
                    help: concat!($($help),+),
                    kind: <$kind as Sample>::KIND,
                    part: <$kind as Sample>::LABEL,
                },)*];

                fn sample(&self) -> Vec<Value> {
                    vec![$(self.$field.sample(),)*]
                }
            }
        )*
    };
}

groups! {
    /// What one core does, whatever its doors.
    Core CoreSeries ["core"] {
        /// Panics contained to the connection they happened on.
        panics: Counter = "ringgate_panics_total",
        /// Messages taken out of the core's mailbox.
        messages: Counter = "ringgate_messages_total",
        /// Turns of the network ring.
        turns: Counter = "ringgate_ring_turns_total",
        /// System calls made by the network ring.
        enters: Counter = "ringgate_ring_enters_total",
        /// Receives stopped because no buffer was free.
        starved: Counter = "ringgate_ring_starved_total",
        /// Receive buffers taken back from bytes that only waited, because few were left.
        spared: Counter = "ringgate_receive_buffers_spared_total",
        /// Times a peer was found alive with its window closed.
        windows_closed: Counter = "ringgate_closed_windows_total",
        /// Pauses of accepting because no file descriptor was free.
        accept_pauses: Counter = "ringgate_accept_pauses_total",
        /// Receive buffers that hold unread bytes.
        buffers: Gauge = "ringgate_receive_buffers_in_use",
        /// Sockets open on the core.
        sockets: Gauge = "ringgate_sockets_open",
    }

    /// One listener: its connections and logins.
    Door DoorSeries ["door"] {
        /// Downstream connections accepted.
        accepted: Counter = "ringgate_connections_accepted_total",
        /// Downstream connections open.
        open: Gauge = "ringgate_connections_open",
        /// Downstream connections that ended, by reason.
        closed: ByClose = "ringgate_connections_closed_total",
        /// Logins that succeeded.
        logins: Counter = "ringgate_logins_total",
        /// Time from the connection to the end of its login.
        login_time: Durations = "ringgate_login_seconds",
        /// Bytes received from clients.
        received: Rc<Counter> = "ringgate_downstream_received_bytes_total",
        /// Bytes sent to clients.
        sent: Rc<Counter> = "ringgate_downstream_sent_bytes_total",
        /// Sessions that keep their upstream connection between exchanges.
        pinned: Gauge = "ringgate_sessions_pinned",
    }

    /// The exchanges between one door and one placement.
    Exchange ExchangeSeries ["door", "placement"] {
        /// Exchanges completed or failed.
        exchanges: Counter = "ringgate_exchanges_total",
        /// Exchanges that ended without the server's answer, by reason.
        errors: ByClose = "ringgate_exchange_errors_total",
        /// Exchanges that the server answered with an error.
        server_errors: Counter = "ringgate_server_errors_total",
        /// Sessions that began to keep their upstream connection, by reason.
        pins: ByPin = "ringgate_pins_total",
        /// Time of an exchange spent in the gateway: all that is not waiting for the server.
        gateway: Durations = "ringgate_gateway_seconds",
        /// Time of an exchange from the last byte sent to the server to the last byte of its answer.
        upstream: Durations = "ringgate_upstream_seconds",
        /// Time of an exchange from its first byte to the last byte of its answer.
        total: Durations = "ringgate_exchange_seconds",
    }

    /// One endpoint: its pool, leases and connections.
    Endpoint EndpointSeries ["placement", "endpoint"] {
        /// Upstream connections open.
        open: Gauge = "ringgate_upstream_connections_open",
        /// Upstream connections open that nobody uses.
        idle: Gauge = "ringgate_upstream_connections_idle",
        /// Upstream connections leased to a session.
        leased: Gauge = "ringgate_upstream_connections_leased",
        /// Upstream connections being made.
        connecting: Gauge = "ringgate_upstream_connections_connecting",
        /// Permits for upstream connections that the cores own.
        permits: Gauge = "ringgate_upstream_permits",
        /// Permits taken over from another core.
        permits_moved: Counter = "ringgate_upstream_permits_moved_total",
        /// Idle upstream connections handed over to another core.
        lent: Counter = "ringgate_upstream_connections_lent_total",
        /// Upstream connections made and logged in.
        connects: Counter = "ringgate_upstream_connects_total",
        /// Attempts to make an upstream connection that failed.
        connect_failures: Counter = "ringgate_upstream_connect_failures_total",
        /// Time to make an upstream connection, login included.
        connect_time: Durations = "ringgate_upstream_connect_seconds",
        /// Upstream connections that ended, by reason.
        closed: ByClose = "ringgate_upstream_connections_closed_total",
        /// Connections that sessions left with state on them, and that were cleansed of it.
        cleansed: Counter = "ringgate_upstream_connections_cleansed_total",
        /// Connections that the endpoint was told to kill, as they ended in the middle of a statement.
        kills: Counter = "ringgate_upstream_kills_total",
        /// Connections that ended in the middle of a statement and could not be killed.
        kill_failures: Counter = "ringgate_upstream_kill_failures_total",
        /// Sessions that wait for an upstream connection.
        waiting: Gauge = "ringgate_leases_waiting",
        /// Upstream connections leased to a session so far.
        leases: Counter = "ringgate_leases_total",
        /// Sessions turned away because too many wait already.
        leases_refused: Counter = "ringgate_leases_refused_total",
        /// Sessions that were told `pool_overload`, as their queue stood (`deadlines.pool_wait_target`).
        leases_turned_away: Counter = "ringgate_leases_turned_away_total",
        /// Time a session waited for an upstream connection.
        lease_wait: Durations = "ringgate_lease_wait_seconds",
        /// Statements prepared on the endpoint: by clients, and again on other connections for them.
        prepares: Counter = "ringgate_upstream_prepares_total",
        /// Exchanges and logins that had to change an upstream connection's session state first.
        restores: Counter = "ringgate_state_restores_total",
        /// Bytes received from the endpoint.
        received: Rc<Counter> = "ringgate_upstream_received_bytes_total",
        /// Bytes sent to the endpoint.
        sent: Rc<Counter> = "ringgate_upstream_sent_bytes_total",
    }
}

/// A metric of the whole node, counted by the control thread, with its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFamily {
    /// Name, help and kind.
    pub family: Family,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

macro_rules! node_families {
    ($($name:ident: $kind:ident [$($label:literal),*] = $metric:literal, $help:literal;)*) => {
        /// The node's own metrics.
        pub mod node {
            use super::{Family, Kind, NodeFamily};

            $(
                #[doc = $help]
                pub const $name: NodeFamily = NodeFamily {
                    family: Family { name: $metric, help: $help, kind: Kind::$kind, part: None },
                    labels: &[$($label),*],
                };
            )*

            /// Every metric of the node.
            pub const ALL: &[NodeFamily] = &[$($name,)*];
        }
    };
}

node_families! {
    BUILD: Gauge ["version"] = "ringgate_build_info", "The running version; always 1.";
    READY: Gauge [] = "ringgate_ready", "1 while the node takes new connections.";
    DRAINING: Gauge [] = "ringgate_draining", "1 once the node was asked to end.";
    CORES: Gauge [] = "ringgate_cores", "Cores that serve.";
    STALLED: Gauge ["core"] = "ringgate_core_stalled", "1 while the core does not turn.";
    UNANSWERED: Gauge [] = "ringgate_scrape_unanswered_cores",
        "Cores whose numbers are missing on this page because they did not answer in time.";
    GENERATION: Gauge [] = "ringgate_configuration_generation", "Configurations applied since the start, the first included.";
    RELOADS_REFUSED: Counter [] = "ringgate_reloads_refused_total", "Reloads refused; the old configuration serves on.";
    RESOLVE_FAILURES: Counter [] = "ringgate_resolve_failures_total", "Failed look-ups of endpoints' host names.";
    MAILBOX_REFUSED: Counter [] = "ringgate_mailbox_refused_total", "Messages that a full mailbox refused.";
    LOG_DROPPED: Counter [] = "ringgate_log_lines_dropped_total", "Log lines dropped because the sink was too slow.";
    CPU: Counter [] = "ringgate_process_cpu_seconds_total", "CPU time of the process, user and system.";
    RESIDENT: Gauge [] = "ringgate_process_resident_memory_bytes", "Memory of the process that is in RAM.";
    DESCRIPTORS: Gauge [] = "ringgate_process_open_fds", "File descriptors open.";
    DESCRIPTORS_MAX: Gauge [] = "ringgate_process_max_fds", "File descriptors that may be open.";
    UPTIME: Gauge [] = "ringgate_process_uptime_seconds", "Time since the process began to start.";
}

/// The table of all metrics as `docs/metrics.md` shows it.
pub fn reference() -> String {
    let mut text = String::from(REFERENCE_HEAD);
    let mut row = |family: &Family, labels: &[&str]| {
        let labels: Vec<_> = labels
            .iter()
            .copied()
            .chain(family.part)
            .map(|label| format!("`{label}`"))
            .collect();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            family.name,
            family.kind.word(),
            labels.join(" "),
            family.help.trim()
        ));
    };
    for group in Group::ALL {
        for family in group.families() {
            row(family, group.labels());
        }
    }
    for node in node::ALL {
        row(&node.family, node.labels);
    }
    text
}

const REFERENCE_HEAD: &str = "\
# Metrics

`GET /metrics` on the admin listener answers in Prometheus' text format, version 0.0.4. Numbers are
counted per core and added up when the page is asked for. Histograms have buckets from 25 µs to 10 s.
Labels come from the configuration or from closed lists; no label holds a client's address, a user or
a statement. This page is rendered from `src/telemetry/metrics.rs` and checked by a test.

| name | kind | labels | what it counts |
|---|---|---|---|
";

type Registry<K, S> = RefCell<HashMap<K, Rc<S>, foldhash::fast::RandomState>>;

/// One core's numbers. Series are made on first use, when a core takes a snapshot over, and held by
/// those who count: counting is an addition to a cell.
#[derive(Debug)]
pub struct CoreMetrics {
    id: u16,
    core: CoreSeries,
    doors: Registry<Arc<str>, DoorSeries>,
    exchanges: Registry<(Arc<str>, Arc<str>), ExchangeSeries>,
    endpoints: Registry<(Arc<str>, Arc<str>), EndpointSeries>,
}

impl CoreMetrics {
    /// All zero, for the core with number `id`.
    pub fn new(id: u16) -> Self {
        Self {
            id,
            core: CoreSeries::default(),
            doors: RefCell::default(),
            exchanges: RefCell::default(),
            endpoints: RefCell::default(),
        }
    }

    /// The core's own series.
    pub fn core(&self) -> &CoreSeries {
        &self.core
    }

    /// The series of a listener, by its name in the configuration.
    pub fn door(&self, door: &str) -> Rc<DoorSeries> {
        Rc::clone(self.doors.borrow_mut().entry(door.into()).or_default())
    }

    /// The series of the exchanges between a listener and a placement, by their names in the configuration.
    pub fn exchanges(&self, door: &str, placement: &str) -> Rc<ExchangeSeries> {
        let key = (door.into(), placement.into());
        Rc::clone(self.exchanges.borrow_mut().entry(key).or_default())
    }

    /// The series of an endpoint, by its placement's name and its `host:port` in the configuration.
    pub fn endpoint(&self, placement: &str, endpoint: &str) -> Rc<EndpointSeries> {
        let key = (placement.into(), endpoint.into());
        Rc::clone(self.endpoints.borrow_mut().entry(key).or_default())
    }

    /// A copy of every number.
    pub fn scrape(&self) -> Scrape {
        let mut scrape = Scrape::default();
        let id = Arc::from(self.id.to_string());
        scrape.insert(Group::Core, vec![id], self.core.sample());
        for (door, series) in self.doors.borrow().iter() {
            scrape.insert(Group::Door, vec![Arc::clone(door)], series.sample());
        }
        for ((door, placement), series) in self.exchanges.borrow().iter() {
            let labels = vec![Arc::clone(door), Arc::clone(placement)];
            scrape.insert(Group::Exchange, labels, series.sample());
        }
        for ((placement, endpoint), series) in self.endpoints.borrow().iter() {
            let labels = vec![Arc::clone(placement), Arc::clone(endpoint)];
            scrape.insert(Group::Endpoint, labels, series.sample());
        }
        scrape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_say_their_unit() {
        let mut names = Vec::new();
        let of_cores = Group::ALL.iter().flat_map(|group| group.families());
        for family in of_cores.chain(node::ALL.iter().map(|node| &node.family)) {
            assert!(family.name.starts_with("ringgate_"), "{}", family.name);
            let total = family.name.ends_with("_total");
            assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
            let seconds = family.name.ends_with("_seconds");
            assert!(seconds || family.kind != Kind::Histogram, "{}", family.name);
            assert!(family.help.trim().ends_with('.'), "{}", family.name);
            names.push(family.name);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("RINGGATE_WRITE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            page,
            reference(),
            "run with RINGGATE_WRITE_DOCS=1 to rewrite it"
        );
    }

    #[test]
    fn the_same_name_gives_the_same_series() {
        let metrics = CoreMetrics::new(0);
        metrics.door("main").accepted.inc();
        metrics.door("main").accepted.inc();
        assert_eq!(metrics.door("main").accepted.get(), 2);
        assert_eq!(metrics.door("other").accepted.get(), 0);
    }
}
