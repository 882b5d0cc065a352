//! SQLite's files in a worker that can open none: what its Unix layer would ask the kernel about paths, it asks the
//! porter (`xSetSystemCall`, <https://sqlite.org/c3ref/vfs.html>). Descriptors that are open, locks among them, it uses as
//! ever.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::ffi;

use crate::worker::door::{self, What};

/// Has SQLite ask the porter, from now on and in the whole process; and lets it read what it would read from a file later.
pub(crate) fn ask_for_files() {
    let mut seed = [0_u8; 8];
    #[expect(unsafe_code, reason = "SQLite's system calls are replaced through the C interface")]
    // SAFETY: `seed` has room for the bytes that are asked for, which seeds SQLite's generator from `/dev/urandom`. The
    // default VFS lives as long as the process. Each function has the signature that `os_unix.c` calls it with, and none
    // unwinds: they neither index nor unwrap.
    unsafe {
        ffi::sqlite3_randomness(8, seed.as_mut_ptr().cast());
        let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(set) = vfs.as_ref().and_then(|found| found.xSetSystemCall) else {
            return;
        };
        let calls: [(&CStr, Call); 8] = [
            (c"pwrite", std::mem::transmute::<Write, Call>(pwrite)),
            (c"open", std::mem::transmute::<Open, Call>(open)),
            (c"access", std::mem::transmute::<Access, Call>(access)),
            (c"stat", std::mem::transmute::<Stat, Call>(stat)),
            (c"lstat", std::mem::transmute::<Stat, Call>(lstat)),
            (c"readlink", std::mem::transmute::<ReadLink, Call>(readlink)),
            (c"unlink", std::mem::transmute::<Unlink, Call>(unlink)),
            (
                c"openDirectory",
                std::mem::transmute::<OpenDirectory, Call>(open_directory),
            ),
        ];
        for (name, call) in calls {
            set(vfs, name.as_ptr(), Some(call));
        }
    }
}

/// The file that the guest asked for last and that was not granted, if any.
pub(super) fn take_refusal() -> Option<PathBuf> {
    door::take_refusal()
}

/// Whether the file system had no room for what was written, since this was last asked: SQLite says of that what it says of a
/// guest that meets its bound.
pub(super) fn take_disk_full() -> bool {
    DISK_IS_FULL.swap(false, Ordering::Relaxed)
}

/// The caller's database, of which the host says that no part of its path is a link. Whether one has become a link, SQLite need
/// not ask the porter, who opens nothing by way of one.
pub(super) fn take_for_resolved(database: Option<&Path>) {
    let mut resolved = RESOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    *resolved = database.map(Path::to_owned);
}

fn is_known_to_be_no_link(path: &Path) -> bool {
    let resolved = RESOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    resolved.as_ref().is_some_and(|database| database.starts_with(path))
}

static RESOLVED: Mutex<Option<PathBuf>> = Mutex::new(None);

static DISK_IS_FULL: AtomicBool = AtomicBool::new(false);

