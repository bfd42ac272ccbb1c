//! The end of a login. Its OK says what the server would say that is behind: whether the schema that the client
//! names can be entered, and in its status flags which settings the session begins with.
//!
//! Most logins need no upstream connection for that: a schema that the server has accepted for the account is not
//! asked for again within [`KNOWN_FOR`], and then where a connection is idle; globals are asked for by one login in
//! a second. An endpoint that is busy or away does not keep out clients whose schema was good before, as their
//! statements get the server's own error if it is gone; nor clients without a schema.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::client::{Client, End};
use super::front::{Front, StreamFront};
use super::known_login::Asking;
use crate::base::address::Address;
use crate::base::clock::{Deadline, Now};
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::base::drain::Drain;
use crate::session::mysql::beginning::Lack;
use crate::session::mysql::conversation::{Entered, Entry, PATIENCE, Schema};
use crate::session::mysql::login::Login;
use crate::wire::mysql::response::decode_err;

/// How long a login's schema is taken for good after its server has accepted it.
const KNOWN_FOR: Duration = Duration::from_secs(5);

impl Client<StreamFront> {
    /// Ends the login of a client at `peer`: with OK, or with an ERR where the schema that it names cannot be entered.
    pub(super) async fn finish_login(
        &mut self,
        login: &mut Login,
        names_schema: bool,
        peer: &Address,
    ) -> Result<(), End> {
        let mut out = Vec::new();
        let entered = self.settle_with_server(names_schema).await;
        let entered = entered.inspect_err(|end| self.log_cut_login(*end, peer))?;
        let end = match entered {
            Entered::Yes => {
                let status = self.conversation.session().visible_status();
                login.finish_ok(status, &mut out);
                None
            }
            Entered::Refused(refusal) => {
                self.log_refused_state(&refusal);
                forward(login, &refusal, &mut out);
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
        // A drain may have begun in the meantime.
        self.goes_on = true;
        end.map_or(Ok(()), Err)
    }

    fn refuse_login(&self, login: &mut Login, event: Event, out: &mut Vec<u8>) {
        self.log_told(event);
        login.refuse_by(event, "", out);
    }
}

impl<F: Front> Client<F> {
    /// Has the server say what it has not said lately.
    async fn settle_with_server(&mut self, names_schema: bool) -> Result<Entered, End> {
        let began = self.now();
        let schema = self.schema_to_ask(names_schema, began);
        let asking = match schema {
            Schema::Settled => self.known_or_turn(began.plus(PATIENCE)).await,
            _ => None,
        };
        let lack = self.conversation.begin_session(self.now());
        let is_settled = schema == Schema::Settled && lack != Lack::Renewal && asking.is_none();
        if is_settled {
            return Ok(Entered::Yes);
        }
        let entry = Entry::at_login(schema, lack, began);
        let entered = self.enter_server(entry).await?;
        match entered {
            Entered::Yes if schema != Schema::Settled => {
                let now = self.now();
                self.world.remember_schema(self.schema_mark(), now);
            }
            Entered::Yes => {}
            Entered::Unknown(_) | Entered::Lost if schema != Schema::Unknown => {
                self.conversation.begin_with_known();
            }
            refused => return Ok(refused),
        }
        Ok(Entered::Yes)
    }

    /// What the server has to say of the schema that the login names.
    fn schema_to_ask(&self, names_schema: bool, now: Now) -> Schema {
        if !names_schema {
            return Schema::Settled;
        }
        match self.world.schema_accepted(self.schema_mark()) {
            None => Schema::Unknown,
            Some(accepted) if now.since(accepted) < KNOWN_FOR => Schema::Settled,
            Some(_) => Schema::Again,
        }
    }

    /// Waits until something is known of logins at the client's pool, or it is this one's turn to ask; neither if
    /// that takes too long, or a drain begins.
    async fn known_or_turn(&mut self, until: Deadline) -> Option<Asking> {
        let known = Rc::clone(&self.admitted.pool.login.known);
        let client = self.conversation.session().owner();
        self.timer.set(until);
        let asking = poll_fn(|cx| {
            let is_over = self.world.drain() != Drain::Serving || self.timer.poll(cx).is_ready();
            match is_over {
                true => Poll::Ready(None),
                false => known.poll(client, cx),
            }
        });
        let asking = asking.await;
        self.timer.set(Deadline::NEVER);
        asking
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
fn forward(login: &mut Login, payload: &[u8], out: &mut Vec<u8>) {
    match decode_err(payload) {
        Ok(err) => {
            let sqlstate = err.sqlstate.unwrap_or(*b"HY000");
            let sqlstate = String::from_utf8_lossy(&sqlstate);
            let text = String::from_utf8_lossy(err.message);
            login.refuse(err.errno, &sqlstate, &text, out);
        }
        // The walker has passed it as an ERR, so this is one cut short.
        Err(_) => {
            login.refuse_by(Event::NoEndpoint, "", out);
        }
    }
}
