//! A database as its owner uses it: no plan, no guest.
//!
//! For setting a stage and for looking at it afterwards, from outside what was fenced.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::RuntimeError;
use crate::outcome::{SqlValue, StatementResult};
use crate::sql::{Statement, owned};

/// A database as its owner uses it. Never give it SQL from a stranger.
pub struct HostDatabase {
    connection: Connection,
    path: PathBuf,
}

/// Statements of a [`HostDatabase`]'s owner, compiled once to be run often.
pub struct HostScript<'d> {
    statements: Vec<(Statement, Vec<String>)>,
    database: &'d HostDatabase,
}

impl HostDatabase {
    /// Opens the database at `path`, creating it where there is none.
    ///
    /// # Errors
    /// [`RuntimeError::Database`] when SQLite cannot open it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RuntimeError> {
        let path = path.into();
        let connection = Connection::open(&path).map_err(|error| failed(&path, &error))?;
        Ok(Self { connection, path })
    }

    /// Runs a script.
    ///
    /// # Errors
    /// [`RuntimeError::Database`] with SQLite's words when a statement fails.
    pub fn execute(&self, script: &str) -> Result<(), RuntimeError> {
        self.connection
            .execute_batch(script)
            .map_err(|error| failed(&self.path, &error))
    }

    /// The rows of one query.
    ///
    /// # Errors
    /// [`RuntimeError::Database`] with SQLite's words when the query fails.
    pub fn rows(&self, query: &str) -> Result<Vec<Vec<SqlValue>>, RuntimeError> {
        let mut results = self.compile(query)?.run()?;
        Ok(results.pop().unwrap_or_default().rows)
    }

    /// Compiles every statement of `script`, which must not depend on each other: none has run yet.
    ///
    /// # Errors
    /// [`RuntimeError::Database`] with SQLite's words when one does not compile.
    pub fn compile(&self, script: &str) -> Result<HostScript<'_>, RuntimeError> {
        let statements = self.compile_all(script).map_err(|error| failed(&self.path, &error))?;
        Ok(HostScript {
            statements,
            database: self,
        })
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    fn compile_all(&self, script: &str) -> rusqlite::Result<Vec<(Statement, Vec<String>)>> {
        let mut statements = Vec::new();
        let mut rest = script;
        while !rest.is_empty() {
            #[expect(unsafe_code, reason = "nothing else ties a statement to its connection")]
            // SAFETY: a `HostScript` borrows the database, so it is dropped before its connection is; and neither can be
            // sent to another thread while the other is there, because a `Connection` is not `Sync`.
            let compiled = unsafe { Statement::compile(&self.connection, rest, false) }?;
            if let Some(statement) = compiled.statement {
                let columns = statement.column_names()?;
                statements.push((statement, columns));
            }
            rest = rest.get(compiled.length.max(1)..).unwrap_or_default();
        }
        Ok(statements)
    }
}

impl HostScript<'_> {
    /// Runs every statement to its end. The result of each, as a guest of the same script has it.
    ///
    /// # Errors
    /// [`RuntimeError::Database`] with SQLite's words when one fails.
    pub fn run(&mut self) -> Result<Vec<StatementResult>, RuntimeError> {
        let HostDatabase { connection, path } = self.database;
        let mut results = Vec::with_capacity(1);
        for (statement, columns) in &mut self.statements {
            let result = run_statement(connection, statement, columns);
            statement.reset();
            results.push(result.map_err(|error| failed(path, &error))?);
        }
        Ok(results)
    }
}

fn run_statement(
    connection: &Connection,
    statement: &mut Statement,
    columns: &[String],
) -> rusqlite::Result<StatementResult> {
    let before = connection.total_changes();
    let mut rows = Vec::new();
    while statement.step()? {
        let mut values = Vec::with_capacity(columns.len());
        for index in (0..).take(columns.len()) {
            values.push(owned(statement.value(index)?));
        }
        rows.push(values);
    }
    Ok(StatementResult {
        columns: columns.to_vec(),
        rows,
        changes: connection.total_changes().saturating_sub(before),
    })
}

fn failed(path: &Path, error: &rusqlite::Error) -> RuntimeError {
    RuntimeError::Database {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
