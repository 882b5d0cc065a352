//! Policies in, outcomes out.

use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "sql")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stockade_policies::{Bound, Meter, Plan, PolicyStore, Principal, PublisherKey};

use crate::chain;
use crate::code::{Code, Compiled};
use crate::deadline::allowance;
use crate::error::RuntimeError;
use crate::execute::{Job, Listener, execute};
use crate::layer::{Layer, Layers};
use crate::module::Module;
#[cfg(feature = "wasm")]
use crate::module_cache::{Key, ModuleCache};
#[cfg(feature = "wasm")]
use crate::outcome::CacheUse;
use crate::outcome::{Class, Outcome, Refusal};
use crate::presence::presence;
use crate::provenance;
use crate::request::{Guest, Request};
use crate::screen;
#[cfg(feature = "sql")]
use crate::sql_session::SqlSession;
use crate::trail::{Event, Trail};
use crate::worker::{Ended, KilledFor, Patience, Pool};

/// How long after a guest's deadline its process is killed in any case. Within it a guest that has ended is cleared up, and
/// what it has handed back crosses. One that is stuck inside one opcode is killed as soon as it is known to be.
pub const KILL_GRACE: Duration = Duration::from_millis(30);

/// What opening a database may take.
const OPENING: Duration = Duration::from_secs(2);

/// Memory that a worker takes for itself and for compiling, beyond what the plan gives the guest.
pub const WORKER_MEMORY: u64 = 192 * 1024 * 1024;

/// Plans kept. Their keys hold digests of guests, so they are bounded.
const MOST_PLANS: usize = 256;

/// How a guest ended that ran with some layers only.
#[derive(Debug)]
pub enum Ablated {
    /// The runtime knows: the guest ended by itself, or a layer that was in force stopped it.
    Outcome(Box<Outcome>),
    /// No layer stopped it: the watchdog did, or its process died.
    Ended(Ended),
}

/// Policies in, outcomes out: runs guests inside the plans that the policies give them.
///
/// ```no_run
/// use stockade_policies::PolicyStore;
/// use stockade_runtime::{Request, Runtime, worker};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     worker::enter();
///     let runtime = Runtime::in_workers(PolicyStore::stock()?, 2)?;
///     let outcome = runtime.run(&Request::sql("walkin", "select 6 * 7"))?;
///     println!("{}", outcome.class);
///     Ok(())
/// }
/// ```
pub struct Runtime {
    policies: PolicyStore,
    layers: Layers,
    pool: Option<Arc<Pool>>,
    publisher_keys: Vec<PublisherKey>,
    #[cfg(feature = "wasm")]
    module_cache: Option<Arc<ModuleCache>>,
    plans: Mutex<HashMap<Principal, Plan>>,
}

impl Runtime {
    /// Runs guests in `workers` processes, one guest at a time each, with every layer in force. The calling program's `main`
    /// must begin with [`crate::worker::enter`].
    ///
    /// # Errors
    /// [`RuntimeError::Absent`] where this machine or this build lacks a layer: [`Pool::with`] agrees to that. And
    /// [`RuntimeError::Spawn`] where no worker can be had.
    pub fn in_workers(policies: PolicyStore, workers: usize) -> Result<Self, RuntimeError> {
        Ok(Self::in_pool(policies, Arc::new(Pool::new(workers)?)))
    }

    /// Runs guests in the worker processes of a pool that runtimes with other policies share.
    #[must_use]
    pub fn in_pool(policies: PolicyStore, pool: Arc<Pool>) -> Self {
        let layers = Layers::ALL.minus(pool.absent());
        Self::new(policies, Some(pool), layers)
    }

    /// Runs guests in the calling process.
    ///
    /// The layers `worker`, `heap`, `landlock` and `seccomp` are not there: a deadline is not a hard one, a crash is the
    /// caller's, a guest's SQLite heap is bounded by nothing but the other limits, and one that takes over SQLite or wasmtime
    /// is the caller.
    #[must_use]
    pub fn in_process(policies: PolicyStore) -> Self {
        let absent = [Layer::Worker, Layer::Heap, Layer::Landlock, Layer::Seccomp];
        let missing = presence()
            .into_iter()
            .filter(|found| !found.is_there)
            .map(|found| found.layer);
        Self::new(
            policies,
            None,
            Layers::ALL.minus(absent.into_iter().chain(missing).collect()),
        )
    }

