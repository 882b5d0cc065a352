//! Whatever a path says, it leads to the guest's own files.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("paths"),
    |data: &[u8]| stockade_fuzz::paths(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz paths 60`; `cargo test` runs its smoke test");
}
