//! A few workers, started ahead of time.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::confine::{Calls, Confinement};
use super::deed::{Attempt, Deed};
use super::process::{Ended, Patience, Worker};
use super::queue::{Queue, Ticket};
use super::start;
use crate::code::Compiled;
use crate::error::RuntimeError;
use crate::execute::Job;
use crate::layer::Layers;
use crate::presence::{self, Presence};

/// A worker is replaced after so many guests, so that whatever they left behind does not add up.
const MOST_JOBS: u32 = 200;

/// A worker is replaced when a guest made it this large, in bytes: the allocator may not give it all back.
const LARGE: u64 = 192 * 1024 * 1024;

/// How a pool is made.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// How many workers there are, at least one: how many guests run at the same time.
    pub workers: usize,
    /// How many more are started ahead, one by default. While there is one, nobody waits because somebody else's guest
    /// lost its worker, or left it confined for other guests. Each costs two idle processes and their memory.
    pub spare: usize,
    /// How long a caller waits for a worker to be free before it is told that there is none.
    pub wait: Duration,
    /// How many callers may wait at the same time, 256 by default. Beyond that, the tenant with the most callers waiting has its
    /// last one told so at once.
    pub most_waiting: usize,
    /// Layers that the caller agrees to run without, where this machine or this build has not got them. None by default.
    pub do_without: Layers,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            spare: 1,
            wait: Duration::from_secs(30),
            most_waiting: 256,
            do_without: Layers::NONE,
        }
    }
}

/// A few workers, started ahead of time. Dropping the pool ends them all.
///
/// Where more callers come than there are workers, whose turn it is follows from what their tenants
/// ([`crate::Request::tenant`]) have had of the workers' time: who has had the least goes first, and those who have had more
/// than the average hold at most half of the workers together. A guest counts for as long as it has its worker, and where it
/// lost it, until another has been started. Names are those of the pool: runtimes that share it share its tenants.
pub struct Pool {
    nest: Arc<Nest>,
    errands: Option<Sender<Errand>>,
    nursery: Option<JoinHandle<()>>,
    options: PoolOptions,
    absent: Layers,
}

/// What the thread that starts workers is to do, off the callers' path.
enum Errand {
    Start,
    End(Box<Worker>),
}

struct Nest {
    state: Mutex<State>,
    /// Rung for callers who have their turn and no worker yet.
    changed: Condvar,
    begun: Instant,
}

struct State {
    queue: Queue,
    /// Processes without a guest, the one used last at the end.
    idle: Vec<Worker>,
    /// Processes that are wanted: the workers and the spare ones.
    wanted: usize,
    spare: usize,
    /// Processes that the nursery has been asked for.
    starting: usize,
    /// Callers who have their turn, and wait for a process that fits.
    expecting: usize,
    callers: HashMap<u64, Caller>,
    failure: Option<io::Error>,
    is_abandoned: bool,
}

/// Somebody who waits for its turn.
struct Caller {
    bell: Arc<Condvar>,
    call: Option<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Admitted,
    TurnedAway,
}

impl Pool {
    /// A pool of `size` workers, at least one, with every layer in force. They start in the background.
    ///
    /// # Errors
    /// As [`Pool::with`].
    pub fn new(size: usize) -> Result<Self, RuntimeError> {
        Self::with(PoolOptions {
            workers: size,
            ..PoolOptions::default()
        })
    }

    /// A pool as the options say. Its workers start in the background.
    ///
    /// # Errors
    /// [`RuntimeError::Absent`] where a layer is not there and the options do not agree to that, and
    /// [`RuntimeError::Spawn`] where no thread can be had.
    pub fn with(options: PoolOptions) -> Result<Self, RuntimeError> {
        let absent = absent(presence::presence(), options.do_without)?;
        Self::raised_by(options, absent, Worker::start)
    }

    fn raised_by(
        options: PoolOptions,
        absent: Layers,
        start: impl Fn() -> io::Result<Worker> + Send + 'static,
    ) -> Result<Self, RuntimeError> {
        let nest = Arc::new(Nest::new(&options));
        let (errands, ordered) = mpsc::channel();
        let nursery = thread::Builder::new()
            .name("nursery".to_owned())
            .spawn({
                let nest = Arc::clone(&nest);
                move || nest.raise(&ordered, start)
            })
            .map_err(|error| RuntimeError::Spawn(start::not_started(&error)))?;
        let pool = Self {
            nest,
            errands: Some(errands),
            nursery: Some(nursery),
            options,
            absent,
        };
        pool.order(&mut pool.nest.state());
        Ok(pool)
    }

