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

/// A line, its supervisor's end first.
pub(super) fn line() -> io::Result<(Progress, UnixStream)> {
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
    /// The steps that were told since the last look, each with its time, which is at the earliest `since` and at the latest now.
    ///
    /// # Errors
    /// Where something else was told than steps. That the worker is gone its stream says.
    pub(super) fn steps(&self, since: Instant) -> io::Result<Vec<(Step, Instant)>> {
        let mut bytes = [0; ROOM];
        let count = match (&self.0).read(&mut bytes) {
            Ok(count) if count < ROOM => count,
            Ok(_) => return Err(io::Error::other("a worker told of more steps than there are")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let (now, on_the_clock) = (Instant::now(), clock());
        let told = bytes.get(..count).unwrap_or_default();
        let (entries, rest) = told.as_chunks::<ENTRY>();
        let steps = entries.iter().map(|[number, at @ ..]| {
            let step = *STEPS.get(usize::from(*number))?;
            let ago = Duration::from_nanos(on_the_clock.saturating_sub(u64::from_le_bytes(*at)));
            Some((step, now.checked_sub(ago).unwrap_or(since).max(since)))
        });
        let steps: Option<Vec<_>> = steps.collect();
        steps
            .filter(|_| rest.is_empty())
            .ok_or_else(|| io::Error::other("a worker told of no step"))
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

    fn told(words: &[u8]) -> io::Result<Vec<Step>> {
        let (progress, theirs) = line().unwrap();
        (&theirs).write_all(words).unwrap();
        let steps = progress.steps(Instant::now())?;
        Ok(steps.into_iter().map(|(step, _)| step).collect())
    }

    #[test]
    fn steps_come_in_order_with_the_time_they_were_told_at() {
        let (progress, theirs) = line().unwrap();
        let teller = Teller::new(theirs);
        let begun = Instant::now();
        assert_eq!(progress.steps(begun).unwrap(), []);
        teller.tell(Step::Preparing);
        let between = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        teller.tell(Step::Started);
        let ended = Instant::now();
        let steps = progress.steps(begun).unwrap();
        let [(Step::Preparing, first), (Step::Started, second)] = steps[..] else {
            panic!("{steps:?}");
        };
        // Two clocks are read one after the other.
        let little = Duration::from_millis(5);
        assert!(begun <= first && first <= between + little);
        assert!(between + little < second && second <= ended + little);
        assert_eq!(progress.steps(begun).unwrap(), [], "each is told once");
    }

    #[test]
    fn a_time_that_was_not_yet_or_long_ago_is_not_believed() {
        let (progress, theirs) = line().unwrap();
        let begun = Instant::now();
        for at in [0, u64::MAX] {
            let mut entry = vec![Step::Started as u8];
            entry.extend(at.to_le_bytes());
            (&theirs).write_all(&entry).unwrap();
        }
        let steps = progress.steps(begun).unwrap();
        assert_eq!(steps[0], (Step::Started, begun));
        assert!(steps[1].1 >= begun && steps[1].1 <= Instant::now());
    }

    #[test]
    fn whatever_is_no_step_is_an_error() {
        let entry = |number: u8| [vec![number], vec![0; ENTRY - 1]].concat();
        assert_eq!(told(&entry(0)).unwrap(), [Step::Preparing]);
        assert_eq!(told(&entry(3)).unwrap(), [Step::Ending]);
        assert!(told(&entry(4)).is_err(), "there is none with this number");
        assert!(told(&[0]).is_err(), "half a step");
        assert!(told(&entry(0).repeat(STEPS.len())).is_ok());
        assert!(told(&entry(0).repeat(STEPS.len() + 1)).is_err(), "more than there are");
        let (progress, theirs) = line().unwrap();
        drop(theirs);
        assert_eq!(progress.steps(Instant::now()).unwrap(), [], "nobody is there");
    }
}
