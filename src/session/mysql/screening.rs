//! What a session decides by a text alone, before any connection: SET statements whose text must be
//! another one, and statements about the upstream account.

use std::sync::Arc;

use super::downstream::Session;
use super::text::{self, Collation, Trackers};
use crate::base::pin::PinReason;

impl Session {
    /// Tells the session the name of the upstream account, if other clients use it too: statements
    /// that would change it are refused.
    pub fn share_account(&mut self, name: Option<Arc<str>>) {
        self.shared_account = name;
    }

    /// Whether the text in hand is about the account that this session shares with others.
    pub(super) fn changes_shared_account(&self, sql: &[u8]) -> bool {
        let shared = self.shared_account.as_ref();
        let account = shared.filter(|_| self.op.effects.may_change_account);
        account
            .is_some_and(|account| text::changes_account(sql, self.lex_mode(), account.as_bytes()))
    }

    /// Looks at a text that may be a SET.
    pub(super) fn look_at_set(&mut self, sql: &[u8]) {
        let effects = &mut self.op.effects;
        if !effects.is_set && !effects.sets_trackers && !effects.sets_unreported {
            return;
        }
        let mode = self.lex_mode();
        let look = text::look_at_set(sql, mode);
        let effects = &mut self.op.effects;
        if look.is_unreported || effects.sets_trackers && !look.keeps_trackers {
            effects.pins.add(PinReason::Variable);
        }
        if look.keeps_trackers {
            let text = look.instead.as_deref().unwrap_or(sql);
            let wanted = text::trackers_set_by(text, mode, &self.trackers());
            self.op.trackers = Some(Box::new(wanted));
        }
        self.op.collation = look.collation;
        self.op.instead = look.instead;
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
