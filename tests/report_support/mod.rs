//! What the tests of reports need: runs to report on, and a browser to look at the page.

pub mod chromium;
pub mod runs;
