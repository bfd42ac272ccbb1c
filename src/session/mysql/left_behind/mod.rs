//! What a statement leaves behind for the next one of its session to read: LAST_INSERT_ID(),
//! ROW_COUNT(), FOUND_ROWS(), and the conditions that SHOW WARNINGS lists.
//!
//! `LeftBehind` is what the session knows of it, `Leftovers` is what lies on a connection. What the
//! replies tell, the session knows itself; where it runs its next statement on another connection,
//! that one is given the values. What only the connection knows is a `Residue` that both hold.
//! The rules when each is set, kept, lost and told are here; nothing here writes a byte.

#[cfg(test)]
mod last_statement;
mod leftovers;
pub(super) mod residue;
mod settled;

use std::rc::Rc;

pub(super) use self::leftovers::Leftovers;
use self::leftovers::Residues;
use self::residue::{Kind, Place, read_number};
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
    pub(super) status_seen: bool,
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
    insert_id: u64,
    /// `insert_id` is the value; if not, only the connection knows it.
    insert_id_is_known: bool,
    insert_id_residue: Option<Rc<Residue>>,
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
            insert_id: 0,
            insert_id_is_known: true,
            insert_id_residue: None,
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
        self.insert_id = 0;
        self.insert_id_is_known = true;
        self.insert_id_residue = None;
    }

    /// Looks for what a statement reads of the one before it.
    pub(super) fn look(&self, effects: &Effects) -> Look {
        let place = |reads: bool, residue: &Option<Rc<Residue>>| {
            let residue = residue.as_ref().filter(|_| reads);
            residue.map(|residue| residue.place())
        };
        let insert_id = place(effects.needs_insert_id(), &self.insert_id_residue);
        let found_rows = place(effects.reads_found_rows, &self.found_rows_residue);
        let conditions = place(effects.reads_conditions, &self.conditions);
        if [&insert_id, &found_rows, &conditions].contains(&&Some(Place::Leaving)) {
            return Look::OnItsWay;
        }
        let is_read = effects.reads_insert_id && !self.insert_id_is_known;
        let is_lost_id = is_read && insert_id == Some(Place::Lost);
        if is_lost_id || found_rows == Some(Place::Lost) {
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
        is_there(&self.found_rows_residue)
            || (!self.insert_id_is_known && is_there(&self.insert_id_residue))
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
        [
            &self.insert_id_residue,
            &self.conditions,
            &self.found_rows_residue,
        ]
        .into_iter()
        .flatten()
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
            Event::OutcomeUnknown
                | Event::StatementDeadline
                | Event::DeadlineUnknown
                | Event::Drain
        );
        if may_have_run && effects.found_rows != FoundRows::Kept {
            self.lose_found_rows();
        }
        match event {
            Event::DiagnosticsMoved | Event::LastStatementLost => self.note_row_count(-1),
            _ => self.refused(),
        }
    }

    /// This session's statement is the next on the connection.
    pub(super) fn take_over(&self, there: &mut Leftovers) -> Option<TakenOver> {
        let is_marked = !there.residues.is_empty() || there.has_conditions;
        let taken = is_marked.then(|| {
            let read_out = there.take_wanted(self.owner);
            let mut left = there.residues.iter();
            let is_own = self.ran_last_on(there) || left.any(|r| r.kind() == Kind::Diagnostics);
            let clears_conditions = there.has_conditions && !is_own;
            there.has_conditions &= is_own;
            TakenOver {
                read_out,
                clears_conditions,
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

    /// The LAST_INSERT_ID() that the connection must be given before a statement reads it there;
    /// `None` if it has it.
    ///
    /// # Errors
    /// Nobody knows it any more.
    pub(super) fn insert_id_to_set(&mut self, there: &Leftovers) -> Result<Option<u64>, Lost> {
        if let Some(residue) = &self.insert_id_residue {
            if there.has(residue) {
                return Ok(None);
            }
            match residue.place() {
                Place::Kept(reply) => self.insert_id = read_number(&reply).ok_or(Lost)?,
                _ if self.insert_id_is_known => {}
                _ => return Err(Lost),
            }
        }
        Ok(Some(self.insert_id))
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
            there.put(Kind::Diagnostics, &mut self.conditions, self.owner);
            // A statement that uses no table may leave the list as it was.
            there.has_conditions = true;
        } else if !effects.reads_conditions {
            there.clear(&mut self.conditions);
        }
        if command != com::STMT_PREPARE {
            self.leave_found_rows(effects, outcome, there);
        }
        if command == com::STMT_PREPARE {
            return;
        }
        // Where the connection has this session's id, it still has after a failed INSERT, old or new.
        let is_here = |mine: &Rc<Residue>| there.has(mine);
        let has_own =
            outcome.insert_id != 0 || self.insert_id_residue.as_ref().is_some_and(is_here);
        let may_have_set =
            effects.sets_insert_id || outcome.errno.is_some() && effects.may_insert && has_own;
        if outcome.insert_id != 0 || may_have_set {
            let has_failed = outcome.errno.is_some() && outcome.insert_id == 0;
            if has_failed && !self.knows_insert_id(there) {
                // It is as lost as before.
                return;
            }
            self.insert_id_is_known = outcome.insert_id != 0 && !may_have_set;
            if outcome.insert_id != 0 {
                self.insert_id = outcome.insert_id;
            }
            there.put(Kind::InsertId, &mut self.insert_id_residue, self.owner);
        }
    }

    /// Whether LAST_INSERT_ID() is known, or this connection has it.
    fn knows_insert_id(&self, there: &Leftovers) -> bool {
        let is_known = |mine: &Rc<Residue>| {
            there.has(mine) || self.insert_id_is_known || matches!(mine.place(), Place::Kept(_))
        };
        self.insert_id_residue.as_ref().is_none_or(is_known)
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

    /// What the statement has made of FOUND_ROWS().
    fn leave_found_rows(&mut self, effects: &Effects, outcome: &Outcome, there: &mut Leftovers) {
        let has_run = outcome.status_seen || outcome.errno != Some(ER_PARSE_ERROR);
        let found_rows = match effects.found_rows {
            FoundRows::Kept => return,
            _ if !has_run => return,
            _ if outcome.errno.is_some() => FoundRows::Unclear,
            FoundRows::Sent if !outcome.has_rows => FoundRows::Unclear,
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
