//! What a statement leaves behind for the next one of its session to read: LAST_INSERT_ID(),
//! ROW_COUNT(), FOUND_ROWS(), and the conditions that SHOW WARNINGS lists.
//!
//! `LeftBehind` is what the session knows of it, `Leftovers` is what lies on a connection. What the
//! replies tell, the session knows itself; where it runs its next statement on another connection,
//! that one is given the values. What only the connection knows is a `Residue` that both hold.
//! The rules when each is set, kept, lost and told are here; nothing here writes a byte.

mod conditions;
mod insert_id;
#[cfg(test)]
mod last_statement;
mod leftovers;
pub(super) mod residue;
mod settled;

use std::rc::Rc;

pub(super) use self::conditions::{Fate, fate_of};
use self::insert_id::InsertId;
pub(super) use self::insert_id::Move;
pub(super) use self::leftovers::Leftovers;
use self::leftovers::Residues;
use self::residue::{Kind, Place, has_no_rows, read_number};
pub(super) use self::residue::{Residue, reframe};
pub use self::settled::Settled;
use super::effects::Effects;
use super::text::FoundRows;
use crate::base::codes::Event;
use crate::wire::mysql::flags::com;

/// The text could not be read: nothing of the statement has run.
const ER_PARSE_ERROR: u16 = 1064;

/// What the reply to a command has told.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The reply ended with ERR.
    pub(super) errno: Option<u16>,
    /// Any of its results counted warnings; the last of several statements may keep the list.
    pub(super) had_warnings: bool,
    pub(super) insert_id: u64,
    pub(super) affected: Option<u64>,
    pub(super) has_rows: bool,
    /// Its rows are yet to be fetched from a cursor.
    pub(super) opens_cursor: bool,
    pub(super) status_seen: bool,
    /// What becomes of an older list, as far as the text tells.
    pub(super) fate: Fate,
}

/// What has become of that which a statement reads.
#[derive(Debug)]
pub(super) enum Look {
    /// It can be had, best on the connection used last.
    Readable,
    /// Another session's lease is reading it out.
    OnItsWay,
    /// Its connection is gone.
    Lost,
    /// The conditions are no longer on a connection: the server's reply to SHOW WARNINGS was this.
    Kept(Rc<[u8]>),
}

/// What a statement reads was lost with its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// What has to be done ahead of a session's statement because of what others left on the connection.
#[derive(Debug)]
pub(super) struct TakenOver {
    /// What has to be read out, in this order.
    pub(super) read_out: Residues,
    /// Another session's conditions must not show as this one's.
    pub(super) clears_conditions: bool,
    /// LAST_INSERT_ID() must be 0, so that a new one shows.
    pub(super) clears_insert_id: bool,
}

/// What a session's last statement has left behind.
#[derive(Debug)]
pub(super) struct LeftBehind {
    owner: u64,
    settled: Rc<Settled>,
    /// Counts statements run upstream.
    serial: u64,
    row_count: i64,
    found_rows: u64,
    /// Counts results with rows, which set FOUND_ROWS().
    rows_serial: u64,
    insert_id: InsertId,
    conditions: Option<Rc<Residue>>,
    found_rows_residue: Option<Rc<Residue>>,
}

/// Counts that a statement reads and its connection has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    row_count: bool,
    found_rows: bool,
}

impl Missing {
    /// Whether any is.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

impl LeftBehind {
    /// Of session `owner`, which has run nothing. It is told in `settled` what it waits for.
    pub(super) fn new(owner: u64, settled: Rc<Settled>) -> Self {
        Self {
            owner,
            settled,
            serial: 0,
            row_count: 0,
            found_rows: 0,
            rows_serial: 0,
            insert_id: InsertId::new(owner),
            conditions: None,
            found_rows_residue: None,
        }
    }

    /// The session.
    pub(super) fn owner(&self) -> u64 {
        self.owner
    }

    /// As after COM_RESET_CONNECTION.
    pub(super) fn reset(&mut self) {
        self.conditions = None;
        self.insert_id = InsertId::new(self.owner);
    }

