//! What was asked about the schema before a statement runs, and whether that still holds.

use std::ffi::CString;

use rusqlite::{Connection, ffi};

use super::{Session, Stop, path_of};
use crate::error::RuntimeError;
use crate::layer::Layer;
use crate::outcome::Refusal;
use crate::sql::indexes;
use crate::sql::refusal::Phase;
use crate::sql::statement::Statement;
use crate::sql::unreported::{self, Replacing, Told, Unreported};

/// A schema that was asked about.
#[derive(Debug)]
pub(super) struct Asked {
    schema: CString,
    /// `SQLITE_FCNTL_DATA_VERSION` of its file: while it stays, so does the cookie.
    version: u32,
    /// "The schema-version … is incremented by SQLite whenever the schema changes":
    /// <https://sqlite.org/pragma.html#pragma_schema_version>
    cookie: i64,
}

impl Session {
    /// Asks about what SQLite will not report, where that was not asked about in the schema as it is.
    pub(super) fn ask_where_needed(&self, unreported: Option<&Unreported>, is_asked: &mut bool) -> Result<(), Stop> {
        let is_known = self.asked.borrow().is_some() && (*is_asked || unreported.is_none());
        if is_known && unreported.is_none() {
            self.hooks.expect_replacing(Replacing::default());
        }
        if is_known || !self.gate.has(Layer::Authorizer) {
            return Ok(());
        }
        self.hooks.write_allowed();
        let looked = self.as_host(|connection| in_one_read(connection, || self.look(connection, unreported)));
        // Where the schema does not read, neither will the guest's own statement.
        let (schemas, refusal) = looked.map_err(|error| self.stop(&error, Phase::Prepare))?;
        if let Some(refusal) = refusal {
            self.gate.refuse(refusal.clone());
            return Err(Stop::Refused(refusal));
        }
        *self.asked.borrow_mut() = Some(schemas);
        *is_asked = true;
        Ok(())
    }

    /// Asks about the schema, on a connection that has no limits yet, what is asked of most guests. Where it does not read, it is
    /// asked again when a guest comes, who is then told why.
    pub(super) fn ask_early(&self) {
        if let Ok((schemas, None)) = self.hooks.unjudged(|| self.look(&self.connection, None)) {
            *self.asked.borrow_mut() = Some(schemas);
        }
    }

    /// Asks about what SQLite will not report, in the schemas as they are now: these, and why the guest must not go on, if so.
    fn look(
        &self,
        connection: &Connection,
        unreported: Option<&Unreported>,
    ) -> rusqlite::Result<(Vec<Asked>, Option<Refusal>)> {
        self.hooks.expect_told(Told::of(connection, &self.gate)?);
        let (replacing, refusal) = match unreported {
            Some(found) => (found.replacing(connection)?, found.refusal(connection, &self.gate)?),
            None => (Replacing::default(), None),
        };
        self.hooks.expect_replacing(replacing);
        Ok((self.seen(connection)?, refusal))
    }

    /// Asks about what an explanation tells, where the statement is one.
    pub(super) fn ask_about_explanation(&self, statement: &Statement) -> Result<(), Stop> {
        let refusal = statement
            .is_explain()
            .then(|| self.hooks.explanation_refusal())
            .flatten();
        refusal.map_or(Ok(()), |refusal| Err(Stop::Refused(refusal)))
    }

    /// Asks about the order in which rows will be read, where an index could tell of what may not be.
    pub(super) fn ask_about_order(&self, statement: &Statement, text: &str) -> Result<(), Stop> {
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
    pub(super) fn forget_schema(&self) {
        *self.asked.borrow_mut() = None;
        self.kept.borrow_mut().clear();
    }

    /// Whether SQLite still knows the schemas that were asked about. It may have read others while it compiled: where it
    /// does not find a name, it looks whether somebody else has made it meanwhile.
    pub(super) fn is_as_asked(&self) -> bool {
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
    pub(super) fn is_the_same(&self, asked: &mut Asked) -> bool {
        if self.version(&asked.schema) == Some(asked.version) {
            return true;
        }
        let is_same = self.cookie(&asked.schema) == Some(asked.cookie);
        asked.version = self.version(&asked.schema).unwrap_or(asked.version);
        is_same
    }

    /// A write of the guest's own moves the version too. Nobody else's can have come between: a statement about rows found the
    /// schema that it was compiled in, under the lock that it wrote under, and what commits has held its lock all along.
    pub(super) fn notice_own_write(&self) {
        for asked in self.asked.borrow_mut().iter_mut().flatten() {
            if let Some(version) = self.version(&asked.schema) {
                asked.version = version;
            }
        }
    }

    /// Every schema but `temp`, which nobody else sees.
    fn seen(&self, connection: &Connection) -> rusqlite::Result<Vec<Asked>> {
        let schemas = unreported::schemas(connection)?.into_iter();
        let seen_by_others = schemas.filter(|name| !name.eq_ignore_ascii_case("temp"));
        seen_by_others
            .map(|name| {
                let cookie = cookie(connection, &name)?;
                let schema = CString::new(name)?;
                let version = self.version(&schema).ok_or(rusqlite::Error::InvalidQuery)?;
                Ok(Asked {
                    schema,
                    version,
                    cookie,
                })
            })
            .collect()
    }

    fn cookie(&self, schema: &CString) -> Option<i64> {
        let schema = schema.to_str().ok()?;
        self.as_host(|connection| cookie(connection, schema)).ok()
    }

    /// "The `SQLITE_FCNTL_DATA_VERSION` opcode is used to detect changes to a database file": it is read from memory, and
    /// moves when SQLite notices that the file has changed.
    pub(super) fn version(&self, schema: &CString) -> Option<u32> {
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

    pub(super) fn changes_too_fast(&self) -> Stop {
        Stop::Unknown(RuntimeError::Database {
            path: path_of(self.database.as_deref()),
            reason: "others change it faster than it can be asked about".to_owned(),
        })
    }
}

fn cookie(connection: &Connection, schema: &str) -> rusqlite::Result<i64> {
    let query = format!("pragma {}.schema_version", unreported::quoted(schema));
    connection.query_row(&query, [], |row| row.get(0))
}

/// Has `look` see one state of every database: others may change a schema between two questions. It is locked once besides, and
/// not for each. A transaction of the guest's own does the same.
fn in_one_read<T>(connection: &Connection, look: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    if !connection.is_autocommit() {
        return look();
    }
    let reading = connection.unchecked_transaction()?;
    let seen = look()?;
    reading.commit()?;
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_changes_a_schema_while_it_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stage.db");
        let (looking, other) = (Connection::open(&path).unwrap(), Connection::open(&path).unwrap());
        other.execute_batch("create table t(x)").unwrap();
        other.busy_timeout(std::time::Duration::ZERO).unwrap();
        let change = || other.execute_batch("create table u(x)");
        let changed = in_one_read(&looking, || {
            cookie(&looking, "main")?;
            Ok(change())
        });
        assert!(changed.unwrap().is_err(), "others wait");
        assert!(looking.is_autocommit());
        change().unwrap();
    }
}
