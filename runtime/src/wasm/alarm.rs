//! Stops guests at their deadlines: one thread for the whole process, whatever the number of guests.
//!
//! The thread holds a list of what to do and when. It does its work with the list locked, so once an alarm is dropped it
//! does not ring any more, and a page that was taken away is there again. Should the thread end, which it never does by
//! itself, everything on the list rings at once: a guest that nobody watches does not go on.

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mm::{MprotectFlags, mprotect};
use wasmtime::Engine;

use super::rewrite::PAGE_BYTES;
use crate::deadline::Deadline;

/// How soon to ring again where once is not enough.
const AGAIN: Duration = Duration::from_millis(1);

/// How a guest is stopped.
pub(super) enum Bell {
    /// Its page is taken away.
    Page(Page),
    /// The epoch of its engine is over.
    Epoch(Engine),
    /// Breaks the thread that rings it, once.
    #[cfg(test)]
    Broken,
}

/// The memory that a guest's checks load from. There is one owner, so it is taken away and given back by nobody else.
pub(super) struct Page(NonNull<u8>);

#[expect(unsafe_code, reason = "a pointer says nothing about threads")]
// SAFETY: the address is only ever given to `mprotect`, which may be called from any thread.
unsafe impl Send for Page {}

impl Page {
    /// The page at this address.
    ///
    /// # Safety
    /// `start` is where a memory of one WebAssembly page begins whose content no host code ever touches, and which only
    /// instructions load from that wasmtime can make a trap of. The memory outlives this value.
    #[expect(unsafe_code, reason = "what is at an address only the caller knows")]
    pub(super) unsafe fn at(start: NonNull<u8>) -> Self {
        Self(start)
    }

    fn protect(&self, access: MprotectFlags) -> bool {
        #[expect(unsafe_code, reason = "changes the protection of memory by address")]
        // SAFETY: by the promise made to `at` these bytes are mapped, they are all of one memory that nothing but checks
        // reads, and a check that faults is an ordinary trap.
        let done = unsafe { mprotect(self.0.as_ptr().cast(), PAGE_BYTES, access) };
        done.is_ok()
    }
}

impl Bell {
    /// Rings once, and says whether that is enough.
    fn ring(&self) -> bool {
        match self {
            Self::Page(page) => page.protect(MprotectFlags::empty()),
            // The guest may just be on its way out of another guest's epoch, and step over the end of this one.
            Self::Epoch(engine) => {
                engine.increment_epoch();
                false
            }
            #[cfg(test)]
            Self::Broken => {
                assert!(thread::panicking(), "as the test wants it");
                true
            }
        }
    }

    /// Undoes what ringing did to memory that others may be given.
    fn silence(&self) -> bool {
        match self {
            Self::Page(page) => page.protect(MprotectFlags::READ | MprotectFlags::WRITE),
            Self::Epoch(_) => true,
            #[cfg(test)]
            Self::Broken => true,
        }
    }
}

/// Whether an alarm rang, and why: shared with whoever must read a trap.
#[derive(Clone, Default)]
pub(super) struct Rung(Arc<AtomicU8>);

/// Why an alarm rang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cause {
    /// The guest's time is over.
    Deadline = 1,
    /// Nobody watches the clock any more.
    Unwatched = 2,
}

impl Rung {
    pub(super) fn cause(&self) -> Option<Cause> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Cause::Deadline),
            _ => Some(Cause::Unwatched),
        }
    }

    fn because(&self, cause: Cause) {
        self.0.store(cause as u8, Ordering::Release);
    }
}

/// Stops the guest at its deadline, unless dropped before.
pub(super) struct Alarm {
    clock: &'static Clock,
    place: Option<Place>,
}

/// Where an alarm stands in the list: by its time, and by its number among those of the same time.
type Place = (Instant, u64);

impl Alarm {
    /// Sets the alarm, or fails where no thread can be had: a guest must not start without its alarm.
    pub(super) fn set(bell: Bell, deadline: Deadline, rung: Rung) -> io::Result<Self> {
        static CLOCK: Clock = Clock::new();
        Self::on(&CLOCK, bell, deadline, rung)
    }

