//! The statements that read out what sessions left on a connection, and their answers.
//!
//! A session that leases a connection has them sent ahead of its own statement. If it leaves before
//! the answers have come, they are still awaited: they belong to others. A connection that is about to
//! be discarded is asked for all that is left on it.

use std::rc::Rc;

use super::left_behind::{Residue, TakenOver};
use super::upstream::{Expected, Reader, Upstream};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::reply::{Packet, ReplyError, Step};

/// Empties the list of conditions. MariaDB keeps the list until a statement uses a table, so that
/// `DO 0` would not do (`mysql_execute_command`); MySQL empties it for every statement.
/// The subselect is not run, because that would set FOUND_ROWS().
const CLEAR_CONDITIONS: &[u8] = b"DO 1 OR (SELECT 1 FROM (SELECT 1) t)";

impl Upstream {
    /// Whether replies are awaited that belong to other sessions than the one that is leaving.
    pub fn owes_read_outs(&self) -> bool {
        self.expected
            .iter()
            .any(|expected| matches!(expected, Expected::ReadOut(_)))
    }

    /// Writes the statements that read out what is left on an idle connection, before it is closed.
    pub fn read_out_all(&mut self, out: &mut Vec<u8>) {
        for residue in self.left.take_all() {
            self.read_out(residue, out);
        }
    }

    /// Writes what goes ahead of a session's statement because of what others left here.
    pub(super) fn read_out_others(&mut self, taken: TakenOver, out: &mut Vec<u8>) {
        for residue in taken.read_out {
            self.read_out(residue, out);
        }
        if taken.clears_conditions {
            self.clear_conditions(out);
        }
        if taken.clears_insert_id {
            self.left.note_between();
            packet(out, 0, |out| {
                encode_text_command(out, com::QUERY, b"SET LAST_INSERT_ID=0");
            });
            self.expected.push(Expected::Moved);
        }
    }

    /// Writes what empties the list of conditions. It counts as a statement.
    pub(super) fn clear_conditions(&mut self, out: &mut Vec<u8>) {
        self.left.note_cleared();
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, CLEAR_CONDITIONS);
        });
        self.expected.push(Expected::Moved);
    }

    pub(super) fn read_out(&mut self, residue: Rc<Residue>, out: &mut Vec<u8>) {
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, residue.query());
        });
        self.expected.push(Expected::ReadOut(residue));
    }

    /// Takes in bytes of a connection that nobody uses any more, while [`Upstream::owes_read_outs`];
    /// the bytes behind those.
    ///
    /// # Errors
    /// The upstream broke the protocol: nothing more can be saved.
    pub fn salvage<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a mut [u8], ReplyError> {
        let mut at = 0_usize;
        while self.owes_read_outs() {
            self.start_walking(Reader::default());
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let (used, packet, is_carried) = match self.walker.step(rest)? {
                Step::Starved => return Ok(&mut []),
                Step::Pass(n) => (n, None, false),
                Step::PassCarried(n) => (n, None, true),
                Step::Packet(n, packet) => (n, Some(packet), false),
                Step::PacketCarried(n, packet) => (n, Some(packet), true),
            };
            let end = at.saturating_add(used);
            if let Some(Expected::ReadOut(residue)) = self.expected.first() {
                let raw = match is_carried {
                    true => self.walker.carried(),
                    false => bytes.get(at..end).unwrap_or_default(),
                };
                residue.read(raw);
                if self.walker.is_done() {
                    residue.end_reading(!matches!(packet, Some(Packet::Err { .. })));
                }
            }
            at = end;
            if self.walker.is_done() {
                self.is_walking = false;
                self.expected.remove(0);
            }
        }
        Ok(bytes.get_mut(at..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::left_behind::residue::{Kind, Place};
    use crate::session::mysql::state::Vector;
    use crate::session::mysql::upstream::LoginFacts;

    #[test]
    fn a_closing_connection_is_asked_for_the_counts_before_a_read_out_changes_them() {
        let mut upstream = Upstream::new(LoginFacts {
            thread_id: 1,
            deprecates_eof: true,
            vector: Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci")),
            statements_max: 1,
            baselines: Rc::default(),
        });
        let left = [Kind::InsertId, Kind::Diagnostics, Kind::FoundRows]
            .map(|kind| upstream.left.leave(kind, 7));
        drop(upstream.left.leave(Kind::FoundRows, 8));
        let mut out = Vec::new();
        upstream.read_out_all(&mut out);
        let mut expect = Vec::new();
        for sql in [
            "SELECT FOUND_ROWS()",
            "SHOW WARNINGS",
            "SELECT LAST_INSERT_ID(), LAST_INSERT_ID(0)",
        ] {
            packet(&mut expect, 0, |out| {
                encode_text_command(out, com::QUERY, sql.as_bytes());
            });
        }
        assert_eq!(
            out, expect,
            "one of each, but nothing for a session that has gone"
        );
        assert!(left.iter().all(|residue| residue.place() == Place::Leaving));
    }
}
