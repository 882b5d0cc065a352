//! What holds for every request, shown by a solver.
//!
//! A test asks about the requests that somebody thought of. Here a solver looks at all of them: every member of a profile,
//! every resource, every context that the schema allows. What it shows is about Cedar's meaning of the policies; that the
//! plans which the runtime enforces mean the same is checked when policies load.
//!
//! Nothing here is a proof but the solver's `unsat`. Silence, an unknown answer and a counterexample that Cedar's own
//! authorizer does not confirm are all "not proven".

mod ask;
mod change;
mod claim;
mod facts;
mod properties;
mod solver;
mod task;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::finding::Location;
use crate::store::PolicyStore;

use ask::for_each;
use change::Change;
use task::{Bench, End, Task, batches};

pub use claim::{Counterexample, Deciding};
pub use properties::{DemandKind, PropertiesError, PropertiesText, Property, forbids_never_err, read, stock};
pub use solver::{Solver, SolverError};

/// What came of a proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds of every request.
    Proven,
    /// It does not, and Cedar's authorizer confirms this request.
    Broken {
        /// The request.
        counterexample: Box<Counterexample>,
    },
    /// Nobody knows.
    Unknown {
        /// Why not.
        reason: String,
    },
}

/// One property, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// The property.
    pub id: String,
    /// What would be wrong if it did not hold.
    pub why: String,
    /// What kind of property it is.
    pub kind: DemandKind,
    /// Where it is written.
    pub location: Location,
    /// How many kinds of request were looked at: principal type, profile and action.
    pub looked_at: usize,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Why nothing was proven at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// There is no solver to ask.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// A property cannot be understood.
    #[error(transparent)]
    Properties(#[from] PropertiesError),
    /// The schema is broken.
    #[error("{0}")]
    Vocabulary(String),
}

/// Whose requests are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The members of one profile.
    Members(&'a str),
    /// The members of every profile that both sets declare.
    Everybody,
}

/// Proves properties of a policy set. `progress` hears how many of how many kinds of
/// request are done, from several threads.
///
/// # Errors
///
/// When a property names a profile that is not declared, and when there is no solver.
pub fn prove(
    store: &PolicyStore,
    properties: &[Property],
    solver: &Solver,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Proof>, ProveError> {
    let vocabulary = store.vocabulary();
    let bench = Bench {
        ready: store.ready(),
        vocabulary,
    };
    let stock = PolicyStore::stock().map_err(|error| ProveError::Vocabulary(error.to_string()))?;
    let mut tasks = Vec::new();
    for (index, property) in properties.iter().enumerate() {
        tasks.extend(bench.tasks(index, property, &stock.ready().profiles)?);
    }
    let batches = batches(&tasks);
    let done = AtomicUsize::new(0);
    let ends = for_each(solver, vocabulary, &batches, |asker, batch| {
        let ends = bench.settle(asker, &tasks, batch);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, batches.len());
        ends
    })?;
    // In the order of the tasks, so that of several counterexamples the same one is shown every time.
    let ends: BTreeMap<usize, End> = ends.into_iter().flatten().collect();
    Ok(properties
        .iter()
        .enumerate()
        .map(|(index, property)| proof(property, index, &tasks, &ends))
        .collect())
}

/// Whether two policy sets decide every request the same. Only the actions that a changed policy covers are looked at.
///
/// Guests are compared, not profiles themselves, where the two nest profiles differently.
///
/// # Errors
///
/// When there is no solver.
pub fn equivalent(
    old: &PolicyStore,
    new: &PolicyStore,
    whose: Whose<'_>,
    solver: &Solver,
) -> Result<Verdict, ProveError> {
    let vocabulary = new.vocabulary();
    let change = match Change::between(old.ready(), new.ready(), whose, vocabulary) {
        Ok(change) => change,
        Err(reason) => return Ok(Verdict::Unknown { reason }),
    };
    let ends = for_each(solver, vocabulary, &change.kinds, |asker, kind| {
        change.settle(asker, kind, vocabulary).unwrap_or_else(End::Unknown)
    })?;
    Ok(verdict(&ends.iter().collect::<Vec<_>>(), false))
}

fn proof(property: &Property, index: usize, tasks: &[Task<'_>], ends: &BTreeMap<usize, End>) -> Proof {
    let places = tasks.iter().enumerate().filter(|(_, task)| task.property == index);
    let its: Vec<&End> = places.filter_map(|(place, _)| ends.get(&place)).collect();
    let must_look = property.kind() != DemandKind::NeverErrs;
    Proof {
        id: property.id().to_owned(),
        why: property.why().to_owned(),
        kind: property.kind(),
        location: property.location().clone(),
        looked_at: its.len(),
        verdict: verdict(&its, must_look),
    }
}

/// A counterexample weighs more than what is not known, and that more than what holds.
fn verdict(ends: &[&End], must_look: bool) -> Verdict {
    let broken = ends.iter().find_map(|end| match end {
        End::Broken(counterexample) => Some(counterexample.clone()),
        _ => None,
    });
    if let Some(counterexample) = broken {
        return Verdict::Broken { counterexample };
    }
    let unknown = ends.iter().find_map(|end| match end {
        End::Unknown(reason) => Some(reason.clone()),
        _ => None,
    });
    if let Some(reason) = unknown {
        return Verdict::Unknown { reason };
    }
    if must_look && !ends.iter().any(|end| **end == End::Holds) {
        return Verdict::Unknown {
            reason: "there is no such request, so it says nothing".to_owned(),
        };
    }
    Verdict::Proven
}
