//! File systems that are full, or may only be read.

use std::fs;

use crate::folder::{Folder, on_a_small_file_system};

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
