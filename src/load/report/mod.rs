//! Reports: from the `result.json` of runs to a page for people, and to a verdict on two builds.
//!
//! [`input`] reads runs and groups them by system. [`page`] draws the page, [`compare`] judges. A value
//! that counts is always that of one run; [`statistics`] says what follows from several.

pub mod added;
pub mod compare;
pub mod compare_output;
mod facts;
pub mod figure;
pub mod figures;
pub mod input;
pub mod page;
mod sections;
pub mod slo;
pub mod statistics;
pub mod summary;
pub mod units;
