//! Log lines about what clients are told by the gateway itself, and how logins end without one. A line has
//! the number that the client's error carries.

use std::fmt::Display;

use super::Door;
use super::client::Client;
use crate::base::address::Address;
use crate::base::close::CloseReason;
use crate::base::codes::{Event, code};
use crate::session::mysql::exchange::Fault;
use crate::session::mysql::login::LoginError;
use crate::session::mysql::stranger::Heard;
use crate::telemetry::log::{self, Level};
use crate::wire::mysql::response::decode_err;

/// A connection that has not logged in, for its lines.
pub(super) struct Newcomer {
    /// The number that it is told.
    pub(super) id: u32,
    pub(super) peer: Address,
}

impl Newcomer {
    /// It is told `event`.
    pub(super) fn told(&self, event: Event, door: &Door) {
        let kind = [("door", &*door.name), ("reason", code(event).reason)];
        let more: [(&str, &dyn Display); 3] = [
            ("client", &self.id),
            ("errno", &code(event).errno),
            ("peer", &self.peer),
        ];
        log::often(level(event), "client told", &kind, &more);
    }

    /// Its login is refused.
    pub(super) fn denied(&self, error: &LoginError, door: &Door) {
        let kind = [("door", &*door.name), ("reason", error.reason.label())];
        let user = String::from_utf8_lossy(&error.user_name);
        let told = error.event.map(|event| code(event).reason);
        let mut more: Vec<(&str, &dyn Display)> =
            vec![("client", &self.id), ("errno", &error.errno)];
        more.extend(told.iter().map(|told| ("told", told as &dyn Display)));
        more.extend([
            ("user", &user as &dyn Display),
            ("peer", &self.peer),
            ("why", &error.why),
        ]);
        log::often(Level::Info, "login denied", &kind, &more);
    }

    /// Its login ends for want of packets that can be read; `told` is what it is told, if it can be told
    /// anything.
    pub(super) fn ended(
        &self,
        reason: CloseReason,
        told: Option<Event>,
        heard: Heard,
        door: &Door,
    ) {
        // As those do who look whether the port is open, every few seconds.
        let is_a_look = reason == CloseReason::ClientGone && heard == Heard::Nothing;
        let level = match is_a_look {
            true => Level::Debug,
            false => Level::Info,
        };
        let kind = [("door", &*door.name), ("reason", reason.label())];
        let told = told.map(|event| (code(event).errno, code(event).reason));
        let mut more: Vec<(&str, &dyn Display)> = vec![("client", &self.id)];
        if let Some((errno, word)) = &told {
            more.extend([("errno", errno as &dyn Display), ("told", word)]);
        }
        let heard = heard.label();
        more.extend([("peer", &self.peer as &dyn Display), ("heard", &heard)]);
        log::often(level, "login ended", &kind, &more);
    }
}

impl<F> Client<F> {
    /// It is told `event`.
    pub(super) fn log_told(&self, event: Event) {
        let admitted = &self.admitted;
        let kind = [
            ("tenant", admitted.tenant_name()),
            ("reason", code(event).reason),
        ];
        let name = &admitted.pool.endpoint.name;
        let more: [(&str, &dyn Display); 5] = [
            ("client", &admitted.connection_id),
            ("errno", &code(event).errno),
            ("placement", &name.placement),
            ("endpoint", &name.address),
            ("account", &admitted.pool.key.user),
        ];
        log::often(level(event), "client told", &kind, &more);
    }

    /// Its login ends while its schema is being entered: it has left.
    pub(super) fn log_cut_login(&self, reason: CloseReason, peer: &Address) {
        let admitted = &self.admitted;
        let kind = [("door", &*admitted.door.name), ("reason", reason.label())];
        let more: [(&str, &dyn Display); 4] = [
            ("client", &admitted.connection_id),
            ("tenant", &admitted.tenant_name()),
            ("peer", peer),
            ("heard", &Heard::Packets.label()),
        ];
        log::often(Level::Info, "login ended", &kind, &more);
    }

    /// An exchange cannot go on.
    pub(super) fn log_fault(&self, fault: &Fault) {
        let name = &self.admitted.pool.endpoint.name;
        let more: [(&str, &dyn Display); 2] = [
            ("client", &self.admitted.connection_id),
            ("fault", &format_args!("{fault:?}")),
        ];
        let kind = [("endpoint", &*name.address)];
        log::often(Level::Warn, "exchange failed", &kind, &more);
    }

    /// The server has refused the state that the session is to be in, or the schema of its login, by an ERR of
    /// this payload. Its words are told of a schema alone: of a variable they quote what a statement gave it.
    pub(super) fn log_refused_state(&self, payload: &[u8]) {
        let Ok(err) = decode_err(payload) else { return };
        let is_schema = matches!(err.errno, ER_DB_ACCESS_DENIED | ER_BAD_DB);
        let said = if is_schema { err.message } else { &[] };
        let text = String::from_utf8_lossy(said);
        let admitted = &self.admitted;
        let name = &admitted.pool.endpoint.name;
        let kind = [
            ("tenant", admitted.tenant_name()),
            ("endpoint", &*name.address),
        ];
        let more: [(&str, &dyn Display); 5] = [
            ("client", &admitted.connection_id),
            ("placement", &name.placement),
            ("account", &admitted.pool.key.user),
            ("errno", &err.errno),
            ("error", &text),
        ];
        log::often(Level::Warn, "state refused", &kind, &more);
    }
}

/// The servers' errors where an account may not enter a schema, or there is none of that name.
const ER_DB_ACCESS_DENIED: u16 = 1044;
const ER_BAD_DB: u16 = 1049;

/// How much it matters to the operator: clients' mistakes, and what is as it was set up, are no warnings.
fn level(event: Event) -> Level {
    match event {
        Event::TooManyConnections
        | Event::TenantLimit
        | Event::LastStatementLost
        | Event::Unmovable
        | Event::PoolWait
        | Event::PoolFull
        | Event::PoolOverload
        | Event::NoEndpoint
        | Event::AccountRefused
        | Event::OutcomeUnknown
        | Event::SessionLost
        | Event::ModeUntold
        | Event::StatementDeadline
        | Event::DeadlineUnknown
        | Event::DrainUnknown
        | Event::RemovedUnknown => Level::Warn,
        _ => Level::Info,
    }
}
