//! A figure, and how far it can be trusted.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Times what it takes without a fence.
    Ratio,
    /// A part of a whole, from 0 to 1.
    Share,
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Times in a second.
    PerSecond,
}

impl Unit {
    /// An amount in words: `1.157`, `86 %`, `85.9 us`.
    #[must_use]
    pub fn shown(self, amount: f64) -> String {
        match self {
            Self::Ratio => format!("{amount:.3}"),
            Self::Share => format!("{:.1} %", amount * 100.0),
            Self::Nanoseconds => shown_in(amount, &[("ns", 1e3), ("us", 1e6), ("ms", 1e9), ("s", f64::INFINITY)]),
            Self::Bytes => shown_in(amount, &[("B", 1e3), ("kB", 1e6), ("MB", 1e9), ("GB", f64::INFINITY)]),
            Self::PerSecond => format!("{amount:.0}/s"),
        }
    }
}

/// In the first unit that is large enough; each begins at a thousandth of where it ends, and the first at 1.
fn shown_in(amount: f64, units: &[(&str, f64)]) -> String {
    let mut divisor = 1.0;
    for (name, end) in units {
        if amount.abs() < *end {
            // Three digits that say something.
            let scaled = amount / divisor;
            let decimals = match scaled.abs() {
                ..10.0 => 2,
                10.0..100.0 => 1,
                _ => 0,
            };
            return format!("{scaled:.decimals$} {name}");
        }
        divisor = *end;
    }
    format!("{amount}")
}

/// What was measured, in its quantity's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// The lower end of the interval: of 95 of 100 figures from resampled rounds, or the least of a few processes or times.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How far the baseline, measured twice in the same rounds, seems to differ from itself; where several processes
    /// measured it, in the middle one.
    pub noise: f64,
}

impl Figure {
    /// A count, which no noise touches.
    #[must_use]
    pub const fn exact(value: f64) -> Self {
        Self {
            value,
            low: value,
            high: value,
            noise: 0.0,
        }
    }

    /// Whether all of it is finite and in order: what is read from a file may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let all = [self.value, self.low, self.high, self.noise];
        all.iter().all(|part| part.is_finite())
            && self.low <= self.value
            && self.value <= self.high
            && self.noise >= 0.0
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} to {})", self.value, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_a_unit_that_suits_them() {
        let shown = |amount| Unit::Nanoseconds.shown(amount);
        assert_eq!(
            [0.951, 85.94, 999.0, 1000.0, 85_900.0, 2_500_000.0, 3e9].map(shown),
            [
                "0.95 ns", "85.9 ns", "999 ns", "1.00 us", "85.9 us", "2.50 ms", "3.00 s"
            ]
        );
        assert_eq!(Unit::Bytes.shown(20_971_520.0), "21.0 MB");
        assert_eq!(Unit::Share.shown(0.8), "80.0 %");
        assert_eq!(Unit::Ratio.shown(1.0), "1.000");
        assert_eq!(Unit::PerSecond.shown(1234.5), "1234/s");
        assert_eq!(shown(-3.0), "-3.00 ns");
    }

    #[test]
    fn a_figure_that_cannot_be_is_not_sound() {
        let sound = Figure {
            value: 1.0,
            low: 0.9,
            high: 1.1,
            noise: 0.0,
        };
        assert!(sound.is_sound());
        for broken in [
            Figure {
                value: f64::NAN,
                ..sound
            },
            Figure { low: 1.05, ..sound },
            Figure { high: 0.95, ..sound },
            Figure { noise: -0.1, ..sound },
            Figure {
                high: f64::INFINITY,
                ..sound
            },
        ] {
            assert!(!broken.is_sound(), "{broken:?}");
        }
    }
}
