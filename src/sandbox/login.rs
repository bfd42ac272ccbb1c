//! The server's side of a login, blocking: `mysql_native_password` and `caching_sha2_password`.
//!
//! The shard knows its users' passwords, so the fast path of caching_sha2 always suffices.

use super::packet::Packets;
use crate::wire::mysql::auth::{
    FAST_AUTH_OK, native_stage2, native_verify, nonce, sha2_stage2, sha2_verify,
};
use crate::wire::mysql::flags::{caps, status};
use crate::wire::mysql::handshake::{AuthSwitch, Greeting, Nonce, Response, encode_auth_more_data};
use crate::wire::mysql::response::{ErrPacket, encode_err};
use std::io::{self, Read, Write};

/// What the shard can do.
pub const OFFERED: u32 = caps::LONG_PASSWORD
    | caps::FOUND_ROWS
    | caps::LONG_FLAG
    | caps::CONNECT_WITH_DB
    | caps::ODBC
    | caps::IGNORE_SPACE
    | caps::PROTOCOL_41
    | caps::INTERACTIVE
    | caps::IGNORE_SIGPIPE
    | caps::TRANSACTIONS
    | caps::RESERVED
    | caps::SECURE_CONNECTION
    | caps::MULTI_STATEMENTS
    | caps::MULTI_RESULTS
    | caps::PS_MULTI_RESULTS
    | caps::PLUGIN_AUTH
    | caps::CONNECT_ATTRS
    | caps::PLUGIN_AUTH_LENENC_CLIENT_DATA
    | caps::SESSION_TRACK
    | caps::DEPRECATE_EOF;

const NATIVE: &[u8] = b"mysql_native_password";
const CACHING_SHA2: &[u8] = b"caching_sha2_password";

/// `utf8mb4_general_ci`, which every client knows.
const COLLATION: u8 = 45;

/// Who logged in and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Capabilities of both sides.
    pub caps: u32,
    /// The collation the client starts with.
    pub collation: u16,
    /// The database it asks for.
    pub schema: Option<String>,
}

/// Greets a client and checks its password. `None`: it was told why not, or left.
///
/// The final OK is the caller's, who still has to look at the database.
///
/// Errors: the stream's; `InvalidData` for what is no login.
pub fn accept<S: Read + Write>(
    packets: &mut Packets<S>,
    version: &str,
    connection_id: u32,
    host: &str,
    users: &[(String, String)],
) -> io::Result<Option<Login>> {
    let challenge = nonce().map_err(io::Error::other)?;
    packets.write(|out| {
        Greeting {
            version: version.as_bytes(),
            connection_id,
            nonce: challenge,
            caps: OFFERED,
            mariadb_caps: 0,
            collation: COLLATION,
            status: status::AUTOCOMMIT,
            plugin: NATIVE,
        }
        .encode(out);
    })?;
    packets.flush()?;
    let Some(payload) = packets.read()? else {
        return Ok(None);
    };
    let Ok(response) = Response::decode(&payload, OFFERED) else {
        packets.write(|out| encode_err(out, &ErrPacket::new(1043, "08S01", b"Bad handshake")))?;
        packets.flush()?;
        return Ok(None);
    };
    let user = String::from_utf8_lossy(response.user).into_owned();
    let password = users
        .iter()
        .find(|(name, _)| *name == user)
        .map(|(_, password)| password.as_bytes());
    let mut plugin = response.plugin.to_vec();
    let mut answer = response.auth.to_vec();
    if plugin != NATIVE && plugin != CACHING_SHA2 {
        let switch = AuthSwitch {
            plugin: NATIVE,
            data: &challenge,
        };
        packets.write(|out| switch.encode(out))?;
        packets.flush()?;
        plugin = NATIVE.to_vec();
        answer = match packets.read()? {
            Some(payload) => payload,
            None => return Ok(None),
        };
    }
    // An empty answer of caching_sha2 may be a lone NUL.
    let empty = answer.is_empty() || answer == [0];
    if !password.is_some_and(|password| verify(password, &plugin, &answer, empty, &challenge)) {
        let used = if empty { "NO" } else { "YES" };
        let message = format!("Access denied for user '{user}'@'{host}' (using password: {used})");
        packets.write(|out| encode_err(out, &ErrPacket::new(1045, "28000", message.as_bytes())))?;
        packets.flush()?;
        return Ok(None);
    }
    if plugin == CACHING_SHA2 && !empty {
        packets.write(|out| encode_auth_more_data(out, &[FAST_AUTH_OK]))?;
    }
    Ok(Some(Login {
        user,
        caps: response.caps,
        collation: response.collation.into(),
        schema: response
            .schema
            .map(|name| String::from_utf8_lossy(name).into_owned()),
    }))
}

fn verify(password: &[u8], plugin: &[u8], answer: &[u8], empty: bool, challenge: &Nonce) -> bool {
    match (password.is_empty(), empty) {
        (true, _) | (_, true) => password.is_empty() && empty,
        _ if plugin == CACHING_SHA2 => sha2_verify(answer, challenge, &sha2_stage2(password)),
        _ => native_verify(answer, challenge, &native_stage2(password)),
    }
}
