//! Nouns every layer shares: time, identifiers, close reasons, secrets, seeded randomness.

pub mod address;
pub mod clock;
pub mod close;
pub mod codes;
pub mod credential;
pub mod drain;
pub mod ident;
pub mod pin;
pub mod prng;
pub mod secret;
