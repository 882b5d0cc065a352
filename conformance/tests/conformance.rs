//! Every case of the corpus, played in every way that proves it. One trial each: `reference::sql/attach-…`.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial as TestTrial};
use stockade_conformance::{Case, Corpus, Laboratory, Rigour, Trial, play};

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
    let trials = corpus.cases().iter().flat_map(|case| tests(case, &corpus)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn tests(case: &Case, corpus: &Arc<Corpus>) -> Vec<TestTrial> {
    Rigour::Proof
        .trials(case)
        .into_iter()
        .map(|trial| {
            let (case, corpus) = (case.clone(), Arc::clone(corpus));
            TestTrial::test(format!("{}::{}", trial.name(), case.id), move || {
                run(&case, trial, &corpus)
            })
        })
        .collect()
}

fn run(case: &Case, trial: Trial, corpus: &Corpus) -> Result<(), Failed> {
    let laboratory = laboratory()?;
    let played = play(case, trial, corpus, laboratory)?;
    if played.faults.is_empty() {
        return Ok(());
    }
    Err(played.faults.join("\n").into())
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
