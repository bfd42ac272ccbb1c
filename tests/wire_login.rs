//! The gateway's two logins against each other: every account × every client, through the packets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail by panicking"
)]

use std::sync::Arc;

use ringgate::base::close::CloseReason;
use ringgate::base::credential::{AuthPlugin, Verifier};
use ringgate::base::secret::Secret;
use ringgate::session::mysql::connect::{
    Connect, ConnectConfig, ConnectError, ConnectErrorKind, ConnectStep, ServerFacts,
};
use ringgate::session::mysql::login::{
    DEFAULT_CAPS, Login, LoginConfig, LoginError, LoginResult, LoginStep, Users,
};
use ringgate::wire::mysql::auth::{self, native_stage2, sha2_stage2};
use ringgate::wire::mysql::charset;
use ringgate::wire::mysql::flags::{caps, status};
use ringgate::wire::mysql::handshake::Attributes;
use ringgate::wire::mysql::rsa::ServerKey;

/// Accounts by name; every account is number 7.
struct Accounts(Vec<(&'static str, Verifier)>, Verifier);

impl Users for Accounts {
    fn find(&self, user: &[u8]) -> Option<(usize, &Verifier)> {
        let found = self.0.iter().find(|(name, _)| name.as_bytes() == user);
        found.map(|(_, verifier)| (7, verifier))
    }

    fn decoy(&self, _user: &[u8]) -> &Verifier {
        &self.1
    }
}

fn server(plugin: AuthPlugin, key: Option<&ServerKey>) -> LoginConfig {
    LoginConfig {
        server_version: "5.5.5-10.11.6-MariaDB-ringgate".into(),
        connection_id: 4_242,
        client_host: "192.0.2.9".to_owned(),
        caps_offered: DEFAULT_CAPS,
        default_plugin: plugin,
        default_collation: 45,
        public_key_pem: key.map(|key| Arc::from(key.public_pem())),
        transport_is_private: false,
    }
}

fn client(user: &str, password: &str) -> ConnectConfig {
    ConnectConfig {
        user: user.to_owned(),
        password: Secret::new(password),
        caps_wanted: DEFAULT_CAPS,
        collation: 33,
        schema: Some("shop".to_owned()),
        attributes: vec![("program_name".to_owned(), "ringgate".to_owned())],
        max_packet: 1 << 24,
        trusted_key_pem: None,
        allow_rsa_from_server: true,
        transport_is_private: false,
    }
}

/// Takes one packet off the front: (sequence, payload).
fn unpack(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let header: [u8; 4] = bytes.first_chunk().copied()?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let payload = bytes[4..4 + length].to_vec();
    bytes.drain(..4 + length);
    Some((header[3], payload))
}

#[derive(Debug)]
struct Outcome {
    server: Result<LoginResult, LoginError>,
    client: Result<ServerFacts, ConnectError>,
    /// Kind of every packet in order: `S` and its first byte, `C` and its length.
    trace: Vec<String>,
}

fn login(
    config: LoginConfig,
    accounts: &Accounts,
    key: Option<&ServerKey>,
    client: ConnectConfig,
) -> Outcome {
    let mut server = Login::new(config, auth::nonce().unwrap(), auth::nonce().unwrap());
    let mut connect = Connect::new(Arc::new(client));
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let (mut server_end, mut client_end) = (None, None);
    let mut trace = Vec::new();
    server.greeting(status::AUTOCOMMIT, &mut down);
    while server_end.is_none() || client_end.is_none() {
        if let Some((sequence, payload)) = unpack(&mut down) {
            trace.push(format!("S{:02x}", payload[0]));
            match connect.on_packet(sequence, &payload, &mut up) {
                Ok(ConnectStep::Continue) => {}
                Ok(ConnectStep::Done(facts)) => client_end = Some(Ok(facts)),
                Err(error) => client_end = Some(Err(error)),
            }
        } else if let Some((sequence, payload)) = unpack(&mut up) {
            trace.push(format!("C{}", payload.len()));
            let mut step = server.on_packet(sequence, &payload, accounts, &mut down);
            if let Ok(LoginStep::NeedRsa(work)) = &step {
                step = server.on_rsa(work.run(key.unwrap()));
            }
            match step {
                Ok(LoginStep::Done(result)) => {
                    server.finish_ok(status::AUTOCOMMIT, &mut down);
                    server_end = Some(Ok(result));
                }
                Ok(_) => {}
                Err(error) => {
                    down.extend_from_slice(&error.packet);
                    server_end = Some(Err(error));
                }
            }
        } else {
            break;
        }
        assert!(trace.len() < 20, "endless: {trace:?}");
    }
    assert!(down.is_empty() && up.is_empty(), "packets left: {trace:?}");
    Outcome {
        server: server_end.expect("the server never ended"),
        client: client_end.expect("the client never ended"),
        trace,
    }
}

fn verifiers(password: &str) -> Vec<(&'static str, Verifier)> {
    let password = password.as_bytes();
    vec![
        ("native", Verifier::Native(native_stage2(password))),
        ("sha2", Verifier::Sha2(sha2_stage2(password))),
        (
            "both",
            Verifier::Both {
                native: native_stage2(password),
                sha2: sha2_stage2(password),
            },
        ),
        (
            "salted",
            Verifier::Salted(auth::salted(password, b"0123456789abcdefghij")),
        ),
        ("empty", Verifier::Empty),
    ]
}

const PLUGINS: [AuthPlugin; 2] = [AuthPlugin::Native, AuthPlugin::CachingSha2];

#[test]
fn every_account_lets_its_password_in_and_no_other() {
    let key = ServerKey::generate().unwrap();
    let accounts = Accounts(verifiers("correct horse"), Verifier::Empty);
    for plugin in PLUGINS {
        for (user, _) in &accounts.0 {
            for password in ["correct horse", "wrong", ""] {
                let outcome = login(
                    server(plugin, Some(&key)),
                    &accounts,
                    Some(&key),
                    client(user, password),
                );
                let case = format!("{user} {plugin:?} {password:?}: {outcome:?}");
                let right = match *user {
                    "empty" => password.is_empty(),
                    _ => password == "correct horse",
                };
                if right {
                    check_success(&outcome, user, &case);
                } else {
                    check_denial(&outcome, user, password, &case);
                }
            }
        }
    }
}

#[track_caller]
fn check_success(outcome: &Outcome, user: &str, case: &str) {
    let result = outcome.server.as_ref().expect(case);
    let facts = outcome.client.as_ref().expect(case);
    assert_eq!(result.user, 7, "{case}");
    assert_eq!(result.user_name, user.as_bytes(), "{case}");
    assert_eq!(result.caps, facts.caps, "{case}");
    assert_eq!(result.collation, Some(33), "{case}");
    assert_eq!(result.max_packet, 1 << 24, "{case}");
    assert_eq!(result.schema.as_deref(), Some(&b"shop"[..]), "{case}");
    let attributes = Attributes::checked(&result.attributes).unwrap();
    assert_eq!(attributes.get(b"program_name"), Some(&b"ringgate"[..]));
    let learnt = (user == "salted").then(|| sha2_stage2(b"correct horse"));
    assert_eq!(result.learnt, learnt, "{case}");
    assert_eq!(facts.connection_id, 4_242);
    assert_eq!(facts.status, status::AUTOCOMMIT);
    assert_eq!(facts.version, "5.5.5-10.11.6-MariaDB-ringgate");
    assert!(facts.is_mariadb());
    let offered = caps::SSL | caps::COMPRESS | caps::LOCAL_FILES;
    assert_eq!(facts.caps & offered, 0, "{case}");
}

#[track_caller]
fn check_denial(outcome: &Outcome, user: &str, password: &str, case: &str) {
    let error = outcome.server.as_ref().expect_err(case);
    assert_eq!(
        (error.errno, error.reason),
        (1045, CloseReason::LoginDenied)
    );
    assert_eq!(error.user_name, user.as_bytes());
    let told = outcome.client.as_ref().expect_err(case);
    assert_eq!(told.kind, ConnectErrorKind::Denied(1045), "{case}");
    let used = if password.is_empty() { "NO" } else { "YES" };
    let text = format!("Access denied for user '{user}'@'192.0.2.9' (using password: {used})");
    assert_eq!(told.message, text);
}

#[test]
fn an_unknown_user_looks_like_one_with_a_wrong_password() {
    let key = ServerKey::generate().unwrap();
    for (kind, verifier) in verifiers("x") {
        for plugin in PLUGINS {
            for password in ["guess", ""] {
                if kind == "empty" && password.is_empty() {
                    continue; // The right password of such an account.
                }
                let accounts = Accounts(vec![("known", verifier.clone())], verifier.clone());
                let mut seen = Vec::new();
                for user in ["known", "other"] {
                    let outcome = login(
                        server(plugin, Some(&key)),
                        &accounts,
                        Some(&key),
                        client(user, password),
                    );
                    let told = outcome.client.unwrap_err();
                    let text = told.message.replace(user, "?");
                    seen.push((told.kind, text, outcome.trace));
                }
                assert_eq!(seen[0], seen[1], "{kind} {plugin:?} {password:?}");
            }
        }
    }
}

#[test]
fn an_unknown_user_is_refused_even_with_the_decoys_password() {
    let key = ServerKey::generate().unwrap();
    for (kind, decoy) in verifiers("decoy") {
        let accounts = Accounts(Vec::new(), decoy);
        let password = if kind == "empty" { "" } else { "decoy" };
        let outcome = login(
            server(AuthPlugin::CachingSha2, Some(&key)),
            &accounts,
            Some(&key),
            client("nobody", password),
        );
        assert_eq!(outcome.server.unwrap_err().errno, 1045, "{kind}");
    }
}

#[test]
fn paths_are_the_shortest_ones() {
    #[track_caller]
    fn check(user: &str, plugin: AuthPlugin, expect: &[&str]) {
        let key = ServerKey::generate().unwrap();
        let accounts = Accounts(verifiers("pw"), Verifier::Empty);
        let password = if user == "empty" { "" } else { "pw" };
        let outcome = login(
            server(plugin, Some(&key)),
            &accounts,
            Some(&key),
            client(user, password),
        );
        let after_response: Vec<_> = outcome.trace.iter().skip(2).map(String::as_str).collect();
        assert_eq!(after_response, expect, "{user} {plugin:?}");
    }
    use AuthPlugin::{CachingSha2, Native};
    check("native", Native, &["S00"]);
    check("native", CachingSha2, &["Sfe", "C20", "S00"]);
    check("sha2", CachingSha2, &["S01", "S00"]);
    check("sha2", Native, &["Sfe", "C32", "S01", "S00"]);
    check("both", Native, &["S00"]);
    check("both", CachingSha2, &["S01", "S00"]);
    check("empty", Native, &["S00"]);
    check("empty", CachingSha2, &["S00"]);
    check("salted", CachingSha2, &["S01", "C1", "S01", "C256", "S00"]);
    check(
        "salted",
        Native,
        &["Sfe", "C32", "S01", "C1", "S01", "C256", "S00"],
    );
}

#[test]
fn the_full_path_needs_a_key_that_is_trusted_or_allowed() {
    let key = ServerKey::generate().unwrap();
    let accounts = Accounts(verifiers("pw"), Verifier::Empty);
    let run = |config: ConnectConfig, with_key: bool| {
        let offered = with_key.then_some(&key);
        login(
            server(AuthPlugin::CachingSha2, offered),
            &accounts,
            Some(&key),
            config,
        )
    };
    let trusting = ConnectConfig {
        trusted_key_pem: Some(Arc::from(key.public_pem())),
        allow_rsa_from_server: false,
        ..client("salted", "pw")
    };
    let outcome = run(trusting, true);
    assert!(outcome.client.is_ok());
    assert_eq!(outcome.trace[2..], ["S01", "C256", "S00"]);

    // Without a key of the gateway's own, such an account stays outside.
    let outcome = run(client("salted", "pw"), false);
    assert_eq!(outcome.server.unwrap_err().errno, 1045);
}

#[test]
fn a_private_transport_brings_the_password_itself() {
    let key = ServerKey::generate().unwrap();
    let run = |is_private: bool, password: &str, longest: &str| {
        let accounts = Accounts(verifiers(longest), Verifier::Empty);
        let config = LoginConfig {
            transport_is_private: is_private,
            ..server(AuthPlugin::CachingSha2, Some(&key))
        };
        let client = ConnectConfig {
            transport_is_private: true,
            ..client("salted", password)
        };
        login(config, &accounts, Some(&key), client)
    };
    let outcome = run(true, "pw", "pw");
    let result = outcome.server.unwrap();
    assert_eq!(outcome.trace[2..], ["S01", "C3", "S00"]);
    // The next login is a fast one.
    assert_eq!(result.learnt, Some(sha2_stage2(b"pw")));
    assert_eq!(run(true, "wrong", "pw").server.unwrap_err().errno, 1045);
    let long = "x".repeat(200);
    assert!(run(true, &long, &long).server.is_ok());
    // Where others may listen, it is no answer: nobody shall be led to send it.
    assert_eq!(run(false, "pw", "pw").server.unwrap_err().errno, 1045);
    // Who encrypts all the same gets in too.
    let accounts = Accounts(verifiers("pw"), Verifier::Empty);
    for _ in 0..20 {
        let config = LoginConfig {
            transport_is_private: true,
            ..server(AuthPlugin::CachingSha2, Some(&key))
        };
        let outcome = login(config, &accounts, Some(&key), client("salted", "pw"));
        assert!(outcome.server.is_ok());
    }
}

#[test]
fn a_wary_client_shows_no_password_to_an_unknown_key() {
    let accounts = Accounts(verifiers("pw"), Verifier::Empty);
    let wary = ConnectConfig {
        allow_rsa_from_server: false,
        ..client("salted", "pw")
    };
    let mut server = Login::new(
        server(AuthPlugin::CachingSha2, None),
        auth::nonce().unwrap(),
        auth::nonce().unwrap(),
    );
    let mut connect = Connect::new(Arc::new(wary));
    let (mut down, mut up) = (Vec::new(), Vec::new());
    server.greeting(status::AUTOCOMMIT, &mut down);
    let (sequence, payload) = unpack(&mut down).unwrap();
    connect.on_packet(sequence, &payload, &mut up).unwrap();
    let (sequence, payload) = unpack(&mut up).unwrap();
    server
        .on_packet(sequence, &payload, &accounts, &mut down)
        .unwrap();
    let (sequence, payload) = unpack(&mut down).unwrap();
    let error = connect.on_packet(sequence, &payload, &mut up).unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::Unsupported);
    assert!(up.is_empty());
}

/// A character set that is no superset of ASCII is none that a client may have; what is unknown is
/// taken for the server's own.
#[test]
fn a_login_in_a_wide_character_set_is_refused_before_anything_else() {
    let accounts = Accounts(verifiers("pw"), Verifier::Empty);
    let mut refused = 0;
    for collation in 0..=u8::MAX {
        for (user, password) in [("native", "pw"), ("native", "wrong"), ("nobody", "pw")] {
            let config = ConnectConfig {
                collation,
                ..client(user, password)
            };
            let outcome = login(server(AuthPlugin::Native, None), &accounts, None, config);
            let known = charset::collation(u16::from(collation));
            let wide = known.filter(|c| charset::is_refused_for_clients(c.charset));
            let Some(wide) = wide else {
                let errno = outcome.server.err().map(|error| error.errno);
                let expect = (user != "native" || password != "pw").then_some(1045);
                assert_eq!(errno, expect, "{collation}");
                continue;
            };
            refused += 1;
            let error = outcome.client.expect_err("refused").message;
            let said = format!("can't be set to the value of '{}'", wide.charset);
            assert!(error.ends_with(&said), "{collation}: {error}");
            let error = outcome.server.expect_err("refused");
            assert_eq!((error.errno, outcome.trace.len()), (1231, 3), "{collation}");
        }
    }
    assert!(refused > 3 * 50, "{refused}");
}
