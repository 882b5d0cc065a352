//! Modules that are valid, and whatever they do.

use std::sync::OnceLock;

use arbitrary::Unstructured;
use stockade_runtime::{Class, Outcome, Request};
use wasm_smith::{Config, Module};

use crate::guests::{keeps_the_laws, runtime};

/// Everything that a module can import, as a module that does.
pub(crate) const HOST: &str = r#"(module
  (import "stockade" "release" (func (param i32) (result i32)))
  (import "stockade" "log" (func (param i32 i32) (result i32)))
  (import "stockade" "clock_now_ms" (func (result i64)))
  (import "stockade" "random_fill" (func (param i32 i32) (result i32)))
  (import "stockade" "metric_add" (func (param i32 i32 i64) (result i32)))
  (import "stockade" "env_get" (func (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "db_query" (func (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "db_execute" (func (param i32 i32) (result i64)))
  (import "stockade" "state_get" (func (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "state_set" (func (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "state_remove" (func (param i32 i32) (result i32))))"#;

/// What every module exports, so that there is something to call.
const EXPORTS: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "run") (result i32) i32.const 0)
  (func (export "__wasm_allocate") (param i32) (result i32) i32.const 0)
  (func (export "__wasm_deallocate") (param i32 i32)))"#;

/// Runs a valid module that follows from the bytes.
pub fn modules(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) -> Option<Outcome> {
    let module = Module::new(config().clone(), &mut Unstructured::new(data)).ok()?;
    keeps_the_laws(runtime(), &Request::wasm("trusted", module.to_bytes()), Class::Trap)
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    #[expect(
        clippy::expect_used,
        reason = "modules that import and export nothing would do nothing"
    )]
    let binary = |text: &str| Some(wat::parse_str(text).expect("the text above is a module"));
    CONFIG.get_or_init(|| Config {
        available_imports: binary(HOST),
        exports: binary(EXPORTS),
        max_imports: 11,
        max_instructions: 200,
        max_memories: 2,
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        memory64_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        ..Config::default()
    })
}

#[cfg(test)]
mod tests {
    use stockade_runtime::Event;

    use super::*;
    use crate::noise;

    #[test]
    fn some_modules_run_to_their_end_and_some_call_the_host() {
        let outcomes: Vec<Outcome> = (0..300).filter_map(|seed| run(&noise(seed))).collect();
        let is_of = |class: Class| outcomes.iter().any(|outcome| outcome.class == class);
        assert!(is_of(Class::Completed) && is_of(Class::Trap) && !is_of(Class::DeniedImport));
        let mut events = outcomes.iter().flat_map(|outcome| outcome.trail.events());
        assert!(events.any(|event| matches!(event, Event::Called { .. })));
    }
}
