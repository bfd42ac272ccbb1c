//! Targets from URLs.

use percent_encoding::percent_decode_str;
use url::Url;

use super::scenario::{Protocol, Target};
use crate::base::address::Address;
use crate::base::secret::Secret;

/// The forms, for messages.
pub const FORMS: &str = "write mysql://USER:PASSWORD@HOST:PORT/SCHEMA or http://HOST:PORT, with \
     ?socket=/PATH for a Unix socket";

/// Why a URL is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTarget(String);

/// Reads a URL. `password` replaces the one in the URL.
///
/// # Errors
/// [`BadTarget`], without any secret in it.
pub fn parse(name: &str, text: &str, password: Option<Secret>) -> Result<Target, BadTarget> {
    let bad = |why: &str| BadTarget(format!("{why}: {FORMS}"));
    let url = Url::parse(text).map_err(|error| bad(&format!("not a URL ({error})")))?;
    let host = url.host_str().ok_or_else(|| bad("no host"))?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (protocol, port) = match url.scheme() {
        "mysql" => {
            let own = url.password().map(decoded).unwrap_or_default();
            let schema = decoded(url.path().trim_start_matches('/'));
            let mysql = Protocol::MySql {
                user: decoded(url.username()),
                password: password.unwrap_or_else(|| Secret::new(own)),
                schema: (!schema.is_empty()).then_some(schema),
            };
            (mysql, 3306)
        }
        "http" => (Protocol::Http, 80),
        other => return Err(bad(&format!("`{other}` is not spoken here"))),
    };
    let mut socket = None;
    for (key, value) in url.query_pairs() {
        if key != "socket" || socket.is_some() {
            return Err(bad(&format!("`?{key}=` means nothing here")));
        }
        match format!("unix:{value}").parse() {
            Ok(Address::Unix(path)) => socket = Some(path),
            Ok(Address::Tcp(_)) | Err(_) => {
                return Err(bad(&format!("`{value}` is no path of a Unix socket")));
            }
        }
    }
    Ok(Target {
        name: name.to_owned(),
        // The brackets of an IPv6 address belong to URLs only.
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(port),
        socket,
        protocol,
    })
}

/// The text with a star for each byte of the passwords in its URLs.
pub fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\''))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((credentials, host)) => {
                let (user, secret) = credentials.split_once(':').unwrap_or((credentials, ""));
                let colon = if credentials == user { "" } else { ":" };
                out.push_str(&format!("{user}{colon}{}@{host}", "*".repeat(secret.len())));
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let target = parse("a", "mysql://u%40x:p%2Fw@[::1]:33/shop", None).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 33));
        let expect = Protocol::MySql {
            user: "u@x".into(),
            password: Secret::new("p/w"),
            schema: Some("shop".into()),
        };
        assert_eq!(target.protocol, expect);
        let target = parse(
            "d",
            "mysql://u:p@localhost/shop?socket=/run/db%20a.sock",
            None,
        )
        .unwrap();
        assert_eq!(target.socket, Some("/run/db a.sock".into()));
        let target = parse("b", "http://localhost", None).unwrap();
        assert_eq!((target.port, target.protocol), (80, Protocol::Http));
        for (text, expect) in [
            ("nonsense", "not a URL"),
            ("https://x", "`https` is not spoken"),
            ("mysql:///x", "no host"),
            ("mysql://u@h/x?socket=run/db", "is no path"),
            ("mysql://u@h/x?ssl=1", "`?ssl=` means nothing"),
            ("mysql://u@h/x?socket=/a&socket=/b", "means nothing"),
        ] {
            let error = parse("c", text, None).unwrap_err().to_string();
            assert!(
                error.contains(expect) && error.contains("mysql://USER"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_password_of_a_url_is_shown() {
        let check = |text: &str, expect: &str| assert_eq!(mask(text), expect);
        check("a mysql://u:p@h:1/s b", "a mysql://u:*@h:1/s b");
        check(
            "\"mysql://u:p@:@h\" http://h/x",
            "\"mysql://u:***@h\" http://h/x",
        );
        check("mysql://u@h no", "mysql://u@h no");
    }
}
