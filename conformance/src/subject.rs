//! Runtimes under test.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stockade_policies::{LoadError, PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::worker::{Ended, KilledFor, Patience, Pool, PoolOptions};
use stockade_runtime::{Ablated, Layer, Layers, Outcome, Product, Runtime, RuntimeError};

use crate::case::Case;
use crate::stage::Stage;
use crate::wire::AdapterFault;

/// How long a harness waits for a control whose harm is not that it runs on.
const LONGEST_CONTROL: Duration = Duration::from_secs(20);

/// How much longer a control that runs on is left running, to be sure.
const TO_BE_SURE: Duration = Duration::from_millis(50);

/// Memory at which the harness stops a control, in bytes: the harm is plain by then.
const MOST_CONTROL_MEMORY: u64 = 1536 << 20;

/// What ended a run.
#[derive(Debug)]
pub enum WhatEnded {
    /// The runtime says what happened.
    Outcome(Box<Outcome>),
    /// Nothing in the runtime did: the harness stopped it.
    Stopped(KilledFor),
    /// The process died by itself.
    Crashed {
        /// Its exit status, in words.
        status: String,
    },
    /// The guest was not run, or not to its end: the database cannot be used.
    Unusable(String),
}

/// What was seen of a run.
#[derive(Debug)]
pub struct Observed {
    /// What ended it.
    pub ended: WhatEnded,
    /// How long the guest ran.
    pub wall: Duration,
    /// Peak resident memory of the process that ran the guest, in bytes.
    pub peak_rss_bytes: u64,
}

impl Observed {
    /// What the guest handed back, where the run came to an outcome.
    #[must_use]
    pub fn product(&self) -> Option<&Product> {
        self.outcome().map(|outcome| &outcome.product)
    }

    /// The outcome, where the run came to one.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.ended {
            WhatEnded::Outcome(outcome) => Some(outcome),
            WhatEnded::Stopped(_) | WhatEnded::Crashed { .. } | WhatEnded::Unusable(_) => None,
        }
    }
}

impl Observed {
    pub(crate) fn unusable(reason: String) -> Self {
        Self {
            ended: WhatEnded::Unusable(reason),
            wall: Duration::ZERO,
            peak_rss_bytes: 0,
        }
    }
}

impl From<Outcome> for Observed {
    fn from(outcome: Outcome) -> Self {
        Self {
            wall: Duration::from_micros(outcome.wall_us),
            peak_rss_bytes: outcome.peak_rss_bytes,
            ended: WhatEnded::Outcome(Box::new(outcome)),
        }
    }
}

