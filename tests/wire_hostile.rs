//! Clients that lie: every decoder over arbitrary bytes, the downstream login against broken clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail by panicking"
)]

use std::sync::Arc;

use proptest::prelude::*;
use ringgate::base::close::CloseReason;
use ringgate::base::credential::{AuthPlugin, Verifier};
use ringgate::base::secret::Secret;
use ringgate::session::mysql::full_login::RsaOutcome;
use ringgate::session::mysql::login::{
    DEFAULT_CAPS, Login, LoginConfig, LoginError, LoginStep, Users,
};
use ringgate::wire::mysql::auth::{self, Salted, native_scramble, native_stage2, sha2_stage2};
use ringgate::wire::mysql::command::{Command, Execute};
use ringgate::wire::mysql::cursor::Reader;
use ringgate::wire::mysql::flags::{caps, status};
use ringgate::wire::mysql::handshake::{
    AuthSwitch, Greeting, Response, client_caps, decode_auth_more_data, is_ssl_request,
};
use ringgate::wire::mysql::response::{decode_eof, decode_err, decode_ok, is_eof};
use ringgate::wire::mysql::rsa::{ServerKey, encrypt_password};
use ringgate::wire::mysql::track::Changes;
use ringgate::wire::mysql::value::{
    Column, PrepareOk, TextRow, decode_binary_row, decode_column_count, decode_value,
    skip_parameters,
};