    /// Layers that this machine or this build has not got.
    #[must_use]
    pub fn absent(&self) -> Layers {
        self.absent
    }

    /// How many callers wait for a worker now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.nest.state().queue.waiting()
    }

    /// Has native code in a worker attempt something, with these layers: for showing that they stand on this machine.
    ///
    /// # Errors
    /// [`RuntimeError`] where no worker can be had, or none answers.
    pub fn attempt(&self, deed: &Deed, layers: Layers) -> Result<Attempt, RuntimeError> {
        let confinement = Confinement::new(layers, Calls::Sql);
        let (turn, mut worker) = self.take(None, Worker::is_fresh)?;
        let attempt = worker.attempt(deed, confinement, layers);
        turn.replace(worker);
        attempt.map_err(RuntimeError::Wire)
    }

    /// Runs a job in a worker, waiting for the tenant's turn.
    /// A worker that dies or is killed is no error: it is an [`Ended`].
    ///
    /// Code that is to be kept is compiled by a worker that has had no guest, and is in `compiled` however the job ends.
    pub(crate) fn run(
        &self,
        tenant: Option<&str>,
        job: &Job,
        patience: &Patience,
        compiled: &mut Option<Compiled>,
    ) -> Result<Ended, RuntimeError> {
        let confinement = Confinement::of(job);
        let must_be_fresh = job.code.is_kept();
        let fits = |worker: &Worker| worker.fits(confinement) && (!must_be_fresh || worker.is_fresh());
        let (turn, mut worker) = self.take(tenant, fits)?;
        let ended = worker.run(job, patience, compiled);
        match &ended {
            Ok(Ended::Answered { peak_rss_bytes, .. }) if worker.jobs < MOST_JOBS && *peak_rss_bytes <= LARGE => {
                turn.give_back(worker);
            }
            _ => turn.replace(worker),
        }
        ended
    }

    /// The caller's turn, and a living worker that fits.
    fn take(&self, tenant: Option<&str>, fits: impl Fn(&Worker) -> bool) -> Result<(Turn<'_>, Worker), RuntimeError> {
        let begun = Instant::now();
        let turn = self.turn(tenant, begun)?;
        match self.worker(begun, &fits) {
            Ok(worker) => Ok((turn, worker)),
            Err(error) => {
                turn.go_without();
                Err(error)
            }
        }
    }

    /// Waits for the caller's turn.
    fn turn(&self, tenant: Option<&str>, begun: Instant) -> Result<Turn<'_>, RuntimeError> {
        let bell = Arc::new(Condvar::new());
        let mut state = self.nest.state();
        if state.failure.take().is_some() {
            // Each caller has it tried again.
            self.order(&mut state);
        }
        let ticket = state.enter(tenant, &bell, self.nest.now());
        loop {
            match state.call(&ticket) {
                Some(Call::Admitted) => {
                    return Ok(Turn {
                        pool: self,
                        ticket,
                        is_settled: false,
                    });
                }
                Some(Call::TurnedAway) => {
                    let waiting = self.options.most_waiting;
                    return Err(RuntimeError::Crowded { waiting });
                }
                None => {}
            }
            let left = self.left(begun);
            // Where some live, their callers are done some time: only then is there something to wait for.
            let failure = state
                .failed()
                .filter(|_| state.is_abandoned || state.queue.living() == 0);
            let error = failure.or_else(|| left.is_none().then(|| self.exhausted()));
            if let Some(error) = error {
                state.leave(&ticket);
                return Err(error);
            }
            state = wait(&bell, state, left.unwrap_or_default());
        }
    }

    /// A living worker that fits, for a caller who has its turn. There is one for each, though it may be confined for
    /// other guests: then another takes its place.
    fn worker(&self, begun: Instant, fits: &impl Fn(&Worker) -> bool) -> Result<Worker, RuntimeError> {
        let mut state = self.nest.state();
        loop {
            let Some(mut worker) = state.pick(fits) else {
                state = self.expect(state, begun)?;
                continue;
            };
            // It may have been the last that any guest could have.
            self.order(&mut state);
            drop(state);
            if worker.is_alive() {
                return Ok(worker);
            }
            state = self.nest.state();
            self.bury(&mut state, worker);
        }
    }

    /// Waits for a process to come up or to become free.
    fn expect<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        begun: Instant,
    ) -> Result<MutexGuard<'a, State>, RuntimeError> {
        state.expecting += 1;
        if state.starting < state.expecting
            && let Some(unfit) = state.take_oldest()
        {
            self.bury(&mut state, unfit);
        }
        let left = self.left(begun);
        let error = state.failed().or_else(|| left.is_none().then(|| self.exhausted()));
        let mut state = match error {
            Some(error) => {
                state.expecting -= 1;
                return Err(error);
            }
            None => wait(&self.nest.changed, state, left.unwrap_or_default()),
        };
        state.expecting -= 1;
        Ok(state)
    }

    fn left(&self, begun: Instant) -> Option<Duration> {
        let left = self.options.wait.checked_sub(begun.elapsed());
        left.filter(|left| !left.is_zero())
    }

    fn exhausted(&self) -> RuntimeError {
        RuntimeError::Exhausted {
            workers: self.options.workers.max(1),
            waited: self.options.wait,
        }
    }

    /// A process without a guest is no more, or shall be.
    fn bury(&self, state: &mut State, worker: Worker) {
        state.queue.bury();
        self.order(state);
        self.end(worker);
    }

    /// Has those processes started that are missing.
    fn order(&self, state: &mut State) {
        for _ in 0..state.missing() {
            state.starting += 1;
            let is_taken = self
                .errands
                .as_ref()
                .is_some_and(|errands| errands.send(Errand::Start).is_ok());
            state.is_abandoned |= !is_taken;
        }
    }

    /// Has a process ended off the caller's path.
    fn end(&self, worker: Worker) {
        if let Some(errands) = &self.errands {
            // Where the nursery is gone, the worker comes back in the error and ends here.
            drop(errands.send(Errand::End(Box::new(worker))));
        }
    }
}

