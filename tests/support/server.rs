//! A server of a test's own, made in well under a second from a prepared data folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::{ACCOUNT, Client, ClientError, Login, PASSWORD, free_port, mariadb, mysql, wait_for};

/// How long a server may take to accept connections; generous, because test machines are shared.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB, installed on the machine.
    MariaDb,
    /// MySQL, in the build folder.
    MySql,
}

impl Kind {
    /// The program, with what makes it throw away nothing but its data and reach nothing but loopback.
    fn command(self) -> Command {
        match self {
            Self::MariaDb => mariadb::command(),
            Self::MySql => mysql::command(),
        }
    }

    /// The statement that makes an account, unless there is one.
    fn account_sql(self) -> String {
        match self {
            Self::MariaDb => mariadb::account_sql(),
            Self::MySql => mysql::account_sql(),
        }
    }

    /// Makes the data folder of a server that has never run; the program's output if it fails.
    fn install(self, data: &Path) -> std::io::Result<Output> {
        match self {
            Self::MariaDb => mariadb::install(data),
            Self::MySql => mysql::install(data),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

/// What a server is started with beyond the defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments, for example `--wait-timeout=1`.
    pub arguments: Vec<String>,
    /// SQL run at each start, with all privileges. One statement a line.
    pub init_sql: String,
}

impl Options {
    /// A schema `test` and further SQL, one statement a line.
    pub fn with_test_schema(sql: &str) -> Self {
        Self {
            init_sql: format!("CREATE DATABASE IF NOT EXISTS test;\n{sql}"),
            ..Self::default()
        }
    }
}

/// A running server. Dropping it kills the process and removes its data.
pub struct Server {
    kind: Kind,
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    options: Options,
}

impl Server {
    /// Starts a MariaDB server on a free loopback port and waits until it answers.
    ///
    /// Accounts: [`ACCOUNT`] from any host, and `root` through [`Server::sql`]. Panics with the
    /// server's log when it does not start, and names the package when it is not installed.
    pub fn start(options: Options) -> Self {
        Self::of(Kind::MariaDb, options)
    }

    /// Starts a MySQL server in the same way. `None` where `scripts/setup` could not get one; this is
    /// said on standard error, however the test ends.
    pub fn mysql(options: Options) -> Option<Self> {
        mysql::is_there().then(|| Self::of(Kind::MySql, options))
    }

    fn of(kind: Kind, options: Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-", kind.name()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary folder");
        copy_folder(&template(kind), &folder.path().join("data"));
        let (process, port) = spawn(kind, folder.path(), None, &options);
        let server = Self {
            kind,
            process,
            folder,
            port,
            options,
        };
        server.know_account();
        server
    }

    /// MySQL asks for the password itself at an account's first login. Over its socket file it gets it,
    /// and answers all later ones by what it remembers: what FLUSH PRIVILEGES makes it forget.
    fn know_account(&self) {
        if self.kind == Kind::MySql {
            let password = format!("--password={PASSWORD}");
            self.shell(&["--user", ACCOUNT, &password], "DO 0")
                .expect("a login of the account");
        }
    }

    /// Starts a MariaDB server with a schema `test` and further SQL, one statement a line.
    pub fn with_test_schema(sql: &str) -> Self {
        Self::start(Options::with_test_schema(sql))
    }

    /// Whose server it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Waits until a statement that contains `text` runs on this server; false after `limit`.
    pub fn runs(&self, text: &str, limit: Duration) -> bool {
        let count = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
             WHERE INFO LIKE '%{text}%' AND ID <> CONNECTION_ID()"
        );
        wait_for(limit, || self.sql(&count).trim() != "0")
    }

