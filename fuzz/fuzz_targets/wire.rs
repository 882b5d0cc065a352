//! An adapter may say anything.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("wire"),
    |data: &[u8]| stockade_fuzz::wire(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz wire 60`; `cargo test` runs its smoke test");
}
