//! State that the last statement left on an upstream connection and that its session may still read:
//! LAST_INSERT_ID(), FOUND_ROWS() and the diagnostics of SHOW WARNINGS.
//!
//! The connection goes back to the pool all the same. If its own session leases it next, nothing is
//! to be done. If another session does, that lease first reads the state out, pipelined ahead of its
//! own statement, and leaves the answer here for the owner.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::settled::Settled;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::caps;
use crate::wire::mysql::frame::{HEADER_LEN, Header};
use crate::wire::mysql::response::{OkPacket, encode_end_of_rows, is_eof};

/// What is left behind, in the order in which a connection is asked: each read-out is a statement
/// itself, and leaves alone what comes after it here. Asking for LAST_INSERT_ID() would make
/// FOUND_ROWS() 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The value of FOUND_ROWS() where it is not the number of rows sent.
    FoundRows,
    /// The conditions that SHOW WARNINGS would list.
    Diagnostics,
    /// The value of LAST_INSERT_ID().
    InsertId,
}

/// Where the state is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Still on the connection.
    OnConnection,
    /// Being read out by another session's lease.
    Leaving,
    /// Read out: the raw reply, as this session's capabilities frame it.
    Kept(Rc<[u8]>),
    /// Gone with its connection.
    Lost,
}

/// One piece of left-behind state, shared by its session and its connection.
#[derive(Debug)]
pub struct Residue {
    kind: Kind,
    owner: u64,
    place: RefCell<Place>,
    reading: RefCell<Vec<u8>>,
    is_overlong: Cell<bool>,
    /// Where its session is told, while it waits for this.
    awaited: RefCell<Option<Rc<Settled>>>,
}

/// The longest reply that is kept; `max_error_count` conditions of ordinary length fit.
const KEPT_LEN_MAX: usize = 256 * 1024;

impl Residue {
    /// State of `kind` that session `owner` has just left on its connection.
    pub fn new(kind: Kind, owner: u64) -> Rc<Self> {
        Rc::new(Self {
            kind,
            owner,
            place: RefCell::new(Place::OnConnection),
            reading: RefCell::default(),
            is_overlong: Cell::new(false),
            awaited: RefCell::default(),
        })
    }

    /// State that no connection has.
    pub fn lost(kind: Kind, owner: u64) -> Rc<Self> {
        let residue = Self::new(kind, owner);
        *residue.place.borrow_mut() = Place::Lost;
        residue
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The session that may read it.
    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place.borrow().clone()
    }

    /// The statement that reads it out of the connection, where LAST_INSERT_ID() is 0 then: the next
    /// INSERT's is told from this one.
    pub fn query(&self) -> &'static [u8] {
        match self.kind {
            Kind::InsertId => b"SELECT LAST_INSERT_ID(), LAST_INSERT_ID(0)",
            Kind::Diagnostics => b"SHOW WARNINGS",
            Kind::FoundRows => b"SELECT FOUND_ROWS()",
        }
    }

    /// Another session has leased the connection: the read-out is about to be sent.
    pub fn begin_reading(&self) {
        *self.place.borrow_mut() = Place::Leaving;
    }

    /// The connection went back before the state was read out: it is where it was.
    pub fn stays(&self) {
        if *self.place.borrow() == Place::Leaving {
            self.settle(Place::OnConnection);
        }
    }

    /// Takes in bytes of the read-out's reply.
    pub fn read(&self, bytes: &[u8]) {
        let mut reading = self.reading.borrow_mut();
        if reading.len().saturating_add(bytes.len()) > KEPT_LEN_MAX {
            self.is_overlong.set(true);
        } else {
            reading.extend_from_slice(bytes);
        }
    }

    /// The reply is complete.
    pub fn end_reading(&self, is_ok: bool) {
        let reading = self.reading.take();
        let kept = is_ok && !self.is_overlong.get();
        self.settle(if kept {
            Place::Kept(reading.into())
        } else {
            Place::Lost
        });
    }

    /// The connection is gone. What was read out before stays.
    pub fn connection_closed(&self) {
        if !matches!(*self.place.borrow(), Place::Kept(_)) {
            self.settle(Place::Lost);
        }
    }

    fn settle(&self, place: Place) {
        *self.place.borrow_mut() = place;
        if let Some(settled) = self.awaited.take() {
            settled.push(self.owner);
        }
    }

    /// Whether the state is not on its way.
    pub fn is_settled(&self) -> bool {
        *self.place.borrow() != Place::Leaving
    }

    /// If the state is on its way, its owner is to be told when it no longer is.
    pub fn await_settled(&self, settled: &Rc<Settled>) {
        if !self.is_settled() {
            *self.awaited.borrow_mut() = Some(settled.clone());
        }
    }
}

/// The first number in the only row of a reply that [`Residue`] kept: a column count, definitions, an
/// EOF where the capabilities want one, the row.
pub fn read_number(reply: &[u8]) -> Option<u64> {
    let mut rest = reply;
    let mut index = 0_u8;
    let mut columns = 0;
    loop {
        let header = Header::parse(rest)?;
        let (_, after) = rest.split_at_checked(HEADER_LEN)?;
        let (payload, after) = after.split_at_checked(header.len)?;
        let is_eof = payload.first() == Some(&0xfe);
        if index == 0 {
            columns = *payload.first()?;
        }
        if index > columns && !is_eof {
            let (&len, text) = payload.split_first()?;
            let digits = text.get(..usize::from(len))?;
            return std::str::from_utf8(digits).ok()?.parse().ok();
        }
        index = index.saturating_add(1);
        rest = after;
    }
}

