//! A few workers, started ahead of time.

use std::io;
use std::panic::catch_unwind;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::process::{Ended, Patience, Worker};
use crate::error::RuntimeError;
use crate::execute::Job;

/// A worker is replaced after so many guests, so that whatever they left behind does not add up.
const MOST_JOBS: u32 = 200;

/// A worker is replaced when a guest made it this large, in bytes: the allocator may not give it all back.
const LARGE: u64 = 192 * 1024 * 1024;

/// A few workers, started ahead of time. Dropping the pool ends them all.
pub struct Pool {
    nest: Arc<Nest>,
    orders: Option<Sender<()>>,
    nursery: Option<JoinHandle<()>>,
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
    /// A pool of `size` workers, at least one. They start in the background.
    ///
    /// # Errors
    /// [`RuntimeError::Spawn`] where no thread can be had.
    pub fn new(size: usize) -> Result<Self, RuntimeError> {
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
        };
        for _ in 0..size.max(1) {
            pool.order();
        }
        Ok(pool)
    }

    /// Runs a job in a worker, waiting for one to be free.
    /// A worker that dies or is killed is no error: it is an [`Ended`].
    pub(crate) fn run(&self, job: &Job, patience: &Patience) -> Result<Ended, RuntimeError> {
        let mut worker = self.take()?;
        let ended = worker.run(job, patience);
        match &ended {
            Ok((ended, true)) if worker.jobs < MOST_JOBS && !is_large(ended) => self.nest.put(worker),
            _ => {
                drop(worker);
                self.order();
            }
        }
        ended.map(|(ended, _)| ended)
    }

    /// A living worker. A failure is told to one caller, and tried again for the next.
    fn take(&self) -> Result<Worker, RuntimeError> {
        loop {
            let mut worker = self
                .nest
                .take()
                .inspect_err(|_| self.order())
                .map_err(RuntimeError::Spawn)?;
            if worker.is_alive() {
                return Ok(worker);
            }
            self.order();
        }
    }

    /// Has a worker started, off the caller's path.
    fn order(&self) {
        let is_taken = self.orders.as_ref().is_some_and(|orders| orders.send(()).is_ok());
        if !is_taken {
            // Only when its thread is gone: whoever waits for a worker must not wait for ever.
            self.nest
                .fail(io::Error::other("the thread that starts workers is gone"));
        }
    }
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
    fn raise(&self, ordered: &Receiver<()>) {
        while ordered.recv().is_ok() {
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

    fn take(&self) -> io::Result<Worker> {
        let mut state = self.state();
        loop {
            if let Some(worker) = state.idle.pop() {
                return Ok(worker);
            }
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
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
