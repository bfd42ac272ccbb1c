//! An upstream session on its way to another core: all that its next user must know, without what
//! only the first core's sessions and tables mean.

use std::rc::Rc;

use smallvec::SmallVec;

use super::baseline::{Known, Realm, Realms};
use super::left_behind::Leftovers;
use super::state::Vector;
use super::statements::{PackedStatement, PreparedSet, Texts};
use super::upstream::{LoginFacts, Upstream};

/// The state of an idle upstream session, in a form that may leave its core.
#[derive(Debug)]
pub struct PackedUpstream {
    thread_id: u32,
    deprecates_eof: bool,
    vector: Vector,
    statements: Vec<PackedStatement>,
    statements_max: usize,
    has_conditions: bool,
    has_insert_id: bool,
    schemas_known: SmallVec<[u64; 4]>,
    takes_several: bool,
    realm: Realm,
    baseline: Known,
}

impl Upstream {
    /// The session's state, for [`Upstream::unpack`] on another core. `None` while a reply is
    /// awaited, or while something is left on the connection that a session of this core may still
    /// read: have it read out before ([`Upstream::read_out_all`]).
    ///
    /// Whose statement ran last stays behind: sessions of this core then know that what it left in
    /// the counts is gone from here, whoever uses the connection, wherever, and even if it comes
    /// back.
    pub fn pack(&self) -> Option<PackedUpstream> {
        if !self.is_idle() || self.left.is_wanted() {
            return None;
        }
        Some(PackedUpstream {
            thread_id: self.thread_id,
            deprecates_eof: self.deprecates_eof,
            vector: (*self.vector).clone(),
            statements: self.prepared.pack(),
            statements_max: self.prepared.len_max(),
            has_conditions: self.left.has_conditions(),
            has_insert_id: self.left.has_insert_id(),
            schemas_known: self.schemas_known.clone(),
            takes_several: self.takes_several,
            realm: self.baselines.realm().clone(),
            baseline: self.baselines.known(),
        })
    }

    /// The session that another core has packed, among this core's texts and baselines.
    pub fn unpack(packed: PackedUpstream, texts: &mut Texts, realms: &Realms) -> Self {
        let baselines = realms.of(&packed.realm);
        baselines.learn(packed.baseline);
        let mut upstream = Self::new(LoginFacts {
            thread_id: packed.thread_id,
            deprecates_eof: packed.deprecates_eof,
            vector: Rc::new(packed.vector),
            statements_max: packed.statements_max,
            baselines,
        });
        upstream.prepared = PreparedSet::unpack(packed.statements, packed.statements_max, texts);
        upstream.left = Leftovers::lent(packed.has_conditions, packed.has_insert_id);
        upstream.schemas_known = packed.schemas_known;
        upstream.takes_several = packed.takes_several;
        upstream.is_shared = true;
        upstream
    }
}

#[cfg(test)]
mod tests {
    use super::super::left_behind::residue::{Kind, Place};
    use super::*;

    fn upstream() -> Upstream {
        Upstream::new(LoginFacts {
            thread_id: 7,
            deprecates_eof: true,
            vector: Rc::new(Vector::at_login("utf8mb4", "utf8mb4_bin").with_schema(b"test")),
            statements_max: 5,
            baselines: Rc::default(),
        })
    }

    fn is_send<T: Send>(_: &T) {}

    #[test]
    fn a_packed_session_is_the_same_to_its_next_user_and_forgets_the_last_one() {
        let mut first = upstream();
        drop(first.left.leave(Kind::FoundRows, 4));
        first.left.note_conditions();
        assert!(!first.knows_schema(b"test"));
        first.takes_several = true;
        let packed = first.pack().expect("idle");
        is_send(&packed);
        let mut second = Upstream::unpack(packed, &mut Texts::default(), &Realms::default());
        assert_eq!(second.thread_id, 7);
        assert!(second.deprecates_eof && second.left.has_conditions() && second.is_idle());
        assert_eq!(second.vector(), first.vector());
        assert!(second.knows_schema(b"test") && second.takes_several);
        assert!(!first.left.is_nobodys() && second.left.is_nobodys());
    }

    #[test]
    fn what_a_session_may_still_read_is_read_out_first() {
        let mut upstream = upstream();
        let residue = upstream.left.leave(Kind::InsertId, 4);
        assert!(upstream.pack().is_none());
        let mut out = Vec::new();
        upstream.read_out_all(&mut out);
        assert!(
            !out.is_empty() && upstream.pack().is_none(),
            "the answer is awaited"
        );
        let mut answer = [
            &b"\x01\0\0\x01\x01"[..],
            b"\x17\0\0\x02\x03def\0\0\0\x01x\0\x0c\x3f\0\x14\0\0\0\x08\x81\0\0\0\0",
            b"\x03\0\0\x03\x0242",
            b"\x07\0\0\x04\xfe\0\0\x02\0\0\0",
        ]
        .concat();
        answer.extend_from_slice(b"rest");
        let rest = upstream.salvage(&mut answer).expect("a good answer");
        assert_eq!(rest, b"rest", "more than was asked for");
        assert!(matches!(residue.place(), Place::Kept(_)));
        assert!(upstream.pack().is_some());
    }
}
