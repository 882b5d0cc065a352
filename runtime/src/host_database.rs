//! A database as its owner uses it: no plan, no guest.
//!
//! For setting a stage and for looking at it afterwards, from outside what was fenced.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::error::RuntimeError;
use crate::outcome::SqlValue;

/// A database as its owner uses it. Never give it SQL from a stranger.
pub struct HostDatabase {
    connection: Connection,
    path: PathBuf,
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
        self.read_rows(query).map_err(|error| failed(&self.path, &error))
    }

    fn read_rows(&self, query: &str) -> rusqlite::Result<Vec<Vec<SqlValue>>> {
        let mut statement = self.connection.prepare(query)?;
        let width = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..width)
                .map(|index| row.get::<_, Value>(index).map(sql_value))
                .collect()
        })?;
        rows.collect()
    }
}

fn sql_value(value: Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Integer(number) => SqlValue::Integer(number),
        Value::Real(number) => SqlValue::Real(number),
        Value::Text(text) => SqlValue::Text(text),
        Value::Blob(bytes) => SqlValue::Blob(bytes),
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> RuntimeError {
    RuntimeError::Database {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
