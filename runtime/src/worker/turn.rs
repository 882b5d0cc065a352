//! Whether a guest whose time is up has had its turn on a processor since.
//!
//! The layers inside stop a guest at its deadline, as soon as it is executed: between two opcodes, at the next turn of a
//! loop. A guest that is executed and goes on is stuck inside one opcode, and is killed. On a busy machine it may not be
//! executed at all for a while, and to kill it then for being late would be to lose what it handed back because others
//! are busy. So the time it gets is its own: the kernel says which threads have a processor and which wait for one.

use std::fs;
use std::time::{Duration, Instant};

/// A turn: many times what the layers inside need.
const TURN: Duration = Duration::from_millis(2);

/// Watches one process for a turn.
#[derive(Default)]
pub(super) struct Turn {
    stretch: Option<Stretch>,
    /// What its one thread had in the stretches before, since it is the only one that does not sleep.
    had_before: Duration,
}

/// From one look at a thread to the last one by which it was not interrupted, or still waited.
struct Stretch {
    begun: Instant,
    first: Thread,
    /// What it had of it by the last look.
    had: Duration,
}

/// The one thread of a process that is executed or waits for a processor, while all others sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thread {
    id: i32,
    /// How often it was given a processor.
    arrivals: u64,
    /// How long it has had one. The kernel adds to it when it takes the processor back, and at its own tick.
    ran: Duration,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Sleeps,
    Waits,
    Runs,
}

impl Turn {
    /// Looks, and says whether one thread has had a processor for a whole turn while no other wanted one: such as the one
    /// that rings a module's alarm. Where the kernel does not say, nobody has.
    pub(super) fn is_over(&mut self, process: u32) -> bool {
        let looked_at = Instant::now();
        self.had_until(looked_at, busy(process)) >= TURN
    }

    fn had_until(&mut self, looked_at: Instant, now: Option<Thread>) -> Duration {
        let before = self
            .stretch
            .take()
            .zip(now)
            .filter(|(stretch, now)| stretch.first.id == now.id);
        let Some((mut stretch, now)) = before else {
            self.had_before = Duration::ZERO;
            self.stretch = now.map(Stretch::from);
            return Duration::ZERO;
        };
        let passed = looked_at.saturating_duration_since(stretch.begun);
        stretch.had = known_to_have_had(&stretch.first, &now, passed).max(stretch.had);
        let had = self.had_before + stretch.had;
        if now.standing == Standing::Runs && now.arrivals == stretch.first.arrivals {
            self.stretch = Some(stretch);
        } else {
            self.had_before = had;
            self.stretch = Some(Stretch::from(now));
        }
        had
    }
}

impl From<Thread> for Stretch {
    fn from(first: Thread) -> Self {
        Self {
            begun: Instant::now(),
            first,
            had: Duration::ZERO,
        }
    }
}

/// What a thread had at least between two looks.
fn known_to_have_had(before: &Thread, now: &Thread, passed: Duration) -> Duration {
    match (before.standing, now.standing) {
        // Never interrupted.
        (Standing::Runs, Standing::Runs) if before.arrivals == now.arrivals => passed,
        // Only of who does not run is it known to the nanosecond how long he ran.
        (Standing::Waits, _) => now.ran.saturating_sub(before.ran),
        _ => Duration::ZERO,
    }
}

/// The one thread that is executed or waits for it; `None` where there are several, or none.
fn busy(process: u32) -> Option<Thread> {
    let mut busy = None;
    for entry in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
        let file = |name| fs::read_to_string(entry.path().join(name)).ok();
        // A thread that ended meanwhile has no files any more. How long it ran is read last, when it is known how it stands.
        let (Some(before), Some(status), Some(after)) = (file("schedstat"), file("status"), file("schedstat")) else {
            continue;
        };
        let (ran, arrivals) = times(&after)?;
        if times(&before)?.1 != arrivals {
            return None;
        }
        let standing = standing(&status, arrivals)?;
        if standing == Standing::Sleeps {
            continue;
        }
        let thread = Thread {
            id: entry.file_name().to_str()?.parse().ok()?,
            arrivals,
            ran,
            standing,
        };
        if busy.replace(thread).is_some() {
            return None;
        }
    }
    busy
}

/// "time spent on the cpu, time spent waiting on a runqueue, # of timeslices run on this cpu"
/// — <https://docs.kernel.org/scheduler/sched-stats.html>
pub(super) fn times(schedstat: &str) -> Option<(Duration, u64)> {
    let mut numbers = schedstat.split_ascii_whitespace().map(str::parse);
    let ran = numbers.next()?.ok()?;
    Some((Duration::from_nanos(ran), numbers.nth(1)?.ok()?))
}

