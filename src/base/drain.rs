//! How far a drain has come.

/// The stages of a drain, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// Not draining.
    #[default]
    Serving,
    /// Connections end at command boundaries outside transactions.
    Draining,
    /// Every connection ends now.
    Now,
}
