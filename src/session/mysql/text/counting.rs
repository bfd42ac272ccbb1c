//! What a statement makes of FOUND_ROWS(), by its words.

use super::{FoundRows, Kind, keyword::Keyword};

/// The words of a statement that decide what it does to FOUND_ROWS().
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counting {
    /// UNION and its kind.
    pub(super) has_union: bool,
    pub(super) has_limit: bool,
    /// SQL_CALC_FOUND_ROWS, PROCEDURE ANALYSE: not the rows sent.
    pub(super) is_special: bool,
    /// VALUES and TABLE, which are no SELECT; a SHOW that is one in disguise.
    pub(super) is_list: bool,
    /// A SELECT that is not the first word.
    pub(super) has_select: bool,
    /// Of UPDATE and DELETE: several tables, which servers read like a SELECT.
    pub(super) has_join: bool,
    /// SET was seen: the list of an UPDATE's tables is over.
    pub(super) has_set: bool,
    /// SHOW WARNINGS and SHOW ERRORS, which leave it as it was.
    pub(super) shows_conditions: bool,
}

impl Counting {
    /// Takes in a word that is not the first.
    pub(super) fn word(&mut self, keyword: Keyword) {
        use Keyword as K;
        match keyword {
            K::Union | K::Except | K::Intersect => self.has_union = true,
            K::Limit => self.has_limit = true,
            K::SqlCalcFoundRows | K::Procedure => self.is_special = true,
            K::Select => self.has_select = true,
            K::Join | K::StraightJoin | K::Using => self.has_join = true,
            K::Set => self.has_set = true,
            _ => {}
        }
    }

    /// What becomes of FOUND_ROWS(). Seen on MariaDB 10.11: some SHOWs and EXPLAINs set it, others
    /// do not; INSERT … SELECT does, and so do joins in UPDATE and DELETE; a subselect does unless
    /// it was optimized away.
    pub(super) fn found_rows(self, kind: Kind, has_into: bool) -> FoundRows {
        let unclear_if = |is_unclear| match is_unclear {
            true => FoundRows::Unclear,
            false => FoundRows::Kept,
        };
        match kind {
            Kind::Empty => FoundRows::Kept,
            Kind::Select if self.is_list => FoundRows::Unclear,
            Kind::Select if self.is_special || self.has_union && self.has_limit || has_into => {
                FoundRows::Counted
            }
            // CALL and EXECUTE keep the connection, where the server knows better.
            Kind::Select | Kind::Call | Kind::Execute => FoundRows::Sent,
            Kind::Show if self.is_list => FoundRows::Sent,
            Kind::Show => unclear_if(!self.shows_conditions),
            Kind::Explain => FoundRows::Unclear,
            Kind::Update | Kind::Delete => unclear_if(self.has_select || self.has_join),
            _ => unclear_if(self.has_select),
        }
    }
}
