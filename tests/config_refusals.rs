//! What a configuration may not be: each refusal with its code, its line, and its remedy.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ringgate::config::{self, Code, ConfigErrors, Machine, Snapshot};

/// A file that is accepted; cases change or add to it.
const GOOD: &str = r#"version = 1
[listeners.main]
address = "127.0.0.1:3306"
[placements.a]
endpoints = [{ address = "db1:3306" }]
upstream = { user = "gw", password = { env = "PW" } }
[tenants.acme]
placement = "a"
[users.app]
tenant = "acme"
password = { env = "PW" }
"#;

const PASSWORD: &str = "canary-7f3a";

fn env(name: &str) -> Option<String> {
    match name {
        "PW" => Some(PASSWORD.to_owned()),
        "PW_NEWLINE" => Some(format!("{PASSWORD}\n")),
        "EMPTY" => Some(String::new()),
        "ONLY_NEWLINE" => Some("\n".to_owned()),
        "NUL" => Some("a\0b".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Snapshot, ConfigErrors> {
    config::parse("ringgate.toml", text, &env)
}

/// Code and line of every problem of `text`.
fn problems(text: &str) -> Vec<(Code, usize)> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            let line = |p| errors.line_column(p).map_or(0, |(line, _)| line);
            errors
                .problems()
                .iter()
                .map(|p| (p.code, line(p)))
                .collect()
        }
    }
}

/// `GOOD` with `from` replaced by `to` has exactly these problems.
fn check(from: &str, to: &str, expect: &[(Code, usize)]) {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    assert_eq!(problems(&text), expect, "{from} → {to}\n{:?}", parse(&text));
}

/// `GOOD` with `section` appended has exactly this problem; its line counts within `section`.
fn check_added(section: &str, code: Code, line: usize) {
    let text = format!("{GOOD}{section}");
    let line = GOOD.lines().count() + line;
    assert_eq!(
        problems(&text),
        [(code, line)],
        "{section}\n{:?}",
        parse(&text)
    );
}

/// The remedy of the only problem of `GOOD` with `from` replaced by `to`.
fn remedy(from: &str, to: &str) -> String {
    let errors = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
    assert_eq!(errors.problems().len(), 1, "{errors}");
    errors.problems()[0].help.clone()
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(problems(GOOD), []);
}

#[test]
fn a_file_cut_at_any_byte_is_read_or_refused() {
    let mut accepted = 0;
    for cut in 0..GOOD.len() {
        let Err(errors) = parse(&GOOD[..cut]) else {
            accepted += 1;
            continue;
        };
        assert!(!errors.to_string().is_empty());
    }
    // Only cuts that lose nothing but a line end, or a user as a whole, leave a file.
    assert!(accepted < 30, "{accepted}");
}

#[test]
fn a_file_with_any_byte_changed_is_read_or_refused() {
    for at in 0..GOOD.len() {
        for byte in [b'"', b'=', b'{', b'\n', b'[', b'.', b'9', b'\\'] {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Err(errors) = parse(&text) {
                assert!(!errors.to_string().contains(PASSWORD));
            }
        }
    }
}

