//! One connection inside one plan, and the scripts that run on it.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ffi};
use stockade_policies::{Bound, Meter};

use super::hooks::{Does, Hooks};
use super::kept::{Kept, Known, Part, Script};
use super::limits;
use super::refusal::{self, Phase};
use super::statement::{Compiled, Statement};
use super::unreported::{self, Replacing, Told, Unreported};
use super::{authorizer, files, functions, indexes, tokens};
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal, SqlValue, StatementResult};

/// How long to wait for a lock that somebody else holds on the database: SQLite looks at no deadline meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The most pages that a database can have: <https://sqlite.org/limits.html#max_page_count>.
const MOST_PAGES: i64 = 4_294_967_294;

/// How often a statement is compiled again because others change the schema meanwhile.
const MOST_TRIES: u32 = 8;

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
    // Declared first, so dropped first: statements must not outlive their connection, and SQLite must not call hooks that
    // are gone.
    kept: RefCell<Kept>,
    connection: Connection,
    hooks: Box<Hooks>,
    gate: Arc<Gate>,
    deadline: Cell<Deadline>,
    database: Option<PathBuf>,
    most_pages: Option<i64>,
    spent: RefCell<Spent>,
    /// The schemas that were asked about, as they were then; `None` where they may be others now.
    asked: RefCell<Option<Vec<Asked>>>,
    /// Whether limits were lifted and lowered since they were last read.
    were_limits_set: Cell<bool>,
    /// Whether a guest was refused for another limit of pages, which is in force.
    has_other_pages: Cell<bool>,
}

/// A schema that was asked about.
#[derive(Debug)]
struct Asked {
    schema: CString,
    /// `SQLITE_FCNTL_DATA_VERSION` of its file: while it stays, so does the cookie.
    version: u32,
    /// "The schema-version … is incremented by SQLite whenever the schema changes":
    /// <https://sqlite.org/pragma.html#pragma_schema_version>
    cookie: i64,
}

/// What the scripts of this session have handed back so far.
#[derive(Default)]
struct Spent {
    rows: u64,
    bytes: u64,
}

/// A script that is being run from its text.
struct Text<'t> {
    script: &'t str,
    unreported: Option<Unreported>,
    /// Whether it could have a `pragma` in it, the only SQL that changes a limit.
    has_pragma: bool,
    /// Where the next statement begins.
    start: usize,
    /// Its statements so far, where the script is to be kept.
    parts: Option<Vec<Part>>,
}

