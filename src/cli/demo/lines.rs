//! The lines the demo prints and, with `--check`, tries: one table for both.

use crate::sandbox::demo::{ACME, DemoTenant, GLOBEX};

/// A line to try.
pub(super) struct Line {
    /// What it shows.
    pub(super) title: &'static str,
    /// Who runs it.
    pub(super) tenant: DemoTenant,
    /// Its statements, without quotes that a shell would read (only `'`), one session for all.
    pub(super) statements: Vec<&'static str>,
    /// The rows of all its answers.
    pub(super) rows: Vec<Vec<String>>,
}

/// The same statement is asked of both tenants.
const ORDERS: &str = "SELECT id, item, price FROM orders ORDER BY id";
const COUNT: &str = "SELECT COUNT(*) FROM orders";

/// The prepared statement, its parameter and its rows are also tried in binary form.
pub(super) const DEAR: &str = "SELECT item FROM orders WHERE price > ? ORDER BY id";
/// The parameter of [`DEAR`].
pub(super) const DEAR_FROM: &str = "80";

/// All lines, in the order in which they are printed and tried.
pub(super) fn lines() -> Vec<Line> {
    let count = |more: usize| vec![(ACME.orders.len() + more).to_string()];
    vec![
        Line {
            title: "acme's orders, from shard a",
            tenant: ACME,
            statements: vec![ORDERS],
            rows: orders(&ACME),
        },
        Line {
            title: "the same statement as globex: other rows, from shard b",
            tenant: GLOBEX,
            statements: vec![ORDERS],
            rows: orders(&GLOBEX),
        },
        Line {
            title: "a transaction that is rolled back",
            tenant: ACME,
            statements: vec![
                "START TRANSACTION",
                "INSERT INTO orders (customer_id, item, price) VALUES (1, 'Anvil', 25.00)",
                COUNT,
                "ROLLBACK",
                COUNT,
            ],
            rows: vec![count(1), count(0)],
        },
        Line {
            title: "a prepared statement",
            tenant: GLOBEX,
            statements: vec![
                "PREPARE dear FROM 'SELECT item FROM orders WHERE price > ? ORDER BY id'",
                "SET @least = 80",
                "EXECUTE dear USING @least",
            ],
            rows: dear(),
        },
    ]
}

/// What [`ORDERS`] gives.
fn orders(tenant: &DemoTenant) -> Vec<Vec<String>> {
    let numbered = (1..).zip(tenant.orders);
    numbered
        .map(|(id, (_, item, price)): (u32, _)| vec![id.to_string(), item.into(), price.into()])
        .collect()
}

/// What [`DEAR`] gives to globex.
pub(super) fn dear() -> Vec<Vec<String>> {
    vec![vec!["Hammock".into()], vec!["Weather machine".into()]]
}
