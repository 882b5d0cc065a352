//! Worker processes: stopped at the deadline, killed, lost, replaced and shared.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use stockade_policies::Meter;
use stockade_runtime::worker::Pool;
use stockade_runtime::{Class, Event, HostDatabase, Layer, Outcome, Runtime};
use tempfile::TempDir;

use crate::support::{ENDLESS, assert_completed, assert_stopped, integer, last_rows, named, roomy, run, sql, wasm};
use crate::wasm_pairs::slow_to_compile;

pub fn trials() -> Vec<Trial> {
    named![
        a_spinning_script_is_stopped_and_the_next_guest_works,
        a_spinning_module_is_stopped_and_the_next_guest_works,
        one_long_call_is_stopped_from_outside,
        one_long_call_in_a_module_is_stopped_from_outside,
        a_guest_that_never_started_has_no_start_in_its_trail,
        a_module_whose_worker_waits_for_a_processor_is_compiled,
        a_worker_killed_from_outside_is_a_refusal,
        a_worker_that_died_idle_is_replaced,
        many_threads_share_few_workers,
    ]
}

/// One call of one opcode that SQLite does not leave for half a minute.
const BOMB: &str = "select length(trim(replace(hex(zeroblob(249990)),'00','aaaa'), \
                    replace(hex(zeroblob(20700)),'00','bbbb')||'a'))";

fn one_worker(narrowed: &[(Meter, u64)]) -> Runtime {
    Runtime::in_workers(roomy(narrowed), 1).unwrap()
}

fn assert_six_times_seven(runtime: &Runtime) {
    let outcome = run(runtime, &sql("select 6 * 7"));
    assert_completed(&outcome);
    assert_eq!(last_rows(&outcome), integer(42));
}

fn a_spinning_script_is_stopped_and_the_next_guest_works() {
    let runtime = one_worker(&[(Meter::Elapse, 300)]);
    for _ in 0..2 {
        let outcome = run(&runtime, &sql(ENDLESS));
        assert_eq!(outcome.class, Class::LimitTime, "{}", outcome.detail);
        assert!(
            matches!(outcome.layer, Some(Layer::Deadline | Layer::Worker)),
            "{:?}",
            outcome.layer
        );
        assert!(outcome.wall_us >= 250_000, "{}", outcome.wall_us);
        assert!(outcome.wall_us < 10_000_000, "{}", outcome.wall_us);
        assert_six_times_seven(&runtime);
    }
}

fn a_spinning_module_is_stopped_and_the_next_guest_works() {
    let runtime = one_worker(&[(Meter::Elapse, 300)]);
    let spinning = [
        "(module (func (export \"run\") (loop $again (br $again))))",
        "(module (func $spin (loop $again (br $again))) (start $spin))",
    ];
    for module in spinning {
        let outcome = run(&runtime, &wasm(module));
        assert_eq!(outcome.class, Class::LimitTime, "{}", outcome.detail);
        assert!(outcome.wall_us < 10_000_000, "{}", outcome.wall_us);
        assert_six_times_seven(&runtime);
    }
}

fn one_long_call_is_stopped_from_outside() {
    let runtime = one_worker(&[(Meter::Elapse, 500)]);
    let outcome = run(&runtime, &sql(BOMB));
    assert_stopped(&outcome, Class::LimitTime, Layer::Worker);
    assert!(outcome.wall_us < 10_000_000, "{}", outcome.wall_us);
    let next = run(&runtime, &sql("select 6 * 7"));
    assert_completed(&next);
    assert_eq!(last_rows(&next), integer(42));
}

