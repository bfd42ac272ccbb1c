//! A connection that its session leaves with state on it is brought back to what a login gives:
//! COM_RESET_CONNECTION, the trackers, the schema, and a look at what is there then.
//!
//! A reset is not a login. It keeps the role and the profiles (seen on MariaDB 10.11), runs no
//! `init_connect`, sets what an account or a login's flags gave back to the globals, and forgets the
//! schema's character set. So a connection is cleansed only on servers without `init_connect`; its schema is
//! entered again; its variables are asked for and not assumed; what a reset keeps must be what it was after
//! a login.

use std::rc::Rc;
use std::time::Duration;

use super::baseline::{Answer, KEPT, every_variable};
use super::downstream::Session;
use super::left_behind::Leftovers;
use super::statements::PreparedSet;
use super::upstream::{Expected, Reader, Upstream};
use crate::base::pin::PinReason;
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::reply::{Packet, ReplyError, Step};

/// Makes the server report every change of session state, so that pools know what a connection is
/// in. Both families know the first two; MySQL rejects nothing here either.
pub const TRACK_EVERYTHING: &[u8] =
    b"SET session_track_schema=1,session_track_state_change=1,session_track_system_variables='*'";

/// How long a server may take: a long transaction is rolled back. A connection that takes longer is
/// closed, which no session waits for.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What is not worth a try.
const LASTING: &[PinReason] = &[PinReason::Role, PinReason::Xa];

impl Session {
    /// Whether the session keeps its connection for work that it has begun and is to end: a transaction,
    /// LOCK TABLES, an open cursor, parameters that wait for their EXECUTE. Others may wait for its locks.
    /// What it keeps for as long as it lives (a temporary table, a named lock) is none.
    pub fn has_begun(&self) -> bool {
        self.is_in_transaction()
            || self.statements.any_cursor()
            || self.statements.any_long_data()
            || self.pins.has(PinReason::Xa)
            || self.pins.has(PinReason::LockTables)
    }

    /// Whether the connection that this session keeps can be [`Upstream::begin_cleanse`]d of it.
    pub fn can_be_cleansed_of(&self, upstream: &Upstream) -> bool {
        !self.pins().iter().any(|pin| LASTING.contains(&pin))
            && upstream.fits_its_pool()
            && upstream.vector.has_base()
            && upstream.baselines.can_be_reset()
    }
}

/// Why a connection is not as after a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclean {
    /// Something that a reset keeps is not what it was.
    Kept,
    /// The server refused a part of it with this error, or does not tell its variables.
    Refused,
    /// It broke the protocol.
    Broken(ReplyError),
    /// It has closed the connection.
    Lost,
    /// It has not answered before its time was over, or the session's was.
    Late,
}

impl From<ReplyError> for Unclean {
    fn from(error: ReplyError) -> Self {
        Self::Broken(error)
    }
}

impl Upstream {
    /// Writes what undoes all that sessions have done on this idle connection. What they left there to be
    /// read is read out first.
    pub fn begin_cleanse(&mut self, out: &mut Vec<u8>) {
        self.read_out_all(out);
        packet(out, 0, |out| out.push(com::RESET_CONNECTION));
        self.expected.push(Expected::Moved);
        let schema = self.vector.schema();
        let commands = schema.map(|schema| (com::INIT_DB, schema));
        let commands = commands.into_iter().chain([(com::QUERY, TRACK_EVERYTHING)]);
        for (command, text) in commands {
            packet(out, 0, |out| encode_text_command(out, command, text));
            self.expected.push(Expected::Moved);
        }
        let questions = [KEPT, &every_variable()];
        for question in questions {
            packet(out, 0, |out| {
                encode_text_command(out, com::QUERY, question);
            });
        }
        let answer = Answer::to(questions.len(), self.deprecates_eof);
        self.expected.push(Expected::Variables(Box::new(answer)));
    }

    /// Takes in bytes of the replies; whether they are complete. The connection is then as after a login.
    ///
    /// # Errors
    /// It is not, and must be closed.
    pub fn on_cleanse_reply(&mut self, bytes: &mut [u8]) -> Result<bool, Unclean> {
        let mut rest = self.salvage(bytes)?;
        loop {
            match self.expected.first_mut() {
                None if rest.is_empty() => return Ok(true),
                None => return Err(ReplyError::Surplus.into()),
                Some(Expected::Variables(answer)) => {
                    if !answer.take(rest)? {
                        return Ok(false);
                    }
                    rest = &mut [];
                    if !self.baselines.keeps(answer.kept()) {
                        return Err(Unclean::Kept);
                    }
                    let found = answer.end().ok_or(Unclean::Refused)?;
                    self.expected.remove(0);
                    let vector = self.vector.found_to_be(&found).ok_or(Unclean::Refused)?;
                    if self.baselines.is_mysql() && vector.is_autocommit_off() {
                        // The questions have begun a transaction.
                        return Err(Unclean::Kept);
                    }
                    self.vector = Rc::new(vector);
                    self.prepared = PreparedSet::new(self.prepared.len_max());
                    self.left = Leftovers::default();
                    (self.is_suspect, self.is_shared) = (false, false);
                }
                Some(_) => {
                    let Some(n) = self.take_undone(rest)? else {
                        return Ok(false);
                    };
                    rest = rest.get_mut(n..).unwrap_or_default();
                }
            }
        }
    }

