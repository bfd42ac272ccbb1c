//! Where a logged-in client's statements go: its tenant, placement, endpoint and pool.

use std::rc::Rc;
use std::sync::Arc;

use super::Door;
use super::upstream::{EndpointState, PoolState, UpstreamLogin};
use super::world::{Replica, World};
use crate::base::codes::Event;
use crate::base::ident::{PlacementId, TenantId};
use crate::pool::Key;
use crate::route::Wanted;
use crate::session::mysql::connect::ConnectConfig;
use crate::session::mysql::conversation::Limits;
use crate::session::mysql::downstream::Session;
use crate::session::mysql::login::LoginResult;
use crate::telemetry::metrics::ExchangeSeries;
use crate::upstream::Target;
use crate::wire::mysql::flags::caps;

/// Set in [`Key::capabilities`] for connections that were never in a schema: a session without one
/// must not find itself in somebody's.
const WITHOUT_SCHEMA: u64 = 1 << 63;

/// Capabilities that are fixed at connect and change what statements mean or how replies look: part of a
/// pool's key. Others move with their session: IGNORE_SPACE and INTERACTIVE are variables
/// (`session::mysql::baseline`), MULTI_STATEMENTS goes by COM_SET_OPTION.
const FIXED_AT_CONNECT: u32 =
    caps::FOUND_ROWS | caps::NO_SCHEMA | caps::MULTI_RESULTS | caps::PS_MULTI_RESULTS;

/// Asked for on every upstream connection whatever its clients know: what they do not is taken out of
/// replies, or put in.
const ALWAYS_WANTED: u32 = caps::SESSION_TRACK | caps::TRANSACTIONS | caps::DEPRECATE_EOF;

/// The longest packet announced to upstreams, bytes.
const MAX_PACKET: u32 = 1 << 30;

/// The collation of upstream logins (utf8mb4_general_ci): every server knows it; a session's own is
/// set with the rest of its state.
const LOGIN_COLLATION: u8 = 45;

/// A tenant's place in one snapshot.
pub(super) struct Place {
    pub(super) replica: Rc<Replica>,
    tenant: TenantId,
    placement: PlacementId,
    capabilities: u32,
    metrics: Rc<ExchangeSeries>,
    door: Rc<Door>,
    user: Box<[u8]>,
}

impl Place {
    /// The place of the account that has logged in.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(super) fn find(world: &World, door: &Rc<Door>, login: &LoginResult) -> Result<Self, Event> {
        let replica = world.replica();
        let account = replica
            .snapshot
            .users
            .find(&login.user_name)
            .map(|(_, account)| account);
        let tenant = account.ok_or(Event::NoEndpoint)?.tenant;
        let placement = replica
            .routing
            .placement_of(tenant)
            .ok_or(Event::NoEndpoint)?;
        let name = replica
            .snapshot
            .placement(placement)
            .ok_or(Event::NoEndpoint)?
            .name
            .clone();
        let metrics = world.metrics.exchanges(&door.name, &name);
        let capabilities = login.caps & FIXED_AT_CONNECT;
        let door = Rc::clone(door);
        Ok(Self {
            replica,
            tenant,
            placement,
            capabilities,
            metrics,
            door,
            user: login.user_name.as_slice().into(),
        })
    }

    /// The schema of sessions that name none.
    pub(super) fn default_schema(&self) -> Option<&[u8]> {
        let tenant = self.replica.snapshot.tenant(self.tenant)?;
        tenant.schema.as_deref().map(str::as_bytes)
    }

    /// Picks an endpoint. `None` when the placement has none that this role may use.
    pub(super) fn admit(
        self,
        world: &Rc<World>,
        session: &Session,
        connection_id: u32,
    ) -> Option<Admitted> {
        let upstream = self
            .replica
            .snapshot
            .upstream(self.tenant, self.placement)?;
        let tenant = self.replica.snapshot.tenant(self.tenant)?;
        let capabilities = self.capabilities;
        let config = || {
            Arc::new(ConnectConfig {
                user: upstream.user.clone(),
                password: upstream.password.clone(),
                caps_wanted: capabilities | ALWAYS_WANTED,
                collation: LOGIN_COLLATION,
                schema: None,
                attributes: vec![("program_name".into(), "ringgate".into())],
                max_packet: MAX_PACKET,
                trusted_key_pem: None,
                allow_rsa_from_server: true,
                transport_is_private: false,
            })
        };
        let key = Key {
            tenant: tenant.name.as_str().into(),
            user: upstream.user.as_str().into(),
            credential_version: upstream.version.0,
            capabilities: u64::from(capabilities),
        };
        let target = primary_of(self.placement);
        let endpoint = self.replica.routing.pick(&world.core, target)?;
        let login = || {
            let shared = &world.upstreams.shared;
            Rc::new(UpstreamLogin {
                config: config(),
                statements_max: Rc::clone(&shared.statements_max),
                realms: Rc::clone(&shared.realms),
                known: shared.known.of(&endpoint.name, &upstream.user),
            })
        };
        let key = with_schema(&key, session.vector().schema().is_some());
        let pool = endpoint.pool(&key, login);
        Some(Admitted {
            connection_id,
            tenant: self.tenant,
            target,
            replica: self.replica,
            pool,
            left_at: None,
            metrics: self.metrics,
            door: self.door,
            user: self.user,
        })
    }
}

