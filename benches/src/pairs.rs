//! Two ways to do one thing, timed in turns.
//!
//! Machines drift: another program wakes up, a clock changes. So the ways take turns, in rounds, each for a few
//! milliseconds of its thread's own time, and the fastest round of each is compared. The baseline takes two turns in every
//! round: how much it seems to differ from itself is what a figure is worth that is of one process; others may lay memory out
//! otherwise ([`crate::processes`]). Whose turn comes after whose is another in every round, or what one way leaves in the caches would always be found by the same other one.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stockade_conformance::overhead::{Comparison, Figure, Size, WayTaken};

use crate::bootstrap::{self, Resampled, fastest};
use crate::processes::PROCESSES;

/// How long one turn takes.
const TURN: Duration = Duration::from_millis(2);
/// How often everybody gets a turn, where a turn does not take much longer than it should.
const ROUNDS: usize = 200;
/// The least rounds that say something, of one process or of several together.
const LEAST_ROUNDS: usize = 20;
/// How long all rounds should take together.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is done for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Each way runs a single time: it works, and the figures mean nothing.
    Once,
    /// As many rounds as a figure takes that is of one process.
    Whole,
    /// Fewer, where several processes measure the same: [`crate::processes`].
    Part,
}

impl Effort {
    /// The least rounds and the most, and how long they should take together.
    fn rounds(self) -> (usize, usize, Duration) {
        match self {
            Self::Once => (1, 1, Duration::ZERO),
            Self::Whole => (LEAST_ROUNDS, ROUNDS, PATIENCE),
            Self::Part => (LEAST_ROUNDS / PROCESSES, ROUNDS / 2, PATIENCE / 4),
        }
    }
}

/// One way: does it so many times, and says how long that took; nothing where it went wrong, since a refusal is quick.
type Way<'a> = Box<dyn FnMut(u64) -> Option<Duration> + 'a>;

/// Ways to do one thing, the first of them the baseline.
pub struct Pairs<'a> {
    title: String,
    size: Option<Size>,
    ways: Vec<(&'static str, Way<'a>)>,
}

/// What one way took, round by round, in nanoseconds for one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounds {
    /// What it is called.
    pub name: &'static str,
    /// Nanoseconds for one time, in each round.
    pub nanos: Vec<f64>,
}

/// What everybody took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// What was done.
    pub title: String,
    /// How much there was to do, where that is varied.
    pub size: Option<Size>,
    /// The baseline's second turns: what the same code seems to take.
    pub control: Vec<f64>,
    /// The ways, the baseline first.
    pub ways: Vec<Rounds>,
}

