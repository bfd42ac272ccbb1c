//! The proof of a full login: a password that comes encrypted or over a private transport, and is
//! checked against a salted hash, off the core.

use crate::base::secret::Secret;
use crate::wire::mysql::auth::{Salted, sha2_stage2};
use crate::wire::mysql::handshake::Nonce;
use crate::wire::mysql::rsa::ServerKey;

/// Bytes of the shortest key: 2,048 bits.
const KEY_MIN: usize = 256;

/// A full login's arithmetic: about a millisecond for RSA and some more for the salted hash.
/// `Send`, so that it can leave the core.
pub struct RsaWork {
    pub(super) answer: FullAnswer,
    pub(super) nonce: Nonce,
    pub(super) stored: Vec<u8>,
}

/// What a client proves in a full login.
pub(super) enum FullAnswer {
    /// The password, encrypted with the gateway's key.
    Ciphertext(Vec<u8>),
    /// The password itself, over a private transport.
    Password(Secret),
}

impl FullAnswer {
    /// A password ends with a zero and is shorter than any key; a ciphertext is as long as its key.
    pub(super) fn read(payload: &[u8], transport_is_private: bool) -> Self {
        match payload.split_last() {
            Some((0, password)) if transport_is_private && payload.len() < KEY_MIN => {
                Self::Password(Secret::new(password.to_vec()))
            }
            _ => Self::Ciphertext(payload.to_vec()),
        }
    }
}

impl std::fmt::Debug for RsaWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RsaWork(***)")
    }
}

/// What [`RsaWork::run`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaOutcome {
    /// The password is right; its `SHA256(SHA256(password))`.
    Proven([u8; 32]),
    /// It is not, or the ciphertext is none.
    Refuted,
}

impl RsaWork {
    /// Decrypts the password and checks it.
    pub fn run(&self, key: &ServerKey) -> RsaOutcome {
        let decrypted;
        let password = match &self.answer {
            FullAnswer::Password(password) => password,
            FullAnswer::Ciphertext(ciphertext) => {
                let Some(found) = key.decrypt_password(ciphertext, &self.nonce) else {
                    return RsaOutcome::Refuted;
                };
                decrypted = found;
                &decrypted
            }
        };
        match Salted::parse(&self.stored) {
            Some(salted) if salted.verify(password.expose()) => {
                RsaOutcome::Proven(sha2_stage2(password.expose()))
            }
            _ => RsaOutcome::Refuted,
        }
    }
}
