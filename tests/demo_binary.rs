//! `ringgate demo`, run as a person runs it: it proves itself, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than a demo takes, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A demo whose temporary files go to `folder`.
fn demo(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end, and kills what does not end.
fn end(mut demo: Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = demo.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= until {
            demo.kill().unwrap();
            demo.wait().unwrap();
            panic!("the demo did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn assert_empty(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn check_tries_every_line_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), &["--check"]);
    let out = BufReader::new(demo.stdout.take().unwrap());
    let lines: Vec<String> = out.lines().map(Result::unwrap).collect();
    let report = lines.join("\n");
    assert!(end(demo).success(), "{report}");
    let passed = lines.iter().filter(|line| line.starts_with("ok ")).count();
    assert!(passed >= 6, "{report}");
    assert!(!report.contains("FAIL"), "{report}");
    assert_empty(folder.path());
}

#[test]
fn a_signal_ends_it_and_its_data() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let mut demo = demo(folder.path(), &[]);
        let mut out = BufReader::new(demo.stdout.take().unwrap()).lines();
        let printed = out.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("mysql ")));
        assert!(printed.is_some(), "{signal:?}: no line to try was printed");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_some());
        let pid = Pid::from_raw(i32::try_from(demo.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        assert_eq!(end(demo).code(), Some(0), "{signal:?}");
        assert_empty(folder.path());
    }
}
