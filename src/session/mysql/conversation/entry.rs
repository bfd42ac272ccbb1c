//! The schema that a login names: its server has the say before the login's OK.

use super::{Action, Conversation, Io, Kept, Stage};
use crate::base::clock::Now;
use crate::base::close::CloseReason;
use crate::base::codes::Event;
use crate::session::mysql::exchange::{Fault, Progress};

/// Upstream connections tried: an idle one may turn out to be dead.
const ATTEMPTS: u8 = 2;

/// How the entering of a schema has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The server has accepted it.
    Yes,
    /// The server's own ERR, header included.
    Refused(Vec<u8>),
    /// The server could not be asked.
    Unknown(Event),
    /// The connections that were tried were lost.
    Lost,
}

impl Conversation {
    /// Has the server enter the session's schema, before any command: step on with
    /// [`super::Input::Go`] until [`Action::Entered`]. With `only_idle` on a connection that is idle
    /// now, or not at all.
    pub fn enter_schema(&mut self, only_idle: bool, now: Now) {
        self.kept = Kept::Entry;
        self.only_idle = only_idle;
        self.entries_left = ATTEMPTS;
        self.enter(Stage::Leasing { is_asked: false }, now);
    }

    /// Brings the leased connection into the session's state.
    pub(super) fn enter_leased(&mut self, io: &mut Io<'_>) -> Action {
        self.entries_left = self.entries_left.saturating_sub(1);
        let Some(held) = io.held.as_deref_mut() else {
            return self.entry_lost(io);
        };
        let session = &mut self.session;
        io.up.write(|own| session.begin_move(held, own));
        io.notes.tally = held.take_tally();
        if held.is_idle() {
            return self.entered(Entered::Yes, io);
        }
        self.enter(Stage::Ahead, io.now);
        Action::Wait
    }

    pub(super) fn entry_progress(
        &mut self,
        progress: Result<Progress, Fault>,
        io: &mut Io<'_>,
    ) -> Action {
        match progress {
            Ok(Progress::More) => Action::Wait,
            Ok(Progress::Ready | Progress::Done) => self.entered(Entered::Yes, io),
            Err(Fault::Refused) => {
                let packet = io.down.own().to_vec();
                io.down.clear();
                io.notes.doubts_schema = true;
                self.entered(Entered::Refused(packet), io)
            }
            Err(_) => self.entry_lost(io),
        }
    }

    /// The connection was lost; another one may do.
    pub(super) fn entry_lost(&mut self, io: &mut Io<'_>) -> Action {
        if self.entries_left == 0 {
            return self.entered(Entered::Lost, io);
        }
        self.discard(CloseReason::StateLost, io);
        self.enter(Stage::Leasing { is_asked: false }, io.now);
        Action::Go
    }

    pub(super) fn entry_refused(&mut self, event: Event, io: &mut Io<'_>) -> Action {
        self.entered(Entered::Unknown(event), io)
    }

    fn entered(&mut self, entered: Entered, io: &mut Io<'_>) -> Action {
        match entered {
            Entered::Yes => self.lease_end = io.held.is_some().then_some(super::LeaseEnd::Return),
            _ => self.discard(CloseReason::StateLost, io),
        }
        self.over(io);
        Action::Entered(entered)
    }
}
