//! The protocol state of one upstream connection after its login.

use std::rc::Rc;

use smallvec::SmallVec;

use super::baseline::{Answer, Baselines, END_TRANSACTION};
use super::left_behind::{Leftovers, Residue};
use super::programs;
use super::state::{Vector, is_same};
use super::statements::{PreparedSet, StatementText};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::reply::{Expect, ReplyWalker};

/// A reply that is still to come, oldest first.
#[derive(Debug)]
pub(super) enum Expected {
    /// To COM_INIT_DB or SET that the gateway sent to move the session's state.
    Moved,
    /// To the SET that has the server tell the connection's collation.
    Collation,
    /// To COM_STMT_PREPARE that the gateway sent on its own.
    Prepared(Rc<StatementText>),
    /// To the statement that reads another session's state out.
    ReadOut(Rc<Residue>),
    /// To a question for variables: what has come of it.
    Variables(Box<Answer>),
    /// To the question for stored programs.
    Programs(Box<programs::Asked>),
    /// To the client's command.
    Main(Expect),
}

/// Who reads the reply to a client's command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reader {
    /// The sequence id of the command's last packet from the client.
    pub(super) sequence: u8,
    /// Packets that the command has upstream and had not there.
    pub(super) packets_more: u8,
    /// It knows legacy EOFs, and is owed those that the server leaves out.
    pub(super) knows_eofs: bool,
}

/// What of a session's state is on its way to a connection, ahead of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// The schema, where the connection has been before.
    pub(super) known_schema: bool,
    /// The schema, where it has not.
    pub(super) schema: bool,
    pub(super) variables: bool,
    pub(super) insert_id: bool,
    /// That several statements in a text are not taken any more.
    pub(super) option: bool,
}

impl Moved {
    pub(super) const TO_KNOWN_SCHEMA: Self = Self {
        known_schema: true,
        schema: false,
        variables: false,
        insert_id: false,
        option: false,
    };
}

/// What the gateway had a server do on behalf of clients, since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Statements prepared.
    pub prepares: u32,
    /// Changes of session state.
    pub restores: u32,
}

/// The session with one upstream server. Idle when no reply is expected.
#[derive(Debug)]
pub struct Upstream {
    /// The server's id of this connection, for KILL.
    pub thread_id: u32,
    pub(super) deprecates_eof: bool,
    pub(super) vector: Rc<Vector>,
    pub(super) prepared: PreparedSet,
    pub(super) walker: ReplyWalker,
    pub(super) expected: SmallVec<[Expected; 4]>,
    pub(super) is_walking: bool,
    pub(super) left: Leftovers,
    /// It takes several statements in a text. None does when it connects, and COM_RESET_CONNECTION leaves it.
    pub(super) takes_several: bool,
    /// More than one session has run statements on it since it was as after a login.
    pub(super) is_shared: bool,
    /// What has run on it may have left anything: it ends with its lease.
    pub(super) is_spent: bool,
    /// Something that nobody has seen may have run on it: it is cleansed before anybody else has it.
    pub(super) is_suspect: bool,
    /// Hashes of schemas that this connection has been in: naming them again cannot fail for want
    /// of a right.
    pub(super) schemas_known: SmallVec<[u64; 4]>,
    pub(super) tally: Tally,
    pub(super) baselines: Rc<Baselines>,
}

/// What a connection's login settled.
#[derive(Clone, Debug)]
pub struct LoginFacts {
    /// The server's id of the connection.
    pub thread_id: u32,
    /// CLIENT_DEPRECATE_EOF was agreed on.
    pub deprecates_eof: bool,
    /// The state after login.
    pub vector: Rc<Vector>,
    /// Bound of statements kept prepared.
    pub statements_max: usize,
    /// What is known of logins like this one.
    pub baselines: Rc<Baselines>,
}

impl Upstream {
    /// A session that has just logged in.
    pub fn new(facts: LoginFacts) -> Self {
        Self {
            thread_id: facts.thread_id,
            deprecates_eof: facts.deprecates_eof,
            vector: facts.vector,
            prepared: PreparedSet::new(facts.statements_max),
            walker: ReplyWalker::new(facts.deprecates_eof),
            expected: SmallVec::new(),
            is_walking: false,
            left: Leftovers::default(),
            takes_several: false,
            is_shared: false,
            is_spent: false,
            is_suspect: false,
            schemas_known: SmallVec::new(),
            tally: Tally::default(),
            baselines: facts.baselines,
        }
    }

    /// Whether no reply is awaited: only then may the connection be pooled.
    pub fn is_idle(&self) -> bool {
        self.expected.is_empty()
    }

    /// Whether the connection is as it was made, as far as is known, so that its pool's next user finds what it
    /// expects.
    pub fn fits_its_pool(&self) -> bool {
        self.is_idle() && !self.is_spent
    }

    /// Whether the connection must be cleansed before anybody else has it.
    pub fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// What was done since the last call, for metrics.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The session that used the connection last; 0 if none has.
    pub fn last_owner(&self) -> u64 {
        self.left.last_owner()
    }

    /// The session `owner` has leased the connection: what others left on it is about to be read
    /// out, so they must wait for that and not look elsewhere.
    pub fn claimed_by(&self, owner: u64) {
        self.left.claimed_by(owner);
    }

    /// The connection goes back: what has not been read out is still on it.
    pub fn unclaimed(&self) {
        self.left.unclaimed();
    }