/// Runs every decoder; the point is that each returns, and that no iterator is endless.
fn decode_everything(bytes: &[u8]) {
    let offered = client_caps(bytes).unwrap_or(u32::MAX);
    let _ = Greeting::decode(bytes);
    if let Ok(response) = Response::decode(bytes, offered) {
        assert!(response.attributes.count() <= bytes.len());
    }
    let _ = is_ssl_request(bytes);
    let _ = AuthSwitch::decode(bytes);
    let _ = decode_auth_more_data(bytes);
    let _ = Salted::parse(bytes);
    for negotiated in [0, caps::SESSION_TRACK] {
        if let Ok(ok) = decode_ok(bytes, negotiated) {
            assert!(Changes::new(ok.session_changes).count() <= bytes.len());
        }
    }
    assert!(Changes::new(bytes).count() <= bytes.len());
    let _ = decode_err(bytes);
    let _ = (is_eof(bytes), decode_eof(bytes));
    let _ = Command::parse(bytes);
    if let Ok(execute) = Execute::head(bytes) {
        for count in [0, 1, 7, 8, 9, 65_535, usize::MAX] {
            if let Ok(parameters) = execute.parameters(count) {
                let types = parameters.types.unwrap_or_default();
                let _ = skip_parameters(&parameters, types, |index| index % 3 == 0);
            }
        }
    }
    let _ = Column::decode(bytes);
    let _ = decode_column_count(bytes);
    let _ = PrepareOk::decode(bytes);
    assert!(TextRow::new(bytes).count() <= bytes.len());
    for column_type in 0..=u8::MAX {
        let _ = decode_value(&mut Reader::new(bytes), column_type, column_type % 2 == 0);
        let _ = decode_binary_row(bytes, &[(column_type, false), (8, true), (253, false)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_everything(&bytes);
    }

    #[test]
    fn nor_do_bytes_that_look_right(
        head in prop::sample::select(vec![0_u8, 1, 3, 0x0a, 0x16, 0x17, 0x18, 0xfa, 0xfb, 0xfe, 0xff]),
        small in prop::collection::vec(0..12_u8, 0..60),
    ) {
        let mut bytes = vec![head];
        bytes.extend(small);
        decode_everything(&bytes);
    }

    #[test]
    fn logins_end_whatever_the_client_sends(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..6),
        valid_first: bool,
    ) {
        let (mut login, mut out) = greeted(AuthPlugin::CachingSha2);
        let mut sequence = 1_u8;
        if valid_first {
            let first = response("salted", &[1; 32], "caching_sha2_password");
            login.on_packet(sequence, &first, &ACCOUNTS, &mut out).unwrap();
            sequence = 3;
        }
        for packet in packets {
            match login.on_packet(sequence, &packet, &ACCOUNTS, &mut out) {
                Ok(LoginStep::Done(_)) => prop_assert!(false, "let in"),
                Ok(LoginStep::NeedRsa(work)) => {
                    let error = login.on_rsa(work.run(&KEY)).unwrap_err();
                    prop_assert_eq!(error.errno, 1045);
                    break;
                }
                Ok(LoginStep::Continue) => sequence = sequence.wrapping_add(2),
                Err(error) => {
                    prop_assert!([1043, 1045, 1231, 1251].contains(&error.errno));
                    break;
                }
            }
        }
    }
}

static KEY: std::sync::LazyLock<ServerKey> =
    std::sync::LazyLock::new(|| ServerKey::generate().unwrap());

struct Accounts(std::sync::LazyLock<[(&'static str, Verifier); 3]>);

static ACCOUNTS: Accounts = Accounts(std::sync::LazyLock::new(|| {
    [
        ("native", Verifier::Native(native_stage2(b"pw"))),
        ("sha2", Verifier::Sha2(sha2_stage2(b"pw"))),
        ("salted", Verifier::Salted(auth::salted(b"pw", &[b's'; 20]))),
    ]
}));

impl Users for Accounts {
    fn find(&self, user: &[u8]) -> Option<(usize, &Verifier)> {
        let found = self
            .0
            .iter()
            .position(|(name, _)| name.as_bytes() == user)?;
        Some((found, &self.0[found].1))
    }
}

const NONCE: [u8; 20] = [b'n'; 20];
const SWITCH_NONCE: [u8; 20] = [b'm'; 20];

fn greeted(default_plugin: AuthPlugin) -> (Login, Vec<u8>) {
    let config = LoginConfig {
        server_version: "8.4.3".into(),
        connection_id: 1,
        client_host: "h".to_owned(),
        caps_offered: DEFAULT_CAPS,
        default_plugin,
        default_collation: 45,
        public_key_pem: Some(Arc::from(KEY.public_pem())),
        transport_is_private: false,
    };
    let mut login = Login::new(config, NONCE, SWITCH_NONCE);
    let mut out = Vec::new();
    login.greeting(status::AUTOCOMMIT, &mut out);
    (login, out)
}

fn response_with(word: u32, collation: u8, user: &[u8], answer: &[u8], plugin: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Response {
        caps: word,
        mariadb_caps: 0,
        max_packet: 0,
        collation,
        user,
        auth: answer,
        schema: None,
        plugin: plugin.as_bytes(),
        attributes: Default::default(),
    }
    .encode(&mut out);
    out
}

fn response(user: &str, answer: &[u8], plugin: &str) -> Vec<u8> {
    response_with(DEFAULT_CAPS, 45, user.as_bytes(), answer, plugin)
}

/// Sends each packet with the right sequence id; the last step's result.
fn play(default_plugin: AuthPlugin, packets: &[&[u8]]) -> Result<LoginStep, LoginError> {
    let (mut login, mut out) = greeted(default_plugin);
    let mut result = Ok(LoginStep::Continue);
    for (index, packet) in packets.iter().enumerate() {
        assert!(result.is_ok(), "over before packet {index}: {result:?}");
        let sequence = u8::try_from(2 * index + 1).unwrap();
        result = login.on_packet(sequence, packet, &ACCOUNTS, &mut out);
    }
    result
}

#[test]
fn responses_that_break_the_protocol_get_1043_or_1045() {
    #[track_caller]
    fn check(packets: &[&[u8]], errno: u16) {
        check_greeted(AuthPlugin::Native, packets, errno);
    }
    #[track_caller]
    fn check_greeted(greeted: AuthPlugin, packets: &[&[u8]], errno: u16) {
        let error = play(greeted, packets).unwrap_err();
        assert_eq!(error.errno, errno);
        let err = decode_err(&error.packet[4..]).unwrap();
        assert_eq!(err.errno, errno);
        let (state, reason) = match errno {
            1045 => (b"28000", CloseReason::LoginDenied),
            1251 => (b"08004", CloseReason::LoginDenied),
            _ => (b"08S01", CloseReason::ClientProtocol),
        };
        assert_eq!((err.sqlstate, error.reason), (Some(*state), reason));
        // The error follows the last packet.
        assert_eq!(usize::from(error.packet[3]), 2 * packets.len());
    }
    const NATIVE: &str = "mysql_native_password";
    let good = response("native", &native_scramble(b"pw", &NONCE), NATIVE);
    assert!(matches!(
        play(AuthPlugin::Native, &[&good]),
        Ok(LoginStep::Done(_))
    ));
    // M1, M3, M4: cut anywhere before the end of the answer. Schema, plugin and attributes may be
    // missing, as some clients leave them out.
    let essential = good.len() - "\0".len() - NATIVE.len() - "\0\0".len();
    for cut in 0..essential {
        check(&[&good[..cut]], 1043);
    }
    // M2: TLS was not offered, in the short form or in a longer packet.
    let mut tls = good.clone();
    tls[1] |= 0x08;
    check(&[&tls[..32]], 1043);
    check(&[&tls], 1043);
    // M3: names no server allows, and names that are no text.
    let long = vec![b'u'; 1 << 20];
    check(
        &[&response_with(DEFAULT_CAPS, 45, &long, b"", NATIVE)],
        1043,
    );
    check(
        &[&response_with(
            DEFAULT_CAPS,
            45,
            b"\xff\x0d\x0a",
            b"x",
            NATIVE,
        )],
        1045,
    );
    // M4, M8: answers of any length.
    for length in [1, 19, 21, 255, 65_536] {
        check(&[&response("native", &vec![7; length], NATIVE)], 1045);
    }
    check(&[&response("native", b"", NATIVE)], 1045);
    // M6: no 4.1 protocol; a client that knows no plugins.
    let ancient = DEFAULT_CAPS & !caps::PROTOCOL_41;
    check(&[&response_with(ancient, 45, b"native", b"", NATIVE)], 1043);
    let old = DEFAULT_CAPS & !caps::PLUGIN_AUTH;
    check(&[&response_with(old, 45, b"salted", &[1; 20], "")], 1251);
    // M8: the switch answered by nothing, too little, too much, or the first challenge's answer.
    let other = response("native", &[1; 32], "caching_sha2_password");
    let replay = native_scramble(b"pw", &NONCE);
    for answer in [&b""[..], &[1; 19], &[1; 100_000], &replay] {
        check(&[&other, answer], 1045);
    }
    // M8: a public key asked for twice, and a ciphertext that is too long.
    let sha2 = response("salted", &[1; 32], "caching_sha2_password");
    for packets in [&[&[1; 1025][..]][..], &[&[2], &[1; 1025]]] {
        let unswitched = [&[&sha2[..]], packets].concat();
        check_greeted(AuthPlugin::CachingSha2, &unswitched, 1045);
        let switched = [&[&sha2[..], &[1; 32]], packets].concat();
        check(&switched, 1045);
    }
}

#[test]
fn a_client_that_hashes_the_nul_of_a_switched_challenge_gets_in() {
    // PyMySQL up to 1.1.1: SHA256(pw) XOR SHA256(stage 2, challenge, NUL).
    let hash = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let stage1 = hash(b"pw");
    let answer = |challenge: &[u8]| -> Vec<u8> {
        let mut salted = hash(stage1.as_ref()).as_ref().to_vec();
        salted.extend(challenge);
        salted.push(0);
        let mask = hash(&salted);
        let pairs = stage1.as_ref().iter().zip(mask.as_ref());
        pairs.map(|(a, b)| a ^ b).collect()
    };
    let first = response("sha2", &[1; 20], "mysql_native_password");
    let right = answer(&SWITCH_NONCE);
    let step = play(AuthPlugin::Native, &[&first, &right]);
    assert!(matches!(step, Ok(LoginStep::Done(_))), "{step:?}");
    // Only the new challenge counts, and only after a switch.
    let replay = answer(&NONCE);
    assert!(play(AuthPlugin::Native, &[&first, &replay]).is_err());
    let unswitched = response("sha2", &replay, "caching_sha2_password");
    assert!(play(AuthPlugin::CachingSha2, &[&unswitched]).is_err());
}

#[test]
fn names_in_a_denial_are_harmless() {
    let nasty = response_with(
        DEFAULT_CAPS,
        45,
        b"a'\r\n\x1b[0m\xff",
        b"x",
        "mysql_native_password",
    );
    let error = play(AuthPlugin::Native, &[&nasty]).unwrap_err();
    let text = String::from_utf8(error.packet[13..].to_vec()).unwrap();
    assert_eq!(
        text,
        "Access denied for user 'a'???[0m\u{fffd}'@'h' (using password: YES)"
    );
}

#[test]
fn sequence_ids_are_checked_at_every_step() {
    let native = response("native", &[1; 20], "caching_sha2_password");
    for (before, right) in [(0, 1_u8), (1, 3)] {
        for sequence in (0..=u8::MAX).filter(|&sequence| sequence != right) {
            let (mut login, mut out) = greeted(AuthPlugin::Native);
            if before == 1 {
                login.on_packet(1, &native, &ACCOUNTS, &mut out).unwrap();
            }
            let error = login
                .on_packet(sequence, &native, &ACCOUNTS, &mut out)
                .unwrap_err();
            assert_eq!(error.errno, 1156);
            assert_eq!(error.packet[3], sequence.wrapping_add(1));
            // Over is over.
            let again = login.on_packet(right, &native, &ACCOUNTS, &mut out);
            assert!(again.is_err());
        }
    }
}

#[test]
fn answers_of_another_thread_come_only_when_asked_for() {
    let (mut login, _) = greeted(AuthPlugin::Native);
    assert!(login.on_rsa(RsaOutcome::Proven([0; 32])).is_err());

    let (mut login, mut out) = greeted(AuthPlugin::CachingSha2);
    let first = response("salted", &[1; 32], "caching_sha2_password");
    login.on_packet(1, &first, &ACCOUNTS, &mut out).unwrap();
    let sealed = encrypt_password(KEY.public_pem(), &Secret::new("pw"), &NONCE).unwrap();
    // The ciphertext may come without asking for the key: the client had it already.
    let step = login.on_packet(3, &sealed, &ACCOUNTS, &mut out).unwrap();
    assert!(matches!(step, LoginStep::NeedRsa(_)));
    // A client that does not wait for the verdict is out.
    let error = login.on_packet(4, b"", &ACCOUNTS, &mut out).unwrap_err();
    assert_eq!(error.errno, 1043);
    assert!(login.on_rsa(RsaOutcome::Proven([0; 32])).is_err());
}

#[test]
fn unknown_collations_are_none_and_those_that_no_client_may_use_are_refused() {
    #[track_caller]
    fn check(collation: u8, expect: Result<Option<u16>, u16>) {
        let answer = native_scramble(b"pw", &NONCE);
        let packet = response_with(
            DEFAULT_CAPS,
            collation,
            b"native",
            &answer,
            "mysql_native_password",
        );
        match play(AuthPlugin::Native, &[&packet]) {
            Ok(LoginStep::Done(result)) => assert_eq!(Ok(result.collation), expect),
            Err(error) => assert_eq!(Err(error.errno), expect),
            other => panic!("{other:?}"),
        }
    }
    check(33, Ok(Some(33)));
    check(255, Ok(Some(255)));
    check(0, Ok(None)); // None.
    check(100, Ok(None)); // Unknown.
    check(17, Ok(None)); // Of file names: not on MySQL.
    check(35, Err(1231)); // ucs2.
    check(54, Err(1231)); // utf16.
}

#[test]
fn a_login_can_still_be_refused_after_the_password() {
    let (mut login, mut out) = greeted(AuthPlugin::Native);
    let answer = native_scramble(b"pw", &NONCE);
    let packet = response("native", &answer, "mysql_native_password");
    login.on_packet(1, &packet, &ACCOUNTS, &mut out).unwrap();
    out.clear();
    login.refuse(1049, "42000", "Unknown database 'x'", &mut out);
    assert_eq!(out[3], 2);
    assert_eq!(decode_err(&out[4..]).unwrap().errno, 1049);
}