/// How a statement ended that was not stopped.
enum Ended {
    Cut(Cut),
    /// Before it began, because the schema is not the one that was asked about.
    Stale,
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
            kept: RefCell::default(),
            connection: opened.map_err(unusable)?,
            hooks: Box::new(Hooks::new(Arc::clone(gate), deadline)),
            gate: Arc::clone(gate),
            deadline: Cell::new(deadline),
            database: database.map(Path::to_owned),
            most_pages: None,
            spent: RefCell::default(),
            asked: RefCell::default(),
            were_limits_set: Cell::new(false),
            has_other_pages: Cell::new(false),
        };
        session.connection.busy_timeout(LONGEST_WAIT).map_err(unusable)?;
        session.fence().map_err(unusable)?;
        Ok(session)
    }

    /// Starts another guest of the same plan on the same connection, with a deadline, trail and quotas of its own. Tells why it
    /// must not run if its time is up already.
    pub(crate) fn admit(&self, deadline: Deadline) -> Result<Option<Refusal>, RuntimeError> {
        if self.has_other_pages.get() {
            self.restore_pages()
                .map_err(|error| unusable(self.database.as_deref(), &error))?;
            self.has_other_pages.set(false);
        }
        files::take_refusal();
        if self.gate.admit_another() {
            // What was allowed is known by lines that are gone.
            self.kept.borrow_mut().clear();
            self.hooks.forget();
        }
        self.hooks.set_deadline(deadline);
        self.deadline.set(deadline);
        *self.spent.borrow_mut() = Spent::default();
        Ok(self.time_is_up())
    }

    /// Rolls back a transaction that the guest left open, as closing the connection would.
    pub(crate) fn roll_back(&self) -> Result<(), RuntimeError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.forget_schema();
        self.as_host(|connection| connection.execute_batch("rollback"))
            .map_err(|error| unusable(self.database.as_deref(), &error))
    }

    fn fence(&mut self) -> rusqlite::Result<()> {
        // Reads the header: a file that is no database is the caller's mistake, not the guest's.
        self.connection.query_row("pragma schema_version", [], |_| Ok(()))?;
        self.limit_heap()?;
        self.limit_pages()?;
        if self.gate.has(Layer::Limits) {
            limits::lower(&self.connection, &self.gate)?;
        }
        functions::bound(&self.connection, &self.gate, &self.hooks)?;
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
        let known = self.kept.borrow_mut().take(script);
        let ended = match known {
            Known::Script(kept) => self.run_kept(kept, script, results),
            Known::SeenBefore => self.run_text(script, 0, true, results),
            Known::No => self.run_text(script, 0, false, results),
        };
        if ended.is_err() {
            // What failed may have been rolled back, and a table with it.
            self.forget_schema();
        }
        ended
    }

    /// Runs a script that is compiled already.
    fn run_kept(&self, mut kept: Box<Script>, script: &str, results: &mut Vec<StatementResult>) -> Result<Cut, Stop> {
        let mut cut = Cut::No;
        for part in &mut kept.parts {
            self.gate.repeat(&part.allowed);
            self.hooks.resume(part.does);
            match self.execute(&mut part.statement, &part.columns, part.is_read_only, false, results)? {
                Ended::Cut(Cut::No) => {}
                Ended::Cut(at) => {
                    cut = at;
                    break;
                }
                Ended::Stale => {
                    let start = part.start;
                    drop(kept);
                    self.forget_schema();
                    return self.run_text(script, start, false, results);
                }
            }
        }
        self.kept.borrow_mut().put_back(kept);
        Ok(cut)
    }

    /// Runs a script from where it is not compiled yet.
    fn run_text(
        &self,
        script: &str,
        start: usize,
        is_to_keep: bool,
        results: &mut Vec<StatementResult>,
    ) -> Result<Cut, Stop> {
        let is_plain = unreported::is_plain(script);
        let has_pragma = !is_plain && tokens::has_any(script, &["pragma"]);
        let mut text = Text {
            script,
            unreported: (!is_plain && self.gate.has(Layer::Authorizer))
                .then(|| Unreported::of(script))
                .flatten(),
            has_pragma,
            start,
            parts: (is_to_keep && !has_pragma).then(Vec::new),
        };
        let mut is_asked = false;
        let mut tries = 0;
        loop {
            self.ask_where_needed(text.unreported.as_ref(), &mut is_asked)?;
            let Compiled { statement, length } = self.compile(&text)?;
            let Some(mut statement) = statement else {
                if text.start + length < script.len() {
                    text.start += length.max(1);
                    continue;
                }
                break;
            };
            let ended = if self.is_as_asked() {
                self.ask_about_order(
                    &statement,
                    script.get(text.start..text.start + length).unwrap_or_default(),
                )?;
                self.run_compiled(&mut statement, &mut text, results)?
            } else {
                Ended::Stale
            };
            match ended {
                Ended::Cut(Cut::No) => {
                    self.keep_part(statement, &mut text);
                    text.start += length;
                    is_asked &= self.asked.borrow().is_some();
                    tries = 0;
                }
                Ended::Cut(cut) => return Ok(cut),
                Ended::Stale => {
                    tries += 1;
                    if tries > MOST_TRIES {
                        return Err(self.changes_too_fast());
                    }
                    self.forget_schema();
                    is_asked = false;
                }
            }
        }
        if let Some(parts) = text.parts.filter(|_| self.asked.borrow().is_some()) {
            self.kept.borrow_mut().keep(script, parts);
        }
        Ok(Cut::No)
    }

    fn run_compiled(
        &self,
        statement: &mut Statement,
        text: &mut Text<'_>,
        results: &mut Vec<StatementResult>,
    ) -> Result<Ended, Stop> {
        let columns = statement
            .column_names()
            .map_err(|error| self.stop(&error, Phase::Prepare))?;
        let is_read_only = statement.is_read_only();
        let ended = self.execute(statement, &columns, is_read_only, text.has_pragma, results)?;
        Ok(ended)
    }

    /// Keeps a statement that has run, where its script is to be kept, and it is of a kind that leaves the schema alone.
    fn keep_part(&self, statement: Statement, text: &mut Text<'_>) {
        let Some(parts) = &mut text.parts else { return };
        let does = self.hooks.does();
        match statement.column_names() {
            Ok(columns) if does != Does::Other => parts.push(Part {
                is_read_only: statement.is_read_only(),
                statement,
                columns,
                does,
                allowed: self.hooks.take_allowed(),
                start: text.start,
            }),
            _ => text.parts = None,
        }
    }

    /// Runs a compiled statement to its end, and looks after it.
    fn execute(
        &self,
        statement: &mut Statement,
        columns: &[String],
        is_read_only: bool,
        has_pragma: bool,
        results: &mut Vec<StatementResult>,
    ) -> Result<Ended, Stop> {
        let mut result = StatementResult::default();
        let before = if is_read_only {
            0
        } else {
            self.connection.total_changes()
        };
        let is_known_commit = self.hooks.does() == Does::Commit && self.is_as_asked();
        let ended = self.hooks.running(statement, |statement| {
            step(
                statement,
                columns,
                &self.gate,
                &mut self.spent.borrow_mut(),
                &mut result,
            )
        });
        if self.hooks.take_stale() {
            return Ok(Ended::Stale);
        }
        if self.hooks.take_schema_change() {
            self.forget_schema();
        }
        if !is_read_only {
            result.changes = self.connection.total_changes().saturating_sub(before);
            if is_known_commit || self.hooks.does() == Does::Rows {
                self.notice_own_write();
            }
        }
        results.push(result);
        // What is left of a statement that was cut is not run, and holds no lock.
        let ended = ended.map_err(|error| self.stop(&error, Phase::Step));
        statement.reset();
        let cut = ended?;
        self.look_after(has_pragma)?;
        Ok(Ended::Cut(cut))
    }

    /// Asks about what SQLite will not report, where that was not asked about in the schema as it is.
    fn ask_where_needed(&self, unreported: Option<&Unreported>, is_asked: &mut bool) -> Result<(), Stop> {
        let is_known = self.asked.borrow().is_some() && (*is_asked || unreported.is_none());
        if is_known && unreported.is_none() {
            self.hooks.expect_replacing(Replacing::default());
        }
        if is_known || !self.gate.has(Layer::Authorizer) {
            return Ok(());
        }
        for _ in 0..MOST_TRIES {
            let schemas = self.as_host(unreported::schemas);
            let schemas = schemas.map_err(|error| self.stop(&error, Phase::Prepare))?;
            let before = self.versions(&schemas);
            self.ask_about(unreported)?;
            let after = self.versions(&schemas);
            // Others may have changed a schema between two questions.
            let cookies = |asked: &Vec<Asked>| asked.iter().map(|asked| asked.cookie).collect::<Vec<_>>();
            if after.is_some() && after.as_ref().map(cookies) == before.as_ref().map(cookies) {
                *self.asked.borrow_mut() = after;
                *is_asked = true;
                return Ok(());
            }
        }
        Err(self.changes_too_fast())
    }

    /// Asks about what SQLite will not report, in the schema as it is now.
    fn ask_about(&self, unreported: Option<&Unreported>) -> Result<(), Stop> {
        let refusal = self.as_host(|connection| {
            self.hooks.expect_told(Told::of(connection, &self.gate)?);
            let Some(unreported) = unreported else {
                self.hooks.expect_replacing(Replacing::default());
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
    fn ask_about_order(&self, statement: &Statement, text: &str) -> Result<(), Stop> {
        if statement.is_explain() || !self.hooks.expects_order() {
            return Ok(());
        }
        let trees = self
            .as_host(|connection| indexes::walked(connection, text))
            .map_err(|error| self.stop(&error, Phase::Prepare))?;
        let refusal = self.hooks.order_refusal(&trees);
        refusal.map_or(Ok(()), |refusal| Err(Stop::Refused(refusal)))
    }

    /// Forgets what was asked about, and what was compiled since.
    fn forget_schema(&self) {
        *self.asked.borrow_mut() = None;
        self.kept.borrow_mut().clear();
    }

    /// Whether SQLite still knows the schemas that were asked about. It may have read others while it compiled: where it
    /// does not find a name, it looks whether somebody else has made it meanwhile.
    fn is_as_asked(&self) -> bool {
        if !self.gate.has(Layer::Authorizer) {
            return true;
        }
        let mut asked = self.asked.borrow_mut();
        asked.as_mut().is_some_and(|asked| {
            let mut schemas = asked.iter_mut();
            schemas.all(|asked| self.is_the_same(asked))
        })
    }

    /// Rows that others wrote move the version, and so does every look at a write-ahead log that SQLite may not index
    /// beside the file: then the cookie tells whether it was the schema.
    fn is_the_same(&self, asked: &mut Asked) -> bool {
        if self.version(&asked.schema) == Some(asked.version) {
            return true;
        }
        let is_same = self.cookie(&asked.schema) == Some(asked.cookie);
        asked.version = self.version(&asked.schema).unwrap_or(asked.version);
        is_same
    }

    /// A write of the guest's own moves the version too. Nobody else's can have come between: a statement about rows found the
    /// schema that it was compiled in, under the lock that it wrote under, and what commits has held its lock all along.
    fn notice_own_write(&self) {
        for asked in self.asked.borrow_mut().iter_mut().flatten() {
            if let Some(version) = self.version(&asked.schema) {
                asked.version = version;
            }
        }
    }

    /// The versions of every schema but `temp`, which nobody else sees.
    fn versions(&self, schemas: &[String]) -> Option<Vec<Asked>> {
        let seen_by_others = schemas.iter().filter(|name| !name.eq_ignore_ascii_case("temp"));
        seen_by_others
            .map(|name| {
                let schema = CString::new(name.as_str()).ok()?;
                let cookie = self.cookie(&schema)?;
                let version = self.version(&schema)?;
                Some(Asked {
                    schema,
                    version,
                    cookie,
                })
            })
            .collect()
    }

    fn cookie(&self, schema: &CString) -> Option<i64> {
        let query = format!("pragma {}.schema_version", unreported::quoted(schema.to_str().ok()?));
        self.as_host(|connection| connection.query_row(&query, [], |row| row.get(0)))
            .ok()
    }

    /// "The `SQLITE_FCNTL_DATA_VERSION` opcode is used to detect changes to a database file": it is read from memory, and
    /// moves when SQLite notices that the file has changed.
    fn version(&self, schema: &CString) -> Option<u32> {
        let mut version: u32 = 0;
        #[expect(unsafe_code, reason = "rusqlite does not wrap it")]
        // SAFETY: the handle is open for the duration of the call, the name is NUL-terminated, and what the last argument
        // points to is the unsigned 32-bit integer that this opcode writes.
        let code = unsafe {
            ffi::sqlite3_file_control(
                self.connection.handle(),
                schema.as_ptr(),
                ffi::SQLITE_FCNTL_DATA_VERSION,
                (&raw mut version).cast(),
            )
        };
        (code == ffi::SQLITE_OK).then_some(version)
    }

    fn changes_too_fast(&self) -> Stop {
        Stop::Unknown(RuntimeError::Database {
            path: path_of(self.database.as_deref()),
            reason: "others change it faster than it can be asked about".to_owned(),
        })
    }

    /// The next statement of a script.
    fn compile(&self, text: &Text<'_>) -> Result<Compiled, Stop> {
        let rest = text.script.get(text.start..).unwrap_or_default();
        self.hooks.next_statement();
        loop {
            self.hooks.begin_compiling();
            let compiled = self.compile_once(rest, text.parts.is_some());
            // The decisions stand in the trail, whatever becomes of the statement.
            let allowed = self.hooks.take_allowed();
            self.hooks.reuse(allowed);
            let error = match compiled {
                Ok(compiled) => return Ok(compiled),
                Err(error) => error,
            };
            // Each turn compiles the same statement again, and knows one more of the names in it.
            match self.hooks.take_unresolved() {
                Some(name) if !self.is_in_schema(&name) => self.hooks.is_not_in_schema(name),
                Some(name) => {
                    let refusal = authorizer::deny_rows(&self.gate, &name);
                    return Err(Stop::Refused(refusal));
                }
                None if self.is_program_too_long(&error, rest) => {
                    let detail = beyond(Meter::SqlVdbeOp, self.gate.bound(Meter::SqlVdbeOp));
                    return Err(self.refused(Layer::Limits, Class::LimitSqlProgram, detail));
                }
                None => return Err(self.stop(&error, Phase::Prepare)),
            }
        }
    }

    fn compile_once(&self, text: &str, is_kept: bool) -> rusqlite::Result<Compiled> {
        #[expect(unsafe_code, reason = "nothing ties a statement to its connection")]
        // SAFETY: every statement is dropped where it was compiled or is in `kept`, which is dropped before the connection;
        // a session has both, so that they go to another thread together.
        unsafe {
            Statement::compile(&self.connection, text, is_kept)
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
    ///
    /// No SQL but a `pragma` changes a limit, so they are read again where there could be one, and where the host itself lifted
    /// and lowered them.
    fn look_after(&self, has_pragma: bool) -> Result<(), Stop> {
        if let Some(refusal) = self.gate.refusal() {
            return Err(Stop::Refused(refusal));
        }
        if let Some(refusal) = self.time_is_up() {
            self.gate.refuse(refusal.clone());
            return Err(Stop::Refused(refusal));
        }
        if !has_pragma && !self.were_limits_set.replace(false) {
            return Ok(());
        }
        if self.gate.has(Layer::Limits)
            && let Some(meter) = limits::raised(&self.connection, &self.gate)
        {
            let detail = format!("the guest raised `{}`", meter.action());
            return Err(self.refused(Layer::Limits, Class::HostInternal, detail));
        }
        if let Some(most) = self.most_pages.filter(|_| has_pragma)
            && self.pages_allowed() != Some(most)
        {
            self.has_other_pages.set(true);
            let detail = "the guest changed `max_page_count`";
            return Err(self.refused(Layer::Quota, Class::LimitStorage, detail.to_owned()));
        }
        Ok(())
    }

    /// The guest's refusal when its time is up.
    fn time_is_up(&self) -> Option<Refusal> {
        if !self.gate.has(Layer::Deadline) || !self.deadline.get().is_over() {
            return None;
        }
        let detail = beyond(Meter::Elapse, self.gate.bound(Meter::Elapse));
        Some(Refusal::by(Layer::Deadline, Class::LimitTime, detail))
    }

    fn refused(&self, layer: Layer, class: Class, detail: String) -> Stop {
        let refusal = Refusal::by(layer, class, detail);
        self.gate.refuse(refusal.clone());
        Stop::Refused(refusal)
    }

    /// Sets the limit of pages again: what one guest was refused for, the next one must not find.
    fn restore_pages(&self) -> rusqlite::Result<()> {
        let Some(most) = self.most_pages else {
            return Ok(());
        };
        let restore = format!("pragma max_page_count = {most}");
        self.as_host(|connection| connection.query_row(&restore, [], |_| Ok(())))
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
        self.were_limits_set.set(true);
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
    fn is_program_too_long(&self, error: &rusqlite::Error, text: &str) -> bool {
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
    statement: &mut Statement,
    columns: &[String],
    gate: &Gate,
    spent: &mut Spent,
    result: &mut StatementResult,
) -> rusqlite::Result<Cut> {
    spent.bytes += columns.iter().map(|name| name.len() as u64).sum::<u64>();
    let is_within = |meter, total| !gate.has(Layer::Quota) || gate.bound(meter).permits(total);
    if !is_within(Meter::ReturnBytes, spent.bytes) {
        return Ok(Cut::At(Meter::ReturnBytes));
    }
    result.columns = columns.to_vec();
    while statement.step()? {
        spent.rows += 1;
        if !is_within(Meter::ReturnRows, spent.rows) {
            return Ok(Cut::At(Meter::ReturnRows));
        }
        let mut values = Vec::with_capacity(columns.len());
        for index in (0..).take(columns.len()) {
            let value = statement.value(index)?;
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

/// A value, copied.
pub(crate) fn owned(value: ValueRef<'_>) -> SqlValue {
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
        path: path_of(database),
        reason: refusal::sentence(error),
    }
}

fn path_of(database: Option<&Path>) -> PathBuf {
    database.map_or_else(|| PathBuf::from(":memory:"), Path::to_owned)
}
