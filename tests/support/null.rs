//! A null server, run as a user of the harness runs it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::Login;
use super::server::signal;

/// A running `ringgate load serve`. Dropping it kills the process.
pub struct NullServer {
    process: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl NullServer {
    /// Starts one, for example with `&["mysql", "--rows", "3"]`, on a free port, and waits until it
    /// says where it listens.
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["load", "serve"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ");
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{arguments:?} said {line:?}"));
        Self {
            process,
            output,
            address,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A login that it accepts unless it was given an account.
    pub fn login(&self, deprecate_eof: bool) -> Login {
        Login {
            port: self.port(),
            user: "anyone".to_owned(),
            password: "anything".to_owned(),
            schema: "any".to_owned(),
            deprecate_eof,
        }
    }

    /// Ends it by a signal and gives its last words; panics unless it exits with 0.
    pub fn stop(mut self, name: &str) -> String {
        signal(self.process.id(), name);
        let mut words = String::new();
        self.output.read_to_string(&mut words).expect("its words");
        let status = self.process.wait().expect("its end");
        assert!(status.success(), "{status}: {words}");
        words
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
