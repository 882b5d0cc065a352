//! Plays cases against subjects, several at a time.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use stockade_runtime::{Layer, Layers, RuntimeError, presence};

use crate::case::{Case, Kind};
use crate::corpus::Corpus;
use crate::neighbour;
use crate::oracle::{self, Faults};
use crate::report::{CaseReport, Verdict};
use crate::stage::{Stage, StageError};
use crate::subject::{Ablation, Laboratory, Observed, Reference, Subject, SubjectError, WhatEnded};

/// One way to play a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// As users run it: must be what the case expects.
    Fenced,
    /// Undefended: an attack must do its harm, an honest guest its work.
    Control,
    /// One layer only: it must stop the attack.
    Alone(Layer),
    /// Every layer but one of those that stop it: the others must.
    Without(Layer),
    /// Every layer but those that stop it: nothing else may.
    Missing,
    /// No layer, judged as if it were fenced: what a subject without a fence fails.
    Undefended,
}

impl Trial {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Fenced => "reference".to_owned(),
            Self::Control => "control".to_owned(),
            Self::Alone(layer) => format!("alone/{layer}"),
            Self::Without(layer) => format!("without/{layer}"),
            Self::Missing => "missing".to_owned(),
            Self::Undefended => "undefended".to_owned(),
        }
    }

    fn subject(self, case: &Case, without: Option<Layer>, laboratory: &Arc<Laboratory>) -> Box<dyn Subject> {
        let layers = match self {
            Self::Fenced if without.is_none() => return Box::new(Reference::new(laboratory)),
            Self::Fenced => Layers::ALL,
            Self::Control | Self::Undefended => Layers::NONE,
            Self::Alone(layer) => Layers::from_iter([layer]),
            Self::Without(layer) => Layers::ALL.without(layer),
            Self::Missing => case
                .attack()
                .map_or(&[][..], |attack| attack.stopped_by.as_slice())
                .iter()
                .fold(Layers::ALL, |layers, layer| layers.without(*layer)),
        };
        let layers = without.map_or(layers, |layer| layers.without(layer));
        Box::new(Ablation::new(laboratory, self.name(), layers))
    }
}

impl FromStr for Trial {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let layer = |name: &str| Layer::ALL.iter().copied().find(|layer| layer.name() == name);
        let trial = match name.split_once('/') {
            Some(("alone", name)) => layer(name).map(Self::Alone),
            Some(("without", name)) => layer(name).map(Self::Without),
            _ => [Self::Fenced, Self::Control, Self::Missing, Self::Undefended]
                .into_iter()
                .find(|trial| trial.name() == name),
        };
        trial.ok_or_else(|| format!("`{name}` is no trial"))
    }
}

impl<'de> serde::Deserialize<'de> for Trial {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Trial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// The ways in which each case is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rigour {
    /// Fenced, and undefended to see that the harm is real.
    Standard,
    /// That, each layer alone, each missing, and all of them missing: every way that proves a case.
    Proof,
    /// Only undefended, and judged as if it were fenced.
    Undefended,
}

impl Rigour {
    /// The trials of one case.
    #[must_use]
    pub fn trials(self, case: &Case) -> Vec<Trial> {
        let layers = case.attack().map_or(&[][..], |attack| attack.stopped_by.as_slice());
        let trials = match self {
            Self::Undefended => return vec![Trial::Undefended],
            Self::Standard => vec![Trial::Fenced, Trial::Control],
            Self::Proof => {
                let mut trials = vec![Trial::Fenced, Trial::Control];
                trials.extend(layers.iter().map(|layer| Trial::Alone(*layer)));
                // Without the only one is without all.
                trials.extend(
                    layers
                        .iter()
                        .filter(|_| layers.len() > 1)
                        .map(|layer| Trial::Without(*layer)),
                );
                trials.extend(case.attack().map(|_| Trial::Missing));
                trials
            }
        };
        if !layers.contains(&Layer::Build) {
            return trials;
        }
        // What is not compiled in, no other layer gets to see, and no control can use. Both halves are proven, each by its
        // own build.
        let is_hardened = is_hardened();
        let is_for_this_build = |trial: &Trial| match trial {
            Trial::Alone(Layer::Build) => is_hardened,
            // What is compiled in stays: the others cannot be tried without it, nor it without the others.
            Trial::Without(Layer::Build) | Trial::Control | Trial::Alone(_) | Trial::Missing => !is_hardened,
            Trial::Fenced | Trial::Undefended | Trial::Without(_) => true,
        };
        trials.into_iter().filter(is_for_this_build).collect()
    }
}

