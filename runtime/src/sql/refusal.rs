//! Reads the cause out of SQLite's answer.
//!
//! SQLite reports most of its limits as `SQLITE_ERROR` with a sentence. The sentences are those of the bundled version,
//! matched from their start, and a guest cannot forge one: `RAISE()` reports `SQLITE_CONSTRAINT`.

use rusqlite::{Error, ffi};

use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// The part of a statement's life in which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Prepare,
    Step,
}

/// How sentences of `SQLITE_ERROR` begin that mean a limit or a switch.
const SENTENCES: &[(&str, Class)] = &[
    ("too many attached databases", Class::LimitSqlAttached),
    ("Expression tree is too large", Class::LimitSqlExpr),
    ("VIEWs and/or subqueries nested too deep", Class::LimitSqlExpr),
    ("too many FROM clause terms", Class::LimitSqlExpr),
    ("Recursion limit", Class::LimitSqlParser),
    ("too many terms in compound SELECT", Class::LimitSqlCompound),
    ("too many columns", Class::LimitSqlColumns),
    ("too many terms in ORDER BY", Class::LimitSqlColumns),
    ("too many terms in GROUP BY", Class::LimitSqlColumns),
    ("too many arguments on function", Class::LimitSqlArguments),
    ("variable number must be between", Class::LimitSqlVariables),
    ("too many SQL variables", Class::LimitSqlVariables),
    ("LIKE or GLOB pattern too complex", Class::LimitSqlPattern),
    ("too many levels of trigger recursion", Class::LimitSqlTrigger),
    ("triggers nested too deep", Class::LimitSqlTrigger),
    ("too many references to", Class::LimitSqlExpr),
    ("too many schema objects", Class::LimitSqlSchema),
    // What a schema may not use that is not trusted: <https://sqlite.org/pragma.html#pragma_trusted_schema>.
    ("unsafe use of virtual table", Class::DeniedSqlAction),
    ("unsafe use of", Class::DeniedFunction),
    // What `load_extension()` says where extension loading is switched off. The authorizer's own words come by the gate.
    ("not authorized", Class::DeniedFunction),
];

/// Why SQLite stopped, or `None` where the fault is neither the guest's nor a limit's: a corrupt or busy file.
pub(super) fn read(error: &Error, phase: Phase) -> Option<Refusal> {
    let Some(code) = code(error) else {
        return Some(Refusal::own_failure(own_class(phase), error.to_string()));
    };
    let sentence = sentence(error);
    let by = |layer, class| Some(Refusal::by(layer, class, sentence.clone()));
    match code & 0xff {
        ffi::SQLITE_INTERRUPT => by(Layer::Deadline, Class::LimitTime),
        ffi::SQLITE_NOMEM => by(Layer::Heap, Class::LimitMemory),
        ffi::SQLITE_FULL => by(Layer::Quota, Class::LimitStorage),
        ffi::SQLITE_AUTH => by(Layer::Authorizer, Class::DeniedSqlAction),
        ffi::SQLITE_TOOBIG if sentence == "statement too long" => by(Layer::Limits, Class::LimitSqlLength),
        ffi::SQLITE_TOOBIG => by(Layer::Limits, Class::LimitSqlValue),
        ffi::SQLITE_CANTOPEN if code == ffi::SQLITE_CANTOPEN_SYMLINK => by(Layer::Limits, Class::DeniedSqlAction),
        ffi::SQLITE_BUSY
        | ffi::SQLITE_LOCKED
        | ffi::SQLITE_CORRUPT
        | ffi::SQLITE_NOTADB
        | ffi::SQLITE_IOERR
        | ffi::SQLITE_PROTOCOL => None,
        // `SQLITE_ABORT` is how a schema that grew too large ends the statement that grew it.
        ffi::SQLITE_ERROR if sentence.eq_ignore_ascii_case("no such function: load_extension") => {
            by(Layer::Build, Class::DeniedFunction)
        }
        ffi::SQLITE_ERROR | ffi::SQLITE_ABORT => {
            Some(limit(&sentence).unwrap_or_else(|| Refusal::own_failure(own_class(phase), sentence.clone())))
        }
        _ => Some(Refusal::own_failure(Class::SqlError, sentence)),
    }
}

/// SQLite's extended result code, where the error is SQLite's.
pub(super) fn code(error: &Error) -> Option<i32> {
    match error {
        Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. } => Some(error.extended_code),
        _ => None,
    }
}

/// What SQLite calls the error, without the statement's own text.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) | Error::SqlInputError { msg: message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// Whether the dynamic loader could not open a library, in its own words. The reason is of no use: SQLite tries a second
/// name, which is that of no file.
pub(super) fn is_from_loader(sentence: &str) -> bool {
    sentence.contains(": cannot open shared object file: ") && !sentence.starts_with("no such ")
}

/// What is said of an error. SQLite quotes values in some, and `RAISE` says what the guest likes: what is handed back by
/// saying it is bounded like everything else.
pub(super) fn shown(mut detail: String) -> String {
    const LONGEST: usize = 400;
    if let Some((cut, _)) = detail.char_indices().nth(LONGEST) {
        detail.truncate(cut);
        detail.push('…');
    }
    detail
}

fn limit(sentence: &str) -> Option<Refusal> {
    class_of(sentence).map(|class| Refusal::by(Layer::Limits, class, sentence))
}

fn class_of(sentence: &str) -> Option<Class> {
    if sentence.starts_with("more than ") && sentence.ends_with(" aggregate terms") {
        return Some(Class::LimitSqlColumns);
    }
    // Two sentences have a name in them, the first one of the guest's choosing.
    if sentence.starts_with("trigger \"") && sentence.ends_with("\" contains too many steps") {
        return Some(Class::LimitSqlTrigger);
    }
    if sentence.starts_with("table sqlite_") && sentence.ends_with(" may not be modified") {
        return Some(Class::DeniedSqlAction);
    }
    SENTENCES
        .iter()
        .find(|(start, _)| sentence.starts_with(start))
        .map(|&(_, class)| class)
}

fn own_class(phase: Phase) -> Class {
    match phase {
        Phase::Prepare => Class::SqlSyntax,
        Phase::Step => Class::SqlError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_short_whatever_the_guest_says() {
        assert_eq!(shown("no such table: x".to_owned()), "no such table: x");
        let long = shown("é".repeat(1_000_000));
        assert_eq!(long.chars().count(), 401);
        assert!(long.ends_with("é…"));
    }
}
