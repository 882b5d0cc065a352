//! What crosses between a supervisor and its worker, for `stockade-benches`: packed and unpacked, and never sent.
//!
//! This is no way to run a guest.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, MOST_BYTES, Reader, Received};
use super::message::{FromSupervisor, FromWorker, Source, ToWorker};
use crate::layer::Layers;
use crate::outcome::Outcome;
use crate::request::Request;

/// One call of a worker that has the plan already, and its answer.
pub struct Crossing {
    request: Request,
    answer: FromWorker,
    worker: Reader,
    supervisor: Reader,
}

impl Crossing {
    /// This request, answered so.
    #[must_use]
    pub fn of(request: Request, outcome: Outcome) -> Self {
        Self {
            request,
            answer: FromWorker::Done(Box::new(outcome)),
            worker: Reader::default(),
            supervisor: Reader::default(),
        }
    }

    /// Packs the request, and unpacks it as the worker does.
    ///
    /// # Errors
    /// Where another message comes out than went in.
    pub fn there(&mut self) -> io::Result<()> {
        let call = ToWorker::Run {
            request: &self.request,
            plan: None,
            layers: Layers::ALL,
            spent: Duration::ZERO,
            code: Source::Compile,
        };
        match crossed(&call, &mut self.worker)? {
            FromSupervisor::Run { request, .. } if *request == self.request => Ok(()),
            _ => Err(io::Error::other("another request came out")),
        }
    }

    /// Packs the outcome, and unpacks it as the supervisor does.
    ///
    /// # Errors
    /// Where another message comes out than went in.
    pub fn back(&mut self) -> io::Result<()> {
        let FromWorker::Done(sent) = &self.answer else {
            return Err(io::Error::other("the answer is none"));
        };
        match crossed(&self.answer, &mut self.supervisor)? {
            FromWorker::Done(outcome) if outcome.class == sent.class => Ok(()),
            _ => Err(io::Error::other("another outcome came out")),
        }
    }
}

fn crossed<T: DeserializeOwned>(message: &impl Serialize, reader: &mut Reader) -> io::Result<T> {
    let frame = frame::framed(message)?;
    match reader.read(&mut frame.as_slice(), MOST_BYTES)? {
        Received::Message(message) => Ok(message),
        Received::NotYet | Received::Closed => Err(io::Error::other("it did not come out whole")),
    }
}