#[test]
fn what_is_written_twice_is_refused() {
    check_added("[users.app]\n", Code::Syntax, 1);
    check_added("[placements.a]\n", Code::Syntax, 1);
    check(
        "version = 1",
        "version = 1\nversion = 1",
        &[(Code::Syntax, 2)],
    );
    check_added(
        "[listeners.b]\naddress = \"0.0.0.0:3306\"\n",
        Code::AddressTaken,
        2,
    );
    check("3306\"\n[pl", "9306\"\n[pl", &[(Code::AddressTaken, 3)]);
    check(
        "{ address = \"db1:3306\" }",
        "{ address = \"db1:3306\" }, { address = \"db1:3306\" }",
        &[(Code::AddressTaken, 5)],
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check_added("[deadlines]\nlogni = \"5s\"\n", Code::UnknownKey, 2);
    check_added("[poools]\n", Code::UnknownKey, 1);
    assert_eq!(
        remedy(
            "address = \"127.0.0.1:3306\"",
            "address = \"127.0.0.1:3306\"\nbackolg = 1"
        ),
        "did you mean `backlog`?"
    );
    assert_eq!(
        remedy("tenant = \"acme\"", "tenant = \"acne\""),
        "did you mean `acme`?"
    );
    assert_eq!(
        remedy("placement = \"a\"", "placement = \"a\"\nplacemint = 1"),
        "did you mean `placement`?"
    );
}

#[test]
fn values_of_the_wrong_type_or_size_are_refused() {
    let deadline =
        |value: &str, code: Code| check_added(&format!("[deadlines]\nlogin = {value}\n"), code, 2);
    deadline("5", Code::WrongType);
    deadline("true", Code::WrongType);
    deadline("nan", Code::WrongType);
    deadline("[\"5s\"]", Code::WrongType);
    deadline("\"5\"", Code::OutOfRange);
    deadline("\"-5s\"", Code::OutOfRange);
    deadline("\"NaN\"", Code::OutOfRange);
    deadline("\"99999999999s\"", Code::OutOfRange);
    deadline("\"99999999999999999999s\"", Code::OutOfRange);
    deadline("\"0s\"", Code::OutOfRange);
    let budget =
        |value: &str, code: Code| check_added(&format!("[pools]\nbudget = {value}\n"), code, 2);
    budget("0", Code::OutOfRange);
    budget("-1", Code::OutOfRange);
    budget("1.5", Code::WrongType);
    budget("9223372036854775807", Code::OutOfRange);
    budget("1979-05-27", Code::WrongType);
    check_added("[buffers]\nbytes = \"64KB\"\n", Code::OutOfRange, 2);
    check_added("[buffers]\nbytes = \"5GiB\"\n", Code::OutOfRange, 2);
    check_added("[logging]\nlevel = \"loud\"\n", Code::BadValue, 2);
    check_added("[node]\nserver_version = \"\\u0000\"\n", Code::BadValue, 2);
    check(
        "[listeners.main]\naddress = \"127.0.0.1:3306\"\n",
        "listeners = 5\n",
        &[(Code::WrongType, 2)],
    );
    check(
        "\"127.0.0.1:3306\"",
        "\"localhost:3306\"",
        &[(Code::OutOfRange, 3)],
    );
    check("\"db1:3306\"", "\"db1\"", &[(Code::OutOfRange, 5)]);
    let timeout = "\"127.0.0.1:3306\"\nuser_timeout = ";
    let with = |value: &str| format!("{timeout}{value}");
    check(
        "\"127.0.0.1:3306\"",
        &with("\"999ms\""),
        &[(Code::OutOfRange, 4)],
    );
    check("\"127.0.0.1:3306\"", &with("\"1s\""), &[]);
    check("\"127.0.0.1:3306\"", &with("\"0s\""), &[]);
    check("version = 1", "version = 2", &[(Code::Version, 1)]);
    check("version = 1", "version = \"1\"", &[(Code::WrongType, 1)]);
    check("version = 1", "", &[(Code::Missing, 1)]);
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("127.0.0.1:3306", "nowhere")
        .replace("placement = \"a\"", "placement = \"b\"")
        .replace("tenant = \"acme\"", "tenant = \"acme\"\ncolour = \"red\"");
    let expect = [
        (Code::OutOfRange, 3),
        (Code::UnknownName, 8),
        (Code::UnknownKey, 11),
    ];
    assert_eq!(problems(&text), expect);
    let shown = parse(&text).unwrap_err().to_string();
    for place in [
        "ringgate.toml:3:",
        "ringgate.toml:8:",
        "ringgate.toml:11:",
        "E0201",
        "3 problems",
    ] {
        assert!(shown.contains(place), "{place} in\n{shown}");
    }
}

#[test]
fn relations_that_cannot_hold_are_refused() {
    check_added(
        "[deadlines]\nconnect = \"4s\"\nconnect_total = \"9s\"\n",
        Code::Contradiction,
        2,
    );
    check_added(
        "[deadlines]\nconnect = \"2s\"\nconnect_total = \"1s\"\n",
        Code::Contradiction,
        2,
    );
    check_added(
        "[deadlines]\npool_wait_target = \"1600ms\"\n",
        Code::Contradiction,
        2,
    );
    check_added("[pools]\nidle_max = \"2h\"\n", Code::Contradiction, 2);
    check_added("[buffers]\nunread_max = \"8KiB\"\n", Code::Contradiction, 2);
    check_added(
        "[admin]\naddress = \"0.0.0.0:9306\"\n",
        Code::AdminExposed,
        2,
    );
    check_added("[cores]\ncount = 1\ncpus = \"0\"\n", Code::Contradiction, 2);
    check_added(
        "[cores]\ncount = 8\n[pools]\nbudget = 7\n",
        Code::Contradiction,
        4,
    );
    check_added(
        "[hash]\nplacements = [\"a\", \"nowhere\"]\n",
        Code::UnknownName,
        2,
    );
    check_added(
        "[hash]\nplacements = [\"a\", \"a\"]\n",
        Code::Contradiction,
        2,
    );
    check_added("[hash]\nplacements = []\n", Code::Contradiction, 2);
    check_added(
        "[hash]\nversion = 2\nplacements = [\"a\"]\n",
        Code::OutOfRange,
        2,
    );
    check_added("[tenants.lost]\n", Code::NoPlacement, 1);
    check(
        "placement = \"a\"",
        "placement = \"b\"",
        &[(Code::UnknownName, 8)],
    );
    check("tenant = \"acme\"\n", "", &[(Code::Missing, 9)]);
    let ends = "endpoints = [{ address = \"db1:3306\" }]";
    check(ends, "endpoints = []", &[(Code::Contradiction, 5)]);
    check(ends, "", &[(Code::Missing, 4)]);
    check(
        "\" }]",
        "\", role = \"replica\" }]",
        &[(Code::Contradiction, 5)],
    );
    check("\" }]", "\", weight = 0 }]", &[(Code::Contradiction, 5)]);
    check("\" }]", "\", role = \"leader\" }]", &[(Code::BadValue, 5)]);
    let upstream = "upstream = { user = \"gw\", password = { env = \"PW\" } }\n";
    check(upstream, "", &[(Code::NoUpstream, 6)]);
    check("user = \"gw\", ", "", &[(Code::Missing, 6)]);
}

#[test]
fn unix_sockets_are_read_and_shown() {
    let unix = GOOD
        .replace(
            "127.0.0.1:3306\"",
            "unix:/run/ringgate/mysql.sock\"\nmode = \"0660\"\nsend_buffer = \"1MiB\"",
        )
        .replace("db1:3306", "unix:/run/mysqld/mysqld.sock");
    let snapshot = parse(&unix).unwrap();
    let listener = &snapshot.listeners[0];
    assert_eq!(
        listener.address.to_string(),
        "unix:/run/ringgate/mysql.sock"
    );
    assert_eq!(listener.mode, 0o660);
    let endpoint = &snapshot.endpoints[0];
    assert_eq!(endpoint.address(), "unix:/run/mysqld/mysqld.sock");
    let shown = snapshot.to_string();
    assert!(shown.contains("mode = \"0660\""), "{shown}");
    // What is shown holds no option that only TCP has, or it could not be read back.
    let again = problems(&shown);
    assert_eq!(again.len(), 2, "{:?}", parse(&shown));
    assert!(again.iter().all(|(code, _)| *code == Code::SecretInFile));
    // Anybody may connect unless the file says otherwise: passwords decide.
    let snapshot = parse(&unix.replace("mode = \"0660\"\n", "")).unwrap();
    assert_eq!(snapshot.listeners[0].mode, 0o777);
}

#[test]
fn unix_sockets_that_cannot_be_are_refused() {
    use Code::{AddressTaken, Contradiction, OutOfRange};
    let listen = "address = \"127.0.0.1:3306\"";
    let at = "address = \"unix:/run/a.sock\"";
    let long = "x".repeat(108);
    for path in ["", "a.sock", "@a", "/", "/run/", "/run/a\\u0000b", &long] {
        let to = format!("address = \"unix:{path}\"");
        check(listen, &to, &[(OutOfRange, 3)]);
        let to = format!("unix:{path}\"");
        check("db1:3306\"", &to, &[(OutOfRange, 5)]);
    }
    check(listen, "address = \"/run/a.sock\"", &[(OutOfRange, 3)]);
    // The longest path is 107 bytes with its slash.
    let fits = format!("address = \"unix:/{}\"", "x".repeat(106));
    check(listen, &fits, &[]);
    let help = remedy(listen, &format!("address = \"unix:/{long}\""));
    assert!(help.contains("at most 107 bytes"), "{help}");
    let help = remedy(listen, "address = \"/run/a.sock\"");
    assert!(help.contains("unix:/run/"), "{help}");
    for mode in [
        "\"777\\n\"",
        "\"0888\"",
        "\"1777\"",
        "\"07777\"",
        "\"-777\"",
        "\"rw\"",
        "\"\"",
    ] {
        check(listen, &format!("{at}\nmode = {mode}"), &[(OutOfRange, 4)]);
    }
    check(
        listen,
        &format!("{listen}\nmode = \"0777\""),
        &[(Contradiction, 4)],
    );
    let other = format!("{at}\n[listeners.other]\naddress = \"unix:/run/./a.sock\"");
    check(listen, &other, &[(AddressTaken, 5)]);
    let twice =
        "db1:3306\" }, { address = \"unix:/a\", role = \"replica\" }, { address = \"unix:/a\"";
    check("db1:3306\"", twice, &[(AddressTaken, 5)]);
    check(
        "[placements.a]",
        "[admin]\naddress = \"unix:/a\"\n[placements.a]",
        &[(OutOfRange, 5)],
    );
}

#[test]
fn options_of_tcp_are_refused_where_there_is_no_tcp() {
    let listen = "address = \"127.0.0.1:3306\"";
    let at = "address = \"unix:/run/a.sock\"";
    let contradiction = |line| [(Code::Contradiction, line)];
    for option in [
        "keepalive = \"30s\"",
        "keepalive_interval = \"10s\"",
        "keepalive_count = 3",
        "user_timeout = \"10s\"",
        "congestion = \"cubic\"",
    ] {
        check(listen, &format!("{at}\n{option}"), &contradiction(4));
        check(listen, &format!("{listen}\n{option}"), &[]);
        let all_unix = format!("unix:/a\" }}]\n{option}\n#");
        check("db1:3306\"", &all_unix, &contradiction(6));
        let mixed = format!("db1:3306\" }}, {{ address = \"unix:/a\" }}]\n{option}\n#");
        check("db1:3306\"", &mixed, &[]);
    }
    check(listen, &format!("{at}\nreceive_buffer = \"1MiB\""), &[]);
}

#[test]
fn a_hash_gives_tenants_a_placement_and_needs_their_account_there() {
    let text = format!("{GOOD}[tenants.other]\n[hash]\nplacements = [\"a\"]\n");
    let snapshot = parse(&text).unwrap();
    assert_eq!(snapshot.tenants[1].placement, None);
    assert_eq!(snapshot.hash.unwrap().placements.len(), 1);
    check_added(
        "[placements.b]\nendpoints = [{ address = \"db2:3306\" }]\n[tenants.x]\n[hash]\nplacements = [\"a\", \"b\"]\n",
        Code::NoUpstream,
        3,
    );
}

#[test]
fn names_that_cannot_be_shown_are_refused() {
    check(
        "[tenants.acme]",
        "[tenants.\"ac me\"]\nplacement = \"a\"\n[tenants.acme]",
        &[(Code::BadName, 7)],
    );
    check(
        "[listeners.main]",
        "[listeners.\"\"]",
        &[(Code::BadName, 2)],
    );
    check("[users.app]", "[users.\"a\\tb\"]", &[(Code::BadName, 9)]);
    check("[users.app]", "[users.\"josé@home\"]", &[]);
}

#[test]
fn secrets_come_from_outside_and_are_checked() {
    let password = |value: &str, expect: &[(Code, usize)]| {
        check(
            "\npassword = { env = \"PW\" }",
            &format!("\npassword = {value}"),
            expect,
        );
    };
    password("\"hunter2\"", &[(Code::SecretInFile, 11)]);
    password("7", &[(Code::WrongType, 11)]);
    password("{ env = \"UNSET\" }", &[(Code::SecretMissing, 11)]);
    password("{ env = \"EMPTY\" }", &[(Code::SecretEmpty, 11)]);
    password("{ env = \"ONLY_NEWLINE\" }", &[(Code::SecretEmpty, 11)]);
    password("{ env = \"NUL\" }", &[(Code::BadValue, 11)]);
    password("{ }", &[(Code::Missing, 11)]);
    password(
        "{ env = \"PW\", file = \"x\" }",
        &[(Code::Contradiction, 11)],
    );
    password(
        "{ evn = \"PW\" }",
        &[(Code::Missing, 11), (Code::UnknownKey, 11)],
    );
    password(
        "{ file = \"/nonexistent/secret\" }",
        &[(Code::SecretMissing, 11)],
    );
    password("{ file = \"/\" }", &[(Code::NotAFile, 11)]);
    password("{ file = \"/dev/zero\" }", &[(Code::NotAFile, 11)]);
    check("\npassword = { env = \"PW\" }", "", &[(Code::Missing, 9)]);
    let doubled = "\npassword = { env = \"PW\" }\npasswordless = true";
    check(
        "\npassword = { env = \"PW\" }",
        doubled,
        &[(Code::Contradiction, 9)],
    );
}

#[test]
fn verifiers_are_checked_and_fit_the_plugin() {
    let verifiers = |value: &str, expect: &[(Code, usize)]| {
        check(
            "\npassword = { env = \"PW\" }",
            &format!("\nverifiers = {value}"),
            expect,
        );
    };
    let native = "native = \"*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19\"";
    let sha2 = "sha2_stage2 = \"73641c99f7719f57d8f4beb11a303afcd190243a51ced8782ca6d3dbe014d146\"";
    let salted = format!(
        "caching_sha2 = \"$A$005${}{}\"",
        "s".repeat(20),
        "h".repeat(43)
    );
    verifiers(&format!("{{ {native} }}"), &[]);
    verifiers(&format!("{{ {native}, {sha2} }}"), &[]);
    verifiers(&format!("{{ {salted} }}"), &[]);
    verifiers("{ native = \"2470\" }", &[(Code::BadVerifier, 11)]);
    verifiers("{ sha2_stage2 = \"xyz\" }", &[(Code::BadVerifier, 11)]);
    verifiers("{ caching_sha2 = \"$A$005$\" }", &[(Code::BadVerifier, 11)]);
    verifiers("{ }", &[(Code::BadVerifier, 11)]);
    verifiers(
        &format!("{{ {native}, {salted} }}"),
        &[(Code::BadVerifier, 11)],
    );
    let with_plugin = |value: &str, plugin: &str, expect: &[(Code, usize)]| {
        verifiers(&format!("{{ {value} }}\nplugin = \"{plugin}\""), expect);
    };
    with_plugin(native, "mysql_native_password", &[]);
    with_plugin(
        native,
        "caching_sha2_password",
        &[(Code::PluginMismatch, 12)],
    );
    with_plugin(sha2, "mysql_native_password", &[(Code::PluginMismatch, 12)]);
    with_plugin(sha2, "mysql_clear_password", &[(Code::BadValue, 12)]);
}

#[test]
fn no_secret_is_ever_shown() {
    let literal = "password = \"hunter2\"";
    let cases = [
        GOOD.replacen("password = { env = \"PW\" }", literal, 2),
        GOOD.replace("\npassword = { env = \"PW\" }", "\npasword = \"hunter2\""),
        GOOD.replace("\npassword = { env = \"PW\" }", "\npassword = \"hunter2"),
        GOOD.replace("{ env = \"PW\" }", "\"hunter2\", colour = 5"),
        GOOD.replace(
            "password = { env = \"PW\" }",
            "verifiers = { native = \"*hunter2\" }",
        ),
        GOOD.replace("{ env = \"PW\" }", "\"\"\"\nhunter2\n\"\"\""),
    ];
    for text in cases {
        let errors = parse(&text).unwrap_err();
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
        assert!(!format!("{errors:?} {}", errors.one_line()).contains("hunter2"));
    }
    let snapshot = parse(GOOD).unwrap();
    let shown = format!("{snapshot} {snapshot:?}");
    assert!(
        shown.contains("***") && !shown.contains(PASSWORD),
        "{shown}"
    );
    // Nor what a password could be guessed against.
    let version = snapshot.placements[0]
        .upstream
        .as_ref()
        .unwrap()
        .version
        .0
        .to_string();
    assert!(!shown.contains(&version));
}

#[test]
fn files_of_secrets_are_private_and_lose_one_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("pw");
    let name = folder.path().join("ringgate.toml").display().to_string();
    let text = GOOD.replace("{ env = \"PW\" }", "{ file = \"pw\" }");
    let read = |bytes: &[u8], mode: u32| {
        fs::write(&secret, bytes).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        match config::parse(&name, &text, &|_| None) {
            Ok(snapshot) => Ok(snapshot.placements[0].upstream.clone().unwrap().password),
            Err(errors) => Err(errors.problems()[0].code),
        }
    };
    let password = |bytes: &[u8]| read(bytes, 0o600).map(|secret| secret.expose().to_vec());
    assert_eq!(password(b"pw").unwrap(), b"pw");
    assert_eq!(password(b"pw\n").unwrap(), b"pw");
    assert_eq!(password(b"pw\r\n").unwrap(), b"pw");
    assert_eq!(password(b"pw\n\n").unwrap(), b"pw\n");
    assert_eq!(password(b" \xff ").unwrap(), b" \xff ");
    assert_eq!(password(b"").unwrap_err(), Code::SecretEmpty);
    assert_eq!(password(b"\n").unwrap_err(), Code::SecretEmpty);
    assert_eq!(password(&vec![b'x'; 70_000]).unwrap_err(), Code::TooLarge);
    for mode in [0o600, 0o400, 0o640] {
        assert!(read(b"pw", mode).is_ok(), "{mode:o}");
    }
    for mode in [0o644, 0o604, 0o620, 0o602, 0o666] {
        assert_eq!(
            read(b"pw", mode).unwrap_err(),
            Code::SecretExposed,
            "{mode:o}"
        );
    }
}

