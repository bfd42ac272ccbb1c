//! The live view of a load run: what is in its cells, and that the terminal is given back.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use ringgate::load::dashboard::{Dashboard, Meter, Sample};
use ringgate::load::record::{Failure, Record};
use ringgate::load::result::RunResult;
use ringgate::load::scenario::Scenario;
use ringgate::load::scenario_file::parse;
use ringgate::load::screen::Screen;
use ringgate::load::series::Tick;
use support::NullServer;
use support::server::signal;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// Two steps of ten seconds, with two seconds of warm-up each.
const STEPS: &str = r#"
warmup = "2s"
duration = "10s"
cores = 3
[targets.db]
url = "mysql://app@127.0.0.1:3306/shop"
[arrivals]
kind = "steps"
rates = [1000, 2000]
[slo]
p99 = "2ms"
[[groups]]
operation = "ping"
"#;

fn scenario(text: &str) -> Scenario {
    parse("scenario.toml", text, 1, &|_| None).expect("a scenario")
}

/// An interval in which 1,000 operations took `response_ns`, by three cores.
fn tick(second: u32, response_ns: u64) -> Tick {
    let mut record = Record {
        planned: 1000,
        sent: 1000,
        completed: 1000,
        ..Record::default()
    };
    for _ in 0..1000 {
        record.response.record(response_ns);
        record.own_lag.record(20_000);
    }
    Tick {
        began_s: second.into(),
        seconds: 1.0,
        offered_rate: Some(1000.0),
        counts: second % 12 >= 2,
        groups: vec![record],
        connections: 16,
        backlog: 7,
        by_core: vec![500, 250, 250],
    }
}

fn screen(dashboard: &Dashboard, elapsed_s: Option<f64>, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let draw = |frame: &mut ratatui::Frame<'_>| dashboard.draw(frame, elapsed_s);
    terminal.draw(draw).expect("a frame");
    terminal.backend().clone()
}

fn text(screen: &TestBackend) -> String {
    let buffer = screen.buffer();
    let rows = buffer.content.chunks(buffer.area.width.into());
    let row = |cells: &[ratatui::buffer::Cell]| -> String {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned() + "\n"
    };
    rows.map(row).collect()
}

fn has_all(screen: &str, words: &[&str]) {
    for word in words {
        assert!(screen.contains(word), "no `{word}` in\n{screen}");
    }
}

#[test]
fn every_figure_of_the_last_second_is_in_its_place() {
    let scenario = scenario(STEPS);
    let (mut meter, mut view) = (Meter::new(&scenario), Dashboard::new(&scenario, "x", true));
    for second in 2..5 {
        view.add(meter.sample(&tick(second, 1_000_000 + u64::from(second))));
    }
    let shown = screen(&view, Some(5.2), 80, 24);
    let shown = text(&shown);
    let lines: Vec<&str> = shown.lines().collect();
    let line = |number: usize| lines.get(number).copied().unwrap_or_default();
    assert_eq!(line(0), "ringgate load · x   step 1 of 2");
    assert!(line(1).starts_with("5 s of 24 s ━"), "{shown}");
    assert_eq!(
        line(2),
        "offered 1000/s   achieved 1000/s   backlog 7   connections 16"
    );
    assert_eq!(line(3), "own lag p99 20 µs of 100 µs allowed  ● in time");
    assert_eq!(line(4), "p99 ≤ 2.00 ms, failures ≤ 0.1 %  ● kept");
    assert!(line(5).starts_with("response time──"), "{shown}");
    has_all(
        &shown,
        &["p50     1.00 ms", "p99     1.00 ms", "p99.9   1.00 ms  ███"],
    );
    has_all(&shown, &["failures: last second, in all", "none"]);
    let bar = |rate: &str, width: usize| format!("{rate:>9} {}\n", "█".repeat(width));
    has_all(
        &shown,
        &[&bar("500.0", 22).replace("500.0", "500"), &bar("250", 11)],
    );
    assert_eq!(
        line(23),
        "q or Ctrl-C ends the run; what was measured is kept"
    );
}