    fn new(policies: PolicyStore, pool: Option<Arc<Pool>>, layers: Layers) -> Self {
        Self {
            publisher_keys: policies.publisher_keys(),
            policies,
            layers,
            pool,
            #[cfg(feature = "wasm")]
            module_cache: None,
            plans: Mutex::default(),
        }
    }

    /// Keeps the modules that it compiles, and loads those that were compiled before, by whichever runtime that has this cache.
    /// What a module may do, its plan says each time.
    ///
    /// Code that is to be kept is compiled by a worker that has had no guest, which gives it back before the module starts. So
    /// where modules are new, workers are replaced more often. A runtime in process compiles in the process that it is.
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn with_module_cache(mut self, cache: Arc<ModuleCache>) -> Self {
        self.module_cache = Some(cache);
        self
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &PolicyStore {
        &self.policies
    }

    /// Runs one guest to its end.
    ///
    /// # Errors
    /// [`RuntimeError`] where we do not know what the guest did or would have done: an unknown profile, a database that
    /// cannot be used, no worker. A guest that is refused, stopped or lost is no error: that is its outcome.
    pub fn run(&self, request: &Request) -> Result<Outcome, RuntimeError> {
        self.run_after(request, Duration::ZERO)
    }

    /// Runs modules one after the other, the first on its own input and each other one on the output of the one before. The
    /// chain ends with the last, or with the first that does not complete.
    ///
    /// The outcomes are those of the modules that ran, in order; the last of them says how the chain ended. Each module is a
    /// guest of its own, with its own profile, digest and signature; but time adds up: a module may run until the chain has
    /// run for as long as the module's plan allows.
    ///
    /// # Errors
    /// As [`Runtime::run`], and [`RuntimeError::Request`] for a chain without modules, with SQL in it, or with input for any
    /// but the first.
    pub fn run_chain(&self, modules: &[Request]) -> Result<Vec<Outcome>, RuntimeError> {
        chain::check(modules)?;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(modules.len());
        let mut spent = Duration::ZERO;
        for module in modules {
            let outcome = match outcomes.last() {
                None => self.run_after(module, spent),
                Some(before) => self.run_after(&chain::taking(module, before), spent),
            }?;
            spent += Duration::from_micros(outcome.wall_us);
            let goes_on = outcome.class.is_completed();
            outcomes.push(outcome);
            if !goes_on {
                break;
            }
        }
        Ok(outcomes)
    }

    fn run_after(&self, request: &Request, spent: Duration) -> Result<Outcome, RuntimeError> {
        let mut outcome = self.run_fenced(request, spent)?;
        outcome.absent = Layers::ALL.minus(self.layers);
        Ok(outcome)
    }

    fn run_fenced(&self, request: &Request, spent: Duration) -> Result<Outcome, RuntimeError> {
        let (mut guest, refusal) = self.fenced(request, self.layers)?;
        guest.spent = spent;
        if let Some(refusal) = refusal.or_else(|| screen::refusal(request, &guest.plan)) {
            return Ok(Outcome::refused(refusal, admitted(&guest.plan)));
        }
        #[cfg(feature = "wasm")]
        if let (Some(cache), Some(sha256)) = (&self.module_cache, &guest.plan.principal().sha256) {
            return self.run_cached(cache, sha256, &guest);
        }
        self.run_job(&guest.job(Code::Compile), request.tenant.as_deref(), &mut None)
    }

    /// Runs a module whose code is looked for in the cache first, and kept there if it is not.
    #[cfg(feature = "wasm")]
    fn run_cached(&self, cache: &ModuleCache, sha256: &str, guest: &Fenced<'_>) -> Result<Outcome, RuntimeError> {
        let tenant = guest.request.tenant.as_deref();
        let key = Key::new(sha256, crate::wasm::fingerprint(&guest.plan, guest.layers)?);
        let ran = |cached: CacheUse, outcome: Result<Outcome, RuntimeError>| {
            cache.count(cached);
            outcome.map(|mut outcome| {
                outcome.module_cache = Some(cached);
                outcome
            })
        };
        if let Some(artefact) = cache.find(&key) {
            match self.run_job(&guest.job(Code::Load(artefact)), tenant, &mut None) {
                // Nothing was executed yet.
                Err(RuntimeError::Code(_)) => cache.reject(&key),
                outcome => return ran(CacheUse::Hit, outcome),
            }
        }
        let mut compiled = None;
        let outcome = self.run_job(&guest.job(Code::CompileAndKeep), tenant, &mut compiled);
        // Only now: while the guest runs, this thread watches it.
        if let Some(compiled) = compiled {
            cache.keep(&key, &compiled);
        }
        ran(CacheUse::Miss, outcome)
    }

    fn run_job(
        &self,
        job: &Job,
        tenant: Option<&str>,
        compiled: &mut Option<Compiled>,
    ) -> Result<Outcome, RuntimeError> {
        let Some(pool) = &self.pool else {
            return in_this_process(job, compiled);
        };
        let ended = pool.run(tenant, job, &patience(job), compiled)?;
        Ok(outcome(&job.plan, ended))
    }

    /// Opens a governed connection to a database, which stays open for many scripts of one profile; `None` is an empty database
    /// in memory.
    ///
    /// It is in the calling process, with the layers that [`Runtime::in_process`] has, and cannot have fewer.
    ///
    /// # Errors
    /// [`RuntimeError`]: an unknown profile, a database that cannot be used, no thread for the clock. And
    /// [`RuntimeError::Request`] for a runtime whose guests run in workers: what it promises of them would not hold here.
    #[cfg(feature = "sql")]
    pub fn open(&self, profile: &str, database: Option<&Path>) -> Result<SqlSession, RuntimeError> {
        if self.pool.is_some() {
            let reason = "a session is opened by a runtime in process: this one runs guests in workers".to_owned();
            return Err(RuntimeError::Request(reason));
        }
        let plan = self.plan_for(&Principal::caller("guest", profile))?;
        SqlSession::open(plan, self.layers, database)
    }

    /// Runs one guest with some layers only, to show what a layer is worth. Never for production.
    ///
    /// Where `layers` lacks [`Layer::Worker`], `watchdog` contains the guest in its stead, and what it stops is no
    /// outcome of the runtime: [`Ablated::Ended`].
    ///
    /// # Errors
    /// As [`Runtime::run`], and [`RuntimeError::Request`] for a runtime without workers.
    pub fn run_ablated(&self, request: &Request, layers: Layers, watchdog: &Patience) -> Result<Ablated, RuntimeError> {
        let Some(pool) = &self.pool else {
            let reason = "a guest runs with layers missing only in a worker".to_owned();
            return Err(RuntimeError::Request(reason));
        };
        let (guest, refusal) = self.fenced(request, layers.minus(pool.absent()))?;
        // Never kept: what is loaded was validated, and can be stopped.
        let job = guest.job(Code::Compile);
        let screened = || {
            let is_there = layers.contains(Layer::Screen);
            is_there.then(|| screen::refusal(&job.request, &job.plan)).flatten()
        };
        if let Some(refusal) = refusal.or_else(screened) {
            let outcome = Outcome::refused(refusal, admitted(&job.plan));
            return Ok(Ablated::Outcome(Box::new(outcome)));
        }
        if layers.contains(Layer::Worker) {
            let ended = pool.run(request.tenant.as_deref(), &job, &patience(&job), &mut None)?;
            return Ok(Ablated::Outcome(Box::new(outcome(&job.plan, ended))));
        }
        Ok(match pool.run(request.tenant.as_deref(), &job, watchdog, &mut None)? {
            answered @ (Ended::Answered { .. } | Ended::Forbidden { .. }) => {
                Ablated::Outcome(Box::new(outcome(&job.plan, answered)))
            }
            ended => Ablated::Ended(ended),
        })
    }

    /// The plan that `request` would run inside. One that is refused for its signature has the plan of a module without.
    ///
    /// # Errors
    /// [`RuntimeError::Plan`] for an unknown profile.
    pub fn plan(&self, request: &Request) -> Result<Plan, RuntimeError> {
        let (principal, _) = self.principal(request, self.layers);
        self.plan_for(&principal)
    }

    /// Who the guest of a request is, and why that is not to be believed: a module by its digest and whoever signed it, a
    /// script by the caller who sends it.
    fn principal(&self, request: &Request, layers: Layers) -> (Principal, Option<Refusal>) {
        let principal = match &request.guest {
            Guest::Sql(_) => Principal::caller("guest", &request.profile),
            Guest::Wasm(module) => Principal::module(module.sha256(), &request.profile),
        };
        if !layers.contains(Layer::Provenance) {
            return (principal, None);
        }
        match provenance::signer(request, &principal, &self.publisher_keys) {
            Ok(Some(publisher)) => (principal.signed_by(&publisher), None),
            Ok(None) => (principal, None),
            Err(refusal) => (principal, Some(refusal)),
        }
    }

    /// The guest with its plan, and why who it says it is is not to be believed.
    fn fenced<'r>(&self, request: &'r Request, layers: Layers) -> Result<(Fenced<'r>, Option<Refusal>), RuntimeError> {
        let (principal, refusal) = self.principal(request, layers);
        let guest = Fenced {
            request,
            plan: self.plan_for(&principal)?,
            layers,
            database: database(request)?,
            spent: Duration::ZERO,
        };
        Ok((guest, refusal))
    }

