//! Clears up after a harness that was killed.
//!
//! A temporary folder that its owner removes is left behind when the owner is killed. So another process, in a process
//! group of its own, holds the reading end of a pipe: when the owner is gone, however it went, the pipe closes.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::{env, fs};

/// First argument of a process that is a janitor. The second is the folder.
const JANITOR_ARGUMENT: &str = "__stockade-janitor";

/// A folder that is gone when this process is.
pub(crate) struct Swept {
    folder: PathBuf,
    // Closed by the kernel when this process ends: that is the signal.
    _pipe: ChildStdin,
}

impl Swept {
    /// Makes an empty folder, and starts its janitor.
    pub(crate) fn make() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("stockade-").tempdir()?;
        #[expect(clippy::disallowed_methods, reason = "the one place where a janitor is started")]
        let mut janitor = Command::new("/proc/self/exe")
            .arg(JANITOR_ARGUMENT)
            .arg(folder.path())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = janitor
            .stdin
            .take()
            .ok_or_else(|| io::Error::other("the janitor has no pipe"))?;
        Ok(Self {
            // From here on the janitor removes it.
            folder: folder.keep(),
            _pipe: pipe,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whether a process with this command line is a janitor.
pub(crate) fn is_called(command_line: &[u8]) -> bool {
    let mut arguments = command_line.split(|byte| *byte == 0);
    arguments.nth(1) == Some(JANITOR_ARGUMENT.as_bytes())
}

/// Makes this process a janitor if it was started as one; returns at once if not.
pub(crate) fn enter() {
    let arguments: Vec<OsString> = env::args_os().skip(1).take(2).collect();
    let [role, folder] = arguments.as_slice() else {
        return;
    };
    if role != JANITOR_ARGUMENT {
        return;
    }
    // Whatever is read, or fails to be: the other end is gone.
    io::stdin().read_to_end(&mut Vec::new()).unwrap_or_default();
    let code = match fs::remove_dir_all(folder) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a janitor must never go on into the program's own `main`"
    )]
    std::process::exit(code);
}
