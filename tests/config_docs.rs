//! The pages about configuration and errors say what the program does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use ringgate::base::codes::{self, Event};
use ringgate::config::{self, Code};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page with examples.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|e| e == "md"))
        .chain([root.join("README.md")])
        .collect()
}

/// The TOML blocks of a page that are whole files.
fn full_examples(text: &str) -> Vec<&str> {
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.contains("version = 1"))
        .collect()
}

#[test]
fn every_full_example_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("shard-b.password");
    fs::write(&secret, "canary\n").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let name = folder.path().join("ringgate.toml").display().to_string();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for example in full_examples(&text) {
            let checked = config::parse(&name, example, &|_| Some("canary".to_owned()));
            assert!(
                checked.is_ok(),
                "{}: {}",
                page.display(),
                checked.unwrap_err()
            );
            count += 1;
        }
    }
    assert!(count >= 3, "{count} examples found");
}

/// Defaults in "Every setting" are what a file that leaves them out gets.
#[test]
fn the_defaults_shown_are_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("shard-b.password");
    fs::write(&secret, "canary\n").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let name = folder.path().join("ringgate.toml").display().to_string();
    let text = page("docs/configuration.md");
    let examples = full_examples(&text);
    let parse = |text: &str| config::parse(&name, text, &|_| Some("x".to_owned())).unwrap();
    let (small, whole) = (parse(examples[0]), parse(examples[1]));
    assert_eq!(small.deadlines, whole.deadlines);
    assert_eq!(small.pools, whole.pools);
    assert_eq!(small.buffers, whole.buffers);
    assert_eq!(small.logging, whole.logging);
    assert_eq!(small.admin, whole.admin);
    assert_eq!(small.node.drain_grace, whole.node.drain_grace);
    assert_eq!(small.node.server_version, whole.node.server_version);
    assert_eq!(small.endpoints[0].budget, whole.endpoints[0].budget);
    assert_eq!(small.endpoints[0].weight, whole.endpoints[0].weight);
    let (one, other) = (&small.listeners[0], &whole.listeners[0]);
    assert_eq!(one.backlog, other.backlog);
    assert_eq!(one.socket.keepalive, other.socket.keepalive);
    assert_eq!(one.socket.user_timeout, other.socket.user_timeout);
    assert_eq!(small.placements[0].socket, whole.placements[0].socket);
}

/// Holds a page's table against `rows`; with RINGGATE_WRITE_DOCS set, writes them there first.
fn check_table(name: &str, head: &str, rows: &[String]) {
    let text = page(name);
    let (before, table) = text.split_once(head).expect("the table's head");
    let after: String = table
        .lines()
        .skip_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    let expect = format!("{before}{head}{}\n{after}", rows.join("\n"));
    if std::env::var_os("RINGGATE_WRITE_DOCS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &expect).unwrap();
    }
    assert_eq!(
        page(name),
        expect,
        "run with RINGGATE_WRITE_DOCS=1 to rewrite it"
    );
}

#[test]
fn the_table_of_problems_is_complete() {
    let row = |code: &Code| format!("| {} | {} |", code.code(), code.summary());
    let rows: Vec<String> = Code::ALL.iter().map(row).collect();
    check_table(
        "docs/configuration.md",
        "| code | meaning |\n|---|---|\n",
        &rows,
    );
}

#[test]
fn codes_of_problems_ascend_and_are_distinct() {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.code()).collect();
    assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
}

#[test]
fn the_table_of_errors_is_the_code_policy() {
    let rows: Vec<String> = Event::ALL.iter().map(|event| error_row(*event)).collect();
    let head = "| reason | error | SQLSTATE | connection | text |\n|---|---|---|---|---|\n";
    check_table("docs/errors.md", head, &rows);
}

fn error_row(event: Event) -> String {
    let code = codes::code(event);
    let state = String::from_utf8(code.sqlstate.to_vec()).unwrap();
    let then = if code.keep { "kept" } else { "closed" };
    format!(
        "| `{}` | {} | {state} | {then} | {} |",
        code.reason, code.errno, code.text
    )
}
