//! Bytes as guests, as they are.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};
use stockade_conformance::oracle;
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::{Class, Request, Runtime, RuntimeError};

use crate::is_planted;

/// Little time and few operators, so that an input costs microseconds. More operators than a loop of a thousand turns
/// takes: what ends by itself shall.
pub(crate) const POLICIES: &str = r#"
@id("fuzz-deadline")
forbid (principal, action == Action::"elapse", resource) unless { context.millis <= 50 };
@id("fuzz-fuel")
forbid (principal, action == Action::"burnFuel", resource) unless { context.ops <= 100000 };
"#;

/// Runs bytes as an SQL script of a walk-in.
pub fn sql(data: &[u8]) {
    keeps_the_laws(&Request::sql("walkin", data));
}

/// Runs bytes as a module of nobody in particular.
pub fn wasm(data: &[u8]) {
    keeps_the_laws(&Request::wasm("untrusted", data));
}

/// Runs a guest, and holds what became of it against the laws. Nothing came of a request that asks for what is not there.
///
/// # Panics
/// Where a law is broken, or nobody knows what happened.
pub(crate) fn keeps_the_laws(request: &Request) {
    keeps_the_laws_on(runtime(), request);
}

/// As [`keeps_the_laws`], on a runtime of one's own.
///
/// # Panics
/// As [`keeps_the_laws`].
#[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
pub(crate) fn keeps_the_laws_on(runtime: &Runtime, request: &Request) {
    let before = cpu_us();
    let mut outcome = match runtime.run(request) {
        Ok(outcome) => outcome,
        // The guest asked for something that is not there, which the caller would have to mend.
        Err(RuntimeError::Request(_)) => return,
        Err(error) => panic!("no outcome: {error}"),
    };
    let plan = match runtime.plan(request) {
        Ok(plan) => plan,
        Err(error) => panic!("no plan: {error}"),
    };
    // In this process nothing ends a guest from outside: how late it is on a machine with too much to do is nobody's finding.
    outcome.wall_us = outcome.wall_us.min(cpu_us().saturating_sub(before).max(1));
    let faults = oracle::laws(&plan, &outcome);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let sought = [
        Class::DeniedSqlAction,
        Class::DeniedImport,
        Class::ContractBadPointer,
        Class::Trap,
    ];
    let is_sought = sought.contains(&outcome.class);
    assert!(!(is_planted() && is_sought), "planted: {}", outcome.class);
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
    use super::*;

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
