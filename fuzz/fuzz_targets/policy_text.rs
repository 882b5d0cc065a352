//! Policy text of any kind is checked without a panic.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| stockade_fuzz::policy_text(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!(
        "build it with `cargo fuzz run policy_text`; on stable, `cargo test -p stockade-fuzz` runs its smoke test"
    );
}
