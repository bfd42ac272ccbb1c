//! Enforces the import table of `src/lib.rs` and the bans that belong to layers, by reading the source.

#[path = "support/source.rs"]
mod source;

use source::Source;

/// Each module with its layer. A module imports itself and modules of lower layers, nothing else.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("wire", 1),
    ("session", 2),
    ("route", 2),
    ("pool", 2),
    ("config", 2),
    ("telemetry", 3),
    ("net", 4),
    ("core", 5),
    ("upstream", 6),
    ("load", 6),
    ("sandbox", 6),
    ("door", 7),
    ("control", 8),
    ("cli", 9),
];

/// Roots of the crate itself: they only name the modules.
const ROOTS: &[&str] = &["lib", "main"];

struct Ban {
    word: &'static str,
    /// Modules in which the word may not occur outside tests.
    modules: &'static [&'static str],
    instead: &'static str,
}

const BELOW_NET: &[&str] = &[
    "base",
    "wire",
    "session",
    "route",
    "pool",
    "config",
    "telemetry",
];
const OUTSIDE_NET: &[&str] = &[
    "base",
    "wire",
    "session",
    "route",
    "pool",
    "config",
    "telemetry",
    "core",
    "upstream",
    "door",
    "control",
    "load",
    "sandbox",
    "cli",
    "lib",
    "main",
];
const CORE_SIDE: &[&str] = &[
    "base", "wire", "session", "route", "pool", "net", "core", "upstream", "door",
];
const PEER_FACING: &[&str] = &["wire", "session", "route", "pool"];

const BANS: &[Ban] = &[
    Ban {
        word: "glommio",
        modules: BELOW_NET,
        instead: "the executor is known from `net` upward",
    },
    Ban {
        word: "socket2",
        modules: BELOW_NET,
        instead: "sockets belong to `net`",
    },
    Ban {
        word: "io_uring",
        modules: BELOW_NET,
        instead: "the ring belongs to `net`",
    },
    Ban {
        word: "std::net::Tcp",
        modules: BELOW_NET,
        instead: "sockets belong to `net`",
    },
    Ban {
        word: "TcpStream",
        modules: BELOW_NET,
        instead: "sockets belong to `net`",
    },
    Ban {
        word: "TcpListener",
        modules: BELOW_NET,
        instead: "sockets belong to `net`",
    },
    Ban {
        word: "std::task",
        modules: BELOW_NET,
        instead: "who waits is told by a value that its driver looks at",
    },
    Ban {
        word: "Waker",
        modules: BELOW_NET,
        instead: "who waits is told by a value that its driver looks at",
    },
    Ban {
        word: "Instant::now",
        modules: BELOW_NET,
        instead: "time comes in as `base::clock::Now`",
    },
    Ban {
        word: "SystemTime::now",
        modules: BELOW_NET,
        instead: "time comes in as an argument",
    },
    Ban {
        word: "unsafe",
        modules: OUTSIDE_NET,
        instead: "unsafe code belongs to `net`",
    },
    Ban {
        word: "spawn_local",
        modules: OUTSIDE_NET,
        instead: "`net::spawn` contains panics",
    },
    Ban {
        word: "Mutex",
        modules: CORE_SIDE,
        instead: "cores share nothing but messages",
    },
    Ban {
        word: "RwLock",
        modules: CORE_SIDE,
        instead: "cores share nothing but messages",
    },
    Ban {
        word: ".unwrap()",
        modules: PEER_FACING,
        instead: "return the error: a peer caused it",
    },
    Ban {
        word: ".expect(",
        modules: PEER_FACING,
        instead: "return the error: a peer caused it",
    },
    Ban {
        word: "panic!",
        modules: PEER_FACING,
        instead: "return the error: a peer caused it",
    },
    Ban {
        word: "unreachable!",
        modules: PEER_FACING,
        instead: "make the state impossible",
    },
];

/// Integer types: `as` to one of them loses bits silently.
const INTEGERS: &[&str] = &[
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
];

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

fn may_import(from: &str, to: &str) -> bool {
    match (layer(from), layer(to)) {
        (Some(from_layer), Some(to_layer)) => from == to || to_layer < from_layer,
        _ => ROOTS.contains(&from),
    }
}

/// Names of the crate's modules that `code` reaches through `crate::`, `ringgate::` or enough
/// `super::`, each with its line.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let supers = "super::".repeat(depth);
    let mut prefixes = vec!["crate::", "ringgate::"];
    if depth > 0 {
        prefixes.push(&supers);
    }
    let mut found = Vec::new();
    for prefix in prefixes {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
                continue;
            }
            let line = code[..at].lines().count().max(1);
            let rest = &code[at + prefix.len()..];
            for name in first_names(rest) {
                found.push((line, name));
            }
        }
    }
    found
}

/// The first identifier of a path, or each first identifier of a brace group.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return identifier(rest).into_iter().collect();
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && depth == 0 && !c.is_whitespace() => {
                names.extend(identifier(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// How many `super::` lead from this file's module to the crate's root.
fn depth(path: &str) -> usize {
    let below = path.strip_prefix("src/").unwrap_or(path);
    let folders = below.matches('/').count();
    if below.ends_with("mod.rs") || ROOTS.iter().any(|root| below == format!("{root}.rs")) {
        folders
    } else {
        folders + 1
    }
}

/// Whether `word` stands in `line` as a word of its own where it begins and ends with a letter.
fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let open = !word.starts_with(is_word) || !before.is_some_and(is_word);
        // `unsafe_code` is a lint's name, `TcpListenerOptions` would be our own.
        let after = line[at + word.len()..].chars().next();
        open && (!word.ends_with(is_word) || !after.is_some_and(is_word))
    })
}

