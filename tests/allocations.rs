//! Counts what a core allocates while it runs pooled statements: nothing, once it is warm.

#![allow(
    unsafe_code,
    reason = "a global allocator can only be written with unsafe code"
)]
#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use ringgate::control::{Order, Serve, Serving};
use ringgate::door::life::core_main;
use support::{ACCOUNT, Client, Login, MariaDb, PASSWORD, free_port};

/// The thread whose allocations count; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn count() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched != 0 && rustix::thread::gettid().as_raw_nonzero().get() == watched {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated by `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the block was allocated by `System` with this layout.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of the thread that runs core 0.
fn core_thread() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the process's threads");
    let found = tasks.flatten().find(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "core-0")
    });
    let name = found.expect("a thread of core 0").file_name();
    name.to_string_lossy().parse().expect("a thread's number")
}

fn start(upstream: u16) -> (Serving, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        r#"version = 1
[cores]
count = 1
[listeners.main]
protocol = "mysql"
address = "{address}"
[admin]
address = "{admin}"
[placements.a]
endpoints = [{{ address = "127.0.0.1:{upstream}", role = "primary" }}]
upstream = {{ user = "{ACCOUNT}", password = {{ env = "UPSTREAM" }} }}
[tenants.t]
placement = "a"
schema = "test"
[users.app]
tenant = "t"
plugin = "mysql_native_password"
password = {{ env = "CLIENT" }}
"#
    );
    let env = |name: &str| match name {
        "UPSTREAM" => Some(PASSWORD.to_owned()),
        "CLIENT" => Some("client".to_owned()),
        _ => None,
    };
    let snapshot = ringgate::config::parse("test.toml", &text, &env).expect("a good configuration");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let on_ready = Box::new(move |serving| tell.send(serving).expect("a waiting test"));
        Serve {
            snapshot,
            load: None,
            main: core_main,
            signals: false,
            on_ready: Some(on_ready),
        }
        .run()
    });
    let serving = told
        .recv_timeout(Duration::from_secs(5))
        .expect("a node that serves");
    (serving, address)
}

/// Statements of a pass, and passes of each kind.
const PASS: u32 = 50;
const PASSES: u32 = 80;

/// Allocations of the core in each of [`PASSES`] passes, ascending.
fn counted(mut work: impl FnMut()) -> Vec<u64> {
    let pass = |_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (0..PASS).for_each(|_| work());
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let mut passes: Vec<u64> = (0..PASSES).map(pass).collect();
    passes.sort_unstable();
    passes
}

#[test]
fn a_warm_core_allocates_nothing_for_pooled_statements() {
    let server = MariaDb::with_test_schema(
        "CREATE TABLE test.points (id INT PRIMARY KEY, value VARCHAR(60));\n\
         INSERT INTO test.points SELECT seq, MD5(seq) FROM test.seq_1_to_100;",
    );
    let (serving, address) = start(server.port());
    for deprecate_eof in [true, false] {
        let mut client = Client::connect(&Login {
            port: address.port(),
            user: "app".to_owned(),
            password: "client".to_owned(),
            schema: "test".to_owned(),
            deprecate_eof,
        })
        .expect("a login");
        let eofs = if deprecate_eof { "no" } else { "legacy" };
        // Looking after its pools, parking and being scraped are a core's own and fall into some passes;
        // what a statement allocates would be in every one.
        for (kind, passes) in passes_of(&mut client) {
            eprintln!(
                "{kind}, {eofs} EOFs: allocations by {PASS} statements, {PASSES} passes: {passes:?}"
            );
            assert_eq!(
                passes.first(),
                Some(&0),
                "{kind}, {eofs} EOFs: each pass of {PASS} statements allocates: {passes:?}"
            );
        }
        drop(client.quit());
    }
    serving.order(Order::End);
}

/// The passes of one client by kind of statement, after as many to warm up.
fn passes_of(client: &mut Client) -> [(&'static str, Vec<u64>); 3] {
    let statement = client
        .prepare("SELECT value FROM points WHERE id = ?")
        .expect("prepared");
    let mut text = || {
        client
            .query("SELECT value FROM points WHERE id = 42")
            .expect("a row");
    };
    // Warm: buffers, tables and the statement's place on a connection are there.
    counted(&mut text);
    WATCHED.store(core_thread(), Ordering::Relaxed);
    let by_text = counted(text);
    let mut update = || {
        client
            .query("UPDATE points SET value = 'x' WHERE id = 7")
            .expect("an OK");
    };
    counted(&mut update);
    let by_update = counted(update);
    let mut prepared = || {
        client.execute(statement, &[b"42"]).expect("a row");
    };
    counted(&mut prepared);
    let by_prepared = counted(prepared);
    WATCHED.store(0, Ordering::Relaxed);
    [
        ("text", by_text),
        ("update", by_update),
        ("prepared", by_prepared),
    ]
}
