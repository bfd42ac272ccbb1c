//! Reads the listeners and the options of sockets; finds addresses claimed twice.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::address::{Address, AddressError};

use super::machine::Machine;
use super::problem::{Code, Problem, Problems};
use super::reader::{At, Section};
use super::snapshot::{Listener, Protocol, SocketSettings};

/// Connections of a listener when neither the file nor the machine says less.
const CONNECTIONS_DEFAULT: u32 = 20_000;

/// As servers make their sockets: a password decides who gets in, not the file. Who wants less says so.
const MODE_DEFAULT: u32 = 0o777;

/// Options of [`read_socket`] that Unix sockets do not have.
const TCP_OPTIONS: &[&str] = &[
    "keepalive",
    "keepalive_interval",
    "keepalive_count",
    "user_timeout",
    "congestion",
];

/// Every core has a socket for each of them.
const LISTENERS_MAX: usize = 256;

/// A listener as read: the bound on connections may still be chosen.
pub(super) struct ReadListener {
    pub(super) listener: Listener,
    /// Where its address stands.
    pub(super) address: At<Address>,
    /// The bound as written.
    pub(super) connections_max: Option<At<u64>>,
}

/// `[listeners.*]`, in the order of their names.
pub(super) fn read_listeners(root: &mut Section<'_>, machine: &Machine) -> Vec<ReadListener> {
    let sections = root.named("listeners");
    let is_told = root.has_other_than_table("listeners") || root.misspells("listeners");
    if sections.is_empty() && !is_told {
        root.missing(
            "listeners",
            "[listeners.main]\naddress = \"127.0.0.1:3306\"",
        );
    }
    if let Some((name, _)) = sections.get(LISTENERS_MAX) {
        let message = format!("{} listeners are too many", sections.len());
        let problem = Problem::at(Code::Contradiction, &name.span, message, "one too many");
        root.problems.push(problem.help(format!(
            "every core has a socket for each; at most {LISTENERS_MAX} fit"
        )));
        return Vec::new();
    }
    sections
        .into_iter()
        .filter_map(|(name, section)| read_listener(name, section, machine))
        .collect()
}

fn read_listener(
    name: At<String>,
    mut section: Section<'_>,
    machine: &Machine,
) -> Option<ReadListener> {
    check_name(&name, section.problems);
    let protocol = section.choice("protocol", &[(Protocol::Mysql.label(), Protocol::Mysql)]);
    let _ = section
        .is_present()
        .then(|| require(&section, "address", "address = \"127.0.0.1:3306\""));
    let address = read_address(&mut section, "address");
    let connections_max = section.number("connections_max", 1..=10_000_000);
    let backlog = section.number32("backlog", 1..=65_535).unwrap_or(4_096);
    let socket = read_socket(&mut section, machine);
    let is_unix = address.as_ref().map(|address| address.value.is_unix());
    let mode = read_mode(&mut section, is_unix);
    if is_unix == Some(true) {
        refuse_tcp_options(&section, "this listener's address is a Unix socket");
    }
    section.finish();
    let address = address?;
    let bound = connections_max
        .as_ref()
        .and_then(|at| u32::try_from(at.value).ok());
    let listener = Listener {
        name: name.value,
        protocol: protocol.unwrap_or(Protocol::Mysql),
        address: address.value.clone(),
        mode,
        backlog,
        connections_max: bound.unwrap_or(CONNECTIONS_DEFAULT),
        socket,
    };
    Some(ReadListener {
        listener,
        address,
        connections_max,
    })
}

/// An IP address with a port, or a Unix socket, to listen on.
fn read_address(section: &mut Section<'_>, key: &'static str) -> Option<At<Address>> {
    let text = section.text(key)?;
    let help = match text.value.parse() {
        Ok(value) => {
            return Some(At {
                value,
                span: text.span,
            });
        }
        Err(AddressError::Neither) => {
            "write an IP address and a port: \"127.0.0.1:3306\", \"0.0.0.0:3306\" or \"[::]:3306\"; or a \
             Unix socket: \"unix:/run/ringgate/mysql.sock\""
                .to_owned()
        }
        Err(error) => error.to_string(),
    };
    section.out_of_range(key, &text.span, help);
    None
}

