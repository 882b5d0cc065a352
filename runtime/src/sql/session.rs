//! One connection inside one plan, and the scripts that run on it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, Statement, ffi};
use stockade_policies::{Bound, Meter};

use super::hooks::Hooks;
use super::limits;
use super::refusal::{self, Phase};
use super::unreported::{self, Told, Unreported};
use super::{authorizer, files, functions, indexes};
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal, SqlValue, StatementResult};

/// How long to wait for a lock that somebody else holds on the database: SQLite looks at no deadline meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The most pages that a database can have: <https://sqlite.org/limits.html#max_page_count>.
const MOST_PAGES: i64 = 4_294_967_294;

/// Why a script stopped before its end.
pub(crate) enum Stop {
    /// The guest was refused, ran out of something or failed.
    Refused(Refusal),
    /// We do not know: the database failed through no doing of the guest.
    Unknown(RuntimeError),
}

/// Whether a result was cut at the rows or bytes that the plan allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    No,
    At(Meter),
}

/// One connection inside one plan.
pub(crate) struct Session {
    // Declared first, so dropped first: SQLite must not call hooks that are gone.
    connection: Connection,
    hooks: Box<Hooks>,
    gate: Arc<Gate>,
    deadline: Deadline,
    database: Option<PathBuf>,
    most_pages: Option<i64>,
    spent: RefCell<Spent>,
}

/// What the scripts of this session have handed back so far.
#[derive(Default)]
struct Spent {
    rows: u64,
    bytes: u64,
}

impl Session {
    /// Opens the database and puts every layer in force that the gate has.
    pub(crate) fn open(database: Option<&Path>, gate: &Arc<Gate>, deadline: Deadline) -> Result<Self, RuntimeError> {
        let unusable = |error: rusqlite::Error| unusable(database, &error);
        // What an earlier guest was refused is not this one's affair.
        files::take_refusal();
        files::take_disk_full();
        let opened = if gate.has(Layer::Limits) {
            limits::open_hardened(database)
        } else {
            limits::open_undefended(database)
        };
        let mut session = Self {
            connection: opened.map_err(unusable)?,
            hooks: Box::new(Hooks::new(Arc::clone(gate), deadline)),
            gate: Arc::clone(gate),
            deadline,
            database: database.map(Path::to_owned),
            most_pages: None,
            spent: RefCell::default(),
        };
        session.connection.busy_timeout(LONGEST_WAIT).map_err(unusable)?;
        session.fence().map_err(unusable)?;
        Ok(session)
    }

    fn fence(&mut self) -> rusqlite::Result<()> {
        // Reads the header: a file that is no database is the caller's mistake, not the guest's.
        self.connection.query_row("pragma schema_version", [], |_| Ok(()))?;
        self.limit_heap()?;
        self.limit_pages()?;
        if self.gate.has(Layer::Limits) {
            limits::lower(&self.connection, &self.gate)?;
        }
        functions::bound(&self.connection, &self.gate, self.deadline)?;
        if self.gate.has(Layer::Deadline) {
            self.hooks.watch_the_clock(&self.connection);
        }
        if self.gate.has(Layer::Authorizer) {
            self.hooks.authorize(&self.connection);
        }
        Ok(())
    }

    fn limit_heap(&self) -> rusqlite::Result<()> {
        if !self.gate.has(Layer::Heap) {
            return Ok(());
        }
        if let Bound::Limited(most) = self.gate.bound(Meter::GrowHeap) {
            limits::set_heap(most);
        }
        // What would spill to a temporary file counts as heap instead.
        self.connection.execute_batch("pragma temp_store = memory")
    }