#[test]
fn paths_that_are_no_configuration_file_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(
        Command::new("mkfifo")
            .arg(path("fifo"))
            .status()
            .unwrap()
            .success()
    );
    std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    fs::write(path("latin1"), b"version = 1\n# caf\xe9\n").unwrap();
    fs::write(path("empty"), b"").unwrap();
    let large = fs::File::create(path("large")).unwrap();
    large.set_len(100 << 20).unwrap();

    let check = |path: &Path, expect: Code| {
        let began = Instant::now();
        let errors = config::load(path).unwrap_err();
        assert_eq!(errors.problems()[0].code, expect, "{errors}");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{}",
            path.display()
        );
        assert!(errors.to_string().contains(&path.display().to_string()));
    };
    check(&path("missing"), Code::Unreadable);
    check(folder.path(), Code::NotAFile);
    check(&path("fifo"), Code::NotAFile);
    check(Path::new("/dev/zero"), Code::NotAFile);
    check(&path("socket"), Code::Unreadable);
    check(&path("loop"), Code::Unreadable);
    check(&path("latin1"), Code::NotUtf8);
    check(&path("large"), Code::TooLarge);
    check(&path("empty"), Code::Missing);
    assert!(
        config::load(&path("latin1"))
            .unwrap_err()
            .to_string()
            .contains("line 2")
    );
}

