//! `ringgate check` and the command line, as an operator meets them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

const GOOD: &str = r#"version = 1
[listeners.main]
address = "127.0.0.1:0"
[placements.a]
endpoints = [{ address = "db1:3306" }]
upstream = { user = "gw", password = { env = "RG_CHECK_PW" } }
[tenants.acme]
placement = "a"
[users.app]
tenant = "acme"
password = { env = "RG_CHECK_PW" }
"#;

fn ringgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(arguments)
        .env("RG_CHECK_PW", "canary-51c2")
        .output()
        .unwrap()
}

fn run(arguments: &[&str], code: i32) -> String {
    let output = ringgate(arguments);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(!text.contains("canary-51c2"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "colours outside a terminal: {text}"
    );
    text
}

fn with_file(text: &str, check: impl FnOnce(&str)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringgate.toml");
    std::fs::write(&path, text).unwrap();
    check(path.to_str().unwrap());
}

#[test]
fn a_good_file_is_summed_up() {
    with_file(GOOD, |file| {
        let text = run(&["check", file], 0);
        for part in [
            "OK",
            "127.0.0.1:0",
            "127.0.0.1:9306",
            "primary db1:3306",
            "1 tenant, 1 user",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let shown = run(&["check", "--show", file], 0);
        assert!(
            shown.contains("pool_wait = \"3s\"") && shown.contains("***"),
            "{shown}"
        );
    });
}

#[test]
fn a_bad_file_is_refused_by_check_and_serve_alike() {
    let bad = GOOD
        .replace("address = \"127.0.0.1:0\"", "adress = 1")
        .replace("db1:3306", "db1");
    with_file(&bad, |file| {
        for arguments in [&["check", file][..], &["serve", "--config", file][..]] {
            let text = run(arguments, 78);
            for part in [
                "E0102",
                "E0103",
                "E0105",
                "did you mean `address`?",
                ":5:",
                "3 problems",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    });
    run(&["check", "/nonexistent/ringgate.toml"], 78);
    run(&["serve", "--config", "/nonexistent/ringgate.toml"], 78);
}

#[test]
fn misuse_is_64_and_help_is_not() {
    run(&[], 64);
    run(&["nonsense"], 64);
    run(&["check"], 64);
    run(&["check", "a", "b"], 64);
    run(&["serve"], 64);
    assert!(run(&["--version"], 0).contains(env!("CARGO_PKG_VERSION")));
    assert!(run(&["--help"], 0).contains("Exit codes"));
}

/// The problems that `check` prints of `GOOD` with `from` replaced by `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let mut text = String::new();
    with_file(&GOOD.replace(from, to), |file| {
        text = run(&["check", file], 78);
    });
    text
}

#[test]
fn a_misspelt_table_is_one_problem_with_the_right_name() {
    for (wrong, right) in [
        ("placement", "placements"),
        ("listener", "listeners"),
        ("tenant", "tenants"),
        ("user", "users"),
    ] {
        let text = refused(&format!("[{right}."), &format!("[{wrong}."));
        for part in ["1 problem\n", "E0103", &format!("did you mean `{right}`?")] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    // One that is not there at all is missing, and nothing more is said of those who name it.
    let text = refused("[placements.a]", "[nothing.a]");
    assert!(text.contains("`placements` is missing"), "{text}");
    assert!(text.contains("2 problems"), "{text}");
}

#[test]
fn a_key_without_a_value_is_told_so() {
    for line in ["address =", "address = ", "address = # later", "address="] {
        let text = refused("address = \"127.0.0.1:0\"", line);
        for part in [
            "E0101",
            "`address` has no value",
            ":3:1",
            "write `address = …`",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    let text = refused("address = \"127.0.0.1:0\"", "address = 127.0.0.1:0");
    assert!(!text.contains("has no value"), "{text}");
    assert!(text.contains("texts in quotes"), "{text}");
}

#[test]
fn one_connection_is_one() {
    let section = "[cores]\ncount = 2\n[pools]\nbudget = 1\n[placements.a]";
    let text = refused("[placements.a]", section);
    assert!(text.contains("a budget of 1 connection cannot"), "{text}");
}

#[test]
fn tenants_that_share_an_account_are_warned_of_and_accepted() {
    let both = format!("{GOOD}[tenants.globex]\nplacement = \"a\"\n");
    with_file(&both, |file| {
        for arguments in [&["check", file][..], &["check", "--show", file][..]] {
            let output = ringgate(arguments);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let warned = String::from_utf8(output.stderr).unwrap();
            for part in ["warning: tenants `acme`, `globex`", "`gw`", "`a`", "help: "] {
                assert!(warned.contains(part), "{part} in {warned}");
            }
        }
    });
    with_file(GOOD, |file| {
        assert!(ringgate(&["check", file]).stderr.is_empty());
    });
}

/// Each at the placement where the hash has it, and nowhere else.
#[test]
fn hashed_tenants_are_warned_of_where_they_are() {
    let second = "[placements.b]\nendpoints = [{ address = \"db2:3306\" }]\n\
        upstream = { user = \"gw\", password = { env = \"RG_CHECK_PW\" } }\n";
    let tenants: Vec<String> = (1..=6).map(|n| format!("t{n}")).collect();
    let sections = tenants.iter().map(|name| format!("[tenants.{name}]\n"));
    let hash = "[hash]\nplacements = [\"a\", \"b\"]\n";
    let text = format!("{GOOD}{second}{hash}{}", sections.collect::<String>());
    let warned = |text: &str| {
        let mut warned = String::new();
        with_file(text, |file| {
            warned = String::from_utf8(ringgate(&["check", file]).stderr).unwrap();
        });
        warned
    };
    let both = warned(&text);
    assert_eq!(both.matches("warning: ").count(), 2, "{both}");
    assert!(!both.contains("placements"), "{both}");
    for name in &tenants {
        assert_eq!(both.matches(&format!("`{name}`")).count(), 1, "{both}");
    }
    // What that has at the second alone shares nothing.
    let at_b = both.lines().find(|line| line.contains("at placement `b`"));
    let alone = tenants
        .iter()
        .find(|name| at_b.unwrap().contains(&format!("`{name}`")));
    let alone = format!("{GOOD}{second}{hash}[tenants.{}]\n", alone.unwrap());
    assert_eq!(warned(&alone), "");
}
