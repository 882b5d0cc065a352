//! Modules that are valid, and whatever they do.

use std::sync::OnceLock;

use arbitrary::Unstructured;
use stockade_runtime::Request;
use wasm_smith::{Config, Module};

use crate::guests::keeps_the_laws;

/// Everything that a module can import, as a module that does.
const HOST: &str = r#"(module
  (import "stockade" "log" (func (param i32 i32) (result i32)))
  (import "stockade" "clock_now_ms" (func (result i64)))
  (import "stockade" "random_fill" (func (param i32 i32) (result i32)))
  (import "stockade" "db_query" (func (param i32 i32 i32 i32) (result i32)))
  (import "stockade" "db_execute" (func (param i32 i32) (result i64))))"#;

/// What every module exports, so that there is something to call.
const EXPORTS: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "run") (result i32) i32.const 0)
  (func (export "__wasm_allocate") (param i32) (result i32) i32.const 0))"#;

/// Runs a valid module that follows from the bytes.
pub fn modules(data: &[u8]) {
    let Ok(module) = Module::new(config().clone(), &mut Unstructured::new(data)) else {
        return;
    };
    keeps_the_laws(&Request::wasm("trusted", module.to_bytes()));
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let binary = |text: &str| wat::parse_str(text).ok();
        Config {
            available_imports: binary(HOST),
            exports: binary(EXPORTS),
            max_imports: 5,
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
        }
    })
}
