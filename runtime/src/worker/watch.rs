//! The clocks of one job: how far its guest is, and when its worker is looked at and killed.

use std::io;
use std::time::{Duration, Instant};

use super::preparation::{LONGEST, Preparation};
use super::process::{KilledFor, Patience};
use super::progress::{Progress, Step};
use super::turn::Turn;

/// How long handing over a job may take: the largest guest that is read at all crosses in a small part of it.
pub(super) const HAND_OVER: Duration = Duration::from_secs(10);

/// Between two looks at the worker's memory.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Between two looks at what a worker does whose guest's time is up.
const LOOK_CLOSELY: Duration = Duration::from_micros(250);

/// Watches one guest, from its job being handed over.
pub(super) struct Watch<'a> {
    patience: &'a Patience,
    handed_over: Instant,
    /// The step that it took last.
    last: Option<Step>,
    preparing: Option<Instant>,
    announced_code: bool,
    started: Option<Instant>,
    is_ending: bool,
    /// When the worker's memory was last looked at: a look costs more than many a guest.
    looked: Instant,
    preparation: Preparation,
    turn: Turn,
}

impl<'a> Watch<'a> {
    pub(super) fn new(patience: &'a Patience) -> Self {
        Self {
            patience,
            handed_over: Instant::now(),
            last: None,
            preparing: None,
            announced_code: false,
            started: None,
            is_ending: false,
            looked: Instant::now(),
            preparation: Preparation::default(),
            turn: Turn::default(),
        }
    }

    /// Learns how far the guest is.
    ///
    /// # Errors
    /// Where a step came twice, or before one that it follows, or anything but a step: a clock that is told to start again would
    /// never run out. What was told before that stands.
    pub(super) fn follow(&mut self, progress: &Progress) -> io::Result<()> {
        let told = progress.told(self.handed_over);
        for (step, at) in told.steps {
            if self.last >= Some(step) || self.last.is_none() != (step == Step::Preparing) {
                return Err(io::Error::other("a worker told of a step out of turn"));
            }
            self.last = Some(step);
            match step {
                Step::Preparing => self.preparing = Some(at),
                Step::Compiled => self.announced_code = true,
                Step::Started => self.started = Some(at),
                Step::Ending => self.is_ending = true,
            }
        }
        if told.is_sound {
            Ok(())
        } else {
            Err(io::Error::other("a worker told of what is no step"))
        }
    }

    /// Whether the worker has said that it has the whole job.
    pub(super) fn has_begun(&self) -> bool {
        self.preparing.is_some()
    }

    /// Whether the guest's code was announced before it started. Later it may be the guest who speaks.
    pub(super) fn announced_code(&self) -> bool {
        self.announced_code
    }

    /// Whether the guest's code may still come.
    pub(super) fn may_send_code(&self) -> bool {
        self.announced_code || self.started.is_none()
    }

    /// From the guest's first byte to now; `None` when it has not started.
    pub(super) fn ran(&self) -> Option<Duration> {
        self.started.map(|started| started.elapsed())
    }

    /// Time left until the worker is killed in any case.
    pub(super) fn left(&self) -> Option<Duration> {
        let (since, most) = match (self.started, self.preparing) {
            (Some(started), _) => (started, self.patience.run?.saturating_add(self.patience.answer)),
            (None, Some(preparing)) => (preparing, self.patience.prepare.saturating_mul(LONGEST)),
            (None, None) => (self.handed_over, HAND_OVER),
        };
        Some(most.saturating_sub(since.elapsed()))
    }

    /// How long a guest has been prepared that has not started.
    fn prepared(&self) -> Option<Duration> {
        let preparing = self.preparing.filter(|_| self.started.is_none())?;
        Some(preparing.elapsed())
    }

    /// Time left to a guest that has not ended.
    fn left_to_guest(&self) -> Option<Duration> {
        let started = self.started.filter(|_| !self.is_ending)?;
        Some(self.patience.run?.saturating_sub(started.elapsed()))
    }

    /// Why the worker with this process is to be killed, if it is. Its resident memory is asked for now and then.
    pub(super) fn overdue(&mut self, process: u32, resident: impl FnOnce() -> u64) -> Option<KilledFor> {
        if self.left_to_guest() == Some(Duration::ZERO) && self.turn.is_over(process) {
            return Some(KilledFor::Time);
        }
        let most = self.patience.prepare;
        if self
            .prepared()
            .is_some_and(|passed| self.preparation.is_over(process, passed, most))
        {
            return Some(KilledFor::Preparing);
        }
        if self.left() == Some(Duration::ZERO) {
            return Some(if self.started.is_some() {
                KilledFor::Time
            } else {
                KilledFor::Preparing
            });
        }
        if self.looked.elapsed() < LOOK_EVERY {
            return None;
        }
        self.looked = Instant::now();
        let most = self.patience.rss_bytes?;
        (resident() > most).then_some(KilledFor::Memory)
    }

