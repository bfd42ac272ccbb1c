//! The checked configuration: immutable, `Send + Sync`, shared by every core as one `Arc`.
//!
//! What is here has been validated whole: every id points somewhere, every tenant has a placement
//! and a credential for it, no two settings contradict each other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::address::{Address, Destination};
use crate::base::credential::{AuthPlugin, Verifier};
use crate::base::ident::{EndpointIndex, PlacementId, TenantId};
use crate::base::secret::Secret;

/// One validated configuration. Equal snapshots came from equivalent files and secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which CPUs get a core.
    pub cores: Cores,
    /// Settings of the process as a whole.
    pub node: Node,
    /// The doors, in the order of their names.
    pub listeners: Vec<Listener>,
    /// Where metrics and health are served.
    pub admin: Admin,
    /// How long each wait may take.
    pub deadlines: Deadlines,
    /// What is logged and where.
    pub logging: Logging,
    /// Sizes of pools and of what they hold.
    pub pools: Pools,
    /// Sizes of the network ring's memory.
    pub buffers: Buffers,
    /// Placements by [`PlacementId`].
    pub placements: Vec<Placement>,
    /// The endpoints of all placements by [`EndpointIndex`].
    pub endpoints: Vec<Endpoint>,
    /// Where tenants without a placement of their own go.
    pub hash: Option<HashRule>,
    /// Tenants by [`TenantId`], in the order of their names.
    pub tenants: Vec<Tenant>,
    /// Who may log in.
    pub users: Users,
}

impl Snapshot {
    /// The placement with this id; `None` for an id of another snapshot.
    pub fn placement(&self, id: PlacementId) -> Option<&Placement> {
        self.placements.get(usize::try_from(id.0).ok()?)
    }

    /// The endpoint with this id; `None` for an id of another snapshot.
    pub fn endpoint(&self, id: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(usize::try_from(id.0).ok()?)
    }

    /// The tenant with this id; `None` for an id of another snapshot.
    pub fn tenant(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(usize::try_from(id.0).ok()?)
    }

    /// The account with which `tenant` logs in at `placement`: its own, else the placement's.
    pub fn upstream(&self, tenant: TenantId, placement: PlacementId) -> Option<&Upstream> {
        self.tenant(tenant)?
            .upstream
            .as_ref()
            .or(self.placement(placement)?.upstream.as_ref())
    }

    /// Whether nobody else logs in with the upstream account of `tenant`: it has one of its own, a
    /// single user, and a name for it that no placement and no other tenant uses.
    pub fn has_own_account(&self, tenant: TenantId) -> bool {
        let own = self.tenant(tenant).and_then(|own| own.upstream.as_ref());
        let Some(own) = own else {
            return false;
        };
        let is_used = |upstream: &Option<Upstream>| {
            upstream
                .as_ref()
                .is_some_and(|other| other.user == own.user)
        };
        let of_tenants = self
            .tenants
            .iter()
            .filter(|tenant| is_used(&tenant.upstream));
        let users = self
            .users
            .list()
            .iter()
            .filter(|user| user.tenant == tenant);
        of_tenants.count() == 1
            && users.count() == 1
            && !self.placements.iter().any(|place| is_used(&place.upstream))
    }

    /// How many clients the tenant of this name may have, if that is bounded.
    pub fn connections_max(&self, tenant: &str) -> Option<u32> {
        let by_name = |known: &Tenant| known.name.as_str().cmp(tenant);
        let index = self.tenants.binary_search_by(by_name).ok()?;
        self.tenants.get(index)?.connections_max
    }

    /// How long one statement of `tenant` may run; `None` when nothing bounds it.
    pub fn statement_deadline(&self, tenant: TenantId) -> Option<Duration> {
        match self.tenant(tenant).and_then(|tenant| tenant.statement) {
            Some(own) => (!own.is_zero()).then_some(own),
            None => self.deadlines.statement,
        }
    }
}

/// Which CPUs get a core (a pinned executor).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// One core for each CPU of the process's affinity mask.
    #[default]
    EachCpu,
    /// This many cores on the first CPUs of the affinity mask.
    Count(u16),
    /// One core on each of these CPUs: ascending, without repetition.
    Cpus(Vec<u16>),
}

