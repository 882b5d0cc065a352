//! What the fuzz targets do with their bytes. The verdict is the oracle's: [`stockade_conformance::oracle::laws`].
//!
//! Guests run in this process, so that an input costs microseconds: what only a worker stops is not looked for here.

use std::sync::OnceLock;

use stockade_conformance::oracle;
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::{Request, Runtime, RuntimeError};

/// Checks bytes as policy text. Whatever they are, the answer is a report.
///
/// # Panics
/// Where the report and loading disagree: that is a finding.
pub fn policy_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let source = Source {
        name: "fuzz.cedar".to_owned(),
        text: text.to_owned(),
        kind: SourceKind::Policies,
    };
    let sources = [source];
    let report = stockade_policies::check(&sources, Stock::Without);
    let loads = PolicyStore::load(&sources, Stock::Without).is_ok();
    let has_errors = report.count(stockade_policies::Severity::Error) > 0;
    assert_ne!(loads, has_errors, "`check` and loading disagree");
}

/// Runs bytes as an SQL script of a walk-in.
pub fn sql(data: &[u8]) {
    keeps_the_laws(&Request::sql("walkin", data));
}

/// Runs bytes as a module of nobody in particular.
pub fn wasm(data: &[u8]) {
    keeps_the_laws(&Request::wasm("untrusted", data));
}

#[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
fn keeps_the_laws(request: &Request) {
    let runtime = runtime();
    let outcome = match runtime.run(request) {
        Ok(outcome) => outcome,
        // The guest asked for something that is not there, which the caller would have to mend.
        Err(RuntimeError::Request(_)) => return,
        Err(error) => panic!("no outcome: {error}"),
    };
    let plan = match runtime.plan(request) {
        Ok(plan) => plan,
        Err(error) => panic!("no plan: {error}"),
    };
    let faults = oracle::laws(&plan, &outcome);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[expect(clippy::expect_used, reason = "without policies there is nothing to fuzz")]
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let deadline = Source {
            name: "fuzz.cedar".to_owned(),
            text: "@id(\"fuzz-deadline\") forbid (principal, action == Action::\"elapse\", resource)
                   unless { context.millis <= 50 };"
                .to_owned(),
            kind: SourceKind::Policies,
        };
        Runtime::in_process(PolicyStore::load(&[deadline], Stock::With).expect("the stock policies load"))
    })
}

#[cfg(test)]
mod tests {
    //! On stable: every seed, whole, cut at every few bytes, and with one byte changed.

    use stockade_conformance::{Code, Corpus, Program};

    use super::*;

    const SEEDS: usize = 40;

    fn mutants(seed: &[u8]) -> Vec<Vec<u8>> {
        let mut mutants = vec![seed.to_vec()];
        for at in (0..seed.len()).step_by(seed.len() / 6 + 1) {
            mutants.push(seed[..at].to_vec());
            let mut changed = seed.to_vec();
            changed[at] = changed[at].wrapping_mul(31).wrapping_add(7);
            mutants.push(changed);
        }
        mutants
    }

    /// Benign guests: attacks on time and memory want the worker that is not here.
    fn seeds(want_sql: bool) -> Vec<Vec<u8>> {
        let corpus = Corpus::embedded().unwrap();
        let texts = corpus
            .cases()
            .iter()
            .filter(|case| case.is_benign())
            .filter_map(|case| match &case.program {
                Program::Sql(script) if want_sql => Some(script.clone().into_bytes()),
                Program::Module {
                    code: Code::Text(text), ..
                } if !want_sql => Some(text.clone().into_bytes()),
                _ => None,
            });
        let seeds: Vec<_> = texts.take(SEEDS).collect();
        assert!(!seeds.is_empty());
        seeds
    }

    #[test]
    fn policy_text_smoke() {
        let seeds = [
            "@id(\"a\") permit (principal, action == Action::\"elapse\", resource) when { context.millis <= 500 };",
            "@id(\"b\") forbid (principal, action, resource) unless { principal in Profile::\"x\" };",
            "permit (principal, action, resource) when { context.bytes * 9223372036854775807 > -1 };",
            "",
        ];
        for mutant in seeds.iter().flat_map(|seed| mutants(seed.as_bytes())) {
            policy_text(&mutant);
        }
    }

    #[test]
    fn sql_smoke() {
        seeds(true)
            .iter()
            .flat_map(|seed| mutants(seed))
            .for_each(|mutant| sql(&mutant));
    }

    #[test]
    fn wasm_smoke() {
        seeds(false)
            .iter()
            .flat_map(|seed| mutants(seed))
            .for_each(|mutant| wasm(&mutant));
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
