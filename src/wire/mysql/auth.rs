//! Challenge and response of `mysql_native_password` and `caching_sha2_password`, both sides.
//!
//! Source: MySQL source documentation, "Authentication Methods"; MySQL `sha2_password_common`,
//! `crypt_genhash_impl`; "Unix crypt using SHA-256 and SHA-512" (U. Drepper) for the salted form.
//! Pure arithmetic: who may log in is `session`'s affair.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use zeroize::Zeroize;

use super::handshake::Nonce;
use crate::base::secret::same_bytes;

/// First byte of a client's packet that asks for the server's public key.
pub const REQUEST_PUBLIC_KEY: u8 = 2;
/// AuthMoreData: the fast path succeeded; OK follows.
pub const FAST_AUTH_OK: u8 = 3;
/// AuthMoreData: the password itself is wanted.
pub const FULL_AUTH: u8 = 4;

/// A digest of no secret length: `SHA1(parts…)`.
fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, parts)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest(&SHA256, parts)
}

fn digest<const N: usize>(
    algorithm: &'static aws_lc_rs::digest::Algorithm,
    parts: &[&[u8]],
) -> [u8; N] {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

fn xor<const N: usize>(mut a: [u8; N], b: &[u8; N]) -> [u8; N] {
    for (x, y) in a.iter_mut().zip(b) {
        *x ^= y;
    }
    a
}

/// The operating system gave no random bytes: no challenge can be made, so no login be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

/// Fresh random bytes for a challenge: 20 of 7 bits, none of them NUL or `$` (MySQL's
/// `generate_user_salt`, so that no client trips over them).
pub fn nonce() -> Result<Nonce, NoRandomness> {
    let mut bytes = [0; 20];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    for byte in &mut bytes {
        *byte &= 0x7f;
        if matches!(*byte, 0 | b'$') {
            *byte += 1;
        }
    }
    Ok(bytes)
}

/// `SHA1(SHA1(password))`: what MariaDB and MySQL ≤ 8 store.
pub fn native_stage2(password: &[u8]) -> [u8; 20] {
    sha1(&[&sha1(&[password])])
}

/// The client's answer: `SHA1(password) XOR SHA1(nonce, SHA1(SHA1(password)))`. An empty password
/// is answered by an empty string instead.
pub fn native_scramble(password: &[u8], nonce: &Nonce) -> [u8; 20] {
    let stage1 = sha1(&[password]);
    let stage2 = sha1(&[&stage1]);
    xor(stage1, &sha1(&[nonce, &stage2]))
}

/// Whether `answer` proves the password behind `stage2`. Takes the same time for every answer of
/// 20 bytes.
pub fn native_verify(answer: &[u8], nonce: &Nonce, stage2: &[u8; 20]) -> bool {
    let Ok(answer) = <[u8; 20]>::try_from(answer) else {
        return false;
    };
    let stage1 = xor(answer, &sha1(&[nonce, stage2]));
    same_bytes(&sha1(&[&stage1]), stage2)
}

/// `SHA256(SHA256(password))`: what the fast path verifies against.
pub fn sha2_stage2(password: &[u8]) -> [u8; 32] {
    sha256(&[&sha256(&[password])])
}

/// The client's answer: `SHA256(password) XOR SHA256(SHA256(SHA256(password)), nonce)`. An empty
/// password is answered by an empty string instead.
pub fn sha2_scramble(password: &[u8], nonce: &Nonce) -> [u8; 32] {
    let stage1 = sha256(&[password]);
    let stage2 = sha256(&[&stage1]);
    xor(stage1, &sha256(&[&stage2, nonce]))
}

/// Whether `answer` proves the password behind `stage2`. Takes the same time for every answer of
/// 32 bytes. `nonce` is a slice because some clients hash its NUL too.
pub fn sha2_verify(answer: &[u8], nonce: &[u8], stage2: &[u8; 32]) -> bool {
    let Ok(answer) = <[u8; 32]>::try_from(answer) else {
        return false;
    };
    let stage1 = xor(answer, &sha256(&[stage2, nonce]));
    same_bytes(&sha256(&[&stage1]), stage2)
}

/// The password and its NUL, XORed with the nonce over and over: what RSA then encrypts. The same
/// function undoes it.
pub fn xor_with_nonce(bytes: &mut [u8], nonce: &Nonce) {
    for (byte, key) in bytes.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= key;
    }
}