    fn limit_pages(&mut self) -> rusqlite::Result<()> {
        let Bound::Limited(most) = self.gate.bound(Meter::GrowDatabase) else {
            return Ok(());
        };
        if !self.gate.has(Layer::Quota) {
            return Ok(());
        }
        let page_size: i64 = self.connection.query_row("pragma page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(most).unwrap_or(i64::MAX) / page_size.max(512);
        if pages == 0 {
            // `max_page_count = 0` would ask for the current value: nothing at all may be stored.
            return self.connection.execute_batch("pragma query_only = on");
        }
        // SQLite never sets the cap below the pages that are already there.
        let in_force = self.connection.query_row(
            &format!("pragma max_page_count = {}", pages.min(MOST_PAGES)),
            [],
            |row| row.get(0),
        )?;
        self.most_pages = Some(in_force);
        Ok(())
    }

    /// Runs every statement of `script`, and adds their results to `results`.
    pub(crate) fn run(&self, script: &str, results: &mut Vec<StatementResult>) -> Result<Cut, Stop> {
        let unreported = Unreported::of(script).filter(|_| self.gate.has(Layer::Authorizer));
        let mut batch = Batch::new(&self.connection, script);
        let mut is_new_schema = true;
        loop {
            if is_new_schema && self.gate.has(Layer::Authorizer) {
                self.ask_about(unreported.as_ref())?;
            }
            let Some(mut statement) = self.prepare(&mut batch)? else {
                return Ok(Cut::No);
            };
            self.ask_about_order(&statement)?;
            let mut result = StatementResult::default();
            let before = self.connection.total_changes();
            let ended = step(&mut statement, &self.gate, &mut self.spent.borrow_mut(), &mut result);
            drop(statement);
            is_new_schema = self.hooks.take_schema_change();
            result.changes = self.connection.total_changes().saturating_sub(before);
            results.push(result);
            let cut = ended.map_err(|error| self.stop(&error, Phase::Step))?;
            self.look_after()?;
            if cut != Cut::No {
                return Ok(cut);
            }
        }
    }

    /// Asks about what SQLite will not report, in the schema as it is now.
    fn ask_about(&self, unreported: Option<&Unreported>) -> Result<(), Stop> {
        let refusal = self.as_host(|connection| {
            self.hooks.expect_told(Told::of(connection, &self.gate)?);
            let Some(unreported) = unreported else {
                return Ok(None);
            };
            self.hooks.expect_replacing(unreported.replacing(connection)?);
            unreported.refusal(connection, &self.gate)
        });
        match refusal {
            Ok(None) => Ok(()),
            Ok(Some(refusal)) => {
                self.gate.refuse(refusal.clone());
                Err(Stop::Refused(refusal))
            }
            // The schema does not read: neither will the guest's own statement.
            Err(error) => Err(self.stop(&error, Phase::Prepare)),
        }
    }

    /// Asks about the order in which rows will be read, where an index could tell of what may not be.
    fn ask_about_order(&self, statement: &Statement<'_>) -> Result<(), Stop> {
        if statement.is_explain() != 0 || !self.hooks.expects_order() {
            return Ok(());
        }
        let trees = self
            .as_host(|connection| indexes::walked(connection, statement))
            .map_err(|error| self.stop(&error, Phase::Prepare))?;
        self.hooks
            .order_refusal(&trees)
            .map_or(Ok(()), |refusal| Err(Stop::Refused(refusal)))
    }

    /// The next statement of a script; `None` at its end.
    fn prepare<'c>(&'c self, batch: &mut Batch<'c, '_>) -> Result<Option<Statement<'c>>, Stop> {
        self.hooks.next_statement();
        loop {
            let error = match batch.next() {
                Ok(statement) => return Ok(statement),
                Err(error) => error,
            };
            // A batch stays at a statement that does not compile, so each turn tries the same one again, and knows one
            // more of the names in it.
            match self.hooks.take_unresolved() {
                Some(name) if !self.is_in_schema(&name) => self.hooks.is_not_in_schema(name),
                Some(name) => {
                    let refusal = authorizer::deny_rows(&self.gate, &name);
                    return Err(Stop::Refused(refusal));
                }
                None if self.is_program_too_long(&error, batch) => {
                    let detail = beyond(Meter::SqlVdbeOp, self.gate.bound(Meter::SqlVdbeOp));
                    return Err(self.refused(Layer::Limits, Class::LimitSqlProgram, detail));
                }
                None => return Err(self.stop(&error, Phase::Prepare)),
            }
        }
    }

    /// Whether a table, a view or a virtual table of this name could be read. In doubt it is there.
    fn is_in_schema(&self, name: &str) -> bool {
        const BUILT_IN: &str = "select ?1 like 'sqlite\\_%' escape '\\' or ?1 like 'pragma\\_%' escape '\\'
             or ?1 like 'json%' or exists (select 1 from pragma_module_list where name = ?1 collate nocase)";
        let found = self.as_host(|connection| {
            let is_built_in: bool = connection.query_row(BUILT_IN, [name], |row| row.get(0))?;
            if is_built_in {
                return Ok(true);
            }
            for schema in unreported::schemas(connection)? {
                let query = format!(
                    "select exists (select 1 from {}.sqlite_master where name = ?1 collate nocase)",
                    unreported::quoted(&schema)
                );
                if connection.query_row(&query, [name], |row| row.get(0))? {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        found.unwrap_or(true)
    }

    /// What only shows once a statement has ended: time that one opcode took, and limits that it changed.
    fn look_after(&self) -> Result<(), Stop> {
        if let Some(refusal) = self.gate.refusal() {
            return Err(Stop::Refused(refusal));
        }
        if self.gate.has(Layer::Deadline) && self.deadline.is_over() {
            let detail = beyond(Meter::Elapse, self.gate.bound(Meter::Elapse));
            return Err(self.refused(Layer::Deadline, Class::LimitTime, detail));
        }
        if self.gate.has(Layer::Limits)
            && let Some(meter) = limits::raised(&self.connection, &self.gate)
        {
            let detail = format!("the guest raised `{}`", meter.action());
            return Err(self.refused(Layer::Limits, Class::HostInternal, detail));
        }
        if let Some(most) = self.most_pages
            && self.pages_allowed() != Some(most)
        {
            let detail = "the guest changed `max_page_count`";
            return Err(self.refused(Layer::Quota, Class::LimitStorage, detail.to_owned()));
        }
        Ok(())
    }

    fn refused(&self, layer: Layer, class: Class, detail: String) -> Stop {
        let refusal = Refusal::by(layer, class, detail);
        self.gate.refuse(refusal.clone());
        Stop::Refused(refusal)
    }

    fn pages_allowed(&self) -> Option<i64> {
        self.as_host(|connection| connection.query_row("pragma max_page_count", [], |row| row.get(0)))
            .ok()
    }

    /// Runs one of the host's own statements: no authorizer, and none of the guest's limits.
    fn as_host<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        if !self.gate.has(Layer::Limits) {
            return self.hooks.unjudged(|| query(&self.connection));
        }
        limits::lift(&self.connection)?;
        let answer = self.hooks.unjudged(|| query(&self.connection));
        // Where this fails, the limits read as raised, and the guest is refused for it.
        limits::lower(&self.connection, &self.gate)?;
        answer
    }

    /// The gate's own refusal comes first: SQLite's error is then only its echo.
    fn stop(&self, error: &rusqlite::Error, phase: Phase) -> Stop {
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
    fn outer_refusal(&self, error: &rusqlite::Error) -> Option<Refusal> {
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
    fn is_disk_full(error: &rusqlite::Error) -> bool {
        let is_full = refusal::code(error).is_some_and(|code| code & 0xff == ffi::SQLITE_FULL);
        is_full && files::take_disk_full()
    }

    /// What `errno` was when SQLite last failed.
    fn system_error(&self) -> i32 {
        #[expect(unsafe_code, reason = "rusqlite does not wrap it")]
        // SAFETY: the handle is open for the duration of the call.
        unsafe {
            ffi::sqlite3_system_errno(self.connection.handle())
        }
    }

    /// SQLite reports a program over `SQLITE_LIMIT_VDBE_OP` as "out of memory". It is the program's length where the
    /// same statement compiles once that limit is out of the way, under the same heap limit.
    fn is_program_too_long(&self, error: &rusqlite::Error, batch: &mut Batch<'_, '_>) -> bool {
        let is_out_of_memory = refusal::code(error).is_some_and(|code| code & 0xff == ffi::SQLITE_NOMEM);
        if !is_out_of_memory || !self.gate.has(Layer::Limits) || self.gate.refusal().is_some() {
            return false;
        }
        let limit = Limit::SQLITE_LIMIT_VDBE_OP;
        let Ok(bound) = self.connection.set_limit(limit, i32::MAX) else {
            return false;
        };
        let compiles_now = matches!(batch.next(), Ok(Some(_)));
        self.connection.set_limit(limit, bound).is_ok() && compiles_now
    }

    fn is_write_to_a_full_database(&self, error: &rusqlite::Error) -> bool {
        let is_read_only = refusal::code(error) == Some(ffi::SQLITE_READONLY);
        is_read_only
            && self.gate.has(Layer::Quota)
            && self.most_pages.is_none()
            && self.gate.bound(Meter::GrowDatabase) != Bound::Unbounded
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

/// Steps a statement to its end, or to the rows or bytes that the plan allows.
fn step(
    statement: &mut Statement<'_>,
    gate: &Gate,
    spent: &mut Spent,
    result: &mut StatementResult,
) -> rusqlite::Result<Cut> {
    result.columns = statement.column_names().map(str::to_owned).collect();
    let width = result.columns.len();
    spent.bytes += result.columns.iter().map(|name| name.len() as u64).sum::<u64>();
    let is_within = |meter, total| !gate.has(Layer::Quota) || gate.bound(meter).permits(total);
    if !is_within(Meter::ReturnBytes, spent.bytes) {
        result.columns.clear();
        return Ok(Cut::At(Meter::ReturnBytes));
    }
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        spent.rows += 1;
        if !is_within(Meter::ReturnRows, spent.rows) {
            return Ok(Cut::At(Meter::ReturnRows));
        }
        let mut values = Vec::with_capacity(width);
        for index in 0..width {
            let value = row.get_ref(index)?;
            spent.bytes += size(value);
            // Asked before the copy: a row of a hundred megabytes is not copied to find that it is too large.
            if !is_within(Meter::ReturnBytes, spent.bytes) {
                return Ok(Cut::At(Meter::ReturnBytes));
            }
            values.push(owned(value));
        }
        result.rows.push(values);
    }
    Ok(Cut::No)
}

fn size(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Null => 1,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
    }
}

fn owned(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
        // Text that is not UTF-8 stays what it is: bytes.
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => SqlValue::Text(text.to_owned()),
            Err(_) => SqlValue::Blob(bytes.to_vec()),
        },
    }
}

fn unusable(database: Option<&Path>, error: &rusqlite::Error) -> RuntimeError {
    RuntimeError::Database {
        path: database.map_or_else(|| PathBuf::from(":memory:"), Path::to_owned),
        reason: refusal::sentence(error),
    }
}