impl<'a> Pairs<'a> {
    /// Nothing to compare yet.
    #[must_use]
    pub fn of(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            size: None,
            ways: Vec::new(),
        }
    }

    /// How much there is to do: with other sizes under the same title it makes a curve.
    #[must_use]
    pub fn sized(mut self, count: u64, of: &str) -> Self {
        self.size = Some(Size {
            count,
            of: of.to_owned(),
        });
        self
    }

    /// One more way, by the processor time of this thread; the first one is the baseline. It says whether it went well.
    #[must_use]
    pub fn way(self, name: &'static str, once: impl FnMut() -> bool + 'a) -> Self {
        self.way_by(ClockId::ThreadCPUTime, name, once)
    }

    /// One more way, by the processor time of all threads: for what starts some.
    #[must_use]
    pub fn way_of_all_threads(self, name: &'static str, once: impl FnMut() -> bool + 'a) -> Self {
        self.way_by(ClockId::ProcessCPUTime, name, once)
    }

    /// One more way, of several instances whose turns come one after the other: memory lies elsewhere for each, and the fastest
    /// counts.
    #[must_use]
    pub fn way_of_several<F: FnMut() -> bool + 'a>(self, name: &'static str, mut instances: Vec<F>) -> Self {
        let mut turns = 0;
        self.repeated(name, move |times| {
            turns += 1;
            let count = instances.len().max(1);
            taken_by(ClockId::ThreadCPUTime, times, instances.get_mut(turns % count)?)
        })
    }

    fn way_by(self, clock: ClockId, name: &'static str, mut once: impl FnMut() -> bool + 'a) -> Self {
        self.repeated(name, move |times| taken_by(clock, times, &mut once))
    }

    /// One more way, by the clock: for what other threads or processes have a part in.
    #[must_use]
    pub fn way_by_clock(self, name: &'static str, mut once: impl FnMut() -> bool + 'a) -> Self {
        self.repeated(name, move |times| {
            let start = Instant::now();
            let went_well = (0..times).fold(true, |so_far, _| so_far & once());
            let taken = start.elapsed();
            went_well.then_some(taken)
        })
    }

    /// One more way, which repeats and times itself.
    #[must_use]
    pub fn repeated(mut self, name: &'static str, way: impl FnMut(u64) -> Option<Duration> + 'a) -> Self {
        self.ways.push((name, Box::new(way)));
        self
    }

    /// Lets everybody take turns.
    ///
    /// # Errors
    /// Where a way went wrong, whenever it did: there is nothing to compare then.
    pub fn timed(mut self, effort: Effort) -> Result<Timed, String> {
        let begun = Instant::now();
        let counted = self.ways.iter_mut().map(|(name, way)| {
            let times = match effort {
                Effort::Once => Some(1),
                Effort::Whole | Effort::Part => times_in_a_turn(way),
            };
            times.ok_or_else(|| went_wrong(name))
        });
        let times = counted.collect::<Result<Vec<u64>, String>>()?;
        let (least, most, patience) = effort.rounds();
        // The last place is the control's, the others are the ways'.
        let places = self.ways.len() + 1;
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); places];
        let mut rounds = 0;
        while rounds < most && (rounds < least || begun.elapsed() < patience) {
            for place in order(rounds, places) {
                let number = if place + 1 == places { 0 } else { place };
                let way = self
                    .ways
                    .get_mut(number)
                    .zip(times.get(number))
                    .zip(taken.get_mut(place));
                if let Some((((name, way), times), taken)) = way {
                    taken.push(turn(way, *times).ok_or_else(|| went_wrong(name))?);
                }
            }
            rounds += 1;
        }
        let control = taken.pop().unwrap_or_default();
        let named = self.ways.iter().zip(taken);
        Ok(Timed {
            title: self.title,
            size: self.size,
            control,
            ways: named.map(|((name, _), nanos)| Rounds { name, nanos }).collect(),
        })
    }
}

/// Who takes a turn when in a round, by their places: they sit in a ring, each round begins one or two further on, and every second
/// one goes backwards. So nobody comes after the same one more than half of the time. The control, who has the last place, sits
/// across from the first way, which it is: where there are three or more ways it never comes after itself within a round.
fn order(round: usize, places: usize) -> impl Iterator<Item = usize> {
    let across = places / 2;
    (0..places).map(move |turn| {
        let turn = if round.is_multiple_of(2) {
            turn
        } else {
            places - 1 - turn
        };
        match (round + round / 2 + turn) % places {
            seat if seat < across => seat,
            seat if seat == across => places - 1,
            seat => seat - 1,
        }
    })
}

fn went_wrong(name: &str) -> String {
    format!("`{name}` went wrong while it was timed")
}

impl Timed {
    fn way(&self, name: &str) -> Option<&Rounds> {
        self.ways.iter().find(|way| way.name == name)
    }

    fn against_first(&self, name: &str, figure: impl Fn(f64, f64) -> f64) -> Option<Figure> {
        let rounds = Resampled {
            way: &self.way(name)?.nanos,
            baseline: &self.ways.first()?.nanos,
            control: &self.control,
        };
        Some(bootstrap::figure(&[rounds], |fastest| match fastest {
            [(way, baseline)] => figure(*way, *baseline),
            _ => f64::NAN,
        }))
    }

