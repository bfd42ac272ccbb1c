//! A client's login, in the server's role.
//!
//! ```text
//! greeting ─► response ─┬─► [AuthSwitch ─► answer] ─┬─► proven ─► Done ─► finish_ok
//!                       │                           ├─► 01 04 ─► [02 ─► key] ─► ciphertext ─► NeedRsa
//!                       └─► error: an ERR packet     └─► denied
//! ```
//! Deadlines are the caller's. Whether a user exists shows neither in the text of a denial nor in
//! the packets before it: an unknown user goes the way of a decoy.

use std::sync::Arc;

use super::full_login::{FullAnswer, RsaOutcome, RsaWork};
use super::login_error::Failure;
pub use super::login_error::LoginError;
use crate::base::codes::{Code, Event, code, message};
use crate::base::credential::{AuthPlugin, Verifier};
use crate::wire::mysql::auth::{
    FAST_AUTH_OK, FULL_AUTH, REQUEST_PUBLIC_KEY, native_verify, sha2_verify,
};
use crate::wire::mysql::charset::{self, Collation};
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::flags::caps;
use crate::wire::mysql::handshake::{
    AuthSwitch, Greeting, Nonce, Response, client_caps, encode_auth_more_data,
};
use crate::wire::mysql::response::{ErrPacket, OkPacket, encode_err, encode_ok};

/// Capabilities without which no login is possible here: always offered.
const ALWAYS: u32 = caps::LONG_PASSWORD
    | caps::PROTOCOL_41
    | caps::TRANSACTIONS
    | caps::SECURE_CONNECTION
    | caps::CONNECT_WITH_DB
    | caps::PLUGIN_AUTH
    | caps::PLUGIN_AUTH_LENENC_CLIENT_DATA
    | caps::CONNECT_ATTRS;

/// Capabilities that change the stream or the login in ways not spoken here: never offered.
const NEVER: u32 = caps::SSL
    | caps::COMPRESS
    | caps::ZSTD_COMPRESSION
    | caps::QUERY_ATTRIBUTES
    | caps::OPTIONAL_RESULTSET_METADATA
    | caps::MULTI_FACTOR_AUTHENTICATION
    | caps::CAPABILITY_EXTENSION
    | caps::SSL_VERIFY_SERVER_CERT
    | caps::REMEMBER_OPTIONS;

/// What a gateway offers when nothing else is configured.
pub const DEFAULT_CAPS: u32 = ALWAYS
    | caps::FOUND_ROWS
    | caps::LONG_FLAG
    | caps::NO_SCHEMA
    | caps::ODBC
    | caps::IGNORE_SPACE
    | caps::INTERACTIVE
    | caps::IGNORE_SIGPIPE
    | caps::RESERVED
    | caps::MULTI_STATEMENTS
    | caps::MULTI_RESULTS
    | caps::PS_MULTI_RESULTS
    | caps::SESSION_TRACK
    | caps::DEPRECATE_EOF;

/// `utf8mb4_general_ci` as the greeting's single byte.
const UTF8MB4_GENERAL_CI_BYTE: u8 = 45;

/// The longest ciphertext accepted: that of an 8,192-bit key.
const CIPHERTEXT_MAX: usize = 1024;

/// What one login needs to know.
#[derive(Clone, Debug)]
pub struct LoginConfig {
    /// The version string of the greeting: the shard's flavour.
    pub server_version: Arc<str>,
    /// The gateway's own number of the connection.
    pub connection_id: u32,
    /// The client's address as it stands in `'user'@'host'`.
    pub client_host: String,
    /// Capabilities to offer: [`DEFAULT_CAPS`] or less. What a login needs is added, what is not
    /// spoken here (TLS, compression) removed.
    pub caps_offered: u32,
    /// The plugin that the greeting names.
    pub default_plugin: AuthPlugin,
    /// The collation in the greeting.
    pub default_collation: u16,
    /// The RSA key, in PEM; without it accounts with [`Verifier::Salted`] cannot log in.
    pub public_key_pem: Option<Arc<[u8]>>,
    /// Whether the transport keeps secrets (a Unix socket): a full login may then bring the password
    /// as it is, as clients do there.
    pub transport_is_private: bool,
}

