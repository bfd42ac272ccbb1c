//! The generator in front of servers whose faults are known: what it reports must be what they did.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/fake_http.rs"]
mod fake_http;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fake_http::{BODY, FakeHttp, Faults};
use ringgate::load::result::{GroupResult, RunResult};

const MS: u64 = 1_000_000;

/// Runs a scenario; gives its result and how the process ended.
fn load(directory: &Path, text: &str) -> (RunResult, Output) {
    let file = directory.join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["load", "--quiet", "--out"])
        .arg(directory)
        .arg(&file)
        .output()
        .unwrap();
    let result = RunResult::read(directory).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (result, output)
}

/// A scenario with one group that asks the fake.
fn scenario(fake: &FakeHttp, arrivals: &str, more: &str, connections: u32) -> String {
    format!(
        "version = 1\nseed = 1\nwarmup = \"0s\"\nverify = true\n{more}\n\
         [targets.fake]\nurl = \"{}\"\n[arrivals]\n{arrivals}\n\
         [[groups]]\nconnections = {connections}\nexpect = {{ body = \"{}B\" }}\n",
        fake.url(),
        BODY.len()
    )
}

fn group(result: &RunResult) -> &GroupResult {
    &result.steps[0].groups[0]
}

fn errors(group: &GroupResult, class: &str) -> u64 {
    group.errors.get(class).copied().unwrap_or_default()
}

