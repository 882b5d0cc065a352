//! The two callbacks that SQLite makes into the host while a statement compiles and runs.
//!
//! They are registered through the C interface: rusqlite's own progress hook lets the query continue after a panic,
//! and its authorizer hides the arguments of what it cannot name.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ffi};

use super::authorizer::{self, Reported};
use super::indexes::Root;
use super::unreported::{Replacing, Told};
use crate::deadline::Deadline;
use crate::gate::Gate;
use crate::outcome::Refusal;

/// Opcodes between two looks at the clock. 1000 cost at most 2 % on scans, and are reached in well under a
/// millisecond unless a single opcode does the work.
const OPCODES_PER_LOOK: c_int = 1000;

/// What the callbacks see. SQLite keeps its address: it must neither move nor go before the connection that the
/// callbacks are registered on. [`super::session`] keeps both, this one in a box.
pub(super) struct Hooks {
    gate: Arc<Gate>,
    deadline: Deadline,
    host_is_asking: AtomicBool,
    /// Names that a statement reads without a column or a database. See [`Nameless`].
    nameless: RefCell<Nameless>,
    schema_changes: AtomicBool,
    replacing: RefCell<Replacing>,
    told: RefCell<Told>,
}

/// "`SELECT count(*) FROM x`" is reported as a read of no column of `x` in no database, whether `x` is a table or a
/// common table expression of the statement's own. Only the schema tells, and a callback must not ask it: so such a
/// read is denied at first, and the statement is compiled again once the session has looked.
#[derive(Default)]
struct Nameless {
    unresolved: Option<String>,
    not_in_schema: HashSet<String>,
}

impl Hooks {
    pub(super) fn new(gate: Arc<Gate>, deadline: Deadline) -> Self {
        Self {
            gate,
            deadline,
            host_is_asking: AtomicBool::new(false),
            nameless: RefCell::default(),
            schema_changes: AtomicBool::new(false),
            replacing: RefCell::default(),
            told: RefCell::default(),
        }
    }

    /// The name whose read was denied only because nobody knew whether it is a table.
    pub(super) fn take_unresolved(&self) -> Option<String> {
        self.nameless.borrow_mut().unresolved.take()
    }

    /// Tells that `name` is no table: the statement defined it itself.
    pub(super) fn is_not_in_schema(&self, name: String) {
        self.nameless.borrow_mut().not_in_schema.insert(name);
    }

    /// Forgets what was told: the next statement may find another schema.
    pub(super) fn next_statement(&self) {
        *self.nameless.borrow_mut() = Nameless::default();
    }

    /// Whether a statement that may bring other tables was compiled since this was last asked.
    pub(super) fn take_schema_change(&self) -> bool {
        self.schema_changes.swap(false, Ordering::Relaxed)
    }

    /// Tells where the statements to come may replace rows.
    pub(super) fn expect_replacing(&self, replacing: Replacing) {
        *self.replacing.borrow_mut() = replacing;
    }

    /// Tells what the statements to come tell of columns that may not be read.
    pub(super) fn expect_told(&self, told: Told) {
        *self.told.borrow_mut() = told;
    }

    /// Whether the order in which rows are read can tell of a column that may not be.
    pub(super) fn expects_order(&self) -> bool {
        self.told.borrow().has_order()
    }

    /// Why rows may not be read from these trees in their order, if they may not.
    pub(super) fn order_refusal(&self, trees: &[Root]) -> Option<Refusal> {
        let told = self.told.borrow();
        let column = told.by_order(trees)?;
        let why = "rows come in its order, by an index: write `not indexed` after the table";
        Some(authorizer::deny_told(&self.gate, column, why))
    }

    fn judges(&self, reported: &Reported) -> bool {
        self.judges_reported(reported) && self.judges_replaced(reported) && self.judges_told(reported)
    }

    /// What a read or an update tells of other columns, SQLite does not report.
    fn judges_told(&self, reported: &Reported) -> bool {
        let told = self.told.borrow();
        let Some((column, why)) = reported.tells(&told) else {
            return true;
        };
        authorizer::deny_told(&self.gate, column, why);
        false
    }

    /// What a write may delete besides, SQLite does not report.
    fn judges_replaced(&self, reported: &Reported) -> bool {
        match reported.written_table() {
            Some(table) if self.replacing.borrow().holds_for(&table) => {
                authorizer::allows_replacing(&self.gate, &table)
            }
            _ => true,
        }
    }