    /// Whether the session `owner` has left anything here that it may still read.
    pub fn holds_for(&self, owner: u64) -> bool {
        self.left.holds_for(owner)
    }

    /// The state that the connection is in, as far as is known.
    pub fn vector(&self) -> &Rc<Vector> {
        &self.vector
    }

    /// What is known of its account's logins on its server.
    pub fn baselines(&self) -> &Rc<Baselines> {
        &self.baselines
    }

    /// Whether the connection is in a schema. One that is cannot leave it for none.
    pub fn has_schema(&self) -> bool {
        self.vector.schema().is_some()
    }

    /// Whether all bytes received so far are whole packets of the reply.
    pub fn is_at_boundary(&self) -> bool {
        self.walker.is_at_boundary()
    }

    /// Whether nothing of the reply to the client's command has come.
    pub fn is_unanswered(&self) -> bool {
        !matches!(self.expected.first(), Some(Expected::Main(_)))
            || !self.is_walking
            || self.walker.is_untouched()
    }

    /// The sequence id that an ERR in place of the rest of the reply would need.
    pub fn next_sequence(&self) -> u8 {
        if self.is_walking {
            self.walker.next_sequence()
        } else {
            1
        }
    }

    /// Readies the walker for the oldest awaited reply, unless it is in the middle of it. `reader` is that
    /// of the reply to the client's command.
    #[inline]
    pub(super) fn start_walking(&mut self, reader: Reader) {
        if self.is_walking {
            return;
        }
        let (expect, sequence) = match self.expected.first() {
            None => return,
            Some(Expected::Moved | Expected::Collation) => (Expect::Ok, 0),
            Some(Expected::Prepared(_)) => (Expect::Prepare, 0),
            Some(Expected::ReadOut(_) | Expected::Variables(_) | Expected::Programs(_)) => {
                (Expect::Results, 0)
            }
            Some(Expected::Main(expect)) => {
                let sent = reader.sequence.wrapping_add(reader.packets_more);
                self.walker.start(*expect, sent);
                self.walker
                    .shift_sequence(reader.packets_more.wrapping_neg());
                if reader.knows_eofs {
                    self.walker.owe_eofs();
                }
                self.is_walking = true;
                return;
            }
        };
        self.walker.start(expect, sequence);
        self.is_walking = true;
    }

    /// Writes what brings the connection into the state `to`; what of it, if anything. A state without
    /// a schema leaves it where it is.
    #[inline]
    pub(super) fn change_state(&mut self, to: &Rc<Vector>, out: &mut Vec<u8>) -> Moved {
        match Rc::ptr_eq(to, &self.vector) {
            true => Moved::default(),
            false => self.change_vector(to, out),
        }
    }

    /// The same, where the two do not share their vector.
    #[inline(never)]
    fn change_vector(&mut self, to: &Rc<Vector>, out: &mut Vec<u8>) -> Moved {
        let mut moved = Moved::default();
        if is_same(to, &self.vector) {
            // Shared from now on: the next look compares two pointers.
            self.vector = to.clone();
            return moved;
        }
        if let Some(schema) = to.schema()
            && self.vector.schema() != Some(schema)
        {
            packet(out, 0, |out| encode_text_command(out, com::INIT_DB, schema));
            self.expected.push(Expected::Moved);
            moved.known_schema = self.knows_schema(schema);
            moved.schema = !moved.known_schema;
        }
        // Written where it is to go: it would be the only memory that a move takes.
        let before = out.len();
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, b"");
            moved.variables = to.write_set(&self.vector, out);
        });
        if moved.variables {
            self.expected.push(Expected::Moved);
        } else {
            out.truncate(before);
        }
        let vector = match to.has_base() || !self.vector.has_base() {
            true => to.clone(),
            false => Rc::new(to.with_base_of(&self.vector)),
        };
        self.vector = match self.vector.schema() {
            // There is no way back out of a schema.
            Some(schema) if vector.schema().is_none() => Rc::new(vector.with_schema(schema)),
            _ => vector,
        };
        moved
    }

    /// Ends the transaction that a question of the gateway's own has begun on a connection that is in none: MySQL
    /// answers out of tables.
    pub(super) fn end_own_transaction(&mut self, out: &mut Vec<u8>) {
        if self.baselines.is_mysql() && self.vector.is_autocommit_off() {
            packet(out, 0, |out| {
                encode_text_command(out, com::QUERY, END_TRANSACTION);
            });
            self.expected.push(Expected::Moved);
        }
    }

    /// The server does not let this connection into the schema any more.
    pub(super) fn forget_schema(&mut self, schema: &[u8]) {
        let hash = xxhash_rust::xxh3::xxh3_64(schema);
        self.schemas_known.retain(|known| *known != hash);
    }

    /// Whether the connection has been in this schema; remembers it.
    pub(super) fn knows_schema(&mut self, schema: &[u8]) -> bool {
        let hash = xxhash_rust::xxh3::xxh3_64(schema);
        if self.schemas_known.contains(&hash) {
            return true;
        }
        if self.schemas_known.len() >= 16 {
            self.schemas_known.remove(0);
        }
        self.schemas_known.push(hash);
        false
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        for expected in &self.expected {
            if let Expected::ReadOut(residue) = expected {
                residue.connection_closed();
            }
        }
    }
}
