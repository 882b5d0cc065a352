//! Runs one guest to its end, in the process that calls.

use std::sync::Arc;

use stockade_policies::Plan;

#[cfg(feature = "sql")]
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::gate::Gate;
use crate::layer::{Layer, Layers};
use crate::outcome::{Class, Outcome, Product, Refusal};
use crate::request::{Guest, Request};
#[cfg(feature = "sql")]
use crate::sql::{Cut, Session, Stop};

/// Everything that running a guest takes: what crosses to a worker.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// What the caller asks for.
    pub request: Request,
    /// What the policies allow it, decided before.
    pub plan: Plan,
    /// The layers in force.
    pub layers: Layers,
}

/// How a guest ended.
pub(crate) struct Ended {
    pub class: Result<Class, Refusal>,
    /// What there is to say about a guest that completed.
    pub detail: String,
    pub wall_us: u64,
    pub product: Product,
}

/// Runs the guest. `on_start` is called just before the first guest byte is executed.
pub(crate) fn execute(job: &Job, on_start: &dyn Fn()) -> Result<Outcome, RuntimeError> {
    let gate = Arc::new(Gate::new(job.plan.clone(), job.layers));
    let started = || {
        gate.started();
        on_start();
    };
    let ended = match &job.request.guest {
        Guest::Sql(script) => run_sql(script, &job.request, &gate, &started)?,
        Guest::Wasm(module) => run_wasm(module, &job.request, &gate, &started)?,
    };
    Ok(outcome(&gate, ended))
}

/// What is said of a guest that ended.
pub(crate) fn outcome(gate: &Gate, ended: Ended) -> Outcome {
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
        product: ended.product,
        trail: gate.trail(),
        absent: Layers::NONE,
    }
}

#[cfg(feature = "sql")]
fn run_sql(script: &[u8], request: &Request, gate: &Arc<Gate>, started: &dyn Fn()) -> Result<Ended, RuntimeError> {
    use stockade_policies::Meter;

    let script = String::from_utf8_lossy(script);
    let deadline = Deadline::start(gate.bound(Meter::Elapse));
    let session = Session::open(request.database.as_deref(), gate, deadline)?;
    started();
    run_script(&session, &script, gate, deadline)
}

/// Runs a script on a connection that is open.
#[cfg(feature = "sql")]
pub(crate) fn run_script(
    session: &Session,
    script: &str,
    gate: &Gate,
    deadline: Deadline,
) -> Result<Ended, RuntimeError> {
    let mut product = Product::default();
    let mut detail = String::new();
    let class = match session.run(script, &mut product.statements) {
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
        product,
    })
}

#[cfg(not(feature = "sql"))]
fn run_sql(_: &[u8], _: &Request, _: &Arc<Gate>, _: &dyn Fn()) -> Result<Ended, RuntimeError> {
    Err(RuntimeError::Unsupported("SQL"))
}

#[cfg(feature = "wasm")]
fn run_wasm(module: &[u8], request: &Request, gate: &Arc<Gate>, started: &dyn Fn()) -> Result<Ended, RuntimeError> {
    crate::wasm::run(module, request, gate, started)
}

#[cfg(not(feature = "wasm"))]
fn run_wasm(_: &[u8], _: &Request, _: &Arc<Gate>, _: &dyn Fn()) -> Result<Ended, RuntimeError> {
    Err(RuntimeError::Unsupported("WebAssembly"))
}