/// A client's place, with the pool it leases from. The tenant's name and the upstream login are the pool's: a
/// client that had its own would pay for them as long as it idles.
pub(super) struct Admitted {
    pub(super) connection_id: u32,
    pub(super) tenant: TenantId,
    target: Target,
    pub(super) replica: Rc<Replica>,
    /// The pool of the current lease, or of the last one.
    pub(super) pool: Rc<PoolState>,
    /// Where the session has left something on a connection that it may still read.
    pub(super) left_at: Option<Rc<PoolState>>,
    pub(super) metrics: Rc<ExchangeSeries>,
    pub(super) door: Rc<Door>,
    /// The name that the client has logged in with.
    user: Box<[u8]>,
}

impl Admitted {
    /// Whether the newest configuration has the client's user no more, or as one of another tenant.
    pub(super) fn is_removed(&self, world: &World) -> bool {
        let newest = world.replica();
        let user = newest.snapshot.users.find(&self.user);
        let tenant = user.and_then(|(_, user)| newest.snapshot.tenant(user.tenant));
        tenant.is_none_or(|tenant| *tenant.name != *self.tenant_name())
    }

    /// The tenant's name in the configuration.
    pub(super) fn tenant_name(&self) -> &str {
        &self.pool.key.tenant
    }

    /// How long this client's waits may take, by the newest configuration.
    pub(super) fn limits(&self, world: &World) -> Limits {
        let newest = world.replica();
        let deadlines = &newest.snapshot.deadlines;
        let statement = match self.tenant_in(&newest) {
            Some(tenant) => newest.snapshot.statement_deadline(tenant),
            // A tenant that is gone from it keeps what it had.
            None => self.replica.snapshot.statement_deadline(self.tenant),
        };
        Limits {
            pool_wait: deadlines.pool_wait,
            statement,
            write_stall: deadlines.write_stall,
            idle_client: deadlines.idle_client,
            transaction_idle: deadlines.transaction_idle,
        }
    }

    /// The upstream account by the newest configuration, if it is not this client's own.
    pub(super) fn shared_account(&self, world: &World) -> Option<Arc<str>> {
        let newest = world.replica();
        let in_use = &self.pool.key.user;
        let Some(tenant) = self.tenant_in(&newest) else {
            return Some(Arc::clone(in_use));
        };
        if newest.snapshot.has_own_account(tenant) {
            return None;
        }
        let placement = newest.routing.placement_of(tenant);
        let upstream = placement.and_then(|place| newest.snapshot.upstream(tenant, place));
        match upstream.filter(|upstream| *upstream.user != **in_use) {
            Some(upstream) => Some(upstream.user.as_str().into()),
            None => Some(Arc::clone(in_use)),
        }
    }

