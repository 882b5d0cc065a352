//! Other people's runtimes, side by side: what became of each attack and each honest guest.
//!
//! An attack counts as stopped only where it does its harm on that very subject without a plan, and none with it. So a
//! dialect that does not know the attack's words, or a build without what it uses, gets no credit for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use stockade_runtime::Class;

use crate::case::{Attack, Benign, Case, Kind, Threat};
use crate::corpus::Corpus;
use crate::needs::unmet;
use crate::oracle::{harm, judge_control, no_outcome};
use crate::replay::{Progress, Trial, TrialError, play};
use crate::stage::Stage;
use crate::subject::{Laboratory, Observed, Subject, SubjectError, WhatEnded};
use crate::wire::Wired;

/// Where a subject stands with a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The attack did no harm, and does where it is not fenced.
    Stopped,
    /// The harm was done, whatever the adapter says.
    Undetected,
    /// The harness had to end the guest, and saw no harm until then.
    Hung,
    /// The guest brought the process down.
    Crashed,
    /// The honest guest did its work.
    Completed,
    /// The honest guest does its work where it is not fenced, and here it did not.
    Refused,
    /// The attack does no harm on this subject, fenced or not: nothing is shown of its fence.
    Harmless,
    /// The honest guest does not work on this subject, fenced or not.
    Inapplicable,
    /// The subject has no means to express what the case needs.
    Unsupported,
    /// Nobody knows.
    Error,
}

impl Standing {
    /// Every standing.
    pub const ALL: &'static [Self] = &[
        Self::Stopped,
        Self::Undetected,
        Self::Hung,
        Self::Crashed,
        Self::Completed,
        Self::Refused,
        Self::Harmless,
        Self::Inapplicable,
        Self::Unsupported,
        Self::Error,
    ];

    /// The word used in reports and expectations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Undetected => "undetected",
            Self::Hung => "hung",
            Self::Crashed => "crashed",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Harmless => "harmless",
            Self::Inapplicable => "inapplicable",
            Self::Unsupported => "unsupported",
            Self::Error => "error",
        }
    }

    /// Whether the subject was put to the test, and did what it should.
    #[must_use]
    pub const fn is_pass(self) -> bool {
        matches!(self, Self::Stopped | Self::Completed)
    }

    /// Whether the subject was put to the test.
    #[must_use]
    pub const fn is_tried(self) -> bool {
        self.is_pass() || self.is_failure()
    }

    /// Whether the subject was put to the test, and did not.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Undetected | Self::Hung | Self::Crashed | Self::Refused | Self::Error
        )
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where one subject stands with one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stand {
    /// The case.
    pub case: String,
    /// What an attacker is after; `None` for an honest guest.
    pub threat: Option<Threat>,
    /// Where the subject stands with it.
    pub standing: Standing,
    /// The class that the adapter reported, where it did.
    pub class: Option<Class>,
    /// Why, for people.
    pub because: String,
}

/// How many cases stand how.
pub type Standings = BTreeMap<Standing, usize>;

/// One subject, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Score {
    /// The subject.
    pub subject: String,
    /// Its version.
    pub version: String,
    /// Attacks, by what the attacker is after.
    pub attacks: BTreeMap<Threat, Standings>,
    /// Honest guests.
    pub benign: Standings,
    /// Every case.
    pub cases: Vec<Stand>,
}

impl Score {
    fn of(subject: String, version: String, cases: Vec<Stand>) -> Self {
        let mut attacks: BTreeMap<Threat, Standings> = BTreeMap::new();
        let mut benign = Standings::new();
        for stand in &cases {
            let standings = match stand.threat {
                Some(threat) => attacks.entry(threat).or_default(),
                None => &mut benign,
            };
            *standings.entry(stand.standing).or_default() += 1;
        }
        Self {
            subject,
            version,
            attacks,
            benign,
            cases,
        }
    }

    /// How many attacks stand so.
    #[must_use]
    pub fn attacks_that(&self, standing: Standing) -> usize {
        let of = |standings: &Standings| standings.get(&standing).copied().unwrap_or(0);
        self.attacks.values().map(of).sum()
    }
}

