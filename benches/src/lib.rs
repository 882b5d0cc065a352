//! What the fence costs. The clocks are in `benches/`; `cargo bench` runs them.

pub mod latencies;
pub mod pairs;
pub mod rivals;
pub mod synthetic;
pub mod targets;
