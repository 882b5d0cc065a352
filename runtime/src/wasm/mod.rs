//! WebAssembly guests on wasmtime: core modules.
//!
//! [`validate`] looks at a module before anything compiles it, [`engine`] configures wasmtime from the plan, [`program`]
//! compiles a module that can be stopped, which takes [`rewrite`] and [`alarm`], or has it from [`keep`], [`linker`] links what the plan grants,
//! [`host`] is what a host call does, [`capability`] what it asks before, [`bridge`] is the only way to the guest's memory,
//! [`handover`] how an answer gets there, [`allocations`] what of that the guest still has, [`namespace`], [`environment`] and
//! [`metrics`] are host functions with more to them, [`limiter`] counts what a store
//! grows and [`tally`] its calls, [`contract`] is the input/output convention and [`refusal`] reads a cause out of a trap. What runs between two
//! checks of the clock, such as one bulk operation, none of these can interrupt: that is what the worker process is for.

mod alarm;
mod allocations;
mod bridge;
mod capability;
mod contract;
mod engine;
mod environment;
mod handover;
mod host;
mod keep;
mod limiter;
mod linker;
pub mod measure;
mod metrics;
mod namespace;
mod program;
mod refusal;
mod rewrite;
mod run;
#[cfg(test)]
mod stopping;
mod tally;
mod validate;

pub(crate) use keep::fingerprint;
pub(crate) use run::run;
