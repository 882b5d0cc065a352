//! Policy text of any kind is checked without a panic.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: stockade_fuzz::write_seeds_where_asked("policy_text"),
    |data: &[u8]| stockade_fuzz::policy_text(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run it with `ci/fuzz policy_text 60`; `cargo test` runs its smoke test");
}