/// The stored form `$A$005$<salt><hash>`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salted<'a> {
    rounds: u32,
    salt: &'a [u8],
    hash: &'a [u8],
}

/// Bytes of salt in the stored form.
const SALT_BYTES: usize = 20;
/// Characters of hash in the stored form.
const HASH_CHARS: usize = 43;
/// MySQL writes thousands of rounds as three hexadecimal digits.
const ROUNDS_UNIT: u32 = 1000;

impl<'a> Salted<'a> {
    /// Reads `authentication_string` of a `caching_sha2_password` account.
    pub fn parse(stored: &'a [u8]) -> Option<Self> {
        let rest = stored.strip_prefix(b"$A$")?;
        let (digits, rest) = rest.split_at_checked(3)?;
        let thousands = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let rest = rest.strip_prefix(b"$")?;
        let (salt, hash) = rest.split_at_checked(SALT_BYTES)?;
        // 5 to 4095, as caching_sha2_password_digest_rounds allows.
        (thousands >= 5 && hash.len() == HASH_CHARS).then_some(Self {
            rounds: thousands.saturating_mul(ROUNDS_UNIT),
            salt,
            hash,
        })
    }

    /// Whether this is the hash of `password`. Some milliseconds of work: not for a core's thread.
    pub fn verify(&self, password: &[u8]) -> bool {
        let mut made = Vec::with_capacity(HASH_CHARS);
        crypt64(&sha256_crypt(password, self.salt, self.rounds), &mut made);
        same_bytes(&made, self.hash)
    }
}

/// The stored form of `password` with this salt and 5,000 rounds: for tests and tools.
pub fn salted(password: &[u8], salt: &[u8; SALT_BYTES]) -> Vec<u8> {
    let mut out = b"$A$005$".to_vec();
    out.extend_from_slice(salt);
    crypt64(&sha256_crypt(password, salt, 5 * ROUNDS_UNIT), &mut out);
    out
}

/// `bytes` repeated to a length of `length`.
fn repeat_to(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length).collect()
}

