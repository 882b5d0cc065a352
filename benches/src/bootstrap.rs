//! How far a figure can be trusted: the same figure from rounds drawn again.

use stockade_conformance::overhead::Figure;

/// How often rounds are drawn again.
const DRAWS: usize = 1000;

/// The rounds of a way, of the baseline beside it, and of the baseline's second turns.
#[derive(Debug, Clone, Copy)]
pub struct Resampled<'a> {
    /// The way's.
    pub way: &'a [f64],
    /// The baseline's.
    pub baseline: &'a [f64],
    /// The baseline's again.
    pub control: &'a [f64],
}

/// A figure of the fastest rounds of each way and its baseline, the interval that holds 95 of 100 such figures of rounds
/// drawn again, and how much it changes where the baseline is the control.
#[must_use]
pub fn figure(rounds: &[Resampled<'_>], of: impl Fn(&[(f64, f64)]) -> f64) -> Figure {
    let all = |baseline: fn(&Resampled<'_>) -> f64| -> f64 {
        let pairs: Vec<_> = rounds
            .iter()
            .map(|rounds| (fastest(rounds.way), baseline(rounds)))
            .collect();
        of(&pairs)
    };
    let value = all(|rounds| fastest(rounds.baseline));
    let by_control = all(|rounds| fastest(rounds.control));
    let mut draw = Draw(0x5eed);
    let drawn = (0..DRAWS).map(|_| {
        let pairs: Vec<_> = rounds.iter().map(|rounds| draw.fastest_pair(rounds)).collect();
        of(&pairs)
    });
    let (low, high) = interval(drawn.collect());
    Figure {
        value,
        low: low.min(value),
        high: high.max(value),
        noise: (by_control - value).abs(),
    }
}

/// Values, those of the baseline, and those of the baseline again.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// The values.
    pub values: &'a [f64],
    /// The baseline's.
    pub baseline: &'a [f64],
    /// The baseline's again.
    pub control: &'a [f64],
}

/// A figure of values and a baseline's that were not taken in rounds, with its interval and noise as [`figure`] has them.
#[must_use]
pub fn figure_of(series: Series<'_>, of: impl Fn(&mut [f64], &mut [f64]) -> f64) -> Figure {
    let against = |baseline: &[f64]| of(&mut series.values.to_vec(), &mut baseline.to_vec());
    let value = against(series.baseline);
    let mut draw = Draw(0x5eed);
    let drawn = (0..DRAWS).map(|_| of(&mut draw.again(series.values), &mut draw.again(series.baseline)));
    let (low, high) = interval(drawn.collect());
    Figure {
        value,
        low: low.min(value),
        high: high.max(value),
        noise: (against(series.control) - value).abs(),
    }
}

/// The middle one of a few figures; the interval is all of them.
#[must_use]
pub fn few(figures: &[f64]) -> Figure {
    let mut sorted = figures.to_vec();
    let value = percentile(&mut sorted, 50);
    Figure {
        value,
        low: sorted.first().copied().unwrap_or(f64::NAN),
        high: sorted.last().copied().unwrap_or(f64::NAN),
        noise: 0.0,
    }
}

/// The arithmetic mean.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 of anything")]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What this many percent of the values do not exceed.
#[must_use]
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn interval(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_unstable_by(f64::total_cmp);
    let at = |thousandths: usize| {
        figures
            .get(figures.len() * thousandths / 1000)
            .copied()
            .unwrap_or(f64::NAN)
    };
    (at(25), at(975))
}

/// The least of them.
#[must_use]
pub fn fastest(nanos: &[f64]) -> f64 {
    nanos.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Draws with no other purpose than to be the same every time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (count.max(1) as u64)).unwrap_or_default()
    }

    fn again(&mut self, values: &[f64]) -> Vec<f64> {
        let places = (0..values.len()).map(|_| self.below(values.len())).collect::<Vec<_>>();
        places
            .into_iter()
            .filter_map(|place| values.get(place).copied())
            .collect()
    }

    /// Rounds are drawn whole: who was slowed down in a round was so beside the other.
    fn fastest_pair(&mut self, rounds: &Resampled<'_>) -> (f64, f64) {
        let mut fastest = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds.way.len() {
            let round = self.below(rounds.way.len());
            let (way, baseline) = (rounds.way.get(round), rounds.baseline.get(round));
            fastest.0 = way.copied().unwrap_or(f64::NAN).min(fastest.0);
            fastest.1 = baseline.copied().unwrap_or(f64::NAN).min(fastest.1);
        }
        fastest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_its_figure_and_is_narrow_where_rounds_agree() {
        let (way, baseline) = ([3.0, 3.1, 9.0, 3.0], [1.0, 1.0, 4.0, 1.0]);
        let rounds = Resampled {
            way: &way,
            baseline: &baseline,
            control: &[1.5, 1.6, 1.7, 1.8],
        };
        let figure = figure(&[rounds], |fastest| fastest[0].0 / fastest[0].1);
        assert!((figure.value - 3.0).abs() < 1e-9);
        assert!(figure.low <= 3.0 && figure.high < 3.2, "{figure:?}");
        assert!((figure.noise - 1.0).abs() < 1e-9, "3 / 1.5 is 2: {figure:?}");
    }

    #[test]
    fn values_that_disagree_widen_it() {
        let ratio = |values: &mut [f64], baseline: &mut [f64]| percentile(values, 50) / percentile(baseline, 50);
        let series = |values| Series {
            values,
            baseline: &[5.0; 40],
            control: &[10.0; 40],
        };
        let calm = figure_of(series(&[5.0; 40]), ratio);
        let wild: Vec<f64> = (0..40).map(f64::from).collect();
        let wild = figure_of(series(&wild), ratio);
        assert!((calm.low, calm.high, calm.noise) == (1.0, 1.0, 0.5), "{calm:?}");
        assert!(wild.high - wild.low > 0.5, "{wild:?}");
    }

    #[test]
    fn of_a_few_the_middle_one_counts_and_all_are_shown() {
        let figure = few(&[3.0, 1.0, 2.0]);
        assert!((figure.value, figure.low, figure.high) == (2.0, 1.0, 3.0), "{figure:?}");
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert!(!few(&[]).is_sound());
        let nothing = Series {
            values: &[],
            baseline: &[],
            control: &[],
        };
        assert!(!figure_of(nothing, |values, _| percentile(values, 99)).is_sound());
        let rounds = Resampled {
            way: &[],
            baseline: &[],
            control: &[],
        };
        assert!(!figure(&[rounds], |fastest| fastest[0].0 / fastest[0].1).is_sound());
    }
}
