//! `ringgate load` by its flags: what they replace of a scenario file, and what programs read of a run.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use ringgate::load::result::RunResult;
use support::load::{SHORT, load};
use support::{ACCOUNT, MariaDb, NullServer, PASSWORD};

const SCENARIO: &str = "seed = 1\nwarmup = \"1h\"\nduration = \"1h\"\n[targets.db]\n\
    url = \"mysql://u@127.0.0.1:1/x\"\n[arrivals]\nkind = \"constant\"\nrate = 50\n\
    [[groups]]\nname = \"one\"\nconnections = 2\noperation = \"text\"\nsql = \"SELECT 1\"\n";

#[test]
fn a_scenario_file_runs_against_another_target_for_another_time() {
    let server = NullServer::start(&["mysql"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scenario.toml");
    std::fs::write(&file, SCENARIO).expect("a file");
    let file = file.to_str().expect("a path");
    let target = format!("mysql://u@127.0.0.1:{}/x", server.port());
    let (code, text, err) = load(&[
        file, "--target", &target, "-w", "0s", "-d", "1s", "--json", "-",
    ]);
    assert!(matches!(code, Some(0 | 3)), "{text}{err}");
    // Nothing but the object is on standard output.
    let result: RunResult = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(text.lines().count(), 1);
    assert_eq!(result.steps.len(), 1);
    let group = &result.steps[0].groups[0];
    assert_eq!(
        (group.name.as_str(), group.planned, group.completed),
        ("one", 50, 50)
    );
    for (more, expect) in [
        (&["-c", "3"][..], "--connections"),
        (&["--sql", "SELECT 2"], "--sql"),
        (&["--rate", "5"], "--rate"),
        (&["-d", "0s"], "above 0"),
        (&["--target", "http://127.0.0.1:1"], "speaks mysql"),
    ] {
        let (code, _, text) = load(&[&[file][..], more].concat());
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains(expect), "{expect} in {text}");
    }
}

#[test]
fn a_password_may_come_from_the_environment() {
    let server = MariaDb::with_test_schema("");
    let target = format!("mysql://{ACCOUNT}@127.0.0.1:{}/test", server.port());
    let run = |variable: &str| {
        load(&[&["--target", &target, "--password-env", variable], SHORT].concat())
    };
    let (code, out, err) = run("RG_LOAD_PASSWORD");
    // A run on a busy machine may be invalid.
    assert!(
        matches!(code, Some(0 | 3)) && !out.contains("failures: "),
        "{out}{err}"
    );
    let (code, _, err) = run("RG_NO_SUCH_VARIABLE");
    assert_eq!(code, Some(64), "{err}");
    assert!(
        err.contains("there is no variable RG_NO_SUCH_VARIABLE"),
        "{err}"
    );
}

#[test]
fn a_unix_socket_is_a_target() {
    let server = MariaDb::with_test_schema("");
    let socket = server.sql("SELECT @@socket");
    let target = format!(
        "mysql://{ACCOUNT}:{PASSWORD}@localhost/test?socket={}",
        socket.trim()
    );
    let prepared = ["--target", &target, "--operation", "prepared"];
    let (code, out, err) = load(&[SHORT, &prepared].concat());
    assert!(
        matches!(code, Some(0 | 3)) && !out.contains("failures: "),
        "{out}{err}"
    );
    let nowhere = ["--target", "mysql://u@localhost/x?socket=/nowhere/at.all"];
    let (code, _, err) = load(&[SHORT, &nowhere].concat());
    assert!(code == Some(1) && err.contains("/nowhere/at.all"), "{err}");
}

#[test]
fn each_step_has_what_the_process_under_test_used_in_it() {
    let server = NullServer::start(&["mysql"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scenario.toml");
    let target = format!("mysql://u@127.0.0.1:{}/x", server.port());
    let steps = SCENARIO
        .replace(
            "kind = \"constant\"\nrate = 50",
            "kind = \"steps\"\nrates = [50, 800]",
        )
        .replace("connections = 2", "connections = 8");
    std::fs::write(&file, steps).expect("a file");
    let file = file.to_str().expect("a path");
    let pid = server.pid().to_string();
    let arguments = [
        "-w", "200ms", "-d", "1s", "--json", "-", "--target", &target, "--pid", &pid,
    ];
    let (_, text, _) = load(&[&[file][..], &arguments].concat());
    let result: RunResult = serde_json::from_str(&text).expect("a result");
    let used: Vec<u64> = result
        .steps
        .iter()
        .map(|step| step.process.as_ref().expect("read").cpu_us)
        .collect();
    assert!(used[0] > 0 && used[1] > used[0], "{used:?}");
    let whole = result.process.expect("the sum");
    assert!(
        whole.cpu_us.abs_diff(used.iter().sum()) <= 1,
        "{} of {used:?}",
        whole.cpu_us
    );
    assert!(whole.cpu_us_per_operation > 0.0);
}
