//! A plan says what the authorizer says.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("plan"),
    |data: &[u8]| stockade_fuzz::plan(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz plan 60`; `cargo test` runs its smoke test");
}
