//! Listening sockets: one of TCP for each core, or one Unix socket that all cores share.
//!
//! Cores bind a TCP port each for itself (`SO_REUSEPORT`), and the kernel spreads connections. A path
//! can be bound once only: its socket is duplicated, and every core accepts from the same queue, one
//! connection at a time. The kernel then wakes the core that has waited longest (waits of accepts are
//! exclusive), so that nobody wakes in vain and none takes everything; see `State::listen`.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::address::from_kernel;
use super::options::{SocketOptions, tcp};
use crate::base::address::Address;

/// How often, and in what intervals, a directory is tried that another process is binding in.
const LOCK_TRIES: u32 = 100;
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// Goes before the socket: nobody finds a file behind which nobody listens any more.
    file: Option<Arc<SocketFile>>,
    socket: Socket,
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// What `getsockname` says.
    pub fn local_addr(&self) -> io::Result<Address> {
        from_kernel(&self.socket.local_addr()?)
    }

    /// The same socket for another core. The file of a Unix socket is removed with the last of them.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.clone(),
            socket: self.socket.try_clone()?,
        })
    }

    /// Whether other cores accept from the same queue.
    pub(super) fn is_shared(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// Whatever is accepted inherits it, where the protocol has it.
    pub(super) fn set_nodelay(&self) {
        let _ = self.socket.set_tcp_nodelay(true);
    }

    pub(super) fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        options.apply(&self.socket)
    }

    /// Accepts without the ring.
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        self.socket.accept().map(|(socket, _)| socket.into())
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self {
            file: None,
            socket: listener.into(),
        }
    }
}

/// A listener that other cores of this process (and user) may bind beside (`SO_REUSEPORT`). Call
/// [`ensure_free`] once before, or a stranger's listener would share the port unnoticed.
///
/// # Errors
/// What `socket`, `setsockopt`, `bind` or `listen` say.
pub fn bind(address: SocketAddr, backlog: i32, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Before `listen`: the window scale of accepted sockets follows the listener's buffer.
    options.apply(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Checks that nobody listens on `address`, not even with `SO_REUSEPORT`.
///
/// # Errors
/// `AddrInUse` with a message that names the address and the remedy; else what `bind` says.
pub fn ensure_free(address: SocketAddr) -> io::Result<()> {
    let socket = tcp(address)?;
    socket.set_reuse_address(true)?;
    let bound = socket.bind(&address.into()).and_then(|()| socket.listen(1));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(
            error.kind(),
            format!(
                "{address} is in use by another process; stop it (`ss -ltnp` names it) or choose \
                 another address"
            ),
        ),
        _ => error,
    })
}

/// A listener at `path`, for processes that may write to its file: `mode` are the file's permissions.
/// A file that a dead process has left is replaced.
///
/// # Errors
/// `AddrInUse` when somebody listens there; otherwise why there can be no socket, with the remedy.
pub fn bind_unix(
    path: &Path,
    mode: u32,
    backlog: i32,
    options: &SocketOptions,
) -> io::Result<Listener> {
    // Of two processes that start at once, the second must not take the first one's file for a dead
    // one's.
    let _turn = lock_directory(path)?;
    make_room(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    options.apply(&socket)?;
    socket.bind(&SockAddr::unix(path)?).map_err(|error| {
        let directory = directory_of(path).display();
        explained(&error, &format!("no file can be made in {directory}"))
    })?;
    let file = Arc::new(SocketFile::new(path)?);
    // Before anybody can connect: the process's file mask has decided until here.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok(Listener {
        file: Some(file),
        socket,
    })
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The error with what it means.
fn explained(error: &io::Error, meaning: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{meaning}: {error}"))
}

/// Waits for other processes that are just binding in the directory of `path`. `None` when it cannot be
/// locked: then two that start at the same time are on their own.
fn lock_directory(path: &Path) -> io::Result<Option<File>> {
    let directory = directory_of(path);
    let name = directory.display();
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let text = format!("{name} is no directory; choose another path");
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("there is no directory {name}; make it or choose another path");
            return Err(io::Error::new(error.kind(), text));
        }
        Err(error) => return Err(explained(&error, &format!("{name} cannot be reached"))),
    }
    let Ok(file) = File::open(directory) else {
        return Ok(None);
    };
    for _ in 0..LOCK_TRIES {
        if file.try_lock().is_ok() {
            return Ok(Some(file));
        }
        std::thread::sleep(LOCK_RETRY);
    }
    // Somebody else's lock, for whatever purpose, must not keep the node from starting.
    Ok(None)
}

