//! Configuration: the text of one TOML file becomes a checked, immutable [`Snapshot`].
//!
//! Reading goes on after a problem, with the default in the place of the bad value, so that one
//! pass reports every problem with its line, column and remedy. Any problem refuses the file whole.
//!
//! ```
//! let text = "version = 2";
//! let errors = ringgate::config::parse("ringgate.toml", text, &|_| None).unwrap_err();
//! assert!(errors.to_string().contains("this program reads version 1"));
//! ```

mod advice;
mod doors;
mod machine;
mod mask;
mod people;
mod places;
pub(crate) mod problem;
mod process;
pub(crate) mod reader;
mod secrets;
mod show;
mod snapshot;
mod source;
pub(crate) mod units;

use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeTable;

pub use advice::Advice;
pub use machine::Machine;
pub use problem::{Code, ConfigErrors, Problem};
pub use snapshot::*;
pub(crate) use units::parse_cpus;

use crate::base::address::Address;
use doors::ReadListener;
use places::Ground;
use problem::Problems;
use reader::{At, Section};
use secrets::Sources;

/// Descriptors that are neither clients nor upstreams: rings, files, admin, one spare per core.
const FILES_RESERVED: u64 = 256;

/// Reads and checks the file at `path` against this process's environment and machine.
///
/// Secrets are read with it: relative paths start at the file's directory.
///
/// # Errors
/// Every problem of the file at once; nothing of it is applied.
pub fn load(path: &Path) -> Result<Snapshot, ConfigErrors> {
    let name = path.display().to_string();
    let text = read_text(path)?;
    parse_on(
        &name,
        &text,
        &|name| std::env::var(name).ok(),
        &Machine::detect(),
    )
}

/// The text of the file at `path`.
///
/// # Errors
/// Why it cannot be read, or is no text.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    let whole = |problem: Problem| ConfigErrors::new(&name, "", vec![problem]);
    let (bytes, _) = source::read_file(path, source::CONFIG_BYTES_MAX).map_err(whole)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(valid)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        let message =
            format!("{name} is not UTF-8: line {line} has a byte that belongs to no character");
        whole(Problem::whole(Code::NotUtf8, message).help("save the file as UTF-8"))
    })
}

/// Checks `text` without a machine to compare it with; `env` gives environment variables.
///
/// # Errors
/// Every problem at once, as [`load`].
pub fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Snapshot, ConfigErrors> {
    parse_on(name, text, env, &Machine::default())
}

/// Checks `text` for `machine`. `name` is the file's path, for messages and relative secrets.
///
/// # Errors
/// Every problem at once, as [`load`].
pub fn parse_on(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    machine: &Machine,
) -> Result<Snapshot, ConfigErrors> {
    let dir = Path::new(name).parent().unwrap_or(Path::new(""));
    let sources = Sources { env, dir };
    read_toml(name, text, |root| read_root(root, &sources, machine))
}

/// Reads a TOML text by `read`, which is given its root and reports what is wrong there.
///
/// # Errors
/// Every problem of the text at once.
pub(crate) fn read_toml<T>(
    name: &str,
    text: &str,
    read: impl FnOnce(Section<'_>) -> T,
) -> Result<T, ConfigErrors> {
    // A byte order mark is legal in UTF-8 files and not in TOML. Blanks keep the offsets.
    let unmarked = text
        .strip_prefix('\u{feff}')
        .map(|rest| format!("   {rest}"));
    let text = unmarked.as_deref().unwrap_or(text);
    let (table, syntax) = DeTable::parse_recoverable(text);
    let problems = Problems::default();
    if !syntax.is_empty() {
        for error in syntax {
            let span = error.span().unwrap_or(0..0);
            problems.push(misread(text, &span, error.message()));
        }
        return Err(ConfigErrors::new(name, text, problems.into_sorted()));
    }
    let read = read(Section::root(table.get_ref(), &problems));
    let problems = problems.into_sorted();
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(ConfigErrors::new(name, text, problems))
    }
}

/// A text that is not TOML at `span`, in the parser's words; a value that is not there, in ours.
fn misread(text: &str, span: &std::ops::Range<usize>, message: &str) -> Problem {
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let rest = text.get(line..).unwrap_or_default();
    let rest = rest.lines().next().unwrap_or_default();
    let assigned = rest.split('#').next().unwrap_or_default();
    let key = assigned.trim_end().strip_suffix('=').map(str::trim);
    match key.filter(|key| !key.is_empty() && !key.contains('=')) {
        Some(key) => {
            let start = line + rest.find(key).unwrap_or(0);
            let message = format!("`{key}` has no value");
            let problem = Problem::at(
                Code::Syntax,
                &(start..start + key.len()),
                message,
                "nothing behind the `=`",
            );
            problem.help(format!(
                "write `{key} = …`, or remove the line for its default"
            ))
        }
        None => Problem::at(Code::Syntax, span, message, "here")
            .help("write `key = value`, each key once, texts in quotes"),
    }
}

/// Reads every section. What comes out is meaningful only if no problem was reported.
fn read_root(mut root: Section<'_>, sources: &Sources<'_>, machine: &Machine) -> Snapshot {
    process::read_version(&mut root);
    let (cores, core_count) = process::read_cores(&mut root, machine);
    let node = process::read_node(&mut root);
    let mut listeners = doors::read_listeners(&mut root, machine);
    let (admin, admin_address) = process::read_admin(&mut root);
    let deadlines = process::read_deadlines(&mut root);
    let logging = process::read_logging(&mut root);
    let (pools, default) = process::read_pools(&mut root);
    let buffers = process::read_buffers(&mut root);
    let places = places::read_places(
        &mut root,
        &Ground {
            default,
            cores: core_count,
            machine,
        },
        sources,
    );
    let hash = places::read_hash(&mut root, &places);
    let tenants = people::read_tenants(&mut root, &places, hash.as_ref(), sources);
    let users = people::read_users(&mut root, &tenants, sources);

    doors::check_addresses(&claimed(&listeners, admin_address), root.problems);
    let upstream: u64 = places.endpoints.iter().map(|e| u64::from(e.budget)).sum();
    doors::fit_connections(
        &mut listeners,
        upstream + FILES_RESERVED,
        machine.files_max,
        root.problems,
    );
    root.finish();
    Snapshot {
        cores,
        node,
        listeners: listeners.into_iter().map(|read| read.listener).collect(),
        admin,
        deadlines,
        logging,
        pools,
        buffers,
        placements: places.placements,
        endpoints: places.endpoints,
        hash,
        tenants,
        users: Users::new(users),
    }
}

/// Every address listened on, in the order of the file.
fn claimed(listeners: &[ReadListener], admin: At<SocketAddr>) -> Vec<(String, At<Address>)> {
    let admin = At {
        value: admin.value.into(),
        span: admin.span,
    };
    let doors = listeners.iter().map(|read| {
        (
            format!("listeners.{}", read.listener.name),
            read.address.clone(),
        )
    });
    let mut claimed: Vec<_> = doors.chain([("admin".to_owned(), admin)]).collect();
    claimed.sort_by_key(|(_, address)| address.span.start);
    claimed
}