#[test]
fn lights_and_failures_say_what_is_wrong() {
    let scenario = scenario(STEPS);
    let (mut meter, mut view) = (Meter::new(&scenario), Dashboard::new(&scenario, "x", true));
    let mut late = tick(3, 5_000_000);
    for record in &mut late.groups {
        (0..3).for_each(|_| record.fail(Failure::Timeout));
        record.wrong = 2;
        (0..50).for_each(|_| record.own_lag.record(900_000));
    }
    view.add(meter.sample(&late));
    view.add(meter.sample(&late));
    let shown = text(&screen(&view, Some(4.0), 80, 24));
    has_all(&shown, &["of 250 µs allowed  ● LATE", "● BROKEN"]);
    has_all(&shown, &["timeout           3          6"]);
    has_all(&shown, &["wrong             2          4"]);
    assert!(!shown.contains("none"), "{shown}");
}

/// A broken step says nothing of the next one, and a warm-up is not judged.
#[test]
fn an_objective_is_judged_step_by_step() {
    let scenario = scenario(STEPS);
    let mut meter = Meter::new(&scenario);
    let mut kept = |second, response| meter.sample(&tick(second, response)).slo_kept;
    assert_eq!(kept(1, 9_000_000), None);
    assert_eq!(kept(2, 9_000_000), Some(false));
    assert_eq!(kept(3, 1_000), Some(false), "1,000 of 2,000 were slow");
    assert_eq!(kept(12, 9_000_000), None);
    assert_eq!(kept(14, 1_000), Some(true));
    let without = self::scenario(&STEPS.replace("[slo]\np99 = \"2ms\"", ""));
    assert_eq!(Meter::new(&without).sample(&tick(3, 1_000)).slo_kept, None);
    let view = Dashboard::new(&without, "x", true);
    assert!(!text(&screen(&view, None, 80, 24)).contains("kept,"));
}

#[test]
fn phases_have_names() {
    let scenario = scenario(STEPS);
    let mut view = Dashboard::new(&scenario, "x", true);
    let head = |view: &Dashboard, elapsed| {
        let shown = text(&screen(view, elapsed, 80, 24));
        let first = shown.lines().next().unwrap_or_default().to_owned();
        first.replace("ringgate load · x   ", "")
    };
    assert_eq!(head(&view, None), "starting");
    for (elapsed, expect) in [
        (0.5, "warm-up of step 1 of 2"),
        (2.5, "step 1 of 2"),
        (12.5, "warm-up of step 2 of 2"),
        (23.0, "step 2 of 2"),
        (99.0, "step 2 of 2"),
    ] {
        assert_eq!(head(&view, Some(elapsed)), expect);
    }
    view.end();
    assert_eq!(head(&view, Some(3.0)), "ending");
    let one = self::scenario(&STEPS.replace("[1000, 2000]", "[1000]"));
    let view = Dashboard::new(&one, "x", true);
    assert_eq!(head(&view, Some(1.0)), "warm-up");
    assert_eq!(head(&view, Some(3.0)), "measuring");
}

#[test]
fn without_colour_no_cell_has_one() {
    let scenario = scenario(STEPS);
    let is_coloured = |has_colour| {
        let mut view = Dashboard::new(&scenario, "x", has_colour);
        view.add(Meter::new(&scenario).sample(&tick(3, 9_000_000)));
        let shown = screen(&view, Some(4.0), 80, 24);
        let mut cells = shown.buffer().content.iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(is_coloured(true));
    assert!(!is_coloured(false));
}

#[test]
fn any_size_and_any_number_of_cores_can_be_drawn() {
    let scenario = scenario(STEPS);
    let mut view = Dashboard::new(&scenario, "x", true);
    let sample = Sample {
        by_core: vec![1.0; 64],
        ..Sample::default()
    };
    (0..2000).for_each(|_| view.add(sample.clone()));
    for (width, height) in [(1, 1), (5, 3), (20, 8), (80, 24), (300, 90)] {
        screen(&view, Some(1.0), width, height);
    }
    has_all(&text(&screen(&view, None, 80, 24)), &["and 57 more"]);
}

/// A run of ten minutes against a null server, on a terminal.
fn long_run(server: &NullServer, out: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command
        .args(["load", "--target"])
        .arg(format!("mysql://anyone@127.0.0.1:{}/x", server.port()))
        .args(["--rate", "200", "--warmup", "0s", "--duration", "10m"])
        .arg("--out")
        .arg(out)
        .env_remove("NO_COLOR");
    command
}

/// What a run that was stopped has said after the terminal was given back.
fn check_stopped(shown: &str, out: &std::path::Path) {
    assert_eq!(shown.matches(ENTER).count(), 1, "{shown}");
    let (_, after) = shown.split_once(LEAVE).expect("the view is left");
    assert!(!after.contains(LEAVE), "{shown}");
    has_all(after, &["group", "INVALID: stopped before its end"]);
    let result = RunResult::read(out).expect("a result");
    assert!(result.completed() > 0 && !result.validity.valid);
}

#[test]
fn q_ends_a_run_on_a_terminal_and_its_results_follow() {
    let server = NullServer::start(&["mysql"]);
    let out = tempfile::tempdir().expect("a folder");
    let mut terminal = support::Terminal::start(long_run(&server, out.path()));
    terminal.wait_for("achieved");
    assert!(terminal.is_raw());
    terminal.press("x");
    terminal.press("q");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(3), "{shown}");
    check_stopped(&shown, out.path());
    assert!(shown.contains("\x1b[38;5;"), "{shown}");
}

