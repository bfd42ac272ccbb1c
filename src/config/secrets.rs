//! Passwords by reference (environment variable or file) and password verifiers.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use toml::de::DeValue;

use crate::base::credential::{AuthPlugin, Verifier};
use crate::base::secret::Secret;

use super::problem::{Code, Problem};
use super::reader::{At, Section, Span, wrong_type};
use super::source::read_file;

/// The largest file of a secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where secrets come from.
pub(super) struct Sources<'a> {
    /// Looks an environment variable up.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The directory of the configuration file: where relative paths start.
    pub(super) dir: &'a Path,
}

/// The secret `key` of `section`: `{ env = "NAME" }` or `{ file = "PATH" }`.
pub(super) fn read_secret(
    section: &mut Section<'_>,
    key: &'static str,
    sources: &Sources<'_>,
) -> Option<At<Secret>> {
    let value = section.get(key)?;
    let (path, span, problems) = (section.path_of(key), value.span(), section.problems);
    match value.get_ref() {
        DeValue::Table(_) => {}
        DeValue::String(_) => {
            let problem = Problem::at(
                Code::SecretInFile,
                &span,
                format!("`{path}` is written in the file itself"),
                "a secret",
            );
            problems.push(problem.help(format!(
                "write `{key} = {{ env = \"NAME\" }}` or `{key} = {{ file = \"PATH\" }}`"
            )));
            return None;
        }
        _ => {
            problems.push(wrong_type(
                &path,
                "{ env = \"NAME\" } or { file = \"PATH\" }",
                value,
            ));
            return None;
        }
    }
    let mut reference = Section::of_value(path.clone(), value, problems);
    let (env, file) = (reference.text("env"), reference.text("file"));
    let named = match (&env, &file) {
        (Some(name), None) => Some(from_env(name, sources)),
        (None, Some(file)) => Some(from_file(file, sources)),
        (Some(_), Some(_)) => {
            let message = format!("`{path}` names both a variable and a file");
            let problem = Problem::at(Code::Contradiction, &span, message, "keep one");
            problems.push(problem.help("remove `env` or `file`"));
            None
        }
        (None, None) => {
            let message = format!("`{path}` names neither a variable nor a file");
            let problem = Problem::at(Code::Missing, &span, message, "needed here");
            problems.push(problem.help("add `env = \"NAME\"` or `file = \"PATH\"`"));
            None
        }
    };
    reference.finish();
    let secret = named?.and_then(|secret| strip_newline(secret, &path, &span));
    secret
        .map_err(|problem| problems.push(problem))
        .ok()
        .map(|value| At { value, span })
}

fn from_env(name: &At<String>, sources: &Sources<'_>) -> Result<Vec<u8>, Problem> {
    (sources.env)(&name.value)
        .map(String::into_bytes)
        .ok_or_else(|| {
            let message = format!("the environment variable {} is not set", name.value);
            Problem::at(Code::SecretMissing, &name.span, message, "named here")
                .help("set it in the environment of the process, or take the secret from a file")
        })
}

fn from_file(file: &At<String>, sources: &Sources<'_>) -> Result<Vec<u8>, Problem> {
    let path = sources.dir.join(&file.value);
    let (bytes, metadata) = read_file(&path, SECRET_BYTES_MAX).map_err(|problem| {
        let code = if problem.code == Code::Unreadable {
            Code::SecretMissing
        } else {
            problem.code
        };
        Problem::at(code, &file.span, problem.message, "named here").help(problem.help)
    })?;
    // The owner's group may read (that is how services get credentials); nobody else, and no other writer.
    if metadata.mode() & 0o027 != 0 {
        let message = format!(
            "{} has mode {:03o}",
            path.display(),
            metadata.mode() & 0o777
        );
        return Err(Problem::at(
            Code::SecretExposed,
            &file.span,
            message,
            "others can read or change it",
        )
        .help(format!("run `chmod 600 {}`", path.display())));
    }
    Ok(bytes)
}

/// Takes one line end off, as editors and `echo` put one there.
fn strip_newline(mut bytes: Vec<u8>, path: &str, span: &Span) -> Result<Secret, Problem> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let secret = Secret::new(bytes);
    if secret.is_empty() {
        let message = format!("`{path}` is empty");
        let problem = Problem::at(Code::SecretEmpty, span, message, "this secret");
        return Err(
            problem.help("give it a value; an account without one says `passwordless = true`")
        );
    }
    if secret.expose().contains(&0) {
        // The protocol ends a password at its first zero byte.
        let message = format!("`{path}` has a zero byte");
        let problem = Problem::at(Code::BadValue, span, message, "this secret");
        return Err(problem.help("choose a password without it: the protocol cannot carry it"));
    }
    Ok(secret)
}

/// How a user's password is verified: from `password`, `verifiers` or `passwordless`.
pub(super) fn read_verifier(user: &mut Section<'_>, sources: &Sources<'_>) -> Option<Verifier> {
    let ways: Vec<&str> = ["password", "verifiers", "passwordless"]
        .into_iter()
        .filter(|key| user.has(key))
        .collect();
    let password = read_secret(user, "password", sources);
    let verifiers = read_verifiers(user);
    let passwordless = user.flag("passwordless");
    match ways.as_slice() {
        ["password"] => password.map(|password| derive(password.value.expose())),
        ["verifiers"] => verifiers,
        ["passwordless"] => passwordless.and_then(|yes| yes.then_some(Verifier::Empty)),
        [] => {
            user.missing("password", "password = { env = \"NAME\" }");
            None
        }
        _ => {
            let message = format!("`{}` has more than one of {}", user.path, ways.join(", "));
            let problem = Problem::at(Code::Contradiction, &user.span, message, "keep one");
            user.problems
                .push(problem.help("keep the one that is to be checked"));
            None
        }
    }
}

