//! When a guest's time is up.

use std::time::{Duration, Instant};

use stockade_policies::Bound;

/// A moment after which a guest may not run, or never.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    started: Instant,
    end: Option<Instant>,
}

impl Deadline {
    /// Starts the clock now. A bound that reaches beyond the clock's range is as good as none.
    pub(crate) fn start(bound: Bound) -> Self {
        let started = Instant::now();
        Self {
            started,
            end: allowance(bound).and_then(|most| started.checked_add(most)),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Time left; `None` when there is no end.
    #[cfg(feature = "wasm")]
    pub(crate) fn left(&self) -> Option<Duration> {
        self.end.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Microseconds since the start.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A bound in milliseconds as a duration; `None` when unbounded.
pub(crate) fn allowance(bound: Bound) -> Option<Duration> {
    match bound {
        Bound::Limited(millis) => Some(Duration::from_millis(millis)),
        Bound::Unbounded => None,
    }
}