fn counted(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[test]
fn a_known_delay_is_in_every_answer() {
    let fake = FakeHttp::start(Faults {
        delay: Duration::from_millis(5),
        ..Faults::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let text = scenario(
        &fake,
        "kind = \"constant\"\nrate = 200",
        "duration = \"2s\"",
        16,
    );
    let (result, _) = load(directory.path(), &text);
    let group = group(&result);
    assert_eq!(group.planned, 400);
    assert_eq!(group.completed, 400);
    assert_eq!(counted(&fake.counts.requests), 400);
    for (name, latencies) in [("service", &group.service), ("response", &group.response)] {
        assert_eq!(latencies.count, 400, "{name}");
        // The histogram's three digits may round down by a thousandth.
        assert!(
            latencies.min_ns >= 5 * MS - MS / 100,
            "{name}: {}",
            latencies.min_ns
        );
        assert!(latencies.p50_ns < 25 * MS, "{name}: {}", latencies.p50_ns);
    }
}

#[test]
fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() {
    let stall = Faults {
        stall: Some((Duration::from_millis(800), Duration::from_millis(100))),
        ..Faults::default()
    };
    let run = |arrivals: &str, connections| {
        let fake = FakeHttp::start(stall.clone());
        let directory = tempfile::tempdir().unwrap();
        let text = scenario(&fake, arrivals, "duration = \"2s\"", connections);
        let (result, _) = load(directory.path(), &text);
        group(&result).clone()
    };
    let open = run("kind = \"constant\"\nrate = 1000", 4);
    // 100 of 2,000 arrive in the stall and wait for what is left of it.
    assert!(open.response.p999_ns > 90 * MS, "{}", open.response.p999_ns);
    assert!(open.response.p99_ns > 60 * MS, "{}", open.response.p99_ns);
    // The four connections see one long answer each: from their sends alone it nearly hides.
    assert!(open.service.p99_ns < 50 * MS, "{}", open.service.p99_ns);
    let closed = run("kind = \"closed\"", 1);
    assert!(
        closed.response.max_ns > 90 * MS,
        "{}",
        closed.response.max_ns
    );
    assert!(
        closed.response.p99_ns < 50 * MS,
        "{}",
        closed.response.p99_ns
    );
    assert!(closed.completed > 200, "{}", closed.completed);
}

#[test]
fn drops_lies_and_refusals_are_counted_one_by_one() {
    let fake = FakeHttp::start(Faults {
        drop_every: 10,
        lie_every: 7,
        refuse_every: 13,
        ..Faults::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let text = scenario(
        &fake,
        "kind = \"constant\"\nrate = 500",
        "duration = \"2s\"",
        8,
    );
    let (result, output) = load(directory.path(), &text);
    let group = group(&result);
    assert_eq!(errors(group, "reset"), counted(&fake.counts.dropped));
    assert_eq!(errors(group, "refused"), counted(&fake.counts.refused));
    assert_eq!(group.wrong, counted(&fake.counts.lied));
    assert!(group.wrong > 50 && errors(group, "reset") > 50, "{group:?}");
    let failed: u64 = group.errors.values().sum();
    assert_eq!(group.sent, group.completed + group.wrong + failed);
    assert_eq!(group.response.count, group.completed + group.wrong);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("reset") && text.contains("wrong answers"),
        "{text}"
    );
}

#[test]
fn a_timeout_is_in_the_histogram_with_the_time_waited() {
    let fake = FakeHttp::start(Faults {
        silence_every: 50,
        ..Faults::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let more = "duration = \"2s\"\ntimeout = \"300ms\"";
    let text = scenario(&fake, "kind = \"constant\"\nrate = 200", more, 16);
    let (result, _) = load(directory.path(), &text);
    let group = group(&result);
    let silent = counted(&fake.counts.silenced);
    assert!(silent >= 5, "{silent}");
    assert_eq!(errors(group, "timeout"), silent);
    assert_eq!(group.response.count, group.completed + silent);
    assert_eq!(group.service.count, group.completed);
    assert!(
        group.response.max_ns >= 300 * MS - MS,
        "{}",
        group.response.max_ns
    );
    assert!(
        group.response.p50_ns < 100 * MS,
        "{}",
        group.response.p50_ns
    );
}

#[test]
fn a_rate_that_the_connections_cannot_carry_is_no_valid_run() {
    let fake = FakeHttp::start(Faults {
        delay: Duration::from_millis(20),
        ..Faults::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let more = "duration = \"1s\"\ntimeout = \"200ms\"";
    let text = scenario(&fake, "kind = \"constant\"\nrate = 500", more, 1);
    let (result, output) = load(directory.path(), &text);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!result.validity.valid);
    let reasons = result.validity.reasons.concat();
    assert!(
        reasons.contains("planned operations were sent"),
        "{reasons}"
    );
    let group = group(&result);
    assert_eq!(group.planned, 500);
    let timeouts = errors(group, "timeout");
    assert_eq!(
        group.completed + timeouts + group.withdrawn,
        500,
        "{group:?}"
    );
    assert!(timeouts >= 300 && group.withdrawn <= 120, "{group:?}");
    assert!(
        group.response.max_ns < 400 * MS,
        "nobody waits longer: {group:?}"
    );
    // Whoever found no connection in time has waited for as long as anybody would.
    assert_eq!(group.response.count, group.planned, "{group:?}");
    assert!(
        group.response.p50_ns >= 199 * MS,
        "{}",
        group.response.p50_ns
    );
}

/// One connection that can ask five times a second.
fn slow() -> FakeHttp {
    FakeHttp::start(Faults {
        delay: Duration::from_millis(200),
        ..Faults::default()
    })
}

#[test]
fn what_is_answered_after_the_window_is_in_no_rate() {
    let fake = slow();
    let directory = tempfile::tempdir().unwrap();
    let more = "duration = \"1s\"\ntimeout = \"30s\"";
    let text = scenario(&fake, "kind = \"constant\"\nrate = 40", more, 1);
    let (result, output) = load(directory.path(), &text);
    let group = group(&result);
    assert!(result.steps[0].overloaded, "{group:?}");
    assert_eq!(group.planned, 40);
    // All but the one that was under way are taken back.
    assert_eq!(group.completed + group.withdrawn, 40, "{group:?}");
    assert!(result.steps[0].achieved_rate() <= 5.0, "{group:?}");
    assert!(group.completed_in_step >= Some(1), "{group:?}");
    // And the 39 or so that it had no time for are the backlog.
    assert_eq!(group.backlog, group.withdrawn, "{group:?}");
    assert!(group.backlog >= 30, "{group:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = format!("backlog at the end: {} operations", group.backlog);
    assert!(text.contains(&told), "{text}");
}

#[test]
fn a_step_begins_with_nothing_of_the_one_before() {
    let fake = slow();
    let directory = tempfile::tempdir().unwrap();
    let text = scenario(
        &fake,
        "kind = \"steps\"\nrates = [20, 2]",
        "duration = \"2s\"",
        1,
    )
    .replace("warmup = \"0s\"", "warmup = \"600ms\"");
    let (result, _) = load(directory.path(), &text);
    let [first, second] = &result.steps[..] else {
        panic!("{:?}", result.steps)
    };
    assert!(first.overloaded && !second.overloaded);
    assert!(first.groups[0].backlog >= 20, "{:?}", first.groups[0]);
    let second = &second.groups[0];
    assert_eq!((second.planned, second.completed), (4, 4), "{second:?}");
    // Not a second of what the first one left.
    assert!(second.response.max_ns < 900 * MS, "{second:?}");
    assert_eq!((second.backlog, second.withdrawn), (0, 0), "{second:?}");
}

#[test]
fn a_step_is_judged_alike_wherever_it_stands() {
    let fake = slow();
    let verdict = |rates: &str| {
        let directory = tempfile::tempdir().unwrap();
        let arrivals = format!("kind = \"steps\"\nrates = {rates}");
        let more = "duration = \"1s\"\ntimeout = \"10s\"\n[slo]\np99 = \"5s\"";
        let (_, output) = load(directory.path(), &scenario(&fake, &arrivals, more, 2));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("objective"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let first = verdict("[50, 5]");
    assert!(
        first.ends_with("broken at 50.0/s; held at 5.0/s"),
        "{first}"
    );
    assert_eq!(first, verdict("[5, 50]"));
}

#[test]
fn a_run_that_ends_early_has_the_rates_of_its_time() {
    let server = FakeHttp::start(Faults::default());
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args([
            "load", "-w", "0s", "-d", "60s", "-r", "100", "--slo", "p99=1h",
        ])
        .args(["--target", &server.url(), "--out"])
        .arg(directory.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A line for each second.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun: Vec<_> = lines.by_ref().take(2).map_while(Result::ok).collect();
    assert_eq!(begun.len(), 2, "{begun:?}");
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let text = lines.map_while(Result::ok).collect::<Vec<_>>().join("\n");
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(!text.contains("objective"), "nothing is judged: {text}");
    let result = RunResult::read(directory.path()).unwrap();
    let step = &result.steps[0];
    assert!(step.seconds < 30.0, "{}", step.seconds);
    assert!((50.0..=110.0).contains(&step.achieved_rate()), "{step:?}");
}

#[test]
fn a_rate_beyond_all_means_ends_when_its_time_is_over() {
    let server = FakeHttp::start(Faults::default());
    let run = |rate: &str| {
        let began = std::time::Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args([
                "load",
                "--quiet",
                "-w",
                "0s",
                "-d",
                "1s",
                "--timeout",
                "1s",
                "-r",
                rate,
            ])
            .args(["--target", &server.url()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text, began.elapsed())
    };
    let (code, text, took) = run("5000000");
    assert_eq!(code, Some(3), "{text}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let (code, text, _) = run("1e300");
    assert!(
        code == Some(64) && text.contains("10000000 at most"),
        "{text}"
    );
}

#[test]
fn steps_are_shown_by_rate_each_group_with_its_own_part_and_the_objective_judged() {
    let fake = slow();
    let directory = tempfile::tempdir().unwrap();
    let group = |name: &str, weight| {
        format!("[[groups]]\nname = \"{name}\"\nweight = {weight}\nconnections = 8\n")
    };
    let text = format!(
        "version = 1\nseed = 1\nwarmup = \"0s\"\nduration = \"1s\"\n[targets.fake]\nurl = \"{}\"\n\
         [arrivals]\nkind = \"steps\"\nrates = [200, 20]\n{}{}",
        fake.url(),
        group("most", 3),
        group("few", 1)
    );
    let file = directory.path().join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    let run = |slo: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["load", "--quiet", "--slo", slo])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = run("p50=900ms");
    let is_row = |line: &&str| line.starts_with("most") || line.starts_with("few");
    let offered = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    let offered: Vec<f64> = text.lines().filter(is_row).map(offered).collect();
    assert_eq!(offered.len(), 4, "{text}");
    assert_eq!((offered[0] + offered[1]).round(), 20.0, "{text}");
    assert_eq!((offered[2] + offered[3]).round(), 200.0, "{text}");
    assert!(offered[3] < 80.0, "a quarter or so: {text}");
    let verdict = "objective p50 ≤ 900 ms, failures ≤ 0.1 %: broken at 200/s; held at 20.0/s";
    assert!(text.contains(verdict), "{text}");
    // Its first step is valid, so the run is: broken, and not invalid.
    assert_eq!(code, Some(4), "{text}");
    // No objective holds where a step is overloaded.
    let (code, text) = run("p50=3600s,errors=1");
    assert_eq!(code, Some(4), "{text}");
    let lower = std::fs::read_to_string(&file)
        .unwrap()
        .replace("[200, 20]", "[20]");
    std::fs::write(&file, lower).unwrap();
    let (code, text) = run("p50=3600s");
    assert!(
        matches!(code, Some(0 | 3)) && text.contains(": held at 20.0/s"),
        "{text}"
    );
    let (code, _) = run("p50=fast");
    assert_eq!(code, Some(64));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["load", "-d", "1s", "--target"])
        .arg(format!("http://{closed}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains(&closed.to_string()) && text.contains("refused"),
        "{text}"
    );
}