/// `mode`: permissions of a Unix socket's file.
fn read_mode(section: &mut Section<'_>, is_unix: Option<bool>) -> u32 {
    let Some(text) = section.text("mode") else {
        return MODE_DEFAULT;
    };
    if is_unix == Some(false) {
        let message = format!("`{}` has no file: it is of TCP", section.path_of("address"));
        let problem = Problem::at(Code::Contradiction, &text.span, message, "of no file");
        section
            .problems
            .push(problem.help("remove `mode`, or listen on \"unix:/path\""));
    }
    let is_octal =
        (3..=4).contains(&text.value.len()) && text.value.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(&text.value, 8).ok();
    match mode.filter(|mode| is_octal && *mode <= 0o777) {
        Some(mode) => mode,
        None => {
            let help = "write the permissions in octal: \"0777\" for everybody, \"0660\" for the \
                        owner and the group";
            section.out_of_range("mode", &text.span, help.to_owned());
            MODE_DEFAULT
        }
    }
}

/// Reports options that only TCP has, where there is no TCP.
pub(super) fn refuse_tcp_options(section: &Section<'_>, why: &str) {
    for key in TCP_OPTIONS.iter().filter(|key| section.has(key)) {
        let message = format!("`{}` is an option of TCP", section.path_of(key));
        let span = section.span_of(key);
        let problem = Problem::at(Code::Contradiction, &span, message, "without effect");
        section
            .problems
            .push(problem.help(format!("remove it: {why}")));
    }
}

fn require(section: &Section<'_>, key: &str, example: &str) {
    if !section.has(key) {
        section.missing(key, example);
    }
}

/// The options of sockets, which listeners and placements take alike.
pub(super) fn read_socket(section: &mut Section<'_>, machine: &Machine) -> SocketSettings {
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let none_or = |duration: Duration| (!duration.is_zero()).then_some(duration);
    // The kernel keeps these in whole seconds; TCP_USER_TIMEOUT in milliseconds.
    SocketSettings {
        keepalive: none_or(section.duration("keepalive", 30 * second, Duration::ZERO..=day)),
        keepalive_interval: section.duration("keepalive_interval", 10 * second, second..=day),
        keepalive_count: section.number32("keepalive_count", 1..=127).unwrap_or(3),
        user_timeout: none_or(read_user_timeout(section)),
        receive_buffer: section.size("receive_buffer", 4_096..=1 << 30),
        send_buffer: section.size("send_buffer", 4_096..=1 << 30),
        congestion: read_congestion(section, machine),
    }
}

/// `user_timeout`: none, or long enough for the ring to see a closed window first.
fn read_user_timeout(section: &mut Section<'_>) -> Duration {
    let second = Duration::from_secs(1);
    let timeout = section.duration(
        "user_timeout",
        10 * second,
        Duration::ZERO..=86_400 * second,
    );
    if !timeout.is_zero() && timeout < second {
        let help = "write \"0s\", or a duration from \"1s\" to \"1d\"".to_owned();
        section.out_of_range("user_timeout", &section.span_of("user_timeout"), help);
    }
    timeout
}

fn read_congestion(section: &mut Section<'_>, machine: &Machine) -> Option<String> {
    let text = section
        .text("congestion")
        .filter(|text| !text.value.is_empty())?;
    // TCP_CA_NAME_MAX of the kernel is 16 with the final zero.
    let is_name = text
        .value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !is_name || text.value.len() > 15 {
        let problem = Problem::at(
            Code::BadValue,
            &text.span,
            "this is no congestion control",
            "this name",
        );
        section.problems.push(
            problem
                .help("write one of those in /proc/sys/net/ipv4/tcp_available_congestion_control"),
        );
        return None;
    }
    let unknown = machine
        .congestions
        .as_ref()
        .filter(|names| !names.contains(&text.value));
    if let Some(names) = unknown {
        let message = format!(
            "this process cannot have the congestion control `{}`",
            text.value
        );
        let problem = Problem::at(Code::Machine, &text.span, message, "not here");
        let known = names.join(", ");
        section.problems.push(problem.help(format!(
            "write one of {known}; or load its kernel module (`modprobe tcp_{}`) and allow it \
             (net.ipv4.tcp_allowed_congestion_control)",
            text.value
        )));
    }
    Some(text.value)
}

