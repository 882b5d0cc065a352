//! Two ways to do one thing, timed in turns.
//!
//! Machines drift: another program wakes up, a clock changes. So the ways take turns, in rounds, each for a few
//! milliseconds of its thread's own time, and the fastest round of each is compared. The baseline takes two turns in every
//! round: how much it seems to differ from itself is what a figure is worth.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stockade_conformance::overhead::{Comparison, Figure, Size, WayTaken};

use crate::bootstrap::{self, Resampled};

/// How long one turn takes.
const TURN: Duration = Duration::from_millis(2);
/// How often everybody gets a turn, where a turn does not take much longer than it should.
const ROUNDS: usize = 200;
/// The least rounds that say something.
const LEAST_ROUNDS: usize = 20;
/// How long all rounds should take together.
const PATIENCE: Duration = Duration::from_secs(20);

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

    fn way_by(self, clock: ClockId, name: &'static str, mut once: impl FnMut() -> bool + 'a) -> Self {
        self.repeated(name, move |times| {
            let start = time_by(clock);
            let went_well = (0..times).fold(true, |so_far, _| so_far & once());
            let taken = time_by(clock).saturating_sub(start);
            went_well.then_some(taken)
        })
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

    /// Lets everybody take turns. With `once`, each way runs a single time and the figures mean nothing.
    ///
    /// # Errors
    /// Where a way went wrong, whenever it did: there is nothing to compare then.
    pub fn timed(mut self, once: bool) -> Result<Timed, String> {
        let begun = Instant::now();
        let counted = self.ways.iter_mut().map(|(name, way)| {
            let times = if once { Some(1) } else { times_in_a_turn(way) };
            times.ok_or_else(|| went_wrong(name))
        });
        let times = counted.collect::<Result<Vec<u64>, String>>()?;
        let most = if once { 1 } else { ROUNDS };
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); self.ways.len()];
        let mut control = Vec::new();
        while control.len() < most && (control.len() < LEAST_ROUNDS || begun.elapsed() < PATIENCE) {
            for (((name, way), times), taken) in self.ways.iter_mut().zip(&times).zip(&mut taken) {
                taken.push(turn(way, *times).ok_or_else(|| went_wrong(name))?);
            }
            let Some(((name, way), times)) = self.ways.first_mut().zip(times.first()) else {
                break;
            };
            control.push(turn(way, *times).ok_or_else(|| went_wrong(name))?);
        }
        let named = self.ways.iter().zip(taken);
        Ok(Timed {
            title: self.title,
            size: self.size,
            control,
            ways: named.map(|((name, _), nanos)| Rounds { name, nanos }).collect(),
        })
    }
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

/// The largest of the ratios.
#[must_use]
pub fn worst_ratio(all: &[Timed], name: &str) -> Option<Figure> {
    let ratios = all.iter().filter_map(|timed| timed.ratio(name));
    ratios.max_by(|one, other| one.value.total_cmp(&other.value))
}

fn fastest(nanos: &[f64]) -> f64 {
    nanos.iter().copied().fold(f64::INFINITY, f64::min)
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
    Some(way(times)?.as_nanos() as f64 / times as f64)
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.title)?;
        if let Some(Size { count, of }) = &self.size {
            write!(f, ", {count} {of}")?;
        }
        writeln!(f)?;
        let Some(first) = self.ways.first() else {
            return Ok(());
        };
        let baseline = fastest(&first.nanos);
        let lines = self.ways.iter().map(|way| (way.name, fastest(&way.nanos)));
        for (name, nanos) in lines.chain([("(the first again)", fastest(&self.control))]) {
            let ratio = nanos / baseline;
            let shown = stockade_conformance::overhead::Unit::Nanoseconds.shown(nanos);
            writeln!(f, "  {name:<48} {shown:>12}  x {ratio:.3}")?;
        }
        Ok(())
    }
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
            .timed(true)
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
            .timed(false)
            .unwrap();
        let ratio = timed.ratio("other").unwrap();
        assert!((ratio.value - 1.5).abs() < 1e-9 && ratio.noise.abs() < 1e-9, "{ratio}");
        assert!((timed.over("other").unwrap().value - 5000.0).abs() < 1e-6);
        assert_eq!(timed.control.len(), ROUNDS);
        assert!(asked.get() > 0);
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
            .timed(false);
        assert_eq!(timed, Err("`bad` went wrong while it was timed".to_owned()));
        let peer = Pairs::of("made up").repeated("gone", |_| None).timed(true);
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
        let text = timed.to_string();
        assert!(text.contains("x 1.500") && text.contains("x 1.100"), "{text}");
    }

    #[test]
    fn a_mean_is_geometric_and_the_worst_is_one_of_them() {
        let mut other = made_up();
        other.ways[1].nanos = vec![6.0, 6.0, 6.0];
        let both = [made_up(), other];
        let mean = mean_ratio(&both, "b").unwrap();
        assert!((mean.value - (1.5_f64 * 3.0).sqrt()).abs() < 1e-9, "{mean}");
        assert!((worst_ratio(&both, "b").unwrap().value - 3.0).abs() < 1e-9);
        assert!(mean_ratio(&both, "c").is_none());
    }
}
