//! The worker's side: the same executable, entered again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::frame::{self, Reader, Received};
use super::message::FromWorker;
use crate::execute::{Job, execute};

/// First argument of a process that is a worker. The second is the supervisor's process id.
pub(super) const WORKER_ARGUMENT: &str = "__stockade-worker";

/// Makes this process a worker if a supervisor started it as one; returns at once if not.
///
/// Must be the first line of `main`: a worker is the same executable, and nothing else in it may run first.
pub fn enter() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
    let [role, supervisor] = arguments.as_slice() else {
        return;
    };
    if role != WORKER_ARGUMENT {
        return;
    }
    let code = match serve(supervisor) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a worker must never go on into the program's own `main`"
    )]
    std::process::exit(code);
}

/// Whether this process was started as a worker, entered or not.
pub(super) fn is_worker() -> bool {
    std::env::args_os().nth(1).as_deref() == Some(OsStr::new(WORKER_ARGUMENT))
}

fn serve(supervisor: &OsStr) -> io::Result<()> {
    die_with(supervisor)?;
    leave_no_core();
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut reader = Reader::default();
    frame::write(&mut stream, &FromWorker::Ready)?;
    loop {
        match reader.read::<Job>(&mut stream, frame::MOST_BYTES)? {
            Received::Message(job) => {
                answer(&mut stream, &job)?;
                frame::write(&mut stream, &FromWorker::Ready)?;
            }
            Received::NotYet => {}
            Received::Closed => return Ok(()),
        }
    }
}

/// A worker whose supervisor is gone has nobody to stop its guest.
fn die_with(supervisor: &OsStr) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let expected = supervisor.to_str().and_then(|id| id.parse::<i32>().ok());
    let parent = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if expected.is_none() || parent.map(std::num::NonZero::get) != expected {
        return Err(io::Error::other("the supervisor is gone"));
    }
    Ok(())
}

/// A core file would hold whatever the guest read.
fn leave_no_core() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering one's own limit cannot fail; if it could, a core file is no reason to refuse the guest.
    rustix::process::setrlimit(Resource::Core, none).unwrap_or_default();
}

fn answer(stream: &mut UnixStream, job: &Job) -> io::Result<()> {
    #[cfg(feature = "sql")]
    crate::sql::set_heap(0);
    let mut teller = stream.try_clone()?;
    frame::write(&mut teller, &FromWorker::Preparing)?;
    // If the supervisor cannot be told, it is gone, and the next read says so.
    let started = || frame::write(&mut &teller, &FromWorker::Started).unwrap_or_default();
    let ended = catch_unwind(AssertUnwindSafe(|| execute(job, &started)));
    let message = match ended {
        Ok(Ok(outcome)) => FromWorker::Done(Box::new(outcome)),
        Ok(Err(error)) => FromWorker::Failed(error.into()),
        // What a panic left behind nobody knows: the process ends, and the supervisor refuses the guest.
        Err(_) => return Err(io::Error::other("the guard failed")),
    };
    frame::write(&mut teller, &message)
}
