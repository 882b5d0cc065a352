//! The layers around SQLite and wasmtime: what native code in a worker could still do, and what of a guest's database is
//! there when its worker is gone.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::{Signal, kill_process};
use stockade_policies::{Meter, PolicyStore};
use stockade_runtime::worker::{Attempt, Deed, Patience, Pool, PoolOptions};
use stockade_runtime::{
    Ablated, Class, HostDatabase, Layer, Layers, Outcome, Request, Runtime, RuntimeError, WORKER_MEMORY, presence,
};
use tempfile::TempDir;

use crate::support::{
    ENDLESS, ROOMY, assert_completed, assert_stopped, in_workers, integer, last_rows, named, pool, roomy, roomy_with,
    run, sql,
};
use crate::workers::worker_with;

pub fn trials() -> Vec<Trial> {
    named![
        undefended_every_deed_is_done,
        landlock_alone_refuses_files_programs_and_connections,
        seccomp_alone_refuses_them_and_processes,
        signals_are_sent_on_nobodys_behalf,
        memory_ends_where_the_heap_layer_says,
        the_kernel_counts_a_workers_memory_and_processes,
        a_control_group_is_gone_when_its_worker_is,
        nothing_of_the_host_leaks_into_a_worker,
        a_written_database_leaves_nothing_beside_it,
        a_database_with_a_write_ahead_log_is_used_and_left_as_it_was,
        a_worker_killed_in_a_transaction_leaves_the_database_whole,
        guests_write_the_same_database_at_the_same_time,
        the_hosts_own_locks_outlive_a_guest,
        a_granted_file_is_attached_and_its_neighbour_is_not,
        the_porter_alone_keeps_an_attached_file_read_only,
        a_write_ahead_log_that_others_write_is_read_with_the_attached_file,
        a_write_ahead_log_that_was_left_is_read_with_the_attached_file,
        the_next_guest_has_no_door_to_the_last_ones_database,
        a_write_ahead_log_cannot_outgrow_the_database,
        a_caller_is_told_when_no_worker_is_free,
        an_outcome_says_which_layers_were_absent,
    ]
}

const NO_LAYER: Option<Layer> = None;

fn attempted(deed: &Deed, layers: &[Layer]) -> Attempt {
    pool().attempt(deed, layers.iter().copied().collect()).unwrap()
}

#[track_caller]
fn assert_refused(deed: &Deed, layers: &[Layer], by: Option<Layer>) {
    match attempted(deed, layers) {
        Attempt::Refused { layer, .. } => assert_eq!(layer, by, "{deed:?}"),
        other => panic!("{deed:?}: {other:?}"),
    }
}

#[track_caller]
fn assert_killed(deed: &Deed, layers: &[Layer]) {
    assert_eq!(
        attempted(deed, layers),
        Attempt::Killed { layer: Layer::Seccomp },
        "{deed:?}"
    );
}

/// A folder with a secret, and somebody who listens.
struct Target {
    folder: TempDir,
    listener: TcpListener,
}

impl Target {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("secret"), "mine").unwrap();
        Self {
            folder,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    fn read(&self) -> Deed {
        Deed::Read(self.folder.path().join("secret"))
    }

    fn made(&self) -> PathBuf {
        self.folder.path().join("made")
    }

    fn write(&self) -> Deed {
        Deed::Write(self.made())
    }

    fn connect(&self) -> Deed {
        Deed::Connect(self.listener.local_addr().unwrap().port())
    }
}

fn execute() -> Deed {
    Deed::Execute(PathBuf::from("/bin/true"))
}

fn undefended_every_deed_is_done() {
    let target = Target::new();
    for deed in [
        Deed::Read(PathBuf::from("/etc/passwd")),
        target.read(),
        target.write(),
        target.connect(),
        execute(),
        Deed::Fork,
    ] {
        assert_eq!(attempted(&deed, &[]), Attempt::Done, "{deed:?}");
    }
    assert!(target.made().exists());
}