#[test]
fn byte_order_marks_line_ends_and_tabs_do_not_matter() {
    let plain = parse(GOOD).unwrap();
    let same = |text: &str| assert!(parse(text).unwrap() == plain);
    same(&format!("\u{feff}{GOOD}"));
    same(&GOOD.replace('\n', "\r\n"));
    same(&GOOD.replace(" = ", "\t=\t"));
    let text = format!("\u{feff}{}", GOOD.replace("version = 1", "version = 9"));
    assert_eq!(problems(&text), [(Code::Version, 1)]);
}

#[test]
fn the_same_file_twice_gives_equal_snapshots_and_an_edit_does_not() {
    assert!(parse(GOOD).unwrap() == parse(GOOD).unwrap());
    assert!(parse(GOOD).unwrap() == parse(&format!("# note\n{GOOD}")).unwrap());
    assert!(parse(GOOD).unwrap() != parse(&GOOD.replace("db1", "db2")).unwrap());
    let rotated = |name: &str| (name == "PW").then(|| "other".to_owned());
    let before = parse(GOOD).unwrap();
    let after = config::parse("ringgate.toml", GOOD, &rotated).unwrap();
    assert!(before != after);
    let version = |s: &Snapshot| {
        s.placements[0]
            .upstream
            .as_ref()
            .map(|account| account.version)
    };
    assert!(version(&before) != version(&after));
}

