//! The program as its users meet it. One test program, because each one links all of wasmtime and Cedar.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a panic is how a test reports")]

mod bad_input;
mod beside;
mod changes;
mod checking;
mod documented;
mod file_systems;
mod folder;
mod leftovers;
mod machines;
mod module_cache;
mod overhead;
mod policy_tests;
mod prove;
mod reports;
mod scoreboard;