fn landlock_alone_refuses_files_programs_and_connections() {
    let target = Target::new();
    let passwords = Deed::Read(PathBuf::from("/etc/passwd"));
    for deed in [passwords, target.read(), target.write(), target.connect(), execute()] {
        assert_refused(&deed, &[Layer::Landlock], Some(Layer::Landlock));
    }
    assert!(!target.made().exists());
    assert_eq!(attempted(&Deed::Fork, &[Layer::Landlock]), Attempt::Done);
}

fn seccomp_alone_refuses_them_and_processes() {
    let target = Target::new();
    for deed in [target.read(), target.write()] {
        assert_refused(&deed, &[Layer::Seccomp], Some(Layer::Seccomp));
    }
    assert!(!target.made().exists());
    for deed in [target.connect(), execute(), Deed::Fork] {
        assert_killed(&deed, &[Layer::Seccomp]);
    }
}

fn signals_are_sent_on_nobodys_behalf() {
    assert_eq!(attempted(&Deed::SendSignals, &[]), Attempt::Done);
    assert_refused(&Deed::SendSignals, &[Layer::Seccomp], Some(Layer::Seccomp));
}

fn memory_ends_where_the_heap_layer_says() {
    let much = Deed::Allocate(2 << 30);
    assert_eq!(attempted(&much, &[Layer::Seccomp]), Attempt::Done);
    assert_refused(&much, &[Layer::Heap], Some(Layer::Heap));
    assert_eq!(attempted(&Deed::Allocate(1 << 20), &[Layer::Heap]), Attempt::Done);
}

/// What this machine says of the layer `worker`.
fn groups_in_words() -> String {
    let found = presence().into_iter().find(|found| found.layer == Layer::Worker);
    found.unwrap().detail
}

fn the_kernel_counts_a_workers_memory_and_processes() {
    let (too_much, enough) = (Deed::Fill(WORKER_MEMORY * 2), Deed::Fill(WORKER_MEMORY / 2));
    assert_eq!(attempted(&too_much, &[]), Attempt::Done);
    assert_eq!(attempted(&enough, &[Layer::Worker]), Attempt::Done);
    let words = groups_in_words();
    if !words.contains("no cgroup for memory") && !words.contains("no cgroup:") {
        let killed = Attempt::Killed { layer: Layer::Worker };
        assert_eq!(attempted(&too_much, &[Layer::Worker]), killed, "{words}");
    }
    if !words.contains("no cgroup for processes") && !words.contains("no cgroup:") {
        assert_refused(&Deed::Fork, &[Layer::Worker], Some(Layer::Worker));
    }
}

/// The folders of one name in the kernel's tree of control groups.
fn groups_named(name: &str, below: &Path) -> usize {
    let entries = fs::read_dir(below).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|entry| usize::from(entry.file_name() == name) + groups_named(name, &entry.path()))
        .sum()
}

fn a_control_group_is_gone_when_its_worker_is() {
    let tree = Path::new("/sys/fs/cgroup");
    let stage = Stage::set("create table t(x)");
    let runtime = Runtime::in_workers(roomy(&[]), 1).unwrap();
    let name = thread::scope(|scope| {
        scope.spawn(|| stage.run(&runtime, &format!("select * from t; {ENDLESS}")));
        let worker = worker_with(&stage.database);
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", worker.as_raw_nonzero())).unwrap();
        let mut names = groups.lines().filter_map(|line| line.rsplit('/').next());
        let name = names.find(|name| name.starts_with("stockade-")).map(str::to_owned);
        let is_there = name.as_ref().is_some_and(|name| groups_named(name, tree) > 0);
        kill_process(worker, Signal::KILL).unwrap();
        assert_eq!(is_there, groups_in_words().contains("cgroup v"), "{groups}");
        name
    });
    drop(runtime);
    assert_eq!(name.map_or(0, |name| groups_named(&name, tree)), 0);
}