/// Who was given a processor once more often than he gave it back has one.
fn standing(status: &str, arrivals: u64) -> Option<Standing> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    if !field("State")?.starts_with('R') {
        return Some(Standing::Sleeps);
    }
    let given_back = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
        .into_iter()
        .try_fold(0_u64, |sum, name| sum.checked_add(field(name)?.parse().ok()?))?;
    match arrivals.checked_sub(given_back) {
        Some(0) => Some(Standing::Waits),
        Some(1) => Some(Standing::Runs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;

    const STATUS: &str = "Name:\tx\nState:\tR (running)\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n";

    #[test]
    fn who_has_a_processor_was_given_it_once_more_than_he_gave_it_back() {
        assert_eq!(times("712 9 8\n"), Some((Duration::from_nanos(712), 8)));
        assert_eq!(times("712 9"), None);
        assert_eq!(standing(STATUS, 8), Some(Standing::Runs));
        assert_eq!(standing(STATUS, 7), Some(Standing::Waits));
        assert_eq!(standing(STATUS, 6), None);
        assert_eq!(standing(&STATUS.replace('R', "S"), 7), Some(Standing::Sleeps));
        assert_eq!(standing("Name:\tx\n", 7), None);
    }

    #[test]
    fn what_a_thread_had_is_its_own_time() {
        let thread = |arrivals, ran, standing| Thread {
            id: 1,
            arrivals,
            ran,
            standing,
        };
        let (none, little) = (Duration::ZERO, TURN / 2);
        let waits = thread(5, none, Standing::Waits);
        let runs = thread(5, none, Standing::Runs);
        for (before, now, passed, expected) in [
            (runs, runs, TURN, TURN),
            (runs, runs, little, little),
            // However long others have had its processor.
            (waits, waits, TURN * 10, none),
            (waits, thread(6, TURN, Standing::Waits), TURN, TURN),
            (waits, thread(6, little, Standing::Runs), TURN * 10, little),
            // When it was interrupted, nobody knows.
            (runs, thread(6, TURN, Standing::Runs), TURN, none),
            (runs, thread(5, TURN, Standing::Waits), TURN, none),
        ] {
            assert_eq!(
                known_to_have_had(&before, &now, passed),
                expected,
                "{before:?} {now:?} {passed:?}"
            );
        }
    }

    #[test]
    fn stretches_add_up_until_another_thread_wants_a_processor() {
        let thread = |id, arrivals, ran, standing| {
            Some(Thread {
                id,
                arrivals,
                ran,
                standing,
            })
        };
        let runs = |arrivals| thread(1, arrivals, Duration::ZERO, Standing::Runs);
        let waits = |arrivals, ran| thread(1, arrivals, ran, Standing::Waits);
        let part = TURN / 4;
        for (looks, parts) in [
            (&[runs(1), runs(1), runs(1)][..], 2),
            // Of the one in which it was interrupted nobody knows.
            (&[runs(1), runs(1), runs(2), runs(2), runs(2)], 3),
            (&[waits(1, part), waits(1, part), waits(1, part)], 0),
            (&[waits(1, part), waits(2, part * 2), runs(3), runs(3)], 2),
            (&[runs(1), runs(1), None, runs(1), runs(1)], 1),
            (&[runs(1), runs(1), runs(2), None, runs(2), runs(2)], 1),
            (
                &[runs(1), runs(1), thread(2, 1, part, Standing::Runs), runs(1), runs(1)],
                1,
            ),
        ] {
            let mut turn = Turn::default();
            let begun = Instant::now();
            let times = (1..).map(|number| begun + part * number);
            let had = looks.iter().zip(times).map(|(look, at)| {
                let had = turn.had_until(at, *look);
                if let Some(stretch) = &mut turn.stretch
                    && stretch.had == Duration::ZERO
                {
                    stretch.begun = at;
                }
                had
            });
            assert_eq!(had.last(), Some(part * parts), "{looks:?}");
        }
    }

    #[test]
    fn a_process_that_is_executed_has_its_turn_and_no_sooner() {
        #[expect(clippy::disallowed_methods, reason = "a process to be ended, and nothing else")]
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut turn = Turn::default();
        let begun = Instant::now();
        while !turn.is_over(child.id()) && begun.elapsed() < Duration::from_mins(1) {
            thread::sleep(TURN / 8);
        }
        let took = begun.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(TURN <= took && took < Duration::from_mins(1), "{took:?}");
    }

    #[test]
    fn a_process_that_sleeps_or_is_gone_has_no_turn() {
        // No process has this number.
        for process in [0, u32::MAX] {
            let mut turn = Turn::default();
            for _ in 0..3 {
                assert!(!turn.is_over(process));
                thread::sleep(TURN);
            }
        }
    }
}
