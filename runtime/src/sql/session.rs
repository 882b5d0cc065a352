//! One connection inside one plan, and the scripts that run on it.

mod asked;
mod cause;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use stockade_policies::{Bound, Meter};

use self::asked::Asked;
use super::glance::Glanced;
use super::hooks::{Does, Hooks};
use super::kept::{Kept, Known, Part, Script};
use super::limits;
use super::refusal::{self, Phase};
use super::rows::{Spent, step};
use super::statement::{Compiled, Statement};
use super::tokens::Words;
use super::unreported::{self, Unreported};
use super::{authorizer, files, functions};
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal, StatementResult};
use crate::trail::Trail;

/// How long to wait for a lock that somebody else holds on the database: SQLite looks at no deadline meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The most pages that a database can have: <https://sqlite.org/limits.html#max_page_count>.
const MOST_PAGES: i64 = 4_294_967_294;

/// How often a statement is compiled again because others change the schema meanwhile.
const MOST_TRIES: u32 = 8;

/// The only SQL that changes a limit.
static PRAGMA: Words = Words::new(&["pragma"]);

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
    cap: Option<Cap>,
    spent: RefCell<Spent>,
    /// The schemas that were asked about, as they were then; `None` where they may be others now.
    asked: RefCell<Option<Vec<Asked>>>,
    /// Whether limits were lifted and lowered since they were last read.
    were_limits_set: Cell<bool>,
    /// Whether the script that ran last was a kept one, ran to its end, and had nothing compiled on the way.
    has_run_kept: Cell<bool>,
    /// Whether a guest was refused for another limit of pages, which is in force.
    has_other_cap: Cell<bool>,
}

/// The pragma that keeps the database from growing, which a plan may let a guest set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cap {
    pragma: &'static str,
    value: i64,
}

