//! `ringgate report` and `ringgate report compare`, on synthetic runs of known latencies.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod report_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use report_support::chromium::{self, Scheme};
use report_support::runs::{self, DIRECT, HAPROXY, RATES, RINGGATE, System, write, write_runs};

/// What the program prints on both outputs; its exit code must be `code`.
fn report(arguments: &[&Path], options: &[&str], code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .arg("report")
        .args(arguments)
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?} {options:?}: {text}"
    );
    text
}

/// A folder with five runs each of three systems, runs that hold connections, and a page of them.
fn sample() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for system in [&DIRECT, &RINGGATE, &HAPROXY] {
        write_runs(&at(system.name), system, 5, 1.0);
    }
    write_runs(&at("old"), &RINGGATE, 6, 1.3);
    for (index, connections) in [1_000_u32, 10_000].into_iter().enumerate() {
        for system in [&RINGGATE, &HAPROXY] {
            let name = format!("{}-{connections}", system.name);
            write(
                &at("hold"),
                &name,
                &runs::hold(system, connections, 20 + index as u64),
            );
        }
    }
    let page = at("report.html");
    let directories = [at("direct"), at("ringgate"), at("haproxy"), at("hold")];
    let directories: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    let (old, out) = (at("old"), page.to_str().unwrap().to_owned());
    let options = [
        "--output",
        &out,
        "--title",
        "Point selects",
        "--slo",
        "p99=2ms",
        "--baseline",
        old.to_str().unwrap(),
    ];
    report(&directories, &options, 0);
    (folder, page)
}

/// The SVG element of a figure.
fn figure<'a>(page: &'a str, name: &str) -> &'a str {
    let begin = page
        .find(&format!("<svg id=\"figure-{name}\""))
        .unwrap_or_else(|| panic!("no figure {name}"));
    let end = begin + page[begin..].find("</svg>").unwrap();
    &page[begin..end]
}

/// The middle of every shape of a class, in the order drawn.
fn places(figure: &str, class: &str) -> Vec<(f64, f64)> {
    let mark = format!("class=\"{class}\"");
    let shapes = figure.split('<').filter(|element| element.contains(&mark));
    let points = shapes.filter_map(|element| element.split_once(" points=\""));
    let place = |(_, points): (&str, &str)| {
        let points: Vec<(f64, f64)> = points[..points.find('"').unwrap()]
            .split_whitespace()
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        let mean = |pick: fn(&(f64, f64)) -> f64| {
            points.iter().map(pick).sum::<f64>() / points.len() as f64
        };
        (mean(|point| point.0), mean(|point| point.1))
    };
    points.map(place).collect()
}

#[test]
fn a_page_shows_what_the_runs_did() {
    let (folder, page) = sample();
    let page = std::fs::read_to_string(page).unwrap();
    for part in [
        // The verdict: the knee, its objective, half of it, CPU, memory, the change.
        "<strong>ringgate</strong> keeps its objective up to <strong>60,000/s</strong>",
        "p99 ≤ 2.00 ms, failures ≤ 0.1 %",
        "between 20,000/s and 40,000/s",
        "<strong>14.5 µs</strong>",
        "<strong>2.00 KiB</strong>",
        "growth from 1,000 to 10,000",
        "faster at 60,000/s offered",
        "≥ 80,000/s",
        // The facts around it.
        "Example CPU 3000",
        "congestion control",
        "ringgate load run &#39;point select.toml&#39; --system ringgate  # seed 1",
        "coordinated omission",
        "INVALID",
    ] {
        let quoted = part.replace("&#39;", "'");
        let found = page.contains(part) || page.contains(&quoted);
        assert_eq!(found, part != "INVALID", "{part}");
    }
    for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "{outside}");
    }
    let run = std::fs::read_to_string(folder.path().join("ringgate/run-0/result.json")).unwrap();
    let inlined = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, run);
    assert!(page.contains(&format!("href=\"data:application/json;base64,{inlined}\"")));
}