#[test]
fn interrupts_give_the_terminal_back_too_and_colours_can_be_refused() {
    for is_key in [true, false] {
        let server = NullServer::start(&["mysql"]);
        let out = tempfile::tempdir().expect("a folder");
        let mut command = long_run(&server, out.path());
        command.env("NO_COLOR", "1");
        let mut terminal = support::Terminal::start(command);
        terminal.wait_for("achieved");
        match is_key {
            true => terminal.press("\x03"),
            false => signal(terminal.id(), "TERM"),
        }
        let (status, shown) = terminal.end();
        assert_eq!(status.code(), Some(3), "{shown}");
        check_stopped(&shown, out.path());
        assert!(!shown.contains("\x1b[38;"), "{shown}");
    }
}

#[test]
fn a_run_that_fails_gives_the_terminal_back_before_it_says_why() {
    let server = NullServer::start(&["mysql"]);
    let out = tempfile::tempdir().expect("a folder");
    let mut command = long_run(&server, out.path());
    // No process has this id.
    command.args(["--pid", "4194305"]);
    let terminal = support::Terminal::start(command);
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(1), "{shown}");
    let (_, after) = shown.split_once(LEAVE).expect("the view is left");
    has_all(after, &["ringgate load: "]);
}

/// Neither the cores nor the files wait for a terminal.
#[test]
fn a_terminal_that_takes_nothing_holds_nothing_up() {
    let server = NullServer::start(&["mysql"]);
    let out = tempfile::tempdir().expect("a folder");
    let mut terminal = support::Terminal::start(long_run(&server, out.path()));
    terminal.wait_for("achieved");
    terminal.stall(true);
    // A key would be read after the frame that cannot be written.
    signal(terminal.id(), "INT");
    let is_written = || RunResult::read(out.path()).is_ok();
    assert!(support::wait_for(
        std::time::Duration::from_secs(30),
        is_written
    ));
    assert!(!terminal.has_ended(), "it waits to give the terminal back");
    terminal.stall(false);
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(3), "{shown}");
    check_stopped(&shown, out.path());
}

#[test]
fn plain_lines_on_a_terminal_when_asked_for() {
    let server = NullServer::start(&["mysql"]);
    let out = tempfile::tempdir().expect("a folder");
    let mut command = long_run(&server, out.path());
    command.arg("--plain");
    let terminal = support::Terminal::start(command);
    terminal.wait_for("offered 200/s");
    assert!(!terminal.is_raw());
    signal(terminal.id(), "INT");
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(3), "{shown}");
    assert!(!shown.contains(ENTER), "{shown}");
}

/// The name of the test below, and of what tells its second process to panic.
const PANICS: &str = "a_panic_gives_the_terminal_back_before_it_is_reported";

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_reported() {
    if std::env::var_os(PANICS).is_some() {
        return panic_under_a_view();
    }
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new(this);
    command.args(["--exact", PANICS, "--nocapture"]);
    command.env(PANICS, "1");
    let terminal = support::Terminal::start(command);
    let (status, shown) = terminal.end();
    assert!(status.success(), "{shown}");
    let (view, after) = shown.split_once(LEAVE).expect("the view is left");
    assert!(view.contains(ENTER) && view.contains("starting"), "{shown}");
    has_all(after, &["panicked at", "as the test wants"]);
    assert!(!after.contains(ENTER) && !after.contains(LEAVE), "{shown}");
    assert!(!after.contains("starting"), "{shown}");
}

fn panic_under_a_view() {
    let scenario = scenario(STEPS);
    let stop = Arc::new(AtomicBool::new(false));
    let view = Screen::open(Dashboard::new(&scenario, "x", true), stop, &[]).expect("a terminal");
    // Long enough for some frames before and after.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let panicked = std::thread::spawn(|| panic!("as the test wants")).join();
    assert!(panicked.is_err());
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(view);
}
