//! Runs one guest to its end, in the process that calls.

use std::sync::Arc;
use std::time::Duration;

use stockade_policies::{Meter, Plan};

use crate::code::Code;
#[cfg(feature = "wasm")]
use crate::code::Compiled;
#[cfg(feature = "sql")]
use crate::deadline::Deadline;
use crate::deadline::allowance;
use crate::error::RuntimeError;
use crate::gate::Gate;
use crate::layer::{Layer, Layers};
#[cfg(feature = "sql")]
use crate::outcome::StatementResult;
use crate::outcome::{Class, Outcome, Product, Refusal};
use crate::request::{Guest, Request};
#[cfg(feature = "sql")]
use crate::sql::{Cut, Glanced, Session, Stop};
use crate::trail::Trail;

/// Everything that running a guest takes: what crosses to a worker.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// What the caller asks for.
    pub request: Request,
    /// What the policies allow it, decided before.
    pub plan: Plan,
    /// The layers in force.
    pub layers: Layers,
    /// How long the modules before it in its chain have run, on the same account.
    pub spent: Duration,
    /// Where a module's code comes from. Where that is not its bytes, they are not in the request.
    pub code: Code,
}

impl Job {
    /// How long the guest may run; `None` is for ever.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        allowance(self.plan.bound(Meter::Elapse)).map(|most| most.saturating_sub(self.spent))
    }
}

/// Who is told how far a guest is.
pub(crate) trait Listener: Send + Sync {
    /// A module was compiled that is to be kept. Told once, and before anything is executed.
    #[cfg(feature = "wasm")]
    fn compiled(&self, _: Compiled) {}

    /// The first guest byte is about to be executed.
    fn started(&self) {}

    /// No more of the guest is executed: it ended, or a layer stops it. Told once.
    fn ending(&self) {}
}

/// Nobody.
impl Listener for () {}

/// How a guest ended. What it handed back stays where it was gathered: a product is large, and moving it takes time.
pub(crate) struct Ended {
    pub class: Result<Class, Refusal>,
    /// What there is to say about a guest that completed.
    pub detail: String,
    pub wall_us: u64,
}

/// Runs the guest, and tells `listener` how far it is.
pub(crate) fn execute(job: &Job, listener: impl Listener + 'static) -> Result<Outcome, RuntimeError> {
    let gate = Arc::new(Gate::new(job.plan.clone(), job.layers, Box::new(listener)));
    let mut product = Product::default();
    let ended = match &job.request.guest {
        Guest::Sql(script) => run_sql(script, job, &gate, &mut product)?,
        Guest::Wasm(module) => run_wasm(module.bytes(), job, &gate, &mut product)?,
    };
    Ok(outcome(&gate, ended, product, || gate.trail()))
}

/// What is said of a guest that ended. The trail is read last.
pub(crate) fn outcome(gate: &Gate, ended: Ended, product: Product, trail: impl FnOnce() -> Trail) -> Outcome {
    let (class, layer, detail) = match ended.class {
        Ok(Class::Truncated) => (Class::Truncated, Some(Layer::Quota), ended.detail),
        Ok(class) => (class, None, ended.detail),
        Err(refusal) => {
            gate.refuse(refusal.clone());
            let first = gate.refusal().unwrap_or(refusal);
            (first.class, first.layer, first.detail)
        }
    };
    Outcome {
        class,
        layer,
        detail,
        wall_us: ended.wall_us,
        peak_rss_bytes: 0,
        product,
        trail: trail(),
        absent: Layers::NONE,
        module_cache: None,
    }
}

#[cfg(feature = "sql")]
fn run_sql(script: &[u8], job: &Job, gate: &Arc<Gate>, product: &mut Product) -> Result<Ended, RuntimeError> {
    let script = String::from_utf8_lossy(script);
    let deadline = Deadline::after(job.time_left());
    let session = Session::open(job.request.database.as_deref(), gate, deadline)?;
    gate.started();
    let ended = run_script(&session, &Glanced::of(&script), gate, deadline, &mut product.statements);
    session.write_allowed();
    ended
}

/// Runs a script on a connection that is open. What was allowed of it last may not be in the trail yet: [`Session::trail`].
#[cfg(feature = "sql")]
pub(crate) fn run_script(
    session: &Session,
    script: &Glanced<'_>,
    gate: &Gate,
    deadline: Deadline,
    results: &mut Vec<StatementResult>,
) -> Result<Ended, RuntimeError> {
    let mut detail = String::new();
    let ended = session.run_before_trail(script, results);
    gate.ending();
    let class = match ended {
        Ok(Cut::No) => Ok(Class::Completed),
        Ok(Cut::At(meter)) => {
            detail = crate::gate::beyond(meter, gate.bound(meter));
            Ok(Class::Truncated)
        }
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Unknown(error)) => return Err(error),
    };
    Ok(Ended {
        class,
        detail,
        wall_us: deadline.elapsed_us(),
    })
}

#[cfg(not(feature = "sql"))]
fn run_sql(_: &[u8], _: &Job, _: &Arc<Gate>, _: &mut Product) -> Result<Ended, RuntimeError> {
    Err(RuntimeError::Unsupported("SQL"))
}

#[cfg(feature = "wasm")]
fn run_wasm(module: &[u8], job: &Job, gate: &Arc<Gate>, product: &mut Product) -> Result<Ended, RuntimeError> {
    crate::wasm::run(module, job, gate, product)
}

#[cfg(not(feature = "wasm"))]
fn run_wasm(_: &[u8], _: &Job, _: &Arc<Gate>, _: &mut Product) -> Result<Ended, RuntimeError> {
    Err(RuntimeError::Unsupported("WebAssembly"))
}