fn nothing_of_the_host_leaks_into_a_worker() {
    // Opened by somebody who did not think of `O_CLOEXEC`.
    let flags = rustix::fs::OFlags::RDONLY;
    let leaked = rustix::fs::open("/etc/passwd", flags, rustix::fs::Mode::empty()).unwrap();
    let pool = Pool::new(1).unwrap();
    for deed in [
        Deed::KeepDescriptors,
        Deed::ReadEnvironment,
        Deed::KeepPrivileges,
        Deed::KeepSettings,
    ] {
        let attempt = pool.attempt(&deed, Layers::NONE).unwrap();
        assert!(
            matches!(attempt, Attempt::Refused { layer: NO_LAYER, .. }),
            "{deed:?}: {attempt:?}"
        );
    }
    assert!(std::env::vars_os().next().is_some(), "there is something to leak");
    drop(leaked);
}

/// A folder with one database in it.
struct Stage {
    folder: TempDir,
    database: PathBuf,
}

impl Stage {
    fn set(script: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let database = folder.path().canonicalize().unwrap().join("stage.db");
        HostDatabase::open(&database).unwrap().execute(script).unwrap();
        Self { folder, database }
    }

    fn run(&self, runtime: &Runtime, script: &str) -> Outcome {
        run(runtime, &sql(script).on_database(&self.database))
    }

    /// What is in the folder, in order.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn assert_reads(&self, query: &str, number: i64) {
        let rows = HostDatabase::open(&self.database).unwrap().rows(query).unwrap();
        assert_eq!(rows, integer(number));
    }
}

fn a_written_database_leaves_nothing_beside_it() {
    for mode in ["delete", "truncate", "persist", "memory"] {
        let stage = Stage::set("create table t(x); insert into t values (1);");
        let script = format!(
            "pragma journal_mode = {mode}; begin; insert into t values (2); commit; \
             begin; delete from t; rollback; select count(*) from t"
        );
        let outcome = stage.run(&in_workers(roomy(&[])), &script);
        assert_completed(&outcome);
        assert_eq!(last_rows(&outcome), integer(2));
        stage.assert_reads("select count(*) from t", 2);
        let kept: &[&str] = match mode {
            // That is what these two mean.
            "truncate" | "persist" => &["stage.db", "stage.db-journal"],
            _ => &["stage.db"],
        };
        assert_eq!(stage.files(), kept, "{mode}");
    }
}

fn a_database_with_a_write_ahead_log_is_used_and_left_as_it_was() {
    let stage = Stage::set("pragma journal_mode = wal; create table t(x); insert into t values (1);");
    assert_eq!(stage.files(), ["stage.db"]);
    let outcome = stage.run(
        &in_workers(roomy(&[])),
        "insert into t values (2); select count(*) from t",
    );
    assert_completed(&outcome);
    assert_eq!(last_rows(&outcome), integer(2));
    assert_eq!(stage.files(), ["stage.db"]);
    // And while the host has it open.
    let host = HostDatabase::open(&stage.database).unwrap();
    host.rows("select * from t").unwrap();
    let before = stage.files();
    assert_completed(&stage.run(&in_workers(roomy(&[])), "insert into t values (3)"));
    assert_eq!(stage.files(), before);
    assert_eq!(host.rows("select count(*) from t").unwrap(), integer(3));
}

