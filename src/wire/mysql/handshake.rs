//! The packets of the connection phase, read and written in both roles.
//!
//! Source: MySQL source documentation, "Connection Phase Packets" (`Protocol::HandshakeV10`,
//! `Protocol::HandshakeResponse41`, `Protocol::SSLRequest`, `Protocol::AuthSwitchRequest`,
//! `Protocol::AuthMoreData`); MariaDB, "Connection". Payloads only: headers are `cursor`'s.

use super::cursor::{
    Reader, WireError, length, put_lenenc, put_lenenc_bytes, put_nul_bytes, put_u8, put_u16,
    put_u32,
};
use super::flags::limits::{ATTRIBUTES_MAX, NONCE_BYTES, PLUGIN_MAX, SCHEMA_MAX, USER_MAX};
use super::flags::{caps, header};

/// The nonce a server challenges with.
pub type Nonce = [u8; NONCE_BYTES];

/// The protocol version of [`Greeting`].
const PROTOCOL_VERSION: u8 = 10;
/// The length of an SSLRequest, and of the fixed part of a response.
const RESPONSE_FIXED: usize = 32;

/// The server's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting<'a> {
    /// For example `5.5.5-10.11.6-MariaDB` or `8.4.3`. Bytes of the peer: sanitise before use.
    pub version: &'a [u8],
    /// The connection's number, that of KILL.
    pub connection_id: u32,
    /// The challenge.
    pub nonce: Nonce,
    /// [`caps`] offered.
    pub caps: u32,
    /// [`super::flags::mariadb_caps`] offered; 0 unless `caps` lacks LONG_PASSWORD.
    pub mariadb_caps: u32,
    /// The low byte of the default collation's number.
    pub collation: u8,
    /// [`super::flags::status`] flags.
    pub status: u16,
    /// The default authentication plugin; empty without PLUGIN_AUTH.
    pub plugin: &'a [u8],
}

impl<'a> Greeting<'a> {
    /// Reads protocol version 10. Anything else, and a nonce shorter than 20 bytes, is `Malformed`.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != PROTOCOL_VERSION {
            return Err(WireError::Malformed);
        }
        let version = reader.nul_bytes()?;
        let connection_id = reader.u32()?;
        let first = reader.array::<8>()?;
        reader.u8()?;
        let low = reader.u16()?;
        let collation = reader.u8()?;
        let status = reader.u16()?;
        let high = reader.u16()?;
        let caps = u32::from(low) | u32::from(high) << 16;
        let nonce_length = reader.u8()?;
        let filler = reader.array::<10>()?;
        let mariadb_caps = mariadb_word(caps, filler.last_chunk());
        // "Rest of the plugin provided data": at least 13 bytes, the last one NUL.
        let second = reader.take(usize::from(nonce_length).saturating_sub(8).max(13))?;
        let plugin = if caps & caps::PLUGIN_AUTH != 0 {
            nul_or_rest(&mut reader)
        } else {
            &[]
        };
        let mut nonce = [0; NONCE_BYTES];
        let given = first.iter().chain(second);
        for (to, from) in nonce.iter_mut().zip(given) {
            *to = *from;
        }
        Ok(Self {
            version,
            connection_id,
            nonce,
            caps,
            mariadb_caps,
            collation,
            status,
            plugin,
        })
    }

    /// Appends the payload. PLUGIN_AUTH and SECURE_CONNECTION must be among `caps`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, PROTOCOL_VERSION);
        put_nul_bytes(out, self.version);
        put_u32(out, self.connection_id);
        let (first, second) = self.nonce.split_at(8);
        out.extend_from_slice(first);
        put_u8(out, 0);
        let [a, b, c, d] = self.caps.to_le_bytes();
        out.extend_from_slice(&[a, b]);
        put_u8(out, self.collation);
        put_u16(out, self.status);
        out.extend_from_slice(&[c, d]);
        put_u8(out, NONCE_LENGTH_WITH_NUL);
        out.extend_from_slice(&[0; 6]);
        put_u32(
            out,
            mariadb_word(self.caps, Some(&self.mariadb_caps.to_le_bytes())),
        );
        out.extend_from_slice(second);
        put_u8(out, 0);
        put_nul_bytes(out, self.plugin);
    }
}

/// The length byte of the greeting counts the nonce's NUL.
const NONCE_LENGTH_WITH_NUL: u8 = 21;

