//! Mutation testing of policies: would anything notice if a policy were slightly wrong?
//!
//! [`Mutation::of`] makes every mutant of some sources: a policy with one small mistake, as an author makes them. Each is
//! judged, cheapest first: Cedar's validator and the load rules, the plans of everybody who could ask, the policy tests,
//! and whatever the caller adds. A mutant that nobody notices has survived, and the report says which request would have
//! told it apart.

mod edits;
mod judge;
mod parents;
mod report;
mod shown;
mod surroundings;
mod variant;
mod witness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value as Json;

use crate::mutate::edits::{Edit, Edits};
use crate::mutate::judge::Judge;
use crate::mutate::parents::Parent;
use crate::mutate::surroundings::Surroundings;
use crate::mutate::variant::Origin;
use crate::parse::LoadedPolicy;
use crate::profiles::stock_sources;
use crate::store::{LoadError, PolicyStore, Source, SourceKind, Stock};
use crate::suite::Suite;

pub use crate::mutate::report::{Example, Killer, MutantReport, Report, Verdict};
pub(crate) use crate::mutate::variant::Variant;

macro_rules! operators {
    ($($variant:ident $name:literal $doc:literal)*) => {
        /// A kind of small mistake. The kebab-case names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Operator {
            $(#[doc = $doc] $variant,)*
        }

        impl Operator {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name: `move-bound`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}

operators! {
    DropPolicy "drop-policy" "The policy is gone."
    FlipEffect "flip-effect" "A permit forbids, a forbid permits."
    WidenPrincipal "widen-principal" "`==` becomes `in`; `in` or `is` becomes anybody."
    WidenAction "widen-action" "An action becomes a group that it is in, or any action."
    DropAction "drop-action" "A list of actions lacks one."
    WidenResource "widen-resource" "`==` becomes `in`; `in` or `is` becomes anything."
    DropClause "drop-clause" "A `when` or `unless` is gone."
    NegateClause "negate-clause" "A `when` becomes an `unless`, and the other way round."
    DropOperand "drop-operand" "One side of `&&` or `||` is gone."
    NegateOperand "negate-operand" "One side of `&&` or `||`, or what an `if` asks, is negated."
    SwapConnective "swap-connective" "`&&` becomes `||`, and the other way round."
    MoveBound "move-bound" "A number is one more, one less, ten times as much or a tenth."
    ChangeComparison "change-comparison" "`<=` becomes `<` or `>=`, `==` becomes `!=`, and so on."
    DropElement "drop-element" "A set lacks one of its elements."
    LoosenPattern "loosen-pattern" "A `like` pattern matches more: `/data/*` becomes `/data*` and `*`."
    SwapEntity "swap-entity" "Another entity of the same type is named."
    DropParent "drop-parent" "An entity in an entities file lacks one of its parents."
}

/// As much as a main thread has: policies may be nested as deeply here as where they were loaded.
const STACK: usize = 8 << 20;

/// How to judge.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Mutants judged at a time.
    pub jobs: usize,
    /// When to stop; what is not judged by then is unjudged.
    pub until: Option<Instant>,
}

/// How far judging is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Mutants judged.
    pub done: usize,
    /// All mutants.
    pub total: usize,
}

/// A mutant that no test has noticed, for somebody else to look at.
pub struct Unnoticed<'a> {
    /// The policies as they are.
    pub original: &'a PolicyStore,
    /// The mutated policies.
    pub mutant: &'a PolicyStore,
    /// The profiles whose members may do something else than before.
    pub profiles: &'a BTreeSet<String>,
}

/// Who else may judge where the tests have noticed nothing.
#[derive(Clone, Copy, Default)]
pub struct Beyond<'a> {
    /// Shows that original and mutant allow the same. Asked where no question was found that tells them apart.
    pub proof: Option<&'a (dyn Fn(&Unnoticed<'_>) -> bool + Sync)>,
    /// Looks for what else notices the mutant.
    pub attacks: Option<&'a (dyn Fn(&Unnoticed<'_>) -> Attacked + Sync)>,
}

/// What became of the attacks on a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attacked {
    /// This one, or this honest guest, is no longer what it says.
    Noticed(String),
    /// Everything is as before.
    Unnoticed,
    /// Not everything could be tried: time ran out, for one.
    Untried,
}

