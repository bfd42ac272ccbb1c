//! `ringgate load` where it cannot go on: it says so at once, with a reason, and hammers nobody.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringgate::load::result::RunResult;
use support::load::{SHORT, load};
use support::server::signal;
use support::{ACCOUNT, MariaDb, NullServer, PASSWORD};

/// Longer than any refusal takes on a busy machine, and shorter than what used to be waited.
const PROMPT: Duration = Duration::from_secs(8);

fn refuses(arguments: &[&str], code: i32, words: &[&str]) {
    let began = Instant::now();
    let (found, out, err) = load(arguments);
    assert!(
        began.elapsed() < PROMPT,
        "{arguments:?}: {:?}",
        began.elapsed()
    );
    assert_eq!(found, Some(code), "{arguments:?}: {out}{err}");
    for word in words {
        assert!(
            err.contains(word),
            "{word} is not said of {arguments:?}: {out}{err}"
        );
    }
}

/// Logins that the server has refused so far.
fn denied(server: &MariaDb) -> u32 {
    let text = server.sql("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'");
    text.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

#[test]
fn a_login_that_is_refused_ends_a_run_at_once_and_is_tried_as_often_as_there_are_connections() {
    let server = MariaDb::with_test_schema("");
    let at =
        |login: &str, schema: &str| format!("mysql://{login}@127.0.0.1:{}/{schema}", server.port());
    let before = denied(&server);
    let wrong = at("nobody:wrong", "test");
    refuses(
        &["-c", "8", "-d", "20s", "--target", &wrong],
        1,
        &["1045", "would be again"],
    );
    assert!(denied(&server) - before <= 8, "hammered");
    let account = format!("{ACCOUNT}:{PASSWORD}");
    refuses(
        &["-d", "20s", "--target", &at(&account, "missing")],
        1,
        &["1049", "missing"],
    );
    // Counted, by choice: each connection tries again after longer and longer pauses.
    let arguments = [
        "-c",
        "2",
        "-d",
        "3s",
        "-w",
        "0s",
        "-r",
        "20",
        "--timeout",
        "1s",
        "--count-refusals",
    ];
    let before = denied(&server);
    let (code, out, err) = load(&[&arguments[..], &["--target", &wrong]].concat());
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(
        out.contains("reconnects that failed ")
            && out.contains("the first `login`: ")
            && out.contains("1045"),
        "{out}"
    );
    assert!(!out.contains("0 µs"), "figures of nothing: {out}");
    assert!(denied(&server) - before <= 14, "hammered");
}

#[test]
fn nobody_at_the_port_ends_a_run_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    for scheme in ["mysql://u", "http://"] {
        let target = match scheme {
            "http://" => format!("http://127.0.0.1:{port}"),
            _ => format!("{scheme}@127.0.0.1:{port}/x"),
        };
        refuses(
            &["-d", "20s", "--target", &target],
            1,
            &["refused", &port.to_string()],
        );
    }
    // Somebody who never speaks first: nothing but time tells.
    let http = NullServer::start(&["http"]);
    let target = format!("mysql://u@127.0.0.1:{}/x", http.port());
    let began = Instant::now();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["load", "-d", "2s", "--target", &target])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    std::thread::sleep(Duration::from_secs(1));
    signal(run.id(), "TERM");
    let mut said = String::new();
    let mut stderr = run.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut said).expect("what it says");
    assert_eq!(run.wait().expect("its end").code(), Some(3), "{said}");
    assert!(
        said.contains("stopped before the first operation"),
        "{said}"
    );
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

