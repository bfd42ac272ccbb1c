//! What a variable is that nobody has set: what the server gave at the login of a connection.
//!
//! `DEFAULT` is not that. A login adds `init_connect`, an account's MAX_STATEMENT_TIME, what
//! IGNORE_SPACE and INTERACTIVE stand for; MySQL 9.7 makes `foreign_key_checks = DEFAULT` 0. So each
//! connection is asked for its variables once, right after its login, and they move as values.
//!
//! Sessions take the newest baseline that is known when they run their first statement, and keep it.
//! Connections log in seldom, so globals are looked at in between, at most every [`LOOK_INTERVAL`]
//! and only when a session begins.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::programs::Programs;
use super::state::{Vector, moved_by_value, number_of};
use crate::base::clock::Now;
use crate::wire::mysql::cursor::Reader;
use crate::wire::mysql::flags::header;
use crate::wire::mysql::frame::{HEADER_LEN, Header};
use crate::wire::mysql::response::is_eof;

/// How long a changed global may stay unknown to clients that log in.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a stored program that was made elsewhere may stay unknown to clients that log in.
const PROGRAMS_INTERVAL: Duration = Duration::from_secs(5);

/// Vectors of logins that are remembered with their baseline; more are not shared.
const ADOPTED_MAX: usize = 256;

/// Values of the movable variables, by their numbers, sorted. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base(Arc<[(u8, Box<[u8]>)]>);

impl Base {
    /// The value of the variable with this number, if the server has it.
    pub fn value_of(&self, number: u8) -> Option<&[u8]> {
        let at = self.0.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(number, value)| (*number, &**value))
    }

    /// Whether both are the same for sure, without looking at the values.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// This one after the globals have gone from `old` to `new`: what a login takes from them follows.
    fn after(&self, old: &Self, new: &Self) -> Self {
        let value = |(number, own): (u8, &[u8])| {
            let is_global = old.value_of(number) == Some(own);
            let value = new.value_of(number).filter(|_| is_global).unwrap_or(own);
            (number, value.into())
        };
        Self(self.values().map(value).collect())
    }
}

/// Whose values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The connection's own.
    Session,
    /// The server's, for logins to come.
    Global,
}

/// The statement that asks for the movable variables. A server leaves out what it does not know.
pub fn question(scope: Scope) -> Vec<u8> {
    let scope = match scope {
        Scope::Session => "SESSION",
        Scope::Global => "GLOBAL",
    };
    let mut sql = format!("SHOW {scope} VARIABLES WHERE Variable_name IN (");
    for (at, name) in moved_by_value().enumerate() {
        sql.push_str(if at == 0 { "'" } else { ",'" });
        sql.push_str(name);
        sql.push('\'');
    }
    sql.push(')');
    sql.into_bytes()
}

/// The reply to a [`question`], packet by packet.
#[derive(Debug, Default)]
pub struct Answer {
    deprecates_eof: bool,
    /// Column definitions that are still to come, once their number is known.
    definitions: Option<u64>,
    has_begun_rows: bool,
    rows: Vec<Box<[u8]>>,
    is_over: bool,
}

impl Answer {
    /// Of a connection with or without DEPRECATE_EOF.
    pub fn new(deprecates_eof: bool) -> Self {
        Self {
            deprecates_eof,
            ..Self::default()
        }
    }

    /// Takes the next packet's payload; whether it was the last one.
    pub fn take(&mut self, payload: &[u8]) -> bool {
        let first = payload.first().copied().unwrap_or(header::ERR);
        match self.definitions {
            _ if first == header::ERR => self.is_over = true,
            None if first == header::OK => self.is_over = true,
            None => self.definitions = Some(Reader::new(payload).lenenc().unwrap_or_default()),
            Some(0) if first == header::EOF && !self.has_begun_rows && !self.deprecates_eof => {
                self.has_begun_rows = true;
            }
            Some(0) if first == header::EOF && (self.deprecates_eof || is_eof(payload)) => {
                self.is_over = true;
            }
            Some(0) => {
                self.has_begun_rows = true;
                self.rows.push(payload.into());
            }
            Some(left) => self.definitions = Some(left.saturating_sub(1)),
        }
        self.is_over
    }

    /// The same of packets with their headers.
    fn of(mut reply: &[u8], deprecates_eof: bool) -> Self {
        let mut answer = Self::new(deprecates_eof);
        while let Some(header) = Header::parse(reply) {
            let end = HEADER_LEN.saturating_add(header.len);
            answer.take(reply.get(HEADER_LEN..end).unwrap_or_default());
            reply = reply.get(end..).unwrap_or_default();
        }
        answer
    }

