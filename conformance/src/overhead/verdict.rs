//! Whether a figure keeps a target, where the figure can tell.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::run::Run;
use super::targets::{Bound, Quantity, Target, Targets};

/// Whether a target is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval keeps it, and would with the figure's noise on top.
    Met,
    /// No part of the interval does, nor would with the noise taken off.
    Missed,
    /// The target is nearer than the figure is sure.
    Unsure,
    /// There is no figure, or it is of a build that says nothing of one that is used.
    NotMeasured,
}

impl Verdict {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Unsure => "unsure",
            Self::NotMeasured => "not measured",
        }
    }

    fn of(figure: Figure, bound: Bound) -> Self {
        let (low, high) = (figure.low - figure.noise, figure.high + figure.noise);
        let (is_kept, is_missed) = match bound {
            Bound::Most(most) => (high <= most, low > most),
            Bound::Least(least) => (low >= least, high < least),
        };
        match (figure.is_sound(), is_kept, is_missed) {
            (true, true, _) => Self::Met,
            (true, _, true) => Self::Missed,
            _ => Self::Unsure,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A quantity, what was measured, and what each target comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged<'a> {
    /// What was measured.
    pub quantity: &'a Quantity,
    /// The figure, if there is one.
    pub figure: Option<Figure>,
    /// The targets, in their order.
    pub targets: Vec<(&'a Target, Verdict)>,
}

impl Judged<'_> {
    /// Why a target is missed, where one is and a reason is known.
    #[must_use]
    pub fn because(&self) -> Option<&str> {
        let is_missed = self.targets.iter().any(|(_, verdict)| *verdict == Verdict::Missed);
        self.quantity.because.as_deref().filter(|_| is_missed)
    }
}

/// Holds a run against the targets, all of them.
#[must_use]
pub fn judge<'a>(run: &Run, targets: &'a Targets) -> Vec<Judged<'a>> {
    let judged = targets.quantities.iter().map(|quantity| {
        let figure = run.figures.get(&quantity.id).copied();
        let verdict = |target: &Target| match figure {
            Some(figure) if run.host.is_optimised => Verdict::of(figure, target.bound),
            _ => Verdict::NotMeasured,
        };
        Judged {
            quantity,
            figure,
            targets: quantity
                .targets
                .iter()
                .map(|target| (target, verdict(target)))
                .collect(),
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::run;
    use super::*;

    fn figure(value: f64, noise: f64) -> Figure {
        Figure {
            value,
            low: value - 0.01,
            high: value + 0.01,
            noise,
        }
    }

    #[test]
    fn a_verdict_wants_the_whole_interval_on_one_side() {
        let most = |figure| Verdict::of(figure, Bound::Most(1.05));
        assert_eq!(most(figure(1.03, 0.0)), Verdict::Met);
        assert_eq!(most(figure(1.045, 0.0)), Verdict::Unsure, "the interval reaches beyond");
        assert_eq!(most(figure(1.07, 0.0)), Verdict::Missed);
        let least = |figure| Verdict::of(figure, Bound::Least(0.8));
        assert_eq!(least(figure(0.9, 0.0)), Verdict::Met);
        assert_eq!(least(figure(0.805, 0.0)), Verdict::Unsure);
        assert_eq!(least(figure(0.7, 0.0)), Verdict::Missed);
    }

    #[test]
    fn a_control_that_is_noisier_than_the_margin_takes_the_verdict_away() {
        let most = |figure| Verdict::of(figure, Bound::Most(1.05));
        assert_eq!(most(figure(1.03, 0.02)), Verdict::Unsure);
        assert_eq!(most(figure(1.07, 0.02)), Verdict::Unsure);
        assert_eq!(most(figure(1.50, 0.02)), Verdict::Missed);
    }

    #[test]
    fn what_is_no_figure_meets_nothing() {
        let nothing = Figure {
            value: f64::NAN,
            ..figure(1.0, 0.0)
        };
        assert_eq!(Verdict::of(nothing, Bound::Most(2.0)), Verdict::Unsure);
    }

    #[test]
    fn what_was_not_measured_or_in_a_slow_build_is_not_met() {
        let targets = Targets::published().unwrap();
        let verdicts = |run: &Run| -> Vec<Verdict> {
            let judged = judge(run, &targets);
            judged
                .iter()
                .flat_map(|judged| &judged.targets)
                .map(|(_, verdict)| *verdict)
                .collect()
        };
        let mut run = run();
        assert!(verdicts(&run).iter().all(|verdict| *verdict == Verdict::NotMeasured));
        let first = targets
            .quantities
            .iter()
            .find(|quantity| !quantity.targets.is_empty())
            .unwrap();
        run.figures.insert(first.id.clone(), Figure::exact(0.0));
        assert!(verdicts(&run).contains(&Verdict::Met));
        run.host.is_optimised = false;
        assert!(verdicts(&run).iter().all(|verdict| *verdict == Verdict::NotMeasured));
    }
}