#[test]
fn points_stand_where_their_values_are() {
    let (_folder, page) = sample();
    let page = std::fs::read_to_string(page).unwrap();
    let latency = figure(&page, "latency");
    for (system, expect) in ["fill s0", "fill s1", "fill s2"]
        .iter()
        .zip([RATES.len() * 3; 3])
    {
        assert_eq!(places(latency, system).len(), expect, "{system}");
    }
    // In the second panel, p99: the objective of 2 ms lies between ringgate's 60,000/s and 80,000/s and
    // between haproxy's 40,000/s and 60,000/s.
    let panel = |class: &str| places(latency, class)[RATES.len()..2 * RATES.len()].to_vec();
    let (direct, ringgate, haproxy) = (panel("fill s0"), panel("fill s1"), panel("fill s2"));
    let limit = places(latency, "limit")
        .first()
        .map(|(_, y)| *y)
        .expect("the objective is drawn");
    assert!(
        ringgate[4].1 > limit && limit > ringgate[5].1,
        "{limit} {ringgate:?}"
    );
    assert!(
        haproxy[3].1 > limit && limit > haproxy[4].1,
        "{limit} {haproxy:?}"
    );
    assert!(direct.iter().all(|(_, y)| *y > limit), "{limit} {direct:?}");
    // Offered rates from 0 on one line: 80,000 is twice as far as 40,000, which is twice 20,000.
    let x = |index: usize| ringgate[index].0;
    let step = x(3) - x(2);
    assert!((x(5) - x(3) - 2.0 * step).abs() < 2.0, "{ringgate:?}");
    // Every decade of latency is as high: from the labels' places to the values'.
    let spectrum = figure(&page, "spectrum");
    assert!(
        ["90 %", "99 %", "99.9 %"]
            .iter()
            .all(|words| spectrum.contains(words))
    );
    assert_eq!(places(spectrum, "fill s1").len(), 3);
    let added = figure(&page, "added");
    // p99 of ringgate less that of direct at 40,000/s.
    assert!(added.contains("+174 µs"), "{added}");
    assert!(
        places(added, "fill s0").is_empty(),
        "direct adds nothing to itself"
    );
    assert!(figure(&page, "cpu").contains("14.5 µs: user 2.90, system 11.6"));
    assert!(figure(&page, "memory").contains("2.00 KiB"));
}

#[test]
fn figures_are_legible_in_both_colour_schemes() {
    let (_folder, page) = sample();
    for (scheme, background) in [
        (Scheme::Light, "rgb(255, 255, 255)"),
        (Scheme::Dark, "rgb(21, 23, 27)"),
    ] {
        for width in [1280, 420] {
            let measured = chromium::measure(&page, scheme, width);
            assert_eq!(measured.background, background, "{scheme:?}");
            assert_eq!(measured.fetched, 0);
            assert!(
                !measured.overflows,
                "{scheme:?} {width}: the page scrolls sideways"
            );
            assert!(measured.prose.0 >= 4.5, "{scheme:?}: {:?}", measured.prose);
            let names: Vec<&str> = measured
                .figures
                .iter()
                .map(|figure| figure.id.as_str())
                .collect();
            let expect = ["latency", "spectrum", "added", "cpu", "memory"]
                .map(|name| format!("figure-{name}"));
            assert_eq!(names, expect);
            for figure in &measured.figures {
                check_figure(figure, &format!("{scheme:?} {width} {}", figure.id));
            }
        }
    }
}

/// Six systems, one with a hostile name; runs far apart, one invalid; a closed loop in one folder.
fn hard_sample(folder: &Path) -> PathBuf {
    let names = [
        "direct",
        "ringgate",
        "a-system-with-a-very-long-name",
        "<b>&\"x\"</b>",
        "five",
        "six",
    ];
    for (index, name) in names.into_iter().enumerate() {
        let own = index as f64;
        let system = System {
            name,
            median_ns: 60_000.0 * 1.05_f64.powf(own),
            capacity: 95_000.0 - 9_000.0 * own,
            cpu_us: 9.0 + own,
            rss_kib: 8_000,
        };
        for run in 0..3_u32 {
            let mut result = runs::run(&system, RATES, 1.0 + 0.2 * f64::from(run), run.into());
            result.validity.valid = run > 0 || index != 2;
            write(folder, &format!("{index}-{run}"), &result);
        }
        write(
            folder,
            &format!("{index}-hold"),
            &runs::hold(&system, 5_000, 9),
        );
    }
    let page = folder.join("hard.html");
    let options = [
        "--output",
        page.to_str().unwrap(),
        "--slo",
        "p50=400us,p99=2ms,p99.9=5ms",
    ];
    report(&[folder], &options, 0);
    page
}

