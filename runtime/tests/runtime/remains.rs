//! That nothing of one guest is there for the next, in the same worker process and in the caller's.

use std::sync::Arc;

use libtest_mimic::Trial;
use stockade_runtime::worker::Pool;
use stockade_runtime::{Request, Runtime, WasmValue};

use crate::support::{assert_completed, named, roomy, run, sql, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        no_byte_of_a_guests_memory_is_there_for_the_next_in_a_worker,
        no_byte_of_a_guests_memory_is_there_for_the_next_in_process,
        no_temporary_table_is_there_for_the_next_guest,
    ]
}

/// Pages of each memory: more than a process is likely to have at hand, so that what was given back is given out again.
const PAGES: u32 = 256;

/// A module with two memories, a table and globals, whose `fill` writes to all of them, and whose `run` counts what is not
/// as it was declared: bytes that are not zero, entries that are not null, globals that are not 7.
fn module() -> String {
    let count_memory = |index: u32| {
        format!(
            "(local.set $at (i32.const 0))
             (loop $next
               (if (i64.ne (i64.load {index} (local.get $at)) (i64.const 0))
                 (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
               (local.set $at (i32.add (local.get $at) (i32.const 8)))
               (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))",
            PAGES * 65_536
        )
    };
    format!(
        "(module
           (memory {PAGES}) (memory {PAGES})
           (table $table 1000 funcref)
           (global $global (mut i64) (i64.const 7))
           (func $anything) (elem declare func $anything)
           (func $fill (export \"fill\")
             (memory.fill 0 (i32.const 0) (i32.const 0xa5) (i32.const {bytes}))
             (memory.fill 1 (i32.const 0) (i32.const 0x5a) (i32.const {bytes}))
             (table.fill $table (i32.const 0) (ref.func $anything) (i32.const 1000))
             (global.set $global (i64.const -1)))
           (func $count (export \"run\") (result i32) (local $at i32) (local $found i32)
             {first} {second}
             (local.set $at (i32.const 0))
             (loop $next
               (if (i32.eqz (ref.is_null (table.get $table (local.get $at))))
                 (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               (br_if $next (i32.lt_u (local.get $at) (i32.const 1000))))
             (if (i64.ne (global.get $global) (i64.const 7))
               (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
             (local.get $found))
           (func (export \"fill_and_count\") (result i32) (call $fill) (call $count)))",
        bytes = PAGES * 65_536,
        first = count_memory(0),
        second = count_memory(1),
    )
}

fn calling(export: &str) -> Request {
    let mut request = wasm(module());
    request.invoke = Some(export.to_owned());
    request
}

/// One worker, so that every guest has the same.
fn one_worker() -> Runtime {
    Runtime::in_pool(roomy(&[]), Arc::new(Pool::new(1).expect("a worker starts")))
}

fn no_byte_of_a_guests_memory_is_there_for_the_next_in_a_worker() {
    nothing_is_left(&one_worker());
}

fn no_byte_of_a_guests_memory_is_there_for_the_next_in_process() {
    nothing_is_left(&Runtime::in_process(roomy(&[])));
}

fn nothing_is_left(runtime: &Runtime) {
    let count = |export: &str| {
        let outcome = run(runtime, &calling(export));
        assert_completed(&outcome);
        outcome.product.results
    };
    // The count sees what is there.
    let everything = PAGES * 65_536 / 8 * 2 + 1000 + 1;
    assert_eq!(count("fill_and_count"), [WasmValue::I32(everything.cast_signed())]);
    for _ in 0..3 {
        assert_eq!(count("fill"), []);
        assert_eq!(count("run"), [WasmValue::I32(0)]);
    }
}

fn no_temporary_table_is_there_for_the_next_guest() {
    let runtime = one_worker();
    assert_completed(&run(
        &runtime,
        &sql("create temp table secret(x); create table other(x); select count(*) from secret"),
    ));
    let outcome = run(
        &runtime,
        &sql("select count(*) from sqlite_temp_master union all select count(*) from sqlite_master"),
    );
    assert_completed(&outcome);
    assert_eq!(
        crate::support::last_rows(&outcome),
        [
            [stockade_runtime::SqlValue::Integer(0)],
            [stockade_runtime::SqlValue::Integer(0)]
        ]
    );
}