/// What SQLite takes for any of them.
type Call = unsafe extern "C" fn();
type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;
type Access = unsafe extern "C" fn(*const c_char, c_int) -> c_int;
type Stat = unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int;
type ReadLink = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> isize;
type Unlink = unsafe extern "C" fn(*const c_char) -> c_int;
type Write = unsafe extern "C" fn(c_int, *const c_void, usize, libc::off_t) -> isize;
type OpenDirectory = unsafe extern "C" fn(*const c_char, *mut c_int) -> c_int;

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let mode = mode.cast_unsigned();
    // SAFETY: SQLite hands over a NUL-terminated path.
    let answer = unsafe { ask(path, What::Open { flags, mode }) };
    match answer {
        Ok((Some(file), _)) => file.into_raw_fd(),
        Ok((None, _)) => failed(libc::EIO),
        Err(errno) => failed(errno),
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: as in `open`.
    let answer = unsafe { ask(path, What::Check { mode }) };
    answer.map_or_else(failed, |_| 0)
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn stat(path: *const c_char, seen: *mut libc::stat) -> c_int {
    // SAFETY: SQLite hands over a NUL-terminated path and room for the answer.
    unsafe { look(path, seen, true) }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn lstat(path: *const c_char, seen: *mut libc::stat) -> c_int {
    // SAFETY: as in `stat`.
    let is_known = unsafe { path_of(path) }.is_some_and(is_known_to_be_no_link);
    if is_known {
        // SQLite asks only whether it is a link, and takes what is not there for none.
        return failed(libc::ENOENT);
    }
    // SAFETY: as in `stat`.
    unsafe { look(path, seen, false) }
}

/// What is known of a file, written to `seen`.
///
/// # Safety
/// `path` is NULL or points to a NUL-terminated string, and `seen` to room for one `stat`.
#[expect(unsafe_code, reason = "writes what SQLite gave room for")]
unsafe fn look(path: *const c_char, seen: *mut libc::stat, follow: bool) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { ask(path, What::Look { follow }) } {
        // SAFETY: the descriptor is open, and the caller gave room for the answer.
        Ok((Some(file), _)) => unsafe { libc::fstat(file.as_raw_fd(), seen) },
        Ok((None, _)) => failed(libc::EIO),
        Err(errno) => failed(errno),
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn readlink(path: *const c_char, text: *mut c_char, size: usize) -> isize {
    // SAFETY: as in `open`.
    let link = match unsafe { ask(path, What::ReadLink) } {
        Ok((_, Some(link))) => link,
        Ok((_, None)) => return failed(libc::EIO) as isize,
        Err(errno) => return failed(errno) as isize,
    };
    let bytes = link.as_os_str().as_bytes();
    let length = bytes.len().min(size);
    // SAFETY: SQLite gave room for `size` bytes, which is no less than is written.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), text.cast(), length);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as in `open`.
    let answer = unsafe { ask(path, What::Remove) };
    answer.map_or_else(failed, |_| 0)
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn pwrite(file: c_int, bytes: *const c_void, count: usize, offset: libc::off_t) -> isize {
    // SAFETY: SQLite hands over a descriptor of its own and `count` bytes; the C library sets its own `errno`.
    unsafe {
        let written = libc::pwrite(file, bytes, count, offset);
        if written < 0 && *libc::__errno_location() == libc::ENOSPC {
            DISK_IS_FULL.store(true, Ordering::Relaxed);
        }
        written
    }
}

/// SQLite opens a folder only to have what happened in it last. The porter sees to that itself, and no descriptor of a
/// folder comes in here: SQLite takes this answer for a system that cannot open folders.
#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn open_directory(path: *const c_char, descriptor: *mut c_int) -> c_int {
    // SAFETY: as in `open`; a sync that fails is one that such a system would not have made.
    drop(unsafe { ask(path, What::SyncFolder) });
    // SAFETY: SQLite gave room for one number.
    unsafe {
        *descriptor = -1;
    }
    ffi::SQLITE_CANTOPEN
}

/// The porter's answer.
///
/// # Safety
/// `path` is NULL or points to a NUL-terminated string.
#[expect(unsafe_code, reason = "reads a C string")]
unsafe fn ask(path: *const c_char, what: What) -> Result<(Option<OwnedFd>, Option<PathBuf>), c_int> {
    // SAFETY: the caller's promise.
    let path = unsafe { path_of(path) }.ok_or(libc::EFAULT)?;
    door::ask(path, what)
}

/// The path, where there is one.
///
/// # Safety
/// `path` is NULL or points to a NUL-terminated string, which outlives what is made of it.
#[expect(unsafe_code, reason = "reads a C string")]
unsafe fn path_of<'a>(path: *const c_char) -> Option<&'a Path> {
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let path = (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })?;
    Some(Path::new(OsStr::from_bytes(path.to_bytes())))
}

fn failed(errno: c_int) -> c_int {
    #[expect(unsafe_code, reason = "SQLite reads the cause from `errno`")]
    // SAFETY: the C library's own place for this thread.
    unsafe {
        *libc::__errno_location() = errno;
    }
    -1
}
