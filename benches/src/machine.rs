//! What there is to measure on.

use std::io;
use std::num::NonZero;
use std::thread;

use tempfile::TempDir;

/// How many processors there are.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}

/// A folder in memory, where there is such a place: the disk is not what is measured.
///
/// # Errors
/// Where none can be made.
pub fn fast_folder() -> io::Result<TempDir> {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new())
}
