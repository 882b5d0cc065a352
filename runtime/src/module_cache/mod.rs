//! Compiled modules, kept from one run to the next and from one process to the next.
//!
//! Code that was compiled is native code, and wasmtime checks nothing of it: a byte that was changed is a byte that is
//! executed. So a file counts for nothing that does not carry the cache's own seal ([`record`]), and what does is read once
//! per process, into memory that cannot change any more ([`held`]). The files are in a [`folder`] of the host's own.
//!
//! Nothing here fails a guest: what cannot be had from the cache is compiled, and what cannot be kept is not.

mod folder;
mod held;
mod record;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use self::folder::Folder;
use self::held::Held;
use self::record::Seal;
use crate::code::{Artefact, Compiled, Sealed};
use crate::error::RuntimeError;
use crate::outcome::CacheUse;

/// Compiled modules, kept in a folder on disk.
///
/// A module is found by its bytes, and by everything that decides what becomes of them: the machine, the version of wasmtime
/// and its configuration, and whether fuel is counted. What is found was compiled here: each file is authenticated (HMAC-SHA256)
/// with a key that is made with the folder and stays in it, so whoever can read the folder can forge, and nobody else.
///
/// Any number of runtimes and processes of one user may share a folder. Where it is full or cannot be written to, guests
/// run as without it, and [`ModuleCache::trouble`] says why. 64 MiB of code that was used last are held in memory too.
#[derive(Debug)]
pub struct ModuleCache {
    /// `None` where its key could not be kept: what is written there nobody could read.
    folder: Option<Folder>,
    seal: Seal,
    held: Mutex<Held>,
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    trouble: OnceLock<String>,
}

/// How often a [`ModuleCache`] had what was asked for, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModuleCacheCounts {
    /// Modules that were loaded.
    pub hits: u64,
    /// Modules that were compiled.
    pub misses: u64,
    /// Files that were not what this cache had written, or could not be loaded; each was removed, and is a miss too.
    pub rejected: u64,
}

/// What a module is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The module with this digest, and what else decides what becomes of it.
    pub(crate) fn new(sha256: &str, fingerprint: &[u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(fingerprint).chain_update(sha256);
        Self(digest.finalize().into())
    }
}

impl ModuleCache {
    /// Keeps modules in `folder`, which is made where it is not there. Where its files come to more than `most_bytes`, those go
    /// first that were used longest ago.
    ///
    /// # Errors
    /// [`RuntimeError::ModuleCache`] where the folder cannot be made or read, where it is not the user's own or others may
    /// write to it, and where its key is none, or others may read that.
    pub fn open(folder: impl AsRef<Path>, most_bytes: u64) -> Result<Self, RuntimeError> {
        let path = folder.as_ref();
        let unusable = |reason: String| RuntimeError::ModuleCache {
            folder: path.to_owned(),
            reason,
        };
        let folder = Folder::open(path, most_bytes).map_err(unusable)?;
        let (key, trouble) = folder.key().map_err(unusable)?;
        let cache = Self {
            folder: trouble.is_none().then_some(folder),
            seal: Seal::new(key),
            held: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            trouble: OnceLock::new(),
        };
        if let Some(trouble) = trouble {
            cache.note(&trouble);
        }
        Ok(cache)
    }

    /// How often it had what was asked for.
    #[must_use]
    pub fn counts(&self) -> ModuleCacheCounts {
        ModuleCacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// The first thing that kept it from reading or keeping a module, in words.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    /// The module, if it is kept. What is there and is not to be trusted is removed.
    pub(crate) fn find(&self, key: &Key) -> Option<Artefact> {
        let (held, is_due) = self.held().find(key);
        if held.is_some() {
            if is_due && let Some(folder) = &self.folder {
                // Other processes see by it what has not been used for long.
                folder.touch(key);
            }
            return held;
        }
        let folder = self.folder.as_ref()?;
        let bytes = match folder.read(key) {
            Ok(bytes) => bytes?,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.reject(key);
                return None;
            }
            Err(error) => {
                self.note(&error);
                return None;
            }
        };
        let Some((about, code)) = self.seal.opened(key, &bytes) else {
            self.reject(key);
            return None;
        };
        folder.touch(key);
        self.hold(key, about, code)
    }

    /// What was found is not to be used.
    pub(crate) fn reject(&self, key: &Key) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.held().forget(key);
        if let Some(Err(error)) = self.folder.as_ref().map(|folder| folder.remove(key)) {
            self.note(&error);
        }
    }

    /// Keeps a module.
    pub(crate) fn keep(&self, key: &Key, compiled: &Compiled) {
        let Compiled { about, code } = compiled;
        self.hold(key, about, code);
        let Some(folder) = &self.folder else {
            return;
        };
        if let Err(error) = folder.write(key, &self.seal.sealed(key, about, code)) {
            self.note(&error);
        }
    }

    /// Counts what came of asking.
    pub(crate) fn count(&self, came: CacheUse) {
        let counter = match came {
            CacheUse::Hit => &self.hits,
            CacheUse::Miss => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn hold(&self, key: &Key, about: &[u8], code: &[u8]) -> Option<Artefact> {
        match Sealed::of(code) {
            Ok(sealed) => {
                let artefact = Artefact {
                    about: about.into(),
                    code: Arc::new(sealed),
                };
                self.held().hold(key, artefact.clone(), code.len());
                Some(artefact)
            }
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    fn note(&self, error: &io::Error) {
        self.trouble.get_or_init(|| error.to_string());
    }

    // A panic in between leaves at worst a module that is not held.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stockade_policies::{PolicyStore, Principal};

    use super::*;
    use crate::layer::Layers;
    use crate::module::Module;
    use crate::outcome::Class;
    use crate::request::Request;
    use crate::runtime::Runtime;

    /// As it could be after a mistake of ours: right in everything but what it is.
    #[test]
    fn code_that_cannot_be_loaded_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(ModuleCache::open(folder.path(), 1 << 20).unwrap());
        let policies = PolicyStore::stock().unwrap();
        let runtime = Runtime::in_process(policies.clone()).with_module_cache(Arc::clone(&cache));
        let module = Module::from("(module)");
        let request = Request::wasm("pure", module.clone());
        let plan = policies.plan(&Principal::module(module.sha256(), "pure")).unwrap();
        let key = Key::new(module.sha256(), crate::wasm::fingerprint(&plan, Layers::ALL).unwrap());
        let ran = || {
            let outcome = runtime.run(&request).unwrap();
            assert_eq!(outcome.class, Class::Completed, "{}", outcome.detail);
            outcome.module_cache
        };
        assert_eq!((ran(), ran()), (Some(CacheUse::Miss), Some(CacheUse::Hit)));
        let right = cache.find(&key).unwrap().about;
        for (wrong, about) in [(1, &b"nonsense"[..]), (2, &right)] {
            let code = b"nonsense".to_vec();
            let about = about.to_vec();
            cache.keep(&key, &Compiled { about, code });
            assert_eq!((ran(), ran()), (Some(CacheUse::Miss), Some(CacheUse::Hit)));
            assert_eq!(cache.counts().rejected, wrong);
        }
        assert_eq!(cache.trouble(), None);
    }
}
