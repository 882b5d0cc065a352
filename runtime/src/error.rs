//! What went wrong when we cannot say what happened to the guest.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use stockade_policies::PlanError;

use crate::layer::Layer;

/// We do not know what the guest did or would have done: a refusal is never reported this way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No plan could be made for the request.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The database cannot be used, through no doing of the guest.
    #[error("cannot use database `{}`: {reason}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's own words.
        reason: String,
    },
    /// The request asks for something that the guest does not offer.
    #[error("{0}")]
    Request(String),
    /// A compiled module could not be loaded. Who has its bytes compiles it again, as [`crate::Runtime::run`] does.
    #[error("cannot load a compiled module: {0}")]
    Code(String),
    /// The folder of a module cache is not one that code may be kept in.
    #[error("cannot keep compiled modules in `{}`: {reason}", folder.display())]
    ModuleCache {
        /// The folder.
        folder: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// The system gave no process or thread to run the guest in.
    #[error("cannot start a worker: {0}")]
    Spawn(io::Error),
    /// Every worker had a guest, for as long as a caller waits.
    #[error("no worker was free for {} ms: all {workers} have a guest", waited.as_millis())]
    Exhausted {
        /// How many there are.
        workers: usize,
        /// How long the caller waited.
        waited: Duration,
    },
    /// As many callers wait for a worker as may, and none of their tenants has more of them than this caller's.
    #[error("too many wait for a worker: no more than {waiting} may")]
    Crowded {
        /// How many may wait.
        waiting: usize,
    },
    /// A layer is not there, and the caller did not agree to do without.
    #[error("the layer `{layer}` is not there: {detail}")]
    Absent {
        /// The layer.
        layer: Layer,
        /// Why not, and what to do.
        detail: String,
    },
    /// A worker did not answer as a worker does.
    #[error("cannot talk to a worker process: {0}")]
    Wire(io::Error),
    /// This build cannot run guests of this kind.
    #[error("this build has no support for {0} guests")]
    Unsupported(&'static str),
}
