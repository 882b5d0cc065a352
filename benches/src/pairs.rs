//! Two ways to do one thing, timed in turns.
//!
//! Machines drift: another program wakes up, a clock changes. So the ways take turns, in rounds, each for a few
//! milliseconds, and the fastest round of each is compared. The baseline takes two turns in every round: how much it seems
//! to differ from itself is what a ratio is worth.

use std::fmt;
use std::time::{Duration, Instant};

/// How long one turn takes.
const TURN: Duration = Duration::from_millis(2);
/// How often everybody gets a turn.
const ROUNDS: usize = 200;

/// One way, repeated as often as it is told.
type Way<'a> = Box<dyn FnMut(u64) + 'a>;

/// Ways to do one thing, the first of them the baseline.
pub struct Pairs<'a> {
    title: &'static str,
    ways: Vec<(&'static str, Way<'a>)>,
}

/// What one way took, in nanoseconds for one time, in its fastest round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// What it is called.
    pub name: &'static str,
    /// Nanoseconds for one time.
    pub nanos: f64,
}

/// What everybody took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// What was done.
    pub title: &'static str,
    /// The baseline's second turns: what the same code seems to take.
    pub control: f64,
    /// The ways, the baseline first.
    pub ways: Vec<Taken>,
}

impl<'a> Pairs<'a> {
    /// Nothing to compare yet.
    #[must_use]
    pub fn of(title: &'static str) -> Self {
        Self {
            title,
            ways: Vec::new(),
        }
    }

    /// One more way; the first one is the baseline.
    #[must_use]
    pub fn way(mut self, name: &'static str, mut once: impl FnMut() + 'a) -> Self {
        let repeated = move |times: u64| {
            for _ in 0..times {
                once();
            }
        };
        self.ways.push((name, Box::new(repeated)));
        self
    }

    /// Lets everybody take turns. With `once`, each way runs a single time and the figures mean nothing.
    #[must_use]
    pub fn timed(mut self, once: bool) -> Timed {
        let times: Vec<u64> = self
            .ways
            .iter_mut()
            .map(|(_, way)| if once { 1 } else { times_in_a_turn(way) })
            .collect();
        let mut fastest = vec![f64::INFINITY; self.ways.len()];
        let mut control = f64::INFINITY;
        for _ in 0..if once { 1 } else { ROUNDS } {
            for (((_, way), times), fastest) in self.ways.iter_mut().zip(&times).zip(&mut fastest) {
                *fastest = fastest.min(turn(way, *times));
            }
            if let (Some((_, baseline)), Some(times)) = (self.ways.first_mut(), times.first()) {
                control = control.min(turn(baseline, *times));
            }
        }
        let named = self.ways.iter().zip(fastest);
        Timed {
            title: self.title,
            control,
            ways: named.map(|((name, _), nanos)| Taken { name, nanos }).collect(),
        }
    }
}

impl Timed {
    /// How many times the baseline's time a way took.
    #[must_use]
    pub fn ratio(&self, name: &str) -> Option<f64> {
        Some(self.nanos(name)? / self.ways.first()?.nanos)
    }

    /// Nanoseconds for one time.
    #[must_use]
    pub fn nanos(&self, name: &str) -> Option<f64> {
        self.ways.iter().find(|way| way.name == name).map(|way| way.nanos)
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let Some(baseline) = self.ways.first() else {
            return Ok(());
        };
        for way in &self.ways {
            let ratio = way.nanos / baseline.nanos;
            writeln!(f, "  {:<44} {:>14}  x {ratio:.3}", way.name, shown(way.nanos))?;
        }
        let ratio = self.control / baseline.nanos;
        writeln!(
            f,
            "  {:<44} {:>14}  x {ratio:.3}",
            "(the first again)",
            shown(self.control)
        )
    }
}

fn shown(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.2} ns"),
        1e3..1e6 => format!("{:.2} us", nanos / 1e3),
        _ => format!("{:.2} ms", nanos / 1e6),
    }
}

fn times_in_a_turn(way: &mut Way<'_>) -> u64 {
    let mut times = 1;
    loop {
        let start = Instant::now();
        way(times);
        let taken = start.elapsed();
        if taken >= TURN / 2 || times >= 1 << 30 {
            return times;
        }
        times *= 2;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a turn is shorter than 2^52 nanoseconds")]
fn turn(way: &mut Way<'_>, times: u64) -> f64 {
    let start = Instant::now();
    way(times);
    start.elapsed().as_nanos() as f64 / times as f64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn everybody_takes_turns_and_the_baseline_takes_two() {
        let (first, second) = (Cell::new(0), Cell::new(0));
        let timed = Pairs::of("counting")
            .way("first", || first.set(first.get() + 1))
            .way("second", || second.set(second.get() + 1))
            .timed(true);
        assert_eq!((first.get(), second.get()), (2, 1));
        assert_eq!(timed.ways.len(), 2);
        assert!(timed.ratio("third").is_none());
    }

    #[test]
    fn a_ratio_is_to_the_first() {
        let timed = Timed {
            title: "made up",
            control: 2.2,
            ways: vec![Taken { name: "a", nanos: 2.0 }, Taken { name: "b", nanos: 3.0 }],
        };
        assert_eq!(timed.ratio("b"), Some(1.5));
        assert!(timed.to_string().contains("x 1.500"));
        assert!(timed.to_string().contains("x 1.100"), "the control is shown");
    }
}
