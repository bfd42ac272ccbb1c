//! What sessions leave on a connection: who has to wait for it, and how it is saved from a connection
//! that is about to be discarded.
//!
//! A session that leases a connection reads out what others left there, ahead of its own statement.
//! If it leaves before the answers have come, they are still awaited: they belong to others.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::downstream::Session;
use super::residue::{Kind, Place, Residue};
use super::upstream::{Expected, Upstream};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;

use crate::wire::mysql::reply::{Packet, ReplyError, Step};

impl Session {
    /// Ready when nothing that this session may read is on its way.
    pub fn poll_settled(&self, context: &Context<'_>) -> Poll<()> {
        let residues = [
            &self.insert_id_residue,
            &self.conditions,
            &self.found_rows_residue,
        ];
        for residue in residues.into_iter().flatten() {
            if residue.poll_settled(context).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// TEMP
    pub fn is_settled(&self) -> bool {
        let residues = [
            &self.insert_id_residue,
            &self.conditions,
            &self.found_rows_residue,
        ];
        let residues = residues.into_iter().flatten();
        residues.into_iter().all(|r| r.place() != Place::Leaving)
    }

    /// TEMP
    pub fn await_settled(&self) {}

    /// Whether something that this session may read is known to its connection only.
    pub(super) fn leaves_unknown(&self) -> bool {
        let is_there = |residue: &Option<Rc<Residue>>| {
            residue
                .as_ref()
                .is_some_and(|residue| residue.place() == Place::OnConnection)
        };
        is_there(&self.found_rows_residue)
            || (!self.insert_id_is_known && is_there(&self.insert_id_residue))
    }

    /// Nobody knows what FOUND_ROWS() is.
    pub(super) fn lose_found_rows(&mut self) {
        self.rows_serial = self.rows_serial.wrapping_add(1);
        self.found_rows_residue = Some(Residue::lost(Kind::FoundRows, self.owner));
    }
}

impl Upstream {
    /// Whether replies are awaited that belong to other sessions than the one that is leaving.
    pub fn owes_read_outs(&self) -> bool {
        self.expected
            .iter()
            .any(|expected| matches!(expected, Expected::ReadOut(_)))
    }

    /// Writes the statements that read out what is left on an idle connection, before it is closed.
    pub fn read_out_all(&mut self, out: &mut Vec<u8>) {
        let residues = std::mem::take(&mut self.residues);
        for kind in Kind::READ_OUT_ORDER {
            for residue in residues.iter().filter(|residue| residue.kind() == kind) {
                if Rc::strong_count(residue) > 1 {
                    self.read_out(residue, out);
                }
            }
        }
    }

    /// Writes the statement that reads `residue` out, ahead of anything else.
    pub(super) fn read_out(&mut self, residue: &Rc<Residue>, out: &mut Vec<u8>) {
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, residue.query());
        });
        residue.begin_reading();
        self.last_rows = (0, 0);
        self.expected.push(Expected::ReadOut(residue.clone()));
    }

    /// Takes in bytes of a connection that nobody uses any more, while [`Upstream::owes_read_outs`];
    /// the bytes behind those.
    ///
    /// # Errors
    /// The upstream broke the protocol: nothing more can be saved.
    pub fn salvage<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a mut [u8], ReplyError> {
        let mut at = 0_usize;
        while self.owes_read_outs() {
            self.start_walking(0);
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
    use crate::session::mysql::state::Vector;
    use crate::session::mysql::upstream::LoginFacts;

    #[test]
    fn a_closing_connection_is_asked_for_the_counts_before_a_read_out_changes_them() {
        let mut upstream = Upstream::new(LoginFacts {
            thread_id: 1,
            deprecates_eof: true,
            vector: Rc::new(Vector::default()),
            statements_max: 1,
        });
        let left: Vec<_> = [Kind::InsertId, Kind::Diagnostics, Kind::FoundRows]
            .map(|kind| Residue::new(kind, 7))
            .into();
        upstream.residues.extend(left.iter().cloned());
        upstream.residues.push(Residue::new(Kind::FoundRows, 8));
        let mut out = Vec::new();
        upstream.read_out_all(&mut out);
        let mut expect = Vec::new();
        for sql in [
            "SELECT FOUND_ROWS()",
            "SHOW WARNINGS",
            "SELECT LAST_INSERT_ID()",
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
