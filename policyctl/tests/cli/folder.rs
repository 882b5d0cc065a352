//! The program under test, in a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder that commands run in, and their temporary files go to.
pub struct Folder(TempDir);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `policyctl` with these arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_policyctl"));
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a shell script in a folder that has a file system of its own, `small/`, with 256 KiB. `policyctl` is `$0`.
pub fn on_a_small_file_system(folder: &Folder, script: &str) -> Ran {
    fs::create_dir_all(folder.path("small")).unwrap();
    with_mounts(folder, &format!("mount -t tmpfs -o size=256k none small && {script}"))
}

/// Runs a shell script that may mount what it likes, in a mount namespace that is gone with it. `policyctl` is `$0`.
pub fn with_mounts(folder: &Folder, script: &str) -> Ran {
    #[expect(
        clippy::disallowed_methods,
        reason = "a namespace of mounts is had by starting a program in one"
    )]
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_policyctl"))
        .current_dir(folder.path("."))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("`unshare` of util-linux");
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(
        !ran.stderr.contains("unshare:") && !ran.stderr.contains("mount:"),
        "this test needs user namespaces (`sysctl kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns`): {ran:?}"
    );
    ran
}