    /// How many times the baseline's time a way took.
    #[must_use]
    pub fn ratio(&self, name: &str) -> Option<Figure> {
        self.against_first(name, |way, baseline| way / baseline)
    }

    /// How many nanoseconds more than the baseline a way took.
    #[must_use]
    pub fn over(&self, name: &str) -> Option<Figure> {
        self.against_first(name, |way, baseline| way - baseline)
    }

    /// Nanoseconds for one time.
    #[must_use]
    pub fn nanos(&self, name: &str) -> Option<Figure> {
        let ratio = self.ratio(name)?;
        let own = self.against_first(name, |way, _| way)?;
        Some(Figure {
            // A baseline that differs from itself by a tenth says that anything does.
            noise: own.value * ratio.noise / ratio.value,
            ..own
        })
    }

    /// As it is written down.
    #[must_use]
    pub fn comparison(&self, bench: &str) -> Comparison {
        let taken = |way: &Rounds| WayTaken {
            name: way.name.to_owned(),
            nanos: fastest(&way.nanos),
        };
        Comparison {
            bench: bench.to_owned(),
            title: self.title.clone(),
            size: self.size.clone(),
            ways: self.ways.iter().map(taken).collect(),
            control_nanos: fastest(&self.control),
        }
    }
}

/// How many times the first way's time a way took in all of these, as a geometric mean.
#[must_use]
pub fn mean_ratio(all: &[Timed], name: &str) -> Option<Figure> {
    let rounds = all.iter().map(|timed| {
        Some(Resampled {
            way: &timed.way(name)?.nanos,
            baseline: &timed.ways.first()?.nanos,
            control: &timed.control,
        })
    });
    let rounds = rounds.collect::<Option<Vec<_>>>()?;
    Some(bootstrap::figure(&rounds, |fastest| {
        let logs: Vec<f64> = fastest.iter().map(|(way, baseline)| (way / baseline).ln()).collect();
        bootstrap::mean(&logs).exp()
    }))
}

/// The largest of the ratios: as large as any of them may be with its noise, and no smaller than each of them is in spite of it.
#[must_use]
pub fn worst_ratio(all: &[Timed], name: &str) -> Option<Figure> {
    let ratios: Vec<Figure> = all.iter().map(|timed| timed.ratio(name)).collect::<Option<_>>()?;
    let largest = |of: fn(&Figure) -> f64| ratios.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    let worst = ratios.iter().max_by(|one, other| one.value.total_cmp(&other.value))?;
    let (lower, upper) = (
        largest(|ratio| ratio.low - ratio.noise),
        largest(|ratio| ratio.high + ratio.noise),
    );
    // What another's noise reaches beyond the worst one's is part of the interval.
    let noise = worst.noise.min(worst.value - lower);
    Some(Figure {
        value: worst.value,
        low: (lower + noise).min(worst.value),
        high: (upper - noise).max(worst.value),
        noise,
    })
}

/// What so many times took; nothing where one went wrong.
fn taken_by(clock: ClockId, times: u64, once: &mut impl FnMut() -> bool) -> Option<Duration> {
    let start = time_by(clock);
    let went_well = (0..times).fold(true, |so_far, _| so_far & once());
    let taken = time_by(clock).saturating_sub(start);
    went_well.then_some(taken)
}