    /// The values; `None` if the server gave none.
    pub fn values(&self) -> Option<Base> {
        let read = |row: &[u8]| {
            let mut row = Reader::new(row);
            let number = number_of(row.lenenc_bytes().ok()?)?;
            Some((number, row.lenenc_bytes_or_null().ok()??.into()))
        };
        let mut values: Vec<_> = self.rows.iter().filter_map(|row| read(row)).collect();
        values.sort_unstable_by_key(|(number, _)| *number);
        (!values.is_empty()).then(|| Base(values.into()))
    }

    /// The stored programs of an answer to [`super::programs::QUESTION`].
    pub fn programs(&self) -> Programs {
        Programs::from_rows(self.rows.iter().map(|row| &**row))
    }
}

/// What is known of the logins of one account on one server, shared by a core's connections.
#[derive(Debug, Default)]
pub struct Baselines {
    realm: u64,
    now: RefCell<Known>,
    looked_at: Cell<Option<Now>>,
    /// `None` until they were read.
    programs: RefCell<Option<Rc<Programs>>>,
    programs_at: Cell<Option<Now>>,
    /// Something was defined since they were read.
    doubts_programs: Cell<bool>,
    adopted: RefCell<HashMap<usize, Adopted, FixedState>>,
}

/// A vector without a baseline, and with one.
type Adopted = (Rc<Vector>, Rc<Vector>);

#[derive(Debug, Default)]
struct Known {
    login: Option<Base>,
    globals: Option<Base>,
}

impl Baselines {
    /// Which account on which server.
    pub fn realm(&self) -> u64 {
        self.realm
    }

    /// A connection has logged in and has these values, with these globals. Returns the values, shared
    /// with other connections that have the same.
    pub fn logged_in(&self, login: Base, globals: Option<Base>) -> Base {
        let mut now = self.now.borrow_mut();
        now.globals = globals;
        match &now.login {
            Some(known) if *known == login => known.clone(),
            _ => {
                self.adopted.borrow_mut().clear();
                now.login.insert(login).clone()
            }
        }
    }

    /// Whether to ask for the globals before a session takes its baseline at `now`; the next one is not
    /// to ask.
    pub fn is_due(&self, now: Now) -> bool {
        let is_known = self.now.borrow().globals.is_some();
        let last = self.looked_at.get();
        // The first to ask comes right behind the login that has told them.
        let is_due = is_known && last.is_some_and(|last| now.since(last) >= LOOK_INTERVAL);
        if is_due || last.is_none() {
            self.looked_at.set(Some(now));
        }
        is_due
    }

    /// What the server has answered to the question for globals: packets with their headers.
    pub fn looked(&self, reply: &[u8], deprecates_eof: bool) {
        let Some(globals) = Answer::of(reply, deprecates_eof).values() else {
            return;
        };
        let now = &mut *self.now.borrow_mut();
        let (Some(login), Some(old)) = (&now.login, &now.globals) else {
            return;
        };
        if *old != globals {
            now.login = Some(login.after(old, &globals));
            now.globals = Some(globals);
            self.adopted.borrow_mut().clear();
        }
    }

    /// The stored programs that leave something behind.
    pub fn programs(&self) -> Rc<Programs> {
        self.programs.borrow().clone().unwrap_or_default()
    }

    /// Whether there are any.
    pub fn has_programs(&self) -> bool {
        let programs = self.programs.borrow();
        programs
            .as_ref()
            .is_some_and(|programs| !programs.is_empty())
    }

    /// Whether they were never read.
    pub fn lacks_programs(&self) -> bool {
        self.programs.borrow().is_none()
    }

    /// They were read at a login.
    pub fn learn_programs(&self, programs: Programs) {
        *self.programs.borrow_mut() = Some(Rc::new(programs));
    }

    /// They were read in between: packets with their headers.
    pub fn learn_programs_of(&self, reply: &[u8], deprecates_eof: bool) {
        self.learn_programs(Answer::of(reply, deprecates_eof).programs());
    }

    /// A statement may have made or changed one.
    pub fn doubt_programs(&self) {
        // Those of no server are not asked for.
        self.doubts_programs.set(self.realm != 0);
    }

    /// Whether to read them again before a statement, that of a session that begins at `now` or of any
    /// other; the next one is not to.
    pub fn programs_are_due(&self, now: Option<Now>) -> bool {
        let last = self.programs_at.get();
        // The first to ask comes right behind the login that has read them.
        let is_old = |now: Now| last.is_some_and(|last| now.since(last) >= PROGRAMS_INTERVAL);
        let is_due = self.doubts_programs.replace(false) || now.is_some_and(is_old);
        if is_due || last.is_none() {
            self.programs_at.set(now.or(last));
        }
        is_due
    }

