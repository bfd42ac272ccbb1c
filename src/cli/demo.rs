//! `ringgate demo`: two embedded shards, the gateway in front of them, and lines to try.

mod check;
mod lines;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::mpsc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{self, Snapshot};
use crate::control::{Exit, Order, Serve, Serving};
use crate::door::life::core_main;
use crate::sandbox::demo::{ACME, DEMO_SCHEMA, DEMO_UPSTREAM, DemoShards, GLOBEX, demo_shards};

/// Where the demo listens if nobody else does: easy to type and to find again.
const USUAL_PORT: u16 = 13306;

/// Runs the demo until a signal ends it; with `check`, until its own lines have been tried.
///
/// Nothing of it is left behind: the shards' data goes when this returns or the process exits here.
pub(super) fn run(check: bool) -> ExitCode {
    let ended = serve(check).unwrap_or_else(|why| {
        say(&mut io::stderr(), &format!("ringgate demo: {why}\n"));
        Exit::Failure
    });
    if ended == Exit::Success {
        return ExitCode::SUCCESS;
    }
    // A core may have been left behind; it must not run on while the process is taken apart.
    signal_hook::low_level::exit(i32::from(ended.code()))
}

fn serve(check: bool) -> Result<Exit, String> {
    // From here on a signal waits until there is a node to end, so that the shards' data always goes.
    // A closed terminal ends a demo, too: there is no file to read again.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let signals = signals.map_err(|error| format!("signals cannot be received: {error}"))?;
    let shards = demo_shards().map_err(|error| format!("no shards: {error}"))?;
    let snapshot = snapshot(&shards, if check { 0 } else { port() })?;
    let (verdict, verdicts) = mpsc::channel();
    let node = Serve {
        snapshot,
        load: None,
        main: core_main,
        signals: false,
        on_ready: Some(Box::new(move |serving| {
            obey(signals, serving.clone());
            if check {
                std::thread::spawn(move || try_lines(serving, &verdict));
            } else {
                say(&mut io::stdout(), &instructions(&serving));
            }
        })),
    };
    let exit = node.run();
    if check && verdicts.try_recv() != Ok(true) {
        return Ok(Exit::Failure);
    }
    Ok(exit)
}

/// Turns signals into orders to end, on a thread of its own.
fn obey(mut signals: Signals, serving: Serving) {
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // False only when the node is ending anyway.
            let _ = serving.order(Order::End);
        }
    });
}

/// Ends the node when dropped, also by a panic: otherwise a failed check would serve for ever.
struct EndOnDrop(Serving);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = self.0.order(Order::End);
    }
}

fn try_lines(serving: Serving, verdict: &mpsc::Sender<bool>) {
    let node = EndOnDrop(serving);
    let passed = door(&node.0).is_some_and(|door| check::run(door, &mut io::stdout()));
    // Nobody listens any more when a signal has ended the node.
    let _ = verdict.send(passed);
}

/// The usual port if it is free, else 0 for any that is.
fn port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT)).map_or(0, |_free| USUAL_PORT)
}

fn door(serving: &Serving) -> Option<SocketAddr> {
    serving.doors.first().and_then(|(_, address)| address.tcp())
}

/// The demo's configuration, read as any other.
fn snapshot(shards: &DemoShards, port: u16) -> Result<Snapshot, String> {
    let text = configuration(shards.a.address(), shards.b.address(), port);
    let secrets = |name: &str| {
        let secret = match name {
            "SHARD_PASSWORD" => DEMO_UPSTREAM.1,
            "ACME_PASSWORD" => ACME.password,
            "GLOBEX_PASSWORD" => GLOBEX.password,
            _ => return None,
        };
        Some(secret.to_owned())
    };
    config::parse("demo.toml", &text, &secrets).map_err(|errors| errors.one_line())
}

fn configuration(a: SocketAddr, b: SocketAddr, port: u16) -> String {
    let account = DEMO_UPSTREAM.0;
    let (acme, globex) = (ACME.user, GLOBEX.user);
    format!(
        r#"version = 1

[listeners.main]
protocol = "mysql"
address = "127.0.0.1:{port}"

[admin]
address = "127.0.0.1:0"

[node]
drain_grace = "1s"

[logging]
level = "warn"

[placements.shard-a]
endpoints = [{{ address = "{a}", role = "primary" }}]
upstream = {{ user = "{account}", password = {{ env = "SHARD_PASSWORD" }} }}

[placements.shard-b]
endpoints = [{{ address = "{b}", role = "primary" }}]
upstream = {{ user = "{account}", password = {{ env = "SHARD_PASSWORD" }} }}

[tenants.{acme}]
placement = "shard-a"
schema = "{DEMO_SCHEMA}"

[tenants.{globex}]
placement = "shard-b"
schema = "{DEMO_SCHEMA}"

[users.{acme}]
tenant = "{acme}"
password = {{ env = "ACME_PASSWORD" }}

[users.{globex}]
tenant = "{globex}"
password = {{ env = "GLOBEX_PASSWORD" }}
"#
    )
}

/// What to try, and how to end it.
fn instructions(serving: &Serving) -> String {
    let Some(door) = door(serving) else {
        return String::new();
    };
    let shell = check::Shell::find().unwrap_or_default();
    let mut text = format!(
        "Two shards are running, and the gateway in front of them at {door}.\n\
         Each tenant's statements go to its own shard. Try:\n\n"
    );
    for line in lines::lines() {
        text += &format!("# {}\n{}\n\n", line.title, shell.command_line(door, &line));
    }
    text += &format!(
        "Metrics: http://{}/metrics\nCtrl-C ends the demo and removes its data.\n",
        serving.admin
    );
    text
}

/// Writes to a terminal or a pipe; whoever closed it wants no more text.
fn say(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_accepted() {
        let shards = demo_shards().unwrap();
        let snapshot = snapshot(&shards, 0).unwrap();
        let addresses: Vec<String> = snapshot.endpoints.iter().map(|e| e.address()).collect();
        assert_eq!(
            addresses,
            [
                shards.a.address().to_string(),
                shards.b.address().to_string()
            ]
        );
        let users: Vec<&str> = snapshot.users.list().iter().map(|u| &*u.name).collect();
        assert_eq!(users, [ACME.user, GLOBEX.user]);
    }

    #[test]
    fn a_taken_usual_port_is_left_alone() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT));
        // Taken by the line above or by somebody else: either way it is not to be had.
        assert_eq!(port(), 0);
        drop(held);
    }
}
