//! Servers that lie: the upstream login against broken ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail by panicking"
)]

use std::sync::Arc;

use proptest::prelude::*;
use ringgate::base::secret::Secret;
use ringgate::session::mysql::connect::{
    Connect, ConnectConfig, ConnectError, ConnectErrorKind, ConnectStep,
};
use ringgate::session::mysql::login::DEFAULT_CAPS;
use ringgate::wire::mysql::auth::native_scramble;
use ringgate::wire::mysql::flags::{caps, status};
use ringgate::wire::mysql::handshake::{Greeting, Response};
use ringgate::wire::mysql::response::{OkPacket, encode_ok};

const NONCE: [u8; 20] = [b'n'; 20];

proptest! {
    #[test]
    fn connects_end_whatever_the_server_sends(
        packets in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xfe), any::<u8>()], 0..60),
            1..12,
        ),
    ) {
        let (mut connect, mut sequence) = answered();
        let mut out = Vec::new();
        for packet in packets {
            if connect.on_packet(sequence, &packet, &mut out) != Ok(ConnectStep::Continue) {
                break;
            }
            sequence = sequence.wrapping_add(2);
        }
    }
}

fn connect_config() -> ConnectConfig {
    ConnectConfig {
        user: "u".to_owned(),
        password: Secret::new("pw"),
        caps_wanted: u32::MAX,
        collation: 45,
        schema: None,
        attributes: Vec::new(),
        max_packet: 1 << 24,
        trusted_key_pem: None,
        allow_rsa_from_server: true,
        transport_is_private: false,
    }
}

fn greeting(version: &[u8], plugin: &str, word: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Greeting {
        version,
        connection_id: 5,
        nonce: NONCE,
        caps: word,
        mariadb_caps: 0,
        collation: 8,
        status: status::AUTOCOMMIT,
        plugin: plugin.as_bytes(),
    }
    .encode(&mut out);
    out
}

/// A login whose response is out, and the sequence id that comes next.
fn answered() -> (Connect, u8) {
    let mut connect = Connect::new(Arc::new(connect_config()));
    let packet = greeting(b"8.4.3", "caching_sha2_password", DEFAULT_CAPS);
    let step = connect.on_packet(0, &packet, &mut Vec::new());
    assert_eq!(step, Ok(ConnectStep::Continue));
    (connect, 2)
}

fn after_response(packet: &[u8]) -> Result<ConnectStep, ConnectError> {
    let (mut connect, sequence) = answered();
    connect.on_packet(sequence, packet, &mut Vec::new())
}

#[test]
fn greetings_that_are_none() {
    #[track_caller]
    fn check(sequence: u8, packet: &[u8], kind: ConnectErrorKind) {
        let mut connect = Connect::new(Arc::new(connect_config()));
        let mut out = Vec::new();
        let error = connect.on_packet(sequence, packet, &mut out).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(out.is_empty());
        // Over is over.
        let good = greeting(b"8.4.3", "mysql_native_password", DEFAULT_CAPS);
        assert!(connect.on_packet(1, &good, &mut out).is_err());
    }
    use ConnectErrorKind::{Blocked, Protocol, Server, TooMany};
    check(0, b"\xff\x10\x04Too many connections", TooMany(1040));
    check(0, b"\xff\x69\x04Host 'x' is blocked", Blocked(1129));
    check(0, b"\xff\x6a\x04Host 'x' is not allowed", Blocked(1130));
    check(0, b"\xff\x1d\x04Server shutdown", Server(1053));
    check(0, b"\xff\x10", Protocol);
    check(0, b"", Protocol);
    check(0, b"HTTP/1.1 400 Bad Request\r\n", Protocol);
    let good = greeting(b"8.4.3", "mysql_native_password", DEFAULT_CAPS);
    check(1, &good, Protocol);
    for version in [9, 11] {
        let mut other = good.clone();
        other[0] = version;
        check(0, &other, Protocol);
    }
    // A challenge cut short.
    let essential = good.len() - "mysql_native_password\0".len();
    for cut in 0..essential {
        check(0, &good[..cut], Protocol);
    }
    for missing in [
        caps::PROTOCOL_41,
        caps::SECURE_CONNECTION,
        caps::PLUGIN_AUTH,
    ] {
        let old = greeting(b"5.0.1", "mysql_native_password", DEFAULT_CAPS & !missing);
        check(0, &old, Protocol);
    }
}

