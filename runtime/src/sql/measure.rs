//! SQL for `stockade-benches` and `stockade-fuzz`: a session with some of its layers only, and a database that is guarded as most programs guard one.
//!
//! This is no way to run a guest.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use rusqlite::ffi;
use stockade_policies::Plan;

use crate::error::RuntimeError;
use crate::host_database::HostDatabase;
use crate::layer::Layers;
use crate::sql_session::SqlSession;

/// A session with these layers only: what each of them costs, and what the others stop without it.
///
/// # Errors
/// As [`crate::Runtime::open`].
pub fn session_with(plan: Plan, layers: Layers, database: &Path) -> Result<SqlSession, RuntimeError> {
    SqlSession::open(plan, layers, Some(database))
}

/// Has a database ask an authorizer of the kind that one writes by hand: a list of codes that are granted whatever they
/// name, with no plan, no trail, no bounds and no clock.
pub fn guard_by_hand(database: &HostDatabase) {
    #[expect(
        unsafe_code,
        reason = "rusqlite's authorizer is a feature that nothing else here needs"
    )]
    // SAFETY: the handle is open; the callback has the C signature, reads none of its pointers, and has no context.
    unsafe {
        ffi::sqlite3_set_authorizer(database.connection().handle(), Some(by_hand), ptr::null_mut());
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn by_hand(
    _context: *mut c_void,
    code: c_int,
    _first: *const c_char,
    _second: *const c_char,
    _database: *const c_char,
    _accessor: *const c_char,
) -> c_int {
    match code {
        ffi::SQLITE_SELECT
        | ffi::SQLITE_READ
        | ffi::SQLITE_INSERT
        | ffi::SQLITE_UPDATE
        | ffi::SQLITE_DELETE
        | ffi::SQLITE_FUNCTION
        | ffi::SQLITE_TRANSACTION => ffi::SQLITE_OK,
        _ => ffi::SQLITE_DENY,
    }
}
