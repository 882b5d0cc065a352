//! Compiled modules that are kept: what a module may do is the same with and without, and nothing is loaded but what the
//! cache wrote.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use stockade_policies::{Meter, PolicyStore};
use stockade_runtime::worker::{Pool, PoolOptions};
use stockade_runtime::{
    CacheUse, Class, Layer, ModuleCache, ModuleCacheCounts, Outcome, Runtime, RuntimeError, WasmValue,
};
use tempfile::TempDir;

use crate::support::{assert_completed, assert_stopped, named, roomy, roomy_with, run, sql, wasm};
use crate::wasm_pairs;

pub fn trials() -> Vec<Trial> {
    named![
        a_module_is_compiled_once_and_then_loaded,
        a_worker_that_had_a_guest_compiles_nothing_that_is_kept,
        every_bound_of_a_module_holds_when_it_is_loaded,
        what_is_loaded_does_what_was_compiled,
        a_loaded_module_is_stopped_at_its_deadline,
        a_plan_that_grants_less_refuses_what_another_compiled,
        another_configuration_has_code_of_its_own,
        only_modules_are_asked_for_and_only_when_they_are_not_refused_before,
        what_is_refused_is_not_kept,
        a_file_with_any_byte_changed_is_not_loaded,
        a_file_that_is_cut_short_or_too_long_is_not_loaded,
        what_is_no_file_is_not_loaded,
        a_file_of_another_module_or_another_folder_is_not_loaded,
        what_writers_left_behind_is_taken_away_when_it_is_old,
        where_there_is_no_room_what_was_used_longest_ago_goes,
        many_at_once_share_a_folder,
        a_folder_that_is_gone_fails_no_guest,
        a_folder_that_others_may_write_to_is_refused,
        a_key_that_others_may_read_or_that_is_none_is_refused,
        what_is_kept_is_for_its_owner_alone,
    ]
}

const ROOM: u64 = 64 << 20;

/// Answers 42, and has some of everything that a module may have.
const ANSWER: &str = "(module
    (type $t (func (result i32)))
    (memory (export \"memory\") 1) (data (i32.const 16) \"answer\")
    (table funcref (elem $six)) (global $g (mut i32) (i32.const 0))
    (func $start (global.set $g (i32.const 7))) (start $start)
    (func $six (result i32) (i32.const 6))
    (func (export \"run\") (result i32) (local i32)
      (local.set 0 (i32.const 10))
      (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (i32.mul (global.get $g) (call_indirect (type $t) (i32.const 0)))))";

/// [`roomy`] with nothing narrowed, read once.
fn ample() -> PolicyStore {
    static AMPLE: OnceLock<PolicyStore> = OnceLock::new();
    AMPLE.get_or_init(|| roomy(&[])).clone()
}

fn cache(folder: &Path) -> Arc<ModuleCache> {
    Arc::new(ModuleCache::open(folder, ROOM).expect("the folder is fit"))
}

/// A runtime in this process, with a cache as if it were opened by a new process.
fn anew(policies: PolicyStore, folder: &Path) -> (Runtime, Arc<ModuleCache>) {
    let cache = cache(folder);
    (
        Runtime::in_process(policies).with_module_cache(Arc::clone(&cache)),
        cache,
    )
}

fn counts(hits: u64, misses: u64, rejected: u64) -> ModuleCacheCounts {
    ModuleCacheCounts { hits, misses, rejected }
}

#[track_caller]
fn assert_answers(outcome: &Outcome, cached: CacheUse) {
    assert_completed(outcome);
    assert_eq!(outcome.product.results, [WasmValue::I32(42)]);
    assert_eq!(outcome.module_cache, Some(cached));
}

/// The files of modules.
fn modules(folder: &Path) -> Vec<PathBuf> {
    let mut modules: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "module"))
        .collect();
    modules.sort();
    modules
}

/// A folder with one module in it, [`ANSWER`], and its file.
fn filled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    assert_answers(&run(&anew(ample(), folder.path()).0, &wasm(ANSWER)), CacheUse::Miss);
    let files = modules(folder.path());
    assert_eq!(files.len(), 1);
    (folder, files[0].clone())
}

fn pool(workers: usize) -> Arc<Pool> {
    let options = PoolOptions {
        workers,
        spare: 0,
        ..PoolOptions::default()
    };
    Arc::new(Pool::with(options).expect("workers start"))
}

