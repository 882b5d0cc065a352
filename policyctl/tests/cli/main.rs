//! The program as its users meet it. One test program, because each one links all of wasmtime and Cedar.

mod bad_input;
mod documented;
mod folder;
mod leftovers;
