//! Reads the package's own source for the tests that enforce its structure.
//!
//! This is a lexer just good enough to blank comments and literals, so that a word in a doc comment
//! or a string is never taken for code. It keeps line numbers.

#![allow(dead_code, reason = "each test file uses a part of this module")]
#![allow(
    clippy::expect_used,
    reason = "a launcher that fails must fail its test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust source file.
pub struct Source {
    /// The path from the package's root, with `/` between its parts.
    pub path: String,
    /// The text as it is.
    pub text: String,
    /// The text with comments and literals blanked; the same number of lines.
    pub code: String,
}

impl Source {
    /// The code lines before the file's test module, numbered from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .take(self.product_end())
            .map(|(index, line)| (index + 1, line))
    }

    /// How many lines the file has before its test module.
    pub fn product_line_count(&self) -> usize {
        self.product_end().min(self.text.lines().count())
    }

    /// The index of the line with which the product ends. A file `tests.rs` is a test module as a whole:
    /// `tests/layers.rs` sees to that.
    fn product_end(&self) -> usize {
        match self.path.starts_with("src/") && self.path.ends_with("/tests.rs") {
            true => 0,
            false => test_module_line(&self.code),
        }
    }

    /// The first folder or file name below `src/`, without `.rs`: the module's layer name.
    pub fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or(below);
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// The package's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, sorted by path. Panics when there is none: a structure test that
/// reads nothing would prove nothing.
pub fn rust_files(folder: &str) -> Vec<Source> {
    let files: Vec<Source> = files(folder, "rs")
        .into_iter()
        .map(|(path, text)| Source {
            code: blank(&text),
            path,
            text,
        })
        .collect();
    assert!(!files.is_empty(), "no Rust file below {folder}");
    files
}

/// Path and text of every file below `folder` whose name ends in `.extension`, sorted by path.
pub fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let skipped = path
                .file_name()
                .is_some_and(|name| name == "node_modules" || name == "target" || name == ".git");
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(read(&path));
            }
        }
    }
    found.sort();
    found
}

fn read(path: &PathBuf) -> (String, String) {
    let name = path.strip_prefix(root()).expect("a path below the root");
    let text = fs::read_to_string(path).expect("a UTF-8 file");
    (name.to_string_lossy().replace('\\', "/"), text)
}

/// The index of the line that opens the file's test module, or the number of lines.
fn test_module_line(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    (0..lines.len())
        .find(|&index| {
            lines[index].trim_start().starts_with("#[cfg(test)]")
                && lines[index + 1..]
                    .iter()
                    .map(|line| line.trim_start())
                    .find(|line| !line.is_empty() && !line.starts_with("#["))
                    .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        })
        .unwrap_or(lines.len())
}

/// Replaces comments, strings and character literals by spaces, and keeps the line breaks.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal_len(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The length of the comment or literal that starts here; 0 when code does.
fn literal_len(rest: &[u8], before: Option<u8>) -> usize {
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if rest.starts_with(b"//") {
        return rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_len(rest);
    }
    match rest[0] {
        b'"' => quoted_len(rest, 0),
        b'b' | b'c' if !in_word && rest.get(1) == Some(&b'"') => quoted_len(rest, 1),
        b'r' if !in_word => raw_len(rest, 1),
        b'b' | b'c' if !in_word && rest.get(1) == Some(&b'r') => raw_len(rest, 2),
        b'b' if !in_word && rest.get(1) == Some(&b'\'') => 1 + char_len(&rest[1..]),
        b'\'' => char_len(rest),
        _ => 0,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a string whose opening quote is at `quote`.
fn quoted_len(rest: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string whose hashes begin at `from`; 0 when it is none.
fn raw_len(rest: &[u8], from: usize) -> usize {
    let hashes = rest[from..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    if rest.get(from + hashes) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = from + hashes + 1;
    rest[body..]
        .windows(close.len())
        .position(|window| window == close)
        .map_or(rest.len(), |found| body + found + close.len())
}

/// The length of a character literal; 0 for a lifetime.
fn char_len(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|&byte| byte == b'\'');
        return close.map_or(0, |found| found + 4);
    }
    // A character of up to four bytes, then the closing quote; a lifetime has none there.
    (2..=5)
        .find(|&at| rest.get(at) == Some(&b'\''))
        .filter(|&at| at == 2 || rest[1] >= 0x80)
        .map_or(0, |at| at + 1)
}