#[test]
fn what_the_machine_cannot_give_is_refused() {
    let machine = Machine {
        cpus: Some(vec![0, 1]),
        files_max: Some(1_024),
        congestions: Some(vec!["reno".to_owned(), "cubic".to_owned()]),
    };
    let on = |extra: &str| {
        let text = GOOD.replace("[placements.a]", &format!("{extra}\n[placements.a]"));
        config::parse_on("ringgate.toml", &text, &env, &machine)
    };
    let code = |extra: &str| on(extra).unwrap_err().problems()[0].code;
    assert_eq!(
        on("").unwrap().listeners[0].connections_max,
        1_024 - 256 - 64
    );
    assert_eq!(
        on("connections_max = 704").unwrap().listeners[0].connections_max,
        704
    );
    assert_eq!(code("connections_max = 705"), Code::Machine);
    assert_eq!(code("[pools]\nbudget = 1000"), Code::Machine);
    assert_eq!(code("[cores]\ncount = 3"), Code::Machine);
    assert_eq!(code("[cores]\ncpus = \"1-2\""), Code::Machine);
    let help = |extra: &str| on(extra).unwrap_err().problems()[0].help.clone();
    assert!(help("[cores]\ncpus = \"0-60\"").starts_with("it may run on 0,1;"));
    assert!(on("congestion = \"cubic\"").is_ok() && on("congestion = \"\"").is_ok());
    assert_eq!(code("congestion = \"nope\""), Code::Machine);
    let help = help("congestion = \"nope\"");
    assert!(help.starts_with("write one of reno, cubic;"), "{help}");
    let placement = GOOD.replace("[tenants.acme]", "congestion = \"nope\"\n[tenants.acme]");
    let refused = config::parse_on("ringgate.toml", &placement, &env, &machine).unwrap_err();
    assert_eq!(refused.problems()[0].code, Code::Machine);
    assert_eq!(code("[pools]\nbudget = 1"), Code::Contradiction);
    assert!(on("[cores]\ncount = 1\n[pools]\nbudget = 1").is_ok());
}

