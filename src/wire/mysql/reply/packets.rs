//! What the packets that carry state say, and where the reply goes from there.

use super::super::cursor::Reader;
use super::super::frame::HEADER_LEN;
use super::{CURSOR_EXISTS, Expect, MORE_RESULTS, Packet, Phase, ReplyError, ReplyWalker};

impl ReplyWalker {
    /// Takes in a whole state packet, header included, and moves to the next phase.
    pub(super) fn take_packet(&mut self, bytes: &mut [u8]) -> Result<Packet, ReplyError> {
        let (_, payload) = bytes
            .split_at_checked(HEADER_LEN)
            .ok_or(ReplyError::Malformed)?;
        let first = payload.first().copied().ok_or(ReplyError::Malformed)?;
        let packet = match self.phase {
            _ if first == 0xff => {
                let errno = read_u16(payload.get(1..)).ok_or(ReplyError::Malformed)?;
                self.phase = Phase::Done;
                Packet::Err { errno }
            }
            Phase::Head if self.expect == Expect::Prepare => self.take_prepared(payload)?,
            Phase::Head if first != 0x00 && self.has_results() => {
                // A column count that was cut by the end of a chunk and is whole now.
                return Err(ReplyError::Malformed);
            }
            Phase::ColumnsEof => {
                let status = read_u16(payload.get(3..)).ok_or(ReplyError::Malformed)?;
                // A procedure that has fetched from a cursor of its own leaves the flag beside
                // MORE_RESULTS, and rows follow.
                let is_last = self.expect == Expect::ResultsOrCursor
                    && status & CURSOR_EXISTS != 0
                    && status & MORE_RESULTS == 0;
                self.phase = if is_last { Phase::Done } else { Phase::Rows };
                Packet::ColumnsEnd { status, is_last }
            }
            Phase::DefinitionsEof { then } => {
                let status = read_u16(payload.get(3..)).unwrap_or(0);
                self.phase = match then {
                    0 => Phase::Done,
                    left => Phase::Definitions { left, then: 0 },
                };
                Packet::ColumnsEnd {
                    status,
                    is_last: then == 0,
                }
            }
            Phase::Definitions { .. } => {
                self.phase = Phase::Done;
                Packet::DefinitionsEnd
            }
            Phase::Head | Phase::Columns(_) | Phase::EofOwed { .. } | Phase::Rows | Phase::Done => {
                self.take_ok(payload)?
            }
        };
        self.count_packet(bytes);
        Ok(packet)
    }

    fn take_prepared(&mut self, payload: &[u8]) -> Result<Packet, ReplyError> {
        let head = payload.get(1..9).ok_or(ReplyError::Malformed)?;
        let (&id, counts) = head.split_first_chunk::<4>().ok_or(ReplyError::Malformed)?;
        let columns = read_u16(Some(counts)).ok_or(ReplyError::Malformed)?;
        let params = read_u16(counts.get(2..)).ok_or(ReplyError::Malformed)?;
        self.phase = match (params, columns) {
            (0, 0) => Phase::Done,
            (0, left) => Phase::Definitions { left, then: 0 },
            (left, then) => Phase::Definitions { left, then },
        };
        let is_last = self.phase == Phase::Done;
        Ok(Packet::Prepared {
            id: u32::from_le_bytes(id),
            columns,
            params,
            is_last,
        })
    }

    /// OK and EOF, wherever they end a result.
    fn take_ok(&mut self, payload: &[u8]) -> Result<Packet, ReplyError> {
        let ends_rows = payload.first() == Some(&0xfe);
        let is_legacy_eof = ends_rows && !self.deprecate_eof && payload.len() < 9
            || ends_rows && self.phase == Phase::Head;
        let mut reader = Reader::new(payload.get(1..).unwrap_or_default());
        let (affected, last_insert_id, status, warnings);
        if is_legacy_eof {
            (affected, last_insert_id) = (0, 0);
            warnings = reader.u16()?;
            status = reader.u16()?;
        } else {
            affected = reader.lenenc()?;
            last_insert_id = reader.lenenc()?;
            status = reader.u16()?;
            warnings = reader.u16()?;
        }
        let more = status & MORE_RESULTS != 0 && self.has_results();
        self.phase = if more { Phase::Head } else { Phase::Done };
        let has_tail = !reader.is_empty();
        let is_last = !more;
        Ok(Packet::Ok {
            ends_rows,
            affected,
            last_insert_id,
            status,
            warnings,
            has_tail,
            is_last,
        })
    }
}

fn read_u16(bytes: Option<&[u8]>) -> Option<u16> {
    let (&two, _) = bytes?.split_first_chunk::<2>()?;
    Some(u16::from_le_bytes(two))
}