/// Reports every address that two settings claim. Port 0 is nobody's.
pub(super) fn check_addresses(addresses: &[(String, At<Address>)], problems: &Problems) {
    for (index, (name, address)) in addresses.iter().enumerate() {
        let earlier = addresses
            .iter()
            .take(index)
            .find(|(_, other)| clash(&other.value, &address.value));
        if let Some((other, taken)) = earlier {
            let (place, remedy) = match &address.value {
                Address::Tcp(address) => (
                    format!("port {}", address.port()),
                    "another port or address",
                ),
                unix => (unix.to_string(), "another path"),
            };
            let message = format!("`{name}` and `{other}` both listen on {place}");
            let problem = Problem::at(Code::AddressTaken, &address.span, message, "taken");
            let taken = &taken.value;
            problems.push(problem.help(format!("`{other}` has {taken}; choose {remedy}")));
        }
    }
}

fn clash(a: &Address, b: &Address) -> bool {
    let (Some(a), Some(b)) = (a.tcp(), b.tcp()) else {
        return a == b;
    };
    let all = |address: SocketAddr| address.ip().is_unspecified();
    // [::] also takes IPv4 connections on Linux unless the system says otherwise.
    let covers = |a: SocketAddr, b: SocketAddr| all(a) && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

/// Lowers bounds that the file does not state to what the machine grants; refuses stated ones beyond it.
///
/// `reserved` counts the other descriptors: upstream connections and the process's own.
pub(super) fn fit_connections(
    listeners: &mut [ReadListener],
    reserved: u64,
    files_max: Option<u64>,
    problems: &Problems,
) {
    let Some(files_max) = files_max else { return };
    let stated: u64 = listeners
        .iter()
        .filter_map(|l| l.connections_max.as_ref())
        .map(|at| at.value)
        .sum();
    let unstated = u64::try_from(
        listeners
            .iter()
            .filter(|l| l.connections_max.is_none())
            .count(),
    )
    .unwrap_or(u64::MAX);
    let left = files_max.saturating_sub(reserved).saturating_sub(stated);
    let needed = stated + reserved + unstated;
    if needed > files_max {
        let last = listeners
            .iter()
            .filter_map(|l| l.connections_max.as_ref())
            .max_by_key(|at| at.value);
        let message = format!(
            "{needed} file descriptors may be needed and the limit of this process is {files_max}"
        );
        let problem = match last {
            Some(at) => Problem::at(Code::Machine, &at.span, message, "the largest part"),
            None => Problem::whole(Code::Machine, message),
        };
        problems.push(problem.help("raise the hard limit of open files (`ulimit -Hn`, LimitNOFILE=) or lower `connections_max` and `budget`"));
        return;
    }
    for listener in listeners.iter_mut().filter(|l| l.connections_max.is_none()) {
        let share = u32::try_from(left / unstated.max(1)).unwrap_or(u32::MAX);
        listener.listener.connections_max = share.clamp(1, CONNECTIONS_DEFAULT);
    }
}

/// Names of listeners, placements and tenants end up in log lines and metric labels.
pub(super) fn check_name(name: &At<String>, problems: &Problems) {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=64).contains(&name.value.len()) || !name.value.bytes().all(fits) {
        let problem = Problem::at(
            Code::BadName,
            &name.span,
            "this name cannot be used",
            "this name",
        );
        problems.push(problem.help("a name has 1 to 64 letters, digits, '-', '_' or '.'"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_when_one_socket_would_take_the_others_connections() {
        let check = |a: &str, b: &str, expect: bool| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(clash(&a, &b), expect, "{a} {b}");
            assert_eq!(clash(&b, &a), expect, "{b} {a}");
        };
        check("127.0.0.1:1", "127.0.0.1:1", true);
        check("127.0.0.1:1", "127.0.0.1:2", false);
        check("127.0.0.1:0", "127.0.0.1:0", false);
        check("127.0.0.1:1", "127.0.0.2:1", false);
        check("0.0.0.0:1", "127.0.0.1:1", true);
        check("[::]:1", "127.0.0.1:1", true);
        check("[::1]:1", "0.0.0.0:1", false);
        check("unix:/run/a", "unix:/run/a", true);
        check("unix:/run/a", "unix:/run//./a", true);
        check("unix:/run/a", "unix:/run/b", false);
        check("unix:/run/a", "127.0.0.1:1", false);
    }
}