/// MariaDB's extended word, which is there only when bit 0 is clear.
fn mariadb_word(caps: u32, bytes: Option<&[u8; 4]>) -> u32 {
    match bytes {
        Some(bytes) if caps & caps::LONG_PASSWORD == 0 => u32::from_le_bytes(*bytes),
        _ => 0,
    }
}

/// A string that should end with NUL, but some peers leave it out at the end of the packet.
fn nul_or_rest<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    reader.nul_bytes().unwrap_or_else(|_| reader.rest())
}

/// Whether a client's first packet asks for TLS: the short form with the SSL bit.
pub fn is_ssl_request(payload: &[u8]) -> bool {
    payload.len() == RESPONSE_FIXED && client_caps(payload).is_some_and(|c| c & caps::SSL != 0)
}

/// The capabilities at the head of a client's first packet.
pub fn client_caps(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

/// Appends an SSLRequest: the fixed part of `response`, with the SSL bit.
pub fn encode_ssl_request(out: &mut Vec<u8>, response: &Response<'_>) {
    response.encode_fixed(out, response.caps | caps::SSL);
}

/// The client's answer to the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// [`caps`] of both sides: what the client sent, masked by what was offered to it.
    pub caps: u32,
    /// MariaDB's extended capabilities of the client; 0 unless it clears LONG_PASSWORD.
    pub mariadb_caps: u32,
    /// The longest packet the client accepts, in bytes; 0 when it does not say.
    pub max_packet: u32,
    /// The low byte of the client's collation number.
    pub collation: u8,
    /// The user.
    pub user: &'a [u8],
    /// The answer to the challenge, in the form of `plugin`.
    pub auth: &'a [u8],
    /// The initial schema; `None` also when it is empty.
    pub schema: Option<&'a [u8]>,
    /// The plugin that made `auth`; empty when the client names none.
    pub plugin: &'a [u8],
    /// Connection attributes: key and value strings, checked to be whole. Never log them raw.
    pub attributes: Attributes<'a>,
}

impl<'a> Response<'a> {
    /// Reads the 4.1 form for a server that offered the capabilities `offered`.
    ///
    /// Fields are present as the *common* capabilities say, because clients leave out what was not
    /// offered. `Malformed` for the 3.20 form and anything cut short; `TooLarge` for names longer
    /// than any server allows and attributes of more than 64 KiB.
    pub fn decode(payload: &'a [u8], offered: u32) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let sent = reader.u32()?;
        let common = sent & offered;
        if common & caps::PROTOCOL_41 == 0 {
            return Err(WireError::Malformed);
        }
        let max_packet = reader.u32()?;
        let collation = reader.u8()?;
        let filler = reader.array::<23>()?;
        let mariadb_caps = mariadb_word(sent, filler.last_chunk());
        let user = at_most(reader.nul_bytes()?, USER_MAX)?;
        let auth = if common & caps::PLUGIN_AUTH_LENENC_CLIENT_DATA != 0 {
            reader.lenenc_bytes()?
        } else if common & caps::SECURE_CONNECTION != 0 {
            let count = reader.u8()?;
            reader.take(usize::from(count))?
        } else {
            reader.nul_bytes()?
        };
        let mut schema = None;
        if common & caps::CONNECT_WITH_DB != 0 && !reader.is_empty() {
            let name = at_most(reader.nul_bytes()?, SCHEMA_MAX)?;
            schema = (!name.is_empty()).then_some(name);
        }
        let mut plugin: &[u8] = &[];
        if common & caps::PLUGIN_AUTH != 0 {
            plugin = at_most(nul_or_rest(&mut reader), PLUGIN_MAX)?;
        }
        let mut attributes = Attributes::default();
        if common & caps::CONNECT_ATTRS != 0 && !reader.is_empty() {
            attributes = Attributes::checked(at_most(reader.lenenc_bytes()?, ATTRIBUTES_MAX)?)?;
        }
        Ok(Self {
            caps: common,
            mariadb_caps,
            max_packet,
            collation,
            user,
            auth,
            schema,
            plugin,
            attributes,
        })
    }

