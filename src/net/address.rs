//! Addresses as the kernel has them, and whom a connection leads to.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use socket2::{SockAddr, SockRef};

use crate::base::address::Address;

/// The address for the kernel.
///
/// # Errors
/// The path of a Unix socket is too long or has a zero byte.
pub(super) fn to_kernel(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Tcp(address) => Ok((*address).into()),
        Address::Unix(path) => SockAddr::unix(path),
    }
}

/// The address that the kernel has told.
///
/// # Errors
/// `Unsupported`: neither TCP nor a Unix socket.
pub(super) fn from_kernel(address: &SockAddr) -> io::Result<Address> {
    match address.as_socket() {
        Some(tcp) => Ok(Address::Tcp(tcp)),
        None if address.is_unix() => {
            let path = address.as_pathname().map_or_else(PathBuf::new, Into::into);
            Ok(Address::Unix(path))
        }
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The server that a connection leads to. A TCP address is one server's at a time; at a Unix socket's
/// path another process may listen while connections to the former one live on, so there the process
/// that listened tells them apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    address: Address,
    process: libc::pid_t,
}

/// The server that `socket` leads to; `None` when the connection has ended or nothing is known.
pub(super) fn server(socket: &impl AsFd) -> Option<Server> {
    let address = peer(socket).ok()?;
    let process = match &address {
        Address::Tcp(_) => 0,
        Address::Unix(path) if path.as_os_str().is_empty() => return None,
        Address::Unix(_) => listening_process(socket)?,
    };
    Some(Server { address, process })
}

/// The peer's address.
///
/// # Errors
/// What `getpeername` says: `NotConnected` when the connection has ended.
pub(super) fn peer(socket: &impl AsFd) -> io::Result<Address> {
    from_kernel(&SockRef::from(socket).peer_addr()?)
}

/// The process that listened where a Unix socket has connected to; 0 for one that this process cannot
/// see.
fn listening_process(socket: &impl AsFd) -> Option<libc::pid_t> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the kernel writes `len` bytes at most, which is the size of `peer`; every value of its
    // fields is valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(peer.pid)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn addresses_survive_the_kernel() {
        for text in ["127.0.0.1:3306", "[::1]:1", "unix:/run/x.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(from_kernel(&to_kernel(&address).unwrap()).unwrap(), address);
        }
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(peer(&one).unwrap(), Address::Unix(PathBuf::new()));
    }

    #[test]
    fn only_connections_to_one_address_and_process_lead_to_one_server() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("a"), folder.path().join("b"));
        let _listener = UnixListener::bind(&path).unwrap();
        let _other = UnixListener::bind(&next).unwrap();
        let connect = |path: &PathBuf| UnixStream::connect(path).unwrap();
        let same = |a: &dyn AsFd, b: &dyn AsFd| {
            let (a, b) = (server(&a.as_fd()), server(&b.as_fd()));
            a.is_some() && a == b
        };
        assert!(same(&connect(&path), &connect(&path)));
        assert!(!same(&connect(&path), &connect(&next)));
        // Without a name nothing is known of whom it leads to.
        let (one, other) = UnixStream::pair().unwrap();
        assert!(!same(&one, &other));
        let any = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (a, b) = (any(), any());
        let connect = |to: &TcpListener| TcpStream::connect(to.local_addr().unwrap()).unwrap();
        assert!(same(&connect(&a), &connect(&a)));
        assert!(!same(&connect(&a), &connect(&b)));
        assert!(!same(&connect(&a), &one));
    }

    #[test]
    fn another_process_at_the_same_path_is_another_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let to_this = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let script = "import socket,sys,time; s=socket.socket(socket.AF_UNIX); \
                      s.bind(sys.argv[1]); s.listen(); print(flush=True); time.sleep(60)";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let to_other = UnixStream::connect(&path).unwrap();
        let same = server(&to_this) == server(&to_other);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!same);
        assert_eq!(peer(&to_this).unwrap(), peer(&to_other).unwrap());
    }
}
