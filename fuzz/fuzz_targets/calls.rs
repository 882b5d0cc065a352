//! Any sequence of host calls keeps the laws.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("calls"),
    |data: &[u8]| stockade_fuzz::calls(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz calls 60`; `cargo test` runs its smoke test");
}
