//! How long calls took, one by one: where the slowest matter, a mean says nothing.

use std::fmt;
use std::time::{Duration, Instant};

use stockade_conformance::overhead::Figure;

use crate::bootstrap::{Series, figure_of, percentile};

/// What single calls took.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Times one call.
    pub fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let answer = call();
        self.0.push(begun.elapsed());
        answer
    }

    /// Writes down what a call took that was timed otherwise.
    pub fn add(&mut self, taken: Duration) {
        self.0.push(taken);
    }

    /// Takes in what others took.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn nanos(&self) -> Vec<f64> {
        self.0.iter().map(|taken| taken.as_secs_f64() * 1e9).collect()
    }

    /// The nanoseconds that this many percent of the calls did not take longer than; 0 for the fastest. It is as noisy as
    /// every other call differs from those between.
    #[must_use]
    pub fn figure(&self, percent: usize) -> Figure {
        let all = self.nanos();
        let half = |odd: usize| -> Vec<f64> { all.iter().skip(odd).step_by(2).copied().collect() };
        let (even, odd) = (half(0), half(1));
        let noise = (percentile(&mut even.clone(), percent) - percentile(&mut odd.clone(), percent)).abs();
        let series = Series {
            values: &all,
            baseline: &[],
            control: &[],
        };
        Figure {
            noise,
            ..figure_of(series, |values, _| percentile(values, percent))
        }
    }

    /// How many times as long as the baseline's a percentile is; `again` is the baseline measured twice.
    #[must_use]
    pub fn ratio(&self, baseline: &Self, again: &Self, percent: usize) -> Figure {
        self.against(baseline, again, |values, baseline| {
            percentile(values, percent) / percentile(baseline, percent)
        })
    }

    /// How many nanoseconds longer than the baseline's a percentile is; 0 for the fastest.
    #[must_use]
    pub fn over(&self, baseline: &Self, again: &Self, percent: usize) -> Figure {
        self.against(baseline, again, |values, baseline| {
            percentile(values, percent) - percentile(baseline, percent)
        })
    }

    fn against(&self, baseline: &Self, again: &Self, of: impl Fn(&mut [f64], &mut [f64]) -> f64) -> Figure {
        let series = Series {
            values: &self.nanos(),
            baseline: &baseline.nanos(),
            control: &again.nanos(),
        };
        figure_of(series, of)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.nanos();
        let mut micros = |percent| percentile(&mut nanos, percent) / 1e3;
        write!(
            f,
            "{:>7} calls  least {:>9.1} us  p50 {:>9.1} us  p99 {:>9.1} us  most {:>9.1} us",
            self.len(),
            micros(0),
            micros(50),
            micros(99),
            micros(100),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_call_that_was_made() {
        let mut latencies = Latencies::new();
        assert!(latencies.is_empty() && !latencies.figure(50).is_sound());
        // From the slowest to the fastest.
        for millis in (1..=200).rev() {
            latencies.add(Duration::from_millis(millis));
        }
        for (percent, millis) in [(0, 1.0), (1, 2.0), (50, 100.0), (99, 198.0), (100, 200.0)] {
            let figure = latencies.figure(percent);
            assert!((figure.value / 1e6 - millis).abs() < 1e-9, "{percent}: {figure}");
            assert!(figure.low <= figure.value && figure.value <= figure.high);
        }
    }

    #[test]
    fn what_is_compared_is_as_noisy_as_the_baseline_is_unlike_itself() {
        let of = |millis| {
            let mut latencies = Latencies::new();
            latencies.add(Duration::from_millis(millis));
            latencies
        };
        let ratio = of(3).ratio(&of(2), &of(1), 99);
        assert!(
            (ratio.value - 1.5).abs() < 1e-9 && (ratio.noise - 1.5).abs() < 1e-9,
            "{ratio:?}"
        );
        let over = of(3).over(&of(2), &of(1), 99);
        assert!(
            (over.value - 1e6).abs() < 1e-3 && (over.noise - 1e6).abs() < 1e-3,
            "{over:?}"
        );
        let mut both = of(3);
        both.merge(of(2));
        assert_eq!(both.len(), 2);
    }
}
