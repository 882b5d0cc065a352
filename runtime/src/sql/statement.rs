//! A statement, compiled by SQLite's C interface.
//!
//! rusqlite's own borrows its connection, so the two could not be kept side by side; and it does not say which statement
//! SQLite is about to compile again.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;
use std::slice;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ffi};

/// A compiled statement.
pub(crate) struct Statement(NonNull<ffi::sqlite3_stmt>);

#[expect(
    unsafe_code,
    reason = "a pointer of SQLite's is sent with the connection that it belongs to"
)]
// SAFETY: a statement is used by one thread at a time, the one that has its connection: whoever owns one owns the other
// (see `Statement::compile`), and SQLite asks no more of a connection that was opened with `SQLITE_OPEN_NO_MUTEX`.
unsafe impl Send for Statement {}

/// What was found at the beginning of a text.
pub(crate) struct Compiled {
    /// The statement; `None` where there is nothing but white space and comments.
    pub statement: Option<Statement>,
    /// How many bytes of the text it takes.
    pub length: usize,
}

impl Statement {
    /// Compiles the first statement of `text`.
    ///
    /// # Safety
    /// The statement must be dropped before `connection` is, and be used by nobody while another thread uses that.
    #[expect(unsafe_code, reason = "nothing ties a statement to its connection")]
    pub(crate) unsafe fn compile(connection: &Connection, text: &str, is_kept: bool) -> Result<Compiled, Error> {
        let Ok(length) = c_int::try_from(text.len()) else {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None));
        };
        let start: *const c_char = text.as_ptr().cast();
        let mut statement = std::ptr::null_mut();
        let mut tail = std::ptr::null();
        let flags = if is_kept { ffi::SQLITE_PREPARE_PERSISTENT } else { 0 };
        // SAFETY: the handle is open for the duration of the call; `start` is readable for `length` bytes, and SQLite reads
        // no further; the other two pointers are to places of ours.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                start,
                length,
                flags,
                &raw mut statement,
                &raw mut tail,
            )
        };
        if code != ffi::SQLITE_OK {
            // SAFETY: the handle is open.
            return Err(unsafe { last_error(connection.handle(), code) });
        }
        // "If pzTail is not NULL then *pzTail is made to point to the first byte past the end of the first SQL statement".
        let taken = tail.addr().saturating_sub(start.addr());
        Ok(Compiled {
            statement: NonNull::new(statement).map(Self),
            length: if tail.is_null() {
                text.len()
            } else {
                taken.min(text.len())
            },
        })
    }

    /// Where SQLite keeps it.
    pub(super) fn as_ptr(&self) -> *mut ffi::sqlite3_stmt {
        self.0.as_ptr()
    }

    /// Goes on to the next row, if there is one.
    pub(crate) fn step(&mut self) -> Result<bool, Error> {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: the statement is alive until it is dropped, and so is its connection (`Statement::compile`).
        let code = unsafe { ffi::sqlite3_step(self.as_ptr()) };
        match code {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            code => Err(self.error(code)),
        }
    }

    /// Begins again, and lets go of every lock that it holds.
    pub(crate) fn reset(&mut self) {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`. What it returns is the error of the step before.
        unsafe {
            ffi::sqlite3_reset(self.as_ptr());
        }
    }

    /// "True if and only if the prepared statement X makes no direct changes to the content of the database file."
    pub(crate) fn is_read_only(&self) -> bool {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`.
        let answer = unsafe { ffi::sqlite3_stmt_readonly(self.as_ptr()) };
        answer != 0
    }

    /// Whether it only tells how another would be run.
    pub(super) fn is_explain(&self) -> bool {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`.
        let answer = unsafe { ffi::sqlite3_stmt_isexplain(self.as_ptr()) };
        answer != 0
    }

    /// "The approximate number of bytes of heap memory used to store the prepared statement."
    pub(super) fn memory(&self) -> usize {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`.
        let bytes = unsafe { ffi::sqlite3_stmt_status(self.as_ptr(), ffi::SQLITE_STMTSTATUS_MEMUSED, 0) };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// How many columns a row of it has.
    pub(crate) fn width(&self) -> c_int {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`.
        let width = unsafe { ffi::sqlite3_column_count(self.as_ptr()) };
        width
    }

    /// The names of its columns.
    pub(crate) fn column_names(&self) -> Result<Vec<String>, Error> {
        (0..self.width()).map(|index| self.column_name(index)).collect()
    }

    fn column_name(&self, index: c_int) -> Result<String, Error> {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`. The name is NULL, or NUL-terminated and stays until the statement is compiled again.
        let name = unsafe {
            let name = ffi::sqlite3_column_name(self.as_ptr(), index);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        name.ok_or_else(out_of_memory)
    }

    /// The value in a column of the row that it stands at.
    pub(crate) fn value(&self, index: c_int) -> Result<ValueRef<'_>, Error> {
        let statement = self.as_ptr();
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`; SQLite gives NULL for a column that is not there. Text and blobs stay where they are until the
        // next step, which needs `&mut self`. The length is asked for after the pointer, as SQLite wants it.
        let value = unsafe {
            match ffi::sqlite3_column_type(statement, index) {
                ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_column_int64(statement, index)),
                ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_column_double(statement, index)),
                ffi::SQLITE_TEXT => {
                    let start = ffi::sqlite3_column_text(statement, index);
                    ValueRef::Text(bytes(start, ffi::sqlite3_column_bytes(statement, index))?)
                }
                ffi::SQLITE_BLOB => {
                    let start = ffi::sqlite3_column_blob(statement, index).cast();
                    ValueRef::Blob(bytes(start, ffi::sqlite3_column_bytes(statement, index))?)
                }
                _ => ValueRef::Null,
            }
        };
        Ok(value)
    }

    fn error(&self, code: c_int) -> Error {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: as in `step`.
        unsafe {
            last_error(ffi::sqlite3_db_handle(self.as_ptr()), code)
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the C interface")]
        // SAFETY: alive until now, and its connection still is (`Statement::compile`).
        unsafe {
            ffi::sqlite3_finalize(self.as_ptr());
        }
    }
}

/// # Safety
/// `start` is NULL or points to `length` bytes that live as long as the caller says.
#[expect(unsafe_code, reason = "reads what SQLite points to")]
unsafe fn bytes<'a>(start: *const u8, length: c_int) -> Result<&'a [u8], Error> {
    match usize::try_from(length) {
        Ok(0) => Ok(&[]),
        // SAFETY: not NULL, and as long as the caller promises.
        Ok(length) if !start.is_null() => Ok(unsafe { slice::from_raw_parts(start, length) }),
        // "If a memory allocation error occurs … NULL is returned".
        _ => Err(out_of_memory()),
    }
}

/// # Safety
/// The handle is open.
#[expect(unsafe_code, reason = "the C interface")]
unsafe fn last_error(connection: *mut ffi::sqlite3, code: c_int) -> Error {
    // SAFETY: by the caller's promise; the message is NUL-terminated and copied before SQLite is called again.
    let (extended, message) = unsafe {
        (
            ffi::sqlite3_extended_errcode(connection),
            CStr::from_ptr(ffi::sqlite3_errmsg(connection))
                .to_string_lossy()
                .into_owned(),
        )
    };
    // Where the connection knows of no such error, what the call said is all there is.
    let code = if extended & 0xff == code & 0xff { extended } else { code };
    Error::SqliteFailure(ffi::Error::new(code), Some(message))
}

fn out_of_memory() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_NOMEM), None)
}
