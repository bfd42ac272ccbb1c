//! The load harness: it makes load, measures what a caller would feel, and reports it.
//!
//! A [`scenario`] says what is asked and when; cores of the gateway's own kind ask it; what they saw
//! is a [`result::RunResult`], which [`report`] turns into pages and verdicts. The words are those of
//! `docs/load.md`: an *operation* is what one arrival asks for (one statement, or a whole
//! transaction); a *step* is a stretch of time with one offered rate.

pub mod histogram;
pub mod keys;
pub mod record;
pub mod report;
pub mod result;
pub mod scenario;
pub mod schedule;
pub mod serve;
