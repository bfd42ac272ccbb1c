//! Several statements in one text, which a client asks for at its login or by COM_SET_OPTION. The session knows it; a
//! connection is told when a text comes for which it matters.

use super::downstream::{Next, Session, payload_of};
use super::output::Output;
use super::upstream::{Expected, Upstream};
use crate::base::codes::Event;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::{caps, com};
use crate::wire::mysql::response::{OkPacket, encode_end_of_rows};

impl Session {
    /// COM_SET_OPTION. The connection of the next text of several statements is told.
    pub(super) fn accept_set_option(&mut self, option: u16, out: &mut Output) -> Next {
        let takes_several = match option {
            0 => true,
            1 => false,
            _ => return self.refuse(Event::UnknownCommand, "", out),
        };
        if takes_several != self.has(caps::MULTI_STATEMENTS) {
            self.capabilities ^= caps::MULTI_STATEMENTS;
        }
        if self.only_the_server_knows() {
            return Next::Lease { prefer_last: true };
        }
        self.left.note_row_count(-1);
        let end = OkPacket {
            status: self.visible_status(),
            ..OkPacket::default()
        };
        let capabilities = self.capabilities;
        out.write(|own| packet(own, 1, |own| encode_end_of_rows(own, capabilities, &end)));
        Next::Answered
    }

    /// Has the connection take several statements in a text, if the client has asked for that and this may be such a
    /// text, and one if it has not. Whether the text must not be run should that be refused.
    pub(super) fn move_option(
        &mut self,
        upstream: &mut Upstream,
        command: &[u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let takes_several = self.has(caps::MULTI_STATEMENTS);
        if takes_several == upstream.takes_several || self.op.command != com::QUERY {
            return false;
        }
        let sql = payload_of(command).get(1..).unwrap_or_default();
        // No character set that a client may have has it in another character.
        let sql = sql.trim_ascii_end();
        let sql = sql.strip_suffix(b";").unwrap_or(sql);
        if is_whole && !sql.contains(&b';') {
            return false;
        }
        upstream.change_option(takes_several, out);
        // A text with several that is not taken as such does nothing; one with such a byte in a literal runs.
        self.op.may_run_unmoved = takes_several && !self.runs_nothing(command);
        !takes_several
    }
}

impl Upstream {
    /// Writes what has the connection take several statements in a text, or not.
    fn change_option(&mut self, takes_several: bool, out: &mut Vec<u8>) {
        let option = u8::from(!takes_several);
        packet(out, 0, |out| {
            out.extend_from_slice(&[com::SET_OPTION, option, 0]);
        });
        self.expected.push(Expected::Moved);
        self.left.note_between();
        self.takes_several = takes_several;
    }
}
