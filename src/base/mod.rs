//! Nouns every layer shares: time, identifiers, close reasons, secrets, seeded randomness.

pub mod clock;
pub mod close;
pub mod ident;
pub mod prng;
pub mod secret;
