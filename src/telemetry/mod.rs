//! Counters, histograms and log lines; per core, merged on scrape.
//!
//! A core owns its [`metrics::CoreMetrics`] and nobody else writes them: a counter is a `Cell`. A scrape
//! copies the numbers into a [`scrape::Scrape`], which leaves the core in a message; the control thread
//! merges the cores' answers and renders them. Which metrics exist is declared once, in [`metrics`].

pub mod cells;
mod flood;
pub mod log;
pub mod metrics;
pub mod prometheus;
pub mod scrape;
