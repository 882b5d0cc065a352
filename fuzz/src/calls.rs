//! Sequences of host calls with any arguments: a module that does what its input says.

use std::sync::{Arc, OnceLock};

use stockade_runtime::{ModuleCache, Request, Runtime};
use tempfile::TempDir;

use crate::guests::{POLICIES, keeps_the_laws_on, new_runtime};

/// Reads records of five numbers: which function, and its arguments. The input is at 65536, and grows nothing.
const PUPPET: &str = r#"(module
  (import "stockade" "log" (func $log (param i32 i32) (result i32)))
  (import "stockade" "clock_now_ms" (func $now (result i64)))
  (import "stockade" "random_fill" (func $random (param i32 i32) (result i32)))
  (import "stockade" "db_query" (func $query (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "db_execute" (func $execute (param i32 i32) (result i64)))
  (memory (export "memory") 3)
  (data (i32.const 16) "select 6 * 7; create table t(x); insert into t values (zeroblob(1000)); select * from t")
  (global $next (mut i32) (i32.const 4096))
  (global (export "input_ptr") i32 (i32.const 65536))
  (global (export "input_bytes_cap") i32 (i32.const 65536))
  (func (export "__wasm_allocate") (param i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 0))))
  (func (export "run") (param $length i32) (result i32) (local $at i32) (local $which i32)
    (loop $again
      (if (i32.le_u (i32.add (local.get $at) (i32.const 20)) (local.get $length))
        (then
          (local.set $which (i32.rem_u (i32.load offset=65536 (local.get $at)) (i32.const 6)))
          (if (i32.eq (local.get $which) (i32.const 0)) (then (drop (call $log (call $argument (local.get $at) (i32.const 1)) (call $argument (local.get $at) (i32.const 2))))))
          (if (i32.eq (local.get $which) (i32.const 1)) (then (drop (call $now))))
          (if (i32.eq (local.get $which) (i32.const 2)) (then (drop (call $random (call $argument (local.get $at) (i32.const 1)) (call $argument (local.get $at) (i32.const 2))))))
          (if (i32.eq (local.get $which) (i32.const 3)) (then (drop (call $query (call $argument (local.get $at) (i32.const 1)) (call $argument (local.get $at) (i32.const 2)) (call $argument (local.get $at) (i32.const 3)) (call $argument (local.get $at) (i32.const 4))))))
          (if (i32.eq (local.get $which) (i32.const 4)) (then (drop (call $execute (call $argument (local.get $at) (i32.const 1)) (call $argument (local.get $at) (i32.const 2))))))
          (if (i32.eq (local.get $which) (i32.const 5)) (then (global.set $next (call $argument (local.get $at) (i32.const 1)))))
          (local.set $at (i32.add (local.get $at) (i32.const 20)))
          (br $again))))
    (i32.const 0))
  (func $argument (param $at i32) (param $number i32) (result i32)
    (i32.load offset=65536 (i32.add (local.get $at) (i32.mul (local.get $number) (i32.const 4))))))"#;

/// Has a module make the host calls that the bytes say.
pub fn calls(data: &[u8]) {
    let mut request = Request::wasm("trusted", PUPPET);
    request.input = data.get(..data.len().min(4000)).unwrap_or_default().to_vec();
    keeps_the_laws_on(runtime(), &request);
}

/// It compiles the module once.
#[expect(
    clippy::expect_used,
    reason = "without a cache every input would take as long as a compiler does"
)]
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<(Runtime, TempDir)> = OnceLock::new();
    let (runtime, _) = RUNTIME.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = ModuleCache::open(folder.path(), 1 << 24).expect("a module cache");
        (new_runtime(POLICIES).with_module_cache(Arc::new(cache)), folder)
    });
    runtime
}
