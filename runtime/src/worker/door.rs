//! How a worker that can open no file asks for one.
//!
//! One datagram asks, one answers, with the descriptor beside it. The worker's side is here, with the words; who opens
//! is [`super::porter`].

use std::os::fd::{AsFd, OwnedFd};
#[cfg(feature = "sql")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "sql")]
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::beside;

/// The longest datagram, in bytes: SQLite's longest path is far below it.
const LONGEST: usize = 8192;

/// What is asked about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// Open it, as `open` would.
    Open { flags: i32, mode: u32 },
    /// Remove it.
    Remove,
    /// Say whether it may be used so, as `access` would.
    Check { mode: i32 },
    /// Hand over a descriptor that is good for `fstat` only.
    Look { follow: bool },
    /// Say where the link leads.
    ReadLink,
    /// Make what happened in the file's folder last.
    SyncFolder,
}

/// A question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) path: PathBuf,
    pub(super) what: What,
}

/// An answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What `errno` would be; 0 where it is done.
    pub(super) errno: i32,
    /// The plan does not grant it.
    pub(super) refused: bool,
    /// Where a link leads.
    pub(super) link: Option<PathBuf>,
}

/// Two ends of a door.
pub(super) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one datagram.
pub(super) fn send(end: impl AsFd, message: &impl Serialize, file: Option<&OwnedFd>) -> Result<(), i32> {
    let bytes = rmp_serde::to_vec(message).map_err(|_| libc::EINVAL)?;
    if bytes.len() > LONGEST {
        return Err(libc::ENAMETOOLONG);
    }
    beside::send(end, &bytes, file.map(AsFd::as_fd)).map_err(rustix::io::Errno::raw_os_error)?;
    Ok(())
}

/// Receives one datagram; `None` where the other end is gone.
pub(super) fn receive<T: DeserializeOwned>(end: impl AsFd) -> Result<Option<(T, Option<OwnedFd>)>, i32> {
    let mut bytes = [0; LONGEST];
    let (count, file) = beside::receive(end, &mut bytes).map_err(rustix::io::Errno::raw_os_error)?;
    if count == 0 {
        return Ok(None);
    }
    let message = rmp_serde::from_slice(bytes.get(..count).unwrap_or_default()).map_err(|_| libc::EPROTO)?;
    Ok(Some((message, file)))
}

/// The worker's end.
#[cfg(feature = "sql")]
struct Door {
    end: OwnedFd,
    refused: Option<PathBuf>,
}

#[cfg(feature = "sql")]
static DOOR: OnceLock<Mutex<Door>> = OnceLock::new();

/// Makes `end` the door of this process.
#[cfg(feature = "sql")]
pub(super) fn hang(end: OwnedFd) {
    // A second door would be a mistake of ours; the first stays.
    drop(DOOR.set(Mutex::new(Door { end, refused: None })));
}

/// Asks, and waits for the answer.
///
/// # Errors
/// A number for `errno`.
#[cfg(feature = "sql")]
pub(crate) fn ask(path: &Path, what: What) -> Result<(Option<OwnedFd>, Option<PathBuf>), i32> {
    let mut door = DOOR
        .get()
        .ok_or(libc::EACCES)?
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let wish = Wish {
        path: path.to_owned(),
        what,
    };
    send(&door.end, &wish, None)?;
    let (answer, file) = receive::<Answer>(&door.end)?.ok_or(libc::EIO)?;
    if answer.refused && matches!(what, What::Open { .. } | What::Check { mode: 1.. }) {
        door.refused.get_or_insert(wish.path);
    }
    match answer.errno {
        0 => Ok((file, answer.link)),
        errno => Err(errno),
    }
}

/// The first file that was asked for and not granted, since this was last asked.
#[cfg(feature = "sql")]
pub(crate) fn take_refusal() -> Option<PathBuf> {
    let mut door = DOOR.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    door.refused.take()
}