    /// The vector of a session that begins, with the newest baseline; `None` if there is none.
    pub fn adopt(&self, vector: &Rc<Vector>) -> Option<Rc<Vector>> {
        let base = self.now.borrow().login.clone()?;
        let mut adopted = self.adopted.borrow_mut();
        if adopted.len() >= ADOPTED_MAX {
            adopted.clear();
        }
        // The first of each pair is held, so that its address is not used again.
        let at = Rc::as_ptr(vector).addr();
        let (_, adopted) = adopted
            .entry(at)
            .or_insert_with(|| (vector.clone(), Rc::new(vector.with_base(base))));
        Some(adopted.clone())
    }
}

/// The baselines of one core's connections, by realm.
#[derive(Debug, Default)]
pub struct Realms(RefCell<HashMap<u64, Weak<Baselines>, FixedState>>);

impl Realms {
    /// Those of this realm.
    pub fn of(&self, realm: u64) -> Rc<Baselines> {
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.get(&realm).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, baselines| baselines.strong_count() > 0);
        let baselines = Rc::new(Baselines {
            realm,
            ..Baselines::default()
        });
        all.insert(realm, Rc::downgrade(&baselines));
        baselines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(values: &[(&str, &str)]) -> Base {
        let mut answer = Answer::new(true);
        assert!(!answer.take(b"\x02"));
        assert!(!answer.take(b"\x03def") && !answer.take(b"\x03def"));
        for (name, value) in values {
            let mut row = Vec::new();
            crate::wire::mysql::cursor::put_lenenc_bytes(&mut row, name.as_bytes());
            crate::wire::mysql::cursor::put_lenenc_bytes(&mut row, value.as_bytes());
            assert!(!answer.take(&row));
        }
        assert!(answer.take(b"\xfe\0\0\x02\0\0\0"));
        answer.values().expect("values")
    }

    #[test]
    fn an_answer_is_read_with_and_without_eofs() {
        let expect = base(&[("time_zone", "+01:00"), ("autocommit", "ON")]);
        let mut answer = Answer::new(false);
        let packets: [&[u8]; 7] = [
            b"\x02",
            b"\x03def",
            b"\x03def",
            b"\xfe\0\0\x02\0",
            b"\x0aautocommit\x02ON",
            b"\x09time_zone\x06+01:00",
            b"\xfe\0\0\x02\0",
        ];
        let ends: Vec<bool> = packets.iter().map(|packet| answer.take(packet)).collect();
        assert_eq!(ends, [false, false, false, false, false, false, true]);
        assert_eq!(answer.values(), Some(expect));
        for other in [&b"\0\0\0\x02\0\0\0"[..], b"\xff\x15\x04#28000no", b""] {
            let mut answer = Answer::new(true);
            assert!(answer.take(other));
            assert_eq!(answer.values(), None);
        }
    }

    #[test]
    fn what_a_login_took_from_a_global_follows_it_and_nothing_else_does() {
        let realms = Realms::default();
        let baselines = realms.of(5);
        assert!(Rc::ptr_eq(&baselines, &realms.of(5)) && !Rc::ptr_eq(&baselines, &realms.of(6)));
        let vector = Rc::new(Vector::default());
        assert!(baselines.adopt(&vector).is_none());
        let login = base(&[("sql_notes", "ON"), ("time_zone", "+03:00")]);
        let globals = base(&[("sql_notes", "ON"), ("time_zone", "SYSTEM")]);
        baselines.logged_in(login.clone(), Some(globals));
        let first = baselines.adopt(&vector).expect("a baseline");
        assert!(Rc::ptr_eq(
            &first,
            &baselines.adopt(&vector).expect("the same")
        ));
        let mut reply = Vec::new();
        for payload in [
            &b"\x02"[..],
            b"\x03def",
            b"\x03def",
            b"\x09sql_notes\x03OFF",
            b"\x09time_zone\x06+05:00",
            b"\xfe\0\0\x02\0\0\0",
        ] {
            crate::wire::mysql::cursor::packet(&mut reply, 0, |out| out.extend_from_slice(payload));
        }
        baselines.looked(&reply, true);
        let second = baselines.adopt(&vector).expect("a baseline");
        assert_eq!(first.effective("sql_notes"), Some(&b"ON"[..]));
        assert_eq!(second.effective("sql_notes"), Some(&b"OFF"[..]));
        assert_eq!(second.effective("time_zone"), Some(&b"+03:00"[..]));
        let mut set = Vec::new();
        assert!(second.write_set(&first, &mut set));
        assert_eq!(set, b"SET sql_notes='OFF'");
    }
}
