//! No tenant notices another.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("sessions"),
    |data: &[u8]| stockade_fuzz::sessions(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz sessions 60`; `cargo test` runs its smoke test");
}
