//! What the fence costs. The clocks are in `benches/`; `cargo bench` runs them, and `policyctl overhead` judges what they find.

pub mod bootstrap;
pub mod callgrind;
pub mod instructions;
pub mod latencies;
pub mod machine;
pub mod pairs;
pub mod processes;
pub mod record;
pub mod rivals;
pub mod synthetic;

use stockade_runtime::{Class, Outcome, RuntimeError};

/// Whether a guest did its work: a refusal is an outcome too, and a quick one.
#[must_use]
pub fn completed(run: &Result<Outcome, RuntimeError>) -> bool {
    run.as_ref().is_ok_and(|outcome| outcome.class == Class::Completed)
}