fn one_long_call_in_a_module_is_stopped_from_outside() {
    let runtime = one_worker(&[(Meter::Elapse, 500)]);
    let module = format!(
        "(module (import \"stockade\" \"db_query\" (func $query (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 2)
         (data (i32.const 64) \"{BOMB}\")
         (func (export \"__wasm_allocate\") (param i32) (result i32) (i32.const 65536))
         (func (export \"run\") (drop (call $query (i32.const 64) (i32.const {}) (i32.const 16) (i32.const 20)))))",
        BOMB.len()
    );
    assert_stopped(&run(&runtime, &wasm(module)), Class::LimitTime, Layer::Worker);
    assert_six_times_seven(&runtime);
}

#[track_caller]
fn assert_not_started(outcome: &Outcome) {
    let events = outcome.trail.events();
    assert!(!events.contains(&Event::Started), "{events:?}");
}

fn a_guest_that_never_started_has_no_start_in_its_trail() {
    let runtime = one_worker(&[(Meter::Compile, 1)]);
    let outcome = run(&runtime, &wasm(slow_to_compile()));
    assert_stopped(&outcome, Class::LimitTime, Layer::Worker);
    assert_not_started(&outcome);
}

/// On the clock it takes twice what it may: others have the processor, and it is not refused for them.
fn a_module_whose_worker_waits_for_a_processor_is_compiled() {
    let module = wasm(large());
    let undisturbed = one_worker(&[]);
    assert_six_times_seven(&undisturbed);
    let begun = Instant::now();
    assert_completed(&run(&undisturbed, &module));
    let most = begun.elapsed() * 4;
    let millis = most.as_millis().try_into().unwrap();
    let processor = a_processor();
    let runtime = on_processor(&processor, || one_worker(&[(Meter::Compile, millis)]));
    assert_six_times_seven(&runtime);
    thread::scope(|scope| {
        let crowd = Crowd::on(&processor);
        let begun = Instant::now();
        let outcome = scope.spawn(|| run(&runtime, &module));
        while begun.elapsed() < most * 2 && !outcome.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        drop(crowd);
        assert_completed(&outcome.join().unwrap());
        assert!(begun.elapsed() >= most * 2, "it did not have to wait");
    });
}

/// A module that takes a while to compile, and is as honest as any.
fn large() -> String {
    let work = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 7)))".repeat(100);
    let function = format!("(func (param i32) (result i32) {work} (local.get 0))");
    format!("(module {} (func (export \"run\")))", function.repeat(150))
}

/// One that this process may use.
fn a_processor() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let all = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    all.trim().split(['-', ',']).next().unwrap().to_owned()
}

/// What a thread makes that may use one processor only, and so may whatever that starts.
fn on_processor<T: Send>(processor: &str, make: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        let thread = fs::read_link("/proc/thread-self").unwrap();
        let id = thread.file_name().unwrap().to_str().unwrap().to_owned();
        let status = program("taskset", &["-p", "-c", processor, &id]).wait().unwrap();
        assert!(status.success(), "a thread was not bound to a processor");
        make()
    };
    thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

fn program(name: &str, arguments: &[&str]) -> Child {
    #[expect(clippy::disallowed_methods, reason = "no guest is in it")]
    let mut command = Command::new(name);
    command.args(arguments).stdout(Stdio::null()).spawn().unwrap()
}

/// Programs that want a processor, until this is dropped.
struct Crowd(Vec<Child>);

impl Crowd {
    fn on(processor: &str) -> Self {
        let busy = |_| program("taskset", &["-c", processor, "sh", "-c", "while :; do :; done"]);
        let crowd = Self((0..24).map(busy).collect());
        let has_come = |busy: &Child| {
            let name = fs::read_to_string(format!("/proc/{}/comm", busy.id()));
            name.is_ok_and(|name| name.trim() == "sh")
        };
        while !crowd.0.iter().all(has_come) {
            thread::sleep(Duration::from_millis(5));
        }
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for busy in &mut self.0 {
            busy.kill().unwrap();
            busy.wait().unwrap();
        }
    }
}

/// The workers of this process, busy or idle.
pub fn workers() -> Vec<Pid> {
    let ours = format!("__stockade-worker\0{}", std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains(&ours) {
            found.push(Pid::from_raw(id).unwrap());
        }
    }
    found
}

/// The workers of this process that have `file` open.
pub fn workers_with(file: &Path) -> Vec<Pid> {
    let has_it = |worker: &Pid| {
        let open = fs::read_dir(format!("/proc/{}/fd", worker.as_raw_nonzero()));
        open.is_ok_and(|open| {
            let mut links = open.flatten().filter_map(|link| fs::read_link(link.path()).ok());
            links.any(|target| target == file)
        })
    };
    workers().into_iter().filter(has_it).collect()
}

/// The worker that has `file` open, once there is one.
pub fn worker_with(file: &Path) -> Pid {
    let patience = Instant::now() + Duration::from_secs(20);
    while Instant::now() < patience {
        if let [worker] = workers_with(file).as_slice() {
            return *worker;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("no worker opened the database");
}

pub fn staged(script: &str) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().canonicalize().unwrap().join("stage.db");
    HostDatabase::open(&path)
        .and_then(|database| database.execute(script))
        .unwrap();
    (folder, path)
}

fn a_worker_killed_from_outside_is_a_refusal() {
    let runtime = one_worker(&[]);
    let (_folder, path) = staged("create table t(x); insert into t values (7);");
    let request = sql(format!("select x from t; {ENDLESS}")).on_database(&path);
    let outcome = thread::scope(|scope| {
        let guest = scope.spawn(|| run(&runtime, &request));
        kill_process(worker_with(&path), Signal::KILL).unwrap();
        guest.join().unwrap()
    });
    assert_stopped(&outcome, Class::HostInternal, Layer::Worker);
    assert!(matches!(
        outcome.trail.events().last(),
        Some(Event::Refused {
            class: Class::HostInternal,
            layer: Some(Layer::Worker)
        })
    ));
    let next = run(&runtime, &sql("select x from t").on_database(&path));
    assert_completed(&next);
    assert_eq!(last_rows(&next), integer(7));
}

/// A worker that died while nobody used it costs at most one guest, and that one is not said to have started.
fn a_worker_that_died_idle_is_replaced() {
    let runtime = one_worker(&[]);
    let (_folder, path) = staged("create table t(x);");
    let seconds = ENDLESS.replace("from n)", "from n where i < 20000000)");
    let request = sql(seconds).on_database(&path);
    let worker = thread::scope(|scope| {
        let guest = scope.spawn(|| run(&runtime, &request));
        let worker = worker_with(&path);
        assert_completed(&guest.join().unwrap());
        worker
    });
    kill_process(worker, Signal::KILL).unwrap();
    let next = run(&runtime, &sql("select 6 * 7"));
    if next.class != Class::Completed {
        assert_stopped(&next, Class::HostInternal, Layer::Worker);
        assert_not_started(&next);
    }
    assert_six_times_seven(&runtime);
}

fn many_threads_share_few_workers() {
    let runtime = Runtime::in_pool(roomy(&[]), Arc::new(Pool::new(2).unwrap()));
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..8_i64 {
            let (runtime, failed) = (&runtime, &failed);
            scope.spawn(move || {
                for turn in 0..25_i64 {
                    let number = thread * 1000 + turn;
                    let script = format!(
                        "create table own(x); insert into own values ({number}); \
                         select sum(x) from own, (values (1), (1), (1))"
                    );
                    let outcome = run(runtime, &sql(script));
                    if outcome.class != Class::Completed || last_rows(&outcome) != integer(number * 3) {
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(!failed.into_inner());
}
