//! Proofs of a password, for the blocking client.

use aws_lc_rs::digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// How a password is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`, the fast path.
    CachingSha2,
}

impl Plugin {
    /// By its name on the wire.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"mysql_native_password" => Some(Self::Native),
            b"caching_sha2_password" => Some(Self::CachingSha2),
            _ => None,
        }
    }

    /// What proves the password to whoever has sent this challenge.
    pub fn proof(self, nonce: &[u8], password: &str) -> Vec<u8> {
        match self {
            Self::Native => native(nonce, password),
            Self::CachingSha2 => caching_sha2(nonce, password),
        }
    }
}

/// SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password))).
pub fn native(nonce: &[u8], password: &str) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let stage1 = sha1(password.as_bytes());
    let stage2 = sha1(stage1.as_ref());
    let mask = sha1(&[nonce, stage2.as_ref()].concat());
    xor(stage1, mask)
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce).
fn caching_sha2(nonce: &[u8], password: &str) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let sha256 = |bytes: &[u8]| digest(&SHA256, bytes);
    let stage1 = sha256(password.as_bytes());
    let stage2 = sha256(stage1.as_ref());
    let mask = sha256(&[stage2.as_ref(), nonce].concat());
    xor(stage1, mask)
}

fn xor(left: Digest, right: Digest) -> Vec<u8> {
    let pairs = left.as_ref().iter().zip(right.as_ref());
    pairs.map(|(left, right)| left ^ right).collect()
}
