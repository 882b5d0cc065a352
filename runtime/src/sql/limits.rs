//! How a database is opened, and what `sqlite3_limit` and `sqlite3_db_config` are set to.

use std::ffi::c_int;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, ffi};
use stockade_policies::{Bound, Meter};

use super::build;
use crate::gate::Gate;

/// Each meter that `sqlite3_limit` enforces.
const LIMITS: &[(Meter, Limit)] = &[
    (Meter::SqlLength, Limit::SQLITE_LIMIT_LENGTH),
    (Meter::SqlSqlLength, Limit::SQLITE_LIMIT_SQL_LENGTH),
    (Meter::SqlColumn, Limit::SQLITE_LIMIT_COLUMN),
    (Meter::SqlExprDepth, Limit::SQLITE_LIMIT_EXPR_DEPTH),
    (Meter::SqlCompoundSelect, Limit::SQLITE_LIMIT_COMPOUND_SELECT),
    (Meter::SqlVdbeOp, Limit::SQLITE_LIMIT_VDBE_OP),
    (Meter::SqlFunctionArg, Limit::SQLITE_LIMIT_FUNCTION_ARG),
    (Meter::SqlAttached, Limit::SQLITE_LIMIT_ATTACHED),
    (Meter::SqlLikePatternLength, Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH),
    (Meter::SqlVariableNumber, Limit::SQLITE_LIMIT_VARIABLE_NUMBER),
    (Meter::SqlTriggerDepth, Limit::SQLITE_LIMIT_TRIGGER_DEPTH),
    (Meter::SqlWorkerThreads, Limit::SQLITE_LIMIT_WORKER_THREADS),
    (Meter::SqlParserDepth, Limit::SQLITE_LIMIT_PARSER_DEPTH),
    (Meter::SqlSchema, Limit::SQLITE_LIMIT_SCHEMA),
    (Meter::SqlTriggerSteps, Limit::SQLITE_LIMIT_TRIGGER_STEPS),
];

/// Switches that SQLite's own advice on hostile SQL and hostile files names: <https://sqlite.org/security.html>.
const SWITCHES: &[(DbConfig, bool)] = &[
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
    (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
];

/// Opens an existing file, or an empty database in memory, with no URI names and without creating anything.
pub(super) fn open_hardened(database: Option<&Path>) -> rusqlite::Result<Connection> {
    // "The database filename is not allowed to contain a symbolic link", nor is that of one attached later: what a policy
    // granted is a path, not what somebody lets it point at.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = match database {
        Some(path) => Connection::open_with_flags(path, flags)?,
        None => Connection::open_in_memory_with_flags(flags | OpenFlags::SQLITE_OPEN_CREATE)?,
    };
    for &(switch, on) in SWITCHES {
        connection.set_db_config(switch, on)?;
    }
    switch_extension_loading(&connection, false)?;
    // Where temporary files go belongs to the process: the guest before may have moved them.
    connection.execute_batch("pragma cell_size_check = on; pragma mmap_size = 0; pragma temp_store_directory = '';")?;
    Ok(connection)
}

/// Opens as a program does that thought of nothing: the control.
pub(super) fn open_undefended(database: Option<&Path>) -> rusqlite::Result<Connection> {
    let connection = match database {
        Some(path) => Connection::open(path)?,
        None => Connection::open_in_memory()?,
    };
    switch_extension_loading(&connection, true)?;
    build::forget_defaults(&connection)?;
    Ok(connection)
}

/// Sets every `sqlite3_limit` to the plan's bound.
pub(super) fn lower(connection: &Connection, gate: &Gate) -> rusqlite::Result<()> {
    for &(meter, limit) in LIMITS {
        connection.set_limit(limit, as_limit(meter, gate.bound(meter)))?;
    }
    Ok(())
}

/// Lifts every `sqlite3_limit` to what SQLite was compiled for: the host's own statements are not the guest's.
pub(super) fn lift(connection: &Connection) -> rusqlite::Result<()> {
    for &(_, limit) in LIMITS {
        connection.set_limit(limit, c_int::MAX)?;
    }
    Ok(())
}

/// The first limit that reads differently from what the plan set, if any does.
pub(super) fn raised(connection: &Connection, gate: &Gate) -> Option<Meter> {
    LIMITS.iter().find_map(|&(meter, limit)| {
        let most = as_limit(meter, gate.bound(meter));
        let now = connection.limit(limit).unwrap_or(c_int::MAX);
        (now > most).then_some(meter)
    })
}

/// Sets the heap limit, which is the process's and not a connection's: "If N is zero then no heap limit is imposed"
/// (<https://sqlite.org/c3ref/hard_heap_limit64.html>), so zero clears it. The soft limit belongs to the process as well,
/// and is never above the hard one; what the guest before left of it is cleared.
pub(crate) fn set_heap(most: u64) {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    #[expect(unsafe_code, reason = "rusqlite does not wrap it")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        ffi::sqlite3_soft_heap_limit64(0);
        ffi::sqlite3_hard_heap_limit64(most);
    }
}

/// SQLite takes a C int, "silently truncated" to what it was compiled for, which is only ever tighter.
fn as_limit(meter: Meter, bound: Bound) -> c_int {
    // SQLite counts its own schema table among the objects of a schema.
    let own = c_int::from(meter == Meter::SqlSchema);
    match bound {
        Bound::Limited(most) => c_int::try_from(most).unwrap_or(c_int::MAX).saturating_add(own),
        Bound::Unbounded => c_int::MAX,
    }
}

/// Switches both the C interface and the SQL function `load_extension()`.
#[cfg(sqlite_loads_extensions)]
fn switch_extension_loading(connection: &Connection, on: bool) -> rusqlite::Result<()> {
    #[expect(
        unsafe_code,
        reason = "rusqlite can switch this off only with the feature that can switch it on"
    )]
    // SAFETY: the handle is open for the duration of the call.
    let code = unsafe { ffi::sqlite3_enable_load_extension(connection.handle(), c_int::from(on)) };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// There is nothing to switch where SQLite was compiled without.
#[cfg(not(sqlite_loads_extensions))]
#[expect(clippy::unnecessary_wraps, reason = "the other build can fail")]
fn switch_extension_loading(_: &Connection, _: bool) -> rusqlite::Result<()> {
    Ok(())
}
