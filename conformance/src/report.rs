//! What a replay found, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stockade_runtime::{Class, Event, Layer, Outcome};

use crate::case::{Case, Expected, Kind, Threat};
use crate::replay::Trial;
use crate::suite::{Machine, Shard, Suite};

/// Events of a trail that a report keeps: its beginning. How it ends, the outcome says.
const MOST_EVENTS: usize = 40;

/// What came of one trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialReport {
    /// How the case was played.
    #[schemars(with = "String")]
    pub trial: Trial,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The outcome's class, where there was an outcome.
    #[schemars(with = "Option<String>")]
    pub class: Option<Class>,
    /// The layer that stopped the guest.
    #[schemars(with = "Option<String>")]
    pub layer: Option<Layer>,
    /// Wall-clock time of the guest, in milliseconds.
    pub guest_ms: u64,
    /// Wall-clock time of the whole trial, in milliseconds.
    pub total_ms: u64,
    /// What the guest asked and was answered, from the beginning; of the run as users run it only, and not all of a long one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub trail: Vec<Event>,
}

/// All trials of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseReport {
    /// The case.
    pub id: String,
    /// Why it matters.
    pub why: String,
    /// What an attacker is after; `None` for an honest guest.
    #[schemars(with = "Option<String>")]
    pub threat: Option<Threat>,
    /// Whether it is a fault that must not come back.
    pub is_regression: bool,
    /// What the case expects.
    #[schemars(with = "String")]
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
            total_ms: millis(total),
            trail: match (trial, outcome) {
                (Trial::Fenced, Some(outcome)) => outcome.trail.events().iter().take(MOST_EVENTS).cloned().collect(),
                _ => Vec::new(),
            },
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

    /// The trials that did not pass.
    pub fn failed_trials(&self) -> impl Iterator<Item = &TrialReport> {
        self.trials.iter().filter(|trial| trial.verdict != Verdict::Passed)
    }

    /// Trials of one kind whose verdicts differ: nobody knows which of them is true.
    #[must_use]
    pub fn is_flaky(&self) -> bool {
        let differs = |one: &TrialReport| {
            let mut same = self.trials.iter().filter(|other| other.trial == one.trial);
            same.any(|other| (other.verdict == Verdict::Passed) != (one.verdict == Verdict::Passed))
        };
        self.trials.iter().any(differs)
    }

    fn slowest_ms(&self) -> u64 {
        self.trials.iter().map(|trial| trial.total_ms).max().unwrap_or(0)
    }
}

/// How many of the cases played the subject held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// All.
    pub cases: usize,
    /// Attacks that it stopped, or honest guests that completed.
    pub held: usize,
    /// Attacks that nothing stopped.
    pub undetected: usize,
}

/// The cases of a report, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Attacks, by what the attacker is after.
    #[schemars(with = "BTreeMap<String, Tally>")]
    pub attacks: BTreeMap<Threat, Tally>,
    /// Honest guests.
    pub benign: Tally,
    /// Faults that must not come back.
    pub regressions: Tally,
    /// Attacks that did their harm when nobody stopped them.
    pub harmful: usize,
    /// Attacks that this build cannot play undefended, because what they use is not compiled in.
    pub compiled_out: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases without a verdict.
    pub unknown: usize,
    /// Cases with trials whose verdicts differ.
    pub flaky: usize,
    /// The case with the slowest trial, and its milliseconds.
    pub slowest: Option<(String, u64)>,
}

impl Summary {
    fn of(cases: &[CaseReport]) -> Self {
        let mut attacks: BTreeMap<Threat, Tally> = BTreeMap::new();
        let mut benign = Tally::default();
        let mut regressions = Tally::default();
        for case in cases {
            let tally = match case.threat {
                Some(threat) => attacks.entry(threat).or_default(),
                None if case.is_regression => &mut regressions,
                None => &mut benign,
            };
            tally.cases += 1;
            tally.held += usize::from(case.held());
            tally.undetected += usize::from(case.is_undetected());
        }
        let count = |is: fn(&CaseReport) -> bool| cases.iter().filter(|case| is(case)).count();
        let slowest = cases.iter().max_by_key(|case| case.slowest_ms());
        Self {
            attacks,
            benign,
            regressions,
            harmful: count(CaseReport::is_harmful),
            compiled_out: count(CaseReport::is_compiled_out),
            failed: count(|case| !case.passed() && !case.is_unknown()),
            unknown: count(CaseReport::is_unknown),
            flaky: count(CaseReport::is_flaky),
            slowest: slowest.map(|case| (case.id.clone(), case.slowest_ms())),
        }
    }
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What was played.
    pub suite: Suite,
    /// On what.
    pub machine: Machine,
    /// The subject.
    pub subject: String,
    /// Which part of the suite, where it was not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Wall-clock time of the replay, in milliseconds; of shards, all together.
    pub total_ms: u64,
    /// The cases, counted.
    pub summary: Summary,
    /// Every case, in the order of the corpus.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Adds up the cases.
    #[must_use]
    pub fn of(subject: impl Into<String>, suite: Suite, cases: Vec<CaseReport>, total: Duration) -> Self {
        Self {
            suite,
            machine: Machine::this(),
            subject: subject.into(),
            shard: None,
            total_ms: millis(total),
            summary: Summary::of(&cases),
            cases,
        }
    }

