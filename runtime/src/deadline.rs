//! When a guest's time is up.

use std::time::{Duration, Instant};

use stockade_policies::Bound;

#[cfg(feature = "sql")]
use crate::ticker::Ticker;

/// A moment after which a guest may not run, or never.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    clock: Clock,
    /// Microseconds from the clock's beginning.
    started: u64,
    end: Option<u64>,
}

/// What tells the time.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// The system's, which takes longer to read than SQLite takes for an opcode. It begins at the deadline's start.
    System(Instant),
    /// A thread's that reads the system's now and then.
    #[cfg(feature = "sql")]
    Ticker(&'static Ticker),
}

impl Deadline {
    /// Starts the clock now. A bound that reaches beyond the clock's range is as good as none.
    pub(crate) fn start(bound: Bound) -> Self {
        Self::after(allowance(bound))
    }

    /// Starts the clock now, for so long; `None` is for ever.
    pub(crate) fn after(time: Option<Duration>) -> Self {
        Self {
            clock: Clock::System(Instant::now()),
            started: 0,
            end: time.map(micros),
        }
    }

    /// Starts by a ticker, which costs a load. What is not yet a tick old counts as one, so nobody gets less than the bound
    /// for being late in a tick. Where the ticker is dead, the time is up.
    #[cfg(feature = "sql")]
    pub(crate) fn start_by(ticker: &'static Ticker, bound: Bound) -> Self {
        let started = ticker.now();
        let most = allowance(bound).map(|most| micros(most.saturating_add(Ticker::TICK)));
        Self {
            clock: Clock::Ticker(ticker),
            started,
            end: most.map(|most| started.saturating_add(most)),
        }
    }

    /// Whether the time is up, by the clock that started it.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.now() >= end)
    }

    /// Whether the time is up, by the system's clock: a ticker may be late.
    #[cfg(feature = "sql")]
    pub(crate) fn is_really_over(&self) -> bool {
        let now = match self.clock {
            Clock::System(_) => self.now(),
            Clock::Ticker(ticker) => ticker.real(),
        };
        self.end.is_some_and(|end| now >= end)
    }

    /// When the time is up; `None` when there is no end.
    #[cfg(feature = "wasm")]
    pub(crate) fn end(&self) -> Option<Instant> {
        let left = Duration::from_micros(self.end?.saturating_sub(self.now()));
        Instant::now().checked_add(left)
    }

    /// Microseconds since the start, as exactly as the clock tells.
    pub(crate) fn elapsed_us(&self) -> u64 {
        self.now().saturating_sub(self.started)
    }

    fn now(&self) -> u64 {
        match self.clock {
            Clock::System(start) => micros(start.elapsed()),
            #[cfg(feature = "sql")]
            Clock::Ticker(ticker) => ticker.now(),
        }
    }
}

/// A bound in milliseconds as a duration; `None` when unbounded.
pub(crate) fn allowance(bound: Bound) -> Option<Duration> {
    match bound {
        Bound::Limited(millis) => Some(Duration::from_millis(millis)),
        Bound::Unbounded => None,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
