//! File systems that are full, or may only be read.
//!
//! Each is mounted in a mount namespace of the test's own, which is gone with it.

use std::fs;
use std::process::{Command, Stdio};

use crate::folder::{Folder, Ran};

/// Runs a shell script in a folder that has a file system of its own, `small/`, with 256 KiB. `policyctl` is `$0`.
fn on_a_small_file_system(folder: &Folder, script: &str) -> Ran {
    fs::create_dir_all(folder.path("small")).unwrap();
    let script = format!("mount -t tmpfs -o size=256k none small && {script}");
    #[expect(
        clippy::disallowed_methods,
        reason = "a namespace of mounts is had by starting a program in one"
    )]
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
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

#[test]
fn a_full_disk_is_no_verdict_on_the_guest_and_loses_nothing() {
    let folder = Folder::new();
    fs::write(
        folder.path("fill.sql"),
        "create table t(x); insert into t values ('first');
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
         insert into t select hex(zeroblob(1000)) from n;",
    )
    .unwrap();
    fs::write(folder.path("look.sql"), "select x from t").unwrap();
    let ran = on_a_small_file_system(
        &folder,
        "touch small/a.db
         $0 run --profile trusted --db small/a.db fill.sql; echo \"exit code $?\"
         $0 run --profile trusted --db small/a.db look.sql",
    );
    assert_eq!(ran.stdout, "exit code 2\nx\nfirst\n", "{ran:?}");
    assert!(ran.stderr.contains("database or disk is full"), "{ran:?}");
}

#[test]
fn a_file_system_that_may_only_be_read_is_read() {
    let folder = Folder::new();
    fs::write(folder.path("make.sql"), "create table t(x); insert into t values (1)").unwrap();
    fs::write(folder.path("look.sql"), "select x from t").unwrap();
    fs::write(folder.path("write.sql"), "insert into t values (2)").unwrap();
    let ran = on_a_small_file_system(
        &folder,
        "touch small/a.db && $0 run --profile trusted --db small/a.db make.sql && mount -o remount,bind,ro none small
         $0 run --profile trusted --db small/a.db look.sql
         $0 run --profile trusted --db small/a.db write.sql; echo \"exit code $?\"",
    );
    assert_eq!(ran.stdout, "x\n1\nexit code 1\n", "{ran:?}");
    assert!(ran.stderr.contains("sql.error after"), "{ran:?}");
    assert!(ran.stderr.contains("readonly database"), "{ran:?}");
}
