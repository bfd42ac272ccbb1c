//! What a session decides by a text alone, before any connection: SET statements whose text must be
//! another one, and statements about the upstream account.

use std::sync::Arc;

use super::downstream::Session;
use super::text::{self, Collation, LexMode, Refusal, SetText, Trackers};
use crate::base::codes::Event;
use crate::base::pin::PinReason;

impl Session {
    /// Tells the session the name of the upstream account, if other clients use it too: statements
    /// that would change it are refused.
    pub fn share_account(&mut self, name: Option<Arc<str>>) {
        self.shared_account = name;
    }

    /// Whether the server may have come to read texts otherwise without telling: what it tells of may
    /// have been changed out of sight.
    pub(super) fn is_reading_unsure(&self) -> bool {
        const UNSEEN: [PinReason; 4] = [
            PinReason::Unknown,
            PinReason::Variable,
            PinReason::Call,
            PinReason::TextPrepare,
        ];
        UNSEEN.into_iter().any(|reason| self.pins.has(reason))
    }

    /// Why the text in hand is not carried, if it is not.
    pub(super) fn refusal_of(&self, sql: &[u8]) -> Option<Event> {
        if !self.op.effects.may_be_refused {
            return None;
        }
        let shared = self.shared_account.as_ref().map(|name| name.as_bytes());
        match text::refusal(sql, self.lex_mode(), shared)? {
            // Its number is the gateway's or anybody's: on the server it could be a stranger's.
            Refusal::Kill => Some(Event::KillRefused),
            Refusal::Account => Some(Event::SharedAccount),
        }
    }

    /// Looks at a text that may be a SET.
    pub(super) fn look_at_set(&mut self, sql: &[u8], mode: LexMode) {
        let Some(look) = self.read_set(sql, mode) else {
            return;
        };
        if look.keeps_trackers {
            self.want_trackers(look.instead.as_deref().unwrap_or(sql), mode);
        }
        self.op.instead = look.instead;
    }

    /// Looks at what was prepared in the place of such a text.
    pub(super) fn look_at_rewritten_set(&mut self, sql: &[u8], mode: LexMode) {
        if self
            .read_set(sql, mode)
            .is_some_and(|look| look.keeps_trackers)
        {
            self.want_trackers(sql, mode);
        }
    }

    fn read_set(&mut self, sql: &[u8], mode: LexMode) -> Option<SetText> {
        let effects = &mut self.op.effects;
        if !effects.is_set && !effects.sets_trackers && !effects.sets_unreported {
            return None;
        }
        let mut look = text::look_at_set(sql, mode);
        if look.is_unreported || effects.sets_trackers && !look.keeps_trackers {
            effects.pins.add(PinReason::Variable);
        }
        self.op.collation = std::mem::take(&mut look.collation);
        Some(look)
    }

    fn want_trackers(&mut self, rewritten: &[u8], mode: LexMode) {
        let wanted = text::trackers_set_by(rewritten, mode, &self.trackers());
        self.op.trackers = Some(Box::new(wanted));
    }

    /// Only a part of a text was looked at.
    pub(super) fn overlook_set(&mut self) {
        self.op.collation = Collation::Unclear;
        self.op.instead = None;
        self.op.trackers = None;
        if self.op.effects.sets_trackers || self.op.effects.sets_unreported {
            self.op.effects.pins.add(PinReason::Variable);
        }
    }

    /// What the client wants to be told of.
    pub(super) fn trackers(&self) -> Trackers {
        self.trackers.as_deref().cloned().unwrap_or_default()
    }
}
