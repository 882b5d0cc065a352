//! What the fence costs. The clocks are in `benches/`; `cargo bench` runs them.
