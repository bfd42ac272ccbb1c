//! LAST_INSERT_ID() of a session, and which connections have it.
//!
//! An OK packet does not tell it: of a statement that generated no id, MariaDB's has the value that
//! the last row was given in the statement's text. So where a statement ran that may have generated one, its
//! connection has the id. If the connection had the session's id before, it has the session's id now.
//! If it had 0 before, it has the new id, or still 0, and then the id is what it was. No connection runs
//! such a statement that has another session's.

use std::rc::Rc;

use smallvec::SmallVec;

use super::leftovers::Leftovers;
use super::residue::{Kind, Place, Residue, read_number};
use super::{Look, Lost};

/// Connections in doubt that are remembered for one session; of more, the oldest are lost.
const PIECES_MAX: usize = 4;

/// LAST_INSERT_ID() of one session.
#[derive(Debug)]
pub(super) struct InsertId {
    owner: u64,
    /// Its value, where the gateway knows it; then the newest piece has it too.
    known: Option<u64>,
    /// The connections that know it, the newest first. Where one has 0, the next tells.
    pieces: SmallVec<[Rc<Residue>; 2]>,
    /// What it is if all pieces have 0; `None` if nobody knows.
    before: Option<u64>,
}

/// What gives a connection the session's LAST_INSERT_ID().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session::mysql) enum Move {
    /// The connection has it.
    None,
    /// It is to be set to this.
    Set(u64),
    /// It is to be set to this if it is 0.
    SetIfZero(u64),
    /// The connection has to be asked first.
    Ask,
}

/// What pieces say of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    Known(u64),
    /// Only a connection knows.
    Untold,
    Lost,
}

impl InsertId {
    /// Of session `owner`, which has inserted nothing.
    pub(super) fn new(owner: u64) -> Self {
        Self {
            owner,
            known: Some(0),
            pieces: SmallVec::new(),
            before: Some(0),
        }
    }

    /// What may still be read of it.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Rc<Residue>> {
        self.pieces.iter()
    }

    /// Looks for it, for a statement that reads it, or that may set it or not.
    pub(super) fn look(&self, is_read: bool) -> Look {
        if !self.pieces.iter().all(|piece| piece.is_settled()) {
            return Look::OnItsWay;
        }
        let is_lost = self.known.is_none() && worth(&self.pieces, self.before) == Worth::Lost;
        match is_read && is_lost {
            true => Look::Lost,
            false => Look::Readable,
        }
    }

    /// Whether an idle connection knows it and the gateway does not.
    pub(super) fn is_unknown(&self) -> bool {
        let newest = self.pieces.first();
        self.known.is_none() && newest.is_some_and(|piece| piece.place() == Place::OnConnection)
    }

    /// Whether the connection has the session's, as far as the session has one.
    pub(super) fn is_on(&self, there: &Leftovers) -> bool {
        self.pieces.first().is_some_and(|piece| there.has(piece))
    }

    /// A statement of the session's that reads it, or may set it or not, is about to run on this
    /// connection, which has it once what this says is done.
    ///
    /// # Errors
    /// The statement reads it, and nobody knows it any more.
    pub(super) fn move_to(&mut self, there: &mut Leftovers, is_read: bool) -> Result<Move, Lost> {
        self.settle();
        if self.is_on(there) {
            let older = self.pieces.get(1..).unwrap_or_default();
            return Ok(match (self.known, worth(older, self.before)) {
                (Some(_), _) | (None, Worth::Known(0)) => Move::None,
                (None, Worth::Known(value)) => {
                    self.pieces.truncate(1);
                    self.before = Some(0);
                    Move::SetIfZero(value)
                }
                (None, Worth::Untold | Worth::Lost) => Move::Ask,
            });
        }
        let value = self.known.or(match worth(&self.pieces, self.before) {
            Worth::Known(value) => Some(value),
            Worth::Untold | Worth::Lost => None,
        });
        if value.is_none() && is_read {
            return Err(Lost);
        }
        // It is not what the statement asks for if nobody knows it, and another session's it must not be.
        self.known = value;
        self.before = value.map(|_| 0);
        self.pieces.clear();
        self.pieces.push(there.add(Kind::InsertId, self.owner));
        Ok(Move::Set(value.unwrap_or(0)))
    }

    /// A statement that may have generated an id has run on this connection, which had the session's or 0.
    pub(super) fn may_be_new_on(&mut self, there: &mut Leftovers) {
        self.settle();
        if self.is_on(there) {
            self.known = None;
            return;
        }
        if let Some(known) = self.known.take() {
            self.pieces.clear();
            self.before = Some(known);
        }
        self.pieces.insert(0, there.add(Kind::InsertId, self.owner));
        if self.pieces.len() > PIECES_MAX {
            self.pieces.truncate(PIECES_MAX);
            self.before = None;
        }
    }

    /// A statement has run on this connection that may have set it there, or left the session's.
    pub(super) fn may_be_set_on(&mut self, there: &mut Leftovers) {
        self.known = None;
        if !self.is_on(there) {
            self.before = Some(0);
            self.pieces.clear();
            self.pieces.push(there.add(Kind::InsertId, self.owner));
        }
    }

    /// Takes in what has been read out.
    fn settle(&mut self) {
        while let Some(Place::Kept(reply)) = self.pieces.first().map(|piece| piece.place()) {
            match read_number(&reply) {
                Some(0) => {
                    self.pieces.remove(0);
                    continue;
                }
                Some(value) => self.known = Some(value),
                None => self.before = None,
            }
            self.pieces.clear();
        }
        if self.pieces.is_empty() && self.known.is_none() {
            self.known = self.before;
        }
    }
}