/// A caller's turn. Where it is dropped, by a panic, the worker is as good as lost.
struct Turn<'a> {
    pool: &'a Pool,
    ticket: Ticket,
    is_settled: bool,
}

impl<'a> Turn<'a> {
    /// The worker can have another guest.
    fn give_back(mut self, worker: Worker) {
        let (pool, mut state) = self.settle(Queue::release);
        state.idle.push(worker);
        let surplus = state.take_surplus();
        pool.nest.call(&mut state);
        drop(state);
        if let Some(worker) = surplus {
            pool.end(worker);
        }
    }

    /// The worker cannot have another guest.
    fn replace(mut self, worker: Worker) {
        self.lose();
        self.pool.end(worker);
    }

    /// There was no worker to be had.
    fn go_without(mut self) {
        let (pool, mut state) = self.settle(Queue::release);
        pool.nest.call(&mut state);
    }

    fn lose(&mut self) {
        let (pool, mut state) = self.settle(Queue::lose);
        pool.order(&mut state);
        pool.nest.call(&mut state);
    }

    fn settle(&mut self, how: impl FnOnce(&mut Queue, &Ticket, Duration)) -> (&'a Pool, MutexGuard<'a, State>) {
        self.is_settled = true;
        let pool = self.pool;
        let mut state = pool.nest.state();
        how(&mut state.queue, &self.ticket, pool.nest.now());
        (pool, state)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.lose();
        }
    }
}

/// Layers that are not there, where the caller agrees to all of them.
fn absent(found: Vec<Presence>, agreed: Layers) -> Result<Layers, RuntimeError> {
    let mut absent = Layers::NONE;
    for Presence { layer, detail, .. } in found.into_iter().filter(|found| !found.is_there) {
        if !agreed.contains(layer) {
            return Err(RuntimeError::Absent { layer, detail });
        }
        absent = absent.with(layer);
    }
    Ok(absent)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.errands = None;
        if let Some(nursery) = self.nursery.take() {
            drop(nursery.join());
        }
        self.nest.state().idle.clear();
    }
}

impl Nest {
    fn new(options: &PoolOptions) -> Self {
        let workers = options.workers.max(1);
        Self {
            state: Mutex::new(State {
                queue: Queue::new(workers, options.most_waiting),
                idle: Vec::new(),
                wanted: workers.saturating_add(options.spare),
                spare: options.spare,
                starting: 0,
                expecting: 0,
                callers: HashMap::new(),
                failure: None,
                is_abandoned: false,
            }),
            changed: Condvar::new(),
            begun: Instant::now(),
        }
    }

    /// Starts and ends workers. It is this thread's death that ends a worker whose supervisor was killed
    /// (`PR_SET_PDEATHSIG` watches the thread that forked), so it must live as long as the pool.
    fn raise(&self, errands: &Receiver<Errand>, start: impl Fn() -> io::Result<Worker>) {
        let _farewell = Farewell(self);
        while let Ok(errand) = errands.recv() {
            match errand {
                Errand::Start => {
                    let worker = catch_unwind(AssertUnwindSafe(&start));
                    self.has_come(worker.unwrap_or_else(|_| Err(io::Error::other("starting a worker failed"))));
                }
                Errand::End(worker) => drop(worker),
            }
        }
    }

