//! The load harness: it makes load, measures what a caller would feel, and reports it.
//!
//! A [`scenario`] says what is asked and when; cores of the gateway's own kind ask it; what they saw
//! is a [`result::RunResult`], which [`report`] turns into pages and verdicts. The words are those of
//! `docs/load.md`: an *operation* is what one arrival asks for (one statement, or a whole
//! transaction); a *step* is a stretch of time with one offered rate.

mod answer;
pub mod assemble;
mod connection;
pub mod dashboard;
pub mod dialogue;
mod due;
pub mod engine;
pub mod files;
pub mod find;
pub mod histogram;
pub mod http;
pub mod keys;
pub mod live;
pub mod machine;
pub mod mysql;
mod opening;
pub mod overhead;
pub mod pacer;
pub mod process;
pub mod record;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod scenario_file;
pub mod schedule;
pub mod screen;
pub mod series;
pub mod serve;
pub mod target;
pub mod validity;
mod worker;
