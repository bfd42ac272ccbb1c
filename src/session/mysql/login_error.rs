//! How a client's login fails: what the client is told, and what is logged.

use super::login::Login;
use crate::base::close::CloseReason;
use crate::base::codes::{Event, code};

/// The end of a login that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("login failed with error {errno}")]
pub struct LoginError {
    /// The error number sent.
    pub errno: u16,
    /// What the gateway's own words in it are of; `None` where they are as servers say them.
    pub event: Option<Event>,
    /// For metrics and logs.
    pub reason: CloseReason,
    /// The user's name as sent; empty if it never got so far.
    pub user_name: Vec<u8>,
    /// For logs: what was wrong.
    pub why: &'static str,
    /// The ERR packet, header and all: send it, then close.
    pub packet: Vec<u8>,
}

/// Why a login fails.
pub(super) enum Failure {
    /// With what is wrong about it.
    BadHandshake(&'static str),
    /// A packet's number is not the next one.
    OutOfOrder,
    /// The client knows no plugin that its account has, and cannot be asked.
    OldClient,
    /// The client's character set is none that a client may have.
    WideCharset(&'static str),
    /// A wrong password, or a user that there is not.
    Denied { with_password: bool },
}

impl Login {
    /// The end of the login by `failure`, with the packet that tells the client.
    pub(super) fn error(&mut self, failure: Failure, user: &[u8]) -> LoginError {
        let mut packet = Vec::new();
        let mut event = None;
        let mut told = |told| {
            event = Some(told);
            code(told).errno
        };
        let (errno, reason, why) = match failure {
            Failure::BadHandshake(why) => {
                self.refuse_by(Event::BadHandshake, why, &mut packet);
                (told(Event::BadHandshake), CloseReason::ClientProtocol, why)
            }
            Failure::OutOfOrder => {
                self.refuse_by(Event::OutOfOrder, "", &mut packet);
                let why = "a wrong sequence id";
                (told(Event::OutOfOrder), CloseReason::ClientProtocol, why)
            }
            Failure::OldClient => {
                let text = "Client does not support authentication protocol requested by server; \
                            consider upgrading MySQL client";
                self.refuse(1251, "08004", text, &mut packet);
                (1251, CloseReason::LoginDenied, "no plugin in common")
            }
            Failure::WideCharset(charset) => {
                let text = format!(
                    "Variable 'character_set_client' can't be set to the value of '{charset}'"
                );
                self.refuse(1231, "42000", &text, &mut packet);
                (
                    1231,
                    CloseReason::LoginDenied,
                    "a character set of no client",
                )
            }
            Failure::Denied { with_password } => {
                let text = self.denial(user, with_password);
                self.refuse(1045, "28000", &text, &mut packet);
                (1045, CloseReason::LoginDenied, "wrong user or password")
            }
        };
        LoginError {
            errno,
            event,
            reason,
            user_name: user.to_vec(),
            why,
            packet,
        }
    }

    /// The sentence that MySQL and MariaDB print, letter for letter.
    fn denial(&self, user: &[u8], with_password: bool) -> String {
        format!(
            "Access denied for user '{}'@'{}' (using password: {})",
            printable(user),
            self.config.client_host,
            if with_password { "YES" } else { "NO" }
        )
    }
}

/// A name for a message: UTF-8, without control characters, no longer than any real one.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .take(128)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
