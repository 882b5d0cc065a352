//! Every case of the corpus, played in every way that proves it. One trial each: `reference::sql/attach-…`.
//!
//! Beside them: variants of each attack in SQL, each meter at its bound and one past it, each action granted
//! and withheld, and what the corpus must hold as a whole.

mod coverage;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial as TestTrial};
use stockade_conformance::boundary::{Pair, Side, pairs};
use stockade_conformance::grants;
use stockade_conformance::{Case, Corpus, Laboratory, Rigour, Trial, play, variants};
use stockade_policies::Action;

/// What the variants follow from. Another seed is a nightly's, or `policyctl replay --variants`.
const SEED: u64 = 20_260_221;

/// Variants of an attack whose control takes a moment; of one that must be waited for, or that fills memory, half as many.
const VARIANTS: u32 = 2;

fn main() -> ExitCode {
    stockade_conformance::enter();
    let arguments = Arguments::from_args();
    let corpus = match Corpus::embedded() {
        Ok(corpus) => Arc::new(corpus),
        Err(error) => {
            eprintln!("the corpus cannot be used: {error}");
            return ExitCode::FAILURE;
        }
    };
    let cases = corpus.cases().iter();
    let mut trials: Vec<TestTrial> = cases.clone().flat_map(|case| tests(case, &corpus)).collect();
    trials.extend(cases.flat_map(|case| variant_tests(case, &corpus)));
    trials.extend(pairs().into_iter().flat_map(boundary_tests));
    trials.extend(Action::all().flat_map(grant_tests));
    trials.push(TestTrial::test("coverage", {
        let corpus = Arc::clone(&corpus);
        move || passed(&coverage::faults(&corpus))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn tests(case: &Case, corpus: &Arc<Corpus>) -> Vec<TestTrial> {
    Rigour::Proof
        .trials(case)
        .into_iter()
        .map(|trial| test(case.clone(), trial, corpus))
        .collect()
}

/// A variant is stopped as the attack is, and undefended it does the same harm: otherwise it is none.
fn variant_tests(case: &Case, corpus: &Arc<Corpus>) -> Vec<TestTrial> {
    let is_slow = case.attack().is_some_and(|attack| {
        let control = &attack.control;
        control.still_running_after_ms.is_some() || control.peak_rss_mib.is_some() || control.database_mib.is_some()
    });
    let count = if is_slow { VARIANTS / 2 } else { VARIANTS };
    variants(case, count, SEED)
        .into_iter()
        .flat_map(|variant| {
            let trials = Rigour::Standard.trials(&variant);
            trials
                .into_iter()
                .map(move |trial| test(variant.clone(), trial, corpus))
        })
        .collect()
}

fn test(case: Case, trial: Trial, corpus: &Arc<Corpus>) -> TestTrial {
    let corpus = Arc::clone(corpus);
    TestTrial::test(format!("{}::{}", trial.name(), case.id), move || {
        run(&case, trial, &corpus)
    })
}

fn boundary_tests(pair: Pair) -> Vec<TestTrial> {
    let test = |side: Side| {
        TestTrial::test(format!("boundary::{}", pair.name(side)), move || {
            passed(&pair.play(side, laboratory()?)?)
        })
    };
    Side::ALL.into_iter().map(test).collect()
}

fn grant_tests(action: Action) -> Vec<TestTrial> {
    let test = |side: grants::Side| {
        TestTrial::test(format!("grants::{}", grants::name(action, side)), move || {
            passed(&grants::play(action, side, laboratory()?)?)
        })
    };
    grants::Side::ALL.into_iter().map(test).collect()
}

fn run(case: &Case, trial: Trial, corpus: &Corpus) -> Result<(), Failed> {
    passed(&play(case, trial, corpus, laboratory()?)?.faults)
}

fn passed(faults: &[String]) -> Result<(), Failed> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.join("\n").into())
}

/// As many workers as there are test threads can use.
fn laboratory() -> Result<&'static Arc<Laboratory>, Failed> {
    static LABORATORY: OnceLock<Result<Arc<Laboratory>, String>> = OnceLock::new();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    LABORATORY
        .get_or_init(|| Laboratory::new(workers).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(Failed::from)
}