/// The accounts.
pub trait Users {
    /// The account's number (the caller's own) and verifier.
    fn find(&self, user: &[u8]) -> Option<(usize, &Verifier)>;

    /// The verifier that an unknown user is checked against; the login fails whatever comes of it.
    /// Should be of the kind that most accounts have, and always the same for the same user.
    fn decoy(&self, user: &[u8]) -> &Verifier {
        let _ = user;
        &DECOY
    }
}

/// The decoy where there are no accounts. No password is known that hashes to it.
pub static DECOY: Verifier = Verifier::Both {
    native: [0; 20],
    sha2: [0; 32],
};

/// What comes after a packet.
#[derive(Debug)]
pub enum LoginStep {
    /// Send what was appended and wait for the next packet.
    Continue,
    /// Have the work done on another thread, then call [`Login::on_rsa`].
    NeedRsa(RsaWork),
    /// The password is right. Check what else there is to check, then call [`Login::finish_ok`] or
    /// [`Login::refuse`].
    Done(LoginResult),
}

/// Who logged in, and what the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginResult {
    /// The account's number, from [`Users::find`].
    pub user: usize,
    /// The user's name as sent.
    pub user_name: Vec<u8>,
    /// Capabilities of both sides.
    pub caps: u32,
    /// The connection's collation, one that clients may use; `None` if the client names none that is
    /// known: the server's default, whatever that is.
    pub collation: Option<u16>,
    /// The longest packet the client says it accepts; 0 when it says nothing.
    pub max_packet: u32,
    /// The initial schema.
    pub schema: Option<Vec<u8>>,
    /// The connection attributes as sent, for [`crate::wire::mysql::handshake::Attributes`].
    pub attributes: Vec<u8>,
    /// `SHA256(SHA256(password))`, learnt in a full login: keep it as the account's
    /// [`Verifier::Sha2`], and the next login takes the fast path.
    pub learnt: Option<[u8; 32]>,
}

/// A login whose response was read.
struct Pending {
    /// Whether the user exists; if not, the verifier is a decoy and the login bound to fail.
    known: bool,
    verifier: Verifier,
    /// The challenge that the client answers.
    nonce: Nonce,
    /// Whether that challenge came by AuthSwitch.
    switched: bool,
    /// Given out only to those who are known and proven.
    result: LoginResult,
}

impl Pending {
    /// PyMySQL up to 1.1.1 hashes the NUL after a switched challenge as well; against MySQL that
    /// costs it a full login each time. It is as fresh as the challenge itself, so it will do.
    fn proves_sha2(&self, answer: &[u8], stage2: &[u8; 32]) -> bool {
        sha2_verify(answer, &self.nonce, stage2)
            || self.switched && sha2_verify(answer, &[&self.nonce[..], b"\0"].concat(), stage2)
    }
}

enum State {
    /// The greeting is out.
    Response,
    /// AuthSwitch is out.
    Switched(Box<Pending>, AuthPlugin),
    /// `01 04` is out.
    Full(Box<Pending>),
    /// The public key is out.
    Ciphertext(Box<Pending>),
    /// Another thread decrypts.
    Rsa(Box<Pending>),
    /// Done or failed.
    Over,
}

impl State {
    fn user_name(&self) -> &[u8] {
        match self {
            Self::Switched(pending, _)
            | Self::Full(pending)
            | Self::Ciphertext(pending)
            | Self::Rsa(pending) => &pending.result.user_name,
            Self::Response | Self::Over => &[],
        }
    }
}

/// One client's login.
pub struct Login {
    pub(super) config: LoginConfig,
    nonce: Nonce,
    switch_nonce: Nonce,
    sequence: u8,
    state: State,
    caps: u32,
}