/// Both stage-2 hashes of a plain password.
pub(super) fn derive(password: &[u8]) -> Verifier {
    let twice = |algorithm| digest::digest(algorithm, digest::digest(algorithm, password).as_ref());
    let (sha1, sha256) = (twice(&SHA1_FOR_LEGACY_USE_ONLY), twice(&SHA256));
    match (sha1.as_ref().try_into(), sha256.as_ref().try_into()) {
        (Ok(native), Ok(sha2)) => Verifier::Both { native, sha2 },
        // Unreachable: the digests have these lengths. An impossible login beats a crash.
        _ => Verifier::Sha2([0; 32]),
    }
}

fn read_verifiers(user: &mut Section<'_>) -> Option<Verifier> {
    if !user.has("verifiers") {
        let _ = user.get("verifiers");
        return None;
    }
    let mut section = user.section("verifiers");
    let native = section
        .text("native")
        .and_then(|text| parsed(&section, &text, native_hash, "* and 40 hexadecimal digits"));
    let sha2 = section
        .text("sha2_stage2")
        .and_then(|text| parsed(&section, &text, from_hex, "64 hexadecimal digits"));
    let salted = section.text("caching_sha2").and_then(|text| {
        parsed(
            &section,
            &text,
            salted_hash,
            "the server's \"$A$005$…\" or its 0x form",
        )
    });
    let problem =
        |message: &str| Problem::at(Code::BadVerifier, &section.span, message, "these verifiers");
    let verifier = match (native, sha2, salted) {
        (Some(native), Some(sha2), None) => Some(Verifier::Both { native, sha2 }),
        (Some(native), None, None) => Some(Verifier::Native(native)),
        (None, Some(sha2), None) => Some(Verifier::Sha2(sha2)),
        (None, None, Some(salted)) => Some(Verifier::Salted(salted)),
        (None, None, None) => {
            if !["native", "sha2_stage2", "caching_sha2"]
                .iter()
                .any(|key| section.has(key))
            {
                section.problems.push(
                    problem("no verifier is given")
                        .help("add `native`, `sha2_stage2` or `caching_sha2`"),
                );
            }
            None
        }
        (_, _, Some(_)) => {
            section.problems.push(
                problem("`caching_sha2` stands alone")
                    .help("a user has either the server's stored form or stage-2 hashes"),
            );
            None
        }
    };
    section.finish();
    verifier
}

fn parsed<T>(
    section: &Section<'_>,
    text: &At<String>,
    parse: fn(&str) -> Option<T>,
    wanted: &str,
) -> Option<T> {
    let value = parse(&text.value);
    if value.is_none() {
        let problem = Problem::at(
            Code::BadVerifier,
            &text.span,
            "this verifier is malformed",
            "a verifier",
        );
        section
            .problems
            .push(problem.help(format!("write {wanted}")));
    }
    value
}

/// `*` and 40 digits, as `SELECT PASSWORD(…)` and `SHOW CREATE USER` print it.
fn native_hash(text: &str) -> Option<[u8; 20]> {
    from_hex(text.strip_prefix('*')?)
}

/// `$A$<3 digits>$<20-byte salt><43 characters>`, plain or as `SHOW CREATE USER` prints it with
/// `print_identified_with_as_hex`.
fn salted_hash(text: &str) -> Option<Vec<u8>> {
    let bytes = match text.strip_prefix("0x") {
        Some(hex) => from_hex::<70>(hex)?.to_vec(),
        None => text.as_bytes().to_vec(),
    };
    let rounds = bytes.strip_prefix(b"$A$")?;
    let (digits, rest) = rounds.split_at_checked(3)?;
    let fits = digits.iter().all(u8::is_ascii_hexdigit) && rest.first() == Some(&b'$');
    (fits && bytes.len() == 70).then_some(bytes)
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Whether a login with `plugin` can be verified with `verifier`.
pub(super) fn go_together(plugin: AuthPlugin, verifier: &Verifier) -> bool {
    match (plugin, verifier) {
        (_, Verifier::Empty | Verifier::Both { .. }) => true,
        (AuthPlugin::Native, verifier) => matches!(verifier, Verifier::Native(_)),
        (AuthPlugin::CachingSha2, verifier) => {
            matches!(verifier, Verifier::Sha2(_) | Verifier::Salted(_))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_verifiers_are_what_the_servers_print() {
        // SELECT PASSWORD('password') on MariaDB; SHA2(UNHEX(SHA2('password', 256)), 256).
        let native = native_hash("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19").unwrap();
        let sha2 =
            from_hex("73641c99f7719f57d8f4beb11a303afcd190243a51ced8782ca6d3dbe014d146").unwrap();
        assert!(derive(b"password") == Verifier::Both { native, sha2 });
    }

    #[test]
    fn malformed_verifiers_are_refused() {
        assert!(native_hash("2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19").is_none());
        assert!(native_hash("*2470").is_none());
        assert!(native_hash("*+470C0C06DEE42FD1618BB99005ADCA2EC9D1E19").is_none());
        let salted = format!("$A$005${}{}", "s".repeat(20), "h".repeat(43));
        assert_eq!(salted_hash(&salted).unwrap(), salted.as_bytes());
        let hex: String = salted.bytes().map(|b| format!("{b:02X}")).collect();
        assert_eq!(salted_hash(&format!("0x{hex}")).unwrap(), salted.as_bytes());
        assert!(salted_hash(&salted[..69]).is_none());
        assert!(salted_hash(&salted.replace("$A$", "$B$")).is_none());
    }
}
