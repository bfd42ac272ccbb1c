//! A running shard: a listener, a thread for each connection, and what they share.

use super::catalog::{Catalog, SessionHandle, locked};
use super::connection::serve;
use super::error::SqlError;
use super::session::Session;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a shard is started.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and passwords of its users, who may all do everything.
    pub users: Vec<(String, String)>,
    /// The databases it begins with.
    pub databases: Vec<String>,
    /// What it calls itself.
    pub server_version: String,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            users: Vec::new(),
            databases: Vec::new(),
            server_version: "8.0.36-ringgate-sandbox".to_owned(),
        }
    }
}

/// A shard. Dropping it closes its connections, stops it and removes its data.
pub struct Shard {
    address: SocketAddr,
    catalog: Arc<Catalog>,
    connections: Arc<Connections>,
    acceptor: Option<JoinHandle<()>>,
}

/// The sockets and threads of the connections there are.
#[derive(Default)]
struct Connections {
    stopping: AtomicBool,
    sockets: Mutex<BTreeMap<u32, TcpStream>>,
    threads: Mutex<BTreeMap<u32, JoinHandle<()>>>,
}

impl Shard {
    /// Starts a shard.
    ///
    /// Errors: the address cannot be bound, the temporary directory not be made, a thread not be started;
    /// `InvalidInput` when a database is named twice.
    pub fn start(options: ShardOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen)?;
        let address = listener.local_addr()?;
        let catalog = Arc::new(Catalog::create(&options.server_version)?);
        for name in &options.databases {
            let made = catalog.create_database(name);
            made.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        }
        let connections = Arc::new(Connections::default());
        let (shared, mine) = (catalog.clone(), connections.clone());
        let users = Arc::new(options.users);
        let acceptor = std::thread::Builder::new()
            .name("sandbox-accept".to_owned())
            .spawn(move || accept_loop(&listener, &shared, &mine, &users))?;
        Ok(Self {
            address,
            catalog,
            connections,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients are logged in.
    pub fn sessions(&self) -> usize {
        self.catalog.sessions().len()
    }

    /// Runs statements without a connection, in `schema`: for seed data.
    ///
    /// Errors: the first statement's that fails.
    pub fn execute(&self, schema: &str, sql: &str) -> Result<(), SqlError> {
        let handle = Arc::new(SessionHandle::new(0, "seed", "localhost", None));
        let mut session = Session::new(self.catalog.clone(), handle);
        session.use_schema(schema)?;
        for statement in session.read(sql.as_bytes())? {
            session.run(&statement, sql.as_bytes(), &[])?;
        }
        session.commit()
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.connections.stopping.store(true, Ordering::Release);
        // The acceptor waits for a connection: this is one. When it fails, the acceptor has ended.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for session in self.catalog.sessions() {
            session.interrupt(true);
        }
        for socket in locked(&self.connections.sockets).values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut *locked(&self.connections.threads));
        for thread in threads.into_values() {
            // A thread that panicked has closed its connection all the same.
            let _ = thread.join();
        }
    }
}

fn accept_loop(
    listener: &TcpListener,
    catalog: &Arc<Catalog>,
    connections: &Arc<Connections>,
    users: &Arc<Vec<(String, String)>>,
) {
    let mut id = 0_u32;
    loop {
        let accepted = listener.accept();
        if connections.stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: others must close first.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        id = id.wrapping_add(1).max(1);
        let Ok(socket) = stream.try_clone() else {
            continue;
        };
        locked(&connections.sockets).insert(id, socket);
        let (catalog, mine, users) = (catalog.clone(), connections.clone(), users.clone());
        let thread = std::thread::Builder::new()
            .name(format!("sandbox-{id}"))
            .spawn(move || {
                // Whatever ended it, the client sees its connection close.
                let _ = serve(stream, id, &catalog, &users);
                locked(&mine.sockets).remove(&id);
                // Not there yet when the connection was very short: then the next sweep has it.
                locked(&mine.threads).remove(&id);
            });
        match thread {
            Ok(thread) => {
                let mut threads = locked(&connections.threads);
                threads.retain(|_, thread| !thread.is_finished());
                threads.insert(id, thread);
            }
            Err(_) => {
                locked(&connections.sockets).remove(&id);
            }
        }
    }
}