    fn judges_reported(&self, reported: &Reported) -> bool {
        if reported.changes_schema() {
            self.schema_changes.store(true, Ordering::Relaxed);
        }
        let Some(name) = reported.nameless_read() else {
            return authorizer::allows(&self.gate, reported);
        };
        if self.nameless.borrow().not_in_schema.contains(name) {
            return true;
        }
        let is_granted = authorizer::would_allow(&self.gate, reported);
        if !is_granted {
            self.nameless.borrow_mut().unresolved = Some(name.to_owned());
        }
        is_granted && authorizer::allows(&self.gate, reported)
    }

    /// Runs `host_query`, one of the host's own statements, which the guest's plan does not judge.
    pub(super) fn unjudged<T>(&self, host_query: impl FnOnce() -> T) -> T {
        self.host_is_asking.store(true, Ordering::Relaxed);
        let answer = host_query();
        self.host_is_asking.store(false, Ordering::Relaxed);
        answer
    }

    pub(super) fn authorize(&self, connection: &Connection) {
        #[expect(unsafe_code, reason = "the C interface is the only one that reports every argument")]
        // SAFETY: the handle is open, and `self` stays where it is and outlives the connection (see the struct), so the
        // pointer given to SQLite is valid whenever it calls back. `authorize_callback` has the C signature.
        unsafe {
            ffi::sqlite3_set_authorizer(connection.handle(), Some(authorize_callback), self.as_context());
        }
    }

    pub(super) fn watch_the_clock(&self, connection: &Connection) {
        #[expect(unsafe_code, reason = "rusqlite's hook continues the query after a panic")]
        // SAFETY: as in `authorize`.
        unsafe {
            ffi::sqlite3_progress_handler(
                connection.handle(),
                OPCODES_PER_LOOK,
                Some(progress_callback),
                self.as_context(),
            );
        }
    }

    fn as_context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// "The authorizer callback should return `SQLITE_OK` to allow the action, `SQLITE_IGNORE` to disallow the specific
/// action but allow the SQL statement to continue to be compiled, or `SQLITE_DENY` to cause the entire SQL statement to
/// be rejected with an error." — <https://sqlite.org/c3ref/set_authorizer.html>
#[expect(unsafe_code, reason = "called by SQLite with C strings")]
unsafe extern "C" fn authorize_callback(
    context: *mut c_void,
    code: c_int,
    first: *const c_char,
    second: *const c_char,
    database: *const c_char,
    accessor: *const c_char,
) -> c_int {
    // SAFETY: `context` is the `Hooks` registered in `Hooks::authorize`; it is only ever read through `&`.
    let hooks = unsafe { &*context.cast::<Hooks>() };
    if hooks.host_is_asking.load(Ordering::Relaxed) {
        return ffi::SQLITE_OK;
    }
    // SAFETY: SQLite passes NULL or NUL-terminated strings that live for the duration of the call.
    let [first, second, database, accessor] = unsafe { [text(first), text(second), text(database), text(accessor)] };
    let reported = Reported {
        code,
        first,
        second,
        database,
        accessor,
    };
    // A panic must not cross into C, and must not allow anything.
    let is_allowed = catch_unwind(AssertUnwindSafe(|| hooks.judges(&reported))).unwrap_or(false);
    if is_allowed { ffi::SQLITE_OK } else { ffi::SQLITE_DENY }
}

/// "If the progress callback returns non-zero, the operation is interrupted."
/// — <https://sqlite.org/c3ref/progress_handler.html>
#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn progress_callback(context: *mut c_void) -> c_int {
    // SAFETY: `context` is the `Hooks` registered in `Hooks::watch_the_clock`; it is only ever read through `&`.
    let hooks = unsafe { &*context.cast::<Hooks>() };
    let is_over = catch_unwind(AssertUnwindSafe(|| hooks.deadline.is_over())).unwrap_or(true);
    c_int::from(is_over)
}

/// A C string as text. A name that is not UTF-8, which only the owner of a database can have made, has U+FFFD where it is
/// not.
///
/// # Safety
/// `pointer` is NULL or points to a NUL-terminated string that outlives the returned value's use.
#[expect(unsafe_code, reason = "reads a C string")]
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    Some(bytes.to_string_lossy().into_owned())
}