/// Settings of the process as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How long exchanges may still finish after a drain order.
    pub drain_grace: Duration,
    /// The version told to clients; `None` to learn it from an upstream.
    pub server_version: Option<String>,
    /// Where this node stands: endpoints of the same zone are near. Empty when not stated.
    pub zone: String,
}

/// The protocol that a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The MySQL client/server protocol.
    Mysql,
}

impl Protocol {
    /// The name in the configuration and in metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
        }
    }
}

/// One door. Every core listens on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in the file, logs and metrics.
    pub name: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where it listens; port 0 lets the kernel choose.
    pub address: Address,
    /// Permissions of a Unix socket's file: who may write to it may connect. Nothing to TCP.
    pub mode: u32,
    /// Connections that the kernel may queue before they are accepted: per core, or on the Unix socket.
    pub backlog: u32,
    /// Connections open at once, over all cores.
    pub connections_max: u32,
    /// Options of the accepted sockets.
    pub socket: SocketSettings,
}

/// Options of a listener's or a placement's sockets. Unix sockets have the buffers' sizes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Idle time before keep-alive probes start; `None` for no probes.
    pub keepalive: Option<Duration>,
    /// Time between keep-alive probes.
    pub keepalive_interval: Duration,
    /// Unanswered probes before the connection counts as lost. With a `user_timeout` the kernel counts
    /// time instead: the first probe that finds the peer silent for so long.
    pub keepalive_count: u32,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged by a peer that does not answer;
    /// a second at least; `None` for the kernel's own.
    pub user_timeout: Option<Duration>,
    /// `SO_RCVBUF` in bytes; `None` lets the kernel tune it.
    pub receive_buffer: Option<u32>,
    /// `SO_SNDBUF` in bytes; `None` lets the kernel tune it.
    pub send_buffer: Option<u32>,
    /// `TCP_CONGESTION`, by the kernel's name; `None` for the system's default.
    pub congestion: Option<String>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// A loopback address; port 0 lets the kernel choose.
    pub address: SocketAddr,
}

/// How long each wait may take. `None` means that nothing bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From accept to the end of the client's login.
    pub login: Duration,
    /// One connect to one address of an endpoint.
    pub connect: Duration,
    /// All connect attempts for one lease together.
    pub connect_total: Duration,
    /// Waiting for an upstream connection.
    pub pool_wait: Duration,
    /// Such a wait where more come than are served.
    pub pool_wait_target: Option<Duration>,
    /// The gateway's own login at an upstream.
    pub upstream_login: Duration,
    /// One statement, unless the tenant says otherwise.
    pub statement: Option<Duration>,
    /// A client that does not read what was sent to it.
    pub write_stall: Duration,
    /// A client that sends nothing.
    pub idle_client: Option<Duration>,
    /// A client that sends nothing while its transaction, or something like one, is open.
    pub transaction_idle: Option<Duration>,
    /// A client whose user a reload has removed; `None`: it stays as long as it likes.
    pub removed_user: Option<Duration>,
    /// Sending what is queued when a connection is closed.
    pub linger: Duration,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// What may need one soon.
    Warn,
    /// What the node does as a whole.
    Info,
    /// What each connection does.
    Debug,
}

impl LogLevel {
    /// Every level, from the quietest.
    pub const ALL: &[Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// The name in the configuration and in log lines.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

impl LogTarget {
    /// The name in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
        }
    }
}

/// What is logged and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The most talkative level that is written.
    pub level: LogLevel,
    /// Where lines go.
    pub target: LogTarget,
}

/// Sizes of pools and of what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Clients that may wait for a connection, per core and endpoint.
    pub waiters_max: u32,
    /// How long a pooled connection may be idle.
    pub idle_max: Duration,
    /// How old a pooled connection may become.
    pub age_max: Duration,
    /// Prepared statements kept per upstream connection (least recently used goes first).
    pub statements_max: u32,
    /// Prepared statements open per client.
    pub statements_per_client_max: u32,
}

/// Sizes of the network ring's memory, per core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Receive buffers, a ceiling: half of them for clients and half for servers.
    pub count: u16,
    /// Bytes of one receive buffer.
    pub bytes: u32,
    /// Received, unread bytes of one connection above which its receive is paused.
    pub unread_max: u32,
}

