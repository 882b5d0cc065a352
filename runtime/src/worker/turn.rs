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
    seen: Option<(Instant, Thread)>,
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
        let now = busy(process);
        if let (Some((at, before)), Some(now)) = (&self.seen, &now) {
            match had(before, now, looked_at.duration_since(*at)) {
                Had::Turn => return true,
                Had::Less => return false,
                Had::Unknown => {}
            }
        }
        self.seen = now.map(|thread| (Instant::now(), thread));
        false
    }
}

/// What a thread had between two looks.
#[derive(Debug, PartialEq, Eq)]
enum Had {
    Turn,
    Less,
    Unknown,
}

fn had(before: &Thread, now: &Thread, passed: Duration) -> Had {
    let had = match (before.standing, now.standing) {
        _ if before.id != now.id => return Had::Unknown,
        // Never interrupted.
        (Standing::Runs, Standing::Runs) if before.arrivals == now.arrivals => passed,
        // Only of who does not run is it known to the nanosecond how long he ran.
        (Standing::Waits, _) => now.ran.saturating_sub(before.ran),
        _ => return Had::Unknown,
    };
    if had >= TURN { Had::Turn } else { Had::Less }
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
fn times(schedstat: &str) -> Option<(Duration, u64)> {
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
    fn a_turn_is_a_threads_own_time() {
        let thread = |id, arrivals, ran, standing| Thread {
            id,
            arrivals,
            ran,
            standing,
        };
        let (none, little) = (Duration::ZERO, TURN / 2);
        let waits = thread(1, 5, none, Standing::Waits);
        let runs = thread(1, 5, none, Standing::Runs);
        for (before, now, passed, expected) in [
            (runs, runs, TURN, Had::Turn),
            (runs, runs, little, Had::Less),
            // However long others have had its processor.
            (waits, waits, TURN * 10, Had::Less),
            (waits, thread(1, 6, TURN, Standing::Waits), TURN, Had::Turn),
            (waits, thread(1, 6, little, Standing::Runs), TURN * 10, Had::Less),
            // When it was interrupted, nobody knows.
            (runs, thread(1, 6, TURN, Standing::Runs), TURN, Had::Unknown),
            (runs, thread(1, 5, TURN, Standing::Waits), TURN, Had::Unknown),
            (runs, thread(2, 5, none, Standing::Runs), TURN, Had::Unknown),
        ] {
            assert_eq!(had(&before, &now, passed), expected, "{before:?} {now:?} {passed:?}");
        }
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