fn a_module_is_compiled_once_and_then_loaded() {
    let pool = pool(1);
    let in_workers = |policies| Runtime::in_pool(policies, Arc::clone(&pool));
    for (name, runtime) in [
        ("in workers", &in_workers as &dyn Fn(PolicyStore) -> Runtime),
        ("in process", &Runtime::in_process),
    ] {
        let folder = TempDir::new().unwrap();
        let first = cache(folder.path());
        let with = |cache: &Arc<ModuleCache>| runtime(ample()).with_module_cache(Arc::clone(cache));
        let one = with(&first);
        assert_answers(&run(&one, &wasm(ANSWER)), CacheUse::Miss);
        for _ in 0..3 {
            assert_answers(&run(&one, &wasm(ANSWER)), CacheUse::Hit);
        }
        // Another runtime that has the same cache, and another cache in the same folder: as in another process.
        assert_answers(&run(&with(&first), &wasm(ANSWER)), CacheUse::Hit);
        assert_eq!(first.counts(), counts(4, 1, 0), "{name}");
        let second = cache(folder.path());
        assert_answers(&run(&with(&second), &wasm(ANSWER)), CacheUse::Hit);
        assert_eq!(second.counts(), counts(1, 0, 0), "{name}");
        assert_eq!((first.trouble(), second.trouble()), (None, None));
        // The same module in other bytes is another.
        let binary = wat::parse_str(ANSWER).unwrap();
        assert_answers(&run(&with(&second), &wasm(binary.clone())), CacheUse::Miss);
        assert_answers(&run(&with(&second), &wasm(binary)), CacheUse::Hit);
        assert_eq!(run(&runtime(ample()), &wasm(ANSWER)).module_cache, None, "{name}");
    }
}

/// There is one worker, and it had a guest: were that to compile, nothing of it would be taken, and the guest would be lost.
fn a_worker_that_had_a_guest_compiles_nothing_that_is_kept() {
    let pool = pool(1);
    let folder = TempDir::new().unwrap();
    let cached = Runtime::in_pool(ample(), Arc::clone(&pool)).with_module_cache(cache(folder.path()));
    for guest in 0..3 {
        assert_completed(&run(&Runtime::in_pool(ample(), Arc::clone(&pool)), &wasm("(module)")));
        let module = format!("{ANSWER} ;; {guest}");
        assert_answers(&run(&cached, &wasm(module.clone())), CacheUse::Miss);
        assert_answers(&run(&cached, &wasm(module)), CacheUse::Hit);
    }
    assert_eq!(modules(folder.path()).len(), 3);
}

/// Each pair of guests on both sides of a bound, compiled where that is generous and loaded where it is not.
fn every_bound_of_a_module_holds_when_it_is_loaded() {
    let without: &[(Meter, &str)] = &[
        (Meter::Compile, "what is loaded is not compiled"),
        (
            Meter::Elapse,
            "it has its own: a_loaded_module_is_stopped_at_its_deadline",
        ),
    ];
    let mut loaded = 0;
    for pair in wasm_pairs::pairs() {
        if without.iter().any(|&(meter, _)| meter == pair.meter) {
            continue;
        }
        let folder = TempDir::new().unwrap();
        let (generous, _) = anew(ample(), folder.path());
        let (narrow, _) = anew(roomy(&[(pair.meter, pair.most)]), folder.path());
        for guest in [&pair.at, &pair.past] {
            assert_completed(&run(&generous, guest));
            assert_eq!(run(&generous, guest).module_cache, Some(CacheUse::Hit), "{}", pair.name);
        }
        for _ in 0..2 {
            let (at, past) = (run(&narrow, &pair.at), run(&narrow, &pair.past));
            assert_completed(&at);
            assert_stopped(&past, pair.class, pair.layer);
            loaded += u32::from(past.module_cache == Some(CacheUse::Hit));
        }
    }
    // Not where `screen` refuses, and the first time not where fuel is counted.
    assert!(loaded > 50, "{loaded}");
}

/// Everything but the time that it took.
fn lasting(mut outcome: Outcome) -> Outcome {
    outcome.wall_us = 0;
    outcome.peak_rss_bytes = 0;
    outcome.module_cache = None;
    outcome
}

