//! `ringgate load` as a program: how a run is ended early, and what it leaves.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use ringgate::load::result::RunResult;
use support::NullServer;
use support::server::signal;

/// Starts a run of ten minutes with its output in a pipe, and interrupts it after its first line.
fn interrupt(name: &str, port: u16, out: &Path) -> (Option<i32>, String) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["load", "--target"])
        .arg(format!("mysql://anyone@127.0.0.1:{port}/x"))
        .args(["--rate", "200", "--warmup", "0s", "--duration", "10m"])
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut output = BufReader::new(run.stdout.take().expect("a pipe"));
    let mut text = String::new();
    output.read_line(&mut text).expect("a line");
    signal(run.id(), name);
    output.read_to_string(&mut text).expect("the rest");
    (run.wait().expect("its end").code(), text)
}

#[test]
fn an_interrupted_run_ends_cleanly_and_says_that_it_was_stopped() {
    for name in ["INT", "TERM"] {
        let server = NullServer::start(&["mysql"]);
        let out = tempfile::tempdir().expect("a folder");
        let (code, text) = interrupt(name, server.port(), out.path());
        assert_eq!(code, Some(3), "{text}");
        assert!(text.starts_with("     1 s  offered 200/s  done "), "{text}");
        assert!(text.contains("INVALID: stopped before its end"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        let result = RunResult::read(out.path()).expect("a result");
        let reasons = &result.validity.reasons;
        assert!(!result.validity.valid && reasons.contains(&"stopped before its end".to_owned()));
        assert!(result.completed() > 0);
        for file in ["latency.hlog", "latency.hgrm", "series.ndjson"] {
            let length = out.path().join(file).metadata().expect(file).len();
            assert!(length > 0, "{file} is empty");
        }
        // Its callers said goodbye: the server has nothing left open.
        server.stop("TERM");
    }
}

#[test]
fn a_spin_is_a_length_of_time_or_measured() {
    let run = |spin: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args([
                "load",
                "--target",
                "http://127.0.0.1:1",
                "-d",
                "1s",
                "--spin",
                spin,
            ])
            .output()
            .expect("the binary");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    for spin in ["11ms", "fast", "3"] {
        let (code, text) = run(spin);
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains("write \"auto\""), "{text}");
    }
}