#[test]
fn a_hundred_thousand_users_are_read_and_ten_thousand_listeners_refused() {
    let mut text = GOOD.to_owned();
    for n in 0..100_000 {
        text.push_str(&format!(
            "[users.u{n}]\ntenant=\"acme\"\npassword={{env=\"PW\"}}\n"
        ));
    }
    assert!(text.len() < 8 << 20);
    let snapshot = parse(&text).unwrap();
    assert_eq!(snapshot.users.list().len(), 100_001);
    let (index, user) = snapshot.users.find(b"u99999").unwrap();
    assert_eq!(
        (user.name.as_str(), snapshot.users.get(index)),
        ("u99999", Some(user))
    );
    assert!(snapshot.users.find(b"U99999").is_none() && snapshot.users.find(b"").is_none());

    let errors = parse(&text.replace("tenant=\"acme\"", "tenant=\"acne\"")).unwrap_err();
    assert_eq!(errors.problems().len(), 100_000);
    assert!(errors.to_string().contains("and 99900 more"));

    let mut text = GOOD.to_owned();
    for n in 0..10_000 {
        text.push_str(&format!(
            "[listeners.l{n}]\naddress=\"127.0.0.1:{}\"\n",
            10_000 + n
        ));
    }
    assert_eq!(parse(&text).unwrap_err().problems().len(), 1);
}

#[test]
fn the_effective_configuration_is_toml_with_what_was_left_out() {
    let shown = parse(GOOD).unwrap().to_string();
    let table: toml::Table = shown.parse().unwrap();
    assert_eq!(table["deadlines"]["login"].as_str(), Some("5s"));
    assert_eq!(table["placements"]["a"]["budget"].as_integer(), Some(64));
    assert_eq!(
        table["users"]["app"]["plugin"].as_str(),
        Some("caching_sha2_password")
    );
    // Reading it back complains of the masked secrets and of nothing else.
    let again = problems(&shown);
    assert_eq!(again.len(), 2, "{:?}", parse(&shown));
    assert!(again.iter().all(|(code, _)| *code == Code::SecretInFile));
}
