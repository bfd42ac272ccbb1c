//! A login that fails tells nobody whether there is such a user: packets and work are the same.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that prints its figures"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringgate::wire::mysql::auth::salted;
use support::{Gateway, Shape};

/// PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LONG_PASSWORD.
const CAPABILITIES: u32 = 1 | 1 << 9 | 1 << 15 | 1 << 19;
const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";
const AUTH_SWITCH: u8 = 0xfe;
const MORE_DATA: u8 = 0x01;
const ERR: u8 = 0xff;

/// What a failed login shows: the first byte and the length of each packet.
#[derive(Debug, PartialEq, Eq)]
struct Seen(Vec<(u8, usize)>);

fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a packet");
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let mut payload = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut payload).expect("a packet");
    (header[3], payload)
}

fn send(stream: &mut TcpStream, sequence: u8, payload: &[u8]) {
    let length = u16::try_from(payload.len()).expect("a short packet");
    let [low, high] = length.to_le_bytes();
    let packet = [&[low, high, 0, sequence][..], payload].concat();
    stream.write_all(&packet).expect("a write");
}

/// Logs in as `user` with answers that are right by no chance, first for `plugin`. The time is that
/// from the client's first packet to the last answer.
fn refused(port: u16, user: &str, plugin: &str) -> (Seen, Duration) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    receive(&mut stream);
    let answer = |length: usize| vec![0x5a; length];
    let proof = answer(if plugin == NATIVE { 20 } else { 32 });
    let mut response = CAPABILITIES.to_le_bytes().to_vec();
    response.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    response.push(45);
    response.resize(response.len() + 23, 0);
    response.extend_from_slice(user.as_bytes());
    response.push(0);
    response.push(u8::try_from(proof.len()).expect("a short proof"));
    response.extend_from_slice(&proof);
    response.extend_from_slice(plugin.as_bytes());
    response.push(0);
    let begun = Instant::now();
    send(&mut stream, 1, &response);
    let mut seen = Vec::new();
    loop {
        let (sequence, payload) = receive(&mut stream);
        seen.push((payload[0], payload.len()));
        let next = sequence.wrapping_add(1);
        match (payload[0], payload.get(1)) {
            (ERR, _) => return (Seen(seen), begun.elapsed()),
            (AUTH_SWITCH, _) if payload.starts_with(b"\xfemysql_native") => {
                send(&mut stream, next, &answer(20));
            }
            (AUTH_SWITCH, _) => send(&mut stream, next, &answer(32)),
            // The full login: ask for the key, then send what it cannot have encrypted.
            (MORE_DATA, Some(4)) => send(&mut stream, next, &[2]),
            (MORE_DATA, _) => send(&mut stream, next, &answer(256)),
            other => panic!("{other:?}"),
        }
    }
}

/// A gateway whose only account, `a`, is of one kind.
fn gateway_with(account: &str) -> Gateway {
    let native = "plugin = \"mysql_native_password\"\npassword = { env = \"RG_A_PASSWORD\" }";
    Gateway::start(|ports| {
        let text = Shape::default().config(ports, 1);
        assert!(text.contains(native), "{text}");
        text.replace(native, account)
    })
}

/// Each kind of account, and the plugin that a client of it would name.
fn kinds() -> [(&'static str, &'static str, String); 4] {
    let native = "2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
    let salted = salted(b"password", b"abcdefghijklmnopqrst");
    let salted = String::from_utf8(salted).expect("plain characters");
    [
        (
            "native",
            NATIVE,
            format!("verifiers = {{ native = \"*{native}\" }}"),
        ),
        (
            "sha2",
            SHA2,
            format!("verifiers = {{ sha2_stage2 = \"{}\" }}", "5e".repeat(32)),
        ),
        (
            "salted",
            SHA2,
            format!("verifiers = {{ caching_sha2 = \"{salted}\" }}"),
        ),
        (
            "both",
            SHA2,
            "password = { env = \"RG_A_PASSWORD\" }".to_owned(),
        ),
    ]
}

#[test]
fn an_unknown_user_gets_the_packets_of_a_known_one() {
    for (kind, _, account) in kinds() {
        let gateway = gateway_with(&account);
        for plugin in [NATIVE, SHA2] {
            let (known, _) = refused(gateway.port(), "a", plugin);
            for unknown in ["b", "z", "0"] {
                let (seen, _) = refused(gateway.port(), unknown, plugin);
                assert_eq!(seen, known, "{kind} {plugin} {unknown}");
            }
        }
    }
}

/// The work is judged by what is seen of it, every time; the times are printed, not judged.
#[test]
fn an_unknown_user_stays_unknown_however_often_one_asks() {
    for (kind, plugin, account) in kinds() {
        let gateway = gateway_with(&account);
        let mut times = [Vec::new(), Vec::new()];
        let (known, _) = refused(gateway.port(), "a", plugin);
        for round in 0..400_usize {
            // Interleaved, and each first in every other round.
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let (seen, took) = refused(gateway.port(), ["a", "b"][which], plugin);
                assert_eq!(seen, known, "{kind} {round}");
                times[which].push(took);
            }
        }
        let [known, unknown] = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        let ratio = unknown.as_secs_f64() / known.as_secs_f64();
        eprintln!(
            "{kind}: wrong password {known:?}, unknown user {unknown:?} (medians of 400), \
             ratio {ratio:.3}"
        );
    }
}