/// What these pieces, and what was `before` them, say of the value.
fn worth(pieces: &[Rc<Residue>], before: Option<u64>) -> Worth {
    for piece in pieces {
        match piece.place() {
            Place::Kept(reply) => match read_number(&reply) {
                Some(0) => {}
                Some(value) => return Worth::Known(value),
                None => return Worth::Lost,
            },
            Place::OnConnection | Place::Leaving => return Worth::Untold,
            Place::Lost => return Worth::Lost,
        }
    }
    before.map_or(Worth::Lost, Worth::Known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What session 7 has said of its id, and the residues that its read-out would fill.
    struct Scene {
        id: InsertId,
        a: Leftovers,
        b: Leftovers,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                id: InsertId::new(7),
                a: Leftovers::default(),
                b: Leftovers::default(),
            }
        }

        /// A session whose id is known to be 5, on no connection.
        fn with_known() -> Self {
            let mut scene = Self::new();
            scene.id.may_be_new_on(&mut scene.a);
            read_out(&mut scene.a, 5);
            scene
        }
    }

    /// Another session's lease reads out what is on a connection, which says `value`.
    fn read_out(there: &mut Leftovers, value: u8) {
        for residue in there.take_all() {
            residue.read(b"\x01\0\0\x01\x02\x01\0\0\x02x\x01\0\0\x03x\x04\0\0\x04\x01");
            residue.read(&[b'0' + value, 1, b'0']);
            residue.end_reading(true);
        }
    }

    #[test]
    fn a_first_id_needs_nothing_and_a_later_one_the_one_before() {
        let mut scene = Scene::new();
        scene.id.may_be_new_on(&mut scene.a);
        assert_eq!(scene.id.move_to(&mut scene.a, true), Ok(Move::None));
        let mut scene = Scene::with_known();
        scene.id.may_be_new_on(&mut scene.a);
        let moved = scene.id.move_to(&mut scene.a, true);
        assert_eq!(moved, Ok(Move::SetIfZero(5)));
        // From now on it has the session's, whatever that is.
        assert_eq!(scene.id.move_to(&mut scene.a, true), Ok(Move::None));
        scene.id.may_be_new_on(&mut scene.a);
        assert_eq!(scene.id.move_to(&mut scene.a, true), Ok(Move::None));
    }

    #[test]
    fn a_connection_that_has_0_has_left_it_as_it_was() {
        for (said, value) in [(0, 5), (9, 9)] {
            let mut scene = Scene::with_known();
            scene.id.may_be_new_on(&mut scene.a);
            assert!(scene.id.is_unknown());
            read_out(&mut scene.a, said);
            assert!(!scene.id.is_unknown() && !scene.a.has_insert_id());
            let moved = scene.id.move_to(&mut scene.b, true);
            assert_eq!(moved, Ok(Move::Set(value)));
            assert_eq!(scene.id.move_to(&mut scene.b, true), Ok(Move::None));
        }
    }

    #[test]
    fn an_id_in_doubt_on_two_connections_is_the_newest_that_there_is() {
        for (on_a, on_b, value) in [(0, 0, 5), (8, 0, 8), (0, 9, 9), (8, 9, 9)] {
            let mut scene = Scene::with_known();
            scene.id.may_be_new_on(&mut scene.a);
            scene.id.may_be_new_on(&mut scene.b);
            assert_eq!(scene.id.move_to(&mut scene.b, true), Ok(Move::Ask));
            assert_eq!(scene.id.move_to(&mut scene.a, true), Err(Lost));
            read_out(&mut scene.a, on_a);
            read_out(&mut scene.b, on_b);
            let moved = scene.id.move_to(&mut scene.a, true);
            assert_eq!(moved, Ok(Move::Set(value)), "{on_a} {on_b}");
        }
    }

    #[test]
    fn an_id_that_was_lost_is_found_again_by_the_next_one_and_by_no_other() {
        let mut scene = Scene::with_known();
        scene.id.may_be_new_on(&mut scene.a);
        scene.a = Leftovers::default();
        assert!(matches!(scene.id.look(true), Look::Lost));
        assert!(matches!(scene.id.look(false), Look::Readable));
        assert_eq!(scene.id.move_to(&mut scene.b, true), Err(Lost));
        for (said, moved) in [(0, Err(Lost)), (9, Ok(Move::Set(9)))] {
            scene.id.may_be_new_on(&mut scene.b);
            assert!(matches!(scene.id.look(true), Look::Readable));
            assert_eq!(scene.id.move_to(&mut scene.b, true), Ok(Move::Ask));
            for residue in scene.b.take_own(7) {
                residue.end_reading(false);
            }
            assert_eq!(scene.id.move_to(&mut scene.b, true), Err(Lost));
            scene.id.may_be_new_on(&mut scene.b);
            read_out(&mut scene.b, said);
            assert_eq!(scene.id.move_to(&mut scene.b, true), moved);
        }
    }

    #[test]
    fn what_may_set_it_or_not_finds_0_where_nobody_knows_it_and_it_stays_lost() {
        let mut scene = Scene::with_known();
        scene.id.may_be_new_on(&mut scene.a);
        scene.a = Leftovers::default();
        assert_eq!(scene.id.move_to(&mut scene.b, false), Ok(Move::Set(0)));
        scene.id.may_be_set_on(&mut scene.b);
        read_out(&mut scene.b, 0);
        assert_eq!(scene.id.move_to(&mut scene.b, true), Err(Lost));
    }

    #[test]
    fn only_so_many_connections_in_doubt_are_remembered() {
        let mut scene = Scene::with_known();
        let mut many: Vec<_> = (0..9).map(|_| Leftovers::default()).collect();
        for there in &mut many {
            scene.id.may_be_new_on(there);
        }
        assert_eq!(scene.id.pieces().count(), PIECES_MAX);
        many.iter_mut().for_each(|there| read_out(there, 0));
        assert!(matches!(scene.id.look(true), Look::Lost));
    }
}