/// Whether the layer `build` is in force.
fn is_hardened() -> bool {
    static HARDENED: OnceLock<bool> = OnceLock::new();
    *HARDENED.get_or_init(|| {
        presence()
            .iter()
            .any(|found| found.layer == Layer::Build && found.is_there)
    })
}

/// Why a trial has no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// The stage could not be set or looked at.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The subject does not know what happened.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// What came of one trial.
pub struct Played {
    /// What must not be; empty when all is well.
    pub faults: Faults,
    /// What was seen.
    pub observed: Observed,
}

/// Plays one case once.
///
/// # Errors
/// [`TrialError`] where nobody knows what happened: never a pass.
pub fn play(case: &Case, trial: Trial, corpus: &Corpus, laboratory: &Arc<Laboratory>) -> Result<Played, TrialError> {
    play_without(case, trial, None, corpus, laboratory)
}

/// As [`play`], with one layer less than the trial has.
fn play_without(
    case: &Case,
    trial: Trial,
    without: Option<Layer>,
    corpus: &Corpus,
    laboratory: &Arc<Laboratory>,
) -> Result<Played, TrialError> {
    let stage = Stage::set(case, corpus)?;
    let observed = match trial.subject(case, without, laboratory).run(case, &stage) {
        // Only a case that is about the file says what must become of a file that cannot be used.
        Err(SubjectError::Runtime(RuntimeError::Database { reason, .. })) if is_about_the_file(case) => {
            Observed::unusable(reason)
        }
        ran => ran?,
    };
    let mut faults = match trial {
        Trial::Fenced | Trial::Undefended => {
            let runtime = laboratory.runtime(case)?;
            let plan = runtime.plan(&stage.request(case)).map_err(SubjectError::from)?;
            oracle::judge(case, &plan, &observed, &stage)?
        }
        Trial::Control => oracle::judge_control(case, &observed, &stage)?,
        Trial::Alone(layer) => oracle::judge_alone(case, layer, &observed, &stage)?,
        Trial::Without(layer) => oracle::judge_without(case, layer, &observed, &stage)?,
        Trial::Missing => oracle::judge_missing(case, &observed, &stage)?,
    };
    if trial == Trial::Fenced && case.attack().is_some() {
        faults.extend(neighbour::disturbed(laboratory)?);
    }
    Ok(Played { faults, observed })
}

fn is_about_the_file(case: &Case) -> bool {
    matches!(case.kind, Kind::Regression(_))
}

/// How far a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Cases done.
    pub done: usize,
    /// All cases.
    pub total: usize,
    /// The case just done.
    pub case: &'a str,
    /// What came of it; nothing where only attacks are counted.
    pub report: Option<&'a CaseReport>,
}

/// How a corpus is played.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The ways in which each case is played.
    pub rigour: Rigour,
    /// How often each of them: a verdict that is not always the same is none.
    pub repeat: u32,
    /// Cases at a time.
    pub jobs: usize,
    /// A layer that is taken away from every trial, to see that it is missed.
    pub without: Option<Layer>,
}

/// Plays every case of the corpus in this manner.
///
/// The reports come in the order of the corpus. A trial without a verdict is [`Verdict::Unknown`], never a pass.
pub fn replay(
    corpus: &Corpus,
    manner: Manner,
    laboratory: &Arc<Laboratory>,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Vec<CaseReport> {
    let cases = corpus.cases();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::with_capacity(cases.len()));
    thread::scope(|scope| {
        for _ in 0..manner.jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = play_all(case, manner, corpus, laboratory);
                    progress(Progress {
                        done: done.fetch_add(1, Ordering::Relaxed) + 1,
                        total: cases.len(),
                        case: &case.id,
                        report: Some(&report),
                    });
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by(|one, other| one.id.cmp(&other.id));
    reports
}

fn play_all(case: &Case, manner: Manner, corpus: &Corpus, laboratory: &Arc<Laboratory>) -> CaseReport {
    let mut report = CaseReport::new(case);
    let trials = manner.rigour.trials(case);
    for trial in (0..manner.repeat.max(1)).flat_map(|_| trials.iter().copied()) {
        let begun = Instant::now();
        let played = play_without(case, trial, manner.without, corpus, laboratory);
        let verdict = match &played {
            Ok(played) if played.faults.is_empty() => Verdict::Passed,
            Ok(played) => Verdict::Failed(played.faults.clone()),
            Err(error) => Verdict::Unknown(error.to_string()),
        };
        let outcome = played.ok().and_then(|played| match played.observed.ended {
            WhatEnded::Outcome(outcome) => Some(*outcome),
            WhatEnded::Stopped(_) | WhatEnded::Crashed { .. } | WhatEnded::Unusable(_) => None,
        });
        report.add(trial, verdict, outcome.as_ref(), begun.elapsed());
    }
    report
}
