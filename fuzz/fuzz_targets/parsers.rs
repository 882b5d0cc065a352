//! Cases, reports and claims of any kind are read or refused.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("parsers"),
    |data: &[u8]| stockade_fuzz::parsers(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz parsers 60`; `cargo test` runs its smoke test");
}
