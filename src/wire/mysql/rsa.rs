//! RSA of `caching_sha2_password`'s full path: the password goes encrypted where there is no TLS.
//!
//! Source: MySQL source documentation, "Caching_sha2_password information"; OAEP with SHA-1 and
//! MGF1-SHA-1, as `RSA_PKCS1_OAEP_PADDING` of OpenSSL does; RFC 7468 for PEM.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

use super::auth::xor_with_nonce;
use super::handshake::Nonce;
use crate::base::secret::Secret;

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No such PEM block, or not base 64.
    #[error("not a PEM file with a {0} block")]
    Pem(&'static str),
    /// Not an RSA key of 2048 to 8192 bits.
    #[error("not an RSA key of 2048 bits or more")]
    Key,
    /// A new key could not be made.
    #[error("no RSA key could be generated")]
    Generate,
}

/// The gateway's own key pair. Shared by all cores; decrypting takes about a millisecond and
/// generating some hundred, so neither belongs on a core's thread.
pub struct ServerKey {
    private: OaepPrivateDecryptingKey,
    public_pem: Vec<u8>,
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(***)")
    }
}

impl ServerKey {
    /// A new key of 2048 bits.
    pub fn generate() -> Result<Self, KeyError> {
        let key =
            PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generate)?;
        Self::from_key(key)
    }

    /// A key from a PKCS #8 file (`-----BEGIN PRIVATE KEY-----`).
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut der = pem_block(pem, "PRIVATE KEY")?;
        let key = PrivateDecryptingKey::from_pkcs8(&der).map_err(|_| KeyError::Key);
        der.zeroize();
        Self::from_key(key?)
    }

    fn from_key(key: PrivateDecryptingKey) -> Result<Self, KeyError> {
        let der =
            AsDer::<PublicKeyX509Der<'_>>::as_der(&key.public_key()).map_err(|_| KeyError::Key)?;
        let public_pem = to_pem(der.as_ref(), "PUBLIC KEY");
        let private = OaepPrivateDecryptingKey::new(key).map_err(|_| KeyError::Key)?;
        Ok(Self {
            private,
            public_pem,
        })
    }

    /// The public half as a server sends it: SubjectPublicKeyInfo in PEM.
    pub fn public_pem(&self) -> &[u8] {
        &self.public_pem
    }

    /// The length of every ciphertext for this key, in bytes.
    pub fn ciphertext_bytes(&self) -> usize {
        self.private.key_size_bytes()
    }

    /// The password behind a client's ciphertext; `None` if it is not one.
    pub fn decrypt_password(&self, ciphertext: &[u8], nonce: &Nonce) -> Option<Secret> {
        let mut buffer = vec![0; self.private.min_output_size()];
        let opened = self
            .private
            .decrypt(&OAEP_SHA1_MGF1SHA1, ciphertext, &mut buffer, None);
        let password = opened.ok().and_then(|plain| {
            xor_with_nonce(plain, nonce);
            plain.strip_suffix(&[0]).map(Secret::new)
        });
        buffer.zeroize();
        password
    }
}

/// Encrypts a password for the holder of a public key in PEM: the client's side of the full path.
pub fn encrypt_password(
    public_pem: &[u8],
    password: &Secret,
    nonce: &Nonce,
) -> Result<Vec<u8>, KeyError> {
    let der = pem_block(public_pem, "PUBLIC KEY")?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|_| KeyError::Key)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| KeyError::Key)?;
    let mut plain = password.expose().to_vec();
    plain.push(0);
    xor_with_nonce(&mut plain, nonce);
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let sealed = key
        .encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut ciphertext, None)
        .map(|sealed| sealed.len());
    plain.zeroize();
    ciphertext.truncate(sealed.map_err(|_| KeyError::Key)?);
    Ok(ciphertext)
}

/// The bytes of the first block called `label`.
fn pem_block(pem: &[u8], label: &'static str) -> Result<Vec<u8>, KeyError> {
    let error = KeyError::Pem(label);
    let text = std::str::from_utf8(pem).map_err(|_| error)?;
    let (_, rest) = text
        .split_once(&format!("-----BEGIN {label}-----"))
        .ok_or(error)?;
    let (body, _) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or(error)?;
    let mut dense: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(&dense).map_err(|_| error);
    dense.zeroize();
    der
}

/// A PEM block with lines of 64 characters.
fn to_pem(der: &[u8], label: &str) -> Vec<u8> {
    let mut out = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::auth::nonce;

    #[test]
    fn a_password_goes_through_and_nothing_else_does() {
        let key = ServerKey::generate().unwrap();
        let challenge = nonce().unwrap();
        let long = "x".repeat(200);
        for password in ["", "secret", "a longer password than twenty bytes", &long] {
            let password = Secret::new(password);
            let sealed = encrypt_password(key.public_pem(), &password, &challenge).unwrap();
            assert_eq!(sealed.len(), key.ciphertext_bytes());
            assert_eq!(key.decrypt_password(&sealed, &challenge), Some(password));
            // Under another challenge it decodes to something else, or to nothing. Of an empty password only the
            // first byte tells.
            let mut other = challenge;
            other[0] ^= 1;
            let elsewhere = key.decrypt_password(&sealed, &other);
            assert_ne!(elsewhere, key.decrypt_password(&sealed, &challenge));
            let mut bent = sealed.clone();
            bent[17] ^= 1;
            assert_eq!(key.decrypt_password(&bent, &challenge), None);
            assert_eq!(key.decrypt_password(&sealed[1..], &challenge), None);
        }
        assert_eq!(key.decrypt_password(&[], &challenge), None);
        assert_eq!(format!("{key:?}"), "ServerKey(***)");
        let too_long = Secret::new("x".repeat(256));
        assert!(encrypt_password(key.public_pem(), &too_long, &challenge).is_err());
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let password = Secret::new("x");
        let bad_base64 = b"-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n";
        let not_rsa = to_pem(b"\x30\x03\x02\x01\x00", "PUBLIC KEY");
        for pem in [
            &b""[..],
            b"-----BEGIN PUBLIC KEY-----",
            bad_base64,
            &not_rsa,
        ] {
            assert!(encrypt_password(pem, &password, &nonce().unwrap()).is_err());
            assert!(ServerKey::from_pem(pem).is_err());
        }
    }

    #[test]
    fn the_oracle_encrypts_for_our_key() {
        let key = ServerKey::generate().unwrap();
        let challenge = nonce().unwrap();
        let mut plain = b"secret\0".to_vec();
        xor_with_nonce(&mut plain, &challenge);
        let sealed = mysql_common::crypto::encrypt(&plain, key.public_pem()).unwrap();
        assert_eq!(
            key.decrypt_password(&sealed, &challenge),
            Some(Secret::new("secret"))
        );
    }

    #[test]
    fn a_private_key_survives_its_file() {
        use aws_lc_rs::encoding::Pkcs8V1Der;
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        let read = ServerKey::from_pem(&to_pem(der.as_ref(), "PRIVATE KEY")).unwrap();
        assert_eq!(
            read.public_pem(),
            ServerKey::from_key(key).unwrap().public_pem()
        );
    }
}
