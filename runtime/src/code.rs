//! Where the code of a module comes from, and how it crosses between processes.
//!
//! Code that was compiled is native code: whoever can write it is whoever loads it. So it crosses to a worker in memory
//! that is *sealed*: the kernel lets nobody change it any more, whatever they have open or mapped.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

/// The most bytes of code that are kept of one module. A worker holds a few copies while it hands them over.
pub(crate) const MOST_CODE: usize = 16 << 20;

/// Where the code of a guest comes from. A script has none.
#[derive(Debug, Clone, Default)]
pub(crate) enum Code {
    /// It is compiled, for this run only.
    #[default]
    Compile,
    /// It is compiled, and handed to the listener before the guest starts.
    CompileAndKeep,
    /// It was compiled before.
    Load(Artefact),
}

impl Code {
    /// Whether what is compiled now will be loaded by others.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Self::CompileAndKeep)
    }
}

/// A module that was compiled before.
#[derive(Debug, Clone)]
pub(crate) struct Artefact {
    /// What there is to know of the module beside its code, in the words of the compiler's side.
    pub about: Arc<[u8]>,
    /// What wasmtime serialized.
    pub code: Arc<Sealed>,
}

/// A module that was compiled just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compiled {
    /// As [`Artefact::about`].
    #[serde(with = "serde_bytes")]
    pub about: Vec<u8>,
    /// As [`Artefact::code`].
    #[serde(with = "serde_bytes")]
    pub code: Vec<u8>,
}

/// A file in memory that can neither be written nor change its size, for good.
#[derive(Debug)]
pub(crate) struct Sealed(OwnedFd);

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

impl Sealed {
    /// These bytes.
    ///
    /// # Errors
    /// Where there is no memory, or no descriptor, for another file.
    #[cfg_attr(not(feature = "wasm"), expect(dead_code, reason = "only modules are compiled"))]
    pub(crate) fn of(bytes: &[u8]) -> io::Result<Self> {
        let mut file = File::from(empty()?);
        file.write_all(bytes)?;
        rustix::fs::fcntl_add_seals(&file, SEALS)?;
        Ok(Self(file.into()))
    }

    /// A file that somebody else made.
    ///
    /// # Errors
    /// Where it can still change.
    pub(crate) fn of_file(file: OwnedFd) -> io::Result<Self> {
        if rustix::fs::fcntl_get_seals(&file)?.contains(SEALS) {
            Ok(Self(file))
        } else {
            Err(io::Error::other("a file with code in it could still be changed"))
        }
    }

    /// Another descriptor for it.
    ///
    /// # Errors
    /// Where there is none to be had.
    #[cfg_attr(not(feature = "wasm"), expect(dead_code, reason = "only modules are compiled"))]
    pub(crate) fn to_file(&self) -> io::Result<File> {
        Ok(self.0.try_clone()?.into())
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An empty file in memory, which no process can become as a program where the kernel knows to prevent that (Linux 6.3).
fn empty() -> rustix::io::Result<OwnedFd> {
    const NAME: &str = "stockade-module";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(NAME, flags),
        made => made,
    }
}

#[cfg(all(test, feature = "wasm"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_never_changed() {
        let sealed = Sealed::of(b"code").unwrap();
        let file = sealed.to_file().unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"code");
        assert!(file.write_at(b"C", 0).is_err());
        assert!(file.set_len(3).is_err());
        assert!(file.set_len(5).is_err());
        assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_err());
        assert!(Sealed::of_file(file.into()).is_ok());
    }

    #[test]
    fn a_file_that_lacks_a_seal_is_refused() {
        for missing in [SealFlags::WRITE, SealFlags::GROW, SealFlags::SHRINK, SealFlags::SEAL] {
            let file = empty().unwrap();
            rustix::fs::fcntl_add_seals(&file, SEALS.difference(missing)).unwrap();
            assert!(Sealed::of_file(file).is_err(), "{missing:?}");
        }
        assert!(Sealed::of_file(tempfile::tempfile().unwrap().into()).is_err());
    }
}
