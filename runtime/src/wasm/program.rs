//! A module made ready to run, and to be stopped.

use std::sync::Arc;

use wasmtime::{Engine, Module};

use super::engine::{Setup, Stopping};
use super::limiter::Own;
use super::rewrite::{self, Exports};
use super::validate;
use crate::error::RuntimeError;
use crate::gate::Gate;
use crate::outcome::Refusal;

/// A compiled module, and how a guest of it is stopped at its deadline.
pub(super) struct Program {
    pub engine: Engine,
    pub module: Module,
    pub stopping: Stopping,
    /// What it exports that the guest did not write.
    pub exports: Exports,
}

impl Program {
    /// Compiles a module, to be stopped as told. Where it cannot be rewritten, epochs stop it: no module goes without.
    ///
    /// # Errors
    /// Where wasmtime refuses its configuration. A module that it refuses is a refusal.
    pub(super) fn compile(
        binary: &[u8],
        gate: &Arc<Gate>,
        stopping: Stopping,
    ) -> Result<Result<Self, Refusal>, RuntimeError> {
        let plain = match stopping {
            Stopping::Never => Setup::of(gate, Stopping::Never),
            Stopping::Page | Stopping::Epoch => Setup::of(gate, Stopping::Epoch),
        };
        let engine = plain.engine()?;
        // Only what is valid is rewritten, and valid for an engine without what the checks need. What is not is refused below,
        // with the reason.
        let rewriting = stopping == Stopping::Page || plain.counts_fuel;
        let is_rewritten = rewriting && Module::validate(&engine, binary).is_ok();
        if is_rewritten
            && stopping == Stopping::Page
            && let Some(program) = Self::with_checks(binary, gate)?
        {
            return Ok(Ok(program));
        }
        let rewritten = if is_rewritten {
            rewrite::with_start_exported(binary).ok().flatten()
        } else {
            None
        };
        let (binary, exports) = match &rewritten {
            Some(rewritten) => (rewritten.binary.as_slice(), rewritten.exports.clone()),
            None => (binary, Exports::default()),
        };
        // `from_binary` takes WebAssembly only: an artefact compiled elsewhere is native code from a stranger.
        Ok(match Module::from_binary(&engine, binary) {
            Ok(module) => Ok(Self {
                engine,
                module,
                stopping: plain.stopping,
                exports,
            }),
            Err(error) => Err(validate::malformed(gate, &format!("{error:#}"))),
        })
    }

    /// The module with checks in it, or nothing where it cannot have them.
    fn with_checks(binary: &[u8], gate: &Arc<Gate>) -> Result<Option<Self>, RuntimeError> {
        let Ok(rewritten) = rewrite::with_checks(binary) else {
            return Ok(None);
        };
        let engine = Setup::of(gate, Stopping::Page).engine()?;
        let module = Module::from_binary(&engine, &rewritten.binary).ok();
        Ok(module.map(|module| Self {
            engine,
            module,
            stopping: Stopping::Page,
            exports: rewritten.exports,
        }))
    }

    /// What of the module's memories is the host's own.
    pub(super) fn own(&self) -> Own {
        match self.stopping {
            Stopping::Page => Own {
                memories: 1,
                memory_bytes: rewrite::PAGE_BYTES as u64,
            },
            Stopping::Never | Stopping::Epoch => Own::default(),
        }
    }
}
