//! A clock that costs a load to read.
//!
//! The system's clock takes some 25 ns to read, which is a twentieth of a short query, and it is read twice. So a thread
//! reads it every [`Ticker::TICK`] while somebody needs it, and everybody else reads what it wrote down. A ticker that dies
//! says that it is the end of time: whoever goes by it finds every deadline over.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// What a dead ticker tells: later than every deadline.
const END_OF_TIME: u64 = u64::MAX;

/// A clock that costs a load to read.
#[derive(Debug)]
pub(crate) struct Ticker {
    start: Instant,
    /// Microseconds since the start.
    now: AtomicU64,
    users: AtomicUsize,
    thread: OnceLock<Thread>,
}

/// Somebody who needs a ticker to tick.
#[derive(Debug)]
pub(crate) struct User(&'static Ticker);

impl Ticker {
    /// How often the clock is read, and so how far what a ticker tells lies behind on a machine that is not overloaded.
    pub(crate) const TICK: Duration = Duration::from_millis(10);

    fn new() -> Self {
        Self {
            start: Instant::now(),
            now: AtomicU64::new(0),
            users: AtomicUsize::new(0),
            thread: OnceLock::new(),
        }
    }

    /// The process's ticker, which ticks until the last user is gone.
    pub(crate) fn of_process() -> io::Result<User> {
        static TICKER: OnceLock<Ticker> = OnceLock::new();
        TICKER.get_or_init(Self::new).used(|ticker| {
            loop {
                ticker.tick();
            }
        })
    }

    /// Starts the thread with the first user, and wakes it up for each who finds it asleep.
    fn used(&'static self, life: impl FnOnce(&'static Self) + Send + 'static) -> io::Result<User> {
        if self.users.fetch_add(1, Ordering::AcqRel) == 0 {
            self.read_clock();
        }
        let user = User(self);
        if self.thread.get().is_none() {
            let started = thread::Builder::new()
                .name("stockade-ticker".to_owned())
                .spawn(move || {
                    let _end = EndOfTime(self);
                    life(self);
                })?;
            // Who comes second to this has started one more, which does no harm.
            let _ = self.thread.set(started.thread().clone());
        }
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        Ok(user)
    }

    fn tick(&self) {
        if self.users.load(Ordering::Acquire) == 0 {
            thread::park();
        } else {
            thread::sleep(Self::TICK);
        }
        self.read_clock();
    }

    fn read_clock(&self) {
        let real = self.real();
        // The end of time is never taken back, and nobody turns the clock back.
        self.now.fetch_max(real, Ordering::Release);
    }

    /// Microseconds that have passed, at the last tick.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Acquire)
    }

    /// Microseconds that have passed, by the system's clock.
    pub(crate) fn real(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(END_OF_TIME)
    }
}

impl User {
    /// The ticker that is used.
    pub(crate) fn ticker(&self) -> &'static Ticker {
        self.0
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Stops time when the thread that tells it ends, however it ends.
struct EndOfTime(&'static Ticker);

impl Drop for EndOfTime {
    fn drop(&mut self) {
        self.0.now.store(END_OF_TIME, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use stockade_policies::Bound;

    use super::*;
    use crate::deadline::Deadline;

    fn leaked() -> &'static Ticker {
        Box::leak(Box::new(Ticker::new()))
    }

    #[test]
    fn when_the_ticker_dies_every_deadline_is_over_for_good() {
        let ticker = leaked();
        let (die, death) = mpsc::channel::<()>();
        let user = ticker
            .used(move |_| {
                let _ = death.recv();
                panic!("the ticker dies");
            })
            .unwrap();
        let before = Deadline::start_by(user.ticker(), Bound::Limited(60_000));
        assert!(!before.is_over());
        die.send(()).unwrap();
        while ticker.now() != END_OF_TIME {
            thread::yield_now();
        }
        assert!(before.is_over());
        let after = Deadline::start_by(ticker, Bound::Limited(60_000));
        assert!(after.is_over());
        ticker.read_clock();
        assert!(after.is_over(), "nobody brings it back to life");
    }

    #[test]
    fn a_late_ticker_does_not_move_the_real_end() {
        let ticker = leaked();
        let user = ticker
            .used(|_| {
                loop {
                    thread::park();
                }
            })
            .unwrap();
        let deadline = Deadline::start_by(user.ticker(), Bound::Limited(1));
        while ticker.real() < 20_000 {
            thread::yield_now();
        }
        assert!(!deadline.is_over(), "it did not tick");
        assert!(deadline.is_really_over());
    }

    #[test]
    fn it_ticks_while_it_is_used_and_is_right_again_when_it_was_not() {
        let ticker = leaked();
        let live = |ticker: &'static Ticker| loop {
            ticker.tick();
        };
        let user = ticker.used(live).unwrap();
        let first = ticker.now();
        while ticker.now() <= first {
            thread::yield_now();
        }
        drop(user);
        let asleep = ticker.real();
        let _user = ticker.used(live).unwrap();
        assert!(ticker.now() >= asleep);
    }
}