    /// Appends the payload; `caps` decides which fields are written. An `auth` of more than 255
    /// bytes needs PLUGIN_AUTH_LENENC_CLIENT_DATA (it is left out otherwise).
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_fixed(out, self.caps);
        put_nul_bytes(out, self.user);
        if self.caps & caps::PLUGIN_AUTH_LENENC_CLIENT_DATA != 0 {
            put_lenenc_bytes(out, self.auth);
        } else if self.caps & caps::SECURE_CONNECTION != 0 {
            let (count, auth) = match u8::try_from(self.auth.len()) {
                Ok(count) => (count, self.auth),
                Err(_) => (0, &[][..]),
            };
            put_u8(out, count);
            out.extend_from_slice(auth);
        } else {
            put_nul_bytes(out, self.auth);
        }
        if self.caps & caps::CONNECT_WITH_DB != 0 {
            put_nul_bytes(out, self.schema.unwrap_or_default());
        }
        if self.caps & caps::PLUGIN_AUTH != 0 {
            put_nul_bytes(out, self.plugin);
        }
        if self.caps & caps::CONNECT_ATTRS != 0 {
            put_lenenc(out, length(self.attributes.raw));
            out.extend_from_slice(self.attributes.raw);
        }
    }

    fn encode_fixed(&self, out: &mut Vec<u8>, word: u32) {
        put_u32(out, word);
        put_u32(out, self.max_packet);
        put_u8(out, self.collation);
        out.extend_from_slice(&[0; 19]);
        put_u32(
            out,
            mariadb_word(word, Some(&self.mariadb_caps.to_le_bytes())),
        );
    }
}

fn at_most(bytes: &[u8], limit: usize) -> Result<&[u8], WireError> {
    if bytes.len() <= limit {
        Ok(bytes)
    } else {
        Err(WireError::TooLarge)
    }
}

/// Connection attributes: an iterator over (key, value), both bytes of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    raw: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Takes a block of length-encoded keys and values that must fill it exactly.
    pub fn checked(raw: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            reader.lenenc_bytes()?;
            reader.lenenc_bytes()?;
        }
        Ok(Self { raw })
    }

    /// The block as it is on the wire, without its length.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The value of the first attribute called `key`.
    pub fn get(mut self, key: &[u8]) -> Option<&'a [u8]> {
        self.find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.raw);
        let key = reader.lenenc_bytes().ok()?;
        let value = reader.lenenc_bytes().ok()?;
        self.raw = reader.rest();
        Some((key, value))
    }
}

/// Appends one attribute to a block for [`Attributes::checked`].
pub fn put_attribute(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_lenenc_bytes(block, key);
    put_lenenc_bytes(block, value);
}

/// The server asks for another plugin's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSwitch<'a> {
    /// The plugin wanted; empty for the pre-4.1 form (a lone 0xFE), which is refused.
    pub plugin: &'a [u8],
    /// The new challenge without its NUL: 20 bytes for the plugins spoken here.
    pub data: &'a [u8],
}

impl<'a> AuthSwitch<'a> {
    /// Reads the payload, header 0xFE included.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != header::EOF {
            return Err(WireError::Malformed);
        }
        if reader.is_empty() {
            return Ok(Self {
                plugin: &[],
                data: &[],
            });
        }
        let plugin = at_most(reader.nul_bytes()?, PLUGIN_MAX)?;
        let data = reader.rest();
        Ok(Self {
            plugin,
            data: data.strip_suffix(&[0]).unwrap_or(data),
        })
    }

    /// The challenge, if it is one of 20 bytes.
    pub fn nonce(&self) -> Option<Nonce> {
        self.data.try_into().ok()
    }

    /// Appends the payload, with the NUL after the challenge that servers send.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, header::EOF);
        put_nul_bytes(out, self.plugin);
        out.extend_from_slice(self.data);
        put_u8(out, 0);
    }
}

/// Appends an AuthMoreData packet.
pub fn encode_auth_more_data(out: &mut Vec<u8>, data: &[u8]) {
    put_u8(out, header::AUTH_MORE_DATA);
    out.extend_from_slice(data);
}