    /// Looks for what a statement reads of the one before it.
    pub(super) fn look(&self, effects: &Effects) -> Look {
        let place = |reads: bool, residue: &Option<Rc<Residue>>| {
            let residue = residue.as_ref().filter(|_| reads);
            residue.map(|residue| residue.place())
        };
        if effects.needs_insert_id() {
            match self.insert_id.look(effects.reads_insert_id) {
                Look::Readable => {}
                other => return other,
            }
        }
        let found_rows = place(effects.reads_found_rows, &self.found_rows_residue);
        let conditions = place(effects.reads_conditions, &self.conditions);
        if [&found_rows, &conditions].contains(&&Some(Place::Leaving)) {
            return Look::OnItsWay;
        }
        if found_rows == Some(Place::Lost) {
            return Look::Lost;
        }
        match conditions {
            Some(Place::Kept(reply)) => Look::Kept(reply),
            Some(Place::Lost) => Look::Lost,
            Some(Place::OnConnection | Place::Leaving) | None => Look::Readable,
        }
    }

    /// Whether something that may be read is known to its connection only.
    pub(super) fn is_unknown(&self) -> bool {
        let is_there = |residue: &Option<Rc<Residue>>| {
            residue
                .as_ref()
                .is_some_and(|residue| residue.place() == Place::OnConnection)
        };
        self.insert_id.is_unknown()
            || is_there(&self.found_rows_residue)
            || is_there(&self.conditions)
    }

    /// Whether nothing that may be read is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.residues().all(|residue| residue.is_settled())
    }

    /// The session is to be told when anything that is on its way no longer is.
    pub(super) fn await_settled(&self) {
        self.residues()
            .for_each(|residue| residue.await_settled(&self.settled));
    }

    fn residues(&self) -> impl Iterator<Item = &Rc<Residue>> {
        let others = [&self.conditions, &self.found_rows_residue];
        self.insert_id.pieces().chain(others.into_iter().flatten())
    }

    /// A reply, the server's or the gateway's own, has set ROW_COUNT().
    pub(super) fn note_row_count(&mut self, row_count: i64) {
        self.row_count = row_count;
        self.serial = self.serial.wrapping_add(1);
    }

    /// The command in progress is answered with an ERR that no statement of the session has caused:
    /// what the one before left is not what the client may ask for now.
    pub(super) fn refused(&mut self) {
        self.conditions = None;
        self.note_row_count(-1);
    }

    /// The command in progress, which does `effects`, is answered with an error of the gateway's own.
    pub(super) fn told(&mut self, event: Event, effects: &Effects) {
        let may_have_run = matches!(
            event,
            Event::OutcomeUnknown | Event::StatementDeadline | Event::DeadlineUnknown
        );
        if may_have_run && effects.found_rows != FoundRows::Kept {
            self.lose_found_rows();
        }
        match event {
            Event::DiagnosticsMoved | Event::LastStatementLost => self.note_row_count(-1),
            _ => self.refused(),
        }
    }

    /// This session's statement is the next on the connection; whether it `may_insert` is asked where it
    /// matters.
    pub(super) fn take_over(
        &self,
        there: &mut Leftovers,
        may_insert: impl FnOnce() -> bool,
    ) -> Option<TakenOver> {
        let is_marked = !there.residues.is_empty() || there.has_conditions || there.has_insert_id;
        let taken = is_marked.then(|| {
            let may_insert = may_insert();
            let mut read_out = there.take_wanted(self.owner);
            let is_others_id = |there: &Leftovers| {
                may_insert && there.has_insert_id && !self.insert_id.is_on(there)
            };
            if is_others_id(there) {
                // An older one of its own, which it may still have to go back to.
                read_out.extend(there.take_own(self.owner));
            }
            let clears_insert_id = is_others_id(there);
            there.has_insert_id &= !clears_insert_id;
            let mut left = there.residues.iter();
            let is_own = left.any(|residue| residue.kind() == Kind::Diagnostics);
            let clears_conditions = there.has_conditions && !is_own;
            there.has_conditions &= is_own;
            TakenOver {
                read_out,
                clears_conditions,
                clears_insert_id,
            }
        });
        if there.last_user.0 != self.owner {
            // Whatever this session does here, another one's last statement is no longer the last:
            // its read-out alone changes what the counts say.
            there.last_user = (0, 0);
        }
        taken
    }

