//! A few workers, started ahead of time.

use std::io;
use std::panic::catch_unwind;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::confine::{Calls, Confinement};
use super::deed::{Attempt, Deed};
use super::process::{Ended, Patience, Worker};
use crate::error::RuntimeError;
use crate::execute::Job;
use crate::layer::{Layer, Layers};
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
    /// How long a caller waits for a worker to be free before it is told that there is none.
    pub wait: Duration,
    /// Layers that the caller agrees to run without, where this machine or this build has not got them. None by default.
    pub do_without: Layers,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            wait: Duration::from_secs(30),
            do_without: Layers::NONE,
        }
    }
}

/// A few workers, started ahead of time. Dropping the pool ends them all.
pub struct Pool {
    nest: Arc<Nest>,
    orders: Option<Sender<Order>>,
    nursery: Option<JoinHandle<()>>,
    options: PoolOptions,
    absent: Layers,
}

/// A worker to start.
struct Order {
    instead_of: Option<Worker>,
}

#[derive(Default)]
struct Nest {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Worker>,
    failure: Option<io::Error>,
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
        let nest = Arc::new(Nest::default());
        let (orders, ordered) = mpsc::channel();
        let nursery = thread::Builder::new()
            .name("nursery".to_owned())
            .spawn({
                let nest = Arc::clone(&nest);
                move || nest.raise(&ordered)
            })
            .map_err(RuntimeError::Spawn)?;
        let pool = Self {
            nest,
            orders: Some(orders),
            nursery: Some(nursery),
            options,
            absent,
        };
        for _ in 0..options.workers.max(1) {
            pool.order(None);
        }
        Ok(pool)
    }

    /// Layers that this machine or this build has not got.
    #[must_use]
    pub fn absent(&self) -> Layers {
        self.absent
    }

    /// Has native code in a worker attempt something, with these layers: for showing that they stand on this machine.
    ///
    /// # Errors
    /// [`RuntimeError`] where no worker can be had, or none answers.
    pub fn attempt(&self, deed: &Deed, layers: Layers) -> Result<Attempt, RuntimeError> {
        let confinement = Confinement::new(layers, Calls::Sql);
        let mut worker = self.take_fresh()?;
        let attempt = worker.attempt(deed, confinement, layers.contains(Layer::Heap));
        self.order(Some(worker));
        attempt.map_err(RuntimeError::Wire)
    }

    /// Runs a job in a worker, waiting for one to be free.
    /// A worker that dies or is killed is no error: it is an [`Ended`].
    pub(crate) fn run(&self, job: &Job, patience: &Patience) -> Result<Ended, RuntimeError> {
        let confinement = Confinement::of(job);
        let mut worker = self.take(|worker| worker.fits(confinement), |worker| worker.sealed.is_some())?;
        let ended = worker.run(job, patience);
        match &ended {
            Ok((ended, true)) if worker.jobs < MOST_JOBS && !is_large(ended) => self.nest.put(worker),
            _ => self.order(Some(worker)),
        }
        ended.map(|(ended, _)| ended)
    }

    fn take_fresh(&self) -> Result<Worker, RuntimeError> {
        self.take(|worker| worker.sealed.is_none(), |_| true)
    }

    /// A living worker that fits, if possible one that is preferred. A failure is told to one caller, and tried again for
    /// the next.
    fn take(
        &self,
        fits: impl Fn(&Worker) -> bool,
        is_preferred: impl Fn(&Worker) -> bool,
    ) -> Result<Worker, RuntimeError> {
        let begun = Instant::now();
        loop {
            let left = self.options.wait.saturating_sub(begun.elapsed());
            match self.nest.take(&fits, &is_preferred, left) {
                Taken::Fit(mut worker) => {
                    if worker.is_alive() {
                        return Ok(worker);
                    }
                    self.order(Some(worker));
                }
                // Confined for other guests: another takes its place.
                Taken::Unfit(worker) => self.order(Some(worker)),
                Taken::Failed(error) => {
                    self.order(None);
                    return Err(RuntimeError::Spawn(error));
                }
                Taken::Nothing => {
                    return Err(RuntimeError::Exhausted {
                        workers: self.options.workers.max(1),
                        waited: self.options.wait,
                    });
                }
            }
        }
    }

    /// Has a worker started, and the one whose place it takes ended, off the caller's path.
    fn order(&self, instead_of: Option<Worker>) {
        let order = Order { instead_of };
        let is_taken = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if !is_taken {
            // Only when its thread is gone: whoever waits for a worker must not wait for ever.
            self.nest
                .fail(io::Error::other("the thread that starts workers is gone"));
        }
    }
}

/// What the nest had to give.
enum Taken {
    Fit(Worker),
    Unfit(Worker),
    Failed(io::Error),
    Nothing,
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

fn is_large(ended: &Ended) -> bool {
    matches!(ended, Ended::Answered { peak_rss_bytes, .. } if *peak_rss_bytes > LARGE)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(nursery) = self.nursery.take() {
            drop(nursery.join());
        }
        self.nest.state().idle.clear();
    }
}

impl Nest {
    /// Starts a worker for each order. It is this thread's death that ends a worker whose supervisor was killed
    /// (`PR_SET_PDEATHSIG` watches the thread that forked), so it must live as long as the pool.
    fn raise(&self, ordered: &Receiver<Order>) {
        while let Ok(Order { instead_of }) = ordered.recv() {
            drop(instead_of);
            let worker =
                catch_unwind(Worker::start).unwrap_or_else(|_| Err(io::Error::other("starting a worker failed")));
            let mut state = self.state();
            match worker {
                Ok(worker) => {
                    state.failure = None;
                    state.idle.push(worker);
                }
                Err(error) => state.failure = Some(error),
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn fail(&self, error: io::Error) {
        self.state().failure = Some(error);
        self.changed.notify_all();
    }

    fn take(&self, fits: impl Fn(&Worker) -> bool, is_preferred: impl Fn(&Worker) -> bool, most: Duration) -> Taken {
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            let preferred = state
                .idle
                .iter()
                .rposition(|worker| fits(worker) && is_preferred(worker));
            let fit = preferred.or_else(|| state.idle.iter().rposition(&fits));
            if let Some(at) = fit {
                return Taken::Fit(state.idle.swap_remove(at));
            }
            if let Some(worker) = state.idle.pop() {
                return Taken::Unfit(worker);
            }
            if let Some(failure) = state.failure.take() {
                return Taken::Failed(failure);
            }
            let Some(left) = most.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                return Taken::Nothing;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn put(&self, worker: Worker) {
        self.state().idle.push(worker);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
