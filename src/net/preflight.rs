//! Can this machine run a ring? Asked once at start, before anything listens.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::NetOptions;
use super::side::Groups;

pub(super) type Uring = IoUring<squeue::Entry, cqueue::Entry>;

/// What is missing, and how to get it, in one sentence.
#[derive(Debug)]
pub struct PreflightError {
    missing: &'static str,
    remedy: &'static str,
    cause: Option<io::Error>,
}

impl fmt::Display for PreflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.missing)?;
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl std::error::Error for PreflightError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

const KERNEL: &str = "use Linux 6.1 or newer";

/// Makes a ring as [`super::Net::new`] will, and tries each feature that is needed.
///
/// # Errors
/// The first thing that is missing.
pub fn preflight(options: &NetOptions) -> Result<(), PreflightError> {
    let ring = make_ring(options).map_err(explain_setup)?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|cause| PreflightError {
            missing: "io_uring cannot be asked for its operations",
            remedy: KERNEL,
            cause: Some(cause),
        })?;
    for code in [
        opcode::AcceptMulti::CODE,
        opcode::RecvMulti::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
        opcode::Connect::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Read::CODE,
    ] {
        if !probe.is_supported(code) {
            let missing = "io_uring lacks an operation that sockets need";
            return Err(PreflightError {
                missing,
                remedy: KERNEL,
                cause: None,
            });
        }
    }
    let groups = Groups::new(options).map_err(|cause| PreflightError {
        missing: "memory for the receive buffers cannot be mapped",
        remedy: "lower the number or size of buffers, or raise the memory limit",
        cause: Some(cause),
    })?;
    groups.register(&ring).map_err(|cause| PreflightError {
        missing: "io_uring refuses provided buffers",
        remedy: match cause.raw_os_error() {
            Some(libc::ENOMEM) => "raise the locked-memory limit (`ulimit -l`, LimitMEMLOCK=)",
            _ => KERNEL,
        },
        cause: Some(cause),
    })
}

fn explain_setup(cause: io::Error) -> PreflightError {
    let (missing, remedy) = match cause.raw_os_error() {
        Some(libc::ENOSYS) => (
            "this kernel or sandbox has no io_uring",
            "use Linux 6.1 or newer, outside sandboxes that emulate the kernel",
        ),
        Some(libc::EPERM) => (
            "io_uring is forbidden here",
            "set `sysctl kernel.io_uring_disabled=0`, or run the container with a seccomp profile \
             that allows io_uring_setup, io_uring_enter and io_uring_register",
        ),
        Some(libc::ENOMEM) => (
            "io_uring may not lock enough memory",
            "raise the locked-memory limit (`ulimit -l`, LimitMEMLOCK=)",
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            "no file descriptor is left for io_uring",
            "raise the open-files limit (`ulimit -n`, LimitNOFILE=)",
        ),
        Some(libc::EINVAL) => (
            "this kernel's io_uring lacks SINGLE_ISSUER or DEFER_TASKRUN",
            KERNEL,
        ),
        _ => ("an io_uring cannot be made", KERNEL),
    };
    PreflightError {
        missing,
        remedy,
        cause: Some(cause),
    }
}

/// The ring of a core. Completions run only when this thread asks for them, so the kernel never
/// interrupts it in the middle of a turn.
pub(super) fn make_ring(options: &NetOptions) -> io::Result<Uring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(options.completions.max(options.entries));
    let ring: Uring = builder.build(options.entries)?;
    let needed = ring.params().is_feature_ext_arg() && ring.params().is_feature_submit_stable();
    if needed {
        Ok(ring)
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        preflight(&NetOptions::default()).unwrap();
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        for (errno, word) in [
            (libc::ENOSYS, "6.1"),
            (libc::EPERM, "io_uring_disabled"),
            (libc::ENOMEM, "LimitMEMLOCK"),
            (libc::EMFILE, "LimitNOFILE"),
            (libc::EINVAL, "6.1"),
            (libc::EIO, "6.1"),
        ] {
            let text = explain_setup(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(word), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn impossible_buffers_are_refused() {
        let options = NetOptions {
            buffer_bytes: 0,
            ..Default::default()
        };
        let text = preflight(&options).unwrap_err().to_string();
        assert!(text.contains("buffers"), "{text}");
    }
}
