//! The gateway's own login on a database server, in the client's role.
//!
//! ```text
//! greeting ─► response ─┬─► OK ─► Done
//!     │                 ├─► AuthSwitch ─► answer ─► (as after the response)
//!     │                 ├─► 01 03 ─► OK
//!     │                 └─► 01 04 ─► [02 ─► key] ─► ciphertext ─► OK
//!     └─ ERR, at any point: ConnectError
//! ```
//! Deadlines are the caller's. Whatever is not expected ends the login: an upstream connection is
//! never used in doubt.

use std::sync::Arc;

use crate::base::close::Refusal;
use crate::base::credential::AuthPlugin;
use crate::base::secret::Secret;
use crate::wire::mysql::auth::{
    FAST_AUTH_OK, FULL_AUTH, REQUEST_PUBLIC_KEY, native_scramble, sha2_scramble,
};
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::limits::{PUBLIC_KEY_MAX, VERSION_MAX};
use crate::wire::mysql::flags::{caps, header};
use crate::wire::mysql::handshake::{
    Attributes, AuthSwitch, Greeting, Nonce, Response, decode_auth_more_data, put_attribute,
};
use crate::wire::mysql::response::{ErrPacket, decode_err, decode_ok};
use crate::wire::mysql::rsa::encrypt_password;

/// Capabilities that a server must offer.
const REQUIRED: u32 = caps::PROTOCOL_41 | caps::SECURE_CONNECTION | caps::PLUGIN_AUTH;

/// Capabilities sent whatever was wanted, as far as the server offers them.
const ALWAYS: u32 = REQUIRED | caps::TRANSACTIONS | caps::PLUGIN_AUTH_LENENC_CLIENT_DATA;

/// Capabilities never sent: they change the stream in ways not spoken here, or would let a server
/// ask for files.
const NEVER: u32 = caps::SSL
    | caps::COMPRESS
    | caps::ZSTD_COMPRESSION
    | caps::LOCAL_FILES
    | caps::QUERY_ATTRIBUTES
    | caps::OPTIONAL_RESULTSET_METADATA
    | caps::MULTI_FACTOR_AUTHENTICATION
    | caps::CAN_HANDLE_EXPIRED_PASSWORDS;

/// Packets of a server after its greeting before the login is given up.
const ROUNDS_MAX: u8 = 8;

/// What one upstream login needs to know; shared by all logins of a pool.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The account on the server.
    pub user: String,
    /// Its password; empty for none.
    pub password: Secret,
    /// Capabilities wanted. Those a login needs are added, those not spoken here removed.
    pub caps_wanted: u32,
    /// The connection's collation number: those above 255 are set later by a statement.
    pub collation: u8,
    /// The initial schema.
    pub schema: Option<String>,
    /// Connection attributes: (key, value).
    pub attributes: Vec<(String, String)>,
    /// The longest packet to announce, in bytes.
    pub max_packet: u32,
    /// The server's public key in PEM, known beforehand: the server is not asked for one.
    pub trusted_key_pem: Option<Arc<[u8]>>,
    /// Whether a key may be asked for on a plaintext connection. Whoever can change the traffic can
    /// then put in its own key and read the password.
    pub allow_rsa_from_server: bool,
    /// Whether the transport keeps secrets (TLS, a Unix socket): the full path then sends the
    /// password as it is.
    pub transport_is_private: bool,
}

/// What the server told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The version string: at most 128 printable ASCII characters.
    pub version: String,
    /// The server's number of the connection, that of KILL.
    pub connection_id: u32,
    /// Capabilities of both sides.
    pub caps: u32,
    /// Status flags of the OK that ended the login.
    pub status: u16,
    /// The low byte of the server's default collation.
    pub collation: u8,
}

impl ServerFacts {
    /// Whether the server says it is MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }
}

