//! How far a guest is, left where the supervisor looks when it wakes for something else.
//!
//! A message on the worker's stream wakes whoever waits for the outcome, and a short guest costs less than that. So the steps of
//! a guest go over a line of their own, on which nobody waits. They are in the kernel's hands before the guest's first byte is
//! executed: whatever a guest makes of its worker, what was said before cannot be taken back. Each has the time at which it was
//! said, by the clock that both processes share.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How far a guest is. A worker says each once and in this order, though not all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It has the whole job: compiling and opening begin.
    Preparing,
    /// It compiled the guest, whose code is to be kept and was sent before.
    Compiled,
    /// The first guest byte is about to be executed: the guest's clock runs.
    Started,
    /// No more of the guest is executed: it ended, or a layer stops it. Its outcome follows.
    Ending,
}

const STEPS: [Step; 4] = [Step::Preparing, Step::Compiled, Step::Started, Step::Ending];

/// The step's number and the nanoseconds on the clock.
const ENTRY: usize = 9;

/// Room for more than a worker says of one job.
const ROOM: usize = ENTRY * (STEPS.len() + 1);

/// The worker's end.
#[derive(Clone)]
pub(super) struct Teller(Arc<UnixStream>);

/// The supervisor's end.
pub(super) struct Progress(UnixStream);

/// What was told between two looks.
#[derive(Debug)]
pub(super) struct Told {
    /// The steps, each with its time, up to the first word that is none. What was said before that stands.
    pub(super) steps: Vec<(Step, Instant)>,
    /// Whether there was nothing but steps, and no more of them than there are.
    pub(super) is_sound: bool,
}

impl Told {
    /// Whether nothing was told.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_sound && self.steps.is_empty()
    }
}

/// The two ends, the supervisor's first.
pub(super) fn pair() -> io::Result<(Progress, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((Progress(ours), theirs))
}

impl Teller {
    pub(super) fn new(end: UnixStream) -> Self {
        Self(Arc::new(end))
    }

    /// If the supervisor cannot be told, it is gone, and the next read on the stream says so.
    pub(super) fn tell(&self, step: Step) {
        let mut entry = [step as u8; ENTRY];
        if let Some((_, at)) = entry.split_first_mut() {
            at.copy_from_slice(&clock().to_le_bytes());
        }
        (&*self.0).write_all(&entry).unwrap_or_default();
    }
}

impl Progress {
    /// What was told since the last look. The time of a step is at the earliest `since` and at the latest now. That the worker
    /// is gone its stream says.
    pub(super) fn told(&self, since: Instant) -> Told {
        let mut bytes = [0; ROOM];
        let (count, is_read) = match (&self.0).read(&mut bytes) {
            Ok(count) => (count, true),
            Err(error) => (0, error.kind() == ErrorKind::WouldBlock),
        };
        let (now, on_the_clock) = (Instant::now(), clock());
        let told = bytes.get(..count).unwrap_or_default();
        let (entries, rest) = told.as_chunks::<ENTRY>();
        let steps = entries.iter().map_while(|[number, at @ ..]| {
            let step = *STEPS.get(usize::from(*number))?;
            let ago = Duration::from_nanos(on_the_clock.saturating_sub(u64::from_le_bytes(*at)));
            Some((step, now.checked_sub(ago).unwrap_or(since).max(since)))
        });
        let steps: Vec<_> = steps.collect();
        Told {
            is_sound: is_read && count < ROOM && rest.is_empty() && steps.len() == entries.len(),
            steps,
        }
    }
}

/// Nanoseconds on the clock that all processes share, which never goes back.
fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps, and whether there was nothing else.
    fn told(words: &[u8]) -> (Vec<Step>, bool) {
        let (progress, theirs) = pair().unwrap();
        (&theirs).write_all(words).unwrap();
        let told = progress.told(Instant::now());
        (told.steps.iter().map(|(step, _)| *step).collect(), told.is_sound)
    }

    #[test]
    fn steps_come_in_order_with_the_time_they_were_told_at() {
        let (progress, theirs) = pair().unwrap();
        let teller = Teller::new(theirs);
        let begun = Instant::now();
        assert!(progress.told(begun).is_nothing());
        teller.tell(Step::Preparing);
        let between = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        teller.tell(Step::Started);
        let ended = Instant::now();
        let told = progress.told(begun);
        let [(Step::Preparing, first), (Step::Started, second)] = told.steps[..] else {
            panic!("{told:?}");
        };
        // Two clocks are read one after the other.
        let little = Duration::from_millis(5);
        assert!(begun <= first && first <= between + little);
        assert!(between + little < second && second <= ended + little);
        assert!(progress.told(begun).is_nothing(), "each is told once");
    }

    #[test]
    fn a_time_that_was_not_yet_or_long_ago_is_not_believed() {
        let (progress, theirs) = pair().unwrap();
        let begun = Instant::now();
        for at in [0, u64::MAX] {
            let mut entry = vec![Step::Started as u8];
            entry.extend(at.to_le_bytes());
            (&theirs).write_all(&entry).unwrap();
        }
        let told = progress.told(begun);
        assert_eq!(told.steps[0], (Step::Started, begun));
        assert!(told.steps[1].1 >= begun && told.steps[1].1 <= Instant::now());
    }

    #[test]
    fn whatever_is_no_step_is_not_sound_and_what_was_told_before_stands() {
        use Step::{Ending, Preparing};
        let entry = |number: u8| [vec![number], vec![0; ENTRY - 1]].concat();
        assert_eq!(told(&entry(0)), (vec![Preparing], true));
        assert_eq!(told(&entry(3)), (vec![Ending], true));
        assert_eq!(told(&entry(4)), (vec![], false), "there is none with this number");
        assert_eq!(told(&[0]), (vec![], false), "half a step");
        assert_eq!(told(&[entry(0), vec![3]].concat()), (vec![Preparing], false));
        assert_eq!(told(&[entry(0), entry(9), entry(3)].concat()), (vec![Preparing], false));
        assert_eq!(told(&entry(0).repeat(STEPS.len())), (vec![Preparing; 4], true));
        let too_many = told(&entry(0).repeat(STEPS.len() + 9));
        assert_eq!(too_many, (vec![Preparing; 5], false));
        let (progress, theirs) = pair().unwrap();
        drop(theirs);
        assert!(progress.told(Instant::now()).is_nothing(), "nobody is there");
    }
}