/// The data of an AuthMoreData packet.
pub fn decode_auth_more_data(payload: &[u8]) -> Result<&[u8], WireError> {
    payload
        .strip_prefix(&[header::AUTH_MORE_DATA])
        .ok_or(WireError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: u32 = caps::PROTOCOL_41
        | caps::SECURE_CONNECTION
        | caps::PLUGIN_AUTH
        | caps::PLUGIN_AUTH_LENENC_CLIENT_DATA
        | caps::CONNECT_WITH_DB
        | caps::CONNECT_ATTRS;

    /// MariaDB 10.11's greeting: bit 0 clear, extended word 0x1d, version prefixed by `5.5.5-`.
    fn mariadb_greeting() -> Vec<u8> {
        let mut bytes = b"\x0a5.5.5-10.11.6-MariaDB\0".to_vec();
        bytes.extend([0x2a, 0, 0, 0]);
        bytes.extend(b"abcdefgh\0");
        bytes.extend([0xfe, 0xf7, 0x2d, 2, 0, 0xff, 0x81, 21]);
        bytes.extend([0; 6]);
        bytes.extend([0x1d, 0, 0, 0]);
        bytes.extend(b"ijklmnopqrst\0mysql_native_password\0");
        bytes
    }

    #[test]
    fn a_greeting_of_mariadb() {
        let bytes = mariadb_greeting();
        let greeting = Greeting::decode(&bytes).unwrap();
        assert_eq!(greeting.version, b"5.5.5-10.11.6-MariaDB");
        assert_eq!((greeting.connection_id, greeting.collation), (42, 45));
        assert_eq!(&greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!((greeting.caps, greeting.mariadb_caps), (0x81ff_f7fe, 0x1d));
        assert_eq!(greeting.plugin, b"mysql_native_password");
        let mut again = Vec::new();
        greeting.encode(&mut again);
        assert_eq!(again, bytes);
        // Up to the plugin's name, which may lack its end, every cut is noticed.
        for cut in 0..bytes.len() - "mysql_native_password\0".len() {
            assert_eq!(
                Greeting::decode(&bytes[..cut]),
                Err(WireError::Malformed),
                "{cut}"
            );
        }
        let unended = &bytes[..bytes.len() - 1];
        assert_eq!(Greeting::decode(unended), Ok(greeting));
        for version in [0, 9, 11, 0xff] {
            let mut other = bytes.clone();
            other[0] = version;
            assert_eq!(Greeting::decode(&other), Err(WireError::Malformed));
        }
    }

    fn fixed(word: u32) -> Vec<u8> {
        let mut bytes = word.to_le_bytes().to_vec();
        bytes.extend([0, 0, 0, 1, 45]);
        bytes.extend([0; 23]);
        bytes
    }

    #[test]
    fn responses_that_are_whole() {
        /// User, answer, schema, plugin.
        type Fields<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>, &'a [u8]);
        #[track_caller]
        fn check(word: u32, tail: &[u8], expect: Fields<'_>) {
            let mut bytes = fixed(word);
            bytes.extend(tail);
            let response = Response::decode(&bytes, OFFERED).unwrap();
            assert_eq!((response.max_packet, response.collation), (1 << 24, 45));
            assert_eq!(response.caps, word & OFFERED);
            let (user, auth, schema, plugin) = expect;
            assert_eq!(response.user, user);
            assert_eq!(response.auth, auth);
            assert_eq!(response.schema, schema);
            assert_eq!(response.plugin, plugin);
        }
        let old = caps::PROTOCOL_41 | caps::SECURE_CONNECTION;
        check(caps::PROTOCOL_41, b"u\0pass\0", (b"u", b"pass", None, b""));
        check(old, b"u\0\x02ab", (b"u", b"ab", None, b""));
        check(old, b"\0\0", (b"", b"", None, b""));
        let with_db = old | caps::CONNECT_WITH_DB;
        check(with_db, b"u\0\x00shop\0", (b"u", b"", Some(b"shop"), b""));
        // An empty schema is none; some clients set the bit and send nothing.
        check(with_db, b"u\0\x00\0", (b"u", b"", None, b""));
        check(with_db, b"u\0\x00", (b"u", b"", None, b""));
        let named = old | caps::PLUGIN_AUTH;
        check(named, b"u\0\x00abc\0", (b"u", b"", None, b"abc"));
        // JDBC sends an empty name; others leave out the NUL, or the name.
        check(named, b"u\0\x00\0", (b"u", b"", None, b""));
        check(named, b"u\0\x00abc", (b"u", b"", None, b"abc"));
        check(named, b"u\0\x00", (b"u", b"", None, b""));
        // A bit that was not offered does not change the layout.
        check(
            named | caps::SSL | caps::COMPRESS,
            b"u\0\x00abc\0",
            (b"u", b"", None, b"abc"),
        );
    }

    #[test]
    fn responses_that_are_not() {
        #[track_caller]
        fn check(word: u32, tail: &[u8], expect: WireError) {
            let mut bytes = fixed(word);
            bytes.extend(tail);
            assert_eq!(Response::decode(&bytes, OFFERED).map(|_| ()), Err(expect));
        }
        use WireError::{Malformed, TooLarge};
        let whole = fixed(OFFERED);
        for cut in 0..=whole.len() {
            let short = Response::decode(&whole[..cut], OFFERED);
            assert_eq!(short.map(|_| ()), Err(Malformed), "{cut}");
        }
        check(0, b"u\0", Malformed);
        check(caps::SECURE_CONNECTION, b"u\0\0", Malformed);
        check(OFFERED, b"no end", Malformed);
        check(OFFERED, &[b'u'; 1 << 20], Malformed);
        let mut long = vec![b'u'; 1 << 20];
        long.push(0);
        check(OFFERED, &long, TooLarge);
        // An answer whose length lies, in every form.
        for lie in [
            &b"\xfb"[..],
            b"\xfc\xff",
            b"\xfc\xff\xff",
            b"\xfd\x01\0",
            b"\xfe\x01",
            b"\xff",
            b"\x05abc",
        ] {
            check(OFFERED, &[&b"u\0"[..], lie].concat(), Malformed);
        }
        let secure = caps::PROTOCOL_41 | caps::SECURE_CONNECTION;
        check(secure, b"u\0\xffabc", Malformed);
        check(secure | caps::CONNECT_WITH_DB, b"u\0\x00shop", Malformed);
        let attributes = |block: &[u8]| [&b"u\0\x00\0abc\0"[..], block].concat();
        check(OFFERED, &attributes(b"\x05\x01a"), Malformed);
        check(OFFERED, &attributes(b"\x03\x01a\x05"), Malformed);
        check(OFFERED, &attributes(b"\x02\x01a"), Malformed);
        check(OFFERED, &attributes(b"\x02\xfb\x00"), Malformed);
        let mut big = vec![0xfd, 0x01, 0x00, 0x01];
        big.extend(vec![0; 0x1_0001]);
        check(OFFERED, &attributes(&big), TooLarge);
    }

    #[test]
    fn attributes_may_repeat_and_hold_anything() {
        let mut block = Vec::new();
        put_attribute(&mut block, b"k", b"one");
        put_attribute(&mut block, b"k", b"\x00\r\n");
        put_attribute(&mut block, b"", b"");
        let attributes = Attributes::checked(&block).unwrap();
        assert_eq!(attributes.count(), 3);
        assert_eq!(attributes.get(b"k"), Some(&b"one"[..]));
        assert_eq!(attributes.get(b"x"), None);
        assert_eq!(attributes.raw(), block);
    }

    #[test]
    fn ssl_requests_are_the_short_form_alone() {
        assert!(is_ssl_request(&fixed(OFFERED | caps::SSL)));
        assert!(!is_ssl_request(&fixed(OFFERED)));
        let mut long = fixed(OFFERED | caps::SSL);
        long.push(0);
        assert!(!is_ssl_request(&long) && !is_ssl_request(&[]));
        let response = Response {
            caps: OFFERED,
            mariadb_caps: 0,
            max_packet: 1 << 24,
            collation: 45,
            user: b"u",
            auth: b"",
            schema: None,
            plugin: b"",
            attributes: Attributes::default(),
        };
        let mut out = Vec::new();
        encode_ssl_request(&mut out, &response);
        assert_eq!(out, fixed(OFFERED | caps::SSL));
    }

    #[test]
    fn switches_of_every_age() {
        #[track_caller]
        fn check(payload: &[u8], plugin: &[u8], data: &[u8], nonce: bool) {
            let switch = AuthSwitch::decode(payload).unwrap();
            assert_eq!((switch.plugin, switch.data), (plugin, data));
            assert_eq!(switch.nonce().is_some(), nonce);
        }
        check(b"\xfe", b"", b"", false);
        check(
            b"\xfep\0abcdefghijklmnopqrst\0",
            b"p",
            b"abcdefghijklmnopqrst",
            true,
        );
        check(
            b"\xfep\0abcdefghijklmnopqrst",
            b"p",
            b"abcdefghijklmnopqrst",
            true,
        );
        check(b"\xfep\0abc\0", b"p", b"abc", false);
        check(b"\xfep\0", b"p", b"", false);
        assert_eq!(AuthSwitch::decode(b""), Err(WireError::Malformed));
        assert_eq!(AuthSwitch::decode(b"\xfep"), Err(WireError::Malformed));
        assert_eq!(AuthSwitch::decode(b"\x00p\0"), Err(WireError::Malformed));
        let long = [&b"\xfe"[..], &[b'p'; 65], b"\0"].concat();
        assert_eq!(AuthSwitch::decode(&long), Err(WireError::TooLarge));
        assert_eq!(decode_auth_more_data(b"\x01\x03"), Ok(&b"\x03"[..]));
        assert_eq!(decode_auth_more_data(b"\x00"), Err(WireError::Malformed));
    }
}