/// A named group of endpoints that hold the same data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its name in the file, logs and metrics.
    pub name: String,
    /// The endpoints, as indexes into [`Snapshot::endpoints`].
    pub endpoints: Vec<EndpointIndex>,
    /// The account used for tenants that bring none.
    pub upstream: Option<Upstream>,
    /// Options of the sockets to its endpoints.
    pub socket: SocketSettings,
}

/// What an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointRole {
    /// Reads and writes.
    Primary,
    /// Reads.
    Replica,
}

impl EndpointRole {
    /// The name in the configuration and in metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// One address of a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The placement it belongs to.
    pub placement: PlacementId,
    /// Where it is.
    pub destination: Destination,
    /// What it may be asked.
    pub role: EndpointRole,
    /// Where it stands; empty when not stated.
    pub zone: String,
    /// Its share of the load among equals; 0 takes it out of the choice.
    pub weight: u16,
    /// Upstream connections to it, node wide.
    pub budget: u32,
}

impl Endpoint {
    /// The destination as the configuration writes it: for logs and metric labels.
    pub fn address(&self) -> String {
        self.destination.to_string()
    }
}

/// The consistent hash that places tenants without a placement of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRule {
    /// The version of the algorithm.
    pub version: u32,
    /// Changes where every key goes.
    pub seed: u64,
    /// The placements hashed over, in the order of their names.
    pub placements: Vec<PlacementId>,
}

/// An account at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The user's name.
    pub user: String,
    /// The password; empty for an account without one.
    pub password: Secret,
    /// Equal for equal accounts, different when the name or the password changed. A pool key's
    /// part; derived from the password, so not for printing.
    pub version: CredentialVersion,
}

/// Tells one state of an account from another. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialVersion(pub u64);

impl std::fmt::Debug for CredentialVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Whose data a user sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name: the routing key.
    pub name: String,
    /// Its placement; `None` to hash its name.
    pub placement: Option<PlacementId>,
    /// The schema that its sessions begin with.
    pub schema: Option<String>,
    /// Its own account at the upstreams.
    pub upstream: Option<Upstream>,
    /// Client connections of all its users, node wide; `None` for no bound of its own.
    pub connections_max: Option<u32>,
    /// Connections that its clients may hold of an endpoint at once, over all cores; `None` for as many as
    /// there are.
    pub connections_upstream_max: Option<u32>,
    /// Its own statement deadline; zero for none, `None` for [`Deadlines::statement`].
    pub statement: Option<Duration>,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name on the wire.
    pub name: String,
    /// Whose data this user sees.
    pub tenant: TenantId,
    /// The plugin that the client is asked for.
    pub plugin: AuthPlugin,
    /// What a password is verified against.
    pub verifier: Verifier,
}

/// Users by name. Names are compared byte for byte, as MySQL does.
#[derive(Clone, Default)]
pub struct Users {
    list: Vec<User>,
    by_name: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    of_sha2_count: usize,
}

impl Users {
    /// Takes users over; a repeated name keeps its first user (TOML refuses repetition anyway).
    pub fn new(list: impl IntoIterator<Item = User>) -> Self {
        let mut users = Self::default();
        for user in list {
            let name = user.name.as_bytes().into();
            if let std::collections::hash_map::Entry::Vacant(free) = users.by_name.entry(name) {
                free.insert(users.list.len());
                users.of_sha2_count += usize::from(user.plugin == AuthPlugin::CachingSha2);
                users.list.push(user);
            }
        }
        users
    }

    /// The user with this name and its index in [`Users::list`].
    pub fn find(&self, name: &[u8]) -> Option<(usize, &User)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.list.get(index)?))
    }

    /// The plugin that most of them have; that of servers of old if there are as many of each.
    pub fn usual_plugin(&self) -> AuthPlugin {
        if self.of_sha2_count > self.list.len() / 2 {
            AuthPlugin::CachingSha2
        } else {
            AuthPlugin::Native
        }
    }

    /// The user at this index.
    pub fn get(&self, index: usize) -> Option<&User> {
        self.list.get(index)
    }

    /// All users, in the order of their names.
    pub fn list(&self) -> &[User] {
        &self.list
    }
}

impl PartialEq for Users {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Users {}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}
