//! Who may go on: sessions that waited for what another session's lease was reading out.

use std::cell::RefCell;

/// The sessions of one core whose awaited state has settled since the last look. Whoever drives
/// sessions looks here after every step, and lets those go on.
#[derive(Debug, Default)]
pub struct Settled(RefCell<Vec<u64>>);

impl Settled {
    /// Whether nobody has to be told.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Moves the owners to the end of `owners`, in the order in which their state has settled.
    pub fn take(&self, owners: &mut Vec<u64>) {
        owners.append(&mut self.0.borrow_mut());
    }

    pub(super) fn push(&self, owner: u64) {
        self.0.borrow_mut().push(owner);
    }
}