    /// Whether the connection has run this session's last statement, and nothing since.
    fn ran_last_on(&self, there: &Leftovers) -> bool {
        there.last_user == (self.owner, self.serial)
    }

    /// What gives the connection the session's LAST_INSERT_ID() before a statement reads it there, or may
    /// set it or not.
    ///
    /// # Errors
    /// Nobody knows it any more.
    pub(super) fn move_insert_id(
        &mut self,
        effects: &Effects,
        there: &mut Leftovers,
    ) -> Result<Move, Lost> {
        self.insert_id.move_to(there, effects.reads_insert_id)
    }

    /// What has to be read out, in this order, for the connection to tell LAST_INSERT_ID().
    pub(super) fn ask_for_insert_id(&self, there: &mut Leftovers) -> Residues {
        there.take_own(self.owner)
    }

    /// Looks whether conditions that a statement reads are on the connection.
    ///
    /// # Errors
    /// They are not.
    pub(super) fn check_conditions(
        &self,
        effects: &Effects,
        there: &Leftovers,
    ) -> Result<(), Lost> {
        let is_elsewhere = |mine: &Rc<Residue>| !there.has(mine);
        match effects.reads_conditions && self.conditions.as_ref().is_some_and(is_elsewhere) {
            true => Err(Lost),
            false => Ok(()),
        }
    }

    /// Which of the counts that a statement reads are not those of the connection. `has_moved_id`: it was
    /// just given an insert id, which counts as a statement of its own.
    pub(super) fn missing_counts(
        &self,
        effects: &Effects,
        there: &Leftovers,
        has_moved_id: bool,
    ) -> Missing {
        let has_rows = there.last_rows == (self.owner, self.rows_serial);
        let ran_last = self.ran_last_on(there) && !has_moved_id;
        Missing {
            row_count: effects.reads_row_count && !ran_last,
            found_rows: effects.reads_found_rows && !has_rows,
        }
    }

    /// ROW_COUNT() and FOUND_ROWS(), those that are missing, for a statement that reads them away from
    /// their connection.
    ///
    /// # Errors
    /// Nobody knows them any more.
    pub(super) fn counts(&mut self, missing: Missing) -> Result<(Option<i64>, Option<u64>), Lost> {
        if missing.found_rows
            && let Some(residue) = &self.found_rows_residue
        {
            let Place::Kept(reply) = residue.place() else {
                return Err(Lost);
            };
            self.found_rows = read_number(&reply).ok_or(Lost)?;
        }
        Ok((
            missing.row_count.then_some(self.row_count),
            missing.found_rows.then_some(self.found_rows),
        ))
    }

    /// This many rows of a result have been sent, and that is what FOUND_ROWS() is now.
    pub(super) fn note_rows(&mut self, count: u64, there: &mut Leftovers) {
        self.found_rows = count;
        self.count_rows_on(there);
    }

    /// FOUND_ROWS() of the connection is this session's.
    fn count_rows_on(&mut self, there: &mut Leftovers) {
        self.rows_serial = self.rows_serial.wrapping_add(1);
        there.last_rows = (self.owner, self.rows_serial);
    }

    /// The reply to a command is complete.
    pub(super) fn end(
        &mut self,
        command: u8,
        effects: &Effects,
        outcome: &Outcome,
        there: &mut Leftovers,
    ) {
        // What the statement before left stays readable through a PREPARE that succeeds.
        let leaves_counts = command == com::STMT_SEND_LONG_DATA
            || command == com::STMT_PREPARE && outcome.errno.is_none();
        self.end_counts(leaves_counts, outcome, there);
        if leaves_counts || matches!(command, com::STMT_FETCH | com::STMT_RESET | com::PING) {
            return;
        }
        // One of several statements may have read them and a later one left its own.
        let has_conditions = outcome.errno.is_some() || outcome.had_warnings;
        if has_conditions {
            self.list_on(there);
        } else if !effects.reads_conditions {
            self.keep_conditions(outcome.fate, there);
        }
        if command != com::STMT_PREPARE {
            self.leave_found_rows(effects, outcome, there);
        }
        if command == com::STMT_PREPARE {
            return;
        }
        let has_failed = outcome.errno.is_some();
        let may_have_run = outcome.status_seen || outcome.errno != Some(ER_PARSE_ERROR);
        if effects.sets_insert_id {
            self.insert_id.may_be_set_on(there);
        } else if outcome.insert_id != 0 || has_failed && effects.may_insert && may_have_run {
            self.insert_id.may_be_new_on(there);
        }
    }