#[test]
fn figures_of_many_systems_are_legible_too() {
    let folder = tempfile::tempdir().unwrap();
    let page = hard_sample(folder.path());
    let measured = chromium::measure(&page, Scheme::Dark, 1280);
    assert_eq!(measured.figures.len(), 5);
    for figure in &measured.figures {
        check_figure(figure, &format!("hard {}", figure.id));
    }
    let text = std::fs::read_to_string(page).unwrap();
    assert!(!text.contains("<b>"), "names are escaped");
}

fn check_figure(figure: &chromium::Figure, context: &str) {
    assert!(
        figure.width > 800.0 && figure.height > 60.0 && figure.shapes > 4,
        "{context}: {figure:?}"
    );
    for (class, contrast) in &figure.colors {
        // Grids may be faint, and a band lies behind its line; all else must be seen.
        let least = if class == "grid" { 1.1 } else { 3.0 };
        assert!(
            *contrast >= least,
            "{context}: `{class}` has a contrast of {contrast:.2}"
        );
    }
    assert!(!figure.texts.is_empty(), "{context}");
    for (index, text) in figure.texts.iter().enumerate() {
        assert!(
            !text.words.is_empty() && text.font >= 9.0,
            "{context}: {text:?}"
        );
        assert!(text.inside, "{context}: clipped: {text:?}");
        assert!(text.contrast >= 4.5, "{context}: {text:?}");
        for other in &figure.texts[index + 1..] {
            let apart = text.right <= other.left
                || other.right <= text.left
                || text.bottom <= other.top
                || other.bottom <= text.top;
            assert!(apart, "{context}: {text:?} over {other:?}");
        }
    }
}

#[test]
fn invalid_runs_are_marked_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("page.html");
    let page = |options: &[&str]| {
        let output = ["--output", out.to_str().unwrap()];
        report(&[folder.path()], &[&output[..], options].concat(), 0);
        std::fs::read_to_string(&out).unwrap()
    };
    write_runs(folder.path(), &RINGGATE, 3, 1.0);
    let mut late = runs::run(&RINGGATE, RATES, 50.0, 9);
    late.validity.valid = false;
    late.validity.reasons = vec!["send lag p99 of 3 ms <at> 5,000/s".to_owned()];
    write(folder.path(), "run-9", &late);
    let text = page(&["--slo", "p99=2ms"]);
    assert!(text.contains("INVALID RUNS") && text.contains("1 of 4 runs"));
    assert!(text.contains("They are left out of every figure"));
    assert!(
        text.contains("send lag p99 of 3 ms &lt;at&gt; 5,000/s"),
        "the reason, escaped"
    );
    assert!(
        text.contains("up to <strong>60,000/s</strong>"),
        "the knee is that of the valid runs"
    );
    let runs = text.matches("3 valid runs").count();
    assert!(
        runs >= 3,
        "in the headline, the verdict and legends: {runs}"
    );
    assert!(!text.contains("class=\"muted\""));
    for name in ["run-0", "run-1", "run-2"] {
        std::fs::remove_dir_all(folder.path().join(name)).unwrap();
    }
    let text = page(&["--slo", "p50=1s"]);
    assert!(text.contains("Do not quote them"));
    let said = "has <strong class=\"bad\">no valid run</strong>: nothing is said of its objective";
    assert!(text.contains(said), "no verdict from invalid runs");
    assert!(text.contains("<tr class=\"muted\">") && text.contains("<span class=\"muted\">"));
    // A valid run that only holds connections does not hide them.
    write(folder.path(), "hold", &runs::hold(&RINGGATE, 1_000, 1));
    let text = page(&["--slo", "p50=1s"]);
    assert!(text.contains("Do not quote them"));
    assert_eq!(
        places(figure(&text, "latency"), "fill s0").len(),
        RATES.len() * 3
    );
}