fn a_worker_killed_in_a_transaction_leaves_the_database_whole() {
    for mode in ["delete", "wal"] {
        let stage = Stage::set(&format!(
            "pragma journal_mode = {mode}; create table t(x); insert into t values (7);"
        ));
        // More than the cache holds, so that pages of the unfinished transaction are in the files.
        let script = format!(
            "pragma cache_size = 5; begin; \
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) \
             insert into t select randomblob(1000) from n; delete from t where x = 7; {ENDLESS}"
        );
        let runtime = Runtime::in_workers(roomy(&[]), 1).unwrap();
        let outcome = thread::scope(|scope| {
            let guest = scope.spawn(|| stage.run(&runtime, &script));
            let worker = worker_with(&stage.database);
            let is_spilled = || fs::metadata(&stage.database).unwrap().len() > 1 << 20 || stage.wal_bytes() > 1 << 20;
            while !is_spilled() {
                thread::sleep(Duration::from_millis(5));
            }
            kill_process(worker, Signal::KILL).unwrap();
            guest.join().unwrap()
        });
        assert_stopped(&outcome, Class::HostInternal, Layer::Worker);
        // The next guest, in a worker that opens nothing itself, finds what was committed.
        let next = stage.run(&runtime, "select x from t");
        assert_completed(&next);
        assert_eq!(last_rows(&next), integer(7), "{mode}");
        let check = HostDatabase::open(&stage.database).unwrap();
        let words = check.rows("pragma integrity_check").unwrap();
        assert_eq!(format!("{words:?}"), "[[Text(\"ok\")]]");
        drop(check);
        assert_eq!(stage.files(), ["stage.db"], "{mode}");
    }
}

impl Stage {
    fn wal_bytes(&self) -> u64 {
        let wal = self.folder.path().join("stage.db-wal");
        fs::metadata(wal).map_or(0, |file| file.len())
    }
}

