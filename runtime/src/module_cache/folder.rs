//! The folder that modules are kept in: a file each, and the key that they are authenticated with.
//!
//! It is named once, when it is opened; from then on everything is done through its descriptor, so that it stays the one that was
//! looked at. A file is written under another name, made to last and then given its own: whoever reads one, reads a whole one.
//! What a writer that was killed leaves behind, the next one takes away.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};

use super::Key;
use super::record::KEY_BYTES;
use crate::code::MOST_CODE;

/// What the file of a module ends with.
const MODULE: &str = ".module";

/// What the file begins with that is not whole yet.
const UNFINISHED: &str = "unfinished-";

/// The file with the key.
const KEY: &str = "key";

/// Nobody takes so long to write a file.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// Bytes that a file has beside the code, at most.
const BESIDE_CODE: usize = 4096;

#[derive(Debug)]
pub(super) struct Folder {
    end: OwnedFd,
    most_bytes: u64,
}

/// A file of the folder.
struct Entry {
    name: CString,
    bytes: u64,
    /// When it was written or used last.
    used: SystemTime,
}

impl Folder {
    /// The folder at `path`, made where it is not there.
    ///
    /// # Errors
    /// Why it must not be used, and what to do, in words.
    pub(super) fn open(path: &Path, most_bytes: u64) -> Result<Self, String> {
        let words = |error: io::Error| error.to_string();
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.is_dir() => return Err(words(error)),
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let end = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| words(error.into()))?;
        let seen = rustix::fs::fstat(&end).map_err(|error| words(error.into()))?;
        if !is_own(&seen) {
            return Err("it belongs to somebody else; name a folder of your own".to_owned());
        }
        if mode(&seen).intersects(Mode::WGRP | Mode::WOTH) {
            return Err("others may write to it; `chmod go-w` it, or name another".to_owned());
        }
        let folder = Self { end, most_bytes };
        // Where it cannot be tidied, writing will say why.
        folder.tidy().unwrap_or_default();
        Ok(folder)
    }

    /// The key of this folder, made where there is none; where it cannot be kept, one for this process only, and why.
    ///
    /// # Errors
    /// Why the key that is there must not be used, and what to do, in words.
    pub(super) fn key(&self) -> Result<([u8; KEY_BYTES], Option<io::Error>), String> {
        if let Some(key) = self.kept_key()? {
            return Ok((key, None));
        }
        let mut key = [0; KEY_BYTES];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| io::Error::from(error).to_string())?;
        // Another process may have made one meanwhile: then that is the key.
        let made = self.put(&key, |unfinished| {
            rustix::fs::linkat(&self.end, unfinished, &self.end, KEY, AtFlags::empty())
        });
        match (self.kept_key()?, made) {
            (Some(kept), _) => Ok((kept, None)),
            (None, made) => Ok((key, made.err())),
        }
    }

    fn kept_key(&self) -> Result<Option<[u8; KEY_BYTES]>, String> {
        let (file, seen) = match self.open_file(KEY) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return Err(format!("its `{KEY}` cannot be read: {error}")),
        };
        let mut key = Vec::new();
        let read = file.take(KEY_BYTES as u64 + 1).read_to_end(&mut key);
        let is_secret = is_own(&seen) && !mode(&seen).intersects(Mode::RWXG | Mode::RWXO);
        match (read, key.try_into()) {
            _ if !is_secret => Err(format!(
                "others may read its `{KEY}`, and so may have written its modules; remove the folder with all that is in it"
            )),
            (Ok(_), Ok(key)) => Ok(Some(key)),
            _ => Err(format!("its `{KEY}` is none; remove the folder with all that is in it")),
        }
    }

    /// The file of a module, if there is one.
    ///
    /// # Errors
    /// Where it cannot be read; [`ErrorKind::InvalidData`] where it cannot be one that was written here.
    pub(super) fn read(&self, key: &Key) -> io::Result<Option<Vec<u8>>> {
        let Some((file, seen)) = self.open_file(&name(key))? else {
            return Ok(None);
        };
        let most = MOST_CODE + BESIDE_CODE;
        let size = usize::try_from(seen.st_size).unwrap_or(usize::MAX);
        if size > most {
            return Err(ErrorKind::InvalidData.into());
        }
        // Others may write to it while it is read, so what was seen is only an estimate.
        let mut bytes = Vec::with_capacity(size + 1);
        file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// A regular file, and no link to one.
    fn open_file(&self, name: &str) -> io::Result<Option<(File, Stat)>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.end, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(ErrorKind::InvalidData.into()),
            Err(error) => return Err(error.into()),
        };
        let seen = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(Some((file.into(), seen)))
    }

    /// Writes the file of a module, and makes room for it.
    pub(super) fn write(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.most_bytes {
            return Ok(());
        }
        self.put(bytes, |unfinished| {
            rustix::fs::renameat(&self.end, unfinished, &self.end, name(key))
        })?;
        self.tidy()
    }

    /// A file that is there whole or not at all, whoever is killed meanwhile.
    fn put(&self, bytes: &[u8], name: impl FnOnce(&str) -> rustix::io::Result<()>) -> io::Result<()> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let unfinished = format!("{UNFINISHED}{:016x}", u64::from_le_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.end, &unfinished, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        let done = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(name(&unfinished)?));
        // Where it has its name, it may have this one too.
        self.unlink(&unfinished).and(done)
    }

    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        self.unlink(name(key))
    }

    /// Says that a module is used. Where that cannot be said, it only goes sooner.
    pub(super) fn touch(&self, key: &Key) {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::utimensat(&self.end, name(key), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_default();
    }

    /// Takes away what nobody will finish, and what is too much.
    fn tidy(&self) -> io::Result<()> {
        let mut modules = Vec::new();
        for entry in Dir::read_from(&self.end)? {
            let name = entry?.file_name().to_owned();
            let is_unfinished = name.to_bytes().starts_with(UNFINISHED.as_bytes());
            if !is_unfinished && !name.to_bytes().ends_with(MODULE.as_bytes()) {
                continue;
            }
            // Others tidy here too.
            let Some(entry) = self.entry(name)? else {
                continue;
            };
            if !is_unfinished {
                modules.push(entry);
            } else if entry.used.elapsed().is_ok_and(|age| age > ABANDONED_AFTER) {
                self.unlink(&entry.name)?;
            }
        }
        modules.sort_by_key(|module| module.used);
        let mut sum: u64 = modules.iter().map(|module| module.bytes).sum();
        for oldest in modules {
            if sum <= self.most_bytes {
                break;
            }
            self.unlink(&oldest.name)?;
            sum -= oldest.bytes;
        }
        Ok(())
    }

    fn entry(&self, name: CString) -> io::Result<Option<Entry>> {
        let seen = match rustix::fs::statat(&self.end, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) => seen,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let seconds = u64::try_from(seen.st_mtime).unwrap_or(0);
        let nanos = u32::try_from(seen.st_mtime_nsec).unwrap_or(0);
        Ok(Some(Entry {
            name,
            bytes: u64::try_from(seen.st_size).unwrap_or(0),
            used: SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos),
        }))
    }

    fn unlink(&self, name: impl rustix::path::Arg) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.end, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn name(key: &Key) -> String {
    let digits: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + MODULE
}

fn is_own(seen: &Stat) -> bool {
    seen.st_uid == rustix::process::geteuid().as_raw()
}

fn mode(seen: &Stat) -> Mode {
    Mode::from_raw_mode(seen.st_mode)
}
