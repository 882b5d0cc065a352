//! Bytes as guests, as they are.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};
use stockade_conformance::oracle;
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::{Class, Outcome, Request, Runtime, RuntimeError};

use crate::is_planted;

/// Little time and few operators, so that an input costs microseconds. More operators than a loop of a thousand turns
/// takes: what ends by itself shall.
const POLICIES: &str = r#"
@id("fuzz-deadline")
forbid (principal, action == Action::"elapse", resource) unless { context.millis <= 50 };
@id("fuzz-fuel")
forbid (principal, action == Action::"burnFuel", resource) unless { context.ops <= 100000 };
"#;

/// Runs bytes as an SQL script of a walk-in.
pub fn sql(data: &[u8]) {
    keeps_the_laws(runtime(), &Request::sql("walkin", data), Class::DeniedSqlAction);
}

/// Runs bytes as a module of nobody in particular, and as one of somebody who is granted every host function where it imports any.
pub fn wasm(data: &[u8]) {
    let run = |profile| keeps_the_laws(runtime(), &Request::wasm(profile, data), Class::DeniedImport);
    let is_denied = run("untrusted").is_some_and(|outcome| outcome.class == Class::DeniedImport);
    if is_denied {
        run("trusted");
    }
}

/// Runs a guest, and holds what became of it against the laws. Nothing comes of a module that wants arguments. Where a bug is
/// planted, an outcome of the class `planted` is one.
///
/// # Panics
/// Where a law is broken, or nobody knows what happened.
#[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
pub(crate) fn keeps_the_laws(runtime: &Runtime, request: &Request, planted: Class) -> Option<Outcome> {
    let before = cpu_us();
    let mut outcome = match runtime.run(request) {
        Ok(outcome) => outcome,
        Err(RuntimeError::Request(reason)) if reason.starts_with("the export takes ") => return None,
        Err(error) => panic!("no outcome: {error}"),
    };
    assert_ne!(outcome.class, Class::HostInternal, "{}", outcome.detail);
    let plan = match runtime.plan(request) {
        Ok(plan) => plan,
        Err(error) => panic!("no plan: {error}"),
    };
    // In this process nothing ends a guest from outside: how late it is on a machine with too much to do is nobody's finding.
    outcome.wall_us = outcome.wall_us.min(cpu_us().saturating_sub(before).max(1));
    let mut faults = oracle::laws(&plan, &outcome);
    faults.extend(oracle::was_asked(&outcome));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(!(is_planted() && outcome.class == planted), "planted: {planted}");
    Some(outcome)
}

/// What this process has had of its processors, in microseconds.
fn cpu_us() -> u64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let micros = spent.tv_sec * 1_000_000 + spent.tv_nsec / 1000;
    u64::try_from(micros).unwrap_or(0)
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| new_runtime(POLICIES))
}

/// In this process, with these policies beside the stock ones.
#[expect(clippy::expect_used, reason = "without policies there is nothing to fuzz")]
pub(crate) fn new_runtime(policies: &str) -> Runtime {
    let policies = Source {
        name: "fuzz.cedar".to_owned(),
        text: policies.to_owned(),
        kind: SourceKind::Policies,
    };
    Runtime::in_process(PolicyStore::load(&[policies], Stock::With).expect("the stock policies load"))
}

#[cfg(test)]
mod tests {
    use stockade_runtime::measure::session_with;
    use stockade_runtime::{Layer, Layers};

    use super::*;

    #[test]
    fn a_script_that_nobody_is_asked_about_is_caught() {
        let folder = crate::scratch::folder();
        let path = folder.path().join("some.db");
        std::fs::write(&path, []).unwrap();
        let plan = runtime().plan(&Request::sql("walkin", "")).unwrap();
        let mut session = session_with(plan.clone(), Layers::NONE.with(Layer::Deadline), &path).unwrap();
        let outcome = session.run("attach ':memory:' as other; select 1").unwrap();
        assert!(oracle::was_asked(&outcome).is_some());
    }

    #[test]
    fn who_imports_something_runs_with_everything_too() {
        let module = "(module
            (import \"stockade\" \"clock_now_ms\" (func $now (result i64)))
            (func (export \"run\") (result i64) (call $now)))";
        let run = |profile| {
            keeps_the_laws(runtime(), &Request::wasm(profile, module), Class::Trap)
                .unwrap()
                .class
        };
        assert_eq!(
            [run("untrusted"), run("trusted")],
            [Class::DeniedImport, Class::Completed]
        );
    }

    #[test]
    #[should_panic(expected = "reached")]
    fn an_outcome_beyond_its_bounds_is_caught() {
        let request = Request::sql("walkin", "select 1");
        let runtime = runtime();
        let mut outcome = runtime.run(&request).unwrap();
        let rows = &mut outcome.product.statements[0].rows;
        rows.resize(20_000, Vec::new());
        let faults = oracle::laws(&runtime.plan(&request).unwrap(), &outcome);
        panic!("{}", faults.join("\n"));
    }
}
