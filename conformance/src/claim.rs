//! What is claimed of a subject: dated, and for others to check.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_runtime::Layer;

use crate::corpus::{Corpus, CorpusError};
use crate::replay::Rigour;
use crate::report::{CaseReport, Report, ReportError};
use crate::suite::{Machine, Suite};

/// The version of the claims that this program writes and reads.
pub const CLAIM_VERSION: u32 = 1;

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claimed {
    /// Every trial passed.
    Passed,
    /// These trials did not.
    Failed(Vec<String>),
    /// Nobody knows.
    Unknown,
}

/// What is claimed of a subject: the verdict of every case, on what, of what, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The version of the claim.
    pub claim: u32,
    /// The day, in UTC: `2026-02-21`.
    pub date: String,
    /// The subject.
    pub subject: String,
    /// What was played.
    pub suite: Suite,
    /// On what.
    pub machine: Machine,
    /// Whether the subject conforms: the whole corpus was played in every way that proves it, with every layer, and
    /// everything passed.
    pub conformant: bool,
    /// Why it does not, in words.
    pub because: Vec<String>,
    /// Every case.
    pub verdicts: BTreeMap<String, Claimed>,
}

impl Claim {
    /// What a report lets one claim.
    ///
    /// # Errors
    /// [`CorpusError`] where the corpus of this program does not hold together.
    pub fn of(report: &Report, date: impl Into<String>) -> Result<Self, CorpusError> {
        let verdicts: BTreeMap<String, Claimed> = report
            .cases
            .iter()
            .map(|case| (case.id.clone(), claimed(case)))
            .collect();
        let because = shortcomings(report, &verdicts)?;
        Ok(Self {
            claim: CLAIM_VERSION,
            date: date.into(),
            subject: report.subject.clone(),
            suite: report.suite.clone(),
            machine: report.machine.clone(),
            conformant: because.is_empty(),
            because,
            verdicts,
        })
    }

    /// Reads a claim.
    ///
    /// # Errors
    /// [`ReportError`] for text that is no claim of this version.
    pub fn parse(name: &str, text: &str) -> Result<Self, ReportError> {
        let wrong = |reason: String| ReportError {
            name: name.to_owned(),
            reason,
        };
        let document: serde_json::Value =
            serde_json::from_str(text).map_err(|error| wrong(format!("this is no JSON: {error}")))?;
        match document.get("claim").unwrap_or(&serde_json::Value::Null) {
            version if *version == CLAIM_VERSION => {}
            serde_json::Value::Null => return Err(wrong("this is no claim: it has no `claim`".to_owned())),
            other => {
                return Err(wrong(format!(
                    "it is a claim of version {other}, and this program reads version {CLAIM_VERSION}"
                )));
            }
        }
        serde_json::from_value(document).map_err(|error| wrong(error.to_string()))
    }

    /// Why this program cannot play again what was claimed; nothing where it can.
    #[must_use]
    pub fn cannot_be_verified(&self, suite: &Suite) -> Option<String> {
        let Suite { version, corpus, .. } = &self.suite;
        if *version != suite.version {
            return Some(format!(
                "it was made with version {version}, and this is {}",
                suite.version
            ));
        }
        (*corpus != suite.corpus).then(|| format!("its corpus is {corpus}, and this program's is {}", suite.corpus))
    }

    /// In what `other` says something else, a line each; when it was played is not compared.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.conformant != other.conformant {
            differences.push(format!(
                "conformant: claimed {}, found {}",
                self.conformant, other.conformant
            ));
        }
        if self.machine.layers != other.machine.layers {
            differences.push("the layers in force are not the same".to_owned());
        }
        let ids = self
            .verdicts
            .keys()
            .chain(other.verdicts.keys().filter(|id| !self.verdicts.contains_key(*id)));
        for id in ids {
            let (claimed, found) = (self.verdicts.get(id), other.verdicts.get(id));
            if claimed != found {
                differences.push(format!(
                    "{id}: claimed {}, found {}",
                    in_words(claimed),
                    in_words(found)
                ));
            }
        }
        differences
    }
}