fn what_is_loaded_does_what_was_compiled() {
    let mut too_long = wasm("(module (func (export \"run\") (param i32)))");
    too_long.arguments = vec!["7".to_owned()];
    let mut echo = wasm(
        "(module (memory (export \"memory\") 1)
           (func (export \"input_ptr\") (result i32) (i32.const 0))
           (func (export \"input_utf8_cap\") (result i32) (i32.const 100))
           (func (export \"output_ptr\") (result i32) (i32.const 0))
           (func (export \"output_utf8_cap\") (result i32) (i32.const 100))
           (func (export \"run\") (param i32) (result i32) (local.get 0)))",
    );
    echo.input = b"echo".to_vec();
    let text = [
        ANSWER,
        "(module)",
        "(module (func (export \"run\") unreachable))",
        "(module (func $start unreachable) (start $start))",
        "(module (func $run (export \"run\") (call $run)))",
        "(module (memory (export \"memory\") 1) (func (export \"run\") (drop (i32.load (i32.const 65536)))))",
        "(module (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
           (memory (export \"memory\") 1) (data (i32.const 0) \"hello\")
           (func (export \"run\") (drop (call $log (i32.const 0) (i32.const 5)))))",
        "(module (import \"stockade\" \"no_such\" (func)))",
        "(module (memory 100000))",
        "(module (func (export \"_start\")))",
        // Names that are taken already, and one more memory than can be had: stopped by epochs.
        "(module (memory (export \"stockade#watchdog\") 1) (func $s) (start $s) (func (export \"stockade#start\")))",
        &format!(
            "(module {} (func $start) (start $start) (func (export \"run\") (result i32) (i32.const 3)))",
            "(memory 0)".repeat(100)
        ),
        "(module (func (export \"run\") (drop (i32.atomic.load (i32.const 0)))))",
        "no module",
    ];
    let requests = text.into_iter().map(wasm).chain([too_long, echo]);
    let pool = pool(1);
    let folder = TempDir::new().unwrap();
    let cache = cache(folder.path());
    for plain in [
        Runtime::in_process(ample()),
        Runtime::in_pool(ample(), Arc::clone(&pool)),
    ] {
        let cached = if plain.run(&wasm("(module)")).unwrap().absent.iter().next().is_some() {
            Runtime::in_process(ample())
        } else {
            Runtime::in_pool(ample(), Arc::clone(&pool))
        };
        let cached = cached.with_module_cache(Arc::clone(&cache));
        for request in requests.clone() {
            let said = String::from_utf8_lossy(request.guest.bytes()).into_owned();
            let expected = plain.run(&request).map(lasting).map_err(|error| error.to_string());
            for _ in 0..3 {
                let outcome = cached.run(&request).map(lasting).map_err(|error| error.to_string());
                assert_eq!(outcome, expected, "{said}");
            }
        }
    }
    let ModuleCacheCounts { hits, rejected, .. } = cache.counts();
    assert!(hits > 60 && rejected == 0, "{:?}", cache.counts());
}

fn a_loaded_module_is_stopped_at_its_deadline() {
    let endless = wasm("(module (func (export \"run\") (loop $again (br $again))))");
    // More than an engine for pages can have.
    let by_epochs = wasm(format!(
        "(module {} (func (export \"run\") (loop $again (br $again))))",
        "(memory 0)".repeat(100)
    ));
    let folder = TempDir::new().unwrap();
    let (runtime, _) = anew(roomy(&[(Meter::Elapse, 100)]), folder.path());
    for guest in [endless, by_epochs] {
        for cached in [CacheUse::Miss, CacheUse::Hit, CacheUse::Hit] {
            let outcome = run(&runtime, &guest);
            assert_stopped(&outcome, Class::LimitTime, Layer::Deadline);
            assert_eq!(outcome.module_cache, Some(cached));
        }
    }
}

fn a_plan_that_grants_less_refuses_what_another_compiled() {
    let clock = wasm(
        "(module (import \"stockade\" \"clock_now_ms\" (func $now (result i64)))
           (func (export \"run\") (drop (call $now))))",
    );
    let folder = TempDir::new().unwrap();
    assert_completed(&run(&anew(ample(), folder.path()).0, &clock));
    let forbid = "@id(\"no-clock\") forbid (principal, action == Action::\"readClock\", resource);";
    let outcome = run(&anew(roomy_with(&[], forbid), folder.path()).0, &clock);
    assert_stopped(&outcome, Class::DeniedImport, Layer::Imports);
    assert_eq!(outcome.module_cache, Some(CacheUse::Hit));
    // A signature is looked at first, and nothing else then.
    let signed = clock.signed(vec![0; 64]);
    let outcome = run(&anew(ample(), folder.path()).0, &signed);
    assert_stopped(&outcome, Class::DeniedProvenance, Layer::Provenance);
    assert_eq!(outcome.module_cache, None);
}

/// What counts fuel is other code. The stack's bound is none of the code's, and is the plan's own each time.
fn another_configuration_has_code_of_its_own() {
    let recursion = wasm(
        "(module (func $down (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
               (else (i32.const 0))))
           (func (export \"run\") (result i32) (call $down (i32.const 1000))))",
    );
    let folder = TempDir::new().unwrap();
    let ran = |narrowed: &[(Meter, u64)]| run(&anew(roomy(narrowed), folder.path()).0, &recursion);
    for (narrowed, stopped, cached) in [
        (&[][..], None, CacheUse::Miss),
        (&[(Meter::BurnFuel, 1_000_000)], None, CacheUse::Miss),
        (&[(Meter::BurnFuel, 1_000_000)], None, CacheUse::Hit),
        (
            &[(Meter::BurnFuel, 1000)],
            Some((Class::LimitFuel, Layer::Fuel)),
            CacheUse::Hit,
        ),
        (
            &[(Meter::GrowStack, 4096)],
            Some((Class::LimitStack, Layer::Stack)),
            CacheUse::Hit,
        ),
        (&[(Meter::GrowStack, 1 << 20)], None, CacheUse::Hit),
        (&[], None, CacheUse::Hit),
    ] {
        let outcome = ran(narrowed);
        assert_eq!(outcome.module_cache, Some(cached), "{narrowed:?}");
        match stopped {
            Some((class, layer)) => assert_stopped(&outcome, class, layer),
            None => assert_eq!(outcome.product.results, [WasmValue::I32(1000)], "{narrowed:?}"),
        }
    }
    assert_eq!(modules(folder.path()).len(), 2);
}

fn only_modules_are_asked_for_and_only_when_they_are_not_refused_before() {
    let folder = TempDir::new().unwrap();
    let (runtime, cache) = anew(roomy(&[(Meter::LoadGuest, 8)]), folder.path());
    assert_eq!(run(&runtime, &sql("select 1")).module_cache, None);
    let outcome = run(&runtime, &wasm(ANSWER));
    assert_stopped(&outcome, Class::GuestTooLarge, Layer::Screen);
    assert_eq!(outcome.module_cache, None);
    assert_eq!(cache.counts(), counts(0, 0, 0));
}

fn what_is_refused_is_not_kept() {
    let folder = TempDir::new().unwrap();
    let (runtime, cache) = anew(roomy(&[(Meter::WasmLocal, 2)]), folder.path());
    for guest in ["(module (func (local i32 i32 i32)))", "no module", "(component)"] {
        for _ in 0..2 {
            let outcome = run(&runtime, &wasm(guest));
            assert_eq!(outcome.layer, Some(Layer::Validate), "{}", outcome.detail);
        }
    }
    assert_eq!(modules(folder.path()).len(), 0);
    assert_eq!(cache.counts(), counts(0, 6, 0));
}

/// Puts bytes in the place of a file, and has the module compiled again, once.
#[track_caller]
fn assert_rejected(folder: &Path, file: &Path, bytes: &[u8], what: &str) {
    fs::write(file, bytes).unwrap();
    let (runtime, cache) = anew(ample(), folder);
    let outcome = run(&runtime, &wasm(ANSWER));
    assert_eq!(outcome.module_cache, Some(CacheUse::Miss), "{what}");
    assert_answers(&outcome, CacheUse::Miss);
    assert_eq!(cache.counts(), counts(0, 1, 1), "{what}");
    assert_eq!(cache.trouble(), None, "{what}");
    assert_answers(&run(&anew(ample(), folder).0, &wasm(ANSWER)), CacheUse::Hit);
}

fn a_file_with_any_byte_changed_is_not_loaded() {
    // The mark, what authenticates the rest, the key, and a length.
    const HEAD: usize = 16 + 32 + 32 + 4;
    let (folder, file) = filled();
    let whole = fs::read(&file).unwrap();
    let length = whole[HEAD - 4..HEAD].try_into().unwrap();
    let head = HEAD + u32::from_le_bytes(length) as usize;
    assert!((HEAD + 1..HEAD + 300).contains(&head), "{head}");
    let code = (head..whole.len()).step_by(whole.len() / 50).chain([whole.len() - 1]);
    for place in (0..head).chain(code) {
        let mut changed = whole.clone();
        changed[place] ^= 1 << (place % 8);
        assert_rejected(folder.path(), &file, &changed, &format!("byte {place}"));
    }
    // And unchanged it is loaded.
    fs::write(&file, &whole).unwrap();
    assert_answers(&run(&anew(ample(), folder.path()).0, &wasm(ANSWER)), CacheUse::Hit);
}

fn a_file_that_is_cut_short_or_too_long_is_not_loaded() {
    let (folder, file) = filled();
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, 15, 16, 17, 47, 48, 80, 84, 85, 4096, whole.len() - 1] {
        assert_rejected(folder.path(), &file, &whole[..length], &format!("{length} bytes"));
    }
    assert_rejected(
        folder.path(),
        &file,
        &[whole.as_slice(), &[0]].concat(),
        "one byte more",
    );
    assert_rejected(folder.path(), &file, &vec![0; 17 << 20], "more than is ever kept");
}

fn what_is_no_file_is_not_loaded() {
    let (folder, file) = filled();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let (runtime, cache) = anew(ample(), folder.path());
    assert_answers(&run(&runtime, &wasm(ANSWER)), CacheUse::Miss);
    assert_eq!(cache.counts(), counts(0, 1, 1));
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    // A folder can neither be removed nor replaced: the guest runs, and the host is told.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let (runtime, cache) = anew(ample(), folder.path());
    assert_answers(&run(&runtime, &wasm(ANSWER)), CacheUse::Miss);
    assert!(cache.trouble().is_some());
    assert_answers(&run(&runtime, &wasm(ANSWER)), CacheUse::Hit);
}

fn a_file_of_another_module_or_another_folder_is_not_loaded() {
    let (folder, file) = filled();
    let (other_folder, other_file) = filled();
    assert_eq!(file.file_name(), other_file.file_name(), "both are of one module");
    let foreign = fs::read(&other_file).unwrap();
    assert_rejected(folder.path(), &file, &foreign, "by another key");
    // With the key it came with, it is right.
    fs::copy(other_folder.path().join("key"), folder.path().join("key")).unwrap();
    fs::write(&file, foreign).unwrap();
    assert_answers(&run(&anew(ample(), folder.path()).0, &wasm(ANSWER)), CacheUse::Hit);
    let other = wasm("(module (func (export \"run\") (result i32) (i32.const 7)))");
    assert_completed(&run(&anew(ample(), folder.path()).0, &other));
    let others = modules(folder.path());
    let of_other = others.iter().find(|path| **path != file).unwrap();
    let bytes = fs::read(of_other).unwrap();
    assert_rejected(folder.path(), &file, &bytes, "another module's");
}

/// A writer that is killed leaves an unfinished file, never one under a module's name.
fn what_writers_left_behind_is_taken_away_when_it_is_old() {
    let (folder, file) = filled();
    let whole = fs::read(&file).unwrap();
    let left = |name: &str, age: Duration| {
        let path = folder.path().join(name);
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let made = fs::File::options().write(true).open(&path).unwrap();
        made.set_modified(SystemTime::now() - age).unwrap();
        path
    };
    let old = left("unfinished-0123456789abcdef", Duration::from_hours(2));
    let young = left("unfinished-fedcba9876543210", Duration::from_mins(1));
    let foreign = left("notes.txt", Duration::from_hours(2));
    assert_answers(&run(&anew(ample(), folder.path()).0, &wasm(ANSWER)), CacheUse::Hit);
    assert_eq!([&old, &young, &foreign].map(|path| path.exists()), [false, true, true]);
}

fn where_there_is_no_room_what_was_used_longest_ago_goes() {
    let (folder, file) = filled();
    let size = file.metadata().unwrap().len();
    let module = |number: u32| wasm(format!("{ANSWER} ;; {number}"));
    let used = |path: &Path, age: u64| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    used(&file, 900);
    let room = |modules: u64| {
        let cache = ModuleCache::open(folder.path(), modules * size + size / 2).unwrap();
        Runtime::in_process(ample()).with_module_cache(Arc::new(cache))
    };
    assert_answers(&run(&room(2), &module(1)), CacheUse::Miss);
    let first = modules(folder.path()).into_iter().find(|path| *path != file).unwrap();
    used(&first, 600);
    // Used now, so the other one goes.
    assert_answers(&run(&room(2), &wasm(ANSWER)), CacheUse::Hit);
    assert_answers(&run(&room(2), &module(2)), CacheUse::Miss);
    assert_eq!(
        (file.exists(), first.exists(), modules(folder.path()).len()),
        (true, false, 2)
    );
    // One that is larger than all the room is not kept on disk.
    drop(room(0));
    assert_eq!(modules(folder.path()).len(), 0);
    assert_answers(&run(&room(0), &wasm(ANSWER)), CacheUse::Miss);
    assert_eq!(modules(folder.path()).len(), 0);
}

/// Each as good as a process of its own: nothing but the folder is shared.
fn many_at_once_share_a_folder() {
    const MANY: usize = 8;
    let folder = TempDir::new().unwrap();
    let begin = Barrier::new(MANY);
    thread::scope(|scope| {
        for me in 0..MANY {
            let (begin, folder) = (&begin, folder.path());
            scope.spawn(move || {
                begin.wait();
                let (runtime, cache) = anew(ample(), folder);
                for turn in 0..12 {
                    let module = wasm(format!("{ANSWER} ;; {}", (turn + me) % 4));
                    let outcome = run(&runtime, &module);
                    assert_completed(&outcome);
                    assert_eq!(outcome.product.results, [WasmValue::I32(42)]);
                }
                let ModuleCacheCounts { hits, misses, rejected } = cache.counts();
                assert_eq!((hits + misses, rejected), (12, 0));
                assert!(hits >= 8, "{hits}");
                assert_eq!(cache.trouble(), None);
            });
        }
    });
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 5, "the key and four modules: {names:?}");
}

fn a_folder_that_is_gone_fails_no_guest() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kept");
    let (runtime, cache) = anew(ample(), &path);
    fs::remove_dir_all(&path).unwrap();
    assert_answers(&run(&runtime, &wasm(ANSWER)), CacheUse::Miss);
    assert!(cache.trouble().is_some_and(|trouble| trouble.contains("No such file")));
    // What is in memory is there all the same.
    assert_answers(&run(&runtime, &wasm(ANSWER)), CacheUse::Hit);
}

#[track_caller]
fn assert_refused(folder: &Path, words: &str) {
    match ModuleCache::open(folder, ROOM) {
        Err(error @ RuntimeError::ModuleCache { .. }) => assert!(error.to_string().contains(words), "{error}"),
        other => panic!("{other:?}"),
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn a_folder_that_others_may_write_to_is_refused() {
    let folder = TempDir::new().unwrap();
    for mode in [0o777, 0o720, 0o702, 0o1777] {
        set_mode(folder.path(), mode);
        assert_refused(folder.path(), "chmod go-w");
    }
    for mode in [0o755, 0o700] {
        set_mode(folder.path(), mode);
        drop(cache(folder.path()));
    }
    assert_refused(&folder.path().join("no/such"), "No such file");
    fs::write(folder.path().join("file"), "").unwrap();
    assert_refused(&folder.path().join("file"), "");
}

fn a_key_that_others_may_read_or_that_is_none_is_refused() {
    let (folder, _) = filled();
    let key = folder.path().join("key");
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set_mode(&key, mode);
        assert_refused(folder.path(), "remove the folder");
    }
    set_mode(&key, 0o600);
    drop(cache(folder.path()));
    let bytes = fs::read(&key).unwrap();
    for wrong in [&[][..], &bytes[1..], &[bytes.as_slice(), &[0]].concat()] {
        fs::write(&key, wrong).unwrap();
        assert_refused(folder.path(), "remove the folder");
    }
    // Not even one that is right.
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, &bytes).unwrap();
    set_mode(&elsewhere, 0o600);
    fs::remove_file(&key).unwrap();
    symlink(&elsewhere, &key).unwrap();
    assert_refused(folder.path(), "cannot be read");
}

fn what_is_kept_is_for_its_owner_alone() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("kept");
    let (runtime, _) = anew(ample(), &folder);
    assert_answers(&run(&runtime, &wasm(ANSWER)), CacheUse::Miss);
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("key")), 0o600);
    assert_eq!(mode(&modules(&folder)[0]), 0o600);
}
