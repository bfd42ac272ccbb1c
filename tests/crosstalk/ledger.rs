//! What one client wrote and what it was told about each write.

use std::collections::HashMap;

use crate::operations::Violation;

/// What must be true of a write at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged: the row is there exactly once.
    There,
    /// It was refused or rolled back: the row is absent.
    Absent,
    /// The client left before the answer: the row is there at most once.
    Unknown,
}

/// The writes of one client, each under a number of its own.
pub struct Ledger {
    client: u64,
    fates: Vec<Fate>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(client: u64) -> Self {
        Self {
            client,
            fates: Vec::new(),
        }
    }

    /// The number of the next write, which counts as unknown until [`Ledger::settle`].
    pub fn open(&mut self) -> usize {
        self.fates.push(Fate::Unknown);
        self.fates.len() - 1
    }

    /// Notes what the client was told.
    pub fn settle(&mut self, number: usize, fate: Fate) {
        self.fates[number] = fate;
    }

    /// How many writes have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.fates.iter().filter(|found| **found == fate).count()
    }
}

/// Rule R3 over the lines "client TAB seq" of a table.
pub fn compare<'a>(rows: &str, ledgers: impl Iterator<Item = &'a Ledger>) -> Vec<Violation> {
    let mut counts: HashMap<(u64, u64), u64> = HashMap::new();
    for line in rows.lines() {
        let (client, seq) = line.split_once('\t').expect("two columns");
        let key = (
            client.parse().expect("a number"),
            seq.parse().expect("a number"),
        );
        *counts.entry(key).or_default() += 1;
    }
    let mut violations = Vec::new();
    for ledger in ledgers {
        for (number, fate) in (0_u64..).zip(&ledger.fates) {
            let count = counts.remove(&(ledger.client, number)).unwrap_or(0);
            let kept = match fate {
                Fate::There => count == 1,
                Fate::Absent => count == 0,
                Fate::Unknown => count <= 1,
            };
            if !kept {
                let text = format!(
                    "client {} write {number}: {fate:?}, {count} rows",
                    ledger.client
                );
                violations.push(Violation::new("R3", text));
            }
        }
    }
    for (client, seq) in counts.keys() {
        violations.push(Violation::new(
            "R3",
            format!("client {client} never wrote {seq}"),
        ));
    }
    violations
}

#[test]
fn compares_what_was_told_with_what_is_there() {
    let check = |rows: &str, fates: &[Fate], expect: usize| {
        let ledger = Ledger {
            client: 7,
            fates: fates.to_vec(),
        };
        assert_eq!(
            compare(rows, std::iter::once(&ledger)).len(),
            expect,
            "{rows:?} {fates:?}"
        );
    };
    check("7\t0\n", &[Fate::There], 0);
    check("", &[Fate::There], 1);
    check("7\t0\n7\t0\n", &[Fate::There], 1);
    check("7\t0\n", &[Fate::Absent], 1);
    check("", &[Fate::Absent, Fate::Unknown], 0);
    check("7\t0\n7\t0\n", &[Fate::Unknown], 1);
    check("8\t0\n", &[], 1);
}
