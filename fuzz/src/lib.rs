//! What the fuzz targets do with their bytes: one function for each target, all of them [`TARGETS`].
//!
//! Bytes become inputs here, and whether what came of them is right is decided elsewhere: by
//! [`stockade_conformance::oracle::laws`], by a secret that must not come back, by two answers that must be the same. Guests
//! run in this process, so that an input costs microseconds: what only a worker stops is not looked for here.

mod calls;
mod canary;
mod cases;
mod guests;
mod modules;
mod parsers;
mod paths;
mod plan;
mod policies;
mod scratch;
mod scripts;
mod seeds;
mod sessions;
mod wire;

pub use calls::calls;
pub use canary::canary;
pub use cases::cases;
pub use guests::{sql, wasm};
pub use modules::modules;
pub use parsers::parsers;
pub use paths::paths;
pub use plan::plan;
pub use policies::policy_text;
pub use scripts::scripts;
pub use seeds::write_where_asked as write_seeds_where_asked;
pub use sessions::sessions;
pub use wire::wire;

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program.
pub const TARGETS: &[(&str, Target)] = &[
    ("calls", calls),
    ("canary", canary),
    ("cases", cases),
    ("modules", modules),
    ("parsers", parsers),
    ("paths", paths),
    ("plan", plan),
    ("policy_text", policy_text),
    ("scripts", scripts),
    ("sessions", sessions),
    ("sql", sql),
    ("wasm", wasm),
    ("wire", wire),
];

/// Bytes without a pattern, the same every time for the same number.
#[must_use]
pub fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = 16 + seed * 37 % 600;
    let bytes = (0..length).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.collect()
}

/// Whether each target has a bug planted in its oracle, to see that it is found: `STOCKADE_FUZZ_PLANTED=1`.
pub(crate) fn is_planted() -> bool {
    static PLANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *PLANTED.get_or_init(|| std::env::var_os("STOCKADE_FUZZ_PLANTED").is_some())
}
