//! What native code in a worker could try: for showing, on this machine, that the layers around it stand.
//!
//! A guest is no native code. One that takes over SQLite or wasmtime is, and then these are what is left. Only the
//! supervisor can have a deed attempted, in a worker that is thrown away afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::start;
use crate::layer::Layer;

/// Something that no guest should bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Read a file.
    Read(PathBuf),
    /// Make a file, or write over one.
    Write(PathBuf),
    /// Connect to a port of this machine.
    Connect(u16),
    /// Become another program.
    Execute(PathBuf),
    /// Start another process.
    Fork,
    /// Take so many bytes of address space at once.
    Allocate(u64),
    /// Fill so many bytes of memory.
    Fill(u64),
    /// Have the kernel send a signal to the supervisor when something comes.
    SendSignals,
    /// Have any descriptor open that a worker does not need.
    KeepDescriptors,
    /// Read any variable of the supervisor's environment.
    ReadEnvironment,
    /// Have any capability, any supplementary group, or a way to get more.
    KeepPrivileges,
    /// Have what the supervisor set up for itself: signals that are blocked or ignored, a mask for new files.
    KeepSettings,
}

/// What came of a deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It was done: nothing stood in its way.
    Done,
    /// The kernel refused it.
    Refused {
        /// The layer whose rule it was; `None` where it failed for another reason.
        layer: Option<Layer>,
        /// The system's words.
        reason: String,
    },
    /// The kernel killed the process for it.
    Killed {
        /// The layer whose rule it was.
        layer: Layer,
    },
}

/// Standard input, output and error, the job's socket, the door, the line for progress, and the folder in which they are counted.
const OWN_DESCRIPTORS: usize = 7;

/// Does it, in this process. The error is what `errno` was.
pub(super) fn attempt(deed: &Deed) -> Result<(), i32> {
    tried(deed).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

fn tried(deed: &Deed) -> io::Result<()> {
    match deed {
        Deed::Read(path) => File::open(path).map(drop),
        Deed::Write(path) => OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)?
            .write_all(b"written\n"),
        Deed::Connect(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).map(drop),
        #[expect(clippy::disallowed_methods, reason = "it is the deed")]
        Deed::Execute(path) => Err(Command::new(path).exec()),
        Deed::Fork => fork(),
        Deed::Allocate(bytes) => allocate(*bytes),
        Deed::Fill(bytes) => fill(*bytes),
        Deed::SendSignals => send_signals(),
        Deed::KeepDescriptors => found(fs::read_dir("/proc/self/fd")?.count() > OWN_DESCRIPTORS),
        Deed::ReadEnvironment => found(has_variables()),
        Deed::KeepPrivileges => found(!has_status(&UNPRIVILEGED)? || (is_root() && !has_status(&NOT_OF_ROOT)?)),
        Deed::KeepSettings => found(!has_status(&UNSET)?),
    }
}

fn has_variables() -> bool {
    let (name, value) = start::TIME_ZONE;
    std::env::vars_os().any(|variable| variable != (name.into(), value.into()))
}

fn found(is_there: bool) -> io::Result<()> {
    if is_there {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What `/proc/self/status` says of a process without privileges.
const UNPRIVILEGED: [(&str, &str); 5] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
];

/// And of one whose host had some: only that could give these up, and after `NoNewPrivs` nobody else gains by them.
const NOT_OF_ROOT: [(&str, &str); 2] = [("Groups", ""), ("CapBnd", "0000000000000000")];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// And of one that set up nothing but that a full file and a reader who left are no signals: numbers 25 and 13.
const UNSET: [(&str, &str); 3] = [
    ("Umask", "0077"),
    ("SigBlk", "0000000000000000"),
    ("SigIgn", "0000000001001000"),
];

fn has_status(expected: &[(&str, &str)]) -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(expected.iter().all(|(name, value)| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.is_some_and(|found| found.trim() == *value)
    }))
}

fn fill(bytes: u64) -> io::Result<()> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    std::hint::black_box(vec![1_u8; length]);
    Ok(())
}

/// Whoever owns a descriptor is told of what comes there: <https://man7.org/linux/man-pages/man2/F_SETOWN.2const.html>
fn send_signals() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe interface sets an owner")]
    // SAFETY: a call with numbers only, on a descriptor of this process.
    let answer = unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_SETOWN, libc::getppid()) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn fork() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe interface forks")]
    // SAFETY: the child calls nothing but `_exit`, and the parent waits for the child that it made.
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => libc::_exit(0),
            child => {
                libc::waitpid(child, std::ptr::null_mut(), 0);
                Ok(())
            }
        }
    }
}

fn allocate(bytes: u64) -> io::Result<()> {
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    #[expect(unsafe_code, reason = "maps memory")]
    // SAFETY: a new private mapping at no particular address, unmapped before anybody could use it.
    unsafe {
        let memory =
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, rustix::mm::MapFlags::PRIVATE)?;
        rustix::mm::munmap(memory, length)?;
    }
    Ok(())
}

/// The layer that answers a refused deed with this number.
pub(super) fn refuser(errno: i32, deed: &Deed) -> Option<Layer> {
    match (errno, deed) {
        (libc::EPERM, _) => Some(Layer::Seccomp),
        (libc::EACCES, _) => Some(Layer::Landlock),
        (libc::ENOMEM, Deed::Allocate(_)) => Some(Layer::Heap),
        (libc::EAGAIN, Deed::Fork) => Some(Layer::Worker),
        _ => None,
    }
}