    /// The TCP port on 127.0.0.1. It stays the same over [`Server::restart`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs SQL as `root` over the server's socket file; rows come back as lines of tab-separated
    /// values without a head. Panics with the client's words when a statement fails.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Like [`Server::sql`], with the client's words as the error.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.shell(&["--user=root"], sql)
    }

    fn shell(&self, account: &[&str], sql: &str) -> Result<String, String> {
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names"])
            .args(account)
            .arg(format!("--socket={}", socket(self.folder.path()).display()))
            .args(["--execute", sql])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run the mariadb shell ({error}): scripts/setup"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A client on the server itself, as [`ACCOUNT`], in no schema.
    pub fn client(&self) -> Client {
        self.try_client().expect("a login")
    }

    /// Likewise, if it gets in.
    pub fn try_client(&self) -> Result<Client, ClientError> {
        let login = Login {
            port: self.port,
            user: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            schema: String::new(),
            deprecate_eof: true,
        };
        Client::connect(&login)
    }

    /// Runs statements one by one, bodies of stored programs included.
    pub fn run(&self, statements: &[String]) {
        let mut client = self.client();
        for sql in statements {
            client
                .query(sql)
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    /// A status counter of the server, for example `Threads_connected`.
    pub fn status(&self, name: &str) -> u64 {
        let line = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        let value = line
            .split_whitespace()
            .nth(1)
            .and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no status variable {name}: {line:?}"))
    }

    /// Connections open now, without the one that asks.
    pub fn connections(&self) -> u64 {
        self.status("Threads_connected").saturating_sub(1)
    }

    /// Connections open now as `user`.
    pub fn connections_of(&self, user: &str) -> u64 {
        let count = self.sql(&format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{user}'"
        ));
        count.trim().parse().expect("a count")
    }

    /// Forgets the high-water mark that [`Server::connections_peak`] reads.
    pub fn reset_status(&self) {
        self.sql("FLUSH STATUS");
    }

    /// The most connections open at once since start or [`Server::reset_status`], those of
    /// [`Server::sql`] included.
    pub fn connections_peak(&self) -> u64 {
        self.status("Max_used_connections")
    }

    /// Ends the process at once, as a power cut would. [`Server::restart`] brings it back.
    pub fn kill9(&mut self) {
        // An error says that it has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Kills the server if it runs and starts it again on the same data and port.
    pub fn restart(&mut self) {
        self.kill9();
        let (process, _) = spawn(
            self.kind,
            self.folder.path(),
            Some(self.port),
            &self.options,
        );
        self.process = process;
        self.know_account();
    }

    /// Stops the process without ending it: connections stay open and nothing answers.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
        // A thread that runs on another CPU stops a moment later, and may answer until then.
        let is_stopped = super::wait_for(Duration::from_secs(10), || all_stopped(self.pid()));
        assert!(is_stopped, "the server does not stop");
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Sends a signal by name to a process this test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "kill -{name} {pid}"
    );
}

/// Whether every thread of the process is stopped (state `T` of proc(5)).
fn all_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name before it may hold anything.
        let after = stat.rsplit_once(')').map(|(_, after)| after.trim_start());
        after.is_none_or(|after| after.starts_with('T'))
    })
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// Starts the program on `folder/data`. Without a port it takes a free one, and another one should
/// somebody else have been quicker.
fn spawn(kind: Kind, folder: &Path, port: Option<u16>, options: &Options) -> (Child, u16) {
    let name = kind.name();
    for _ in 0..5 {
        let chosen = port.unwrap_or_else(free_port);
        let mut process = command(kind, folder, chosen, options)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({error}): run scripts/setup"));
        if wait_until_ready(&mut process, folder) {
            return (process, chosen);
        }
        let _ = process.kill();
        let _ = process.wait();
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        let port_taken = log.contains("Address already in use");
        assert!(port_taken && port.is_none(), "{name} did not start:\n{log}");
    }
    panic!("no loopback port stayed free long enough to start {name}");
}

fn command(kind: Kind, folder: &Path, port: u16, options: &Options) -> Command {
    let init = folder.join("init.sql");
    let account = kind.account_sql();
    let account = format!(
        "{account};\n\
         GRANT ALL PRIVILEGES ON *.* TO '{ACCOUNT}'@'%' WITH GRANT OPTION;\n{}\n",
        options.init_sql
    );
    fs::write(&init, account).expect("a writable temporary folder");
    let log = File::create(folder.join("log")).expect("a writable temporary folder");
    let mut command = kind.command();
    command
        .arg(format!("--datadir={}", folder.join("data").display()))
        // A server clears its temporary folder when it starts: not one that others use.
        .arg(format!("--tmpdir={}", folder.display()))
        .arg(format!("--socket={}", socket(folder).display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .arg(format!("--init-file={}", init.display()))
        .arg(format!("--port={port}"))
        .args(ARGUMENTS)
        .args(&options.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log);
    command
}

/// Small and quick: the data is thrown away, so nothing needs to reach a disk.
const ARGUMENTS: &[&str] = &[
    "--user=root",
    "--bind-address=127.0.0.1",
    "--skip-networking=0",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=0",
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--max-connections=1000",
    "--max-allowed-packet=128M",
    "--character-set-server=utf8mb4",
    "--local-infile=1",
];

fn wait_until_ready(process: &mut Child, folder: &Path) -> bool {
    let mut ended = false;
    let ready = wait_for(START_LIMIT, || {
        ended = !matches!(process.try_wait(), Ok(None));
        ended || is_ready(folder)
    });
    ready && !ended
}

/// The init file has run before the server opens its sockets, so the accounts exist by then.
fn is_ready(folder: &Path) -> bool {
    fs::read_to_string(folder.join("log")).is_ok_and(|log| log.contains("ready for connections"))
}

/// The data folder every server of a kind starts from: made once per build folder, under a file lock,
/// because test programs run at the same time.
fn template(kind: Kind) -> PathBuf {
    let name = kind.name();
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(tmp).expect("a writable build folder");
    let lock =
        File::create(tmp.join(format!("{name}-template.lock"))).expect("a writable build folder");
    lock.lock().expect("a file system with locks");
    let ready = tmp.join(format!("{name}-template"));
    if !ready.exists() {
        let unfinished = tmp.join(format!("{name}-template.unfinished"));
        let _ = fs::remove_dir_all(&unfinished);
        install(kind, &unfinished);
        fs::rename(&unfinished, &ready).expect("a writable build folder");
    }
    ready
}

fn install(kind: Kind, data: &Path) {
    let name = kind.name();
    let output = kind
        .install(data)
        .unwrap_or_else(|error| panic!("cannot make {name}'s data ({error}): scripts/setup"));
    assert!(
        output.status.success(),
        "{name}'s data was not made:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable temporary folder");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("room for a copy");
        }
    }
}