impl Cap {
    /// Where not even one page may be stored.
    const READ_ONLY: Self = Self {
        pragma: "query_only",
        value: 1,
    };
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
        files::take_for_resolved(database);
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
            cap: None,
            spent: RefCell::default(),
            asked: RefCell::default(),
            were_limits_set: Cell::new(false),
            has_run_kept: Cell::new(false),
            has_other_cap: Cell::new(false),
        };
        session.connection.busy_timeout(LONGEST_WAIT).map_err(unusable)?;
        session.fence().map_err(unusable)?;
        Ok(session)
    }

    /// Starts another guest of the same plan on the same connection, with a deadline, trail and quotas of its own. Tells why it
    /// must not run if its time is up already.
    pub(crate) fn admit(&self, deadline: Deadline) -> Result<Option<Refusal>, RuntimeError> {
        if self.has_other_cap.get() {
            self.restore_cap()
                .map_err(|error| unusable(self.database.as_deref(), &error))?;
            self.has_other_cap.set(false);
        }
        files::take_refusal();
        if self.gate.admit_another() {
            // What was allowed is known by lines that are gone.
            self.kept.borrow_mut().clear();
            self.hooks.forget();
        }
        self.hooks.next_guest(deadline);
        self.deadline.set(deadline);
        *self.spent.borrow_mut() = Spent::default();
        Ok(self.time_is_up())
    }

    /// Whether this script has just run and is kept: the same plan had nothing to say against its text.
    pub(crate) fn has_just_run(&self, script: &str) -> bool {
        self.kept.borrow().was_last(script)
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
        self.limit_heap()?;
        let reading = self.connection.unchecked_transaction()?;
        // Reads the header: a file that is no database is the caller's mistake, not the guest's.
        reading.query_row("pragma schema_version", [], |_| Ok(()))?;
        let cap = self.limit_pages()?;
        if self.gate.has(Layer::Deadline) {
            self.hooks.watch_the_clock(&self.connection);
        }
        if self.gate.has(Layer::Authorizer) {
            // While the file is locked for reading anyway.
            self.ask_early();
        }
        // Where memory or the disk failed it, SQLite has ended the transaction itself: the guest will meet the same.
        if !self.connection.is_autocommit() {
            reading.commit()?;
        }
        self.cap = cap;
        if self.gate.has(Layer::Limits) {
            limits::lower(&self.connection, &self.gate)?;
        }
        functions::bound(&self.connection, &self.gate, &self.hooks)?;
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

    fn limit_pages(&self) -> rusqlite::Result<Option<Cap>> {
        let Bound::Limited(most) = self.gate.bound(Meter::GrowDatabase) else {
            return Ok(None);
        };
        if !self.gate.has(Layer::Quota) {
            return Ok(None);
        }
        let page_size: i64 = self.connection.query_row("pragma page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(most).unwrap_or(i64::MAX) / page_size.max(512);
        if pages == 0 {
            // `max_page_count = 0` would ask for the current value: nothing at all may be stored.
            self.connection.execute_batch("pragma query_only = on")?;
            return Ok(Some(Cap::READ_ONLY));
        }
        // SQLite never sets the cap below the pages that are already there.
        let in_force = self.connection.query_row(
            &format!("pragma max_page_count = {}", pages.min(MOST_PAGES)),
            [],
            |row| row.get(0),
        )?;
        Ok(Some(Cap {
            pragma: "max_page_count",
            value: in_force,
        }))
    }

    /// Runs every statement of `script`, and adds their results to `results`.
    #[cfg(feature = "wasm")]
    pub(crate) fn run(&self, script: &Glanced<'_>, results: &mut Vec<StatementResult>) -> Result<Cut, Stop> {
        let ended = self.run_before_trail(script, results);
        self.write_allowed();
        ended
    }

    /// Writes to the trail what was allowed of the last statement.
    pub(crate) fn write_allowed(&self) {
        self.hooks.write_allowed();
    }

    /// The trail, with what was allowed of the last statement. A kept script that ran to its end without a question leaves the
    /// trail that it left before.
    pub(crate) fn trail(&self) -> Trail {
        if !self.has_run_kept.get() || !self.gate.is_untouched() {
            return self.hooks.trail();
        }
        let mut kept = self.kept.borrow_mut();
        match kept.last() {
            Some(script) => script.trail.get_or_insert_with(|| self.hooks.trail()).clone(),
            None => self.hooks.trail(),
        }
    }

    /// The same, for who asks for the trail here, or has what was allowed of the last statement written to it.
    pub(crate) fn run_before_trail(
        &self,
        script: &Glanced<'_>,
        results: &mut Vec<StatementResult>,
    ) -> Result<Cut, Stop> {
        self.has_run_kept.set(false);
        let known = self.kept.borrow_mut().take(script.text());
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
    fn run_kept(
        &self,
        mut kept: Box<Script>,
        script: &Glanced<'_>,
        results: &mut Vec<StatementResult>,
    ) -> Result<Cut, Stop> {
        let mut cut = Cut::No;
        for part in &mut kept.parts {
            self.hooks.resume(part.does, &part.allowed);
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
        let resumed = kept.parts.iter().map(|part| part.allowed.len()).sum();
        self.has_run_kept
            .set(cut == Cut::No && self.hooks.has_only_resumed(resumed));
        self.kept.borrow_mut().put_back(kept);
        Ok(cut)
    }

    /// Runs a script from where it is not compiled yet.
    fn run_text(
        &self,
        glanced: &Glanced<'_>,
        start: usize,
        is_to_keep: bool,
        results: &mut Vec<StatementResult>,
    ) -> Result<Cut, Stop> {
        let (script, is_plain) = (glanced.text(), glanced.is_plain());
        let has_pragma = !is_plain && PRAGMA.are_in(script);
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
        // SQLite takes its time to find that there is nothing to compile.
        let end = script.trim_ascii_end().len();
        while text.start < end {
            self.ask_where_needed(text.unreported.as_ref(), &mut is_asked)?;
            let Compiled { statement, length } = self.compile(&text)?;
            let Some(mut statement) = statement else {
                text.start += length.max(1);
                continue;
            };
            let ended = if self.is_as_asked() {
                self.ask_about_explanation(&statement)?;
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
                allowed: self.hooks.allowed(),
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

    /// The next statement of a script.
    fn compile(&self, text: &Text<'_>) -> Result<Compiled, Stop> {
        let rest = text.script.get(text.start..).unwrap_or_default();
        self.hooks.next_statement();
        loop {
            self.hooks.begin_compiling();
            let compiled = self.compile_once(rest, text.parts.is_some());
            let error = match compiled {
                Ok(compiled) => return Ok(compiled),
                Err(error) => error,
            };
            // The decisions stand in the trail, whatever becomes of the statement.
            self.hooks.write_allowed();
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
        if let Some(cap) = self.cap.filter(|_| has_pragma)
            && self.in_force(cap.pragma) != Some(cap.value)
        {
            self.has_other_cap.set(true);
            let detail = format!("the guest changed `{}`", cap.pragma);
            return Err(self.refused(Layer::Quota, Class::LimitStorage, detail));
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
    fn restore_cap(&self) -> rusqlite::Result<()> {
        let Some(Cap { pragma, value }) = self.cap else {
            return Ok(());
        };
        self.as_host(|connection| connection.execute_batch(&format!("pragma {pragma} = {value}")))
    }

    fn in_force(&self, pragma: &str) -> Option<i64> {
        self.as_host(|connection| connection.query_row(&format!("pragma {pragma}"), [], |row| row.get(0)))
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
