//! What sessions have left on one connection: whose statement ran last, whose rows were counted last,
//! and the pieces that only this connection knows.

use std::rc::Rc;

use smallvec::SmallVec;

use super::residue::{Kind, Residue};

/// Pieces left behind; few, as each session leaves one of a kind.
pub(in crate::session::mysql) type Residues = SmallVec<[Rc<Residue>; 2]>;

/// What sessions have left on a connection.
#[derive(Debug, Default)]
pub(in crate::session::mysql) struct Leftovers {
    /// The session and its statement that ran last.
    pub(super) last_user: (u64, u64),
    /// The session, and which of its results with rows, FOUND_ROWS() would tell of.
    pub(super) last_rows: (u64, u64),
    pub(super) residues: Residues,
    /// The last statement left conditions that SHOW WARNINGS would list.
    pub(super) has_conditions: bool,
    /// LAST_INSERT_ID() may be another than 0.
    pub(super) has_insert_id: bool,
}

impl Leftovers {
    /// On a connection that another core has lent, which tells of it no more than this.
    pub(in crate::session::mysql) fn lent(has_conditions: bool, has_insert_id: bool) -> Self {
        let mut lent = Self::default();
        lent.has_conditions = has_conditions;
        lent.has_insert_id = has_insert_id;
        lent
    }

    /// Whether LAST_INSERT_ID() may be another than 0.
    pub(in crate::session::mysql) fn has_insert_id(&self) -> bool {
        self.has_insert_id
    }

    /// Whether SHOW WARNINGS would list anything.
    pub(in crate::session::mysql) fn has_conditions(&self) -> bool {
        self.has_conditions
    }

    /// The session that used the connection last; 0 if none has.
    pub(in crate::session::mysql) fn last_owner(&self) -> u64 {
        self.last_user.0
    }

    /// Whether a session may still read any of it.
    pub(in crate::session::mysql) fn is_wanted(&self) -> bool {
        self.residues.iter().any(is_wanted)
    }

    /// Whether the session `owner` has left anything here that it may still read.
    pub(in crate::session::mysql) fn holds_for(&self, owner: u64) -> bool {
        let mut residues = self.residues.iter();
        residues.any(|residue| residue.owner() == owner && is_wanted(residue))
    }

    /// The session `owner` has leased the connection: what others left is about to be read out.
    pub(in crate::session::mysql) fn claimed_by(&self, owner: u64) {
        let residues = self.residues.iter();
        residues
            .filter(|residue| residue.owner() != owner)
            .for_each(|residue| residue.begin_reading());
    }

    /// The connection goes back: what has not been read out is still on it.
    pub(in crate::session::mysql) fn unclaimed(&self) {
        self.residues.iter().for_each(|residue| residue.stays());
    }

    /// Takes what any session may still read, to be read out at once in this order.
    pub(in crate::session::mysql) fn take_all(&mut self) -> Residues {
        self.take_wanted(NOBODY)
    }

    /// As [`Self::take_all`], of other sessions than `owner`.
    pub(super) fn take_wanted(&mut self, owner: u64) -> Residues {
        let mut wanted = Residues::new();
        // The last owner of a residue may have gone or moved on.
        for residue in std::mem::take(&mut self.residues)
            .into_iter()
            .filter(is_wanted)
        {
            match residue.owner() == owner {
                true => self.residues.push(residue),
                false => wanted.push(residue),
            }
        }
        self.begin_reading(&mut wanted);
        wanted
    }

    /// Takes what reading LAST_INSERT_ID() out would spoil of what session `owner` itself has left here, and
    /// that, to be read out at once in this order.
    pub(super) fn take_own(&mut self, owner: u64) -> Residues {
        let is_own = |residue: &Rc<Residue>| {
            residue.owner() == owner && is_wanted(residue) && residue.kind() != Kind::Diagnostics
        };
        let mut own: Residues = self
            .residues
            .iter()
            .filter(|r| is_own(r))
            .cloned()
            .collect();
        if own.iter().all(|residue| residue.kind() != Kind::InsertId) {
            return Residues::new();
        }
        self.residues
            .retain(|residue| !own.iter().any(|own| Rc::ptr_eq(own, residue)));
        self.note_between();
        self.begin_reading(&mut own);
        own
    }

    /// These, which were taken, are about to be read out.
    fn begin_reading(&mut self, taken: &mut Residues) {
        taken.sort_by_key(|residue| residue.kind());
        for residue in taken {
            residue.begin_reading();
            self.last_rows = (NOBODY, 0);
            self.has_insert_id &= residue.kind() != Kind::InsertId;
        }
    }

    /// The gateway has run a statement of its own: nobody's counts are here.
    pub(in crate::session::mysql) fn note_foreign(&mut self) {
        self.last_user = (NOBODY, 0);
        self.last_rows = (NOBODY, 0);
    }

    /// The gateway has run a statement of its own for the last user: its ROW_COUNT() is gone.
    pub(in crate::session::mysql) fn note_between(&mut self) {
        self.last_user.1 = self.last_user.1.wrapping_sub(1);
    }

    /// The gateway has the list of conditions emptied, by a statement of its own.
    pub(in crate::session::mysql) fn note_cleared(&mut self) {
        self.note_between();
        self.has_conditions = false;
    }

    /// A statement of the gateway's own has failed or had warnings: SHOW WARNINGS would list that, and no
    /// more what a session had left.
    pub(in crate::session::mysql) fn note_conditions(&mut self) {
        self.has_conditions = true;
        self.residues.retain(|residue| {
            let is_spoiled = residue.kind() == Kind::Diagnostics;
            if is_spoiled {
                residue.connection_closed();
            }
            !is_spoiled
        });
    }

    pub(super) fn has(&self, residue: &Rc<Residue>) -> bool {
        self.residues.iter().any(|r| Rc::ptr_eq(r, residue))
    }

    /// Session `owner` has left a piece of `kind` here; `mine` becomes it.
    pub(super) fn put(&mut self, kind: Kind, mine: &mut Option<Rc<Residue>>, owner: u64) {
        if mine.as_ref().is_some_and(|mine| self.has(mine)) {
            return;
        }
        *mine = Some(self.add(kind, owner));
    }

    /// A new piece of `kind` that session `owner` has left here.
    pub(super) fn add(&mut self, kind: Kind, owner: u64) -> Rc<Residue> {
        let residue = Residue::new(kind, owner);
        // One of a kind per connection: an older one of ours is read by nobody any more.
        self.residues
            .retain(|r| r.kind() != kind || r.owner() != owner);
        self.residues.push(residue.clone());
        self.has_insert_id |= kind == Kind::InsertId;
        residue
    }

    /// A session's piece is no longer what it may read.
    pub(super) fn clear(&mut self, mine: &mut Option<Rc<Residue>>) {
        if let Some(mine) = mine.take() {
            self.residues.retain(|r| !Rc::ptr_eq(r, &mine));
        }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        for residue in &self.residues {
            residue.connection_closed();
        }
    }
}

/// The number of no session.
const NOBODY: u64 = 0;

/// Whether its session still holds it.
fn is_wanted(residue: &Rc<Residue>) -> bool {
    Rc::strong_count(residue) > 1
}
