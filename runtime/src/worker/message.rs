//! What a worker says to its supervisor. The other way there is one message: a [`crate::Job`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::outcome::Outcome;

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// It waits for a job.
    Ready,
    /// It has the whole job: compiling and opening begin.
    Preparing,
    /// The first guest byte is about to be executed: the guest's clock runs.
    Started,
    /// The guest ended.
    Done(Box<Outcome>),
    /// We do not know what the guest did.
    Failed(Failure),
}

/// A [`RuntimeError`] as it crosses.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Database { path: PathBuf, reason: String },
    Request(String),
    Other(String),
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Database { path, reason } => Self::Database { path, reason },
            RuntimeError::Request(reason) => Self::Request(reason),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database { path, reason } => Self::Database { path, reason },
            Failure::Request(reason) => Self::Request(reason),
            Failure::Other(reason) => Self::Wire(std::io::Error::other(reason)),
        }
    }
}
