//! Any bytes as a module keep the laws.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("wasm"),
    |data: &[u8]| stockade_fuzz::wasm(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz wasm 60`; `cargo test` runs its smoke test");
}