#[test]
fn a_detour_that_is_quicker_is_called_noise() {
    let folder = tempfile::tempdir().unwrap();
    let page = |direct: f64| {
        let at = folder.path().join(direct.to_string());
        write_runs(&at.join("direct"), &DIRECT, 3, direct);
        write_runs(&at.join("ringgate"), &RINGGATE, 3, 1.0);
        let out = at.join("page.html");
        let output = ["--output", out.to_str().unwrap(), "--rate", "5000"];
        report(&[&at.join("direct"), &at.join("ringgate")], &output, 0);
        std::fs::read_to_string(&out).unwrap()
    };
    assert!(!page(1.0).contains("cannot be quicker"));
    let text = page(3.0);
    assert!(text.contains("cannot be quicker") && text.contains("<small>noise</small>"));
}

#[test]
fn what_cannot_be_read_is_named_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let put = |name: &str, text: &str| {
        std::fs::create_dir_all(at(name)).unwrap();
        std::fs::write(at(name).join("result.json"), text).unwrap();
    };
    let good = serde_json::to_string(&runs::run(&RINGGATE, &RATES[..1], 1.0, 1)).unwrap();
    std::fs::create_dir_all(at("empty")).unwrap();
    put("cut", &good[..good.len() / 2]);
    put("newer", &good.replace("\"schema\":1", "\"schema\":99"));
    put("other", "{\"hello\": 1}");
    let hdr = good.find("\"hdr_v2\":\"").unwrap() + "\"hdr_v2\":\"".len();
    put(
        "damaged",
        &format!("{}AAAA{}", &good[..hdr], &good[hdr + 4..]),
    );
    let mut early = runs::run(&RINGGATE, &RATES[..1], 1.0, 1);
    early.steps.clear();
    put("early", &serde_json::to_string(&early).unwrap());
    put("good", &good);
    let check = |name: &str, options: &[&str], expect: &[&str]| {
        let text = report(&[&at(name)], options, 65);
        for part in expect.iter().chain(&[name]) {
            assert!(text.contains(part), "{name}: {part} in {text}");
        }
    };
    check("absent", &[], &["No such file", "give a run's directory"]);
    check(
        "empty",
        &[],
        &[
            "no run here",
            "sub-directories that each hold a result.json",
        ],
    );
    check(
        "cut/result.json",
        &[],
        &["not a result of `ringgate load`", "EOF"],
    );
    check(
        "cut",
        &[],
        &["result.json", "not a result of `ringgate load`"],
    );
    check(
        "newer",
        &[],
        &["result.json", "schema 99, but this version reads schema 1"],
    );
    check("other", &[], &["missing field `schema`"]);
    check("damaged", &[], &["group `point-select`", "no HdrHistogram"]);
    check("early", &[], &["no step", "run it again"]);
    check(
        "good",
        &["--group", "txn"],
        &["no group `txn`; it has `point-select`"],
    );
}

#[test]
fn what_does_not_fit_the_runs_is_refused_with_what_would() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "run",
        &runs::run(&RINGGATE, &RATES[..1], 1.0, 1),
    );
    let good = [folder.path()];
    let text = report(&good, &["--rate", "7000"], 65);
    assert!(
        text.contains("not every run has the rate 7,000/s: all have 5,000/s offered"),
        "{text}"
    );
    let text = report(&good, &["--subject", "x"], 65);
    assert!(
        text.contains("no run is of the system `x`: there are `ringgate`"),
        "{text}"
    );
    let text = report(&good, &["--slo", "p99:2ms"], 64);
    assert!(text.contains("write it like \"p99=2ms\""), "{text}");
    report(&[], &[], 64);
}

