//! The schema that a client names in its login: its server has the say before the login's OK, as
//! it has when there is no gateway between.
//!
//! A schema that the server has accepted for the account is not asked for again within
//! [`KNOWN_FOR`], so most logins need no upstream connection. After that it is asked for again
//! where a connection is idle; an endpoint that is busy or away does not keep out clients whose
//! schema was good before, as their statements get the server's own error if it is gone.

use std::time::Duration;

use super::client::{Client, End};
use super::front::{Front, StreamFront};
use crate::base::close::CloseReason;
use crate::base::codes::{Event, code, message};
use crate::session::mysql::conversation::Entered;
use crate::session::mysql::login::Login;
use crate::wire::mysql::flags::status;
use crate::wire::mysql::frame::HEADER_LEN;
use crate::wire::mysql::response::decode_err;

/// How long a login's schema is taken for good after its server has accepted it.
const KNOWN_FOR: Duration = Duration::from_secs(5);

impl Client<StreamFront> {
    /// Ends the login: with OK, or with an ERR where the schema that it names cannot be entered.
    pub(super) async fn finish_login(
        &mut self,
        login: &mut Login,
        names_schema: bool,
    ) -> Result<(), End> {
        let mut out = Vec::new();
        let entered = match names_schema {
            true => self.enter_named_schema().await?,
            false => Entered::Yes,
        };
        let end = match entered {
            Entered::Yes => {
                login.finish_ok(status::AUTOCOMMIT, &mut out);
                None
            }
            Entered::Refused(packet) => {
                forward(login, &packet, &mut out);
                Some(CloseReason::LoginDenied)
            }
            Entered::Unknown(event) => {
                self.refuse_login(login, event, &mut out);
                Some(CloseReason::UpstreamConnect)
            }
            Entered::Lost => {
                self.refuse_login(login, Event::NoEndpoint, &mut out);
                Some(CloseReason::UpstreamLost)
            }
        };
        self.front.send_bytes(&out);
        end.map_or(Ok(()), Err)
    }

    fn refuse_login(&self, login: &mut Login, event: Event, out: &mut Vec<u8>) {
        let row = code(event);
        let text = message(event, "", u64::from(self.admitted.connection_id));
        let sqlstate = String::from_utf8_lossy(&row.sqlstate);
        login.refuse(row.errno, &sqlstate, &text, out);
    }
}

impl<F: Front> Client<F> {
    /// Has the server enter the session's schema, unless it has done so lately.
    async fn enter_named_schema(&mut self) -> Result<Entered, End> {
        let mark = self.schema_mark();
        let accepted = self.world.schema_accepted(mark);
        let is_fresh = |accepted| self.now().since(accepted) < KNOWN_FOR;
        if accepted.is_some_and(is_fresh) {
            return Ok(Entered::Yes);
        }
        let entered = self.enter_schema(accepted.is_some()).await?;
        Ok(match entered {
            Entered::Yes => {
                // By the endpoint that was chosen for it.
                let now = self.now();
                self.world.remember_schema(self.schema_mark(), now);
                Entered::Yes
            }
            Entered::Unknown(_) | Entered::Lost if accepted.is_some() => Entered::Yes,
            refused => refused,
        })
    }

    /// Stands for endpoint, account and schema. Two with the same mark would only have one's
    /// unknown schema reported at the first statement.
    fn schema_mark(&self) -> u64 {
        let pool = &self.admitted.pool;
        let names = [
            pool.endpoint.name.placement.as_bytes(),
            pool.endpoint.name.address.as_bytes(),
            pool.key.user.as_bytes(),
            self.conversation
                .session()
                .vector()
                .schema()
                .unwrap_or_default(),
        ];
        let seed = self.admitted.replica.generation;
        names.iter().fold(seed, |seed, name| {
            xxhash_rust::xxh3::xxh3_64_with_seed(name, seed)
        })
    }

    /// The server has refused the session's state: its schema may be gone.
    pub(super) fn doubt_schema(&self) {
        self.world.forget_schema(self.schema_mark());
    }
}

/// Refuses the login in the server's own words.
fn forward(login: &mut Login, packet: &[u8], out: &mut Vec<u8>) {
    let payload = packet.get(HEADER_LEN..).unwrap_or_default();
    match decode_err(payload) {
        Ok(err) => {
            let sqlstate = err.sqlstate.unwrap_or(*b"HY000");
            let sqlstate = String::from_utf8_lossy(&sqlstate);
            let text = String::from_utf8_lossy(err.message);
            login.refuse(err.errno, &sqlstate, &text, out);
        }
        // The walker has passed it as an ERR, so this is one cut short.
        Err(_) => {
            let row = code(Event::NoEndpoint);
            login.refuse(row.errno, "HY000", row.text, out);
        }
    }
}
