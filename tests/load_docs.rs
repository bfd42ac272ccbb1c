//! The page about load runs and its examples say what the program reads.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use ringgate::load::scenario::{Arrivals, Operation, Protocol, Scenario};
use ringgate::load::scenario_file::parse;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    read_to_string(root().join("docs/load.md")).expect("the page")
}

/// The string literals of the reader's code that may be keys or values of a scenario.
fn words_read() -> BTreeSet<String> {
    let code = read_to_string(root().join("src/load/scenario_file.rs")).expect("the reader");
    let (code, _tests) = code.split_once("#[cfg(test)]").expect("its tests");
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let is_word = |text: &&str| {
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_letter)
    };
    let code = code.replace("\\\"", "'");
    let literals = code.split('"').skip(1).step_by(2);
    literals.filter(is_word).map(str::to_owned).collect()
}

#[test]
fn the_page_names_every_key_that_is_read() {
    let (page, words) = (page(), words_read());
    assert!(words.len() > 40 && words.contains("first_column_is_argument"));
    let is_named = |word: &String| {
        let forms = [
            format!("`{word}`"),
            format!(".{word}`"),
            format!("`{word}."),
            format!(".{word}."),
        ];
        forms.iter().any(|form| page.contains(form))
    };
    let missing: Vec<_> = words.iter().filter(|word| !is_named(word)).collect();
    assert!(missing.is_empty(), "docs/load.md does not name {missing:?}");
}

#[test]
fn scenarios_on_the_page_are_accepted() {
    let page = page();
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (text, _) = block.split_once("```").expect("an end");
        parse("docs/load.md", text, 1, &|_| None).expect(text);
    }
}

fn example(name: &str) -> Scenario {
    let path: PathBuf = root().join("examples/load").join(name);
    let text = read_to_string(&path).expect(name);
    parse(name, &text, 1, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_examples_are_what_the_page_says() {
    let folder = root().join("examples/load").read_dir().expect("examples");
    assert_eq!(folder.count(), 3);

    let selects = example("point-selects.toml");
    assert!(matches!(selects.arrivals, Arrivals::Closed { .. }) && selects.verify);
    let operation = selects.groups.first().map(|group| &group.operation);
    assert!(matches!(operation, Some(Operation::Prepared(_))));

    let mixed = example("mixed-open.toml");
    assert!(mixed.arrivals.is_open() && mixed.slo.is_some());
    let labels: Vec<_> = mixed.groups.iter().map(|g| g.operation.label()).collect();
    assert_eq!(labels, ["prepared", "transaction"]);

    let http = example("http.toml");
    assert!(matches!(http.arrivals, Arrivals::Ramp { .. }));
    assert!(
        http.groups
            .iter()
            .all(|g| g.target.protocol == Protocol::Http)
    );
}