/// Puts a runtime behind an adapter to the test of every attack and every honest guest, `jobs` at a time. Old faults are
/// left out: they are about Stockade's own guards.
pub fn score(
    subject: &Wired,
    corpus: &Corpus,
    laboratory: &Arc<Laboratory>,
    jobs: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Score {
    let stands = each(corpus, jobs, progress, &|case| stand(case, subject, corpus, laboratory));
    Score::of(subject.name(), subject.hello().version.clone(), stands)
}

/// The same for Stockade's own runtime, by its own stricter verdicts.
pub fn score_reference(
    corpus: &Corpus,
    laboratory: &Arc<Laboratory>,
    jobs: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Score {
    let stands = each(corpus, jobs, progress, &|case| {
        stand_of_reference(case, corpus, laboratory)
    });
    Score::of("reference".to_owned(), env!("CARGO_PKG_VERSION").to_owned(), stands)
}

fn each(
    corpus: &Corpus,
    jobs: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    stand: &(dyn Fn(&Case) -> Stand + Sync),
) -> Vec<Stand> {
    let is_old_fault = |case: &&Case| matches!(case.kind, Kind::Regression(_));
    let cases: Vec<&Case> = corpus.cases().iter().filter(|case| !is_old_fault(case)).collect();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let stands = Mutex::new(Vec::with_capacity(cases.len()));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let stood = stand(case);
                    stands.lock().unwrap_or_else(PoisonError::into_inner).push(stood);
                    progress(Progress {
                        done: done.fetch_add(1, Ordering::Relaxed) + 1,
                        total: cases.len(),
                        case: &case.id,
                        report: None,
                    });
                }
            });
        }
    });
    let mut stands = stands.into_inner().unwrap_or_else(PoisonError::into_inner);
    stands.sort_by(|one, other| one.case.cmp(&other.case));
    stands
}

/// What was found of one case, before it is named.
type Found = (Standing, Option<Class>, String);

/// Where a runtime behind an adapter stands with a case. Where nobody knows, that is [`Standing::Error`].
#[must_use]
pub fn stand(case: &Case, subject: &Wired, corpus: &Corpus, laboratory: &Arc<Laboratory>) -> Stand {
    let found = find(case, subject, corpus, laboratory);
    named(case, found)
}

fn named(case: &Case, found: Result<Found, TrialError>) -> Stand {
    let (standing, class, because) = found.unwrap_or_else(|error| (Standing::Error, None, error.to_string()));
    Stand {
        case: case.id.clone(),
        threat: case.attack().map(|attack| attack.threat),
        standing,
        class,
        because,
    }
}

fn find(case: &Case, subject: &Wired, corpus: &Corpus, laboratory: &Arc<Laboratory>) -> Result<Found, TrialError> {
    if let Some(needs) = unmet(case, subject.hello(), corpus, laboratory)? {
        return Ok((Standing::Unsupported, None, format!("it would need {needs}")));
    }
    let stage = Stage::set(case, corpus)?;
    let ran = subject.run(case, &stage);
    // What an adapter cannot tell of is looked for all the same.
    let (observed, why_not) = match ran {
        Ok(observed) => (observed, None),
        Err(error) => (Observed::unusable(error.to_string()), Some(error)),
    };
    let class = observed.outcome().map(|outcome| outcome.class);
    let found = match &case.kind {
        Kind::Attack(attack) => of_attack(attack, &observed, why_not, &stage)?,
        Kind::Benign(benign) => of_benign(benign, &observed, why_not, &stage)?,
        Kind::Regression(_) => (Standing::Inapplicable, "an old fault".to_owned()),
    };
    // A pass must mean something, and so must a refusal.
    let is_in_doubt = matches!(found.0, Standing::Stopped | Standing::Refused);
    let without = if is_in_doubt {
        undefended(case, &subject.undefended(), corpus)?
    } else {
        Vec::new()
    };
    if without.is_empty() {
        return Ok((found.0, class, found.1));
    }
    let standing = if found.0 == Standing::Stopped {
        Standing::Harmless
    } else {
        Standing::Inapplicable
    };
    Ok((standing, class, format!("undefended too, {}", without.join("; "))))
}