/// What this thread has had of a processor.
fn time_by(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

fn times_in_a_turn(way: &mut Way<'_>) -> Option<u64> {
    let mut times = 1;
    while way(times)? < TURN / 2 && times < 1 << 30 {
        times *= 2;
    }
    Some(times)
}

#[expect(clippy::cast_precision_loss, reason = "a turn is shorter than 2^52 nanoseconds")]
fn turn(way: &mut Way<'_>, times: u64) -> Option<f64> {
    // A clock that has not moved would be divided by.
    Some(way(times)?.as_nanos().max(1) as f64 / times as f64)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn everybody_takes_turns_and_the_baseline_takes_two() {
        let (first, second) = (Cell::new(0), Cell::new(0));
        let timed = Pairs::of("counting")
            .way("first", || {
                first.set(first.get() + 1);
                true
            })
            .way("second", || {
                second.set(second.get() + 1);
                true
            })
            .timed(Effort::Once)
            .unwrap();
        assert_eq!((first.get(), second.get()), (2, 1));
        assert_eq!(timed.ways.len(), 2);
        assert!(timed.ratio("third").is_none());
    }

    #[test]
    fn a_way_that_times_itself_is_believed_and_there_are_rounds_enough() {
        let asked = Cell::new(0_u64);
        let timed = Pairs::of("told")
            .repeated("one", |times| Some(Duration::from_micros(times * 10)))
            .repeated("other", |times| {
                asked.set(asked.get() + times);
                Some(Duration::from_micros(times * 15))
            })
            .timed(Effort::Whole)
            .unwrap();
        let ratio = timed.ratio("other").unwrap();
        assert!((ratio.value - 1.5).abs() < 1e-9 && ratio.noise.abs() < 1e-9, "{ratio}");
        assert!((timed.over("other").unwrap().value - 5000.0).abs() < 1e-6);
        assert_eq!(timed.control.len(), ROUNDS);
        assert!(asked.get() > 0);
    }

    #[test]
    fn instances_have_their_turns_one_after_the_other() {
        let calls: [Cell<u32>; 3] = Default::default();
        let instances: Vec<_> = calls
            .iter()
            .map(|calls| {
                move || {
                    calls.set(calls.get() + 1);
                    true
                }
            })
            .collect();
        let timed = Pairs::of("several")
            .way_of_several("all", instances)
            .timed(Effort::Part);
        assert!(timed.is_ok());
        assert!(calls.iter().all(|calls| calls.get() > 0), "{calls:?}");
        let none = Pairs::of("none").way_of_several("none", Vec::<fn() -> bool>::new());
        assert!(none.timed(Effort::Once).is_err());
    }

    #[test]
    fn a_way_that_goes_wrong_once_is_no_figure() {
        let calls = Cell::new(0);
        let fails_late = || {
            calls.set(calls.get() + 1);
            calls.get() != 1000
        };
        let timed = Pairs::of("made up")
            .way("good", || true)
            .way("bad", fails_late)
            .timed(Effort::Whole);
        assert_eq!(timed, Err("`bad` went wrong while it was timed".to_owned()));
        let peer = Pairs::of("made up").repeated("gone", |_| None).timed(Effort::Once);
        assert!(peer.unwrap_err().contains("`gone`"));
    }

    fn made_up() -> Timed {
        let rounds = |name, nanos: [f64; 3]| Rounds {
            name,
            nanos: nanos.to_vec(),
        };
        Timed {
            title: "made up".to_owned(),
            size: None,
            control: vec![2.4, 2.2, 2.6],
            ways: vec![rounds("a", [2.0, 2.1, 2.3]), rounds("b", [3.5, 3.2, 3.0])],
        }
    }

    #[test]
    fn figures_are_of_the_fastest_rounds_and_as_noisy_as_the_control() {
        let timed = made_up();
        let ratio = timed.ratio("b").unwrap();
        assert!((ratio.value - 1.5).abs() < 1e-9);
        assert!((ratio.noise - (1.5 - 3.0 / 2.2)).abs() < 1e-9, "{ratio:?}");
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high);
        let over = timed.over("b").unwrap();
        assert!(
            (over.value - 1.0).abs() < 1e-9 && (over.noise - 0.2).abs() < 1e-9,
            "{over:?}"
        );
    }

    #[test]
    fn a_mean_is_geometric_and_the_worst_is_one_of_them() {
        let mut other = made_up();
        other.ways[1].nanos = vec![6.0, 6.0, 6.0];
        let both = [made_up(), other];
        let mean = mean_ratio(&both, "b").unwrap();
        assert!((mean.value - (1.5_f64 * 3.0).sqrt()).abs() < 1e-9, "{mean}");
        assert!((worst_ratio(&both, "b").unwrap().value - 3.0).abs() < 1e-9);
        assert!(mean_ratio(&both, "c").is_none() && worst_ratio(&both, "c").is_none());
    }

    /// One way beside a baseline of 100, which is the control's time in its second turns.
    fn beside(way: f64, control: f64) -> Timed {
        let rounds = |name, nanos| Rounds {
            name,
            nanos: vec![nanos; 3],
        };
        Timed {
            title: "made up".to_owned(),
            size: None,
            control: vec![control; 3],
            ways: vec![rounds("a", 100.0), rounds("b", way)],
        }
    }

    #[test]
    fn the_worst_is_no_surer_than_a_noisy_one_just_below_it() {
        let calm = beside(104.0, 100.0);
        let alone = worst_ratio(std::slice::from_ref(&calm), "b").unwrap();
        assert_eq!((alone.low, alone.high, alone.noise), (1.04, 1.04, 0.0));
        // The second is 1.03, or 1.08 where the baseline is what its second turns say.
        let noisy = worst_ratio(&[calm.clone(), beside(103.0, 95.37)], "b").unwrap();
        assert!((noisy.value - 1.04).abs() < 1e-9, "{noisy:?}");
        assert!(noisy.high + noisy.noise > 1.07, "{noisy:?}");
        // Where it is the worst that is noisy, the calm one is still that large.
        let other = worst_ratio(&[calm, beside(105.0, 100.0 * 1.05 / 1.02)], "b").unwrap();
        assert!((other.value - 1.05).abs() < 1e-9, "{other:?}");
        assert!((other.low - other.noise - 1.04).abs() < 1e-9, "{other:?}");
        for figure in [alone, noisy, other] {
            assert!(figure.is_sound(), "{figure:?}");
        }
    }

    #[test]
    fn everybody_has_one_turn_in_a_round_and_nobody_comes_after_the_same_one_always() {
        for places in 3..=10 {
            let mut after = vec![vec![0; places]; places];
            let mut last = None;
            for round in 0..LEAST_ROUNDS {
                let turns: Vec<usize> = order(round, places).collect();
                let mut sorted = turns.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..places).collect::<Vec<_>>(), "{turns:?}");
                for turn in turns {
                    if let Some(last) = last {
                        let counts: &mut Vec<usize> = &mut after[turn];
                        counts[last] += 1;
                    }
                    last = Some(turn);
                }
            }
            for (place, counts) in after.iter().enumerate() {
                assert_eq!(counts[place], 0, "{place} of {places} comes after itself");
                let most = counts.iter().max().unwrap();
                assert!(most * 2 <= LEAST_ROUNDS, "{place} of {places}: {counts:?}");
            }
            let control = places - 1;
            let after_itself = after[0][control] + after[control][0];
            assert!(
                places == 3 || after_itself * 5 <= LEAST_ROUNDS,
                "{places}: {after_itself}"
            );
        }
    }

    #[test]
    fn the_controls_turns_are_no_ways_own() {
        let calls = Cell::new(0_u32);
        let timed = Pairs::of("told")
            .repeated("baseline", |times| {
                calls.set(calls.get() + 1);
                Some(Duration::from_micros(times * u64::from(calls.get())))
            })
            .repeated("other", |times| Some(Duration::from_millis(times)))
            .timed(Effort::Once)
            .unwrap();
        let [baseline, other] = timed.ways.as_slice() else {
            panic!("there are two ways");
        };
        assert_eq!(
            (
                baseline.nanos.as_slice(),
                other.nanos.as_slice(),
                timed.control.as_slice()
            ),
            (&[1e3][..], &[1e6][..], &[2e3][..])
        );
    }
}
