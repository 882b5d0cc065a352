//! What became of the mutants.

use serde::Serialize;

use crate::finding::{Code, Location};
use crate::mutate::Operator;

/// What became of the mutants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// All of them.
    pub total: usize,
    /// Noticed: by `check`, by a test or by an attack.
    pub killed: usize,
    /// They mean the same as the original.
    pub equivalent: usize,
    /// No policies at all: Cedar's validator does not take them.
    pub stillborn: usize,
    /// Nobody noticed.
    pub survived: usize,
    /// Time ran out.
    pub unjudged: usize,
    /// Killed of those that could be, in per cent; nothing where none could be.
    pub score: Option<f64>,
    /// Each of them, in the order of the sources.
    pub mutants: Vec<MutantReport>,
}

/// One mutant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MutantReport {
    /// The policy's `@id`, or the entity.
    pub subject: String,
    /// Where that is written.
    pub location: Location,
    /// What is wrong with the mutant.
    pub operator: Operator,
    /// The lines that differ, each with `-` or `+` in front. Cedar, printed in one way whatever the author's.
    pub diff: Vec<String>,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of one mutant.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Verdict {
    /// Noticed.
    Killed {
        /// By what.
        by: Killer,
    },
    /// It means the same as the original.
    Equivalent {
        /// A solver was needed to see that.
        proven: bool,
    },
    /// Cedar's validator does not take it.
    Stillborn {
        /// What it says.
        because: String,
    },
    /// Nobody noticed.
    Survived {
        /// A question that tells it apart, where one was found.
        example: Option<Example>,
    },
    /// Time ran out.
    Unjudged,
}

/// What noticed a mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Killer {
    /// The policies would not load.
    Check(Code),
    /// This test fails.
    Test(String),
    /// This attack, or honest guest, is no longer what it says.
    Attack(String),
}

/// A question that the original and the mutant answer differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Who asks for what, in words.
    pub question: String,
    /// What the original answers.
    pub allowed: bool,
    /// The question as a test, in YAML, to be put below `requests:`.
    pub test: String,
}

impl Report {
    pub(crate) fn of(mutants: Vec<MutantReport>) -> Self {
        let count = |is: fn(&Verdict) -> bool| mutants.iter().filter(|mutant| is(&mutant.verdict)).count();
        let killed = count(|verdict| matches!(verdict, Verdict::Killed { .. }));
        let equivalent = count(|verdict| matches!(verdict, Verdict::Equivalent { .. }));
        let stillborn = count(|verdict| matches!(verdict, Verdict::Stillborn { .. }));
        let killable = mutants.len() - equivalent - stillborn;
        Self {
            total: mutants.len(),
            killed,
            equivalent,
            stillborn,
            survived: count(|verdict| matches!(verdict, Verdict::Survived { .. })),
            unjudged: count(|verdict| matches!(verdict, Verdict::Unjudged)),
            score: percentage(killed, killable),
            mutants,
        }
    }

    /// The mutants that nobody noticed.
    pub fn survivors(&self) -> impl Iterator<Item = &MutantReport> {
        let is_survivor = |mutant: &&MutantReport| matches!(mutant.verdict, Verdict::Survived { .. });
        self.mutants.iter().filter(is_survivor)
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 mutants")]
fn percentage(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}
