//! What a replay found, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use stockade_runtime::{Class, Layer, Outcome};

use crate::case::{Case, Expected, Kind, Threat};
use crate::replay::Trial;

/// What came of one trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "because")]
pub enum Verdict {
    /// What had to happen happened.
    Passed,
    /// It did not.
    Failed(Vec<String>),
    /// Nobody knows: never a pass.
    Unknown(String),
}

/// One trial of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialReport {
    /// How the case was played.
    pub trial: Trial,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The outcome's class, where there was an outcome.
    pub class: Option<Class>,
    /// The layer that stopped the guest.
    pub layer: Option<Layer>,
    /// Wall-clock time of the guest, in milliseconds.
    pub guest_ms: u64,
    /// Wall-clock time of the whole trial, in milliseconds.
    pub total_ms: u64,
}

/// All trials of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    /// The case.
    pub id: String,
    /// Why it matters.
    pub why: String,
    /// What an attacker is after; `None` for an honest guest.
    pub threat: Option<Threat>,
    /// Whether it is a fault that must not come back.
    pub is_regression: bool,
    /// What the case expects.
    pub expect: Expected,
    /// The trials.
    pub trials: Vec<TrialReport>,
}

impl CaseReport {
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            id: case.id.clone(),
            why: case.why.clone(),
            threat: match &case.kind {
                Kind::Attack(attack) => Some(attack.threat),
                Kind::Benign(_) | Kind::Regression(_) => None,
            },
            is_regression: matches!(case.kind, Kind::Regression(_)),
            expect: case.expect,
            trials: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, trial: Trial, verdict: Verdict, outcome: Option<&Outcome>, total: Duration) {
        self.trials.push(TrialReport {
            trial,
            verdict,
            class: outcome.map(|outcome| outcome.class),
            layer: outcome.and_then(|outcome| outcome.layer),
            guest_ms: outcome.map_or(0, |outcome| outcome.wall_us / 1000),
            total_ms: u64::try_from(total.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Whether every trial passed. A case that was not played did not pass.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.trials.is_empty() && self.trials.iter().all(|trial| trial.verdict == Verdict::Passed)
    }

    /// Whether any trial has no verdict.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.trials
            .iter()
            .any(|trial| matches!(trial.verdict, Verdict::Unknown(_)))
    }

    /// Whether the subject stopped the attack, or let the honest guest do its work. An attack that was stopped otherwise
    /// than the case says is held and still fails its verdict.
    #[must_use]
    pub fn held(&self) -> bool {
        self.by_subject().is_some_and(|trial| match self.threat {
            Some(_) => trial.layer.is_some() && !matches!(trial.verdict, Verdict::Unknown(_)),
            None => trial.verdict == Verdict::Passed,
        })
    }

    /// Whether nothing in the subject stopped the attack.
    #[must_use]
    pub fn is_undetected(&self) -> bool {
        self.threat.is_some()
            && self
                .by_subject()
                .is_some_and(|trial| trial.layer.is_none() && !matches!(trial.verdict, Verdict::Unknown(_)))
    }

    fn by_subject(&self) -> Option<&TrialReport> {
        let subject = [Trial::Fenced, Trial::Undefended];
        self.trials.iter().find(|trial| subject.contains(&trial.trial))
    }

    fn is_harmful(&self) -> bool {
        self.threat.is_some()
            && self
                .trials
                .iter()
                .any(|trial| trial.trial == Trial::Control && trial.verdict == Verdict::Passed)
    }

    /// Whether this build cannot play the control: what the attack uses is not compiled in.
    fn is_compiled_out(&self) -> bool {
        let has = |trial: Trial| self.trials.iter().any(|played| played.trial == trial);
        self.threat.is_some() && has(Trial::Fenced) && !has(Trial::Control)
    }

    fn slowest_ms(&self) -> u64 {
        self.trials.iter().map(|trial| trial.total_ms).max().unwrap_or(0)
    }
}

/// How many of the cases played the subject held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// All.
    pub cases: usize,
    /// Attacks that it stopped, or honest guests that completed.
    pub held: usize,
    /// Attacks that nothing stopped.
    pub undetected: usize,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The subject.
    pub subject: String,
    /// Attacks, by what the attacker is after.
    pub attacks: BTreeMap<Threat, Tally>,
    /// Honest guests.
    pub benign: Tally,
    /// Faults that must not come back.
    pub regressions: Tally,
    /// Attacks that did their harm when nobody stopped them.
    pub harmful: usize,
    /// Attacks that this build cannot play undefended, because what they use is not compiled in.
    pub compiled_out: usize,
    /// Cases without a verdict.
    pub unknown: usize,
    /// The case with the slowest trial, and its milliseconds.
    pub slowest: Option<(String, u64)>,
    /// Wall-clock time of the replay, in milliseconds.
    pub total_ms: u64,
    /// Every case.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Adds up the cases.
    #[must_use]
    pub fn of(subject: impl Into<String>, cases: Vec<CaseReport>, total: Duration) -> Self {
        let mut attacks: BTreeMap<Threat, Tally> = BTreeMap::new();
        let mut benign = Tally::default();
        let mut regressions = Tally::default();
        for case in &cases {
            let tally = match case.threat {
                Some(threat) => attacks.entry(threat).or_default(),
                None if case.is_regression => &mut regressions,
                None => &mut benign,
            };
            tally.cases += 1;
            tally.held += usize::from(case.held());
            tally.undetected += usize::from(case.is_undetected());
        }
        let slowest = cases.iter().max_by_key(|case| case.slowest_ms());
        Self {
            subject: subject.into(),
            attacks,
            benign,
            regressions,
            harmful: cases.iter().filter(|case| case.is_harmful()).count(),
            compiled_out: cases.iter().filter(|case| case.is_compiled_out()).count(),
            unknown: cases.iter().filter(|case| case.is_unknown()).count(),
            slowest: slowest.map(|case| (case.id.clone(), case.slowest_ms())),
            total_ms: u64::try_from(total.as_millis()).unwrap_or(u64::MAX),
            cases,
        }
    }

    /// Whether every case passed. A replay of nothing did not.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(CaseReport::passed)
    }
}
