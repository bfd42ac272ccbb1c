//! What one core knows of the stored programs that an account can name, and when it asks again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::{Answer, Programs};
use crate::base::clock::Now;

/// How long a stored program that was made elsewhere may stay unknown.
const INTERVAL: Duration = Duration::from_secs(5);

/// The question on its way.
#[derive(Debug)]
pub struct Asked {
    /// What has come of the answer.
    pub answer: Answer,
    /// How many definitions had been seen when it was asked.
    definitions: u64,
}

/// What is known. By default: that there are none, as of connections to no server.
#[derive(Debug, Default)]
pub struct KnownPrograms {
    found: RefCell<Rc<Programs>>,
    /// Nothing holds before the question was answered: it never was, or something was defined since.
    is_open: Cell<bool>,
    asked_at: Cell<Option<Now>>,
    /// Statements of this core that may have defined something.
    definitions: Cell<u64>,
}

impl KnownPrograms {
    /// Of a server that was not asked yet.
    pub fn not_yet() -> Self {
        Self {
            is_open: Cell::new(true),
            ..Self::default()
        }
    }

    /// What the last answer told.
    pub fn found(&self) -> Rc<Programs> {
        self.found.borrow().clone()
    }

    /// Whether no statement has to be looked at: the usual case.
    pub fn are_none(&self) -> bool {
        !self.is_open.get() && self.found.borrow().are_none()
    }

    /// Whether what is known may be wrong.
    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Whether to ask ahead of a statement at `now`.
    pub fn is_due(&self, now: Now) -> bool {
        let last = self.asked_at.get();
        self.is_open.get() || last.is_some_and(|last| now.since(last) >= INTERVAL)
    }

    /// The question is asked at `now`. Others need not, unless they cannot do without its answer.
    pub fn ask(&self, now: Now, deprecates_eof: bool) -> Asked {
        self.asked_at.set(Some(now));
        Asked {
            answer: Answer::new(deprecates_eof),
            definitions: self.definitions.get(),
        }
    }

    /// The answer is complete. One that the server did not give leaves what was known, if that may still
    /// hold.
    pub fn learn(&self, asked: &mut Asked) {
        match asked.answer.end() {
            Some(found) => *self.found.borrow_mut() = Rc::new(found),
            None if self.is_open.get() => *self.found.borrow_mut() = Rc::new(Programs::any()),
            None => {}
        }
        if asked.definitions == self.definitions.get() {
            self.is_open.set(false);
        }
    }

    /// A statement may have defined one.
    pub fn doubt(&self) {
        // Those of no server are not asked for.
        if self.asked_at.get().is_some() {
            let definitions = self.definitions.get();
            self.definitions.set(definitions.wrapping_add(1));
            self.is_open.set(true);
        }
    }
}
