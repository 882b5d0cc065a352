//! What a worker and its supervisor say to each other.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use stockade_policies::Plan;

use super::confine::Confinement;
use super::deed::Deed;
use crate::code::{Code, Compiled};
use crate::error::RuntimeError;
use crate::layer::Layers;
use crate::outcome::Outcome;
use crate::request::Request;

/// What a supervisor asks of a worker.
#[derive(Debug, Serialize)]
pub(super) enum ToWorker<'a> {
    /// Run this guest, in this plan or in the one before.
    Run {
        request: &'a Request,
        /// `None` where the worker has it: plans are large, and callers who come again have the same.
        plan: Option<&'a Plan>,
        layers: Layers,
        spent: Duration,
        code: Source<&'a Bytes>,
    },
    /// Attempt this, so confined.
    Attempt(&'a Deed, Confinement),
}

/// [`ToWorker`], as it is received.
#[derive(Debug, Deserialize)]
pub(super) enum FromSupervisor {
    Run {
        request: Box<Request>,
        plan: Option<Box<Plan>>,
        layers: Layers,
        spent: Duration,
        code: Source<ByteBuf>,
    },
    Attempt(Deed, Confinement),
}

/// [`Code`] as it crosses.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Source<B> {
    Compile,
    CompileAndKeep,
    /// What there is to know of it; the code comes beside the message.
    Load(B),
}

impl<'a> From<&'a Code> for Source<&'a Bytes> {
    fn from(code: &'a Code) -> Self {
        match code {
            Code::Compile => Self::Compile,
            Code::CompileAndKeep => Self::CompileAndKeep,
            Code::Load(artefact) => Self::Load(Bytes::new(&artefact.about)),
        }
    }
}

/// What a worker says to whoever waits for it. How far its guest is, it says otherwise: [`super::progress`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// It came up, and waits for a job.
    Ready,
    /// It compiled the guest, whose code is to be kept.
    Compiled(Compiled),
    /// The guest ended, all that was its is given back, and the worker waits for another.
    Done(Box<Outcome>),
    /// We do not know what the guest did.
    Failed(Failure),
    /// What came of a deed: the number that `errno` was where it failed.
    Attempted(Result<(), i32>),
}

/// A [`RuntimeError`] as it crosses.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Database { path: PathBuf, reason: String },
    Request(String),
    Code(String),
    Other(String),
}

impl Failure {
    /// Whether a compiled module could not be used.
    pub(super) fn is_of_code(&self) -> bool {
        matches!(self, Self::Code(_))
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Database { path, reason } => Self::Database { path, reason },
            RuntimeError::Request(reason) => Self::Request(reason),
            RuntimeError::Code(reason) => Self::Code(reason),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database { path, reason } => Self::Database { path, reason },
            Failure::Request(reason) => Self::Request(reason),
            Failure::Code(reason) => Self::Code(reason),
            Failure::Other(reason) => Self::Wire(std::io::Error::other(reason)),
        }
    }
}
