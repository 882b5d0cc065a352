//! Requests that cannot be served are errors: nothing is known about the guest, so there is no outcome.

use std::fs;

use libtest_mimic::Trial;
use stockade_policies::PlanError;
use stockade_runtime::worker::Patience;
use stockade_runtime::{Class, Layers, Request, Runtime, RuntimeError};
use tempfile::TempDir;

use crate::support::{assert_completed, in_workers, integer, last_rows, named, roomy, run, sql, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        an_unknown_export_is_an_error,
        wrong_arguments_are_an_error,
        a_guest_that_is_called_wrongly_never_starts,
        right_arguments_are_passed,
        a_missing_database_is_an_error,
        a_file_that_is_no_database_is_an_error,
        an_unknown_profile_is_an_error,
        an_error_does_not_harm_the_next_request,
        an_ablated_run_needs_a_worker,
    ]
}

fn everywhere() -> [Runtime; 2] {
    [in_workers(roomy(&[])), Runtime::in_process(roomy(&[]))]
}

const ADDITION: &str = "(module (func (export \"add\") (param i32 i64) (result i64)
                        (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1))))";

fn calling(export: &str, arguments: &[&str]) -> Request {
    let mut request = wasm(ADDITION);
    request.invoke = Some(export.to_owned());
    request.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    request
}

fn an_unknown_export_is_an_error() {
    for runtime in everywhere() {
        let error = runtime.run(&calling("subtract", &["1", "2"])).unwrap_err();
        assert!(matches!(error, RuntimeError::Request(_)), "{error:?}");
        assert!(error.to_string().contains("`add`"), "{error}");
    }
}

fn wrong_arguments_are_an_error() {
    for runtime in everywhere() {
        for arguments in [
            &[][..],
            &["1"],
            &["1", "2", "3"],
            &["one", "2"],
            &["2147483648", "2"],
            &["1", "2.5"],
        ] {
            let error = runtime.run(&calling("add", arguments)).unwrap_err();
            assert!(matches!(error, RuntimeError::Request(_)), "{arguments:?}: {error:?}");
        }
    }
}

/// Where it started, it would trap: then there would be an outcome.
fn a_guest_that_is_called_wrongly_never_starts() {
    let traps = "(module (func $start unreachable) (start $start) (func (export \"run\") (param i32)))";
    for runtime in everywhere() {
        let error = runtime.run(&wasm(traps)).unwrap_err();
        assert!(matches!(error, RuntimeError::Request(_)), "{error:?}");
        let mut request = wasm(traps);
        request.invoke = Some("walk".to_owned());
        let error = runtime.run(&request).unwrap_err();
        assert!(error.to_string().contains("it exports `run`"), "{error}");
        request.invoke = Some("run".to_owned());
        request.arguments = vec!["1".to_owned()];
        let outcome = runtime.run(&request).unwrap();
        assert_eq!(outcome.class, Class::Trap, "{}", outcome.detail);
    }
}

fn right_arguments_are_passed() {
    for runtime in everywhere() {
        let outcome = run(&runtime, &calling("add", &["-5", "47"]));
        assert_completed(&outcome);
        assert_eq!(outcome.product.results, [stockade_runtime::WasmValue::I64(42)]);
    }
}

fn a_missing_database_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing.db");
    for runtime in everywhere() {
        let error = runtime.run(&sql("select 1").on_database(&path)).unwrap_err();
        assert!(matches!(error, RuntimeError::Database { .. }), "{error:?}");
        assert!(!path.exists());
    }
}

fn a_file_that_is_no_database_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("letter.txt");
    fs::write(&path, "Dear reader, ".repeat(1000)).unwrap();
    for runtime in everywhere() {
        for place in [path.as_path(), folder.path()] {
            let error = runtime.run(&sql("select 1").on_database(place)).unwrap_err();
            assert!(matches!(error, RuntimeError::Database { .. }), "{error:?}");
        }
    }
}

fn an_unknown_profile_is_an_error() {
    for runtime in everywhere() {
        for request in [Request::sql("roomie", "select 1"), Request::wasm("roomie", "(module)")] {
            let error = runtime.run(&request).unwrap_err();
            assert!(
                matches!(error, RuntimeError::Plan(PlanError::UnknownProfile { .. })),
                "{error:?}"
            );
        }
    }
}

fn an_error_does_not_harm_the_next_request() {
    let runtime = Runtime::in_workers(roomy(&[]), 1).unwrap();
    for _ in 0..3 {
        runtime.run(&calling("subtract", &[])).unwrap_err();
        let outcome = run(&runtime, &sql("select 6 * 7"));
        assert_completed(&outcome);
        assert_eq!(last_rows(&outcome), integer(42));
    }
}

fn an_ablated_run_needs_a_worker() {
    let runtime = Runtime::in_process(roomy(&[]));
    let patience = Patience {
        answer: std::time::Duration::ZERO,
        reply_bytes: usize::MAX,
        prepare: std::time::Duration::from_secs(10),
        run: None,
        rss_bytes: None,
    };
    let ablated = runtime.run_ablated(&sql("select 1"), Layers::NONE, &patience);
    assert!(matches!(ablated, Err(RuntimeError::Request(_))), "{ablated:?}");
}
