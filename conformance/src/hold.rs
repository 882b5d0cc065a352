//! Holds a runtime of one's own to cases, from the tests of another project.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::case::{Case, Kind};
use crate::corpus::Corpus;
use crate::scoreboard::{Standing, of_attack, of_benign};
use crate::stage::Stage;
use crate::subject::{Observed, Subject};

/// Holds `subject` to the cases that `names` name, a test for each, as the command line of a test program says; the whole `main`
/// of one, after [`crate::enter`].
///
/// An attack passes where the subject ended it and none of its harm is seen, an honest guest where it completed and handed back
/// what it should. What the subject has no means to do is ignored, and a run in which nothing passed fails: a skip is never
/// a pass. Old faults are not played: they are about this runtime's engines.
pub fn hold(subject: impl Subject + Send + 'static, names: &[&str]) -> ExitCode {
    let arguments = Arguments::from_args();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let corpus = match Corpus::select(&names) {
        Ok(corpus) => Arc::new(corpus),
        Err(error) => {
            eprintln!("the cases cannot be used: {error}");
            return ExitCode::FAILURE;
        }
    };
    let subject = Arc::new(subject);
    let trial = |case: &Case| {
        let (case, corpus, subject) = (case.clone(), Arc::clone(&corpus), Arc::clone(&subject));
        let name = format!("{}::{}", subject.name(), case.id);
        Trial::ignorable_test(name, move || play(&case, &corpus, &*subject))
    };
    let cases = corpus.cases().iter();
    let trials: Vec<Trial> = cases.filter(|case| !is_old_fault(case)).map(trial).collect();
    let is_list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !is_list && conclusion.num_passed == 0 {
        eprintln!("nothing passed");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

const fn is_old_fault(case: &Case) -> bool {
    matches!(case.kind, Kind::Regression(_))
}

fn play(case: &Case, corpus: &Corpus, subject: &impl Subject) -> Result<Completion, Failed> {
    let stage = Stage::set(case, corpus)?;
    // What a subject cannot tell of is looked for all the same.
    let (observed, why_not) = match subject.run(case, &stage) {
        Ok(observed) => (observed, None),
        Err(error) => (Observed::unusable(error.to_string()), Some(error)),
    };
    let (standing, because) = match &case.kind {
        Kind::Attack(attack) => match observed.outcome() {
            Some(outcome) if outcome.class.is_completed() => (Standing::Undetected, "the guest completed".to_owned()),
            _ => of_attack(attack, &observed, why_not, &stage)?,
        },
        Kind::Benign(benign) => of_benign(benign, &observed, why_not, &stage)?,
        Kind::Regression(_) => return Ok(Completion::ignored_with("an old fault")),
    };
    match standing {
        standing if standing.is_pass() => Ok(Completion::Completed),
        Standing::Unsupported => Ok(Completion::ignored_with(because)),
        standing => Err(format!("{}: {because}", standing.name()).into()),
    }
}
