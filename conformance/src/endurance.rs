//! Thousands of attacks in random order on the same workers, and what they leave behind.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use serde::Serialize;
use stockade_runtime::RuntimeError;

use crate::case::Case;
use crate::corpus::Corpus;
use crate::dice::Dice;
use crate::janitor;
use crate::replay::{Progress, Trial, TrialError, play};
use crate::stage;
use crate::subject::Laboratory;

/// Faults that are told in words; of more, only the number.
const MOST_TOLD: usize = 20;

/// How long processes may take to be gone once nobody needs them.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of many attacks in random order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Endurance {
    /// What the order follows from.
    pub seed: u64,
    /// Attacks played.
    pub attacks: usize,
    /// Of these, stopped as their case says, with no harm seen, nothing changed outside, and no setting of the next
    /// tenant's changed.
    pub held: usize,
    /// Without a verdict.
    pub unknown: usize,
    /// The first that were not held, and why.
    pub faults: Vec<String>,
    /// Processes that are still there though nobody needs them.
    pub processes_left: usize,
    /// Stages that are still there.
    pub files_left: usize,
    /// Resident memory of this process after a tenth of the attacks, in bytes.
    pub rss_early: u64,
    /// Resident memory of this process at the end, in bytes.
    pub rss_late: u64,
    /// Wall-clock time, in milliseconds.
    pub total_ms: u64,
}

impl Endurance {
    /// Whether everything was held and nothing is left. A run of no attack was not.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.attacks > 0 && self.held == self.attacks && self.processes_left == 0 && self.files_left == 0
    }
}

/// Why a run cannot begin, or be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnduranceError {
    /// The selection has none.
    #[error("there is no attack among the cases")]
    NoAttack,
    /// No workers.
    #[error(transparent)]
    Workers(#[from] RuntimeError),
    /// What is left cannot be counted.
    #[error("cannot count what is left: {0}")]
    Left(#[from] io::Error),
}

/// Plays `times` attacks of the corpus, drawn with `seed`, `jobs` at a time, on workers of its own.
///
/// # Errors
/// [`EnduranceError`] where there is no attack, no worker, or where what is left cannot be counted.
pub fn endure(
    corpus: &Corpus,
    seed: u64,
    times: usize,
    jobs: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Endurance, EnduranceError> {
    let begun = Instant::now();
    let order = drawn(corpus, seed, times)?;
    let laboratory = Laboratory::new(jobs)?;
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Endurance {
        seed,
        ..Endurance::default()
    });
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let played = play(case, Trial::Fenced, corpus, &laboratory).map(|played| played.faults);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.add(&case.id, played);
                    if found.attacks == times.div_ceil(10) {
                        found.rss_early = resident_bytes();
                    }
                    progress(Progress {
                        done: found.attacks,
                        total: times,
                        case: &case.id,
                        report: None,
                    });
                }
            });
        }
    });
    // Whatever still needs a worker is gone with this.
    drop(laboratory);
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.rss_late = resident_bytes();
    found.processes_left = processes_left()?;
    found.files_left = stage::left_over()?;
    found.total_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(found)
}

impl Endurance {
    fn add(&mut self, id: &str, played: Result<Vec<String>, TrialError>) {
        self.attacks += 1;
        let why = match played {
            Ok(faults) if faults.is_empty() => {
                self.held += 1;
                return;
            }
            Ok(faults) => faults.join("; "),
            Err(error) => {
                self.unknown += 1;
                format!("no verdict: {error}")
            }
        };
        if self.faults.len() < MOST_TOLD {
            self.faults.push(format!("{id}: {why}"));
        }
    }
}

/// `times` attacks in the order that follows from `seed`: the whole selection, shuffled, again and again.
fn drawn(corpus: &Corpus, seed: u64, times: usize) -> Result<Vec<&Case>, EnduranceError> {
    let attacks: Vec<&Case> = corpus.cases().iter().filter(|case| case.attack().is_some()).collect();
    if attacks.is_empty() {
        return Err(EnduranceError::NoAttack);
    }
    let mut dice = Dice::new(seed);
    let mut order = Vec::with_capacity(times);
    while order.len() < times {
        let mut round = attacks.clone();
        while !round.is_empty() && order.len() < times {
            order.push(round.swap_remove(dice.below(round.len())));
        }
    }
    Ok(order)
}

/// Children of this process that are neither its janitor nor about to be gone.
fn processes_left() -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        let left = children()?;
        if left == 0 || begun.elapsed() > PATIENCE {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn children() -> io::Result<usize> {
    let parent = format!("PPid:\t{}", std::process::id());
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // A process that is gone by now is not there.
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        if status.lines().any(|line| line == parent) {
            let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
            count += usize::from(!janitor::is_called(&arguments));
        }
    }
    Ok(count)
}

/// 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_order_follows_from_the_seed_and_leaves_nobody_out() {
        let corpus = Corpus::embedded().unwrap();
        let attacks = corpus.cases().iter().filter(|case| case.attack().is_some()).count();
        let ids = |seed| -> Vec<String> {
            let order = drawn(&corpus, seed, attacks + 3).unwrap();
            order.iter().map(|case| case.id.clone()).collect()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert_eq!(ids(1).iter().take(attacks).collect::<BTreeSet<_>>().len(), attacks);
        assert_eq!(ids(1).len(), attacks + 3);
    }

    #[test]
    fn whatever_is_left_or_not_held_fails_the_run() {
        let clean = Endurance {
            attacks: 2,
            held: 2,
            ..Endurance::default()
        };
        assert!(clean.passed());
        for broken in [
            Endurance {
                held: 1,
                ..clean.clone()
            },
            Endurance {
                processes_left: 1,
                ..clean.clone()
            },
            Endurance {
                files_left: 1,
                ..clean.clone()
            },
            Endurance {
                attacks: 0,
                held: 0,
                ..clean.clone()
            },
        ] {
            assert!(!broken.passed(), "{broken:?}");
        }
    }
}
