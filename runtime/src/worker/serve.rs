//! The worker's side: the same executable, entered again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_bytes::ByteBuf;
use stockade_policies::Plan;

use super::beside::Line;
use super::confine::Confinement;
use super::frame::{self, Reader, Received};
use super::message::{FromSupervisor, FromWorker, Source};
use super::privileges::Keep;
use super::progress::{Step, Teller};
use super::{deed, porter, privileges};
#[cfg(feature = "wasm")]
use crate::code::Compiled;
use crate::code::{Artefact, Code, Sealed};
use crate::error::RuntimeError;
use crate::execute::{Job, Listener, execute};

/// First argument of a process that is a worker. The second is the supervisor's process id.
pub(super) const WORKER_ARGUMENT: &str = "__stockade-worker";

/// First argument of a process that is a porter. The second is the supervisor's process id.
pub(super) const PORTER_ARGUMENT: &str = "__stockade-porter";

/// Descriptors that a worker may have open: ten attached databases, each with three files beside it, and its own few.
const MOST_DESCRIPTORS: u64 = 64;

/// Makes this process a worker or a porter if a supervisor started it as one; returns at once if not.
///
/// Must be the first line of `main`: a worker is the same executable, and nothing else in it may run first.
pub fn enter() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
    let [role, supervisor] = arguments.as_slice() else {
        return;
    };
    let serve = match role.to_str() {
        Some(WORKER_ARGUMENT) => serve_guests,
        Some(PORTER_ARGUMENT) => serve_worker,
        _ => return,
    };
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
    let role = std::env::args_os().nth(1);
    [WORKER_ARGUMENT, PORTER_ARGUMENT]
        .map(OsStr::new)
        .contains(&role.as_deref().unwrap_or_default())
}

fn serve_worker(supervisor: &OsStr) -> io::Result<()> {
    let Ends { stream, door, .. } = begin(supervisor, Keep::Files)?;
    porter::serve(stream, door)
}

fn serve_guests(supervisor: &OsStr) -> io::Result<()> {
    let Ends { stream, door, progress } = begin(supervisor, Keep::Nothing)?;
    let mut line = Line::new(stream);
    let teller = Teller::new(progress.into());
    #[cfg(feature = "sql")]
    super::door::hang(door);
    // Only SQLite asks for files.
    #[cfg(not(feature = "sql"))]
    drop(door);
    let mut sealed = None;
    let mut known: Option<Plan> = None;
    let mut reader = Reader::default();
    frame::write(&mut &*line.stream, &FromWorker::Ready)?;
    loop {
        match reader.read::<FromSupervisor>(&mut line, frame::MOST_BYTES)? {
            Received::Message(FromSupervisor::Run {
                request,
                plan,
                layers,
                spent,
                code,
            }) => {
                teller.tell(Step::Preparing);
                known = plan.map(|plan| *plan).or(known);
                let plan = known
                    .clone()
                    .ok_or_else(|| io::Error::other("a guest without a plan"))?;
                let job = Job {
                    request: *request,
                    plan,
                    layers,
                    spent,
                    code: code_of(code, line.take_file())?,
                };
                if let Err(error) = seal(&mut sealed, Confinement::of(&job)) {
                    let failure = RuntimeError::Request(format!("a worker could not be confined: {error}"));
                    frame::write(&mut &*line.stream, &FromWorker::Failed(failure.into()))?;
                    return Err(error);
                }
                answer(&line.stream, &teller, job)?;
            }
            Received::Message(FromSupervisor::Attempt(deed, confinement)) => {
                seal(&mut sealed, confinement)?;
                frame::write(&mut &*line.stream, &FromWorker::Attempted(deed::attempt(&deed)))?;
            }
            Received::NotYet => {}
            Received::Closed => return Ok(()),
        }
    }
}

/// Where the code comes from, with what came beside the message.
fn code_of(source: Source<ByteBuf>, beside: Option<OwnedFd>) -> io::Result<Code> {
    Ok(match source {
        Source::Compile => Code::Compile,
        Source::CompileAndKeep => Code::CompileAndKeep,
        Source::Load(about) => {
            let file = beside.ok_or_else(|| io::Error::other("a compiled module without its code"))?;
            Code::Load(Artefact {
                about: about.into_vec().into(),
                code: Arc::new(Sealed::of_file(file)?),
            })
        }
    })
}

/// What a process is started with, in the places of standard input, output and error.
struct Ends {
    stream: UnixStream,
    door: OwnedFd,
    /// A porter has nothing there.
    progress: OwnedFd,
}

/// Gives up what no worker and no porter needs, and takes what they were started with.
fn begin(supervisor: &OsStr, keep: Keep) -> io::Result<Ends> {
    die_with(supervisor)?;
    close_what_leaked()?;
    forget_settings();
    privileges::drop(keep)?;
    leave_no_core();
    limit(Resource::Nofile, MOST_DESCRIPTORS);
    outlive_full_files();
    let ends = Ends {
        stream: io::stdin().as_fd().try_clone_to_owned()?.into(),
        door: io::stdout().as_fd().try_clone_to_owned()?,
        progress: io::stderr().as_fd().try_clone_to_owned()?,
    };
    // Nothing that prints may speak through the door, or tell of progress.
    let nowhere = File::options().write(true).open("/dev/null")?;
    replace(libc::STDOUT_FILENO, &nowhere)?;
    replace(libc::STDERR_FILENO, &nowhere)?;
    Ok(ends)
}

