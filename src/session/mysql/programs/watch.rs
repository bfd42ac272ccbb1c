//! What stored programs mean for a session's commands: the question goes ahead of one when it is due, and one
//! that names a program which leaves something keeps its connection. What may have something run that the account
//! cannot see has its connection cleansed when it is free.

use super::super::downstream::{Session, payload_of};
use super::super::upstream::{Expected, Upstream};
use super::QUESTION;
use crate::base::pin::PinReason;
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;

impl Session {
    /// Asks which stored programs leave something behind, if that may have changed; whether it did.
    pub(in super::super) fn ask_for_programs(
        &mut self,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
    ) -> bool {
        let known = upstream.baselines.programs();
        if self.op.has_asked || !known.is_due(self.began_at) || !self.may_ask(upstream) {
            return false;
        }
        self.op.has_asked = true;
        upstream.left.note_foreign();
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, QUESTION);
        });
        let asked = known.ask(self.began_at, upstream.deprecates_eof);
        upstream.expected.push(Expected::Programs(Box::new(asked)));
        upstream.end_own_transaction(out);
        true
    }

    /// Not where the question would be the last statement before one that reads the counts or conditions of
    /// the session's own on this connection; an insert id outlives it. Nor on a connection that the session keeps:
    /// in a transaction, tables that others change are left out of the answer.
    fn may_ask(&self, upstream: &Upstream) -> bool {
        let effects = &self.op.effects;
        let reads = effects.reads_row_count || effects.reads_found_rows || effects.reads_conditions;
        let owner = self.owner();
        let is_there = upstream.last_owner() == owner || upstream.holds_for(owner);
        self.pins().is_empty() && !(reads && is_there)
    }

    /// Keeps the connection if the command names a stored program that leaves something behind. What names
    /// anything while it is not known which do ends with its connection; what may have something run that
    /// nobody has seen leaves a suspect one.
    pub(in super::super) fn look_for_programs(
        &mut self,
        upstream: &mut Upstream,
        command: &[u8],
        is_whole: bool,
    ) {
        let known = upstream.baselines.programs();
        if known.are_none() || self.runs_nothing(command) {
            return;
        }
        let (programs, mode) = (known.found(), self.lex_mode());
        let may_write = self.op.effects.may_write;
        let look = |sql: &[u8], is_whole, mode| {
            (
                programs.may_be_named_in(sql, is_whole, mode),
                programs.may_leave_unseen(sql, may_write, mode),
            )
        };
        let (is_named, may_leave) = match self.op.command {
            com::QUERY => {
                let sql = payload_of(command).get(1..).unwrap_or_default();
                look(sql, is_whole, mode)
            }
            com::STMT_EXECUTE => match self.statements.get(self.op.statement) {
                Some(statement) => look(&statement.text.sql, true, statement.mode),
                None => return,
            },
            _ => return,
        };
        upstream.is_suspect |= may_leave;
        upstream.is_spent |= known.is_open();
        if is_named {
            self.op.effects.pins.add(PinReason::StoredProgram);
        }
    }
}
