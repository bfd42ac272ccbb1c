//! A terminal of 100 columns and 30 rows, for programs that draw on one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, LocalModes, Termios, Winsize, tcflow, tcgetattr, tcsetwinsize};

use super::wait_for;

/// A terminal with a program on it.
pub struct Terminal {
    keys: File,
    /// Kept open, so that its settings can be looked at when the program has ended.
    own: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    program: Child,
}

impl Terminal {
    /// Starts `command` with the terminal as its standard input, output and error. It is consumed: it
    /// would keep its ends of the terminal open, and the reader would wait for them.
    pub fn start(mut command: Command) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keys).expect("its right");
        unlockpt(&keys).expect("its lock");
        let name = ptsname(&keys, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let own = open(&*name, flags, Mode::empty()).expect("the program's side");
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&own, size).expect("its size");
        let before = tcgetattr(&own).expect("its settings");
        let side = || own.try_clone().expect("another descriptor");
        let program = command
            .env("TERM", "xterm-256color")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("the program");
        drop(command);
        let keys = File::from(keys);
        let mut screen = keys.try_clone().expect("another descriptor");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when nobody has the program's side any more.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let mut shown = into.lock().expect("no panic");
                shown.extend_from_slice(bytes.get(..count).expect("what was read"));
            }
        });
        Self {
            keys,
            own,
            before,
            shown,
            reader,
            program,
        }
    }

    /// The program's process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Everything written so far, with its control sequences.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// Waits until `text` was written.
    pub fn wait_for(&self, text: &str) {
        let found = wait_for(Duration::from_secs(30), || self.shown().contains(text));
        assert!(found, "no `{text}` in {}", self.shown());
    }

    /// Whether the program gets keys at once and unechoed.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.own).expect("its settings").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Makes the terminal take nothing any more, or again.
    pub fn stall(&self, is_stalled: bool) {
        let action = match is_stalled {
            true => Action::OOff,
            false => Action::OOn,
        };
        tcflow(&self.own, action).expect("flow control");
    }

    /// Whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        self.program.try_wait().expect("its state").is_some()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys");
    }

    /// Waits for the program's end; everything it wrote. Panics where the terminal is not as it was.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.program.wait().expect("its end");
        let after = tcgetattr(&self.own).expect("its settings");
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        drop(self.own);
        self.reader.join().expect("the reader");
        let shown = self.shown.lock().expect("no panic").clone();
        (status, String::from_utf8_lossy(&shown).into_owned())
    }
}
