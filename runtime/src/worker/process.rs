//! One worker, as its supervisor sees it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit};
use serde::Serialize;
use stockade_policies::{Bound, Meter};

use super::beside;
use super::cgroup::{Group, Most};
use super::confine::{Calls, Confinement};
use super::deed::{self, Attempt, Deed};
use super::door;
use super::figures::Figures;
use super::frame::{self, Reader, Received};
use super::message::{FromWorker, ToWorker};
use super::porter::Rule;
use super::progress::{self, Progress};
use super::serve::{PORTER_ARGUMENT, WORKER_ARGUMENT, is_worker};
use super::start::{again, end, not_started};
use super::watch::{HAND_OVER, LOOK_EVERY, Watch};
use crate::code::{Code, Compiled, MOST_CODE};
use crate::error::RuntimeError;
use crate::execute::Job;
use crate::layer::{Layer, Layers};
use crate::outcome::Outcome;
use crate::runtime::{KILL_GRACE, WORKER_MEMORY};

/// How long a fresh process may take to say that it is ready.
const BIRTH: Duration = Duration::from_secs(20);

/// How long a process whose stream is closed may take to be gone.
const DEATH: Duration = Duration::from_millis(200);

/// The most bytes of a message without an outcome in it.
const SHORT: usize = 4096;

/// How long a porter may take to learn whom it serves, and a deed to be attempted.
const BRIEFLY: Duration = Duration::from_secs(5);

/// A module's worker has the thread that serves, the guest's and its alarm's, and those of the last guest on their way out.
const MODULE_THREADS: u32 = 8;

/// Memory beyond what the supervisor kills a worker for, in bytes: the address space ends there.
const BEYOND_KILLING: u64 = 64 << 20;

/// What a file may have beyond twice the database, in bytes: a rollback journal is as long as the database and a little
/// longer, a write-ahead log twice as long where every page is written twice.
const BEYOND_DATABASE: u64 = 1 << 20;

/// How long a supervisor lets a guest go on.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the worker having the whole job to the guest's first byte: compiling, opening. While it waits for a processor, that
    /// does not count, up to ten times as long.
    pub prepare: Duration,
    /// From the guest's first byte to its end; `None` waits for ever.
    pub run: Option<Duration>,
    /// From then to its outcome, in any case. A guest that is executed meanwhile, and does not end, does not get all of it.
    pub answer: Duration,
    /// The most bytes of its answer.
    pub reply_bytes: usize,
    /// The most resident memory of the process, in bytes; `None` does not look.
    pub rss_bytes: Option<u64>,
}

/// Why a worker was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KilledFor {
    /// It took too long to prepare the guest.
    Preparing,
    /// The guest's time was up.
    Time,
    /// The process held too much memory.
    Memory,
}

/// How a job ended, as seen from outside.
#[derive(Debug)]
pub enum Ended {
    /// The worker answered.
    Answered {
        /// The outcome, in the worker's words.
        outcome: Box<Outcome>,
        /// Peak resident memory, read from outside.
        peak_rss_bytes: u64,
    },
    /// The supervisor killed the worker, or, for memory, the kernel.
    Killed {
        /// Why.
        why: KilledFor,
        /// From the guest's first byte to the end of the process; `None` when it had not started.
        after: Option<Duration>,
        /// Peak resident memory, read from outside just before.
        peak_rss_bytes: u64,
    },
    /// The kernel killed the worker for a system call that no guest needs.
    Forbidden {
        /// From the guest's first byte to the end of the process; `None` when it had not started.
        after: Option<Duration>,
    },
    /// The worker ended by itself, without an answer.
    Died {
        /// Its exit status, in words.
        status: String,
        /// From the guest's first byte to the end of the process; `None` when it had not started.
        after: Option<Duration>,
    },
}

