//! Why SQLite stopped: what the gate, the layers around SQLite and SQLite itself say of it.

use rusqlite::ffi;
use rusqlite::limits::Limit;
use stockade_policies::Meter;

use super::{Cap, Session, Stop, unusable};
use crate::gate::beyond;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};
use crate::sql::files;
use crate::sql::refusal::{self, Phase};

impl Session {
    /// The gate's own refusal comes first: SQLite's error is then only its echo.
    pub(super) fn stop(&self, error: &rusqlite::Error, phase: Phase) -> Stop {
        if let Some(refusal) = self.gate.refusal() {
            return Stop::Refused(refusal);
        }
        let read = self.outer_refusal(error).or_else(|| refusal::read(error, phase));
        let Some(mut refusal) = read.filter(|_| !Self::is_disk_full(error)) else {
            return Stop::Unknown(unusable(self.database.as_deref(), error));
        };
        if self.is_write_to_a_full_database(error) {
            refusal = Refusal::by(Layer::Quota, Class::LimitStorage, String::new());
        }
        if let Some(meter) = refusal.layer.and_then(own_words) {
            refusal.detail = beyond(meter, self.gate.bound(meter));
        }
        refusal.detail = refusal::shown(refusal.detail);
        // SQL that fails by itself is the guest's own affair: a module that sent it may go on.
        if !refusal.class.is_own_failure() {
            self.gate.refuse(refusal.clone());
        }
        Stop::Refused(refusal)
    }

    /// What the layers around SQLite refused: to it, that is a file which does not open, or a write which fails.
    pub(super) fn outer_refusal(&self, error: &rusqlite::Error) -> Option<Refusal> {
        let sentence = refusal::sentence(error);
        let layer = [Layer::Landlock, Layer::Seccomp]
            .into_iter()
            .find(|layer| self.gate.has(*layer));
        match refusal::code(error)? & 0xff {
            // Where one of the two is in force, this process can open no library, whatever the reason is said to be.
            ffi::SQLITE_ERROR if refusal::is_from_loader(&sentence) => {
                Some(Refusal::by(layer?, Class::DeniedFunction, sentence))
            }
            code @ (ffi::SQLITE_CANTOPEN | ffi::SQLITE_ERROR) => {
                let layer = layer?;
                // The other code is about folders for temporary files.
                let is_about_files = code == ffi::SQLITE_CANTOPEN || sentence == "not a writable directory";
                let path = files::take_refusal().filter(|_| is_about_files)?;
                let detail = format!("the plan does not grant the file `{}`", path.display());
                Some(Refusal::by(layer, Class::DeniedSqlAction, detail))
            }
            ffi::SQLITE_IOERR if self.gate.has(Layer::Quota) && self.system_error() == libc::EFBIG => {
                Some(Refusal::by(Layer::Quota, Class::LimitStorage, String::new()))
            }
            _ => None,
        }
    }

    /// Whether the file system had no room left: that is nobody's bound, and not the guest's doing. Only a worker knows.
    pub(super) fn is_disk_full(error: &rusqlite::Error) -> bool {
        let is_full = refusal::code(error).is_some_and(|code| code & 0xff == ffi::SQLITE_FULL);
        is_full && files::take_disk_full()
    }

    /// What `errno` was when SQLite last failed.
    pub(super) fn system_error(&self) -> i32 {
        #[expect(unsafe_code, reason = "rusqlite does not wrap it")]
        // SAFETY: the handle is open for the duration of the call.
        unsafe {
            ffi::sqlite3_system_errno(self.connection.handle())
        }
    }

    /// SQLite reports a program over `SQLITE_LIMIT_VDBE_OP` as "out of memory". It is the program's length where the
    /// same statement compiles once that limit is out of the way, under the same heap limit.
    pub(super) fn is_program_too_long(&self, error: &rusqlite::Error, text: &str) -> bool {
        let is_out_of_memory = refusal::code(error).is_some_and(|code| code & 0xff == ffi::SQLITE_NOMEM);
        if !is_out_of_memory || !self.gate.has(Layer::Limits) || self.gate.refusal().is_some() {
            return false;
        }
        let limit = Limit::SQLITE_LIMIT_VDBE_OP;
        let Ok(bound) = self.connection.set_limit(limit, i32::MAX) else {
            return false;
        };
        let compiles_now = self
            .compile_once(text, false)
            .is_ok_and(|found| found.statement.is_some());
        self.connection.set_limit(limit, bound).is_ok() && compiles_now
    }

    pub(super) fn is_write_to_a_full_database(&self, error: &rusqlite::Error) -> bool {
        let is_read_only = refusal::code(error) == Some(ffi::SQLITE_READONLY);
        is_read_only && self.cap == Some(Cap::READ_ONLY)
    }
}

/// The meter of a layer for which SQLite's words say less than the bound does: "interrupted", "out of memory".
fn own_words(layer: Layer) -> Option<Meter> {
    match layer {
        Layer::Deadline => Some(Meter::Elapse),
        Layer::Heap => Some(Meter::GrowHeap),
        Layer::Quota => Some(Meter::GrowDatabase),
        _ => None,
    }
}
