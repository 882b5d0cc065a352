//! A policy set that is loaded, validated and safe to compile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::anybody::Anybodies;
use crate::compile::{Compiler, NoPlan, Ready};
use crate::finding::{Finding, Location};
use crate::load::{Loaded, finding_of, load};
use crate::nearest::nearest;
use crate::plan::Plan;
use crate::principal::Principal;
use crate::profiles::stock_sources;
use crate::publisher::{PublisherKey, keys};
use crate::schema::Vocabulary;
use crate::vocabulary::Meter;

/// What a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceKind {
    /// Cedar policies.
    Policies,
    /// A JSON array of entities.
    Entities,
    /// A JSON array of links, each of which fills a template: the file of Cedar's own command line.
    Links,
    /// A Cedar schema that is added to the vocabulary.
    Schema,
}

/// One text to load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What to call it in findings: a path, or `stock/untrusted.cedar`.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it holds.
    pub kind: SourceKind,
}

/// Whether the stock profiles are loaded too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stock {
    /// The stock profiles can be named and nested in.
    With,
    /// Only what the sources say.
    Without,
}

impl Stock {
    /// The stock, unless these sources are its own files: everything in them would be declared twice.
    #[must_use]
    pub fn beside(sources: &[Source]) -> Self {
        let file = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let is_there = |stock: &Source| sources.iter().any(|source| file(&source.name) == file(&stock.name));
        if stock_sources().iter().all(is_there) {
            Self::Without
        } else {
            Self::With
        }
    }
}

/// Why policies do not load: every finding, at least one of them an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policies do not load: {}", messages(.0))]
pub struct LoadError(Vec<Finding>);

impl LoadError {
    /// What is wrong, errors first.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }
}

