//! Any valid module keeps the laws.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("modules"),
    |data: &[u8]| stockade_fuzz::modules(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz modules 60`; `cargo test` runs its smoke test");
}