/// Two folders of repeated runs, compared.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(base: (&System, u64, f64), new: (&System, u64, f64)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, (system, count, factor)) in [("base", base), ("new", new)] {
            write_runs(&folder.path().join(name), system, count, factor);
        }
        Self { folder }
    }

    fn compare(&self, options: &[&str], code: i32) -> String {
        let (base, new) = (
            self.folder.path().join("base"),
            self.folder.path().join("new"),
        );
        let objective: &[&str] = match options.contains(&"--slo") {
            true => &[],
            false => &["--slo", "p99=2ms"],
        };
        let options = [options, objective].concat();
        report(&[Path::new("compare"), &base, &new], &options, code)
    }
}

fn row<'a>(text: &'a str, metric: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(metric))
        .unwrap_or_else(|| panic!("no {metric} in {text}"))
}

#[test]
fn a_slower_build_is_a_regression() {
    let pair = Pair::new((&RINGGATE, 6, 1.0), (&RINGGATE, 6, 1.2));
    let text = pair.compare(&[], 1);
    assert!(
        text.contains(
            "Regression. worse: p50, p90, p99, p99.9, CPU per operation, resident memory."
        ),
        "{text}"
    );
    for metric in ["p50", "p90", "p99 ", "p99.9"] {
        assert!(
            row(&text, metric).ends_with("slower") && row(&text, metric).contains("+20.0 %"),
            "{text}"
        );
    }
    assert!(row(&text, "CPU per operation").ends_with("more"), "{text}");
    assert!(
        row(&text, "achieved rate").contains("not tested (as offered on both sides)"),
        "{text}"
    );
    assert!(
        text.contains("seed 1") && text.contains("at 60,000/s offered"),
        "{text}"
    );
    assert_eq!(text, pair.compare(&[], 1), "the same seed, the same answer");
}

#[test]
fn a_faster_build_and_an_equal_one_are_none() {
    let faster = Pair::new((&RINGGATE, 5, 1.2), (&RINGGATE, 5, 1.0));
    let text = faster.compare(&["--strict"], 0);
    assert!(
        row(&text, "p99 ").ends_with("faster") && row(&text, "CPU").ends_with("less"),
        "{text}"
    );
    let equal = Pair::new((&RINGGATE, 5, 1.0), (&RINGGATE, 5, 1.0));
    let text = equal.compare(&["--strict"], 0);
    assert!(row(&text, "p99 ").ends_with("same within ±5 %"), "{text}");
}

#[test]
fn what_cannot_be_told_fails_only_when_asked_to() {
    let pair = Pair::new((&RINGGATE, 5, 1.0), (&RINGGATE, 5, 1.004));
    let text = pair.compare(&["--margin", "0.5"], 0);
    assert!(
        row(&text, "p99 ").contains("cannot tell (needs ~"),
        "{text}"
    );
    pair.compare(&["--margin", "0.5", "--strict"], 2);
    pair.compare(&["--margin", "5", "--strict"], 0);
}

#[test]
fn too_few_runs_get_no_verdict() {
    let pair = Pair::new((&RINGGATE, 6, 1.0), (&RINGGATE, 2, 9.0));
    let text = pair.compare(&[], 2);
    assert!(text.contains("No verdict: too few valid runs."), "{text}");
    assert!(
        text.contains("new has 2 of at least 3 valid runs"),
        "{text}"
    );
    assert!(
        row(&text, "p99 ").contains("fewer than 3 valid runs"),
        "{text}"
    );
    // Nor do runs of which none is valid: theirs would be a verdict on the generator.
    for index in 0..6 {
        let mut late = runs::run(&RINGGATE, RATES, 1.0, index);
        late.validity.valid = false;
        write(
            &pair.folder.path().join("new"),
            &format!("run-{index}"),
            &late,
        );
    }
    let text = pair.compare(&[], 2);
    assert!(text.contains("every run of new is invalid"), "{text}");
    assert!(
        text.contains("new has 0 of at least 3 valid runs"),
        "{text}"
    );
    // Three a side cannot show a difference: the least p of the test is 0.1.
    let text = Pair::new((&RINGGATE, 3, 1.0), (&RINGGATE, 3, 1.5)).compare(&["--slo", "p99=1s"], 0);
    assert!(
        row(&text, "p99 ").ends_with("cannot tell (needs ~5 runs)"),
        "{text}"
    );
}

