//! How the SQLite that is linked was compiled, asked of itself.
//!
//! Flags are set in `.cargo/config.toml`, which a program that uses this library from elsewhere does not read; so nobody
//! is believed but the code that runs.

use std::ffi::{CStr, c_int};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

/// Options that SQLite lists.
const OPTIONS: &[&CStr] = &[
    c"OMIT_LOAD_EXTENSION",
    c"OMIT_SHARED_CACHE",
    c"DQS=0",
    c"TEMP_STORE=2",
    c"UNTESTABLE",
];

/// Switches whose default was compiled in.
const DEFAULTS: &[(DbConfig, bool, &str)] = &[
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true, "DEFAULT_DEFENSIVE=1"),
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false, "TRUSTED_SCHEMA=0"),
    (DbConfig::SQLITE_DBCONFIG_DQS_DML, false, "DQS=0"),
];

/// The version of SQLite.
pub(crate) fn version() -> String {
    format!("SQLite {}, hardened", rusqlite::version())
}

/// What of the hardened build is missing, by the names of the flags.
pub(crate) fn missing_from_build() -> Vec<String> {
    let mut missing: Vec<String> = OPTIONS
        .iter()
        .filter(|option| !is_used(option))
        .map(|option| format!("`SQLITE_{}`", option.to_string_lossy()))
        .collect();
    match missing_defaults() {
        Ok(defaults) => missing.extend(defaults),
        Err(error) => missing.push(format!("an answer about its defaults ({error})")),
    }
    missing.sort();
    missing.dedup();
    missing
}

/// Undoes the defaults of a hardened build for one connection: as if SQLite had been compiled by somebody who thought of
/// nothing. For controls.
pub(super) fn forget_defaults(connection: &Connection) -> rusqlite::Result<()> {
    for &(switch, hardened, _) in DEFAULTS {
        connection.set_db_config(switch, !hardened)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    Ok(())
}

fn is_used(option: &CStr) -> bool {
    #[expect(unsafe_code, reason = "rusqlite does not wrap it")]
    // SAFETY: a NUL-terminated name that is only read.
    let answer: c_int = unsafe { ffi::sqlite3_compileoption_used(option.as_ptr()) };
    answer != 0
}

fn missing_defaults() -> rusqlite::Result<Vec<String>> {
    let connection = Connection::open_in_memory()?;
    let mut missing = Vec::new();
    for &(switch, hardened, flag) in DEFAULTS {
        if connection.db_config(switch)? != hardened {
            missing.push(format!("`SQLITE_{flag}`"));
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_nobody_knows_is_not_used() {
        assert!(!is_used(c"OMIT_EVERYTHING"));
        assert!(is_used(c"ENABLE_DBSTAT_VTAB"), "libsqlite3-sys sets it");
    }

    #[test]
    fn forgotten_defaults_are_missing() {
        let connection = Connection::open_in_memory().unwrap();
        forget_defaults(&connection).unwrap();
        for &(switch, hardened, _) in DEFAULTS {
            assert_eq!(connection.db_config(switch).unwrap(), !hardened);
        }
    }
}