#[test]
fn what_the_machine_cannot_give_is_said_before_anything_is_asked() {
    let server = NullServer::start(&["mysql"]);
    let target = format!("mysql://u@127.0.0.1:{}/x", server.port());
    let (code, out, err) = load(&["-c", "100000", "-d", "1s", "--target", &target]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(
        err.contains("100000 connections") && (err.contains("files") || err.contains("ports")),
        "{err}"
    );
}

#[test]
fn each_class_of_failure_has_its_first_message() {
    let server = MariaDb::with_test_schema("");
    let target = format!(
        "mysql://{ACCOUNT}:{PASSWORD}@127.0.0.1:{}/test",
        server.port()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let path = out.to_str().expect("a path");
    let nowhere = [
        "--sql",
        "SELECT * FROM nowhere",
        "--target",
        &target,
        "-o",
        path,
    ];
    let arguments = [SHORT, &nowhere].concat();
    let (code, text, err) = load(&arguments);
    assert_eq!(code, Some(3), "{text}{err}");
    assert!(
        text.contains("the first `server`: error 1146: ") && text.contains("nowhere"),
        "{text}"
    );
    let result = RunResult::read(Path::new(&out)).expect("a result");
    assert!(
        result.steps[0].groups[0].first_errors["server"].contains("1146"),
        "{result:?}"
    );
    // The directory holds a run now.
    refuses(&arguments, 64, &["result.json is there already", "--force"]);
    let (code, ..) = load(&[&arguments[..], &["--force"]].concat());
    assert_eq!(code, Some(3));
}

#[test]
fn what_means_nothing_is_refused() {
    let target = ["--target", "mysql://u@127.0.0.1:1/x"];
    let with = |more: &[&'static str]| [&target[..], more].concat();
    refuses(&with(&["-c", "0"]), 64, &["0"]);
    refuses(&with(&["--cores", "0"]), 64, &["0"]);
    refuses(&with(&["-d", "0s"]), 64, &["above 0"]);
    refuses(&with(&["--timeout", "0s"]), 64, &["above 0"]);
    refuses(&with(&["--force"]), 64, &["--out"]);
    let find = [
        "find",
        "--slo",
        "p99=1ms",
        "--target",
        "mysql://u@127.0.0.1:1/x",
    ];
    refuses(&[&find[..], &["--rate", "5"]].concat(), 64, &["--from"]);
    refuses(&[&find[..], &["--plain"]].concat(), 64, &["--plain"]);
    let limits = [
        ["--from", "0"],
        ["--from", "2e7"],
        ["--limit", "1e9"],
        ["--limit", "10"],
    ];
    for limit in limits {
        refuses(
            &[&find[..], &limit].concat(),
            64,
            &["--limit, which is 10000000"],
        );
    }
    let overhead = [
        "overhead",
        "--direct",
        "mysql://u@127.0.0.1:1/x",
        "--via",
        "mysql://u@127.0.0.1:2/x",
    ];
    refuses(&[&overhead[..], &target].concat(), 64, &["--direct"]);
    refuses(&[&overhead[..], &["-q"]].concat(), 64, &["--quiet"]);
}

#[test]
fn what_find_and_overhead_leave_is_reported() {
    let server = NullServer::start(&["mysql"]);
    let target = format!("mysql://u@127.0.0.1:{}/x", server.port());
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| {
        folder
            .path()
            .join(name)
            .to_str()
            .expect("a path")
            .to_owned()
    };
    let short = ["-d", "200ms", "-w", "100ms", "-c", "2"];
    let (tries, ways) = (at("tries"), at("ways"));
    let find = [
        "find", "--slo", "p50=1ns", "--from", "50", "--limit", "60", "--target", &target, "-o",
        &tries,
    ];
    let (code, out, err) = load(&[&find[..], &short].concat());
    assert!(matches!(code, Some(1 | 3)), "it holds nowhere: {out}{err}");
    let overhead = [
        "overhead", "--pairs", "2", "--direct", &target, "--via", &target, "-o", &ways,
    ];
    let (code, out, err) = load(&[&overhead[..], &short].concat());
    assert!(matches!(code, Some(0 | 3)), "{out}{err}");
    for directory in [&tries, &ways] {
        let page = at("page.html");
        let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["report", directory, "-o", &page])
            .output()
            .expect("the binary");
        assert_eq!(output.status.code(), Some(0), "{directory}: {output:?}");
        assert!(std::fs::metadata(&page).expect("a page").len() > 1_000);
    }
}
