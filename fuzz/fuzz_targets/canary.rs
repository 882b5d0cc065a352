//! Must be found.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("canary"),
    |data: &[u8]| stockade_fuzz::canary(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz canary 60`; `cargo test` runs its smoke test");
}
