//! Which plugin a login goes by, in bare handshake bytes: the greeting names one, a client names one, and
//! the account has its own.

#![allow(
    clippy::expect_used,
    reason = "a test says what was wrong by the place where it ends"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::auth::Plugin;
use support::{Gateway, Ports, Shape, wait_for};

/// PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH and LONG_PASSWORD.
const CAPABILITIES: u32 = 1 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19;
const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";
const PASSWORD: &str = "password-of-a";

/// A connection whose greeting has come.
struct Greeted {
    stream: TcpStream,
    plugin: String,
    nonce: Vec<u8>,
}

impl Greeted {
    fn by(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a socket");
        let (_, greeting) = receive(&mut stream);
        // The version ends with a NUL; the number, 8 bytes of nonce and 18 others follow.
        let end = greeting.iter().position(|byte| *byte == 0).expect("a NUL");
        let at = end + 1 + 4;
        let mut nonce = greeting[at..at + 8].to_vec();
        let at = at + 8 + 1 + 18;
        nonce.extend_from_slice(&greeting[at..at + 12]);
        let plugin = greeting[at + 13..].split(|byte| *byte == 0).next();
        let plugin = String::from_utf8_lossy(plugin.expect("a name")).into_owned();
        Self {
            stream,
            plugin,
            nonce,
        }
    }

    /// Sends a response; the next packet.
    fn respond(&mut self, user: &str, plugin: &str, answer: &[u8]) -> Vec<u8> {
        let mut response = CAPABILITIES.to_le_bytes().to_vec();
        response.extend_from_slice(&(1_u32 << 24).to_le_bytes());
        response.push(45);
        response.resize(response.len() + 23, 0);
        response.extend_from_slice(user.as_bytes());
        response.push(0);
        response.push(u8::try_from(answer.len()).expect("a short answer"));
        response.extend_from_slice(answer);
        response.extend_from_slice(plugin.as_bytes());
        response.push(0);
        self.exchange(1, &response)
    }

    fn exchange(&mut self, sequence: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short packet");
        let mut packet = length.to_le_bytes()[..3].to_vec();
        packet.push(sequence);
        packet.extend_from_slice(payload);
        self.stream.write_all(&packet).expect("a write");
        receive(&mut self.stream).1
    }

    /// The packet is an AuthSwitch to this plugin; answers it with this password. The last packet.
    fn switched(&mut self, packet: &[u8], plugin: &str, password: &str) -> Vec<u8> {
        let expect = [b"\xfe", plugin.as_bytes(), b"\0"].concat();
        assert!(packet.starts_with(&expect), "{packet:?}");
        let nonce = &packet[expect.len()..];
        assert_eq!((nonce.len(), nonce.last()), (21, Some(&0)), "{packet:?}");
        assert_ne!(nonce[..20], self.nonce, "the challenge is fresh");
        let by = Plugin::named(plugin.as_bytes()).expect("a known plugin");
        let mut last = self.exchange(3, &by.proof(&nonce[..20], password));
        if last == [1, 3] {
            last = receive(&mut self.stream).1;
        }
        last
    }
}

fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a packet");
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let mut payload = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut payload).expect("a packet");
    (header[3], payload)
}

/// User `a` has a password and either plugin; so many more of each kind have one alone, by name `native-0`
/// and `sha2-0` and so on, with the same password.
fn config(ports: Ports, natives: usize, sha2s: usize) -> String {
    let mut extra = String::new();
    let native = "A41DC38F6D3F8CDE9B9E1FEBA65B0F4E7B2A4C5D";
    for at in 0..natives {
        extra.push_str(&format!(
            "[users.native-{at}]\ntenant = \"a\"\nverifiers = {{ native = \"*{native}\" }}\n"
        ));
    }
    for at in 0..sha2s {
        extra.push_str(&format!(
            "[users.sha2-{at}]\ntenant = \"a\"\nplugin = \"{SHA2}\"\n\
             password = {{ env = \"RG_A_PASSWORD\" }}\n"
        ));
    }
    let shape = Shape {
        extra: &extra,
        ..Shape::default()
    };
    // Nobody is asked for anything upstream.
    shape.config(ports, 1)
}