    fn on(clock: &'static Clock, bell: Bell, deadline: Deadline, rung: Rung) -> io::Result<Self> {
        let place = match deadline.end() {
            Some(end) => Some(clock.add(end, Entry::of(bell, rung))?),
            None => None,
        };
        Ok(Self { clock, place })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.clock.remove(place);
        }
    }
}

struct Entry {
    bell: Bell,
    rung: Rung,
    is_done: bool,
}

impl Entry {
    fn of(bell: Bell, rung: Rung) -> Self {
        Self {
            bell,
            rung,
            is_done: false,
        }
    }

    /// The cause comes first: a guest that faults finds it.
    fn ring(&mut self, cause: Cause) {
        self.rung.because(cause);
        self.is_done = self.bell.ring();
    }
}

/// The list, and the thread that works through it.
struct Clock {
    list: Mutex<List>,
    changed: Condvar,
}

struct List {
    waiting: BTreeMap<Place, Entry>,
    rung: BTreeMap<Place, Entry>,
    next: u64,
    is_watched: bool,
    /// When the thread looks again by itself; `None` where it waits for somebody to come.
    wakes_at: Option<Instant>,
}

impl Clock {
    const fn new() -> Self {
        Self {
            list: Mutex::new(List {
                waiting: BTreeMap::new(),
                rung: BTreeMap::new(),
                next: 0,
                is_watched: false,
                wakes_at: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn add(&'static self, end: Instant, entry: Entry) -> io::Result<Place> {
        let mut list = self.list();
        if !list.is_watched {
            thread::Builder::new()
                .name("alarms".to_owned())
                .spawn(|| self.watch())?;
            list.is_watched = true;
        }
        let place = (end, list.next);
        list.next += 1;
        list.waiting.insert(place, entry);
        // Guests that end in time follow each other sooner than their deadlines: the thread need not wake for each of them.
        let would_sleep_over_it = list.wakes_at.is_none_or(|at| end < at);
        drop(list);
        if would_sleep_over_it {
            self.changed.notify_one();
        }
        Ok(place)
    }

    fn remove(&self, place: Place) {
        let mut list = self.list();
        list.waiting.remove(&place);
        let Some(entry) = list.rung.remove(&place) else {
            return;
        };
        drop(list);
        if !entry.bell.silence() {
            // Whoever is given this memory next would fault in the host.
            std::process::abort();
        }
    }

    fn watch(&self) {
        let _last = LastWill(self);
        let mut list = self.list();
        loop {
            let now = Instant::now();
            let left = list.ring_due(now);
            list.wakes_at = left.map(|left| now + left);
            list = match left {
                None => self.changed.wait(list).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.changed
                        .wait_timeout(list, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    // A panic while the list was locked can have left out nothing but its last step, and `LastWill` rings for all.
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    /// Rings for everybody whose time is over, and says how long until it must be done again.
    fn ring_due(&mut self, now: Instant) -> Option<Duration> {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let (place, entry) = first.remove_entry();
            self.rung.insert(place, entry);
        }
        let mut again = None;
        for entry in self.rung.values_mut().filter(|entry| !entry.is_done) {
            entry.ring(Cause::Deadline);
            again = again.or((!entry.is_done).then_some(AGAIN));
        }
        let next = self
            .waiting
            .first_key_value()
            .map(|((end, _), _)| end.saturating_duration_since(now));
        match (next, again) {
            (Some(next), Some(again)) => Some(next.min(again)),
            (next, again) => next.or(again),
        }
    }
}

/// Rings for everybody when the thread ends. The next guest starts another.
struct LastWill<'a>(&'a Clock);

impl Drop for LastWill<'_> {
    fn drop(&mut self) {
        let mut list = self.0.list();
        list.is_watched = false;
        list.wakes_at = None;
        let waiting = std::mem::take(&mut list.waiting);
        list.rung.extend(waiting);
        for entry in list.rung.values_mut() {
            entry.ring(Cause::Unwatched);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    use stockade_policies::Bound;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    /// A clock and a page that live as long as the process.
    fn clock() -> &'static Clock {
        Box::leak(Box::new(Clock::new()))
    }

    #[expect(unsafe_code, reason = "maps memory of its own")]
    fn page() -> NonNull<u8> {
        // SAFETY: the system chooses the address, and nothing unmaps it.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        NonNull::new(start.unwrap().cast()).unwrap()
    }

    #[expect(unsafe_code, reason = "what is at the address is known here")]
    fn bell(start: NonNull<u8>) -> Bell {
        // SAFETY: nothing reads this page, and nothing unmaps it.
        Bell::Page(unsafe { Page::at(start) })
    }

    /// What the system says may be done with the page: `rw-p`, `---p`.
    fn access(start: NonNull<u8>) -> String {
        let address = start.as_ptr() as usize;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let bound = |text: &str| usize::from_str_radix(text, 16).unwrap();
        maps.lines()
            .find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                (bound(from) <= address && address < bound(to)).then(|| rest.split(' ').next().unwrap().to_owned())
            })
            .unwrap()
    }

    #[track_caller]
    fn wait_for(rung: &Rung, page: NonNull<u8>) -> Cause {
        let end = Instant::now() + SOON;
        loop {
            if let Some(cause) = rung.cause()
                && access(page) == "---p"
            {
                return cause;
            }
            assert!(Instant::now() < end, "the alarm did not ring");
            thread::yield_now();
        }
    }

    #[test]
    fn a_page_is_taken_away_at_the_deadline_and_given_back_afterwards() {
        let (rung, page) = (Rung::default(), page());
        let alarm = Alarm::on(clock(), bell(page), Deadline::start(Bound::Limited(5)), rung.clone()).unwrap();
        assert_eq!(wait_for(&rung, page), Cause::Deadline);
        drop(alarm);
        assert_eq!(access(page), "rw-p");
    }

    #[test]
    fn an_alarm_that_was_dropped_does_not_ring() {
        let clock = clock();
        let (early, late) = (Rung::default(), Rung::default());
        let (first, second) = (page(), page());
        let dropped = Alarm::on(clock, bell(first), Deadline::start(Bound::Limited(20)), early.clone()).unwrap();
        drop(dropped);
        let _alarm = Alarm::on(clock, bell(second), Deadline::start(Bound::Limited(40)), late.clone()).unwrap();
        assert_eq!(wait_for(&late, second), Cause::Deadline);
        assert_eq!((early.cause(), access(first).as_str()), (None, "rw-p"));
        let list = clock.list();
        assert_eq!((list.waiting.len(), list.rung.len()), (0, 1));
    }

    #[test]
    fn an_alarm_set_later_can_ring_earlier() {
        let clock = clock();
        let (late, early) = (Rung::default(), Rung::default());
        let page = page();
        let _an_hour = Alarm::on(
            clock,
            bell(self::page()),
            Deadline::start(Bound::Limited(3_600_000)),
            late.clone(),
        );
        let _now = Alarm::on(clock, bell(page), Deadline::start(Bound::Limited(5)), early.clone()).unwrap();
        assert_eq!(wait_for(&early, page), Cause::Deadline);
        assert_eq!(late.cause(), None);
    }

    #[test]
    fn alarms_ring_however_long_nobody_set_one() {
        let clock = clock();
        for _ in 0..3 {
            let (rung, page) = (Rung::default(), page());
            let alarm = Alarm::on(clock, bell(page), Deadline::start(Bound::Limited(5)), rung.clone()).unwrap();
            assert_eq!(wait_for(&rung, page), Cause::Deadline);
            drop(alarm);
            let end = Instant::now() + SOON;
            while clock.list().wakes_at.is_some() {
                assert!(Instant::now() < end, "the thread does not rest");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn where_the_thread_dies_everybody_is_stopped_and_the_next_guest_has_another() {
        let clock = clock();
        let (rung, watched) = (Rung::default(), page());
        let _an_hour = Alarm::on(
            clock,
            bell(watched),
            Deadline::start(Bound::Limited(3_600_000)),
            rung.clone(),
        )
        .unwrap();
        let broken = Alarm::on(clock, Bell::Broken, Deadline::start(Bound::Limited(0)), Rung::default()).unwrap();
        assert_eq!(wait_for(&rung, watched), Cause::Unwatched);
        drop(broken);
        let (rung, watched) = (Rung::default(), page());
        let _next = Alarm::on(clock, bell(watched), Deadline::start(Bound::Limited(5)), rung.clone()).unwrap();
        assert_eq!(wait_for(&rung, watched), Cause::Deadline);
    }
}