/// A running worker process and its porter. Dropping it kills both.
pub(super) struct Worker {
    child: Child,
    stream: UnixStream,
    reader: Reader,
    progress: Progress,
    figures: Figures,
    porter: Porter,
    /// Taken away after the processes: see `drop`.
    group: Group,
    /// Address space that the process had before its first job, in bytes.
    born_with: u64,
    limits: Limits,
    /// The digest of the plan that it was handed last.
    plan: Option<String>,
    pub(super) jobs: u32,
    /// What it is confined by, from its first job on.
    pub(super) sealed: Option<Confinement>,
}

/// The process that opens files for one worker.
struct Porter {
    child: Child,
    control: UnixStream,
    reader: Reader,
    rule: Option<Rule>,
}

/// What is set from outside, where the process cannot lift it again; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Limits {
    file_bytes: Option<u64>,
    address_space: Option<u64>,
}

impl Worker {
    /// Starts this executable again, as a worker, and waits until it is ready.
    pub(super) fn start() -> io::Result<Self> {
        if is_worker() {
            // Without this, a program that never enters would start itself for ever.
            return Err(io::Error::other(
                "`main` does not call `stockade_runtime::worker::enter()` before anything else",
            ));
        }
        let (stream, theirs) = UnixStream::pair().map_err(|error| not_started(&error))?;
        let (inside, outside) = door::pair().map_err(|error| not_started(&error.into()))?;
        let (progress, told) = progress::pair().map_err(|error| not_started(&error))?;
        let (porter, group) = (Porter::start(outside)?, Group::new()?);
        let mut child = again(WORKER_ARGUMENT, theirs, inside, OwnedFd::from(told).into())?;
        let figures = Figures::of(child.id()).map_err(|error| {
            end(&mut child);
            not_started(&error)
        })?;
        let mut worker = Self {
            child,
            stream,
            reader: Reader::default(),
            progress,
            figures,
            porter,
            group,
            born_with: 0,
            limits: Limits::default(),
            plan: None,
            jobs: 0,
            sealed: None,
        };
        worker.group.admit(worker.child.id())?;
        // Waiting is for `wait_for`, which wakes on time: a socket's own time-outs are as coarse as the kernel's tick.
        worker.stream.set_nonblocking(true)?;
        worker.wait_until_ready()?;
        worker.born_with = worker.figures.bytes("VmSize");
        Ok(worker)
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        while let Some(left) = BIRTH.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            match self.reader.read(&mut self.stream, SHORT)? {
                Received::NotYet => wait_for(&self.stream, libc::POLLIN, left),
                Received::Message(FromWorker::Ready) => return Ok(()),
                Received::Message(_) | Received::Closed => break,
            }
        }
        Err(io::Error::other(
            "a worker did not come up; does `main` call `stockade_runtime::worker::enter()` first?",
        ))
    }

    /// Whether its processes still run, and say nothing. One that died while it waited is no verdict on the next guest, and
    /// what it said unasked is none either.
    pub(super) fn is_alive(&mut self) -> bool {
        let said = self.reader.read::<FromWorker>(&mut self.stream, SHORT);
        let is_quiet = matches!(said, Ok(Received::NotYet)) && self.reader.is_empty();
        is_quiet
            && self.progress.told(Instant::now()).is_nothing()
            && [&mut self.child, &mut self.porter.child]
                .into_iter()
                .all(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it can serve a guest that is confined so: rules can be tightened, never loosened.
    pub(super) fn fits(&self, confinement: Confinement) -> bool {
        self.sealed.is_none_or(|sealed| sealed == confinement)
    }

    /// Whether it has had no guest yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.sealed.is_none()
    }

    /// Writes the whole order within [`HAND_OVER`], however slowly it is read, with a file beside it.
    fn hand_over(&mut self, order: &impl Serialize, mut file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let frame = frame::framed(order)?;
        let begun = Instant::now();
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let left = HAND_OVER.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
            let left = left.ok_or(ErrorKind::TimedOut)?;
            match beside::send(&self.stream, rest, file).map_err(io::Error::from) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    file = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.stream, libc::POLLOUT, left),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the worker a job and waits for its end. Where it answered, it can take another. Code that is to be kept is in
    /// `compiled` from before the guest starts, however it ends.
    pub(super) fn run(
        &mut self,
        job: &Job,
        patience: &Patience,
        compiled: &mut Option<Compiled>,
    ) -> Result<Ended, RuntimeError> {
        // Of one that had a guest, nobody knows what that guest has made of it.
        let is_to_compile = job.code.is_kept() && self.is_fresh();
        self.jobs += 1;
        self.figures.forget_peak();
        let confinement = Confinement::of(job);
        self.sealed = Some(confinement);
        let rule = Rule::new(job.request.database.as_deref(), &job.plan).filter(|_| confinement.needs_porter());
        self.porter.serve(rule).map_err(RuntimeError::Wire)?;
        self.limit(limits(job, self.born_with)).map_err(RuntimeError::Wire)?;
        let processes = job.layers.contains(Layer::Worker).then(|| processes(confinement.calls));
        let most = Most {
            resident: patience.rss_bytes,
            processes,
        };
        self.group.limit(most).map_err(RuntimeError::Wire)?;
        let is_known = self.plan.as_deref() == Some(job.plan.digest());
        let order = ToWorker::Run {
            request: &job.request,
            plan: (!is_known).then_some(&job.plan),
            layers: job.layers,
            spent: job.spent,
            code: (&job.code).into(),
        };
        let file = match &job.code {
            Code::Load(artefact) => Some(artefact.code.as_fd()),
            Code::Compile | Code::CompileAndKeep => None,
        };
        if self.hand_over(&order, file).is_err() {
            return Ok(self.died(None, DEATH));
        }
        if !is_known {
            self.plan = Some(job.plan.digest().to_owned());
        }
        let mut watch = Watch::new(patience);
        loop {
            // Read before the clock is looked at: a word that is there was said in time, however late this thread woke.
            let awaits_code = is_to_compile && compiled.is_none() && watch.may_send_code();
            let most = if awaits_code {
                patience.reply_bytes.max(MOST_CODE + SHORT)
            } else {
                patience.reply_bytes
            };
            let received = self.reader.read(&mut self.stream, most);
            // Words that no worker says: whatever runs there is not to be trusted any more.
            let (Ok(received), Ok(())) = (received, watch.follow(&self.progress)) else {
                return Ok(self.distrusted(&watch));
            };
            match received {
                Received::NotYet => {
                    let process = self.child.id();
                    match watch.overdue(process, || self.resident()) {
                        Some(why) => return Ok(self.kill(why, &mut watch)),
                        None => wait_for(&self.stream, libc::POLLIN, watch.next_look()),
                    }
                }
                // It was announced before the guest started: later it may be the guest who speaks.
                Received::Message(FromWorker::Compiled(code)) if awaits_code && watch.announced_code() => {
                    *compiled = Some(code);
                }
                Received::Message(FromWorker::Done(outcome)) if watch.has_begun() => {
                    return Ok(Ended::Answered {
                        outcome,
                        peak_rss_bytes: self.figures.bytes("VmHWM"),
                    });
                }
                // Code that is not to be had is said to be so before anything is executed: the guest is run again.
                Received::Message(FromWorker::Failed(failure))
                    if watch.has_begun() && !(failure.is_of_code() && watch.ran().is_some()) =>
                {
                    return Err(failure.into());
                }
                Received::Message(_) => return Ok(self.distrusted(&watch)),
                Received::Closed => {
                    let patience = watch.left().map_or(DEATH, |left| left.clamp(KILL_GRACE, DEATH));
                    return Ok(self.died(watch.ran(), patience));
                }
            }
        }
    }

    /// Ends a worker that does not speak as workers do.
    fn distrusted(&mut self, watch: &Watch) -> Ended {
        end(&mut self.child);
        Ended::Died {
            status: "no answer".to_owned(),
            after: watch.ran(),
        }
    }

    /// Has a deed attempted, so confined. The worker is of no use afterwards.
    pub(super) fn attempt(&mut self, deed: &Deed, confinement: Confinement, layers: Layers) -> io::Result<Attempt> {
        self.sealed = Some(confinement);
        if layers.contains(Layer::Worker) {
            self.group.limit(Most {
                resident: Some(WORKER_MEMORY),
                processes: Some(processes(confinement.calls)),
            })?;
        }
        if layers.contains(Layer::Heap) {
            self.limit(Limits {
                address_space: Some(self.born_with + WORKER_MEMORY + BEYOND_KILLING),
                ..Limits::default()
            })?;
        }
        self.hand_over(&ToWorker::Attempt(deed, confinement), None)?;
        let begun = Instant::now();
        while begun.elapsed() < BRIEFLY {
            match self.reader.read(&mut self.stream, SHORT) {
                Ok(Received::NotYet) => wait_for(&self.stream, libc::POLLIN, LOOK_EVERY),
                Ok(Received::Message(FromWorker::Attempted(Ok(())))) => return Ok(Attempt::Done),
                Ok(Received::Message(FromWorker::Attempted(Err(errno)))) => {
                    return Ok(Attempt::Refused {
                        layer: deed::refuser(errno, deed),
                        reason: io::Error::from_raw_os_error(errno).to_string(),
                    });
                }
                Ok(Received::Message(_)) => break,
                Ok(Received::Closed) | Err(_) => return Ok(self.after_deed()),
            }
        }
        Err(io::Error::other("a worker did not say what came of its attempt"))
    }

    /// A process that became another program has no words left.
    fn after_deed(&mut self) -> Attempt {
        match self.died(None, DEATH) {
            Ended::Forbidden { .. } => Attempt::Killed { layer: Layer::Seccomp },
            Ended::Killed { .. } => Attempt::Killed { layer: Layer::Worker },
            Ended::Died { status, .. } if status != "exit code 0" => Attempt::Refused {
                layer: None,
                reason: status,
            },
            _ => Attempt::Done,
        }
    }

    fn limit(&mut self, limits: Limits) -> io::Result<()> {
        if limits == self.limits {
            return Ok(());
        }
        let of = Pid::from_raw(self.child.id().cast_signed());
        for (resource, most) in [
            (Resource::Fsize, limits.file_bytes),
            (Resource::As, limits.address_space),
        ] {
            // Only the soft limit: the next guest may have another, and who is inside cannot set either.
            rustix::process::prlimit(
                of,
                resource,
                Rlimit {
                    current: most,
                    maximum: None,
                },
            )?;
        }
        self.limits = limits;
        Ok(())
    }

    fn kill(&mut self, why: KilledFor, watch: &mut Watch) -> Ended {
        let peak_rss_bytes = self.figures.bytes("VmHWM");
        end(&mut self.child);
        // It may have started since the last look.
        watch.follow(&self.progress).unwrap_or_default();
        Ended::Killed {
            why,
            after: watch.ran(),
            peak_rss_bytes,
        }
    }

    fn died(&mut self, after: Option<Duration>, patience: Duration) -> Ended {
        // It may still be on its way out: its own status says more than our signal would.
        let status = self.wait_for_death(patience);
        end(&mut self.child);
        if status.is_some_and(|status| status.signal() == Some(libc::SIGSYS)) {
            return Ended::Forbidden { after };
        }
        if status.is_some_and(|status| status.signal() == Some(libc::SIGKILL)) && self.group.is_out_of_memory() {
            return Ended::Killed {
                why: KilledFor::Memory,
                after,
                peak_rss_bytes: self.group.peak_bytes(),
            };
        }
        let status = status.map_or_else(|| "no answer".to_owned(), in_words);
        Ended::Died { status, after }
    }

    fn wait_for_death(&mut self, most: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if begun.elapsed() >= most {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Resident memory in bytes. A living process whose memory cannot be read holds too much; one on its way out has
    /// none to read, so it gets a moment to be gone.
    fn resident(&mut self) -> u64 {
        match self.figures.bytes("VmRSS") {
            0 if self.wait_for_death(DEATH).is_none() => u64::MAX,
            bytes => bytes,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Porter {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Porter {
    fn start(door: OwnedFd) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair().map_err(|error| not_started(&error))?;
        control.set_read_timeout(Some(BRIEFLY))?;
        Ok(Self {
            child: again(PORTER_ARGUMENT, theirs, door, Stdio::null())?,
            control,
            reader: Reader::default(),
            rule: None,
        })
    }

    /// Tells it whom it serves, and waits until it knows: before the guest can ask for anything.
    fn serve(&mut self, rule: Option<Rule>) -> io::Result<()> {
        let is_known = match (&rule, &self.rule) {
            (Some(rule), Some(known)) => rule.is_same(known),
            (None, None) => true,
            _ => false,
        };
        if is_known {
            return Ok(());
        }
        frame::write(&mut self.control, &rule)?;
        self.rule = rule;
        match self.reader.read::<()>(&mut self.control, SHORT)? {
            Received::Message(()) => Ok(()),
            Received::NotYet | Received::Closed => Err(io::Error::other("the process that opens files is gone")),
        }
    }
}

/// Waits until the socket can be read or written, or the time is over.
fn wait_for(stream: &UnixStream, event: libc::c_short, most: Duration) {
    let mut poll = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: event,
        revents: 0,
    };
    let most = libc::timespec {
        tv_sec: libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(most.subsec_nanos().cast_signed()),
    };
    #[expect(unsafe_code, reason = "the one system call that waits to the microsecond")]
    // SAFETY: one descriptor that is open, and a time that outlives the call. Whatever it answers, the caller looks for
    // itself.
    unsafe {
        libc::ppoll(&raw mut poll, 1, &raw const most, std::ptr::null());
    }
}

/// The outer answer of the layers `quota` and `heap`: what no bug in SQLite can lift.
fn limits(job: &Job, born_with: u64) -> Limits {
    let limited = |layer, meter| match job.plan.bound(meter) {
        Bound::Limited(most) if job.layers.contains(layer) => Some(most),
        _ => None,
    };
    let database = job.request.database.as_ref();
    // SQLite never sets a page cap below the pages that are there.
    let there = database.and_then(|path| fs::metadata(path).ok()).map(|file| file.len());
    let most = limited(Layer::Quota, Meter::GrowDatabase).zip(there);
    let heap = limited(Layer::Heap, Meter::GrowHeap);
    let is_sql = Confinement::of(job).calls == Calls::Sql;
    Limits {
        file_bytes: most.map(|(most, there)| most.max(there).saturating_mul(2).saturating_add(BEYOND_DATABASE)),
        // wasmtime reserves far more than it uses.
        address_space: heap.filter(|_| is_sql).map(|heap| {
            let beyond = WORKER_MEMORY + BEYOND_KILLING;
            born_with.saturating_add(heap).saturating_add(beyond)
        }),
    }
}

/// How many processes and threads there are in a worker at most.
fn processes(calls: Calls) -> u32 {
    match calls {
        Calls::Sql => 1,
        Calls::Wasm => MODULE_THREADS,
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "no status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::super::progress::{Step, Teller};
    use super::*;

    /// A worker whose words are the test's own.
    fn puppet() -> (Worker, Puppeteer) {
        #[expect(clippy::disallowed_methods, reason = "a process to be ended, and nothing else")]
        let sleeping = || Command::new("sleep").arg("60").spawn().unwrap();
        let (stream, theirs) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let porter = Porter {
            child: sleeping(),
            control: UnixStream::pair().unwrap().0,
            reader: Reader::default(),
            rule: None,
        };
        let (progress, told) = progress::pair().unwrap();
        let child = sleeping();
        let worker = Worker {
            figures: Figures::of(child.id()).unwrap(),
            child,
            stream,
            reader: Reader::default(),
            progress,
            porter,
            group: Group::new().unwrap(),
            born_with: 0,
            limits: Limits::default(),
            plan: None,
            jobs: 0,
            sealed: None,
        };
        (
            worker,
            Puppeteer {
                stream: theirs,
                told: told.try_clone().unwrap(),
                teller: Teller::new(told),
            },
        )
    }

    /// Who speaks for it.
    struct Puppeteer {
        stream: UnixStream,
        told: UnixStream,
        teller: Teller,
    }

    enum Word {
        Step(Step),
        Message(FromWorker),
        /// Anything, where steps are told.
        Steps(&'static [u8]),
        /// Anything, on the stream.
        Bytes(&'static [u8]),
    }

    impl Puppeteer {
        /// It may be hung up on while it speaks.
        fn say(&self, words: &[Word]) {
            for word in words {
                match word {
                    Word::Step(step) => self.teller.tell(*step),
                    Word::Message(message) => frame::write(&mut &self.stream, message).unwrap_or_default(),
                    Word::Steps(bytes) => (&self.told).write_all(bytes).unwrap_or_default(),
                    Word::Bytes(bytes) => (&self.stream).write_all(bytes).unwrap_or_default(),
                }
            }
        }
    }

    fn job(code: Code) -> Job {
        let policies = stockade_policies::PolicyStore::stock().unwrap();
        let principal = stockade_policies::Principal::profile("pure");
        Job {
            spent: Duration::ZERO,
            request: crate::request::Request::wasm("pure", "(module)"),
            plan: policies.plan(&principal).unwrap(),
            layers: Layers::ALL,
            code,
        }
    }

    fn compiled(code: &[u8]) -> Word {
        Word::Message(FromWorker::Compiled(Compiled {
            about: Vec::new(),
            code: code.to_vec(),
        }))
    }

    const PATIENCE: Patience = Patience {
        prepare: Duration::from_mins(1),
        run: Some(Duration::from_mins(1)),
        answer: Duration::from_mins(1),
        reply_bytes: SHORT,
        rss_bytes: None,
    };

    /// Whether a worker that says this answered, and what is kept of it.
    fn kept(mut worker: Worker, theirs: &Puppeteer, code: Code, words: &[Word]) -> (bool, Option<Vec<u8>>) {
        let job = job(code);
        std::thread::scope(|scope| {
            scope.spawn(|| theirs.say(words));
            let mut compiled = None;
            let ended = worker.run(&job, &PATIENCE, &mut compiled).unwrap();
            drop(worker);
            let has_answered = matches!(ended, Ended::Answered { .. });
            (has_answered, compiled.map(|compiled| compiled.code))
        })
    }

    fn done() -> Word {
        let refusal = crate::outcome::Refusal::own_failure(crate::outcome::Class::Trap, "");
        let outcome = Outcome::refused(refusal, crate::trail::Trail::default());
        Word::Message(FromWorker::Done(Box::new(outcome)))
    }

    const PREPARING: Word = Word::Step(Step::Preparing);
    const COMPILED: Word = Word::Step(Step::Compiled);
    const STARTED: Word = Word::Step(Step::Started);

    #[test]
    fn code_is_taken_that_was_announced_before_the_guest_started_and_no_other() {
        let code = || compiled(b"code");
        let other = || compiled(b"other");
        let taken = Some(b"code".to_vec());
        let most = vec![7; MOST_CODE];
        let too_much = vec![7; MOST_CODE + SHORT];
        for (name, words, expected) in [
            (
                "in time",
                vec![PREPARING, COMPILED, code(), STARTED, done()],
                (true, taken.clone()),
            ),
            ("none", vec![PREPARING, STARTED, done()], (true, None)),
            ("too late", vec![PREPARING, STARTED, code(), done()], (false, None)),
            (
                "announced too late",
                vec![PREPARING, STARTED, COMPILED, code(), done()],
                (false, None),
            ),
            ("not announced", vec![PREPARING, code(), STARTED, done()], (false, None)),
            (
                "and in time before",
                vec![PREPARING, COMPILED, code(), STARTED, other(), done()],
                (false, taken.clone()),
            ),
            (
                "twice in time",
                vec![PREPARING, COMPILED, code(), other(), STARTED, done()],
                (false, taken.clone()),
            ),
            (
                "as much as is kept",
                vec![PREPARING, COMPILED, compiled(&most), STARTED, done()],
                (true, Some(most)),
            ),
            (
                "more than is kept",
                vec![PREPARING, COMPILED, compiled(&too_much), STARTED, done()],
                (false, None),
            ),
        ] {
            let (worker, theirs) = puppet();
            let kept = kept(worker, &theirs, Code::CompileAndKeep, &words);
            assert!(kept == expected, "{name}");
        }
    }

    #[test]
    fn code_is_not_taken_from_who_was_not_asked_or_had_a_guest() {
        let words = [PREPARING, COMPILED, compiled(b"code"), STARTED, done()];
        let (worker, theirs) = puppet();
        assert_eq!(kept(worker, &theirs, Code::Compile, &words), (false, None));
        let (mut worker, theirs) = puppet();
        worker.sealed = Some(Confinement::of(&job(Code::Compile)));
        assert_eq!(kept(worker, &theirs, Code::CompileAndKeep, &words), (false, None));
    }

    #[test]
    fn who_speaks_without_a_guest_gets_none() {
        for words in [vec![PREPARING], vec![done()], vec![Word::Bytes(&[1])]] {
            let (mut worker, theirs) = puppet();
            assert!(worker.is_alive());
            theirs.say(&words);
            assert!(!worker.is_alive());
        }
    }

    /// How a guest ended whose worker says this.
    fn ended(words: &[Word]) -> Result<Ended, RuntimeError> {
        let (mut worker, theirs) = puppet();
        theirs.say(words);
        let ended = worker.run(&job(Code::Compile), &PATIENCE, &mut None);
        drop(theirs);
        ended
    }

    #[test]
    fn an_answer_comes_after_the_guest() {
        assert!(matches!(
            ended(&[PREPARING, STARTED, done()]),
            Ok(Ended::Answered { .. })
        ));
        assert!(matches!(ended(&[PREPARING, done()]), Ok(Ended::Answered { .. })));
        assert!(matches!(ended(&[done()]), Ok(Ended::Died { after: None, .. })));
        assert!(matches!(
            ended(&[PREPARING, STARTED, STARTED, done()]),
            Ok(Ended::Died { .. })
        ));
    }

    #[test]
    fn a_guest_that_started_has_started_whatever_is_said_afterwards() {
        for more in [Word::Steps(&[0xff]), Word::Bytes(&[0xff; 8]), STARTED] {
            let ended = ended(&[PREPARING, STARTED, more]);
            assert!(matches!(ended, Ok(Ended::Died { after: Some(_), .. })), "{ended:?}");
        }
    }

    /// Code that cannot be used is an error, and the guest is run again. Not where it ran before it said so.
    #[test]
    fn code_is_not_to_be_had_before_the_guest_starts_or_never() {
        let failed = || Word::Message(FromWorker::Failed(RuntimeError::Code("stale".to_owned()).into()));
        assert!(matches!(ended(&[PREPARING, failed()]), Err(RuntimeError::Code(_))));
        assert!(matches!(
            ended(&[PREPARING, STARTED, failed()]),
            Ok(Ended::Died { after: Some(_), .. })
        ));
    }
}
