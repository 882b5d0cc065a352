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
    /// Take so many bytes of memory at once.
    Allocate(u64),
    /// Have any descriptor open that a worker does not need.
    KeepDescriptors,
    /// Read any variable of the supervisor's environment.
    ReadEnvironment,
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

/// Standard input, output and error, the job's socket, the door, and the folder in which they are counted.
const OWN_DESCRIPTORS: usize = 6;

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
        Deed::KeepDescriptors => found(fs::read_dir("/proc/self/fd")?.count() > OWN_DESCRIPTORS),
        Deed::ReadEnvironment => found(std::env::vars_os().next().is_some()),
    }
}

fn found(is_there: bool) -> io::Result<()> {
    if is_there {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
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
        _ => None,
    }
}