/// Journals are made and removed under each other's feet, by workers that can do neither themselves.
fn guests_write_the_same_database_at_the_same_time() {
    let stage = Stage::set("create table t(x)");
    let runtime = Runtime::in_pool(roomy(&[]), Arc::new(Pool::new(2).unwrap()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut written = 0;
                while written < 20 {
                    let request = sql("insert into t values (1)").on_database(&stage.database);
                    match runtime.run(&request) {
                        Ok(outcome) => {
                            assert_completed(&outcome);
                            written += 1;
                        }
                        // What any two writers can meet.
                        Err(RuntimeError::Database { reason, .. }) => assert!(reason.contains("locked"), "{reason}"),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    stage.assert_reads("select count(*) from t", 40);
    assert_eq!(stage.files(), ["stage.db"]);
}

/// POSIX locks are gone when their process closes *any* descriptor of the file: nobody may open it in the host.
fn the_hosts_own_locks_outlive_a_guest() {
    let stage = Stage::set("create table t(x)");
    let host = HostDatabase::open(&stage.database).unwrap();
    host.execute("begin immediate; insert into t values (1)").unwrap();
    let runtime = in_workers(roomy(&[]));
    for _ in 0..2 {
        let request = sql("insert into t values (2)").on_database(&stage.database);
        match runtime.run(&request) {
            Err(RuntimeError::Database { reason, .. }) => assert!(reason.contains("locked"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    host.execute("commit").unwrap();
    stage.assert_reads("select count(*) from t", 1);
}

fn attaching_only(path: &Path) -> PolicyStore {
    let forbid = format!(
        "@id(\"only-this\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"attach\", resource) \
         unless {{ resource == Path::\"{}\" }};",
        path.display()
    );
    roomy_with(&[], &forbid)
}

pub fn patient() -> Patience {
    Patience {
        prepare: Duration::from_secs(20),
        run: Some(Duration::from_secs(20)),
        answer: Duration::ZERO,
        reply_bytes: usize::MAX,
        rss_bytes: None,
    }
}

/// With one layer only.
fn run_with(layer: Layer, policies: PolicyStore, request: &Request) -> Outcome {
    let layers = Layers::from_iter([layer]);
    match in_workers(policies).run_ablated(request, layers, &patient()).unwrap() {
        Ablated::Outcome(outcome) => *outcome,
        Ablated::Ended(ended) => panic!("{ended:?}"),
    }
}

fn a_granted_file_is_attached_and_its_neighbour_is_not() {
    for mode in ["delete", "wal"] {
        let stage = Stage::set("create table t(x)");
        let make = |name: &str| {
            let path = stage.database.with_file_name(name);
            let script = format!("pragma journal_mode = {mode}; create table o(x); insert into o values (5);");
            HostDatabase::open(&path).unwrap().execute(&script).unwrap();
            path
        };
        let (granted, other) = (make("granted.db"), make("other.db"));
        let before = stage.files();
        let script = |path: &Path| format!("attach '{}' as o; select x from o", path.display());
        let outcome = stage.run(&in_workers(attaching_only(&granted)), &script(&granted));
        assert_completed(&outcome);
        assert_eq!(last_rows(&outcome), integer(5));
        for layer in [Layer::Landlock, Layer::Seccomp] {
            let request = |path| sql(script(path)).on_database(&stage.database);
            let outcome = run_with(layer, attaching_only(&granted), &request(&granted));
            assert_completed(&outcome);
            let outcome = run_with(layer, attaching_only(&granted), &request(&other));
            assert_stopped(&outcome, Class::DeniedSqlAction, layer);
        }
        // Who only reads cannot tidy up a write-ahead log: <https://sqlite.org/wal.html#read_only_databases>.
        let left = stage
            .files()
            .into_iter()
            .filter(|name| !name.starts_with("granted.db-"));
        assert_eq!(left.collect::<Vec<_>>(), before, "{mode}");
        if mode == "delete" {
            assert_eq!(stage.files(), before);
        }
    }
}

fn the_porter_alone_keeps_an_attached_file_read_only() {
    let stage = Stage::set("create table t(x)");
    let granted = stage.database.with_file_name("granted.db");
    HostDatabase::open(&granted)
        .unwrap()
        .execute("create table o(x)")
        .unwrap();
    let script = format!("attach '{}' as o; insert into o values (1)", granted.display());
    let request = sql(script).on_database(&stage.database);
    let outcome = run_with(Layer::Landlock, attaching_only(&granted), &request);
    assert_eq!(outcome.class, Class::SqlError, "{}", outcome.detail);
    let rows = HostDatabase::open(&granted)
        .unwrap()
        .rows("select count(*) from o")
        .unwrap();
    assert_eq!(rows, integer(0));
}

fn attached_count(stage: &Stage, lent: &Path) -> Outcome {
    let script = format!("attach '{}' as o; select count(*) from o.o", lent.display());
    stage.run(&in_workers(attaching_only(lent)), &script)
}

/// And what is written while the file was attached before, in the same worker.
fn a_write_ahead_log_that_others_write_is_read_with_the_attached_file() {
    let stage = Stage::set("create table t(x)");
    let lent = stage.database.with_file_name("lent.db");
    let writer = HostDatabase::open(&lent).unwrap();
    writer
        .execute("pragma journal_mode = wal; create table o(x); insert into o values (1);")
        .unwrap();
    for rows in 1..4 {
        let outcome = attached_count(&stage, &lent);
        assert_completed(&outcome);
        assert_eq!(last_rows(&outcome), integer(rows));
        writer.execute("insert into o values (1)").unwrap();
    }
    drop(writer);
    // Who writes tidies up what the guests kept.
    assert_eq!(stage.files(), ["lent.db", "stage.db"]);
}

fn a_write_ahead_log_that_was_left_is_read_with_the_attached_file() {
    for has_index in [true, false] {
        let stage = Stage::set("create table t(x)");
        let (busy, lent) = (
            stage.database.with_file_name("busy.db"),
            stage.database.with_file_name("lent.db"),
        );
        let writer = HostDatabase::open(&busy).unwrap();
        writer
            .execute("pragma journal_mode = wal; create table o(x); insert into o values (1), (2);")
            .unwrap();
        // As a writer that was killed leaves it.
        for ending in if has_index {
            &["", "-wal", "-shm"][..]
        } else {
            &["", "-wal"]
        } {
            fs::copy(
                format!("{}{ending}", busy.display()),
                format!("{}{ending}", lent.display()),
            )
            .unwrap();
        }
        let log = fs::read(format!("{}-wal", lent.display())).unwrap();
        let outcome = attached_count(&stage, &lent);
        assert_completed(&outcome);
        assert_eq!(last_rows(&outcome), integer(2), "{has_index}");
        assert_eq!(fs::read(format!("{}-wal", lent.display())).unwrap(), log);
    }
}

fn the_next_guest_has_no_door_to_the_last_ones_database() {
    let stage = Stage::set("create table t(x); insert into t values (1);");
    let pool = Arc::new(Pool::new(1).unwrap());
    let forbid = format!(
        "@id(\"no-attach\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"attach\", resource);"
    );
    let runtime = Runtime::in_pool(roomy_with(&[], &forbid), pool);
    let layers = Layers::from_iter([Layer::Landlock]);
    let run = |request: &Request| match runtime.run_ablated(request, layers, &patient()).unwrap() {
        Ablated::Outcome(outcome) => *outcome,
        Ablated::Ended(ended) => panic!("{ended:?}"),
    };
    assert_completed(&run(&sql("select x from t").on_database(&stage.database)));
    let attach = format!("attach '{}' as loot; select x from loot.t", stage.database.display());
    assert_stopped(&run(&sql(attach)), Class::DeniedSqlAction, Layer::Landlock);
}

/// Somebody who reads keeps the log from being taken into the database, and the page cap does not count it.
fn a_write_ahead_log_cannot_outgrow_the_database() {
    let stage = Stage::set("pragma journal_mode = wal; create table t(x); insert into t values (0);");
    let reader = HostDatabase::open(&stage.database).unwrap();
    reader.execute("begin; select * from t").unwrap();
    reader.rows("select * from t").unwrap();
    let update = "update t set x = randomblob(200000);";
    let outcome = stage.run(
        &in_workers(roomy(&[(Meter::GrowDatabase, 1 << 20)])),
        &update.repeat(40),
    );
    assert_stopped(&outcome, Class::LimitStorage, Layer::Quota);
    assert!(stage.wal_bytes() <= 3 << 20, "{}", stage.wal_bytes());
    let unbounded = stage.run(&in_workers(roomy(&[])), &update.repeat(40));
    assert_completed(&unbounded);
    assert!(stage.wal_bytes() > 4 << 20, "{}", stage.wal_bytes());
}

fn a_caller_is_told_when_no_worker_is_free() {
    let options = PoolOptions {
        workers: 1,
        wait: Duration::from_millis(300),
        ..PoolOptions::default()
    };
    let runtime = Runtime::in_pool(roomy(&[(Meter::Elapse, 3000)]), Arc::new(Pool::with(options).unwrap()));
    let stage = Stage::set("create table t(x)");
    thread::scope(|scope| {
        let busy = scope.spawn(|| stage.run(&runtime, &format!("select * from t; {ENDLESS}")));
        worker_with(&stage.database);
        match runtime.run(&sql("select 1")) {
            Err(RuntimeError::Exhausted { workers: 1, waited }) => assert_eq!(waited, Duration::from_millis(300)),
            other => panic!("{other:?}"),
        }
        assert_eq!(busy.join().unwrap().class, Class::LimitTime);
    });
    assert_completed(&run(&runtime, &sql("select 1")));
}

fn an_outcome_says_which_layers_were_absent() {
    assert_eq!(run(&in_workers(roomy(&[])), &sql("select 1")).absent, Layers::NONE);
    let absent = run(&Runtime::in_process(roomy(&[])), &sql("select 1")).absent;
    let expected = [Layer::Heap, Layer::Worker, Layer::Landlock, Layer::Seccomp];
    assert_eq!(absent, expected.into_iter().collect());
}