/// What comes after a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectStep {
    /// Send what was appended, if anything, and wait for the next packet.
    Continue,
    /// Logged in; the next packet of either side has sequence id 0.
    Done(ServerFacts),
}

/// The end of an upstream login that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct ConnectError {
    /// What to make of it.
    pub kind: ConnectErrorKind,
    /// For the log: at most 256 printable characters; may hold the server's own words.
    pub message: String,
}

/// Kinds of failure of an upstream login. Numbers are the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectErrorKind {
    /// The account, its password or its schema was refused: 1044, 1045, 1049, 1251, 1698, 1820,
    /// 1862, 3118, 3159, 3955, 4151. Another attempt gives the same.
    #[error("login refused with error {0}")]
    Denied(u16),
    /// The server has too many connections, or the account has: 1040, 1203, 1226.
    #[error("too many connections, error {0}")]
    TooMany(u16),
    /// The server will not talk to this host: 1129, 1130.
    #[error("this host is not allowed to connect, error {0}")]
    Blocked(u16),
    /// Any other error of the server, for example 1053 while it shuts down.
    #[error("server error {0}")]
    Server(u16),
    /// The server broke the protocol, or it is no MySQL server.
    #[error("protocol error")]
    Protocol,
    /// The server wants what is not spoken here, or what would show the password.
    #[error("unsupported login")]
    Unsupported,
}

enum State {
    Greeting,
    /// An answer is out.
    Answered,
    /// The public key was asked for.
    Key,
    Over,
}

/// One upstream login.
pub struct Connect {
    config: Arc<ConnectConfig>,
    state: State,
    sequence: u8,
    rounds: u8,
    plugin: AuthPlugin,
    nonce: Nonce,
    facts: ServerFacts,
}

impl Connect {
    /// Begins: the server speaks first.
    pub fn new(config: Arc<ConnectConfig>) -> Self {
        Self {
            config,
            state: State::Greeting,
            sequence: 0,
            rounds: 0,
            plugin: AuthPlugin::Native,
            nonce: Nonce::default(),
            facts: ServerFacts {
                version: String::new(),
                connection_id: 0,
                caps: 0,
                status: 0,
                collation: 0,
            },
        }
    }

    /// The server's number of this connection, as soon as the greeting is read; 0 before.
    pub fn connection_id(&self) -> u32 {
        self.facts.connection_id
    }

