//! How long calls took, one by one: where the slowest matter, a mean says nothing.

use std::fmt;
use std::time::{Duration, Instant};

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

    /// The fastest.
    #[must_use]
    pub fn least(&self) -> Option<Duration> {
        self.0.iter().min().copied()
    }

    /// What this many percent of the calls did not take longer than.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// How many times as long as the other's a percentile is.
    #[must_use]
    pub fn ratio(&self, other: &Self, percent: usize) -> Option<f64> {
        Some(self.percentile(percent)?.as_secs_f64() / other.percentile(percent)?.as_secs_f64())
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |taken: Option<Duration>| taken.map_or(f64::NAN, |taken| taken.as_secs_f64() * 1e6);
        write!(
            f,
            "{:>7} calls  least {:>9.1} us  p50 {:>9.1} us  p99 {:>9.1} us  most {:>9.1} us",
            self.len(),
            micros(self.least()),
            micros(self.percentile(50)),
            micros(self.percentile(99)),
            micros(self.percentile(100)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_call_that_was_made() {
        let mut latencies = Latencies::new();
        assert!(latencies.is_empty() && latencies.percentile(50).is_none() && latencies.least().is_none());
        // From the slowest to the fastest.
        for millis in (1..=200).rev() {
            latencies.add(Duration::from_millis(millis));
        }
        for (percent, millis) in [(1, 2), (50, 100), (99, 198), (100, 200)] {
            assert_eq!(
                latencies.percentile(percent),
                Some(Duration::from_millis(millis)),
                "{percent}"
            );
        }
        assert_eq!(latencies.least(), Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_ratio_is_to_the_other() {
        let [mut one, mut two] = [Latencies::new(), Latencies::new()];
        one.add(Duration::from_millis(3));
        two.add(Duration::from_millis(2));
        assert_eq!(one.ratio(&two, 99), Some(1.5));
        one.merge(two);
        assert_eq!(one.len(), 2);
    }
}
