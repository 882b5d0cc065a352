//! What the exit code says.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use stockade_policies::PlanError;
use stockade_runtime::RuntimeError;

use crate::guest_text::harmless;

/// What the exit code says. The numbers are documented and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: all is well; a guest completed.
    Clean,
    /// 1: there are errors, or what was denied; a guest was refused or stopped; a verdict failed.
    Findings,
    /// 2: the question could not be answered.
    NoAnswer,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Clean => 0,
            Exit::Findings => 1,
            Exit::NoAnswer => 2,
        })
    }
}

/// Why a question could not be answered.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    /// The reader of our output went away: nobody is left to tell.
    is_silent: bool,
}

impl Failure {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            is_silent: false,
        }
    }

    pub(crate) fn tell(&self) {
        if !self.is_silent {
            // Where standard error is closed there is nobody to tell.
            writeln!(io::stderr(), "error: {}", harmless(&self.message)).unwrap_or_default();
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            is_silent: error.kind() == ErrorKind::BrokenPipe,
            message: error.to_string(),
        }
    }
}

macro_rules! failure_from {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        })*
    };
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let mend = match error {
            PlanError::UnknownProfile { .. } => "; `--policy` adds profiles of your own",
            _ => "",
        };
        Self::new(format!("{error}{mend}"))
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Plan(error) => error.into(),
            error => Self::new(error),
        }
    }
}

failure_from!(
    serde_json::Error,
    stockade_policies::prove::PropertiesError,
    stockade_policies::prove::ProveError,
    stockade_conformance::CorpusError,
    stockade_conformance::overhead::RunError,
    stockade_conformance::ReportError,
    stockade_conformance::SubjectError,
    stockade_conformance::TrialError,
    stockade_runtime::StateFileError,
);