impl Login {
    /// Begins with the challenge of the greeting and the one an AuthSwitch would carry: both fresh
    /// from [`crate::wire::mysql::auth::nonce`].
    pub fn new(config: LoginConfig, nonce: Nonce, switch_nonce: Nonce) -> Self {
        let caps = (config.caps_offered | ALWAYS) & !NEVER;
        Self {
            config: LoginConfig {
                caps_offered: caps,
                ..config
            },
            nonce,
            switch_nonce,
            sequence: 0,
            state: State::Response,
            caps,
        }
    }

    /// Appends the greeting. `status` as of a fresh session: AUTOCOMMIT.
    pub fn greeting(&mut self, status: u16, out: &mut Vec<u8>) {
        // Ids above 255 have no place here: the low byte would name another collation.
        let collation =
            u8::try_from(self.config.default_collation).unwrap_or(UTF8MB4_GENERAL_CI_BYTE);
        let greeting = Greeting {
            version: self.config.server_version.as_bytes(),
            connection_id: self.config.connection_id,
            nonce: self.nonce,
            caps: self.config.caps_offered,
            mariadb_caps: 0,
            collation,
            status,
            plugin: self.config.default_plugin.name().as_bytes(),
        };
        self.sequence = packet(out, 0, |out| greeting.encode(out));
    }

