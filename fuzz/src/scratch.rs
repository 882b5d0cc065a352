//! Where the targets keep their files: in memory where that can be, because a disk takes milliseconds to be sure.

use std::path::Path;

use tempfile::TempDir;

/// A folder of its own, gone with the value.
#[expect(clippy::expect_used, reason = "without a folder there is nothing to fuzz")]
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary folder")
}
