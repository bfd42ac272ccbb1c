//! Session tracking: what an OK packet tells a client that asked for it.

use super::catalog::locked;
use super::session::{Session, Transaction};
use crate::wire::mysql::track::{Change, encode_change};

impl Session {
    /// The session state changes since the last call, in the form an OK packet carries them.
    pub fn take_changes(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let state = locked(&self.environment.state);
        let changed = std::mem::take(&mut self.changed_variables);
        for name in changed
            .iter()
            .filter(|name| state.variables.is_tracked(name))
        {
            let value = state.variables.listed(name);
            encode_change(
                &mut out,
                &Change::SystemVariable {
                    name: name.as_bytes(),
                    value: value.as_bytes(),
                },
            );
        }
        if std::mem::take(&mut self.schema_changed) && state.variables.is_on("session_track_schema")
        {
            let schema = state.schema.clone().unwrap_or_default();
            encode_change(&mut out, &Change::Schema(schema.as_bytes()));
        }
        if std::mem::take(&mut self.state_changed)
            && state.variables.is_on("session_track_state_change")
        {
            encode_change(&mut out, &Change::StateChanged(true));
        }
        let tracked = state
            .variables
            .text("session_track_transaction_info")
            .unwrap_or("OFF");
        let tracked = tracked.to_ascii_uppercase();
        if tracked == "STATE" || tracked == "CHARACTERISTICS" {
            let now = (
                transaction_state(self.transaction),
                characteristics(self.transaction),
            );
            if now.1 != self.reported_transaction.1 && tracked == "CHARACTERISTICS" {
                encode_change(
                    &mut out,
                    &Change::TransactionCharacteristics(now.1.as_bytes()),
                );
            }
            if now.0 != self.reported_transaction.0 {
                encode_change(&mut out, &Change::TransactionState(now.0.as_bytes()));
            }
            self.reported_transaction = now;
        }
        out
    }
}

const NO_TRANSACTION: &str = "________";

/// Source: reference manual, "session_track_transaction_info": eight places, `_` for none.
pub(super) fn transaction_state(transaction: Option<Transaction>) -> String {
    let Some(transaction) = transaction else {
        return NO_TRANSACTION.to_owned();
    };
    let mark = |on: bool, mark: char| if on { mark } else { '_' };
    [
        if transaction.explicit { 'T' } else { 'I' },
        '_',
        mark(transaction.reads, 'R'),
        '_',
        mark(transaction.writes, 'W'),
        '_',
        mark(transaction.reads, 'S'),
        '_',
    ]
    .iter()
    .collect()
}

fn characteristics(transaction: Option<Transaction>) -> String {
    match transaction {
        Some(Transaction {
            read_only: true, ..
        }) => "START TRANSACTION READ ONLY;".to_owned(),
        Some(_) => "START TRANSACTION;".to_owned(),
        None => String::new(),
    }
}