    fn has_come(&self, worker: io::Result<Worker>) {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        let mut surplus = None;
        match worker {
            Ok(worker) => {
                state.failure = None;
                state.queue.welcome(self.now());
                state.idle.push(worker);
                surplus = state.take_surplus();
                self.call(&mut state);
            }
            Err(error) => {
                state.failure = Some(error);
                state.queue.forgive(self.now());
                self.wake_all(&state);
            }
        }
        drop(state);
        drop(surplus);
    }

    /// Calls those whose turn it is, and turns away those who are too many.
    fn call(&self, state: &mut State) {
        state.call_up(self.now());
        if state.expecting > 0 {
            self.changed.notify_all();
        }
    }

    fn wake_all(&self, state: &State) {
        state.callers.values().for_each(|caller| caller.bell.notify_one());
        self.changed.notify_all();
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the nursery nobody starts workers, and those that it started die with it: no caller may wait for one.
struct Farewell<'a>(&'a Nest);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_abandoned = true;
        self.0.wake_all(&state);
        drop(state);
    }
}

impl State {
    fn enter(&mut self, tenant: Option<&str>, bell: &Arc<Condvar>, now: Duration) -> Ticket {
        let ticket = self.queue.enter(tenant.map(Arc::from), now);
        let bell = Arc::clone(bell);
        self.callers.insert(ticket.number(), Caller { bell, call: None });
        self.call_up(now);
        ticket
    }

    fn call_up(&mut self, now: Duration) {
        while let Some(number) = self.queue.admit(now) {
            self.tell(number, Call::Admitted);
        }
        while let Some(number) = self.queue.turn_away(now) {
            self.tell(number, Call::TurnedAway);
        }
    }

    fn tell(&mut self, number: u64, call: Call) {
        if let Some(caller) = self.callers.get_mut(&number) {
            caller.call = Some(call);
            caller.bell.notify_one();
        }
    }

    /// What the caller was told, once.
    fn call(&mut self, ticket: &Ticket) -> Option<Call> {
        let call = self.callers.get(&ticket.number())?.call?;
        self.callers.remove(&ticket.number());
        Some(call)
    }

    /// The caller waits no longer. It must not have been called.
    fn leave(&mut self, ticket: &Ticket) {
        self.queue.leave(ticket);
        self.callers.remove(&ticket.number());
    }

    /// Why no process will come up, unless somebody asks again.
    fn failed(&self) -> Option<RuntimeError> {
        if self.is_abandoned {
            let gone = io::Error::other("the thread that starts workers is gone");
            return Some(RuntimeError::Spawn(gone));
        }
        let failure = self.failure.as_ref()?;
        Some(RuntimeError::Spawn(io::Error::new(failure.kind(), failure.to_string())))
    }

    /// How many processes are to be started: as many as are wanted, and as many that any guest can have as are spare.
    fn missing(&self) -> usize {
        if self.failure.is_some() {
            return 0;
        }
        let fresh = self.idle.iter().filter(|worker| worker.is_fresh()).count();
        let few = self.wanted.saturating_sub(self.queue.living() + self.starting);
        let confined = self.spare.saturating_sub(fresh + self.starting);
        few.max(confined)
    }

    /// A process that fits, if possible one that is confined already: the others can have any guest.
    fn pick(&mut self, fits: impl Fn(&Worker) -> bool) -> Option<Worker> {
        let mut fit = (self.idle.iter().enumerate().rev()).filter(|(_, worker)| fits(worker));
        let best = fit
            .clone()
            .find(|(_, worker)| !worker.is_fresh())
            .or_else(|| fit.next());
        let at = best?.0;
        Some(self.idle.remove(at))
    }

    fn take_oldest(&mut self) -> Option<Worker> {
        (!self.idle.is_empty()).then(|| self.idle.remove(0))
    }

    /// A process that is one too many: of those that cannot have any guest, the one that waited longest.
    fn take_surplus(&mut self) -> Option<Worker> {
        if self.queue.living() <= self.wanted {
            return None;
        }
        let at = self.idle.iter().position(|worker| !worker.is_fresh())?;
        self.queue.bury();
        Some(self.idle.remove(at))
    }
}

