//! What the fence costs, held against what was promised: clocks are in `benches`, the judgement is here.
//!
//! A [`Quantity`] is something that is measured, with its [`Target`]s; a [`Run`] has a [`Figure`] for each, from one machine
//! on one day. [`judge`] says which targets are met. Nothing here measures anything.

mod figure;
mod run;
mod targets;
mod verdict;

pub use figure::{Figure, Unit};
pub use run::{Comparison, Host, Run, RunError, Size, WayTaken};
pub use targets::{Bound, Elsewhere, Quantity, Target, Targets};
pub use verdict::{Judged, Verdict, judge};
