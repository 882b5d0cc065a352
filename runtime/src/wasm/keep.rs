//! Compiled modules that are kept: how one is handed over, and how it is loaded again.
//!
//! Loading looks at none of the module's bytes. What `validate` counted in them is kept beside the code, because the next
//! guest's plan may allow less than the one that the module was compiled for.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::Module;

use super::engine::{self, Setup, Stopping};
use super::program::Program;
use super::rewrite::Exports;
use super::validate::Counts;
use crate::code::{Artefact, Compiled, MOST_CODE};
use crate::error::RuntimeError;
use crate::gate::Gate;
use crate::layer::Layers;
use crate::outcome::Refusal;

/// What there is to know of a compiled module beside its code.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    counts: Counts,
    stopping: Stopping,
    exports: Exports,
}

/// The module as it is kept; nothing where it is too large for that.
pub(super) fn compiled(program: &Program, counts: Counts) -> Option<Compiled> {
    let about = About {
        counts,
        stopping: program.stopping,
        exports: program.exports.clone(),
    };
    let about = rmp_serde::to_vec_named(&about).ok()?;
    let code = program.module.serialize().ok()?;
    (about.len() + code.len() <= MOST_CODE).then_some(Compiled { about, code })
}

/// A module that was compiled before, for a plan that may be another.
///
/// # Errors
/// [`RuntimeError::Code`] where it cannot be loaded. A module that is too much for the plan is a refusal.
pub(super) fn load(artefact: &Artefact, gate: &Arc<Gate>) -> Result<Result<Program, Refusal>, RuntimeError> {
    let unusable = |reason: &dyn std::fmt::Display| RuntimeError::Code(format!("{reason:#}"));
    let about: About = rmp_serde::from_slice(&artefact.about).map_err(|error| unusable(&error))?;
    if let Err(refusal) = about.counts.permitted(gate) {
        return Ok(Err(refusal));
    }
    let engine = Setup::of(gate, about.stopping).engine()?;
    let file = artefact.code.to_file().map_err(|error| unusable(&error))?;
    #[expect(unsafe_code, reason = "wasmtime cannot tell its own code from a stranger's")]
    // SAFETY: an `Artefact` is made in two places. `ModuleCache` makes it of what `compiled` gave, in this process or in one
    // that has the same program and had run no guest, or of what it had kept of that and authenticates with its key. A worker
    // makes it of what its supervisor sends, which has it from there. From then on it is `Sealed`: it never changes.
    let module = unsafe { Module::deserialize_open_file(&engine, file) };
    let module = module.map_err(|error| unusable(&error))?;
    Ok(Ok(Program {
        engine,
        module,
        stopping: about.stopping,
        exports: about.exports,
    }))
}

/// Everything that decides what becomes of a module's bytes, beside the plan's bounds: this machine and wasmtime, as wasmtime
/// says itself, and what is done to the bytes before. Of that the sources are taken: nobody can forget to count up a version.
pub(crate) fn fingerprint(plan: &stockade_policies::Plan, layers: Layers) -> Result<&'static [u8; 32], RuntimeError> {
    static COUNTING: OnceLock<[u8; 32]> = OnceLock::new();
    static PLAIN: OnceLock<[u8; 32]> = OnceLock::new();
    let counts_fuel = engine::fuel_bound_of(plan, layers).is_some();
    let known = if counts_fuel { &COUNTING } else { &PLAIN };
    if let Some(known) = known.get() {
        return Ok(known);
    }
    let mut all = Collector(Sha256::new());
    for stopping in [Stopping::Page, Stopping::Epoch] {
        let setup = Setup {
            stack: engine::HOST_STACK,
            stopping,
            counts_fuel,
        };
        setup
            .describing_engine()?
            .precompile_compatibility_hash()
            .hash(&mut all);
    }
    for source in [
        include_str!("engine.rs"),
        include_str!("keep.rs"),
        include_str!("program.rs"),
        include_str!("rewrite.rs"),
        include_str!("validate.rs"),
    ] {
        source.hash(&mut all);
    }
    Ok(known.get_or_init(|| all.0.finalize().into()))
}

/// Takes what is hashed for a digest that is the same in every process.
struct Collector(Sha256);

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
