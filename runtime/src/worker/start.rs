//! How workers and porters are started and ended: this executable, again.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

/// The only variable of a worker, so that SQLite's `localtime` does not tell a guest where the host is.
pub(super) const TIME_ZONE: (&str, &str) = ("TZ", "UTC0");

/// Starts this executable again, with these sockets and nothing else.
///
/// The link stays valid where the file was replaced meanwhile: supervisor and worker are always the same build.
pub(super) fn again(role: &str, input: UnixStream, output: OwnedFd, error: Stdio) -> io::Result<Child> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where workers and porters are started"
    )]
    Command::new("/proc/self/exe")
        .args([role, &std::process::id().to_string()])
        .env_clear()
        .env(TIME_ZONE.0, TIME_ZONE.1)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::from(output))
        .stderr(error)
        .spawn()
        .map_err(|error| not_started(&error))
}

/// Why a process was not started, and what to do about it.
pub(super) fn not_started(error: &io::Error) -> io::Error {
    let mend = match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "the user or the control group has as many processes and threads as it may; raise `ulimit -u` (`RLIMIT_NPROC`) \
             or `pids.max`, or have fewer workers"
        }
        Some(libc::EMFILE) => {
            "this process has as many files open as it may, and each worker takes six; raise `ulimit -n` \
             (`RLIMIT_NOFILE`), or have fewer workers"
        }
        Some(libc::ENFILE) => "the machine has as many files open as it may; raise `fs.file-max`",
        Some(libc::ENOMEM) => "the machine has no memory for another process; have fewer workers",
        Some(libc::ENOENT) => "a worker is `/proc/self/exe` started again; mount `/proc`",
        Some(libc::EACCES) => "a worker is `/proc/self/exe` started again, and this user may not execute that file",
        _ => return io::Error::new(error.kind(), error.to_string()),
    };
    io::Error::new(error.kind(), format!("{error}: {mend}"))
}

/// SIGKILL, and no zombie. Both can only fail when the process is already gone.
pub(super) fn end(child: &mut Child) {
    child.kill().unwrap_or_default();
    drop(child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_start_a_worker_is_told_what_to_do() {
        for (errno, words) in [
            (libc::EAGAIN, "RLIMIT_NPROC"),
            (libc::EMFILE, "RLIMIT_NOFILE"),
            (libc::ENFILE, "fs.file-max"),
            (libc::ENOMEM, "fewer workers"),
            (libc::ENOENT, "mount `/proc`"),
            (libc::EACCES, "may not execute"),
        ] {
            let error = not_started(&io::Error::from_raw_os_error(errno));
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
