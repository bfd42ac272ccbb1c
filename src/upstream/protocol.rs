//! What pools must know of the protocol that their connections speak.

use std::rc::Rc;
use std::time::Duration;

use super::dial::DialError;
use crate::core::Core;
use crate::net::{Stream, Timer};

/// The upstream broke its protocol: nothing more can be read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A protocol that connections to endpoints speak.
pub trait Protocol: Sized + 'static {
    /// The state of one connection after its login.
    type Session: 'static;
    /// The same on its way to another core.
    type Packed: Send + 'static;
    /// What the connections of a pool log in with.
    type Login: 'static;
    /// What the sessions of one core share.
    type Shared: 'static;

    /// Whether a statement that nobody waits for can be ended from another connection.
    const KILLS: bool;

    /// How long a server may take to undo what sessions have done on a connection.
    const CLEANSE_LIMIT: Duration;

    /// Logs in on a new connection, until `timer` ends.
    fn log_in(
        stream: Stream,
        login: &Rc<Self::Login>,
        timer: &mut Timer,
    ) -> impl Future<Output = Result<(Stream, Self::Session), DialError>>;

    /// Whether no reply is awaited: only then may the connection be pooled.
    fn is_idle(session: &Self::Session) -> bool;

    /// The session `owner` has leased the connection.
    fn claim(session: &Self::Session, owner: u64);

    /// The lease has ended.
    fn unclaim(session: &Self::Session);

    /// Whether `owner` has left something here that it may still read.
    fn holds_for(session: &Self::Session, owner: u64) -> bool;

    /// Asks an idle connection for everything that sessions of this core have left there and may still
    /// read.
    fn ask_for_what_is_left(session: &mut Self::Session, out: &mut Vec<u8>);

    /// Whether answers are awaited that belong to other sessions than the one that leaves.
    fn owes(session: &Self::Session) -> bool;

    /// Takes in what has come while [`Protocol::owes`]; whether it was nothing but that.
    ///
    /// # Errors
    /// [`Broken`]: nothing more can be saved.
    fn take_owed(session: &mut Self::Session, bytes: &mut [u8]) -> Result<bool, Broken>;

    /// Wakes the sessions of this core that wait for what is asked for on a connection, once it has come
    /// or is lost.
    fn tell_others(shared: &Self::Shared, core: &Core);

    /// Says goodbye on an idle connection.
    fn part(session: &mut Self::Session, out: &mut Vec<u8>);

    /// Has the server end what runs on `doomed`, said on another idle connection.
    fn begin_kill(session: &mut Self::Session, doomed: &Self::Session, out: &mut Vec<u8>);

    /// Takes in the answer to that; whether it is complete.
    ///
    /// # Errors
    /// Why it was in vain, for the log.
    fn on_kill_reply(session: &mut Self::Session, bytes: &mut [u8]) -> Result<bool, String>;

    /// Undoes all that sessions have done on an idle connection which can be cleansed.
    fn begin_cleanse(session: &mut Self::Session, out: &mut Vec<u8>);

    /// Takes in the answers to that; whether they are complete.
    ///
    /// # Errors
    /// Why the connection is not as after a login, for the log.
    fn on_cleanse_reply(session: &mut Self::Session, bytes: &mut [u8]) -> Result<bool, String>;

    /// An idle session in a form that may leave its core; `None` while something is left on it that
    /// sessions of this core may still read.
    fn pack(session: &Self::Session) -> Option<Self::Packed>;

    /// The session that another core has packed.
    fn unpack(packed: Self::Packed, shared: &Self::Shared) -> Self::Session;

    /// Such a one is in a pool from now on whose connections log in so.
    fn joined(session: &Self::Session, login: &Self::Login);
}
