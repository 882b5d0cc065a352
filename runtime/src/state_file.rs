//! A namespace in a file, for hosts that have no better place.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::state::{State, StateChanges};

/// A namespace that is kept in a file. Nobody else has it as long as this lives: the file beside it, `PATH.lock`, is locked.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: State,
    /// Locked until it is dropped. It stays, because a lock on a file that somebody removes locks nobody out.
    _lock: File,
}

/// Why a namespace cannot be read from a file or written to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// The file system says no.
    #[error("cannot use state `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds no namespace.
    #[error("`{}` holds no state: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file holds another namespace.
    #[error("`{}` holds the namespace `{found}`, not `{expected}`", path.display())]
    Another {
        /// The file.
        path: PathBuf,
        /// The namespace in it.
        found: String,
        /// The namespace that was asked for.
        expected: String,
    },
}

impl StateFile {
    /// Opens the namespace in `path`, and waits as long as another has it. A file that is not there is an empty namespace; it
    /// is made when something is written.
    ///
    /// # Errors
    /// [`StateFileError`] where it cannot be read, or holds something else.
    pub fn open(path: impl Into<PathBuf>, namespace: &str) -> Result<Self, StateFileError> {
        let path = path.into();
        let lock = locked(&beside(&path, "lock")).map_err(|error| failed(&path, error))?;
        let state = match fs::read(&path) {
            Ok(bytes) => read(&path, &bytes, namespace)?,
            Err(error) if error.kind() == ErrorKind::NotFound => State::of(namespace),
            Err(error) => return Err(failed(&path, error)),
        };
        Ok(Self {
            path,
            state,
            _lock: lock,
        })
    }

    /// The namespace as it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes the changes of a run. Afterwards the file has all of them, and before it has none: another file is written, put on
    /// the disk and renamed.
    ///
    /// # Errors
    /// [`StateFileError::File`]; then nothing is changed, neither here nor in the file.
    pub fn apply(&mut self, changes: &StateChanges) -> Result<(), StateFileError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut state = self.state.clone();
        state.apply(changes);
        self.replace(&state).map_err(|error| failed(&self.path, error))?;
        self.state = state;
        Ok(())
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        let bytes = rmp_serde::to_vec_named(state).map_err(io::Error::other)?;
        // Nobody else writes it: the lock is held.
        let next = beside(&self.path, "next");
        let mut file = File::create(&next)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        // The rename itself is on the disk when its folder is.
        File::open(folder(&self.path))?.sync_all()
    }
}

fn read(path: &Path, bytes: &[u8], namespace: &str) -> Result<State, StateFileError> {
    let state: State = rmp_serde::from_slice(bytes).map_err(|error| StateFileError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    if state.namespace() != namespace {
        return Err(StateFileError::Another {
            path: path.to_owned(),
            found: state.namespace().to_owned(),
            expected: namespace.to_owned(),
        });
    }
    Ok(state)
}

fn locked(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(path: &Path, error: io::Error) -> StateFileError {
    StateFileError::File {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn setting(key: &str, value: &str) -> StateChanges {
        StateChanges::from_iter([(key.to_owned(), Some(value.as_bytes().to_vec()))])
    }

    #[test]
    fn what_was_applied_is_there_when_it_is_opened_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("orders.state");
        let mut file = StateFile::open(&path, "orders").unwrap();
        assert_eq!(file.state(), &State::of("orders"));
        assert!(!path.exists(), "nothing was written yet");
        file.apply(&setting("seen", "7")).unwrap();
        drop(file);
        let file = StateFile::open(&path, "orders").unwrap();
        assert_eq!(file.state().get("seen"), Some(&b"7"[..]));
    }

    #[test]
    fn a_namespace_is_not_taken_for_another() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        StateFile::open(&path, "orders")
            .unwrap()
            .apply(&setting("k", "v"))
            .unwrap();
        let error = StateFile::open(&path, "staff").unwrap_err();
        assert!(matches!(error, StateFileError::Another { .. }), "{error}");
    }

    #[test]
    fn bytes_that_are_no_namespace_are_not_written_over() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        for bytes in [&b""[..], b"{}", b"\x82\xa9namespace\xa4main", &[0xff; 64]] {
            fs::write(&path, bytes).unwrap();
            let error = StateFile::open(&path, "main").unwrap_err();
            assert!(matches!(error, StateFileError::Malformed { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_changed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        let mut file = StateFile::open(&path, "main").unwrap();
        file.apply(&setting("k", "old")).unwrap();
        // A folder where the next file would be written.
        fs::create_dir(beside(&path, "next")).unwrap();
        assert!(file.apply(&setting("k", "new")).is_err());
        assert_eq!(file.state().get("k"), Some(&b"old"[..]));
        drop(file);
        let file = StateFile::open(&path, "main").unwrap();
        assert_eq!(file.state().get("k"), Some(&b"old"[..]));
    }

    #[test]
    fn two_that_open_it_come_one_after_the_other() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        let mut first = StateFile::open(&path, "main").unwrap();
        let (opened, is_open) = mpsc::channel();
        let second = thread::spawn({
            let path = path.clone();
            move || {
                let file = StateFile::open(path, "main").unwrap();
                opened.send(()).unwrap();
                file.state().clone()
            }
        });
        assert!(is_open.recv_timeout(std::time::Duration::from_millis(100)).is_err());
        first.apply(&setting("k", "v")).unwrap();
        drop(first);
        assert_eq!(second.join().unwrap().get("k"), Some(&b"v"[..]));
    }
}