    /// How long the supervisor may sleep where nothing comes.
    pub(super) fn next_look(&self) -> Duration {
        let look = LOOK_EVERY.saturating_sub(self.looked.elapsed());
        // Of one that starts right after this look, the time is up no earlier.
        let guest = match self.started {
            None => self.patience.run,
            Some(_) => self.left_to_guest(),
        };
        let next = guest.map_or(LOOK_EVERY, |left| left.max(LOOK_CLOSELY));
        let to_prepare = self
            .prepared()
            .map(|passed| self.patience.prepare.saturating_sub(passed));
        let prepared = to_prepare.filter(|left| !left.is_zero()).unwrap_or(LOOK_EVERY);
        self.left().unwrap_or(LOOK_EVERY).min(next).min(prepared).min(look)
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::{self, Teller};
    use super::*;

    fn patience(run: Duration) -> Patience {
        Patience {
            prepare: Duration::MAX,
            run: Some(run),
            answer: Duration::from_hours(1),
            reply_bytes: 0,
            rss_bytes: None,
        }
    }

    /// A watch that followed these steps, or would not.
    fn following<'a>(patience: &'a Patience, steps: &[Step]) -> io::Result<Watch<'a>> {
        let (progress, theirs) = progress::pair()?;
        let teller = Teller::new(theirs);
        let mut watch = Watch::new(patience);
        for step in steps {
            teller.tell(*step);
        }
        watch.follow(&progress)?;
        Ok(watch)
    }

    #[test]
    fn a_guest_that_ended_in_time_has_its_answer_to_give() {
        use Step::{Ending, Preparing, Started};
        let patience = patience(Duration::ZERO);
        assert_eq!(following(&patience, &[Preparing]).unwrap().left_to_guest(), None);
        let watch = following(&patience, &[Preparing, Started]).unwrap();
        assert_eq!(watch.left_to_guest(), Some(Duration::ZERO));
        assert!(watch.next_look() <= LOOK_CLOSELY);
        let watch = following(&patience, &[Preparing, Started, Ending]).unwrap();
        assert_eq!(watch.left_to_guest(), None);
        assert!(watch.next_look() <= LOOK_EVERY);
    }

    #[test]
    fn a_guest_of_which_nobody_knows_that_it_started_is_looked_at_before_its_time_is_up() {
        let patience = patience(Duration::from_millis(1));
        let watch = following(&patience, &[]).unwrap();
        assert!(watch.next_look() <= Duration::from_millis(1));
    }

    /// What has no `/proc` is held to the clock.
    #[test]
    fn a_guest_that_is_prepared_for_too_long_is_overdue_and_one_that_has_started_is_not() {
        use Step::{Preparing, Started};
        // No process has this number.
        const PROCESS: u32 = u32::MAX;
        let patience = Patience {
            prepare: Duration::ZERO,
            ..patience(Duration::from_hours(1))
        };
        let overdue = |steps: &[Step]| following(&patience, steps).unwrap().overdue(PROCESS, || 0);
        assert_eq!(overdue(&[]), None);
        assert_eq!(overdue(&[Preparing]), Some(KilledFor::Preparing));
        assert_eq!(overdue(&[Preparing, Started]), None);
    }

    #[test]
    fn steps_are_taken_once_and_in_order() {
        use Step::{Compiled, Ending, Preparing, Started};
        let patience = patience(Duration::from_hours(1));
        for steps in [
            &[][..],
            &[Preparing, Compiled, Started, Ending],
            // A refusal may come before the guest's first byte.
            &[Preparing, Ending],
            &[Preparing, Started],
        ] {
            assert!(following(&patience, steps).is_ok(), "{steps:?}");
        }
        for steps in [
            &[Started][..],
            &[Ending],
            &[Preparing, Preparing],
            &[Preparing, Started, Started],
            &[Preparing, Started, Compiled],
            &[Preparing, Started, Preparing],
            &[Preparing, Ending, Started],
        ] {
            assert!(following(&patience, steps).is_err(), "{steps:?}");
        }
    }
}
