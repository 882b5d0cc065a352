//! The two callbacks that SQLite makes into the host while a statement compiles and runs.
//!
//! They are registered through the C interface: rusqlite's own progress hook lets the query continue after a panic,
//! and its authorizer hides the arguments of what it cannot name.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use rusqlite::{Connection, ffi};
use stockade_policies::{Action, Resource, SqlAction};

use super::answers::{Answers, Report};
use super::authorizer::{self, Reported};
use super::indexes::Root;
use super::statement::Statement;
use super::unreported::{Replacing, Told};
use crate::deadline::Deadline;
use crate::gate::{Allowed, Gate};
use crate::layer::Layer;
use crate::outcome::Refusal;
use crate::trail::Trail;

/// Opcodes between two looks at the clock. 1000 cost about 1 % of a scan, and are reached in well under a millisecond unless
/// single opcodes do the work. Where each makes a megabyte, 4000 are more than a second.
const OPCODES_PER_LOOK: c_int = 1000;

/// Looks between two at the system's clock, where a ticker tells the time: it may be late.
const LOOKS_PER_READING: u32 = 16;

/// What the callbacks see. SQLite keeps its address: it must neither move nor go before the connection that the
/// callbacks are registered on. [`super::session`] keeps both, this one in a box.
pub(super) struct Hooks {
    gate: Arc<Gate>,
    deadline: Cell<Deadline>,
    looks: Cell<u32>,
    host_is_asking: Cell<bool>,
    /// Names that a statement reads without a column or a database. See [`Nameless`].
    nameless: RefCell<Nameless>,
    schema_changes: Cell<bool>,
    replacing: RefCell<Replacing>,
    told: RefCell<Told>,
    answers: RefCell<Answers>,
    /// What was allowed of the statement that is being compiled or run, or of all that were run so far of a kept script.
    allowed: RefCell<Vec<Allowed>>,
    /// How much of that is in the trail.
    written: Cell<usize>,
    does: Cell<Does>,
    /// The statement that is being run, or null.
    running: AtomicPtr<ffi::sqlite3_stmt>,
    is_stale: Cell<bool>,
}