/// What is amiss where nobody defends; empty where the attack does its harm, or the honest guest its work.
fn undefended(case: &Case, subject: &Wired, corpus: &Corpus) -> Result<Vec<String>, TrialError> {
    let stage = Stage::set(case, corpus)?;
    match subject.run(case, &stage) {
        Ok(observed) => Ok(judge_control(case, &observed, &stage)?),
        Err(SubjectError::Unsupported { needs }) => Ok(vec![format!("it would need {needs}")]),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn of_attack(
    attack: &Attack,
    observed: &Observed,
    why_not: Option<SubjectError>,
    stage: &Stage,
) -> Result<(Standing, String), TrialError> {
    let mut harm = harm(attack, observed, stage)?;
    harm.extend(stage.disturbed()?);
    if !harm.is_empty() {
        // Whether the harness has to end a guest that did its harm, or the guest ends just before, is for the machine's speed
        // to say.
        let standing = match &observed.ended {
            WhatEnded::Crashed { .. } => Standing::Crashed,
            WhatEnded::Stopped(_) | WhatEnded::Outcome(_) | WhatEnded::Unusable(_) => Standing::Undetected,
        };
        return Ok((standing, harm.join("; ")));
    }
    Ok(match (&observed.ended, why_not) {
        (_, Some(SubjectError::Unsupported { needs })) => (Standing::Unsupported, format!("it would need {needs}")),
        (_, Some(error)) => return Err(error.into()),
        (WhatEnded::Stopped(_), _) => (Standing::Hung, no_outcome(observed)),
        (WhatEnded::Crashed { .. }, _) => (Standing::Crashed, no_outcome(observed)),
        (WhatEnded::Unusable(reason), _) => (Standing::Error, reason.clone()),
        (WhatEnded::Outcome(outcome), _) => (Standing::Stopped, format!("`{}` ({})", outcome.class, outcome.detail)),
    })
}

pub(crate) fn of_benign(
    benign: &Benign,
    observed: &Observed,
    why_not: Option<SubjectError>,
    stage: &Stage,
) -> Result<(Standing, String), TrialError> {
    Ok(match (&observed.ended, why_not) {
        (_, Some(SubjectError::Unsupported { needs })) => (Standing::Unsupported, format!("it would need {needs}")),
        (_, Some(error)) => return Err(error.into()),
        (WhatEnded::Outcome(outcome), _) if outcome.class.is_completed() => {
            let missing = benign.returns.missing(&outcome.product, stage)?;
            if missing.is_empty() {
                (Standing::Completed, String::new())
            } else {
                (Standing::Refused, missing.join("; "))
            }
        }
        (WhatEnded::Stopped(_), _) => (Standing::Hung, no_outcome(observed)),
        (WhatEnded::Crashed { .. }, _) => (Standing::Crashed, no_outcome(observed)),
        (WhatEnded::Outcome(_) | WhatEnded::Unusable(_), _) => (Standing::Refused, no_outcome(observed)),
    })
}

fn stand_of_reference(case: &Case, corpus: &Corpus, laboratory: &Arc<Laboratory>) -> Stand {
    let found = play(case, Trial::Fenced, corpus, laboratory).map(|played| {
        let outcome = played.observed.outcome();
        let is_refused = outcome.is_some_and(|outcome| outcome.layer.is_some());
        let standing = match (case.is_benign(), played.faults.is_empty()) {
            (true, true) => Standing::Completed,
            (true, false) => Standing::Refused,
            (false, true) => Standing::Stopped,
            // Stopped, and otherwise than the case says: the case or the runtime is at fault.
            (false, false) if is_refused => Standing::Error,
            (false, false) => Standing::Undetected,
        };
        (standing, outcome.map(|outcome| outcome.class), played.faults.join("; "))
    });
    named(case, found)
}