#[test]
fn a_comparison_has_four_forms() {
    let pair = Pair::new((&RINGGATE, 6, 1.0), (&RINGGATE, 6, 1.2));
    let json: serde_json::Value =
        serde_json::from_str(&pair.compare(&["--format", "json"], 1)).unwrap();
    assert_eq!(json["runs"], serde_json::json!([6, 6]));
    assert_eq!(json["seed"], 1);
    assert_eq!(json["offered_rate"], 60_000.0);
    let p99 = json["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "p99")
        .unwrap();
    assert_eq!(
        (&p99["verdict"], &p99["words"]),
        (&"worse".into(), &"slower".into())
    );
    assert!((p99["ratio"].as_f64().unwrap() - 1.2).abs() < 0.01, "{p99}");
    assert_eq!(p99["base"].as_array().unwrap().len(), 6);
    // 2 / C(12, 6), and six times that.
    assert!(
        (p99["p"].as_f64().unwrap() - 2.0 / 924.0).abs() < 1e-12,
        "{p99}"
    );
    assert!(
        (p99["p_adjusted"].as_f64().unwrap() - 12.0 / 924.0).abs() < 1e-12,
        "{p99}"
    );
    let markdown = pair.compare(&["--format", "markdown"], 1);
    assert!(
        markdown.starts_with("**Regression.") && markdown.contains("| p99 | "),
        "{markdown}"
    );
    let html = pair.compare(&["--format", "html"], 1);
    assert!(
        html.starts_with("<!DOCTYPE html>") && html.contains("<table id=\"comparison\">"),
        "{html}"
    );
}

#[test]
fn sides_that_do_not_fit_are_refused_or_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_runs(&at("base"), &RINGGATE, 5, 1.0);
    for index in 0..5 {
        let name = format!("run-{index}");
        write(
            &at("new"),
            &name,
            &runs::run(&RINGGATE, &[7_000.0], 1.0, index),
        );
        write(
            &at("mixed"),
            &name,
            &runs::run(
                if index < 2 { &DIRECT } else { &RINGGATE },
                RATES,
                1.0,
                index,
            ),
        );
        let mut other = runs::run(&RINGGATE, RATES, 1.0 + index as f64 / 100.0, index);
        other.scenario.push_str("# changed\n");
        other.machine.kernel = "6.1.0".to_owned();
        write(&at("other"), &name, &other);
    }
    let compare =
        |new: &str, code| report(&[Path::new("compare"), &at("base"), &at(new)], &[], code);
    let text = compare("new", 65);
    assert!(
        text.contains("no offered rate is common to all runs") && text.contains("7,000/s offered"),
        "{text}"
    );
    let text = compare("mixed", 65);
    assert!(
        text.contains(
            "NEW has runs of `direct`, `ringgate`: give a directory with runs of one system"
        ),
        "{text}"
    );
    let text = compare("other", 0);
    assert!(
        text.contains("different scenarios") && text.contains("different machines"),
        "{text}"
    );
}

#[test]
fn a_lone_closed_loop_has_a_page_without_a_knee() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = runs::run(&RINGGATE, &RATES[2..3], 1.0, 1);
    run.steps[0].offered_rate = None;
    run.scenario.clear();
    write(folder.path(), "one", &run);
    let out = folder.path().join("page.html");
    let options = ["-o", out.to_str().unwrap()];
    report(&[&folder.path().join("one")], &options, 0);
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("no SLO was set"), "{page}");
    assert!(page.contains("stands at the rate it achieved"), "{page}");
    assert!(page.contains("Measured in a closed loop. "), "{page}");
    assert_eq!(places(figure(&page, "latency"), "fill s0").len(), 3);
    assert!(!page.contains("figure-added"), "nothing to add to");
}
