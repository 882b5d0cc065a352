//! What a worker gives up before a guest's first byte, for good.
//!
//! Rules for a process can only be tightened, so a worker is *sealed*: for one kind of guest, and with the layers of the
//! first job. It never opens a file again. What a plan grants a guest, its database, is opened for it by the worker's
//! [`super::porter`]; so no rule names a path, and a sealed worker can serve any number of guests.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{landlock, seccomp};
use crate::execute::Job;
use crate::layer::{Layer, Layers};
use crate::request::Guest;

/// The system calls that a kind of guest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Calls {
    /// No threads, and no memory that is both written and executed.
    Sql,
    /// Threads of the same process, and memory that becomes code.
    Wasm,
}

/// What a worker is confined by, inside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confinement {
    pub(super) landlock: bool,
    pub(super) seccomp: bool,
    pub(super) calls: Calls,
}

impl Confinement {
    pub(super) fn new(layers: Layers, calls: Calls) -> Self {
        Self {
            landlock: layers.contains(Layer::Landlock),
            seccomp: layers.contains(Layer::Seccomp),
            calls,
        }
    }

    pub(super) fn of(job: &Job) -> Self {
        let calls = match job.request.guest {
            Guest::Sql(_) => Calls::Sql,
            Guest::Wasm(_) => Calls::Wasm,
        };
        Self::new(job.layers, calls)
    }

    /// Whether files are opened by the porter, because the worker itself cannot.
    pub(super) fn needs_porter(self) -> bool {
        self.landlock || self.seccomp
    }

    /// Confines this process, for good.
    ///
    /// # Errors
    /// Where a layer that is asked for cannot be had, or another thread runs that it would not cover.
    pub(super) fn seal(self) -> io::Result<()> {
        if !self.needs_porter() {
            return Ok(());
        }
        if fs::read_dir("/proc/self/task")?.count() != 1 {
            return Err(io::Error::other("another thread runs that rules would not cover"));
        }
        has_randomness()?;
        read_ahead();
        if self.landlock {
            landlock::restrict()?;
        }
        if self.seccomp {
            seccomp::restrict(self.calls)?;
        }
        Ok(())
    }
}

/// SQLite seeds its random numbers from this file, and without it from the time: then who knows when a worker started could guess
/// them.
fn has_randomness() -> io::Result<()> {
    let file = "/dev/urandom";
    let Err(error) = fs::File::open(file) else {
        return Ok(());
    };
    let mend = "without it guests could guess each other's random numbers; mount `/dev` with it";
    Err(io::Error::new(
        error.kind(),
        format!("`{file}` cannot be opened: {error}; {mend}"),
    ))
}

/// Reads what libraries would read later from files, and has SQLite ask for the rest.
fn read_ahead() {
    #[expect(unsafe_code, reason = "a C function without arguments")]
    // SAFETY: the process has one thread, so nobody reads the time zone meanwhile.
    unsafe {
        tzset();
    }
    #[cfg(feature = "sql")]
    crate::sql::ask_for_files();
}

#[expect(unsafe_code, reason = "libc does not declare it on every C library")]
unsafe extern "C" {
    /// <https://pubs.opengroup.org/onlinepubs/9799919799/functions/tzset.html>
    fn tzset();
}
