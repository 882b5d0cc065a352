//! Which layer stops which attack, alone and when it is missing.

use std::fmt;

use serde::Serialize;
use stockade_runtime::Layer;

use crate::replay::Trial;
use crate::report::{CaseReport, Verdict};

/// What one layer is worth against one attack, as far as trials showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worth {
    /// It stops the attack alone, and so do others: without it the attack is stopped too.
    Stops,
    /// It stops the attack alone, and nothing else does.
    Only,
    /// It does not: with every layer that is said to stop the attack missing, and this one in force, the harm is done.
    No,
    /// A trial says otherwise than the case, or has no verdict.
    Disputed,
    /// This build cannot tell: what the attack uses is not compiled in.
    Untold,
}

impl Worth {
    /// One character for a table.
    #[must_use]
    pub const fn mark(self) -> char {
        match self {
            Self::Stops => 'x',
            Self::Only => 'X',
            Self::No => '.',
            Self::Disputed => '!',
            Self::Untold => '?',
        }
    }
}

/// One attack, and what each layer is worth against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The attack.
    pub case: String,
    /// How many layers stop it alone.
    pub depth: usize,
    /// The layer that stopped it with all in force.
    pub by: Option<Layer>,
    /// Each layer, in the order in which a guest meets them.
    pub worth: Vec<(Layer, Worth)>,
}

/// The attacks of a replay that proved them ([`crate::Rigour::Proof`]), and what each layer is worth against each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Matrix {
    /// A row for each attack, in the order of the corpus.
    pub rows: Vec<Row>,
}

impl Matrix {
    /// What the trials of these cases showed. Honest guests and old faults have no row.
    #[must_use]
    pub fn of(cases: &[CaseReport]) -> Self {
        let attacks = cases.iter().filter(|case| case.threat.is_some());
        Self {
            rows: attacks.map(row).collect(),
        }
    }
}

fn row(case: &CaseReport) -> Row {
    let worth: Vec<_> = Layer::ALL.iter().map(|layer| (*layer, worth(case, *layer))).collect();
    let stops = |(_, worth): &&(Layer, Worth)| matches!(worth, Worth::Stops | Worth::Only);
    let fenced = case.trials.iter().find(|trial| trial.trial == Trial::Fenced);
    Row {
        case: case.id.clone(),
        depth: worth.iter().filter(stops).count(),
        by: fenced.and_then(|trial| trial.layer),
        worth,
    }
}

fn worth(case: &CaseReport, layer: Layer) -> Worth {
    let passed = |wanted: Trial| {
        let mut trials = case.trials.iter();
        let found = trials.find(|trial| trial.trial == wanted)?;
        Some(found.verdict == Verdict::Passed)
    };
    let stops_alone = passed(Trial::Alone(layer));
    let harm_without_all = passed(Trial::Missing);
    match (stops_alone, passed(Trial::Without(layer)), harm_without_all) {
        (Some(true), Some(true), _) => Worth::Stops,
        (Some(true), None, Some(true)) => Worth::Only,
        (None, None, Some(true)) => Worth::No,
        (Some(true) | None, Some(true) | None, None) => Worth::Untold,
        _ => Worth::Disputed,
    }
}

impl fmt::Display for Matrix {
    /// A column for each layer that stops any of the attacks, its name from top to bottom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_worth = |layer: &Layer| {
            self.rows
                .iter()
                .flat_map(|row| &row.worth)
                .any(|(of, worth)| of == layer && !matches!(worth, Worth::No | Worth::Untold))
        };
        let layers: Vec<Layer> = Layer::ALL.iter().copied().filter(is_worth).collect();
        let width = self
            .rows
            .iter()
            .map(|row| row.case.len())
            .max()
            .unwrap_or(0)
            .max("attack".len());
        let height = layers.iter().map(|layer| layer.name().len()).max().unwrap_or(0);
        for line in 0..height {
            let is_last = line + 1 == height;
            let (attack, depth) = if is_last { ("attack", "depth") } else { ("", "") };
            write!(f, "{attack:<width$} {depth:>5} ")?;
            for layer in &layers {
                let name = layer.name();
                let letter = (line + name.len())
                    .checked_sub(height)
                    .and_then(|at| name.chars().nth(at));
                write!(f, " {}", letter.unwrap_or(' '))?;
            }
            writeln!(f)?;
        }
        for row in &self.rows {
            write!(f, "{:<width$} {:>5} ", row.case, row.depth)?;
            for (_, worth) in row.worth.iter().filter(|(layer, _)| layers.contains(layer)) {
                write!(f, " {}", worth.mark())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::corpus::Corpus;

    fn played(trials: &[(Trial, Verdict)]) -> CaseReport {
        let corpus = Corpus::embedded().unwrap();
        let attack = corpus.cases().iter().find(|case| case.attack().is_some()).unwrap();
        let mut report = CaseReport::new(attack);
        for (trial, verdict) in trials {
            report.add(*trial, verdict.clone(), None, Duration::ZERO);
        }
        report
    }

    fn worths(trials: &[(Trial, Verdict)]) -> [Worth; 2] {
        let report = played(trials);
        [worth(&report, Layer::Screen), worth(&report, Layer::Heap)]
    }

    #[test]
    fn a_layer_is_worth_what_its_trials_showed() {
        use Trial::{Alone, Missing, Without};
        use Verdict::Passed;
        let failed = || Verdict::Failed(vec!["harm was done".to_owned()]);
        let (screen, heap) = (Layer::Screen, Layer::Heap);
        let two = [(Alone(screen), Passed), (Without(screen), Passed), (Missing, Passed)];
        assert_eq!(worths(&two), [Worth::Stops, Worth::No]);
        assert_eq!(
            worths(&[(Alone(heap), Passed), (Missing, Passed)]),
            [Worth::No, Worth::Only]
        );
        assert_eq!(
            worths(&[(Alone(heap), failed()), (Missing, Passed)]),
            [Worth::No, Worth::Disputed]
        );
        assert_eq!(
            worths(&[(Alone(heap), Passed), (Without(heap), failed()), (Missing, Passed)])[1],
            Worth::Disputed
        );
        assert_eq!(
            worths(&[(Alone(heap), Passed), (Missing, failed())]),
            [Worth::Disputed; 2]
        );
        assert_eq!(worths(&[(Alone(heap), Passed)]), [Worth::Untold; 2]);
        let unknown = Verdict::Unknown("no worker".to_owned());
        assert_eq!(worths(&[(Alone(heap), unknown), (Missing, Passed)])[1], Worth::Disputed);
    }

    #[test]
    fn only_layers_that_do_something_have_a_column() {
        let report = played(&[
            (Trial::Alone(Layer::Heap), Verdict::Passed),
            (Trial::Missing, Verdict::Passed),
        ]);
        let text = Matrix::of(&[report]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), "heap".len() + 1);
        assert!(
            lines[0].ends_with(" h") && lines[3].ends_with("depth  p") && lines[4].ends_with("    1  X"),
            "{text}"
        );
    }
}