    /// Takes in a piece of the oldest reply; its length, `None` if there is no more.
    fn take_undone(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, Unclean> {
        self.start_walking(Reader::default());
        let (used, packet) = match self.walker.step(bytes)? {
            Step::Starved => return Ok(None),
            Step::Pass(n) | Step::PassCarried(n) => (n, None),
            Step::Packet(n, packet) | Step::PacketCarried(n, packet) => (n, Some(packet)),
        };
        if matches!(packet, Some(Packet::Err { .. })) {
            return Err(Unclean::Refused);
        }
        if self.walker.is_done() {
            self.is_walking = false;
            self.expected.remove(0);
        }
        Ok(Some(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::baseline::Baselines;
    use crate::session::mysql::state::Vector;
    use crate::session::mysql::tests::{answer, rows};
    use crate::session::mysql::upstream::LoginFacts;
    use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

    fn ok(out: &mut Vec<u8>) {
        packet(out, 1, |out| encode_ok(out, 0, &OkPacket::default()));
    }

    fn error(out: &mut Vec<u8>) {
        let err = ErrPacket {
            errno: 1049,
            sqlstate: None,
            message: b"",
        };
        packet(out, 1, |out| encode_err(out, &err));
    }

    fn upstream() -> Upstream {
        let baselines = Rc::<Baselines>::default();
        let login = answer(&[("sql_notes", "OFF"), ("time_zone", "SYSTEM")]);
        let base = { login }.end().expect("values");
        let base = baselines.logged_in(base, Some(b"a@b|0"), answer(&[]), false);
        let vector = Vector::default().with_schema(b"a").with_base(base);
        Upstream::new(LoginFacts {
            thread_id: 7,
            deprecates_eof: true,
            vector: Rc::new(vector),
            statements_max: 4,
            baselines,
        })
    }

    #[test]
    fn a_cleansed_connection_is_as_it_is_found() {
        let mut reply = Vec::new();
        (0..3).for_each(|_| ok(&mut reply));
        reply.extend(rows(&[("kept", "a@b|0")], true));
        // The reset has gone back to a global that is not what the login gave.
        reply.extend(rows(&[("sql_notes", "ON"), ("time_zone", "SYSTEM")], true));
        for cut in 0..reply.len() {
            let mut upstream = upstream();
            let before = upstream.vector.clone();
            upstream.begin_cleanse(&mut Vec::new());
            let (mut a, mut b) = (reply[..cut].to_vec(), reply[cut..].to_vec());
            assert_eq!(upstream.on_cleanse_reply(&mut a), Ok(false), "cut at {cut}");
            assert_eq!(upstream.on_cleanse_reply(&mut b), Ok(true), "cut at {cut}");
            assert!(upstream.is_idle());
            assert_eq!(upstream.vector.schema(), Some(&b"a"[..]));
            let mut set = Vec::new();
            assert!(before.write_set(&upstream.vector, &mut set));
            assert_eq!(set, b"SET sql_notes='OFF'");
        }
    }

    #[test]
    fn what_is_refused_or_not_told_is_not_clean() {
        let good = |step: usize, reply: &mut Vec<u8>| match step {
            3 => reply.extend(rows(&[("kept", "a@b|0")], true)),
            4 => reply.extend(rows(&[("sql_notes", "ON")], true)),
            _ => ok(reply),
        };
        for refused in 0..5 {
            let mut reply = Vec::new();
            for step in 0..5 {
                match step == refused {
                    true => error(&mut reply),
                    false => good(step, &mut reply),
                }
            }
            let mut upstream = upstream();
            upstream.begin_cleanse(&mut Vec::new());
            let answered = upstream.on_cleanse_reply(&mut reply);
            let expect = match refused {
                3 => Unclean::Kept,
                _ => Unclean::Refused,
            };
            assert_eq!(answered, Err(expect), "step {refused}");
        }
    }

    #[test]
    fn a_role_that_a_reset_keeps_is_not_clean() {
        let mut reply = Vec::new();
        (0..3).for_each(|_| ok(&mut reply));
        reply.extend(rows(&[("kept", "a@b|clerk|0")], true));
        reply.extend(rows(&[("sql_notes", "ON")], true));
        let mut upstream = upstream();
        upstream.begin_cleanse(&mut Vec::new());
        assert_eq!(upstream.on_cleanse_reply(&mut reply), Err(Unclean::Kept));
    }
}
