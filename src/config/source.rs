//! Reads a regular file, bounded, without ever waiting for a peer (a FIFO, a terminal).

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::problem::{Code, Problem};

/// The largest configuration file. A hundred thousand users fit.
pub(super) const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// How often a file that changes under our hands is read again.
const ATTEMPTS: u32 = 3;

/// Reads `path` whole if it is a regular file of at most `bytes_max`.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<(Vec<u8>, Metadata), Problem> {
    let shown = path.display();
    for _ in 0..ATTEMPTS {
        let mut file = open(path)?;
        let unreadable = |error: std::io::Error| {
            Problem::whole(Code::Unreadable, format!("{shown} cannot be read: {error}"))
                .help("see to the disk or the file system that it is on")
        };
        let before = file.metadata().map_err(unreadable)?;
        if !before.is_file() {
            let message = format!("{shown} is not a regular file but {}", kind(&before));
            return Err(Problem::whole(Code::NotAFile, message).help("give the path of a file"));
        }
        let mut bytes = Vec::new();
        file.by_ref()
            .take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > bytes_max) {
            let message = format!("{shown} is larger than {bytes_max} bytes");
            let problem = Problem::whole(Code::TooLarge, message);
            return Err(problem.help("make it smaller, or give another file"));
        }
        let after = file.metadata().map_err(unreadable)?;
        if is_same(&before, &after) {
            return Ok((bytes, after));
        }
    }
    let message = format!("{shown} changed each time it was read");
    Err(Problem::whole(Code::Unsteady, message).help("write a new file and rename it into place"))
}

fn open(path: &Path) -> Result<File, Problem> {
    // Opening a FIFO for reading would wait for its writer: O_NONBLOCK.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    opened.map_err(|error| {
        let message = format!("{} cannot be opened: {error}", path.display());
        Problem::whole(Code::Unreadable, message)
            .help("give the path of a file that this process's user may read")
    })
}

fn is_same(before: &Metadata, after: &Metadata) -> bool {
    before.len() == after.len() && before.modified().ok() == after.modified().ok()
}

fn kind(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