fn claimed(case: &CaseReport) -> Claimed {
    if case.is_unknown() || case.trials.is_empty() {
        return Claimed::Unknown;
    }
    if case.passed() {
        return Claimed::Passed;
    }
    Claimed::Failed(case.failed_trials().map(|trial| trial.trial.name()).collect())
}

fn shortcomings(report: &Report, verdicts: &BTreeMap<String, Claimed>) -> Result<Vec<String>, CorpusError> {
    let whole = Suite::of(&Corpus::embedded()?, Rigour::Proof, report.suite.repeat);
    let mut because = Vec::new();
    if report.suite != whole || report.shard.is_some() {
        because.push("not the whole corpus was played, or not in every way that proves it".to_owned());
    }
    let absent = Layer::ALL.iter().filter(|layer| !report.machine.layers.contains(layer));
    because.extend(absent.map(|layer| format!("layer `{layer}` is not there")));
    let failed = verdicts.iter().filter(|(_, verdict)| **verdict != Claimed::Passed);
    because.extend(failed.map(|(id, verdict)| format!("{id}: {}", in_words(Some(verdict)))));
    Ok(because)
}

fn in_words(claimed: Option<&Claimed>) -> String {
    match claimed {
        None => "nothing".to_owned(),
        Some(Claimed::Passed) => "passed".to_owned(),
        Some(Claimed::Failed(trials)) => format!("failed ({})", trials.join(", ")),
        Some(Claimed::Unknown) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::replay::Trial;
    use crate::report::Verdict;

    /// Every case of the corpus, as it would be reported where all is well.
    fn everything_passed() -> Vec<CaseReport> {
        let corpus = Corpus::embedded().unwrap();
        let passed = |case| {
            let mut report = CaseReport::new(case);
            report.add(Trial::Fenced, Verdict::Passed, None, Duration::ZERO);
            report
        };
        corpus.cases().iter().map(passed).collect()
    }

    fn report(cases: Vec<CaseReport>) -> Report {
        let suite = Suite::of(&Corpus::embedded().unwrap(), Rigour::Proof, 1);
        let mut report = Report::of("reference", suite, cases, Duration::ZERO);
        report.machine.layers = Layer::ALL.to_vec();
        report
    }

    fn claim(report: &Report) -> Claim {
        Claim::of(report, "2026-02-21").unwrap()
    }

    #[test]
    fn conformant_is_who_left_nothing_out_and_failed_nothing() {
        let whole = report(everything_passed());
        assert_eq!(claim(&whole).because, Vec::<String>::new());
        assert!(claim(&whole).conformant);

        let mut without = whole.clone();
        without.machine.layers.retain(|layer| *layer != Layer::Screen);
        assert_eq!(claim(&without).because, ["layer `screen` is not there"]);

        let mut quick = whole.clone();
        quick.suite.rigour = Rigour::Standard;
        assert!(!claim(&quick).conformant);

        let mut failed = whole;
        let id = failed.cases[0].id.clone();
        failed.cases[0].add(
            Trial::Alone(Layer::Screen),
            Verdict::Failed(vec!["harm".to_owned()]),
            None,
            Duration::ZERO,
        );
        assert_eq!(claim(&failed).because, [format!("{id}: failed (alone/screen)")]);
        assert!(!claim(&failed).conformant);
    }

    #[test]
    fn a_claim_that_was_changed_differs_from_what_is_found() {
        let found = claim(&report(everything_passed()));
        assert_eq!(found.differences(&found), Vec::<String>::new());
        let mut claimed = found.clone();
        let id = claimed.verdicts.keys().next().unwrap().clone();
        claimed
            .verdicts
            .insert(id.clone(), Claimed::Failed(vec!["control".to_owned()]));
        assert_eq!(
            claimed.differences(&found),
            [format!("{id}: claimed failed (control), found passed")]
        );
        claimed.verdicts.remove(&id);
        assert_eq!(
            claimed.differences(&found),
            [format!("{id}: claimed nothing, found passed")]
        );
        claimed = found.clone();
        claimed.conformant = false;
        assert_eq!(claimed.differences(&found), ["conformant: claimed false, found true"]);
    }
}