fn errno(packet: &[u8]) -> u16 {
    assert_eq!(packet.first(), Some(&0xff), "{packet:?}");
    u16::from_le_bytes([packet[1], packet[2]])
}

/// Clients of MySQL 9 have no mysql_native_password: they name caching_sha2_password, send nothing, and
/// wait to be asked.
#[test]
fn a_client_that_names_another_plugin_than_the_greeting_is_asked_in_its_own() {
    let gateway = Gateway::start(|ports| config(ports, 0, 0));
    let open = || Greeted::by(&gateway);
    assert_eq!(open().plugin, NATIVE);
    for first in [&b""[..], b"\0", &[7; 32], &[7; 20]] {
        let mut client = open();
        let asked = client.respond("a", SHA2, first);
        let last = client.switched(&asked, SHA2, PASSWORD);
        assert_eq!(last.first(), Some(&0), "{last:?}");
        for wrong in ["", "wrong"] {
            let mut client = open();
            let asked = client.respond("a", SHA2, first);
            assert_eq!(errno(&client.switched(&asked, SHA2, wrong)), 1045);
        }
        // Nor does the packet tell whether there is such a user.
        let mut client = open();
        let asked = client.respond("nobody", SHA2, first);
        assert_eq!(errno(&client.switched(&asked, SHA2, PASSWORD)), 1045);
    }
    // Even the right answer to the greeting's challenge: it is asked for once more.
    let mut client = open();
    let answer = Plugin::CachingSha2.proof(&client.nonce, PASSWORD);
    let asked = client.respond("a", SHA2, &answer);
    assert_eq!(client.switched(&asked, SHA2, PASSWORD).first(), Some(&0));
    // A plugin that nobody knows here, and none.
    for name in ["client_ed25519", "sha256_password", ""] {
        let mut client = open();
        let asked = client.respond("a", name, b"");
        assert_eq!(client.switched(&asked, NATIVE, PASSWORD).first(), Some(&0));
    }
    // Who follows the greeting is not asked again.
    let mut client = open();
    let answer = Plugin::Native.proof(&client.nonce, PASSWORD);
    assert_eq!(client.respond("a", NATIVE, &answer).first(), Some(&0));
    assert_eq!(errno(&open().respond("a", NATIVE, b"")), 1045);
}

#[test]
fn a_client_is_asked_in_the_plugin_of_its_account() {
    let gateway = Gateway::start(|ports| config(ports, 2, 0));
    for first in [&b""[..], &[7; 32]] {
        let mut client = Greeted::by(&gateway);
        let asked = client.respond("native-0", SHA2, first);
        assert_eq!(errno(&client.switched(&asked, NATIVE, "wrong")), 1045);
    }
    drop(gateway);
    let gateway = Gateway::start(|ports| config(ports, 0, 5));
    let open = || Greeted::by(&gateway);
    let mut client = open();
    let asked = client.respond("a", NATIVE, b"");
    assert_eq!(client.switched(&asked, NATIVE, PASSWORD).first(), Some(&0));
    let mut client = open();
    let answer = Plugin::CachingSha2.proof(&client.nonce, PASSWORD);
    assert_eq!(client.respond("sha2-0", SHA2, &answer), [1, 3]);
}

#[test]
fn the_greeting_names_what_most_users_have() {
    let gateway = Gateway::start(|ports| config(ports, 1, 2));
    assert_eq!(Greeted::by(&gateway).plugin, NATIVE, "as many of each");
    for (natives, sha2s, expect) in [(1, 3, SHA2), (4, 3, NATIVE), (0, 2, SHA2)] {
        gateway.reload(|ports| config(ports, natives, sha2s));
        let is_named = wait_for(Duration::from_secs(10), || {
            Greeted::by(&gateway).plugin == expect
        });
        assert!(is_named, "{natives} {sha2s}: {}", gateway.log());
    }
}