/// The mutants of some sources.
pub struct Mutation {
    origin: Arc<Origin>,
    /// Every entities source, the stock's too.
    entities: Vec<Source>,
    policies: Vec<Mutable>,
    parents: Vec<Parent>,
}

/// A policy that is mutated.
struct Mutable {
    /// Its place among all that are loaded.
    index: usize,
    loaded: LoadedPolicy,
    /// Cedar's JSON of it.
    json: Json,
    edits: Edits,
}

impl Mutable {
    /// The policy with this edit; nothing where it is dropped.
    fn edited(&self, edit: &Edit) -> Option<Json> {
        self.edits.apply(edit, &self.json)
    }
}

/// One small mistake.
#[derive(Clone, Copy)]
enum Mutant<'a> {
    /// In a policy.
    Policy { policy: &'a Mutable, edit: &'a Edit },
    /// A parent that is gone.
    Parent(&'a Parent),
}

impl Mutation {
    /// Loads the sources, and makes the mutants of each policy and entity in them. The stock is mutated where its files are
    /// among the sources.
    ///
    /// # Errors
    ///
    /// Every finding, when the sources do not load as they are.
    pub fn of(sources: &[Source], stock: Stock) -> Result<Self, LoadError> {
        let store = PolicyStore::load(sources, stock)?;
        let mut entities = match stock {
            Stock::With => stock_sources(),
            Stock::Without => Vec::new(),
        };
        entities.extend_from_slice(sources);
        entities.retain(|source| source.kind == SourceKind::Entities);
        let is_named = |name: &str| sources.iter().any(|source| source.name == name);
        let surroundings = Surroundings::of(store.ready(), store.vocabulary());
        let mut policies = Vec::new();
        for (index, loaded) in store.ready().policies.iter().enumerate() {
            if loaded.is_stock || loaded.covered.is_empty() || !is_named(&loaded.location.source) {
                continue;
            }
            // What was parsed has a JSON form.
            if let Ok(json) = loaded.policy.to_json() {
                policies.push(Mutable {
                    index,
                    loaded: loaded.clone(),
                    edits: Edits::of(&json, &surroundings),
                    json,
                });
            }
        }
        Ok(Self {
            origin: Arc::new(Origin::new(store)),
            entities,
            policies,
            parents: parents::of(sources),
        })
    }

    /// How many mutants there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mutants().count()
    }

    /// Whether there is nothing to mutate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mutants().next().is_none()
    }

    /// The policies as they are.
    #[must_use]
    pub fn original(&self) -> &PolicyStore {
        &self.origin.store
    }

    /// Judges every mutant. The records come in the order of the sources, however many are judged at a time.
    ///
    /// The tests must hold for the policies as they are: a test that fails anyway would kill everything.
    #[must_use]
    pub fn judge(
        &self,
        suite: &Suite,
        options: Options,
        beyond: Beyond<'_>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Report {
        let mutants: Vec<Mutant<'_>> = self.mutants().collect();
        let total = mutants.len();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let records = Mutex::new(Vec::with_capacity(total));
        let work = || {
            let judge = Judge::new(self, suite, beyond);
            while let Some((index, mutant)) = next_of(&mutants, &next) {
                let is_late = options.until.is_some_and(|until| Instant::now() >= until);
                let record = if is_late {
                    judge.unjudged(*mutant)
                } else {
                    judge.judge(*mutant)
                };
                records
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((index, record));
                progress(Progress {
                    done: done.fetch_add(1, Ordering::Relaxed) + 1,
                    total,
                });
            }
        };
        thread::scope(|scope| {
            for _ in 1..options.jobs.max(1) {
                // Where no thread is to be had, the others do its work.
                let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            }
            work();
        });
        let mut records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
        records.sort_by_key(|(index, _)| *index);
        Report::of(records.into_iter().map(|(_, record)| record).collect())
    }

    /// In the order of the sources.
    fn mutants(&self) -> impl Iterator<Item = Mutant<'_>> {
        let of_policies = self
            .policies
            .iter()
            .flat_map(|policy| policy.edits.iter().map(move |edit| Mutant::Policy { policy, edit }));
        of_policies.chain(self.parents.iter().map(Mutant::Parent))
    }
}

fn next_of<'a, T>(all: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, all.get(index)?))
}
