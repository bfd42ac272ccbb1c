//! What is spoken on a connection: one of the protocols, behind one face.

use std::rc::Rc;

use super::http::{self, Http};
use super::keys::Keys;
use super::mysql::{self, MySql};
use super::record::Failure;
use super::scenario::{Group, Operation, Protocol};
use crate::session::mysql::connect::ConnectConfig;
use crate::wire::mysql::flags::com;

/// What came of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// More bytes are needed.
    More,
    /// Logged in and prepared: operations may begin.
    Ready,
    /// The operation is over.
    Done,
    /// The operation is over, by the server's error; the connection is usable.
    Refused(Failure),
    /// The operation is over, with another answer than expected.
    Wrong,
}

/// Why the connection cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its class.
    pub failure: Failure,
    /// For a person.
    pub why: String,
    /// Another try would end like this one: the login is refused, another protocol is spoken, nobody listens.
    pub lasts: bool,
}

impl Broken {
    /// A connection that ended with `failure`.
    pub fn new(failure: Failure, why: impl Into<String>) -> Self {
        Self {
            failure,
            why: why.into(),
            lasts: matches!(failure, Failure::Login | Failure::Protocol),
        }
    }
}

/// What a group's connections have in common.
#[derive(Clone, Debug)]
pub(super) enum Program {
    MySql(Rc<mysql::Program>),
    Http(Rc<http::Program>),
}

impl Program {
    /// The program of `group`; `verify`: answers are compared with what it expects.
    pub(super) fn new(group: &Group, verify: bool) -> Result<Self, String> {
        let target = &group.target;
        let expect = verify.then(|| group.expect.clone());
        match (&target.protocol, &group.operation) {
            (Protocol::Http, Operation::Request(request)) => {
                let host = format!("{}:{}", target.host, target.port);
                let program = http::Program::new(host, request, expect);
                let program = program.map_err(|error| error.to_string())?;
                Ok(Self::Http(Rc::new(program)))
            }
            (Protocol::Http, other) => Err(format!("HTTP has no operation `{}`", other.label())),
            (
                Protocol::MySql {
                    user,
                    password,
                    schema,
                },
                operation,
            ) => {
                let login = ConnectConfig {
                    user: user.clone(),
                    password: password.clone(),
                    caps_wanted: 0,
                    // utf8mb4_general_ci
                    collation: 45,
                    schema: schema.clone(),
                    attributes: vec![("program_name".to_owned(), "ringgate load".to_owned())],
                    max_packet: 1 << 30,
                    trusted_key_pem: None,
                    allow_rsa_from_server: true,
                    transport_is_private: target.socket.is_some(),
                };
                let program = mysql::Program::new(login, operation, expect);
                Ok(Self::MySql(Rc::new(program)))
            }
        }
    }
}

/// One connection's side of it.
pub(super) enum Dialogue {
    MySql(Box<MySql>),
    Http(Box<Http>),
}

impl Dialogue {
    pub(super) fn new(program: &Program, keys: Keys) -> Self {
        match program {
            Program::MySql(program) => Self::MySql(Box::new(MySql::new(Rc::clone(program), keys))),
            Program::Http(program) => Self::Http(Box::new(Http::new(Rc::clone(program), keys))),
        }
    }

    /// Begins the next operation; appends what to send.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::MySql(mysql) => mysql.begin(out),
            Self::Http(http) => http.begin(out),
        }
    }

    pub(super) fn on_bytes(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Event, Broken> {
        match self {
            Self::MySql(mysql) => mysql.on_bytes(bytes, out),
            Self::Http(http) => http.on_bytes(bytes),
        }
    }

    /// The peer has ended its side.
    pub(super) fn on_end(&mut self) -> Result<Event, Broken> {
        match self {
            Self::MySql(_) => Err(Broken::new(
                Failure::Reset,
                "the peer closed the connection",
            )),
            Self::Http(http) => http.on_end(),
        }
    }

    /// What the last operation was refused with.
    pub(super) fn said(&self) -> String {
        match self {
            Self::MySql(mysql) => mysql.said(),
            Self::Http(http) => http.said(),
        }
    }

    /// Whether the connection serves no further operation.
    pub(super) fn is_spent(&self) -> bool {
        match self {
            Self::MySql(_) => false,
            Self::Http(http) => http.is_spent(),
        }
    }

    /// Whether the peer speaks first, so that operations wait for [`Event::Ready`].
    pub(super) fn has_greeting(&self) -> bool {
        matches!(self, Self::MySql(_))
    }

    /// What is said before the connection ends.
    pub(super) fn goodbye(&self) -> &'static [u8] {
        match self {
            Self::MySql(_) => &[1, 0, 0, 0, com::QUIT],
            Self::Http(_) => &[],
        }
    }
}