    /// The pool for the session's next lease: of the newest snapshot, at an endpoint that is chosen for
    /// this lease; with `prefer_last` where the session has left what it reads now. `None` if there is
    /// none.
    pub(super) fn pool_now(
        &mut self,
        world: &Rc<World>,
        session: &Session,
        prefer_last: bool,
    ) -> Option<Rc<PoolState>> {
        self.follow(world);
        let left_at = self.left_at.as_ref().filter(|_| prefer_last);
        if let Some(left_at) = left_at.filter(|pool| pool.endpoint.is_usable(world.net().now())) {
            self.pool = Rc::clone(left_at);
        } else {
            let endpoint = self.replica.routing.pick(&world.core, self.target)?;
            if !Rc::ptr_eq(&endpoint, &self.pool.endpoint) {
                self.pool = self.same_pool_at(&endpoint, &self.pool.key);
            }
        }
        let has_schema = session.wants_schema();
        Some(
            self.pool_for(has_schema)
                .unwrap_or_else(|| Rc::clone(&self.pool)),
        )
    }

    /// The pool for connections with or without a schema, if it is another than the current one.
    pub(super) fn pool_for(&self, has_schema: bool) -> Option<Rc<PoolState>> {
        let is_without = self.pool.key.capabilities & WITHOUT_SCHEMA != 0;
        if has_schema != is_without {
            return None;
        }
        let key = with_schema(&self.pool.key, has_schema);
        Some(self.same_pool_at(&self.pool.endpoint, &key))
    }

    /// A pool of connections that log in as those of the current one do.
    fn same_pool_at(&self, endpoint: &Rc<EndpointState>, key: &Key) -> Rc<PoolState> {
        endpoint.pool(key, || Rc::clone(&self.pool.login))
    }

    /// The client's tenant in a snapshot.
    fn tenant_in(&self, replica: &Replica) -> Option<TenantId> {
        let mut tenants = replica.snapshot.tenants.iter().zip(0_u32..);
        let (_, index) = tenants.find(|(tenant, _)| *tenant.name == *self.tenant_name())?;
        Some(TenantId(index))
    }

    /// Moves on to the newest snapshot, unless it is there already; not while a connection is leased. A tenant that is
    /// gone from it keeps its old place until its clients leave.
    pub(super) fn follow(&mut self, world: &Rc<World>) {
        if world.generation() == self.replica.generation {
            return;
        }
        let replica = world.replica();
        let Some(tenant) = self.tenant_in(&replica) else {
            return;
        };
        let Some(placement) = replica.routing.placement_of(tenant) else {
            return;
        };
        let Some(upstream) = replica.snapshot.upstream(tenant, placement) else {
            return;
        };
        let target = primary_of(placement);
        let Some(endpoint) = replica.routing.pick(&world.core, target) else {
            return;
        };
        let Some(name) = replica
            .snapshot
            .placement(placement)
            .map(|p| p.name.clone())
        else {
            return;
        };
        let mut key = self.pool.key.clone();
        key.user = upstream.user.as_str().into();
        key.credential_version = upstream.version.0;
        let shared = &world.upstreams.shared;
        self.pool = endpoint.pool(&key, || {
            let mut config = (*self.pool.login.config).clone();
            config.user.clone_from(&upstream.user);
            config.password = upstream.password.clone();
            Rc::new(UpstreamLogin {
                config: Arc::new(config),
                statements_max: Rc::clone(&self.pool.login.statements_max),
                realms: Rc::clone(&self.pool.login.realms),
                known: shared.known.of(&endpoint.name, &upstream.user),
            })
        });
        self.metrics = world.metrics.exchanges(&self.door.name, &name);
        self.tenant = tenant;
        self.target = target;
        // What was left under another account or at another placement is out of reach.
        self.left_at = self.left_at.take().filter(|left_at| {
            let at = &left_at.endpoint.name.placement;
            *at == self.pool.endpoint.name.placement && left_at.key == self.pool.key
        });
        self.replica = replica;
    }
}

/// What sessions lease.
fn primary_of(placement: PlacementId) -> Target {
    Target {
        placement,
        wanted: Wanted::Primary,
    }
}

fn with_schema(key: &Key, has_schema: bool) -> Key {
    let mut key = key.clone();
    if has_schema {
        key.capabilities &= !WITHOUT_SCHEMA;
    } else {
        key.capabilities |= WITHOUT_SCHEMA;
    }
    key
}