/// SHA-crypt's digest, with a salt of any length (the specification stops at 16 bytes; MySQL takes
/// 20).
fn sha256_crypt(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let alternate = sha256(&[password, salt, password]);
    let mut context = Context::new(&SHA256);
    context.update(password);
    context.update(salt);
    context.update(&repeat_to(&alternate, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        context.update(if bits & 1 != 0 { &alternate } else { password });
        bits >>= 1;
    }
    let mut current = [0; 32];
    current.copy_from_slice(context.finish().as_ref());

    let mut context = Context::new(&SHA256);
    for _ in 0..password.len() {
        context.update(password);
    }
    let mut p = repeat_to(context.finish().as_ref(), password.len());
    let mut context = Context::new(&SHA256);
    for _ in 0..16 + usize::from(current.first().copied().unwrap_or(0)) {
        context.update(salt);
    }
    let s = repeat_to(context.finish().as_ref(), salt.len());

    for round in 0..rounds {
        let odd = round % 2 == 1;
        let first: &[u8] = if odd { &p } else { &current };
        let last: &[u8] = if odd { &current } else { &p };
        let salted: &[u8] = if round % 3 == 0 { &[] } else { &s };
        let again: &[u8] = if round % 7 == 0 { &[] } else { &p };
        current = sha256(&[first, salted, again, last]);
    }
    p.zeroize();
    current
}

/// SHA-crypt's base 64, in its own alphabet and byte order.
fn crypt64(hash: &[u8; 32], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 10] = [
        [0, 10, 20],
        [21, 1, 11],
        [12, 22, 2],
        [3, 13, 23],
        [24, 4, 14],
        [15, 25, 5],
        [6, 16, 26],
        [27, 7, 17],
        [18, 28, 8],
        [9, 19, 29],
    ];
    let byte = |at: usize| hash.get(at).copied().map_or(0, u32::from);
    let mut put = |mut word: u32, count: usize| {
        for _ in 0..count {
            let digit = usize::try_from(word & 0x3f).unwrap_or(0);
            out.push(ALPHABET.get(digit).copied().unwrap_or(b'.'));
            word >>= 6;
        }
    };
    for [a, b, c] in ORDER {
        put(byte(a) << 16 | byte(b) << 8 | byte(c), 4);
    }
    put(byte(31) << 8 | byte(30), 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn stage_2_hashes() {
        // The figures of Python's hashlib; the first is what PASSWORD('secret') prints.
        assert_eq!(
            native_stage2(b"secret").to_vec(),
            hex("14e65567abdb5135d0cfd9a70b3032c179a49ee7")
        );
        assert_eq!(
            sha2_stage2(b"secret").to_vec(),
            hex("3881219d087dd9c634373fd33dfa33a2cb6bfc6c520b64b8bb60ef2ceb534ae7")
        );
    }

    #[test]
    fn scrambles_agree_with_the_oracle_and_prove_only_their_password() {
        use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
        use mysql_common::auth::plugins::mysql_native_password::scramble_native;
        for password in [&b"secret"[..], b"", b"p\xc3\xa4ss", &[b'x'; 300]] {
            let nonce = super::nonce().unwrap();
            let native = native_scramble(password, &nonce);
            let sha2 = sha2_scramble(password, &nonce);
            // The oracle answers an empty password by nothing.
            if !password.is_empty() {
                assert_eq!(Some(native), scramble_native(&nonce, password));
                assert_eq!(Some(sha2), scramble_sha256(&nonce, password));
            }
            assert!(native_verify(&native, &nonce, &native_stage2(password)));
            assert!(sha2_verify(&sha2, &nonce, &sha2_stage2(password)));
            assert!(!native_verify(&native, &nonce, &native_stage2(b"other")));
            assert!(!sha2_verify(&sha2, &nonce, &sha2_stage2(b"other")));
            let other = super::nonce().unwrap();
            assert!(!native_verify(&native, &other, &native_stage2(password)));
            assert!(!sha2_verify(&sha2, &other, &sha2_stage2(password)));
            for cut in 0..20 {
                assert!(!native_verify(
                    &native[..cut],
                    &nonce,
                    &native_stage2(password)
                ));
                assert!(!sha2_verify(&sha2[..cut], &nonce, &sha2_stage2(password)));
            }
        }
    }

    #[test]
    fn challenges_hold_neither_nul_nor_dollar_and_differ() {
        let nonces: Vec<Nonce> = (0..500).map(|_| nonce().unwrap()).collect();
        for (index, nonce) in nonces.iter().enumerate() {
            assert!(nonce.iter().all(|&b| b != 0 && b != b'$' && b < 0x80));
            assert!(!nonces[..index].contains(nonce));
        }
    }

    #[test]
    fn sha_crypt_vectors() {
        #[track_caller]
        fn check(password: &[u8], salt: &str, expect: &str) {
            let mut out = Vec::new();
            crypt64(&sha256_crypt(password, salt.as_bytes(), 5000), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
        // From the specification, and from glibc's crypt().
        check(
            b"Hello world!",
            "saltstring",
            "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
        );
        check(
            b"This is just a test",
            "saltstringsaltst",
            "x/zpfu1wRdjMeUna2pNrIP8Ex4hjxvm4nrkMHIHcl65",
        );
        check(
            &[b'x'; 100],
            "a",
            "BzuejksQyGKBWETRrz.eTqDpbLY8DKUkVzxxPNKLCQA",
        );
    }

    #[test]
    fn the_stored_form_of_a_real_server() {
        // Salt and hash as MySQL stored them for the password "hashcat" (that tool's example 7401).
        let mut stored = b"$A$005$".to_vec();
        stored.extend(hex("F9CC98CE08892924F50A213B6BC571A2C11778C5"));
        stored.extend(hex(
            "625479393559393965414D45316477456B484F41316E64484742577A2E3162785353526B7554584647562F",
        ));
        let parsed = Salted::parse(&stored).unwrap();
        assert!(parsed.verify(b"hashcat"));
        assert!(!parsed.verify(b"hashcat ") && !parsed.verify(b""));
        for cut in 0..stored.len() {
            assert_eq!(Salted::parse(&stored[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Salted::parse(b"$A$000$"), None);
        let again = salted(b"pw", b"abcdefghijklmnopqrst");
        assert!(Salted::parse(&again).unwrap().verify(b"pw"));
    }
}
