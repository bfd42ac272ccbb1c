//! Where something listens or is reached: over TCP, or at the path of a Unix socket.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a Unix socket's address begins with, in text.
const UNIX: &str = "unix:";

/// The longest path of a Unix socket, in bytes: the kernel's 108 with the final zero.
pub const PATH_MAX: usize = 107;

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; empty for one without a name, as clients' are.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an IP address with a port nor a Unix socket.
    #[error("neither an IP address with a port nor \"unix:\" with a path")]
    Neither,
    /// A path that depends on where the process was started.
    #[error("the path of a Unix socket begins with '/': \"unix:/run/ringgate/mysql.sock\"")]
    Relative,
    /// A path that can only be a directory's.
    #[error("the path of a Unix socket ends with the name of its file")]
    Directory,
    /// A character that does not belong into a path, a log line or a label.
    #[error("the path of a Unix socket has no control characters")]
    Control,
    /// More bytes than the kernel takes.
    #[error("the path of a Unix socket has at most {PATH_MAX} bytes, and this one has {0}")]
    TooLong(usize),
}

impl Address {
    /// Where it is over TCP.
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether it is a Unix socket's.
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// The host a peer is on, as servers name it: a Unix socket's is this machine.
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.ip().to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => show_path(f, path),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match unix_path(text)? {
            Some(path) => Ok(Self::Unix(path)),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| AddressError::Neither),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.tcp() == Some(*other)
    }
}

/// An endpoint's address as the configuration has it: a host's name is resolved later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Over TCP.
    Host {
        /// A host name or an IP address (IPv6 without brackets).
        name: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Destination {
    /// Whether it is a Unix socket.
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

/// `host:port`, with brackets around an IPv6 address, or `unix:/path`: for logs and metric labels.
impl Display for Destination {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => show_path(f, path),
        }
    }
}

fn show_path(f: &mut Formatter<'_>, path: &Path) -> fmt::Result {
    write!(f, "{UNIX}{}", path.display())
}

/// The path in `unix:/path`; `None` for a text that does not begin so.
///
/// # Errors
/// Why no socket can have that path.
pub fn unix_path(text: &str) -> Result<Option<PathBuf>, AddressError> {
    let Some(path) = text.strip_prefix(UNIX) else {
        return Ok(None);
    };
    if !path.starts_with('/') {
        return Err(AddressError::Relative);
    }
    if path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        return Err(AddressError::Directory);
    }
    if path.chars().any(char::is_control) {
        return Err(AddressError::Control);
    }
    if path.len() > PATH_MAX {
        return Err(AddressError::TooLong(path.len()));
    }
    Ok(Some(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_alike() {
        for text in [
            "127.0.0.1:3306",
            "[::1]:0",
            "unix:/run/mysqld/mysqld.sock",
            "unix:/a b/ü",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let longest = format!("unix:/{}", "x".repeat(PATH_MAX - 1));
        assert_eq!(longest.parse::<Address>().unwrap().to_string(), longest);
    }

    #[test]
    fn what_no_socket_can_have_is_refused() {
        let too_long = format!("unix:/{}", "x".repeat(PATH_MAX));
        for (text, error) in [
            ("", AddressError::Neither),
            ("localhost:3306", AddressError::Neither),
            ("/run/mysql.sock", AddressError::Neither),
            ("unix:", AddressError::Relative),
            ("unix:mysql.sock", AddressError::Relative),
            ("unix:@abstract", AddressError::Relative),
            ("unix:/", AddressError::Directory),
            ("unix:/run/", AddressError::Directory),
            ("unix:/run/..", AddressError::Directory),
            ("unix:/run/a\0b", AddressError::Control),
            ("unix:/run/a\nb", AddressError::Control),
            (&*too_long, AddressError::TooLong(PATH_MAX + 1)),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_unix_peer_is_this_machine() {
        assert_eq!(Address::Unix(PathBuf::new()).host(), "localhost");
        let tcp = Address::from(SocketAddr::from(([192, 0, 2, 7], 1)));
        assert_eq!(tcp.host(), "192.0.2.7");
    }

    #[test]
    fn destinations_are_shown_as_they_are_written() {
        let host = |name: &str| Destination::Host {
            name: name.into(),
            port: 3306,
        };
        assert_eq!(host("db1").to_string(), "db1:3306");
        assert_eq!(host("::1").to_string(), "[::1]:3306");
        assert_eq!(Destination::Unix("/a/b".into()).to_string(), "unix:/a/b");
    }
}