    fn plan_for(&self, principal: &Principal) -> Result<Plan, RuntimeError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(principal) {
            return Ok(plan.clone());
        }
        let plan = self.policies.plan(principal)?;
        if plans.len() >= MOST_PLANS {
            plans.clear();
        }
        plans.insert(principal.clone(), plan.clone());
        Ok(plan)
    }
}

/// A guest that has its plan.
struct Fenced<'r> {
    request: &'r Request,
    plan: Plan,
    layers: Layers,
    /// The file that is its database.
    database: Option<PathBuf>,
    /// How long the modules before it in its chain have run.
    spent: Duration,
}

impl Fenced<'_> {
    fn job(&self, code: Code) -> Job {
        let guest = match (&code, &self.request.guest) {
            // A module that is loaded is not read again, and need not cross.
            (Code::Load(_), _) => Guest::Wasm(Module::new(Vec::new())),
            (_, guest) => guest.clone(),
        };
        let request = Request {
            // Whom it runs for is not the worker's business.
            tenant: None,
            profile: self.request.profile.clone(),
            guest,
            database: self.database.clone(),
            invoke: self.request.invoke.clone(),
            arguments: self.request.arguments.clone(),
            input: self.request.input.clone(),
            signature: self.request.signature.clone(),
            state: self.request.state.clone(),
            environment: self.request.environment.clone(),
        };
        Job {
            request,
            plan: self.plan.clone(),
            layers: self.layers,
            spent: self.spent,
            code,
        }
    }
}

