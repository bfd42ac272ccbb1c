//! Enforces what a reader counts on: short files, a doc on top of each, no unfinished work, no dead links.

#[path = "support/source.rs"]
mod source;

/// Lines a file of the product may have before its test module.
const LINES_MAX: usize = 600;

/// Marks of unfinished or switched-off work. Written in two parts, so that this file passes itself.
const BANNED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("#[ig", "nore"),
    concat!("#[should_", "panic"),
];

fn rust_files() -> Vec<source::Source> {
    ["src", "tests", "examples", "benches"]
        .into_iter()
        .filter(|folder| source::root().join(folder).is_dir())
        .filter(|folder| !source::files(folder, "rs").is_empty())
        .flat_map(source::rust_files)
        .collect()
}

#[test]
fn files_are_short() {
    let long: Vec<String> = rust_files()
        .iter()
        .filter(|file| !file.path.starts_with("tests/") && file.product_line_count() > LINES_MAX)
        .map(|file| format!("{}: {} lines", file.path, file.product_line_count()))
        .collect();
    assert!(
        long.is_empty(),
        "more than {LINES_MAX} lines without tests:\n{}",
        long.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is() {
    let bare: Vec<String> = rust_files()
        .iter()
        .filter(|file| {
            let first = file.text.lines().find(|line| !line.trim().is_empty());
            !first.is_some_and(|line| line.starts_with("//!"))
        })
        .map(|file| file.path.clone())
        .collect();
    assert!(
        bare.is_empty(),
        "no module doc on top:\n{}",
        bare.join("\n")
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let mut problems = Vec::new();
    for file in rust_files() {
        for (index, line) in file.text.lines().enumerate() {
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{}:{}: `{word}`", file.path, index + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for (path, text) in source::files(".", "md") {
        let folder = source::root().join(&path);
        let folder = folder.parent().expect("a file has a folder");
        for target in link_targets(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            if !folder.join(file).exists() {
                dead.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(seen > 0, "no link was read");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn promises_name_tests_that_are_there() {
    let path = source::root().join("docs/reliability.md");
    let page = std::fs::read_to_string(path).expect("the page of promises");
    let (mut problems, mut seen, mut is_promise) = (Vec::new(), 0, false);
    for line in page.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        match cells.get(..2) {
            Some(["| promise", "test"]) => is_promise = true,
            Some([promise, tests]) if is_promise && !promise.starts_with("|--") => {
                let (count, missing) = tests_missing(tests);
                seen += count;
                if count == 0 {
                    problems.push(format!("no test: {promise}"));
                }
                problems.extend(missing);
            }
            Some(_) => {}
            None => is_promise &= line.starts_with("|--"),
        }
    }
    assert!(seen > 50, "{seen} tests were found on the page");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// How many tests are named, and those that are not in the file named before them.
fn tests_missing(cell: &str) -> (usize, Vec<String>) {
    let (mut count, mut file, mut text) = (0, "", String::new());
    let mut missing = Vec::new();
    for word in cell.split('`').skip(1).step_by(2) {
        if word.contains('/') {
            file = word;
            let read = std::fs::read_to_string(source::root().join(file)).unwrap_or_default();
            text = read.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        } else {
            count += 1;
            if !text.contains(&format!("#[test]\nfn {word}(")) {
                missing.push(format!("{file}: no test `{word}`"));
            }
        }
    }
    (count, missing)
}

/// What stands in the round brackets of each `[text](target)`.
fn link_targets(text: &str) -> Vec<&str> {
    text.match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains(char::is_whitespace))
        .collect()
}