    /// Takes one payload and its sequence id; appends what to send.
    pub fn on_packet(
        &mut self,
        sequence: u8,
        payload: &[u8],
        users: &dyn Users,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginError> {
        let expected = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let state = std::mem::replace(&mut self.state, State::Over);
        if sequence != expected {
            return Err(self.error(Failure::OutOfOrder, state.user_name()));
        }
        match state {
            State::Response => self.on_response(payload, users, out),
            State::Switched(pending, plugin) => self.verify(pending, plugin, payload, out),
            State::Full(pending) if payload == [REQUEST_PUBLIC_KEY] => self.send_key(pending, out),
            State::Full(pending) | State::Ciphertext(pending) => {
                let answer = FullAnswer::read(payload, self.config.transport_is_private);
                self.on_full_answer(pending, answer)
            }
            State::Rsa(_) | State::Over => {
                let failure = Failure::BadHandshake("a packet that nobody asked for");
                Err(self.error(failure, state.user_name()))
            }
        }
    }

    /// Takes what [`RsaWork::run`] found.
    pub fn on_rsa(&mut self, outcome: RsaOutcome) -> Result<LoginStep, LoginError> {
        match (std::mem::replace(&mut self.state, State::Over), outcome) {
            (State::Rsa(mut pending), RsaOutcome::Proven(stage2)) => {
                pending.result.learnt = Some(stage2);
                self.conclude(pending, true, true)
            }
            (State::Rsa(pending), RsaOutcome::Refuted) => self.conclude(pending, false, true),
            (state, _) => {
                let failure = Failure::BadHandshake("a ciphertext that nobody asked for");
                Err(self.error(failure, state.user_name()))
            }
        }
    }

    /// After [`LoginStep::Done`]: appends the OK that ends the login.
    pub fn finish_ok(&mut self, status: u16, out: &mut Vec<u8>) {
        let ok = OkPacket {
            status,
            ..OkPacket::default()
        };
        let caps = self.caps;
        self.sequence = packet(out, self.sequence, |out| encode_ok(out, caps, &ok));
    }

    /// A packet with this sequence id has come that is not even read: what [`Login::refuse`] says answers it.
    pub fn passed_over(&mut self, sequence: u8) {
        self.sequence = sequence.wrapping_add(1);
    }

    /// As [`Login::refuse`], with an error of the gateway's own. `detail` stands behind its text.
    pub fn refuse_by(&mut self, event: Event, detail: &str, out: &mut Vec<u8>) {
        let Code {
            errno, sqlstate, ..
        } = code(event);
        let text = message(event, detail, u64::from(self.config.connection_id));
        self.refuse(errno, &String::from_utf8_lossy(&sqlstate), &text, out);
    }

    /// Instead of [`Login::finish_ok`], or at any other point: appends an ERR.
    pub fn refuse(&mut self, errno: u16, sqlstate: &str, message: &str, out: &mut Vec<u8>) {
        let err = ErrPacket::new(errno, sqlstate, message.as_bytes());
        self.sequence = packet(out, self.sequence, |out| encode_err(out, &err));
        self.state = State::Over;
    }

    fn on_response(
        &mut self,
        payload: &[u8],
        users: &dyn Users,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginError> {
        // Offered is not: an SSLRequest, or a response that pretends to be inside TLS.
        if client_caps(payload).is_some_and(|sent| sent & caps::SSL != 0) {
            let failure = Failure::BadHandshake("the client asks for TLS, which is not offered");
            return Err(self.error(failure, &[]));
        }
        let response = Response::decode(payload, self.config.caps_offered)
            .map_err(|_| self.error(Failure::BadHandshake("a malformed login packet"), &[]))?;
        self.caps = response.caps;
        let collation = self.collation_of(&response);
        if let Some(wide) = collation.filter(|c| charset::is_refused_for_clients(c.charset)) {
            // Before anything of who it is, as servers do.
            return Err(self.error(Failure::WideCharset(wide.charset), response.user));
        }
        let found = users.find(response.user);
        let verifier = match found {
            Some((_, verifier)) => verifier,
            None => users.decoy(response.user),
        };
        let named = if response.caps & caps::PLUGIN_AUTH != 0 {
            AuthPlugin::by_name(response.plugin)
        } else {
            Some(AuthPlugin::Native)
        };
        let pending = Box::new(Pending {
            known: found.is_some(),
            verifier: verifier.clone(),
            nonce: self.nonce,
            switched: false,
            result: self.result_of(&response, found.map_or(0, |(user, _)| user)),
        });
        // Only a client that follows the greeting has surely answered its challenge: libmysqlclient
        // names a plugin of its own, with an empty answer, and waits to be asked.
        let can_switch = response.caps & caps::PLUGIN_AUTH != 0;
        match named {
            Some(plugin)
                if accepts(&pending.verifier, plugin)
                    && (plugin == self.config.default_plugin || !can_switch) =>
            {
                self.verify(pending, plugin, response.auth, out)
            }
            _ if !can_switch => Err(self.error(Failure::OldClient, response.user)),
            _ => {
                self.send_switch(pending, named, out);
                Ok(LoginStep::Continue)
            }
        }
    }

    /// The collation that the client names, if that is one. That of file names is none on MySQL.
    fn collation_of(&self, response: &Response<'_>) -> Option<Collation> {
        let is_mariadb = self.config.server_version.contains("MariaDB");
        charset::collation(u16::from(response.collation))
            .filter(|collation| is_mariadb || collation.charset != "filename")
    }

    fn result_of(&self, response: &Response<'_>, user: usize) -> LoginResult {
        let collation = self.collation_of(response).map(|collation| collation.id);
        LoginResult {
            user,
            user_name: response.user.to_vec(),
            caps: response.caps,
            collation,
            max_packet: response.max_packet,
            schema: response.schema.map(<[u8]>::to_vec),
            attributes: response.attributes.raw().to_vec(),
            learnt: None,
        }
    }

    /// Asks for an answer of a plugin that the account accepts: the one that the client has named,
    /// which it surely has, or the greeting's, or the other.
    fn send_switch(
        &mut self,
        mut pending: Box<Pending>,
        named: Option<AuthPlugin>,
        out: &mut Vec<u8>,
    ) {
        let preferred = self.config.default_plugin;
        let other = match preferred {
            AuthPlugin::Native => AuthPlugin::CachingSha2,
            AuthPlugin::CachingSha2 => AuthPlugin::Native,
        };
        let mut candidates = named.into_iter().chain([preferred]);
        let plugin = candidates.find(|plugin| accepts(&pending.verifier, *plugin));
        let plugin = plugin.unwrap_or(other);
        pending.nonce = self.switch_nonce;
        pending.switched = true;
        let switch = AuthSwitch {
            plugin: plugin.name().as_bytes(),
            data: &pending.nonce,
        };
        self.sequence = packet(out, self.sequence, |out| switch.encode(out));
        self.state = State::Switched(pending, plugin);
    }

    /// Checks the answer to a challenge, or asks for the password itself.
    fn verify(
        &mut self,
        pending: Box<Pending>,
        plugin: AuthPlugin,
        answer: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginError> {
        // libmysqlclient answers caching_sha2_password with a lone NUL for an empty password.
        let empty = answer.is_empty() || (plugin == AuthPlugin::CachingSha2 && answer == [0]);
        if empty {
            let proven = pending.verifier == Verifier::Empty;
            return self.conclude(pending, proven, false);
        }
        // An account without a stage-2 hash of this plugin takes as long, and is never proven: no
        // password is known that hashes to zeros.
        let proven = match (plugin, &pending.verifier) {
            (AuthPlugin::CachingSha2, Verifier::Salted(_)) => {
                self.more_data(&[FULL_AUTH], out);
                self.state = State::Full(pending);
                return Ok(LoginStep::Continue);
            }
            (AuthPlugin::Native, Verifier::Native(native) | Verifier::Both { native, .. }) => {
                native_verify(answer, &pending.nonce, native)
            }
            (AuthPlugin::Native, _) => native_verify(answer, &pending.nonce, &[0; 20]),
            (AuthPlugin::CachingSha2, Verifier::Sha2(sha2) | Verifier::Both { sha2, .. }) => {
                pending.proves_sha2(answer, sha2)
            }
            (AuthPlugin::CachingSha2, _) => pending.proves_sha2(answer, &[0; 32]),
        };
        if proven && pending.known && plugin == AuthPlugin::CachingSha2 {
            self.more_data(&[FAST_AUTH_OK], out);
        }
        self.conclude(pending, proven, true)
    }

    fn more_data(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.sequence = packet(out, self.sequence, |out| encode_auth_more_data(out, data));
    }

    fn send_key(
        &mut self,
        pending: Box<Pending>,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginError> {
        let Some(pem) = self.config.public_key_pem.clone() else {
            return self.conclude(pending, false, true);
        };
        self.more_data(&pem, out);
        self.state = State::Ciphertext(pending);
        Ok(LoginStep::Continue)
    }

    fn on_full_answer(
        &mut self,
        pending: Box<Pending>,
        answer: FullAnswer,
    ) -> Result<LoginStep, LoginError> {
        let Verifier::Salted(stored) = &pending.verifier else {
            return self.conclude(pending, false, true);
        };
        if let FullAnswer::Ciphertext(ciphertext) = &answer
            && (ciphertext.len() > CIPHERTEXT_MAX || self.config.public_key_pem.is_none())
        {
            return self.conclude(pending, false, true);
        }
        let work = RsaWork {
            answer,
            nonce: pending.nonce,
            stored: stored.clone(),
        };
        self.state = State::Rsa(pending);
        Ok(LoginStep::NeedRsa(work))
    }

    fn conclude(
        &mut self,
        pending: Box<Pending>,
        proven: bool,
        with_password: bool,
    ) -> Result<LoginStep, LoginError> {
        if proven && pending.known {
            return Ok(LoginStep::Done(pending.result));
        }
        Err(self.error(Failure::Denied { with_password }, &pending.result.user_name))
    }
}

/// Whether an account with this verifier can be checked by this plugin.
fn accepts(verifier: &Verifier, plugin: AuthPlugin) -> bool {
    match verifier {
        Verifier::Empty | Verifier::Both { .. } => true,
        Verifier::Native(_) => plugin == AuthPlugin::Native,
        Verifier::Sha2(_) | Verifier::Salted(_) => plugin == AuthPlugin::CachingSha2,
    }
}