    /// Takes one payload and its sequence id; appends what to send.
    pub fn on_packet(
        &mut self,
        sequence: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ConnectStep, ConnectError> {
        let expected = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let state = std::mem::replace(&mut self.state, State::Over);
        // An ERR ends the login whatever its number: it is worth more than the remark that the
        // number was wrong.
        if payload.first() == Some(&header::ERR) {
            return Err(match decode_err(payload) {
                Ok(err) => refused(&err),
                Err(_) => protocol("an ERR packet cut short"),
            });
        }
        if sequence != expected {
            return Err(protocol("packets out of order"));
        }
        match state {
            State::Greeting => self.on_greeting(payload, out),
            State::Answered => self.on_reply(payload, out),
            State::Key => self.on_key(payload, out),
            State::Over => Err(protocol("a packet after the end of the login")),
        }
    }

    fn on_greeting(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ConnectStep, ConnectError> {
        let greeting = Greeting::decode(payload).map_err(|_| protocol("not a greeting"))?;
        if greeting.caps & REQUIRED != REQUIRED {
            return Err(protocol("a server older than MySQL 5.5"));
        }
        self.nonce = greeting.nonce;
        // A default plugin that is not spoken here is answered by another one; the server then
        // switches to the account's own.
        self.plugin = AuthPlugin::by_name(greeting.plugin).unwrap_or(AuthPlugin::Native);
        self.facts = ServerFacts {
            version: printable(greeting.version, VERSION_MAX),
            connection_id: greeting.connection_id,
            caps: self.negotiate(greeting.caps),
            status: greeting.status,
            collation: greeting.collation,
        };
        let config = Arc::clone(&self.config);
        let mut attributes = Vec::new();
        for (key, value) in &config.attributes {
            put_attribute(&mut attributes, key.as_bytes(), value.as_bytes());
        }
        let answer = self.answer();
        let response = Response {
            caps: self.facts.caps,
            mariadb_caps: 0,
            max_packet: config.max_packet,
            collation: config.collation,
            user: config.user.as_bytes(),
            auth: &answer,
            schema: config.schema.as_deref().map(str::as_bytes),
            plugin: self.plugin.name().as_bytes(),
            attributes: Attributes::checked(&attributes).unwrap_or_default(),
        };
        self.send(out, |out| response.encode(out));
        Ok(ConnectStep::Continue)
    }

    /// LONG_PASSWORD is sent even to MariaDB, which does not offer it: its absence would announce
    /// MariaDB's extended capabilities.
    fn negotiate(&self, offered: u32) -> u32 {
        let mut wanted = (self.config.caps_wanted | ALWAYS) & !NEVER;
        for (bit, used) in [
            (caps::CONNECT_WITH_DB, self.config.schema.is_some()),
            (caps::CONNECT_ATTRS, !self.config.attributes.is_empty()),
        ] {
            wanted = if used { wanted | bit } else { wanted & !bit };
        }
        wanted & offered | caps::LONG_PASSWORD
    }

    fn on_reply(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<ConnectStep, ConnectError> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > ROUNDS_MAX {
            return Err(protocol("too many authentication rounds"));
        }
        match payload.first() {
            Some(&header::OK) => {
                let ok = decode_ok(payload, self.facts.caps)
                    .map_err(|_| protocol("an OK packet cut short"))?;
                self.facts.status = ok.status;
                Ok(ConnectStep::Done(self.facts.clone()))
            }
            Some(&header::EOF) => self.on_switch(payload, out),
            Some(&header::AUTH_MORE_DATA) => self.on_more_data(payload, out),
            Some(&header::LOCAL_INFILE) => Err(protocol("a request for a file")),
            _ => Err(protocol("an unknown packet during the login")),
        }
    }

    fn on_switch(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ConnectStep, ConnectError> {
        let switch =
            AuthSwitch::decode(payload).map_err(|_| protocol("an AuthSwitch cut short"))?;
        if switch.plugin.is_empty() {
            return Err(unsupported(
                "the server asks for the password hash of MySQL 3",
            ));
        }
        let Some(plugin) = AuthPlugin::by_name(switch.plugin) else {
            let name = printable(switch.plugin, VERSION_MAX);
            return Err(unsupported(&format!("the server asks for plugin {name}")));
        };
        self.nonce = switch
            .nonce()
            .ok_or_else(|| protocol("a challenge that is not of 20 bytes"))?;
        self.plugin = plugin;
        let mut answer = self.answer();
        if answer.is_empty() && plugin == AuthPlugin::CachingSha2 {
            // As libmysqlclient does: servers tell an empty packet from an empty password.
            answer.push(0);
        }
        self.send(out, |out| out.extend_from_slice(&answer));
        Ok(ConnectStep::Continue)
    }

    fn on_more_data(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ConnectStep, ConnectError> {
        let data = decode_auth_more_data(payload).map_err(|_| protocol("no data"))?;
        match (self.plugin, data) {
            (AuthPlugin::CachingSha2, [FAST_AUTH_OK]) => {
                self.state = State::Answered;
                Ok(ConnectStep::Continue)
            }
            (AuthPlugin::CachingSha2, [FULL_AUTH]) => self.full(out),
            _ => Err(protocol("unexpected data of an authentication plugin")),
        }
    }

    /// The server wants the password itself.
    fn full(&mut self, out: &mut Vec<u8>) -> Result<ConnectStep, ConnectError> {
        let config = Arc::clone(&self.config);
        if config.transport_is_private {
            self.send(out, |out| {
                out.extend_from_slice(config.password.expose());
                out.push(0);
            });
        } else if let Some(pem) = &config.trusted_key_pem {
            self.send_encrypted(pem, out)?;
        } else if config.allow_rsa_from_server {
            self.send(out, |out| out.push(REQUEST_PUBLIC_KEY));
            self.state = State::Key;
        } else {
            return Err(unsupported(
                "the server wants the password, which needs TLS or its public key",
            ));
        }
        Ok(ConnectStep::Continue)
    }

    fn on_key(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<ConnectStep, ConnectError> {
        let pem = decode_auth_more_data(payload).map_err(|_| protocol("not a public key"))?;
        if pem.len() > PUBLIC_KEY_MAX {
            return Err(protocol("a public key too long"));
        }
        self.send_encrypted(pem, out)?;
        Ok(ConnectStep::Continue)
    }

    fn send_encrypted(&mut self, pem: &[u8], out: &mut Vec<u8>) -> Result<(), ConnectError> {
        let sealed = encrypt_password(pem, &self.config.password, &self.nonce)
            .map_err(|error| unsupported(&format!("the server's public key: {error}")))?;
        self.send(out, |out| out.extend_from_slice(&sealed));
        Ok(())
    }

    /// The answer to the current challenge; empty for an empty password.
    fn answer(&self) -> Vec<u8> {
        let password = self.config.password.expose();
        match self.plugin {
            _ if password.is_empty() => Vec::new(),
            AuthPlugin::Native => native_scramble(password, &self.nonce).to_vec(),
            AuthPlugin::CachingSha2 => sha2_scramble(password, &self.nonce).to_vec(),
        }
    }

    fn send(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        self.sequence = packet(out, self.sequence, write);
        self.state = State::Answered;
    }
}

impl ConnectErrorKind {
    /// What it says of the account, where it is nothing that concerns others too.
    pub fn of_account(self) -> Option<Refusal> {
        match self {
            // A plugin, or a way to send a password, is the account's too.
            Self::Denied(_) | Self::Unsupported => Some(Refusal::Lasting),
            Self::TooMany(1203 | 1226) => Some(Refusal::Passing),
            _ => None,
        }
    }

    /// The server's number, if it has said one.
    pub fn errno(self) -> Option<u16> {
        match self {
            Self::Denied(errno)
            | Self::TooMany(errno)
            | Self::Blocked(errno)
            | Self::Server(errno) => Some(errno),
            Self::Protocol | Self::Unsupported => None,
        }
    }
}

/// What a server's ERR means in the place of a login's next packet, or right behind the login: one whose
/// password has expired lets clients in and refuses all that they say.
pub fn refused(err: &ErrPacket<'_>) -> ConnectError {
    let kind = match err.errno {
        1040 | 1203 | 1226 => ConnectErrorKind::TooMany(err.errno),
        1129 | 1130 => ConnectErrorKind::Blocked(err.errno),
        1044 | 1045 | 1049 | 1251 | 1698 | 1820 | 1862 | 3118 | 3159 | 3955 | 4151 => {
            ConnectErrorKind::Denied(err.errno)
        }
        errno => ConnectErrorKind::Server(errno),
    };
    ConnectError {
        kind,
        message: printable(err.message, 256),
    }
}

fn protocol(message: &str) -> ConnectError {
    ConnectError {
        kind: ConnectErrorKind::Protocol,
        message: message.to_owned(),
    }
}

fn unsupported(message: &str) -> ConnectError {
    ConnectError {
        kind: ConnectErrorKind::Unsupported,
        message: message.to_owned(),
    }
}

/// A peer's text for logs: `limit` characters, anything but printable ASCII as `?`.
fn printable(text: &[u8], limit: usize) -> String {
    text.iter()
        .take(limit)
        .map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '?',
        })
        .collect()
}
