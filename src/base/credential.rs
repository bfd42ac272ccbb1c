//! What the gateway knows of a user's password: verifiers, never the password itself.

/// The stage-2 hashes that the challenge-response plugins verify against.
///
/// Source: MySQL reference, "Native Pluggable Authentication" and "Caching SHA-2 Pluggable
/// Authentication". Each is as secret as a password file's line.
#[derive(Clone, PartialEq, Eq)]
pub enum Verifier {
    /// The account has an empty password.
    Empty,
    /// `SHA1(SHA1(password))`: mysql_native_password alone.
    Native([u8; 20]),
    /// `SHA256(SHA256(password))`: caching_sha2_password's fast path.
    Sha2([u8; 32]),
    /// Both, as derived from a plain password.
    Both {
        /// `SHA1(SHA1(password))`.
        native: [u8; 20],
        /// `SHA256(SHA256(password))`.
        sha2: [u8; 32],
    },
    /// The server's stored form `$A$005$<20-byte salt><43 characters>`: needs one full login.
    Salted(Vec<u8>),
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(***)")
    }
}

/// An authentication plugin that accounts of this gateway can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthPlugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`.
    CachingSha2,
}

impl AuthPlugin {
    /// The plugin's name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
        }
    }

    /// The plugin with this name on the wire.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        [Self::Native, Self::CachingSha2]
            .into_iter()
            .find(|plugin| plugin.name().as_bytes() == name)
    }
}