#[test]
fn version_strings_are_sanitised() {
    let mut version = b"8.4.3\r\nSet-Cookie: x\x1b\xff".to_vec();
    version.extend(vec![b'v'; 1 << 20]);
    let mut connect = Connect::new(Arc::new(connect_config()));
    let packet = greeting(&version, "mysql_native_password", DEFAULT_CAPS);
    connect.on_packet(0, &packet, &mut Vec::new()).unwrap();
    assert_eq!(connect.connection_id(), 5);
    let mut ok = Vec::new();
    encode_ok(&mut ok, DEFAULT_CAPS, &OkPacket::default());
    match connect.on_packet(2, &ok, &mut Vec::new()) {
        Ok(ConnectStep::Done(facts)) => {
            assert!(facts.version.starts_with("8.4.3??Set-Cookie: x??v"));
            assert_eq!(facts.version.len(), 128);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_that_are_refused() {
    #[track_caller]
    fn check(packet: &[u8], kind: ConnectErrorKind) {
        assert_eq!(after_response(packet).unwrap_err().kind, kind);
    }
    use ConnectErrorKind::{Denied, Protocol, Server, TooMany, Unsupported};
    check(b"\xff\x15\x04#28000Access denied", Denied(1045));
    check(b"\xff\x19\x04#42000Unknown database", Denied(1049));
    check(b"\xff\xca\x04#42000too many", TooMany(1226));
    check(b"\xff\x24\x04#HY000odd", Server(1060));
    check(b"\xff", Protocol);
    check(b"", Protocol);
    check(b"\x00\x00", Protocol);
    check(b"\x42", Protocol);
    check(b"\xfb/etc/passwd", Protocol);
    check(b"\xfe", Unsupported);
    check(b"\xfemysql_clear_password\0", Unsupported);
    check(
        b"\xfeclient_ed25519\0abcdefghijklmnopqrstuvwxyzabcdef",
        Unsupported,
    );
    check(b"\xfemysql_native_password\0short\0", Protocol);
    check(b"\xfemysql_native_password", Protocol);
    check(b"\x01", Protocol);
    check(b"\x01\x05", Protocol);
    check(b"\x01\x03\x03", Protocol);
    // Sequence ids: any but the right one.
    let (mut connect, _) = answered();
    let error = connect.on_packet(3, b"\x00\x00\x00\x02\x00\x00\x00", &mut Vec::new());
    assert_eq!(error.unwrap_err().kind, Protocol);
}

#[test]
fn messages_of_a_server_are_safe_to_log() {
    let mut packet = b"\xff\x15\x04#28000no\r\n\x00\xff".to_vec();
    packet.extend(vec![b'x'; 65_536]);
    let error = after_response(&packet).unwrap_err();
    assert!(error.message.starts_with("no????x"));
    assert_eq!(error.message.len(), 256);
}

#[test]
fn endless_rounds_end_after_eight() {
    let switch = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0";
    let (mut connect, mut sequence) = answered();
    let mut out = Vec::new();
    let mut rounds = 0;
    let error = loop {
        match connect.on_packet(sequence, switch, &mut out) {
            Ok(_) => rounds += 1,
            Err(error) => break error,
        }
        sequence = sequence.wrapping_add(2);
    };
    assert_eq!((rounds, error.kind), (8, ConnectErrorKind::Protocol));

    let (mut connect, mut sequence) = answered();
    let mut rounds = 0;
    while connect.on_packet(sequence, b"\x01\x03", &mut out).is_ok() {
        rounds += 1;
        sequence = sequence.wrapping_add(1);
    }
    assert_eq!(rounds, 8);
}

#[test]
fn public_keys_that_are_none() {
    #[track_caller]
    fn check(key: &[u8], kind: ConnectErrorKind) {
        let (mut connect, sequence) = answered();
        let mut out = Vec::new();
        connect.on_packet(sequence, b"\x01\x04", &mut out).unwrap();
        assert_eq!(out, [1, 0, 0, 3, 2]);
        out.clear();
        let error = connect.on_packet(4, key, &mut out).unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(out.is_empty());
    }
    use ConnectErrorKind::{Protocol, Unsupported};
    check(&[1; 1 << 20], Protocol);
    check(b"\x00", Protocol);
    check(
        b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        Unsupported,
    );
    check(b"\x01", Unsupported);
}

#[test]
fn a_private_transport_carries_the_password_itself() {
    let config = ConnectConfig {
        transport_is_private: true,
        ..connect_config()
    };
    let mut connect = Connect::new(Arc::new(config));
    let packet = greeting(b"8.4.3", "caching_sha2_password", DEFAULT_CAPS);
    let mut out = Vec::new();
    connect.on_packet(0, &packet, &mut out).unwrap();
    out.clear();
    connect.on_packet(2, b"\x01\x04", &mut out).unwrap();
    assert_eq!(out, [3, 0, 0, 3, b'p', b'w', 0]);
}

#[test]
fn capabilities_asked_for_are_those_both_sides_have() {
    let mut connect = Connect::new(Arc::new(connect_config()));
    // As MariaDB: bit 0 clear.
    let offered =
        DEFAULT_CAPS & !caps::LONG_PASSWORD | caps::SSL | caps::COMPRESS | caps::LOCAL_FILES;
    let packet = greeting(b"5.5.5-10.11.6-MariaDB", "unknown_plugin", offered);
    let mut out = Vec::new();
    connect.on_packet(0, &packet, &mut out).unwrap();
    let response = Response::decode(&out[4..], u32::MAX).unwrap();
    let unused = caps::CONNECT_WITH_DB | caps::CONNECT_ATTRS;
    assert_eq!(response.caps, DEFAULT_CAPS & !unused);
    assert_eq!(response.plugin, b"mysql_native_password");
    assert_eq!(response.auth, native_scramble(b"pw", &NONCE));
}