    /// What ROW_COUNT() is from now on, and where the server would know it.
    fn end_counts(&mut self, leaves_counts: bool, outcome: &Outcome, there: &mut Leftovers) {
        if !leaves_counts {
            let row_count = match (outcome.errno, outcome.affected) {
                (None, Some(affected)) => i64::try_from(affected).unwrap_or(i64::MAX),
                _ => -1,
            };
            self.note_row_count(row_count);
            there.last_user = (self.owner, self.serial);
        } else if !self.ran_last_on(there) {
            // Used by this session, but not for the statement whose counts it may ask for.
            there.last_user = (self.owner, self.serial.wrapping_sub(1));
        }
    }

    /// Whether there may be a list of conditions, or it was lost.
    pub(super) fn has_conditions(&self) -> bool {
        self.conditions.is_some()
    }

    /// Whether the connection has the session's list of conditions.
    pub(super) fn has_conditions_on(&self, there: &Leftovers) -> bool {
        let mine = self.conditions.as_ref();
        mine.is_some_and(|mine| there.has(mine))
    }

    /// The connection's list of conditions is this session's.
    pub(super) fn list_on(&mut self, there: &mut Leftovers) {
        there.put(Kind::Diagnostics, &mut self.conditions, self.owner);
        // A statement that uses no table may leave the list as it was.
        there.has_conditions = true;
    }

    /// What a statement without conditions of its own has made of a list that this connection has not.
    #[inline]
    fn keep_conditions(&mut self, fate: Fate, there: &Leftovers) {
        let Some(mine) = self.conditions.as_ref().filter(|mine| !there.has(mine)) else {
            return;
        };
        let is_empty = matches!(mine.place(), Place::Kept(reply) if has_no_rows(&reply));
        match fate {
            Fate::Kept => {}
            Fate::Unclear if !is_empty => self.lose_conditions(),
            Fate::Emptied | Fate::Unclear => self.conditions = None,
        }
    }

    /// A statement without conditions of its own has emptied the list.
    pub(in crate::session::mysql) fn empty_list(&mut self, there: &Leftovers) {
        self.keep_conditions(Fate::Emptied, there);
    }

    /// Nobody can tell the list of conditions.
    pub(super) fn lose_conditions(&mut self) {
        self.conditions = Some(Residue::lost(Kind::Diagnostics, self.owner));
    }

    /// What the statement has made of FOUND_ROWS().
    fn leave_found_rows(&mut self, effects: &Effects, outcome: &Outcome, there: &mut Leftovers) {
        let has_run = outcome.status_seen || outcome.errno != Some(ER_PARSE_ERROR);
        let found_rows = match effects.found_rows {
            FoundRows::Kept => return,
            _ if !has_run => return,
            _ if outcome.errno.is_some() => FoundRows::Unclear,
            FoundRows::Sent if !outcome.has_rows => FoundRows::Unclear,
            // The server has counted what it has not sent.
            FoundRows::Sent if outcome.opens_cursor => FoundRows::Counted,
            other => other,
        };
        if found_rows == FoundRows::Sent {
            return there.clear(&mut self.found_rows_residue);
        }
        let is_here = there.last_rows == (self.owner, self.rows_serial);
        if found_rows == FoundRows::Counted || is_here {
            self.count_rows_on(there);
            there.put(Kind::FoundRows, &mut self.found_rows_residue, self.owner);
        } else {
            // It may have been kept, and what it was before is not on this connection.
            self.lose_found_rows();
        }
    }

    /// Nobody knows what FOUND_ROWS() is.
    fn lose_found_rows(&mut self) {
        self.rows_serial = self.rows_serial.wrapping_add(1);
        self.found_rows_residue = Some(Residue::lost(Kind::FoundRows, self.owner));
    }
}