/// Whether a reply that [`Residue`] kept is a result without rows.
pub fn has_no_rows(reply: &[u8]) -> bool {
    packets(reply).is_some_and(|packets| {
        let columns = packets.first().and_then(|first| first.first());
        let behind =
            columns.and_then(|columns| packets.get(usize::from(*columns).saturating_add(1)..));
        behind.is_some_and(|packets| packets.iter().all(|packet| packet.first() == Some(&0xfe)))
    })
}

/// The payloads of a kept reply; `None` if it is cut short.
fn packets(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let mut packets = Vec::new();
    let mut rest = reply;
    while !rest.is_empty() {
        let header = Header::parse(rest)?;
        let (_, after) = rest.split_at_checked(HEADER_LEN)?;
        let (payload, after) = after.split_at_checked(header.len)?;
        packets.push(payload);
        rest = after;
    }
    Some(packets)
}

/// Appends a reply that [`Residue`] kept, one result with rows, in the form that a client with these
/// `capabilities` expects and with its own session's `status`. On `None` nothing is appended.
pub fn reframe(reply: &[u8], capabilities: u32, status: u16, out: &mut Vec<u8>) -> Option<()> {
    let packets = packets(reply)?;
    let (_end, packets) = packets.split_last()?;
    let columns = usize::from(*packets.first()?.first()?);
    let (head, rows) = packets.split_at_checked(columns.checked_add(1)?)?;
    let rows = match rows.split_first() {
        Some((first, rows)) if is_eof(first) => rows,
        _ => rows,
    };
    let ok = OkPacket {
        status,
        ..OkPacket::default()
    };
    let end = |out: &mut Vec<u8>, sequence| {
        packet(out, sequence, |out| {
            encode_end_of_rows(out, capabilities, &ok);
        })
    };
    let mut sequence = 1;
    for payload in head {
        sequence = packet(out, sequence, |out| out.extend_from_slice(payload));
    }
    if capabilities & caps::DEPRECATE_EOF == 0 {
        sequence = end(out, sequence);
    }
    for payload in rows {
        sequence = packet(out, sequence, |out| out.extend_from_slice(payload));
    }
    end(out, sequence);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_out_outlives_its_connection() {
        let residue = Residue::new(Kind::InsertId, 7);
        residue.begin_reading();
        assert_eq!(residue.place(), Place::Leaving);
        residue.read(b"ab");
        residue.read(b"c");
        residue.end_reading(true);
        residue.connection_closed();
        assert_eq!(residue.place(), Place::Kept(b"abc".as_slice().into()));
        let lost = Residue::new(Kind::Diagnostics, 7);
        lost.begin_reading();
        lost.connection_closed();
        assert_eq!(lost.place(), Place::Lost);
        let long = Residue::new(Kind::Diagnostics, 7);
        long.read(&vec![0; KEPT_LEN_MAX + 1]);
        long.end_reading(true);
        assert_eq!(long.place(), Place::Lost);
    }

    #[test]
    fn only_who_waits_is_told_and_once() {
        let settle: [fn(&Residue); 4] = [
            |residue| residue.end_reading(true),
            |residue| residue.end_reading(false),
            Residue::stays,
            Residue::connection_closed,
        ];
        for settle in settle {
            let settled = Rc::new(Settled::default());
            let residue = Residue::new(Kind::InsertId, 7);
            residue.await_settled(&settled);
            residue.begin_reading();
            settle(&residue);
            assert!(settled.is_empty(), "nobody waited");
            let residue = Residue::new(Kind::InsertId, 7);
            residue.begin_reading();
            residue.await_settled(&settled);
            assert!(!residue.is_settled() && settled.is_empty());
            settle(&residue);
            assert!(residue.is_settled() && !settled.is_empty());
            residue.connection_closed();
            let mut owners = vec![3];
            settled.take(&mut owners);
            assert_eq!(owners, [3, 7]);
            assert!(settled.is_empty());
        }
    }

    #[test]
    fn the_number_is_found_with_and_without_the_eof() {
        let head = b"\x01\0\0\x01\x01\x02\0\0\x02xx";
        let row = b"\x03\0\0\x04\x0242";
        assert_eq!(
            read_number(&[&head[..], b"\x05\0\0\x03\xfe\0\0\x02\0", row].concat()),
            Some(42)
        );
        assert_eq!(read_number(&[&head[..], row].concat()), Some(42));
        assert_eq!(read_number(head), None);
    }

    #[test]
    fn a_kept_reply_takes_the_form_that_its_client_expects() {
        let head = b"\x01\0\0\x01\x01\x02\0\0\x02xx";
        let legacy = [
            &head[..],
            b"\x05\0\0\x03\xfe\0\0\x02\0",
            b"\x03\0\0\x04\x0242",
            b"\x05\0\0\x05\xfe\0\0\x02\0",
        ]
        .concat();
        let modern = [
            &head[..],
            b"\x03\0\0\x03\x0242",
            b"\x07\0\0\x04\xfe\0\0\x02\0\0\0",
        ]
        .concat();
        let check = |from: &[u8], capabilities, expect: &[u8]| {
            let mut out = Vec::new();
            assert_eq!(reframe(from, capabilities, 2, &mut out), Some(()));
            assert_eq!(out, expect);
        };
        let empty = [&head[..], b"\x07\0\0\x03\xfe\0\0\x02\0\0\0"].concat();
        assert!(has_no_rows(&empty));
        for from in [&legacy, &modern] {
            assert!(!has_no_rows(from));
            check(from, 0, &legacy);
            check(from, caps::DEPRECATE_EOF, &modern);
        }
        assert_eq!(reframe(&legacy[..19], 0, 2, &mut Vec::new()), None);
    }
}