/// What a statement does, by all that was reported of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It reads and writes rows. SQLite makes sure that the schema is the one that it was compiled in, under the lock that it
    /// does so under.
    Rows,
    /// It begins a transaction.
    Begin,
    /// It commits one.
    Commit,
    /// Anything else.
    Other,
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
            deadline: Cell::new(deadline),
            looks: Cell::new(0),
            host_is_asking: Cell::new(false),
            nameless: RefCell::default(),
            schema_changes: Cell::new(false),
            replacing: RefCell::default(),
            told: RefCell::default(),
            answers: RefCell::default(),
            allowed: RefCell::default(),
            written: Cell::new(0),
            does: Cell::new(Does::Rows),
            running: AtomicPtr::new(std::ptr::null_mut()),
            is_stale: Cell::new(false),
        }
    }

    /// Whether the guest's time is up, by the system's clock.
    pub(super) fn is_really_over(&self) -> bool {
        self.deadline.get().is_really_over()
    }

    /// Tells that another guest begins, and when its time is up. What was allowed of the one before is none of its trail's.
    pub(super) fn next_guest(&self, deadline: Deadline) {
        self.deadline.set(deadline);
        self.looks.set(0);
        self.forget_allowed();
    }

    /// The name whose read was denied only because nobody knew whether it is a table.
    pub(super) fn take_unresolved(&self) -> Option<String> {
        self.nameless.borrow_mut().unresolved.take()
    }

    /// Tells that `name` is no table: the statement defined it itself.
    pub(super) fn is_not_in_schema(&self, name: String) {
        self.nameless.borrow_mut().not_in_schema.insert(name);
    }

    /// Forgets what was told of the last statement: the next one may find another schema. It is to be compiled then.
    pub(super) fn next_statement(&self) {
        self.nameless.borrow_mut().not_in_schema.clear();
    }

    /// Tells that a statement is about to be compiled, perhaps once more.
    pub(super) fn begin_compiling(&self) {
        self.nameless.borrow_mut().unresolved = None;
        self.answers.borrow_mut().next_statement();
        self.write_allowed();
        self.forget_allowed();
        self.does.set(Does::Rows);
    }

    fn forget_allowed(&self) {
        self.allowed.borrow_mut().clear();
        self.written.set(0);
    }

    /// What was allowed of the statement that was compiled.
    pub(super) fn allowed(&self) -> Vec<Allowed> {
        self.allowed.borrow().clone()
    }

    /// Writes to the trail what was allowed and is not there yet. Whoever asks the gate must do so before, so that the trail is
    /// in order.
    pub(super) fn write_allowed(&self) {
        let allowed = self.allowed.borrow();
        let unwritten = allowed.get(self.written.replace(allowed.len())..).unwrap_or_default();
        if !unwritten.is_empty() {
            self.gate.repeat(unwritten);
        }
    }

    /// The trail, with all that was allowed.
    pub(super) fn trail(&self) -> Trail {
        let allowed = self.allowed.borrow();
        let unwritten = allowed.get(self.written.replace(allowed.len())..).unwrap_or_default();
        self.gate.trail_with(unwritten)
    }

    /// Whether a statement that may bring other tables was compiled since this was last asked.
    pub(super) fn take_schema_change(&self) -> bool {
        self.schema_changes.replace(false)
    }

    /// Whether SQLite was about to compile a statement again because the schema is another, since this was last asked.
    pub(super) fn take_stale(&self) -> bool {
        self.is_stale.replace(false)
    }

    /// Tells that a statement is about to run that was compiled before, what it does, and what was allowed of it then.
    pub(super) fn resume(&self, does: Does, again: &[Allowed]) {
        self.allowed.borrow_mut().extend_from_slice(again);
        self.does.set(does);
    }

    /// Whether nothing was allowed but what [`Hooks::resume`] was told, this much. Virtual tables compile while a statement runs.
    pub(super) fn has_only_resumed(&self, count: usize) -> bool {
        self.allowed.borrow().len() == count
    }

    /// What the statement does that was compiled, or has run, last. Where others were compiled while it ran, those of a virtual
    /// table, it is anything.
    pub(super) fn does(&self) -> Does {
        self.does.get()
    }

    /// Runs a statement. SQLite compiles it again, by itself, where the schema is not the one that it was compiled in; but
    /// what is not reported was asked about in that one. So compiling it again is denied, and [`Hooks::take_stale`] tells
    /// the session, which asks again. Nothing of the statement has run by then.
    pub(super) fn running<T>(&self, statement: &mut Statement, run: impl FnOnce(&mut Statement) -> T) -> T {
        self.running.store(statement.as_ptr(), Ordering::Relaxed);
        let ended = run(statement);
        self.running.store(std::ptr::null_mut(), Ordering::Relaxed);
        ended
    }

    /// Tells where the statements to come may replace rows.
    pub(super) fn expect_replacing(&self, replacing: Replacing) {
        if *self.replacing.borrow() != replacing {
            self.forget();
            *self.replacing.borrow_mut() = replacing;
        }
    }

    /// Tells what the statements to come tell of columns that may not be read.
    pub(super) fn expect_told(&self, told: Told) {
        if *self.told.borrow() != told {
            self.forget();
            *self.told.borrow_mut() = told;
        }
    }

    /// Whether the order in which rows are read can tell of a column that may not be.
    pub(super) fn expects_order(&self) -> bool {
        self.told.borrow().has_order()
    }

    /// Why rows may not be read from these trees in their order, if they may not.
    pub(super) fn order_refusal(&self, trees: &[Root]) -> Option<Refusal> {
        let told = self.told.borrow();
        let column = told.by_order(trees)?;
        self.write_allowed();
        let why = "rows come in its order, by an index: write `not indexed` after the table";
        Some(authorizer::deny_told(&self.gate, column, why))
    }

    /// Why a statement may not be explained, if it may not: SQLite asks nobody about what an explanation tells.
    pub(super) fn explanation_refusal(&self) -> Option<Refusal> {
        let schema = Resource::column("main", "sqlite_master", "sql");
        let is_theirs = self.gate.would_allow(Action::Sql(SqlAction::Read), &schema, &[]);
        if is_theirs || !self.gate.has(Layer::Authorizer) {
            return None;
        }
        self.write_allowed();
        let why = "an explanation has the texts of triggers, views and checks in it, and the names of indexes";
        Some(authorizer::deny_told(&self.gate, &schema, why))
    }

    /// Forgets what was allowed before.
    pub(super) fn forget(&self) {
        self.answers.borrow_mut().forget();
    }

    /// Whether what SQLite reports is granted.
    fn judges(&self, report: &Report<'_>) -> bool {
        if self.is_compiled_again() {
            return false;
        }
        if let Some(allowed) = self.answers.borrow_mut().recall(report) {
            self.add_allowed(allowed);
            return true;
        }
        self.write_allowed();
        let reported = Reported::of(report);
        let Some(allowed) = self.asks(&reported) else {
            return false;
        };
        self.add_allowed(&allowed);
        // The gate wrote them.
        self.written.set(self.allowed.borrow().len());
        match reported.does() {
            Does::Rows if reported.nameless_read().is_none() => self.answers.borrow_mut().remember(report, allowed),
            Does::Rows => {}
            other => self.does.set(other),
        }
        true
    }

    fn add_allowed(&self, more: &[Allowed]) {
        let mut allowed = self.allowed.borrow_mut();
        for one in more {
            if !allowed.contains(one) {
                allowed.push(*one);
            }
        }
    }

    /// Whether the statement that is being run is not running: SQLite compiles it once more. What virtual tables compile,
    /// they do while it runs.
    fn is_compiled_again(&self) -> bool {
        let running = self.running.load(Ordering::Relaxed);
        if running.is_null() {
            return false;
        }
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: set in `running` for as long as the statement is borrowed there; SQLite reads one field.
        let is_busy = unsafe { ffi::sqlite3_stmt_busy(running) } != 0;
        if is_busy {
            self.does.set(Does::Other);
        } else {
            self.is_stale.set(true);
        }
        !is_busy
    }

    /// What of the report is granted, by the lines that it is in the trail; `None` where something is not.
    fn asks(&self, reported: &Reported) -> Option<Vec<Allowed>> {
        let mut allowed = Vec::with_capacity(1);
        let is_granted = self.judges_reported(reported, &mut allowed)
            && self.judges_replaced(reported, &mut allowed)
            && self.judges_told(reported);
        is_granted.then_some(allowed)
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
    fn judges_replaced(&self, reported: &Reported, allowed: &mut Vec<Allowed>) -> bool {
        match reported.written_table() {
            Some(table) if self.replacing.borrow().holds_for(&table) => {
                noted(authorizer::allows_replacing(&self.gate, &table), allowed)
            }
            _ => true,
        }
    }

    fn judges_reported(&self, reported: &Reported, allowed: &mut Vec<Allowed>) -> bool {
        if reported.changes_schema() {
            self.schema_changes.set(true);
        }
        let Some(name) = reported.nameless_read() else {
            return noted(authorizer::allows(&self.gate, reported), allowed);
        };
        if self.nameless.borrow().not_in_schema.contains(name) {
            return true;
        }
        if !authorizer::would_allow(&self.gate, reported) {
            self.nameless.borrow_mut().unresolved = Some(name.to_owned());
            return false;
        }
        noted(authorizer::allows(&self.gate, reported), allowed)
    }

    /// Runs one of the host's own statements, which the guest's plan does not judge.
    pub(super) fn unjudged<T>(&self, host_query: impl FnOnce() -> T) -> T {
        self.host_is_asking.set(true);
        let answer = host_query();
        self.host_is_asking.set(false);
        answer
    }

    /// Whether the guest's time is up.
    fn is_over(&self) -> bool {
        let looks = self.looks.get().wrapping_add(1);
        self.looks.set(looks);
        let deadline = self.deadline.get();
        deadline.is_over() || (looks.is_multiple_of(LOOKS_PER_READING) && deadline.is_really_over())
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

/// Whether something was granted, which is noted then.
fn noted(granted: Option<Allowed>, allowed: &mut Vec<Allowed>) -> bool {
    allowed.extend(granted);
    granted.is_some()
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
    if hooks.host_is_asking.get() {
        return ffi::SQLITE_OK;
    }
    // SAFETY: SQLite passes NULL or NUL-terminated strings that live for the duration of the call.
    let arguments = unsafe { [text(first), text(second), text(database), text(accessor)] };
    let report = Report { code, arguments };
    // A panic must not cross into C, and must not allow anything.
    let is_allowed = catch_unwind(AssertUnwindSafe(|| hooks.judges(&report))).unwrap_or(false);
    if is_allowed { ffi::SQLITE_OK } else { ffi::SQLITE_DENY }
}

/// "If the progress callback returns non-zero, the operation is interrupted."
/// — <https://sqlite.org/c3ref/progress_handler.html>
#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn progress_callback(context: *mut c_void) -> c_int {
    // SAFETY: `context` is the `Hooks` registered in `Hooks::watch_the_clock`; it is only ever read through `&`.
    let hooks = unsafe { &*context.cast::<Hooks>() };
    let is_over = catch_unwind(AssertUnwindSafe(|| {
        let is_over = hooks.is_over();
        if is_over {
            // What comes now, undoing what the statement wrote, is not the guest.
            hooks.gate.ending();
        }
        is_over
    }))
    .unwrap_or(true);
    c_int::from(is_over)
}

/// A C string, where it is.
///
/// # Safety
/// `pointer` is NULL or points to a NUL-terminated string that outlives the returned value's use.
#[expect(unsafe_code, reason = "reads a C string")]
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a CStr> {
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}
