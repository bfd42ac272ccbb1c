//! KILL of a connection of ours that still runs a statement nobody waits for, sent over another
//! connection of the same account. A server notices a closed socket only when it next writes.

use super::upstream::{Expected, Reader, Upstream};
use crate::wire::mysql::command::encode_text_command;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::com;
use crate::wire::mysql::reply::{Packet, ReplyError, Step};

impl Upstream {
    /// Writes `KILL CONNECTION` for the server's connection `thread_id` on this idle one. What other
    /// sessions left here is read out first.
    pub fn begin_kill(&mut self, thread_id: u32, out: &mut Vec<u8>) {
        self.read_out_all(out);
        self.left.note_foreign();
        self.is_shared = true;
        let sql = format!("KILL CONNECTION {thread_id}");
        packet(out, 0, |out| {
            encode_text_command(out, com::QUERY, sql.as_bytes());
        });
        self.expected.push(Expected::Moved);
    }

    /// Takes in bytes of the reply to the KILL. `Some` when it is complete, with the server's error
    /// if it refused.
    ///
    /// # Errors
    /// The upstream broke the protocol: the connection must be discarded.
    pub fn on_kill_reply(
        &mut self,
        bytes: &mut [u8],
    ) -> Result<Option<Result<(), u16>>, ReplyError> {
        let mut rest = self.salvage(bytes)?;
        while !self.expected.is_empty() {
            self.start_walking(Reader::default());
            let (used, packet) = match self.walker.step(rest)? {
                Step::Starved => return Ok(None),
                Step::Pass(n) | Step::PassCarried(n) => (n, None),
                Step::Packet(n, packet) | Step::PacketCarried(n, packet) => (n, Some(packet)),
            };
            rest = rest.get_mut(used..).unwrap_or_default();
            if self.walker.is_done() {
                self.is_walking = false;
                self.expected.remove(0);
                if !rest.is_empty() {
                    return Err(ReplyError::Surplus);
                }
                return Ok(Some(match packet {
                    Some(Packet::Err { errno }) => {
                        self.left.note_conditions();
                        Err(errno)
                    }
                    _ => Ok(()),
                }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::session::mysql::left_behind::residue::{Kind, Place};
    use crate::session::mysql::state::Vector;
    use crate::session::mysql::upstream::LoginFacts;
    use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

    fn upstream() -> Upstream {
        Upstream::new(LoginFacts {
            thread_id: 7,
            deprecates_eof: true,
            vector: Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci")),
            statements_max: 4,
            baselines: Rc::default(),
        })
    }

    fn ok() -> Vec<u8> {
        let mut out = Vec::new();
        packet(&mut out, 1, |out| encode_ok(out, 0, &OkPacket::default()));
        out
    }

    #[test]
    fn the_answer_is_understood_however_it_is_cut() {
        let mut refused = Vec::new();
        let err = ErrPacket {
            errno: 1094,
            sqlstate: Some(*b"HY000"),
            message: b"Unknown thread id: 41",
        };
        packet(&mut refused, 1, |out| encode_err(out, &err));
        for (reply, expect) in [(ok(), Ok(())), (refused, Err(1094))] {
            for cut in 0..reply.len() {
                let mut upstream = upstream();
                let mut sent = Vec::new();
                upstream.begin_kill(41, &mut sent);
                assert_eq!(&sent[5..], b"KILL CONNECTION 41");
                let (mut a, mut b) = (reply[..cut].to_vec(), reply[cut..].to_vec());
                assert_eq!(upstream.on_kill_reply(&mut a), Ok(None), "cut at {cut}");
                assert_eq!(upstream.on_kill_reply(&mut b), Ok(Some(expect)));
                assert!(upstream.is_idle());
                assert_eq!(upstream.left.has_conditions(), expect.is_err());
            }
        }
    }

    #[test]
    fn what_a_session_left_on_the_connection_is_saved_first() {
        let mut upstream = upstream();
        let residue = upstream.left.leave(Kind::InsertId, 5);
        let mut sent = Vec::new();
        upstream.begin_kill(41, &mut sent);
        assert!(sent[5..].starts_with(b"SELECT LAST_INSERT_ID()"));
        // One column, its definition, the row "12", the end.
        let mut reply = Vec::new();
        for (sequence, payload) in [(1, &b"\x01"[..]), (2, b"\x03def"), (3, b"\x0212")] {
            packet(&mut reply, sequence, |out| out.extend_from_slice(payload));
        }
        packet(&mut reply, 4, |out| {
            out.extend_from_slice(b"\xfe\0\0\x02\0\0\0");
        });
        reply.extend(ok());
        assert_eq!(upstream.on_kill_reply(&mut reply), Ok(Some(Ok(()))));
        assert!(matches!(residue.place(), Place::Kept(_)));
        assert!(upstream.left.is_nobodys());
    }

    #[test]
    fn bytes_beyond_the_answer_are_a_broken_protocol() {
        let mut upstream = upstream();
        upstream.begin_kill(41, &mut Vec::new());
        let mut reply = ok();
        reply.push(0);
        assert_eq!(upstream.on_kill_reply(&mut reply), Err(ReplyError::Surplus));
    }
}
