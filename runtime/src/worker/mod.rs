//! Guests run in a process of their own.
//!
//! A deadline inside a process is not a hard one: a single SQL function call or bulk memory operation can outlive every
//! check that the process makes. So the supervisor starts workers ahead of time, gives each one guest at a time, and
//! kills the process when the guest's time or memory is up.
//!
//! `serve` is the worker's side, and `process` one worker as the supervisor sees it, who has to `start` it, reads in `figures`
//! what memory it holds, and has a `watch` keep the clocks of its guest, whose `progress` the worker tells; `turn` says whether a
//! guest that is late was executed. `pool` keeps a few workers ready, and `queue` says whose turn it is. `frame` is what crosses
//! between the two, and `beside` what is handed over with it. What a worker gives up before it meets a guest is in `confine`, with
//! `landlock` and `seccomp`; what it may hold the kernel counts in a `cgroup`; the files of a plan are opened for it by its
//! `porter`, which it asks through a `door`.

mod beside;
mod cgroup;
mod confine;
mod deed;
pub(crate) mod door;
mod figures;
mod frame;
mod landlock;
pub(crate) mod measure;
mod message;
mod pool;
mod porter;
mod preparation;
mod privileges;
mod process;
mod progress;
mod queue;
mod seccomp;
mod serve;
mod start;
mod turn;
mod watch;

pub use deed::{Attempt, Deed};
pub use pool::{Pool, PoolOptions};
#[doc(hidden)]
pub use porter::{opened, removed};
pub use process::{Ended, KilledFor, Patience};
pub use serve::enter;

/// The control groups that workers are in, in words, or why in none.
pub(crate) fn cgroups_in_force() -> String {
    cgroup::in_force()
}

/// The version of Landlock that this kernel offers.
pub(crate) fn landlock_version() -> Option<u32> {
    landlock::version()
}

/// Whether this kernel filters system calls as a worker needs it.
pub(crate) fn has_seccomp() -> bool {
    seccomp::is_there()
}
