//! What the fence costs. The clocks are in `benches/`; `cargo bench` runs them, and `policyctl overhead` judges what they find.

pub mod bootstrap;
pub mod callgrind;
pub mod instructions;
pub mod latencies;
pub mod pairs;
pub mod record;
pub mod rivals;
pub mod synthetic;