/// Removes the file of a socket on which nobody listens any more.
fn make_room(path: &Path) -> io::Result<()> {
    let name = path.display();
    let refuse = |kind: io::ErrorKind, text: String| Err(io::Error::new(kind, text));
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !found.file_type().is_socket() {
        let text = format!("{name} is there and is no socket; move it away or choose another path");
        return refuse(io::ErrorKind::AlreadyExists, text);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| {
                let meaning = format!("{name} is a dead process's socket and cannot be removed");
                explained(&error, &meaning)
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(explained(
            &error,
            &format!(
                "{name} is there and cannot be tried; remove it if it is a dead process's, or \
                 choose another path"
            ),
        )),
        // It listens; or its queue is full, or it is a socket of another type: somebody lives there.
        Ok(()) | Err(_) => refuse(
            io::ErrorKind::AddrInUse,
            format!(
                "another process listens on {name}; stop it (`ss -lxp` names it) or choose another \
                 path"
            ),
        ),
    }
}

/// The file of a Unix listener. Dropping it removes the file, unless another is there by now.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64, i64, i64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let identity = Self::identity(&fs::symlink_metadata(path)?);
        Ok(Self {
            path: path.to_owned(),
            identity,
        })
    }

    /// File systems give a number away again: the time of its making tells two files apart.
    fn identity(found: &Metadata) -> (u64, u64, i64, i64) {
        (found.dev(), found.ino(), found.mtime(), found.mtime_nsec())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| Self::identity(&found) == self.identity) {
            // Should it fail, the next process finds a dead one's file and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn bind_at(path: &Path) -> io::Result<Listener> {
        bind_unix(path, 0o777, 16, &SocketOptions::default())
    }

    #[test]
    fn cores_share_a_port_but_a_stranger_is_noticed() {
        let options = SocketOptions::default();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = bind(loopback, 16, &options).unwrap();
        let address = first.local_addr().unwrap();
        let second = bind(address, 16, &options).unwrap();
        let error = ensure_free(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        drop((first, second));
        ensure_free(address).unwrap();
    }

    #[test]
    fn a_dead_process_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mysql.sock");
        // The standard library's leave their file behind.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let ours = bind_at(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        let error = bind_at(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("ss -lxp"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(ours);
        assert!(!path.exists());
        // One whose queue is full lives too, and so does one of another type.
        let full = bind_unix(&path, 0o777, 0, &SocketOptions::default()).unwrap();
        let _queued = UnixStream::connect(&path).unwrap();
        let error = bind_at(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop(full);
        let datagrams = UnixDatagram::bind(&path).unwrap();
        let error = bind_at(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop(datagrams);
        bind_at(&path).unwrap();
    }

    #[test]
    fn of_many_that_find_a_dead_ones_file_at_once_one_replaces_it() {
        const STARTERS: usize = 8;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mysql.sock");
        for round in 0..20 {
            drop(UnixListener::bind(&path).unwrap());
            let all_there = std::sync::Barrier::new(STARTERS);
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    all_there.wait();
                    bind_at(&path)
                };
                let threads: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
                let ended = threads.into_iter().map(|thread| thread.join().unwrap());
                ended.collect()
            });
            let bound = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!(bound, 1, "round {round}: {outcomes:?}");
            let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            for error in refused {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
            UnixStream::connect(&path).unwrap();
            drop(outcomes);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_is_in_the_way_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        let check = |path: &Path, kind, part: &str| {
            let error = bind_at(path).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(&file, io::ErrorKind::AlreadyExists, "is no socket");
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        let target = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &target).unwrap();
        check(&target, io::ErrorKind::AlreadyExists, "is no socket");
        let missing = folder.path().join("missing/mysql.sock");
        check(&missing, io::ErrorKind::NotFound, "make it");
        let below = file.join("mysql.sock");
        check(&below, io::ErrorKind::NotADirectory, "is no directory");
        let long = folder.path().join("x".repeat(120));
        assert!(bind_at(&long).is_err());
        assert!(!long.exists());
    }

    #[test]
    fn the_file_has_the_mode_and_goes_with_the_last_core() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mysql.sock");
        let first = bind_unix(&path, 0o660, 16, &SocketOptions::default()).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(first.local_addr().unwrap(), Address::Unix(path.clone()));
        let second = first.try_clone().unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn anothers_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mysql.sock");
        let ours = bind_at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn options_of_tcp_are_passed_over() {
        let options = SocketOptions {
            keepalive: Some(super::super::Keepalive {
                idle: Duration::from_secs(30),
                interval: Duration::from_secs(5),
                count: 3,
            }),
            user_timeout: Some(Duration::from_secs(20)),
            receive_buffer: Some(100_000),
            send_buffer: Some(50_000),
            congestion: Some("no-such".into()),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mysql.sock");
        let listener = bind_unix(&path, 0o777, 16, &options).unwrap();
        let socket = &listener.socket;
        assert_eq!(socket.send_buffer_size().unwrap(), 100_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 200_000);
    }
}
