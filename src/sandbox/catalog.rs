//! What all connections of one shard share: its databases, its sessions, its named locks.

use super::error::SqlError;
use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Takes a lock; a thread that panicked left whole values behind, so its lock is still good.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One shard's shared state. Databases are files of a directory that goes with it.
pub struct Catalog {
    directory: PathBuf,
    /// What `VERSION()` says.
    pub server_version: String,
    databases: Mutex<BTreeMap<String, PathBuf>>,
    sessions: Mutex<BTreeMap<u32, Arc<SessionHandle>>>,
    named_locks: Mutex<BTreeMap<String, u32>>,
    named_lock_freed: Condvar,
    files: AtomicU64,
    /// Statements executed since the start.
    pub questions: AtomicU64,
    /// When it started.
    pub started: Instant,
}

/// Distinguishes the shards of one process.
static SHARDS: AtomicU64 = AtomicU64::new(0);

impl Catalog {
    /// An empty catalog in a fresh temporary directory.
    ///
    /// Errors: the directory cannot be made.
    pub fn create(server_version: &str) -> io::Result<Self> {
        let number = SHARDS.fetch_add(1, Ordering::Relaxed);
        let unique = super::date::Moment::now().to_micros();
        let name = format!("ringgate-sandbox-{}-{number}-{unique}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory)?;
        Ok(Self {
            directory,
            server_version: server_version.to_owned(),
            databases: Mutex::default(),
            sessions: Mutex::default(),
            named_locks: Mutex::default(),
            named_lock_freed: Condvar::new(),
            files: AtomicU64::new(0),
            questions: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// Adds a database.
    ///
    /// Errors: 1007 when there is one of that name.
    pub fn create_database(&self, name: &str) -> Result<(), SqlError> {
        let mut databases = locked(&self.databases);
        if databases.contains_key(name) {
            let message = format!("Can't create database '{name}'; database exists");
            return Err(SqlError::new(1007, "HY000", message));
        }
        // Numbered, so that a database made again never meets an old connection's file.
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        databases.insert(
            name.to_owned(),
            self.directory.join(format!("{number}.sqlite")),
        );
        Ok(())
    }

    /// Forgets a database; its file goes with the shard.
    ///
    /// Errors: 1008 when there is none of that name.
    pub fn drop_database(&self, name: &str) -> Result<(), SqlError> {
        match locked(&self.databases).remove(name) {
            Some(_) => Ok(()),
            None => {
                let message = format!("Can't drop database '{name}'; database doesn't exist");
                Err(SqlError::new(1008, "HY000", message))
            }
        }
    }

    /// The file of a database.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        locked(&self.databases).get(name).cloned()
    }

    /// The names of the databases, sorted.
    pub fn names(&self) -> Vec<String> {
        locked(&self.databases).keys().cloned().collect()
    }

    /// Makes a session known, for `KILL` and `SHOW PROCESSLIST`.
    pub fn enter(&self, handle: Arc<SessionHandle>) {
        locked(&self.sessions).insert(handle.id, handle);
    }

    /// Forgets a session and frees its named locks.
    pub fn leave(&self, id: u32) {
        locked(&self.sessions).remove(&id);
        self.release_all(id);
    }

    /// The sessions there are, by id.
    pub fn sessions(&self) -> Vec<Arc<SessionHandle>> {
        locked(&self.sessions).values().cloned().collect()
    }

    /// `KILL [QUERY] id`.
    ///
    /// Errors: 1094 for an unknown id.
    pub fn kill(&self, id: u32, query_only: bool) -> Result<(), SqlError> {
        let handle = locked(&self.sessions).get(&id).cloned();
        let handle = handle
            .ok_or_else(|| SqlError::new(1094, "HY000", format!("Unknown thread id: {id}")))?;
        handle.interrupt(!query_only);
        self.named_lock_freed.notify_all();
        Ok(())
    }

    /// `GET_LOCK`: whether session `id` has `name` after at most `wait`.
    pub fn get_lock(&self, name: &str, id: u32, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut locks = locked(&self.named_locks);
        loop {
            if locks.get(name).is_none_or(|owner| *owner == id) {
                locks.insert(name.to_owned(), id);
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.named_lock_freed.wait_timeout(locks, left);
            locks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// `RELEASE_LOCK`: `None` when nobody has it, else whether session `id` had it.
    pub fn release_lock(&self, name: &str, id: u32) -> Option<bool> {
        let mut locks = locked(&self.named_locks);
        let owned = *locks.get(name)? == id;
        if owned {
            locks.remove(name);
            self.named_lock_freed.notify_all();
        }
        Some(owned)
    }

    /// Who has the named lock.
    pub fn lock_owner(&self, name: &str) -> Option<u32> {
        locked(&self.named_locks).get(name).copied()
    }

    /// Frees every named lock of a session; how many there were.
    pub fn release_all(&self, id: u32) -> usize {
        let mut locks = locked(&self.named_locks);
        let before = locks.len();
        locks.retain(|_, owner| *owner != id);
        self.named_lock_freed.notify_all();
        before - locks.len()
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        // The directory is temporary: one that stays behind does no harm.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// How others reach a session: to interrupt it, to list it.
pub struct SessionHandle {
    /// Connection id.
    pub id: u32,
    /// Who logged in.
    pub user: String,
    /// The peer.
    pub host: String,
    /// What it is doing, for `SHOW PROCESSLIST`; `None` is `Sleep`.
    pub statement: Mutex<Option<String>>,
    /// Its current database.
    pub schema: Mutex<Option<String>>,
    stream: Option<TcpStream>,
    interrupts: Mutex<Vec<rusqlite::InterruptHandle>>,
    killed: AtomicBool,
    sleep: Mutex<()>,
    woken: Condvar,
}

impl SessionHandle {
    /// A handle for session `id`; `stream` is shut down when the connection is killed.
    pub fn new(id: u32, user: &str, host: &str, stream: Option<TcpStream>) -> Self {
        Self {
            id,
            user: user.to_owned(),
            host: host.to_owned(),
            statement: Mutex::default(),
            schema: Mutex::default(),
            stream,
            interrupts: Mutex::default(),
            killed: AtomicBool::new(false),
            sleep: Mutex::default(),
            woken: Condvar::new(),
        }
    }

    /// Adds a SQLite connection to interrupt.
    pub fn watch(&self, handle: rusqlite::InterruptHandle) {
        locked(&self.interrupts).push(handle);
    }

    /// Forgets the SQLite connections.
    pub fn unwatch(&self) {
        locked(&self.interrupts).clear();
    }

    /// Stops the running statement, and with `close` the connection.
    pub fn interrupt(&self, close: bool) {
        if locked(&self.statement).is_some() {
            self.killed.store(true, Ordering::Release);
            for handle in locked(&self.interrupts).iter() {
                handle.interrupt();
            }
            let _sleeping = locked(&self.sleep);
            self.woken.notify_all();
        }
        if let (true, Some(stream)) = (close, &self.stream) {
            // A socket that is closed already is what we want.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Marks the beginning (`Some`) or end of a statement.
    pub fn doing(&self, statement: Option<String>) {
        *locked(&self.statement) = statement;
        self.killed.store(false, Ordering::Release);
    }

    /// Whether the running statement was killed.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Waits for `time` or for [`Self::interrupt`]; whether it was interrupted.
    pub fn sleep(&self, time: Duration) -> bool {
        let guard = locked(&self.sleep);
        let waiting = self
            .woken
            .wait_timeout_while(guard, time, |()| !self.is_killed());
        drop(waiting);
        self.is_killed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_come_and_go_with_their_directory() {
        let catalog = Catalog::create("8").unwrap();
        catalog.create_database("a").unwrap();
        assert_eq!(catalog.create_database("a").unwrap_err().errno, 1007);
        let first = catalog.path("a");
        catalog.drop_database("a").unwrap();
        assert_eq!(catalog.drop_database("a").unwrap_err().errno, 1008);
        catalog.create_database("a").unwrap();
        assert_ne!(catalog.path("a"), first);
        let directory = catalog.directory.clone();
        assert!(directory.is_dir());
        drop(catalog);
        assert!(!directory.exists());
    }

    #[test]
    fn named_locks_belong_to_one_session() {
        let catalog = Catalog::create("8").unwrap();
        assert!(
            catalog.get_lock("l", 1, Duration::ZERO) && catalog.get_lock("l", 1, Duration::ZERO)
        );
        assert!(!catalog.get_lock("l", 2, Duration::ZERO));
        assert_eq!(catalog.release_lock("l", 2), Some(false));
        catalog.leave(1);
        assert_eq!(catalog.release_lock("l", 2), None);
    }
}