fn messages(findings: &[Finding]) -> String {
    let placed = |finding: &Finding| match &finding.location {
        Some(location) => format!("{location}: {}", finding.message),
        None => finding.message.clone(),
    };
    findings.iter().map(placed).collect::<Vec<_>>().join("; ")
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The principal's profile is not declared.
    #[error("profile `{name}` is not declared{}", did_you_mean(nearest.as_deref()))]
    UnknownProfile {
        /// What was asked for.
        name: String,
        /// The declared profile with the most similar name.
        nearest: Option<String>,
    },
    /// The entities put the principal into other profiles than the one it was asked for in.
    #[error("`{principal}` is not in profile `{asked}`, only in `{}`", declared.join("`, `"))]
    ProfileConflict {
        /// The principal's id.
        principal: String,
        /// The profile that was asked for.
        asked: String,
        /// The profiles that it is declared to be in.
        declared: Vec<String>,
    },
    /// A meter has no exact bound for this principal.
    #[error("{0}")]
    Refused(Box<Finding>),
    /// A compiled bound and Cedar's authorizer disagree.
    #[error("the compiled bound of `{}` is not what cedar says about {amount}", meter.action())]
    Mismatch {
        /// The meter.
        meter: Meter,
        /// The amount they disagree about.
        amount: i64,
    },
    /// Cedar could not evaluate the policies.
    #[error("cedar cannot evaluate the policies: {0}")]
    Engine(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

/// A validated policy set and its entities. Every load rule holds. Cheap to clone.
#[derive(Clone)]
pub struct PolicyStore(Arc<Inner>);

struct Inner {
    /// What is worth a look and did not keep the policies from loading.
    warnings: Vec<Finding>,
    ready: Ready,
    /// The plan of each profile, compiled when it was checked.
    plans: BTreeMap<String, Plan>,
    anybodies: Anybodies,
    vocabulary: Arc<Vocabulary>,
    /// What this store is a variant of, for mutation testing.
    #[cfg(feature = "workbench")]
    variant: Option<crate::mutate::Variant>,
}

impl PolicyStore {
    /// The stock profiles only, loaded once per process.
    ///
    /// # Errors
    ///
    /// What is wrong with them; the tests see to it that nothing is.
    pub fn stock() -> Result<Self, LoadError> {
        static STOCK: OnceLock<Result<PolicyStore, LoadError>> = OnceLock::new();
        STOCK.get_or_init(|| Self::load(&[], Stock::With)).clone()
    }

    /// Loads, validates and cross-checks.
    ///
    /// # Errors
    ///
    /// Every finding, when at least one of them is an error.
    pub fn load(sources: &[Source], stock: Stock) -> Result<Self, LoadError> {
        let loaded = load(sources, stock);
        if loaded.is_refused() {
            return Err(LoadError(loaded.findings));
        }
        let Loaded {
            findings,
            ready,
            plans,
            vocabulary,
            ..
        } = loaded;
        match ready.zip(vocabulary) {
            Some((ready, vocabulary)) => Ok(Self(Arc::new(Inner {
                warnings: findings,
                ready,
                plans,
                anybodies: Anybodies::default(),
                vocabulary,
                #[cfg(feature = "workbench")]
                variant: None,
            }))),
            None => Err(LoadError(findings)),
        }
    }

    /// Policies that were loaded before, changed or with other entities around them.
    #[cfg(feature = "workbench")]
    pub(crate) fn with_ready(&self, ready: Ready) -> Self {
        Self(Arc::new(Inner {
            warnings: Vec::new(),
            ready,
            plans: BTreeMap::new(),
            anybodies: Anybodies::default(),
            vocabulary: Arc::clone(&self.0.vocabulary),
            variant: None,
        }))
    }

    /// The vocabulary that the policies were validated against: the built-in one and the user's own.
    #[cfg(feature = "workbench")]
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.0.vocabulary
    }

    /// The policies and entities that plans are compiled from.
    #[cfg(feature = "workbench")]
    pub(crate) fn ready(&self) -> &Ready {
        &self.0.ready
    }

    /// What is worth a look and did not keep the policies from loading.
    #[must_use]
    pub fn warnings(&self) -> &[Finding] {
        &self.0.warnings
    }

    /// The declared profiles, sorted by name.
    #[must_use]
    pub fn profiles(&self) -> Vec<String> {
        self.0.ready.profiles.iter().cloned().collect()
    }

    /// The keys by which publishers sign modules, sorted by publisher.
    #[must_use]
    pub fn publisher_keys(&self) -> Vec<PublisherKey> {
        keys(&self.0.ready.entities)
    }

    /// Compiles the plan of one principal.
    ///
    /// # Errors
    ///
    /// When its profile is not declared, or no exact plan exists.
    pub fn plan(&self, principal: &Principal) -> Result<Plan, PlanError> {
        let Inner {
            ready,
            plans,
            anybodies,
            vocabulary,
            ..
        } = &*self.0;
        if !ready.profiles.contains(&principal.profile) {
            let nearest = nearest(&principal.profile, ready.profiles.iter().map(String::as_str));
            return Err(PlanError::UnknownProfile {
                name: principal.profile.clone(),
                nearest,
            });
        }
        #[cfg(feature = "workbench")]
        if let Some(variant) = &self.0.variant {
            return variant.plan(ready, principal);
        }
        if *principal == Principal::profile(&principal.profile)
            && let Some(plan) = plans.get(&principal.profile)
        {
            return Ok(plan.clone());
        }
        let compile = |principal: &Principal| {
            Compiler::new(ready, vocabulary, principal)
                .map_err(|problem| vec![problem])
                .and_then(|compiler| compiler.plan())
        };
        if let Some(plan) = anybodies.plan(principal, ready, |anybody| compile(anybody).ok()) {
            return Ok(plan);
        }
        compile(principal).map_err(|problems| self.first_of(problems, principal))
    }

    /// Where a policy is written.
    #[must_use]
    pub fn locate(&self, policy_id: &str) -> Option<&Location> {
        self.0
            .ready
            .policies
            .iter()
            .find(|policy| policy.id == policy_id)
            .map(|policy| &policy.location)
    }

    /// What compiles the plan of one principal.
    #[cfg(feature = "workbench")]
    pub(crate) fn compiler<'a>(&'a self, principal: &'a Principal) -> Result<Compiler<'a>, PlanError> {
        Compiler::new(&self.0.ready, &self.0.vocabulary, principal)
            .map_err(|problem| self.first_of(vec![problem], principal))
    }

    fn first_of(&self, problems: Vec<NoPlan>, principal: &Principal) -> PlanError {
        match problems.into_iter().next() {
            Some(problem) => self.refusal(problem, principal),
            None => PlanError::Engine("no reason was given".to_owned()),
        }
    }

    /// Why this principal has no plan, in the words of callers.
    pub(crate) fn refusal(&self, problem: NoPlan, principal: &Principal) -> PlanError {
        match problem {
            NoPlan::Profile { declared } => PlanError::ProfileConflict {
                principal: principal.id.clone(),
                asked: principal.profile.clone(),
                declared,
            },
            NoPlan::Mismatch { meter, amount } => PlanError::Mismatch { meter, amount },
            NoPlan::Engine(error) => PlanError::Engine(error),
            problem @ NoPlan::Meter(..) => PlanError::Refused(Box::new(finding_of(&problem, principal, &self.0.ready))),
        }
    }

    /// The same policies with one thing changed.
    #[cfg(feature = "workbench")]
    pub(crate) fn variant(&self, ready: Ready, variant: crate::mutate::Variant) -> Self {
        Self(Arc::new(Inner {
            warnings: Vec::new(),
            ready,
            plans: BTreeMap::new(),
            anybodies: Anybodies::default(),
            vocabulary: Arc::clone(&self.0.vocabulary),
            variant: Some(variant),
        }))
    }

    /// What this store is a variant of.
    #[cfg(feature = "workbench")]
    pub(crate) fn as_variant(&self) -> Option<&crate::mutate::Variant> {
        self.0.variant.as_ref()
    }
}

impl fmt::Debug for PolicyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyStore")
            .field("policies", &self.0.ready.policies.len())
            .field("profiles", &self.0.ready.profiles)
            .finish_non_exhaustive()
    }
}
