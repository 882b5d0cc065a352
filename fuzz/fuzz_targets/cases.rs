//! What is written is read again, and a contradiction is not.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("cases"),
    |data: &[u8]| stockade_fuzz::cases(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz cases 60`; `cargo test` runs its smoke test");
}
