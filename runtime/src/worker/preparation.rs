//! Whether a worker has had the time that it may take to prepare a guest.
//!
//! Compiling needs a processor and nothing else. On a busy machine a worker waits for one most of the time, and to kill it for
//! that would be to refuse a module because others are busy. So the time it gets is its own. Who sleeps waits for something
//! else, and his time is that on the clock.

use std::fs;
use std::time::Duration;

use super::turn::times;
use super::watch::LOOK_EVERY;

/// How many times as long as it may take a processor a guest may be prepared on the clock. Its worker is not there for others
/// meanwhile.
pub(super) const LONGEST: u32 = 10;

/// Watches the thread that prepares a guest: a worker's first.
#[derive(Default)]
pub(super) struct Preparation {
    /// When it was looked at first, since it began, and how long it had had a processor by then.
    first: Option<(Duration, Duration)>,
    last: Option<Thread>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thread {
    /// How long it has had a processor, to the kernel's last tick.
    ran: Duration,
    /// Whether it has one or waits for one.
    wants: bool,
}

impl Preparation {
    /// Looks at a worker that began so long ago, and says whether it has had `most`. What it had before the first look counts as
    /// on the clock. Where the kernel does not say, all of it does.
    pub(super) fn is_over(&mut self, process: u32, passed: Duration, most: Duration) -> bool {
        // A look costs more than most guests take to prepare, and between the first and the end there is nothing to see.
        let first = if self.first.is_none() { LOOK_EVERY } else { most };
        passed >= most.min(first) && self.is_over_where(thread(process), passed, most)
    }

    fn is_over_where(&mut self, now: Option<Thread>, passed: Duration, most: Duration) -> bool {
        let before = std::mem::replace(&mut self.last, now);
        let Some(now) = now else {
            return passed >= most;
        };
        let (unseen, ran_unseen) = *self.first.get_or_insert((passed, now.ran));
        if passed < most {
            return false;
        }
        // For a moment it may sleep while a page is read.
        let has_slept = !now.wants && before == Some(now);
        let had = unseen.saturating_add(now.ran.saturating_sub(ran_unseen));
        had >= most || has_slept || passed >= most.saturating_mul(LONGEST)
    }
}

fn thread(process: u32) -> Option<Thread> {
    let read = |file| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let status = read("status")?;
    let state = status.lines().find_map(|line| line.strip_prefix("State:"))?;
    Some(Thread {
        ran: times(&read("schedstat")?)?.0,
        wants: state.trim_start().starts_with('R'),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const MOST: Duration = millis(100);

    /// Whether it is over at the last of these looks: how long ago it began, how long it had run, and whether it wants to.
    fn is_over(looks: &[(u64, u64, bool)]) -> bool {
        let mut preparation = Preparation::default();
        let said = looks.iter().map(|&(passed, ran, wants)| {
            let ran = millis(ran);
            preparation.is_over_where(Some(Thread { ran, wants }), millis(passed), MOST)
        });
        said.last().unwrap()
    }

    #[test]
    fn who_waits_for_a_processor_is_given_time_and_who_has_one_is_not() {
        for (looks, expected) in [
            // 1000 ms are from before.
            (&[(5, 1005, true), (99, 1099, true)][..], false),
            (&[(5, 1005, true), (100, 1100, true)], true),
            (&[(5, 1005, true), (100, 1040, true)], false),
            (&[(5, 1005, true), (600, 1099, true)], false),
            (&[(5, 1005, true), (600, 1100, true)], true),
            // What was not seen counts.
            (&[(60, 1005, true), (120, 1045, true)], true),
            (&[(100, 1005, true)], true),
            // Sleeping is not waiting, unless for a moment.
            (&[(5, 1005, true), (100, 1040, false)], false),
            (&[(5, 1005, true), (100, 1040, false), (105, 1040, false)], true),
            (&[(5, 1005, true), (100, 1040, false), (105, 1041, false)], false),
            // Nobody waits for ever.
            (&[(5, 1005, true), (999, 1006, true)], false),
            (&[(5, 1005, true), (1000, 1006, true)], true),
        ] {
            assert_eq!(is_over(looks), expected, "{looks:?}");
        }
    }

    #[test]
    fn where_the_kernel_does_not_say_the_clock_does() {
        // No process has this number.
        assert_eq!(thread(u32::MAX), None);
        let mut preparation = Preparation::default();
        assert!(!preparation.is_over(u32::MAX, millis(99), MOST));
        assert!(preparation.is_over(u32::MAX, MOST, MOST));
    }

    #[test]
    fn the_kernel_says_who_wants_a_processor_and_how_long_he_had_one() {
        #[expect(clippy::disallowed_methods, reason = "a process to be ended, and nothing else")]
        let spawn = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).spawn().unwrap();
        let mut busy = spawn("sh", &["-c", "while :; do :; done"]);
        let mut idle = spawn("sleep", &["60"]);
        let has_come = |process, wants, ran| {
            (0..6000).any(|_| {
                std::thread::sleep(millis(10));
                thread(process).is_some_and(|thread| thread.wants == wants && thread.ran >= ran)
            })
        };
        let came = (
            has_come(busy.id(), true, millis(50)),
            has_come(idle.id(), false, Duration::ZERO),
        );
        for child in [&mut busy, &mut idle] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(came, (true, true));
    }
}
