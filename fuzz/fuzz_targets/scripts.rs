//! No script tells a hidden value.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("scripts"),
    |data: &[u8]| stockade_fuzz::scripts(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz scripts 60`; `cargo test` runs its smoke test");
}