/// Once, and never otherwise: what is given up stays given up.
fn seal(sealed: &mut Option<Confinement>, confinement: Confinement) -> io::Result<()> {
    match sealed {
        None => {
            confinement.seal()?;
            *sealed = Some(confinement);
            Ok(())
        }
        Some(sealed) if *sealed == confinement => Ok(()),
        Some(_) => Err(io::Error::other("this worker is confined for other guests")),
    }
}

/// Descriptors that the host opened without `O_CLOEXEC`, which are none of a guest's business.
fn close_what_leaked() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    #[expect(unsafe_code, reason = "closes descriptors by number")]
    // SAFETY: this is the first thing that the process does, so nothing in it owns a descriptor beyond the three that are
    // spared.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Of standard output and error.
fn replace(output: libc::c_int, with: &File) -> io::Result<()> {
    #[expect(unsafe_code, reason = "replaces a descriptor by number")]
    // SAFETY: standard output and error are nobody's, and both descriptors are open.
    let answer = unsafe { libc::dup2(with.as_raw_fd(), output) };
    if answer >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the host ignores, blocks or masks is for the host: what SQLite makes beside a database gets that one's permissions.
fn forget_settings() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // Rust's own library ignores the one that says that nobody reads any more.
    for signal in (1..=HIGHEST_SIGNAL).filter(|signal| *signal != libc::SIGPIPE) {
        stop_ignoring(signal);
    }
    #[expect(unsafe_code, reason = "sets which signals are blocked")]
    // SAFETY: a set of signals is numbers, and zeroes are one; it is made empty before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// The last of the signals that Linux numbers.
const HIGHEST_SIGNAL: libc::c_int = 64;

/// Asks the kernel itself: the C library knows nothing of two signals that it keeps to itself.
fn stop_ignoring(signal: libc::c_int) {
    const BYTES_OF_A_SET: usize = 8;
    let by_default = [libc::SIG_DFL; 4];
    let mut now = by_default;
    #[expect(unsafe_code, reason = "sets a signal's disposition")]
    // SAFETY: the kernel's `sigaction` is a handler, flags, a restorer and a set, four words at most. What is put in place is
    // no handler. Where it answers with an error, `now` stays what it was.
    unsafe {
        let set = |new: *const _, old: *mut _| {
            libc::syscall(libc::SYS_rt_sigaction, signal, new, old, BYTES_OF_A_SET);
        };
        set(std::ptr::null::<libc::sighandler_t>(), now.as_mut_ptr());
        if now.first() == Some(&libc::SIG_IGN) {
            set(by_default.as_ptr(), std::ptr::null_mut());
        }
    }
}

/// A write beyond `RLIMIT_FSIZE` is an error to SQLite, and not this process's end.
fn outlive_full_files() {
    #[expect(unsafe_code, reason = "sets a signal's disposition")]
    // SAFETY: ignoring a signal installs no handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
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
    limit(Resource::Core, 0);
}

fn limit(resource: Resource, most: u64) {
    let most = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // Fails only where the limit is lower already.
    rustix::process::setrlimit(resource, most).unwrap_or_default();
}

/// Runs the guest and says what became of it, last of all: whoever hears it may send the next one.
fn answer(stream: &Arc<UnixStream>, teller: &Teller, job: Job) -> io::Result<()> {
    #[cfg(feature = "sql")]
    crate::sql::set_heap(0);
    let listener = Voice {
        #[cfg(feature = "wasm")]
        stream: Arc::clone(stream),
        teller: teller.clone(),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| execute(&job, listener)));
    let message = match ended {
        Ok(Ok(outcome)) => FromWorker::Done(Box::new(outcome)),
        Ok(Err(error)) => FromWorker::Failed(error.into()),
        // What a panic left behind nobody knows: the process ends, and the supervisor refuses the guest.
        Err(_) => return Err(io::Error::other("the guard failed")),
    };
    let frame = frame::framed(&message)?;
    drop((message, job));
    (&**stream).write_all(&frame)
}

/// Tells the supervisor how far the guest is.
struct Voice {
    #[cfg(feature = "wasm")]
    stream: Arc<UnixStream>,
    teller: Teller,
}

impl Listener for Voice {
    #[cfg(feature = "wasm")]
    fn compiled(&self, compiled: Compiled) {
        self.teller.tell(Step::Compiled);
        // If the supervisor cannot be told, it is gone, and the next read says so.
        frame::write(&mut &*self.stream, &FromWorker::Compiled(compiled)).unwrap_or_default();
    }

    fn started(&self) {
        self.teller.tell(Step::Started);
    }

    fn ending(&self) {
        self.teller.tell(Step::Ending);
    }
}