/// The database by its whole name: workers have another working directory.
fn database(request: &Request) -> Result<Option<PathBuf>, RuntimeError> {
    let Some(path) = &request.database else {
        return Ok(None);
    };
    let found = fs::canonicalize(path).map_err(|error| RuntimeError::Database {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    Ok(Some(found))
}

/// Runs a guest in the process that calls. A panic in the guard is a refusal here too: nobody knows what it left undone.
fn in_this_process(job: &Job, compiled: &mut Option<Compiled>) -> Result<Outcome, RuntimeError> {
    let listener = Arc::new(Listening::default());
    let outcome = catch_unwind(AssertUnwindSafe(|| execute(job, Arc::clone(&listener)))).unwrap_or_else(|_| {
        let refusal = Refusal::own_failure(Class::HostInternal, "the guard failed while the guest ran");
        Ok(Outcome::refused(refusal, admitted(&job.plan)))
    });
    *compiled = listener.compiled.lock().unwrap_or_else(PoisonError::into_inner).take();
    outcome
}

/// Takes what is compiled to be kept.
#[derive(Default)]
struct Listening {
    compiled: Mutex<Option<Compiled>>,
}

impl Listener for Arc<Listening> {
    #[cfg(feature = "wasm")]
    fn compiled(&self, compiled: Compiled) {
        *self.compiled.lock().unwrap_or_else(PoisonError::into_inner) = Some(compiled);
    }
}

/// The trail of a guest before it starts.
pub(crate) fn admitted(plan: &Plan) -> Trail {
    let mut trail = Trail::default();
    trail.push(Event::Admitted {
        profile: plan.principal().profile.clone(),
        plan: plan.digest().to_owned(),
    });
    trail
}

/// How long the supervisor lets a guest of this plan go on.
fn patience(job: &Job) -> Patience {
    let plan = &job.plan;
    let prepare = match &job.request.guest {
        Guest::Sql(_) => Some(OPENING),
        Guest::Wasm(_) => allowance(plan.bound(Meter::Compile)),
    };
    // The namespace is there as it was given, as it is changed, and in the answer.
    let memory = [(Meter::GrowMemory, 1), (Meter::GrowHeap, 1), (Meter::GrowState, 3)]
        .into_iter()
        .try_fold(WORKER_MEMORY, |sum, (meter, times)| match plan.bound(meter) {
            Bound::Limited(most) => sum.checked_add(most.checked_mul(times)?),
            Bound::Unbounded => None,
        });
    Patience {
        prepare: prepare.unwrap_or(Duration::MAX).saturating_add(KILL_GRACE),
        run: job.time_left(),
        answer: KILL_GRACE,
        reply_bytes: reply_bytes(plan),
        rss_bytes: memory,
    }
}

/// The most bytes of a worker's answer: what the guest may hand back, with room for its encoding, and the trail.
fn reply_bytes(plan: &Plan) -> usize {
    const ENVELOPE: u64 = 16 << 20;
    let most = [
        Meter::ReturnBytes,
        Meter::ReturnOutput,
        Meter::GrowLog,
        Meter::GrowState,
    ]
    .into_iter()
    .try_fold(ENVELOPE, |sum, meter| match plan.bound(meter) {
        Bound::Limited(most) => sum.checked_add(most.checked_mul(4)?),
        Bound::Unbounded => None,
    });
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

fn outcome(plan: &Plan, ended: Ended) -> Outcome {
    match ended {
        Ended::Answered {
            mut outcome,
            peak_rss_bytes,
        } => {
            outcome.peak_rss_bytes = peak_rss_bytes;
            *outcome
        }
        Ended::Killed {
            why,
            after,
            peak_rss_bytes,
        } => {
            let mut outcome = lost(plan, killed(plan, why), after);
            outcome.peak_rss_bytes = peak_rss_bytes;
            outcome
        }
        Ended::Forbidden { after } => {
            let detail = "the kernel killed the worker process for a system call that no guest needs";
            lost(plan, Refusal::by(Layer::Seccomp, Class::HostInternal, detail), after)
        }
        Ended::Died { status, after } => {
            let detail = format!("the worker process died: {status}");
            let refusal = Refusal::by(Layer::Worker, Class::HostInternal, detail);
            lost(plan, refusal, after)
        }
    }
}

fn killed(plan: &Plan, why: KilledFor) -> Refusal {
    let (class, what) = match why {
        KilledFor::Time => (
            Class::LimitTime,
            crate::gate::beyond(Meter::Elapse, plan.bound(Meter::Elapse)),
        ),
        KilledFor::Preparing => (
            Class::LimitTime,
            crate::gate::beyond(Meter::Compile, plan.bound(Meter::Compile)),
        ),
        KilledFor::Memory => (
            Class::LimitMemory,
            "the process outgrew what its guest is allowed".to_owned(),
        ),
    };
    Refusal::by(Layer::Worker, class, format!("{what}; the worker process was killed"))
}

/// The outcome of a guest whose process is gone, and with it its trail.
fn lost(plan: &Plan, refusal: Refusal, after: Option<Duration>) -> Outcome {
    let mut trail = admitted(plan);
    if after.is_some() {
        trail.push(Event::Started);
    }
    let mut outcome = Outcome::refused(refusal, trail);
    outcome.wall_us = after.map_or(0, |after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    outcome
}
