//! Modules that run SQL through the host: the same plan, the same clock, and nothing after a denial.

use libtest_mimic::Trial;
use stockade_policies::Meter;
use stockade_runtime::{Class, Event, HostDatabase, Layer, Request, Runtime, WasmValue};
use tempfile::TempDir;

use crate::support::{ENDLESS, assert_completed, assert_stopped, in_workers, named, only_notes, roomy, run, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        a_query_past_the_deadline_is_refused_in_process,
        a_refused_query_ends_the_module,
        a_refused_import_runs_nothing,
        a_query_that_does_not_compile_is_a_code,
        a_query_that_breaks_a_constraint_is_a_code,
        a_module_that_caught_a_failed_query_can_still_be_refused,
        a_query_with_too_many_rows_ends_the_module,
        an_unknown_table_is_no_denial,
        a_guest_that_burned_too_much_reaches_no_host_function,
    ]
}

/// Asks each query in turn, logging a line before each and one at the end, and returns the last code.
fn asking(queries: &[&str]) -> Request {
    let mut data = String::new();
    let mut calls = String::new();
    let mut place = 1024;
    for query in queries {
        data.push_str(&format!("(data (i32.const {place}) \"{query}\")\n"));
        calls.push_str(&format!(
            "(drop (call $log (i32.const 64) (i32.const 3)))
             (local.set 0 (call $query (i32.const {place}) (i32.const {}) (i32.const 16) (i32.const 20)))\n",
            query.len()
        ));
        place += 1024;
    }
    wasm(format!(
        "(module
         (import \"stockade\" \"db_query\" (func $query (param i32 i32 i32 i32) (result i32)))
         (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
         (memory (export \"memory\") 2)
         (data (i32.const 64) \"ask\") (data (i32.const 72) \"end\")
         {data}
         (global $next (mut i32) (i32.const 65536))
         (func (export \"__wasm_allocate\") (param i32) (result i32)
           (global.get $next)
           (global.set $next (i32.add (global.get $next) (local.get 0))))
         (func (export \"run\") (result i32) (local i32)
           {calls}
           (drop (call $log (i32.const 72) (i32.const 3)))
           (local.get 0)))"
    ))
}

fn a_query_past_the_deadline_is_refused_in_process() {
    let runtime = Runtime::in_process(roomy(&[(Meter::Elapse, 300)]));
    let outcome = run(&runtime, &asking(&["select 1", ENDLESS, "select 2"]));
    assert_stopped(&outcome, Class::LimitTime, Layer::Deadline);
    assert_eq!(outcome.product.log, ["ask", "ask"]);
    assert!(outcome.wall_us >= 250_000, "{}", outcome.wall_us);
    assert!(outcome.wall_us < 10_000_000, "{}", outcome.wall_us);
}

fn a_refused_query_ends_the_module() {
    let denied = "select name from sqlite_master";
    for runtime in [in_workers(only_notes(&[])), Runtime::in_process(only_notes(&[]))] {
        let outcome = run(&runtime, &asking(&["select 1", denied, "select 2"]));
        assert_stopped(&outcome, Class::DeniedSqlAction, Layer::Authorizer);
        assert_eq!(outcome.product.log, ["ask", "ask"]);
        assert!(outcome.product.results.is_empty());
        let events = outcome.trail.events();
        assert!(matches!(events.last(), Some(Event::Refused { .. })), "{events:?}");
        let denials = events
            .iter()
            .filter(|event| matches!(event, Event::Decided { allowed: false, .. }));
        assert_eq!(denials.count(), 1, "{events:?}");
    }
}

fn a_refused_import_runs_nothing() {
    let policies = crate::support::roomy_with(
        &[],
        "@id(\"no-log\") forbid (principal, action == Action::\"writeLog\", resource);",
    );
    let outcome = run(&in_workers(policies), &asking(&["select 1"]));
    assert_stopped(&outcome, Class::DeniedImport, Layer::Imports);
    assert!(!outcome.trail.events().contains(&Event::Started));
}

/// The code, and that the module went on to its end.
fn assert_went_on(queries: &[&str], code: i32) {
    for runtime in [in_workers(roomy(&[])), Runtime::in_process(roomy(&[]))] {
        let outcome = run(&runtime, &asking(queries));
        assert_completed(&outcome);
        assert_eq!(outcome.product.results, [WasmValue::I32(code)], "{queries:?}");
        assert_eq!(outcome.product.log.len(), queries.len() + 1);
        assert_eq!(outcome.product.log.last().map(String::as_str), Some("end"));
        let events = outcome.trail.events();
        assert!(
            !events.iter().any(|event| matches!(event, Event::Refused { .. })),
            "{events:?}"
        );
    }
}

fn a_query_that_does_not_compile_is_a_code() {
    assert_went_on(&["selec 1"], -5);
    assert_went_on(&["selec 1", "select 1"], 0);
    assert_went_on(&["select 1", "select no_such_column"], -5);
}

fn a_query_that_breaks_a_constraint_is_a_code() {
    let broken = "create table t(x check (x > 1)); insert into t values (1)";
    assert_went_on(&[broken], -5);
    assert_went_on(&[broken, "select count(*) from t"], 0);
}

fn an_unknown_table_is_no_denial() {
    assert_went_on(&["select * from nowhere", "select 1"], 0);
}

fn a_module_that_caught_a_failed_query_can_still_be_refused() {
    let runtime = in_workers(only_notes(&[]));
    let outcome = run(
        &runtime,
        &asking(&["selec 1", "select name from sqlite_master", "select 2"]),
    );
    assert_stopped(&outcome, Class::DeniedSqlAction, Layer::Authorizer);
    assert_eq!(outcome.product.log, ["ask", "ask"]);
}

fn a_query_with_too_many_rows_ends_the_module() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stage.db");
    HostDatabase::open(&path)
        .and_then(|database| database.execute("create table notes(x); insert into notes values (1), (2), (3);"))
        .unwrap();
    for (most, is_enough) in [(3, true), (2, false)] {
        let runtime = in_workers(roomy(&[(Meter::ReturnRows, most)]));
        let outcome = run(&runtime, &asking(&["select x from notes"]).on_database(&path));
        if is_enough {
            assert_completed(&outcome);
        } else {
            assert_stopped(&outcome, Class::LimitRows, Layer::Quota);
        }
    }
}

fn a_guest_that_burned_too_much_reaches_no_host_function() {
    // The call, two reads, the call of the host: four. Fuel is looked at when the call begins, and in no loop here.
    let guest = wasm(
        "(module (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
         (memory (export \"memory\") 1) (data (i32.const 64) \"late\")
         (func (export \"run\") (local i32)
           (drop (local.get 0)) (drop (local.get 0))
           (drop (call $log (i32.const 64) (i32.const 4)))))",
    );
    for (most, expected) in [(3, &[][..]), (4, &["late"][..])] {
        let outcome = run(&in_workers(roomy(&[(Meter::BurnFuel, most)])), &guest);
        assert_eq!(outcome.product.log, expected, "{most}");
        if expected.is_empty() {
            assert_stopped(&outcome, Class::LimitFuel, Layer::Fuel);
        } else {
            assert_completed(&outcome);
        }
    }
}
