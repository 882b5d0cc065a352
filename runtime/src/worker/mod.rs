//! Guests run in a process of their own.
//!
//! A deadline inside a process is not a hard one: a single SQL function call or bulk memory operation can outlive every
//! check that the process makes. So the supervisor starts workers ahead of time, gives each one guest at a time, and
//! kills the process when the guest's time or memory is up. `serve` is the worker's side, `process` one worker as
//! the supervisor sees it, `pool` keeps a few of them ready, `frame` is what crosses between the two.

mod frame;
mod message;
mod pool;
mod process;
mod serve;

pub use pool::Pool;
pub use process::{Ended, KilledFor, Patience};
pub use serve::enter;