/// Why a subject could not run a case: we do not know what would have happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// The case's policies do not load.
    #[error(transparent)]
    Policies(#[from] LoadError),
    /// The runtime does not know.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The adapter of a runtime did what adapters must not.
    #[error(transparent)]
    Adapter(#[from] AdapterFault),
    /// The subject has no means to do what the case needs: it was not put to the test.
    #[error("unsupported: {needs}")]
    Unsupported {
        /// What it would need.
        needs: String,
    },
}

/// A runtime under test. The conformance suite sees a runtime only through this.
pub trait Subject: Sync {
    /// The name used in reports.
    fn name(&self) -> String;

    /// Runs the case's guest on the stage, and says what was seen.
    ///
    /// # Errors
    /// [`SubjectError`] where nobody knows what happened.
    fn run(&self, case: &Case, stage: &Stage) -> Result<Observed, SubjectError>;
}

/// Policies and entities that a case adds to the stock's.
type Additions = (Option<String>, Option<String>);

/// Worker processes and compiled policies that several subjects share.
pub struct Laboratory {
    pool: Arc<Pool>,
    runtimes: Mutex<HashMap<Additions, Arc<Runtime>>>,
}

impl Laboratory {
    /// A laboratory with so many worker processes.
    ///
    /// # Errors
    /// [`RuntimeError::Spawn`] where the system gives no process.
    pub fn new(workers: usize) -> Result<Arc<Self>, RuntimeError> {
        Ok(Arc::new(Self {
            pool: Arc::new(Pool::with(PoolOptions {
                workers,
                // A control that runs on keeps its worker for a while.
                wait: LONGEST_CONTROL * 30,
                // A case that needs one of them says so by failing; what was compiled in can be proven only without it.
                do_without: [Layer::Build, Layer::Landlock, Layer::Seccomp].into_iter().collect(),
                ..PoolOptions::default()
            })?),
            runtimes: Mutex::default(),
        }))
    }

    /// The same workers under these policies instead of the stock's. A case that brings policies of its own is still put
    /// on the stock's.
    #[must_use]
    pub fn under(&self, policies: PolicyStore) -> Arc<Self> {
        let runtime = Arc::new(Runtime::in_pool(policies, Arc::clone(&self.pool)));
        Arc::new(Self {
            pool: Arc::clone(&self.pool),
            runtimes: Mutex::new(HashMap::from([((None, None), runtime)])),
        })
    }

    /// The runtime with the stock policies and those of the case.
    ///
    /// # Errors
    /// [`SubjectError::Policies`] where they do not load together.
    pub fn runtime(&self, case: &Case) -> Result<Arc<Runtime>, SubjectError> {
        self.loaded((case.policies.clone(), case.entities.clone()), &case.sources())
    }

    /// A runtime with these policies beside the stock ones.
    ///
    /// # Errors
    /// [`SubjectError::Policies`] where they do not load together.
    pub fn runtime_with(&self, policies: &str) -> Result<Arc<Runtime>, SubjectError> {
        let source = Source {
            name: "policies".to_owned(),
            text: policies.to_owned(),
            kind: SourceKind::Policies,
        };
        self.loaded((Some(policies.to_owned()), None), &[source])
    }

    fn loaded(&self, additions: Additions, sources: &[Source]) -> Result<Arc<Runtime>, SubjectError> {
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtimes.get(&additions) {
            return Ok(Arc::clone(runtime));
        }
        let policies = PolicyStore::load(sources, Stock::With)?;
        let runtime = Arc::new(Runtime::in_pool(policies, Arc::clone(&self.pool)));
        runtimes.insert(additions, Arc::clone(&runtime));
        Ok(runtime)
    }
}

/// Stockade's own runtime, as users run it.
pub struct Reference {
    laboratory: Arc<Laboratory>,
}

impl Reference {
    /// The runtime as users run it.
    #[must_use]
    pub fn new(laboratory: &Arc<Laboratory>) -> Self {
        Self {
            laboratory: Arc::clone(laboratory),
        }
    }
}

impl Subject for Reference {
    fn name(&self) -> String {
        "reference".to_owned()
    }

    fn run(&self, case: &Case, stage: &Stage) -> Result<Observed, SubjectError> {
        let runtime = self.laboratory.runtime(case)?;
        Ok(runtime.run(&stage.request(case))?.into())
    }
}

/// The same machinery with some layers only, contained by the harness. With none it is the control.
pub struct Ablation {
    laboratory: Arc<Laboratory>,
    layers: Layers,
    name: String,
}

impl Ablation {
    /// With these layers.
    #[must_use]
    pub fn new(laboratory: &Arc<Laboratory>, name: impl Into<String>, layers: Layers) -> Self {
        Self {
            laboratory: Arc::clone(laboratory),
            layers,
            name: name.into(),
        }
    }

    /// With no layer at all: the control.
    #[must_use]
    pub fn undefended(laboratory: &Arc<Laboratory>) -> Self {
        Self::new(laboratory, "undefended", Layers::NONE)
    }
}

impl Subject for Ablation {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn run(&self, case: &Case, stage: &Stage) -> Result<Observed, SubjectError> {
        let runtime = self.laboratory.runtime(case)?;
        let begun = Instant::now();
        let ablated = runtime.run_ablated(&stage.request(case), self.layers, &watchdog(case))?;
        Ok(match ablated {
            Ablated::Outcome(outcome) => (*outcome).into(),
            Ablated::Ended(ended) => unfenced(ended, begun.elapsed()),
        })
    }
}

fn unfenced(ended: Ended, elapsed: Duration) -> Observed {
    match ended {
        Ended::Answered {
            outcome,
            peak_rss_bytes,
        } => Observed {
            peak_rss_bytes,
            ..(*outcome).into()
        },
        Ended::Killed {
            why,
            after,
            peak_rss_bytes,
        } => Observed {
            ended: WhatEnded::Stopped(why),
            wall: after.unwrap_or_default().min(elapsed),
            peak_rss_bytes,
        },
        Ended::Forbidden { after } => Observed {
            ended: WhatEnded::Crashed {
                status: "killed for a system call".to_owned(),
            },
            wall: after.unwrap_or_default(),
            peak_rss_bytes: 0,
        },
        Ended::Died { status, after } => Observed {
            ended: WhatEnded::Crashed { status },
            wall: after.unwrap_or_default(),
            peak_rss_bytes: 0,
        },
    }
}

/// How long the harness lets a guest go on that no layer stops.
pub(crate) fn watchdog(case: &Case) -> Patience {
    let control = case.attack().map(|attack| &attack.control);
    let runs_on = control.and_then(|control| control.still_running_after_ms);
    let compiles_on = control.and_then(|control| control.still_compiling_after_ms);
    Patience {
        // That the harness had to stop it is what shows that it went on so long.
        prepare: compiles_on.map_or(LONGEST_CONTROL, Duration::from_millis),
        run: Some(runs_on.map_or(LONGEST_CONTROL, |millis| Duration::from_millis(millis) + TO_BE_SURE)),
        answer: Duration::ZERO,
        reply_bytes: usize::MAX,
        rss_bytes: Some(MOST_CONTROL_MEMORY),
    }
}