/// Waits until the bell rings or the time is over.
fn wait<'a>(bell: &Condvar, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
    bell.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::layer::Layer;

    const PATIENT: PoolOptions = PoolOptions {
        workers: 2,
        spare: 1,
        wait: Duration::from_secs(20),
        most_waiting: 9,
        do_without: Layers::NONE,
    };

    fn asked(pool: &Pool) -> String {
        match pool.take(None, |_| true) {
            Err(RuntimeError::Spawn(error)) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("a worker came up"),
        }
    }

    #[test]
    fn a_worker_that_does_not_start_is_an_error_and_the_next_caller_has_it_tried_again() {
        let tried = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tried);
        let start = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::other("no more processes"))
        };
        let pool = Pool::raised_by(PATIENT, Layers::NONE, start).unwrap();
        for _ in 0..3 {
            let before = tried.load(Ordering::SeqCst);
            assert_eq!(asked(&pool), "no more processes");
            // The first caller may find that it failed already, and asks again.
            assert!(before == 0 || tried.load(Ordering::SeqCst) > before);
        }
    }

    #[test]
    fn a_panic_while_starting_is_an_error() {
        let pool = Pool::raised_by(PATIENT, Layers::NONE, || panic!("of the test")).unwrap();
        assert_eq!(asked(&pool), "starting a worker failed");
    }

    /// A pool whose nursery is somewhere else.
    fn without_nursery() -> (Pool, Receiver<Errand>) {
        let (errands, ordered) = mpsc::channel();
        let pool = Pool {
            nest: Arc::new(Nest::new(&PATIENT)),
            errands: Some(errands),
            nursery: None,
            options: PATIENT,
            absent: Layers::NONE,
        };
        (pool, ordered)
    }

    const GONE: &str = "the thread that starts workers is gone";

    #[test]
    fn callers_who_wait_when_the_nursery_dies_are_told() {
        let (pool, _ordered) = without_nursery();
        thread::scope(|scope| {
            let callers = [(); 3].map(|()| scope.spawn(|| asked(&pool)));
            while pool.waiting() < 3 {
                thread::yield_now();
            }
            let nursery = scope.spawn(|| {
                let _farewell = Farewell(&pool.nest);
                panic!("of the test");
            });
            assert!(nursery.join().is_err());
            for caller in callers {
                assert_eq!(caller.join().unwrap(), GONE);
            }
        });
        assert_eq!(asked(&pool), GONE);
    }

    #[test]
    fn a_nursery_that_takes_no_orders_is_gone() {
        let (pool, ordered) = without_nursery();
        drop(ordered);
        pool.order(&mut pool.nest.state());
        assert_eq!(asked(&pool), GONE);
    }

    #[test]
    fn nobody_waits_longer_than_the_options_say() {
        let (mut pool, _ordered) = without_nursery();
        pool.options.wait = Duration::from_millis(20);
        match pool.take(Some("anybody"), |_| true) {
            Err(RuntimeError::Exhausted { workers: 2, waited }) => assert_eq!(waited, pool.options.wait),
            other => panic!("{:?}", other.map(|_| "a worker")),
        }
        assert_eq!(pool.waiting(), 0);
        assert!(pool.nest.state().callers.is_empty());
    }

    #[test]
    fn as_many_workers_are_started_as_are_wanted_and_as_any_guest_can_have() {
        let (pool, ordered) = without_nursery();
        let mut state = pool.nest.state();
        pool.order(&mut state);
        pool.order(&mut state);
        assert_eq!((state.starting, ordered.try_iter().count()), (3, 3));
        // All have come up, and all are confined for some kind of guest: none of them is here.
        for _ in 0..3 {
            state.starting -= 1;
            state.queue.welcome(Duration::ZERO);
        }
        assert_eq!(state.missing(), 1);
        state.failure = Some(io::Error::other("no more processes"));
        assert_eq!(state.missing(), 0, "until a caller asks");
    }

    #[test]
    fn a_layer_that_is_not_there_is_refused_unless_agreed_to() {
        let found = |is_there| {
            vec![Presence {
                layer: Layer::Landlock,
                is_there,
                detail: "the kernel is too old".to_owned(),
            }]
        };
        let landlock = Layers::from_iter([Layer::Landlock]);
        assert_eq!(absent(found(true), Layers::NONE).unwrap(), Layers::NONE);
        assert_eq!(absent(found(false), landlock).unwrap(), landlock);
        assert_eq!(absent(found(true), landlock).unwrap(), Layers::NONE);
        let error = absent(found(false), Layers::ALL.without(Layer::Landlock)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the layer `landlock` is not there: the kernel is too old"
        );
    }
}
