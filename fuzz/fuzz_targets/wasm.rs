//! Any bytes as a module keep the laws.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| stockade_fuzz::wasm(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("build it with `cargo fuzz run wasm`; on stable, `cargo test -p stockade-fuzz` runs its smoke test");
}