fn import_problems(file: &Source) -> Vec<String> {
    let from = file.module();
    imports(&file.code, depth(&file.path))
        .into_iter()
        .filter(|(_, to)| layer(to).is_some() && !may_import(from, to))
        .map(|(line, to)| format!("{}:{line}: `{from}` may not import `{to}`", file.path))
        .collect()
}

fn ban_problems(file: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (line, text) in file.product_lines() {
        for ban in BANS
            .iter()
            .filter(|ban| ban.modules.contains(&file.module()))
        {
            if has_word(text, ban.word) {
                problems.push(format!(
                    "{}:{line}: `{}`: {}",
                    file.path, ban.word, ban.instead
                ));
            }
        }
        if PEER_FACING.contains(&file.module()) {
            for integer in INTEGERS
                .iter()
                .filter(|name| has_word(text, &format!(" as {name}")))
            {
                problems.push(format!(
                    "{}:{line}: ` as {integer}`: use try_from",
                    file.path
                ));
            }
        }
    }
    problems
}

#[test]
fn modules_import_downward_only() {
    let problems: Vec<String> = source::rust_files("src")
        .iter()
        .flat_map(import_problems)
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Files named `tests.rs` are free of bans because they are in no product.
#[test]
fn test_modules_are_in_tests_only() {
    for file in source::rust_files("src") {
        let lines: Vec<&str> = file.code.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            if line.ends_with("mod tests;") {
                let before = at.checked_sub(1).map(|before| lines[before]);
                assert_eq!(before, Some("#[cfg(test)]"), "{}:{}", file.path, at + 1);
                assert_eq!(*line, "mod tests;", "{}:{}", file.path, at + 1);
            }
        }
    }
}

#[test]
fn layers_keep_their_bans() {
    let problems: Vec<String> = source::rust_files("src")
        .iter()
        .flat_map(ban_problems)
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    for file in source::rust_files("src") {
        let module = file.module().to_owned();
        let known = layer(&module).is_some() || ROOTS.contains(&module.as_str());
        assert!(
            known,
            "{}: give `{module}` a layer here and in src/lib.rs",
            file.path
        );
    }
}

fn file(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
        code: source::blank(text),
    }
}

#[test]
fn finds_each_way_to_import_upward() {
    let check = |path: &str, text: &str, expect: usize| {
        assert_eq!(
            import_problems(&file(path, text)).len(),
            expect,
            "{path}: {text}"
        );
    };
    check("src/wire/mysql/mod.rs", "use crate::base::clock::Now;", 0);
    check("src/wire/mysql/mod.rs", "use crate::net::Net;", 1);
    check(
        "src/wire/mysql/mod.rs",
        "use crate::{base::clock, net::{Net, Buf}, pool};",
        2,
    );
    check(
        "src/wire/mysql/mod.rs",
        "fn f() { super::super::pool::f() }",
        1,
    );
    check(
        "src/session/mysql/login.rs",
        "use super::super::super::pool;",
        1,
    );
    check("src/session/mysql/login.rs", "use super::text;", 0);
    check("src/session/mod.rs", "use crate::session::mysql;", 0);
    check("src/session/mod.rs", "use crate::route::Key;", 1);
    check("src/core/mod.rs", "use crate::control::x;", 1);
    check("src/main.rs", "fn main() { ringgate::cli::run() }", 0);
    check(
        "src/base/mod.rs",
        "//! [`crate::net`]\n// crate::net\nconst A: &str = \"crate::net\";",
        0,
    );
}

#[test]
fn finds_each_banned_word() {
    let check = |path: &str, text: &str, expect: usize| {
        assert_eq!(
            ban_problems(&file(path, text)).len(),
            expect,
            "{path}: {text}"
        );
    };
    check("src/pool/mod.rs", "let now = Instant::now();", 1);
    check("src/net/mod.rs", "let now = Instant::now();", 0);
    check("src/session/mod.rs", "use std::task::{Context, Poll};", 1);
    check("src/pool/mod.rs", "waiting: Option<Waker>,", 1);
    check("src/core/mod.rs", "use std::task::Waker;", 0);
    check("src/core/mod.rs", "unsafe { f() }", 1);
    check("src/core/mod.rs", "#![deny(unsafe_code)]", 0);
    check("src/net/ring.rs", "let m: Mutex<u8>;", 1);
    check("src/control/mod.rs", "let m: Mutex<u8>;", 0);
    check("src/wire/mod.rs", "let n = x as u8;", 1);
    check("src/wire/mod.rs", "let n = x as u8shape;", 0);
    check(
        "src/wire/mod.rs",
        "x.unwrap();\n#[cfg(test)]\nmod tests {\nx.unwrap();\n}",
        1,
    );
    check("src/wire/tests.rs", "x.unwrap();", 0);
    check(
        "src/wire/mod.rs",
        "let c = '\"'; x.unwrap(); let d = \".unwrap()\";",
        1,
    );
    check("src/wire/mod.rs", "fn f<'a>(x: &'a str) { x.unwrap(); }", 1);
    check(
        "src/wire/mod.rs",
        "let r = r#\"x.unwrap()\"#; let b = b'\\''; x.unwrap();",
        1,
    );
}
