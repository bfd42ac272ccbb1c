//! What sessions leave on a connection: who has to wait for it, and how it is saved from a connection
//! that is about to be discarded.
//!
//! A session that leases a connection reads out what others left there, ahead of its own statement.
//! If it leaves before the answers have come, they are still awaited: they belong to others.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::downstream::Session;
use super::residue::{Place, Residue};
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
        for residue in std::mem::take(&mut self.residues) {
            if Rc::strong_count(&residue) > 1 {
                packet(out, 0, |out| {
                    encode_text_command(out, com::QUERY, residue.query());
                });
                residue.begin_reading();
                self.expected.push(Expected::ReadOut(residue));
            }
        }
    }

    /// Takes in bytes of a connection that nobody uses any more. Call it while
    /// [`Upstream::owes_read_outs`].
    ///
    /// # Errors
    /// The upstream broke the protocol: nothing more can be saved.
    pub fn salvage(&mut self, bytes: &mut [u8]) -> Result<(), ReplyError> {
        let mut at = 0_usize;
        while self.owes_read_outs() {
            self.start_walking(0);
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let (used, packet, is_carried) = match self.walker.step(rest)? {
                Step::Starved => return Ok(()),
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
        Ok(())
    }
}
