//! Questions for the solver, and the processes that answer them side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cedar_policy::{Policy, PolicySet, RequestEnv};
use cedar_policy_symcc::err::Error as Failed;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::prove::facts::Kind;
use crate::prove::solver::{Process, Solver, SolverError};
use crate::schema::{Vocabulary, type_name, uid};

/// After so many questions in a row that came to nothing, no more are asked.
const PATIENCE: usize = 3;

/// A solver that was asked so often is replaced: after `(reset)` it keeps what it knew, and gets slower and slower.
const WORN_OUT: usize = 16;

/// What may be asked about every request of a kind.
pub(super) enum Ask<'a> {
    /// What the first allows, the second allows.
    Implies(&'a PolicySet, &'a PolicySet),
    /// What the one allows, the other allows.
    Equivalent(&'a PolicySet, &'a PolicySet),
    /// Evaluating it never fails.
    NeverErrs(&'a Policy),
}

/// What the solver says.
pub(super) enum Said {
    Yes,
    No(Box<Env>),
    Unknown(String),
}

/// One solver process and what is needed to start the next.
pub(super) struct Asker<'a> {
    solver: &'a Solver,
    vocabulary: &'a Vocabulary,
    runtime: Runtime,
    compiler: Option<CedarSymCompiler<Process>>,
    in_vain: usize,
    asked: usize,
}

impl<'a> Asker<'a> {
    fn start(solver: &'a Solver, vocabulary: &'a Vocabulary) -> Result<Self, SolverError> {
        let missing = |source| SolverError::Missing {
            program: solver.program().to_owned(),
            source,
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(missing)?;
        let mut asker = Self {
            solver,
            vocabulary,
            runtime,
            compiler: None,
            in_vain: 0,
            asked: 0,
        };
        asker.restart()?;
        Ok(asker)
    }

    fn restart(&mut self) -> Result<(), SolverError> {
        self.end();
        let process = self.runtime.block_on(self.solver.start())?;
        self.asked = 0;
        self.compiler = CedarSymCompiler::new(process).ok();
        Ok(())
    }

    /// Asks one question. No answer in time, and a solver that breaks, are an unknown answer.
    pub(super) fn ask(&mut self, kind: &Kind, question: &Ask<'_>) -> Said {
        if self.in_vain >= PATIENCE {
            return Said::Unknown("the solver was given up after it had failed again and again".to_owned());
        }
        let said = self.try_to_ask(kind, question).unwrap_or_else(Said::Unknown);
        match said {
            Said::Unknown(_) => self.in_vain += 1,
            Said::Yes | Said::No(_) => self.in_vain = 0,
        }
        said
    }

    fn try_to_ask(&mut self, kind: &Kind, question: &Ask<'_>) -> Result<Said, String> {
        if self.compiler.is_none() || self.asked >= WORN_OUT {
            self.restart().map_err(|error| error.to_string())?;
        }
        let Self {
            solver,
            vocabulary,
            runtime,
            compiler: Some(compiler),
            asked,
            ..
        } = self
        else {
            return Err("there is no solver".to_owned());
        };
        let env = RequestEnv::new(
            type_name(kind.principal.name())?,
            uid("Action", &kind.action)?,
            type_name(&kind.resource)?,
        );
        *asked += 1;
        let limit = solver.timeout;
        let answer = runtime.block_on(async { timeout(limit, query(compiler, vocabulary, &env, question)).await });
        let problem = match answer {
            Ok(Ok(None)) => return Ok(Said::Yes),
            Ok(Ok(Some(counterexample))) => return Ok(Said::No(Box::new(counterexample))),
            Ok(Err(error)) => reason(&error),
            Err(_) => format!("the solver had no answer within {limit:?}"),
        };
        // What it is in the middle of is not known, so the next question goes to another.
        self.end();
        Err(problem)
    }

    fn end(&mut self) {
        if let Some(mut compiler) = self.compiler.take() {
            self.runtime.block_on(compiler.solver_mut().end());
        }
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the error is symcc's, and it is read on the spot"
)]
async fn query(
    compiler: &mut CedarSymCompiler<Process>,
    vocabulary: &Vocabulary,
    env: &RequestEnv,
    question: &Ask<'_>,
) -> Result<Option<Env>, Failed> {
    let schema = vocabulary.schema();
    let set = |set| CompiledPolicySet::compile(set, env, schema);
    match question {
        Ask::Implies(left, right) => {
            let (left, right) = (set(left)?, set(right)?);
            compiler.check_implies_with_counterexample_opt(&left, &right).await
        }
        Ask::Equivalent(left, right) => {
            let (left, right) = (set(left)?, set(right)?);
            compiler.check_equivalent_with_counterexample_opt(&left, &right).await
        }
        Ask::NeverErrs(policy) => {
            let policy = CompiledPolicy::compile(policy, env, schema)?;
            compiler.check_never_errors_with_counterexample_opt(&policy).await
        }
    }
}

fn reason(error: &Failed) -> String {
    match error {
        Failed::SolverUnknown => "the solver does not know".to_owned(),
        Failed::ModelInvalid { .. } => "the solver's counterexample contradicts its own question".to_owned(),
        other => format!("the solver failed: {other}"),
    }
}

/// Does the work for each, as many at once as there are solver processes; what comes out is in the order of what went in.
pub(super) fn for_each<T: Sync, R: Send>(
    solver: &Solver,
    vocabulary: &Vocabulary,
    all: &[T],
    work: impl Fn(&mut Asker<'_>, &T) -> R + Sync,
) -> Result<Vec<R>, SolverError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(all.len()));
    let worker = || -> Result<(), SolverError> {
        let mut asker = Asker::start(solver, vocabulary)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(index) else { return Ok(()) };
            let result = work(&mut asker, one);
            done.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push((index, result));
        }
    };
    let count = solver.processes.min(all.len()).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        let ends: Vec<Result<(), SolverError>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        ends.into_iter().collect::<Result<(), _>>()
    })?;
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