    /// Whether every case passed. A replay of nothing did not, unless it was a shard to which nothing fell.
    #[must_use]
    pub fn passed(&self) -> bool {
        (self.shard.is_some() || !self.cases.is_empty()) && self.cases.iter().all(CaseReport::passed)
    }

    /// The JSON Schema of a report.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`ReportError`] for text that is no report of this version, or one whose figures do not follow from its cases.
    pub fn parse(name: &str, text: &str) -> Result<Self, ReportError> {
        let wrong = |reason: String| ReportError {
            name: name.to_owned(),
            reason,
        };
        let report: Self = serde_json::from_str(text).map_err(|error| wrong(why_unread(text, &error)))?;
        if report.suite.report != crate::suite::REPORT_VERSION {
            return Err(wrong(another_version(&report.suite.report.into())));
        }
        if let Some(Err(reason)) = report.shard.map(|shard| shard.to_string().parse::<Shard>()) {
            return Err(wrong(reason));
        }
        if report.summary != Summary::of(&report.cases) {
            return Err(wrong("its `summary` does not follow from its `cases`".to_owned()));
        }
        Ok(report)
    }

    /// One report of all shards.
    ///
    /// # Errors
    /// [`ReportError`] where they are not the shards of one replay, or not all of them.
    pub fn merged(reports: Vec<(String, Self)>) -> Result<Self, ReportError> {
        let mut reports = reports.into_iter();
        let Some((first_name, mut all)) = reports.next() else {
            return Err(ReportError {
                name: "no file".to_owned(),
                reason: "there is nothing to merge".to_owned(),
            });
        };
        let mut shards = vec![all.shard];
        let mut known: BTreeSet<String> = all.cases.iter().map(|case| case.id.clone()).collect();
        for (name, report) in reports {
            let wrong = |reason: String| ReportError {
                name: name.clone(),
                reason,
            };
            if let Some(what) = all.differs(&report) {
                return Err(wrong(format!("it is of another {what} than `{first_name}`")));
            }
            if let Some(twice) = report.cases.iter().find(|case| !known.insert(case.id.clone())) {
                return Err(wrong(format!("it has `{}`, and so has a report before it", twice.id)));
            }
            all.total_ms = all.total_ms.saturating_add(report.total_ms);
            all.cases.extend(report.cases);
            shards.push(report.shard);
        }
        if let Some(reason) = Shard::missing(&shards) {
            return Err(ReportError {
                name: first_name,
                reason,
            });
        }
        all.shard = None;
        all.cases.sort_by(|one, other| one.id.cmp(&other.id));
        all.summary = Summary::of(&all.cases);
        Ok(all)
    }

    fn differs(&self, other: &Self) -> Option<&'static str> {
        if self.suite != other.suite {
            return Some("suite or corpus");
        }
        if self.subject != other.subject {
            return Some("subject");
        }
        (self.machine.layers != other.machine.layers).then_some("machine, with other layers in force,")
    }
}

/// Why a file is not a report, or reports do not go together.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {reason}")]
pub struct ReportError {
    /// The file.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Why text is no report: what is of another version need not look like one of this.
fn why_unread(text: &str, error: &serde_json::Error) -> String {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(text) else {
        return format!("this is no JSON: {error}");
    };
    match document.pointer("/suite/report") {
        None => "this is no report of a replay: it has no `suite.report`".to_owned(),
        Some(version) if *version == crate::suite::REPORT_VERSION => error.to_string(),
        Some(other) => another_version(other),
    }
}

fn another_version(version: &serde_json::Value) -> String {
    format!(
        "it is a report of version {version}, and this program reads version {}: play it again",
        crate::suite::REPORT_VERSION
    )
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
