//! One worker, as its supervisor sees it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::frame::{self, Reader, Received};
use super::message::FromWorker;
use super::serve::{WORKER_ARGUMENT, is_worker};
use crate::error::RuntimeError;
use crate::execute::Job;
use crate::outcome::Outcome;

/// How long a fresh process may take to say that it is ready.
const BIRTH: Duration = Duration::from_secs(20);

/// How long a worker may take to be ready for another job after its answer.
const AGAIN: Duration = Duration::from_millis(200);

/// How long handing over a job may take: the largest guest that is read at all crosses in a small part of it.
const HAND_OVER: Duration = Duration::from_secs(10);

/// The most bytes of a message without an outcome in it.
const SHORT: usize = 4096;

/// Between two looks at the worker's memory.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a supervisor lets a guest go on.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the worker having the whole job to the guest's first byte: compiling, opening.
    pub prepare: Duration,
    /// From the guest's first byte to its outcome; `None` waits for ever.
    pub run: Option<Duration>,
    /// The most bytes of its answer.
    pub reply_bytes: usize,
    /// The most resident memory of the process, in bytes; `None` does not look.
    pub rss_bytes: Option<u64>,
}

/// Why a supervisor killed a worker.
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
    /// The supervisor killed the worker.
    Killed {
        /// Why.
        why: KilledFor,
        /// From the guest's first byte to the end of the process; `None` when it had not started.
        after: Option<Duration>,
        /// Peak resident memory, read from outside just before.
        peak_rss_bytes: u64,
    },
    /// The worker ended by itself, without an answer.
    Died {
        /// Its exit status, in words.
        status: String,
        /// From the guest's first byte to the end of the process; `None` when it had not started.
        after: Option<Duration>,
    },
}

/// A running worker process. Dropping it kills it.
pub(super) struct Worker {
    child: Child,
    stream: UnixStream,
    reader: Reader,
    pub(super) jobs: u32,
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
        let (stream, theirs) = UnixStream::pair()?;
        // The link stays valid where the file was replaced meanwhile: supervisor and worker are always the same build.
        #[expect(clippy::disallowed_methods, reason = "the one place where a worker is started")]
        let child = Command::new("/proc/self/exe")
            .args([WORKER_ARGUMENT, &std::process::id().to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut worker = Self {
            child,
            stream,
            reader: Reader::default(),
            jobs: 0,
        };
        worker.wait_until_ready(BIRTH)?;
        Ok(worker)
    }

    fn wait_until_ready(&mut self, most: Duration) -> io::Result<()> {
        let begun = Instant::now();
        while let Some(left) = most.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left))?;
            match self.reader.read(&mut self.stream, SHORT)? {
                Received::NotYet => {}
                Received::Message(FromWorker::Ready) => return Ok(()),
                Received::Message(_) | Received::Closed => break,
            }
        }
        Err(io::Error::other(
            "a worker did not come up; does `main` call `stockade_runtime::worker::enter()` first?",
        ))
    }

    /// Whether the process still runs. One that died while it waited is no verdict on the next guest.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Writes the whole job within [`HAND_OVER`], however slowly it is read.
    fn hand_over(&mut self, job: &Job) -> io::Result<()> {
        let frame = frame::framed(job)?;
        let begun = Instant::now();
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let left = HAND_OVER.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
            self.stream.set_write_timeout(Some(left.ok_or(ErrorKind::TimedOut)?))?;
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the worker a job and waits for its end. True when the worker can take another.
    pub(super) fn run(&mut self, job: &Job, patience: &Patience) -> Result<(Ended, bool), RuntimeError> {
        self.jobs += 1;
        self.forget_peak();
        if self.hand_over(job).is_err() {
            return Ok((self.died(None), false));
        }
        let mut watch = Watch::new(patience);
        loop {
            if let Some(why) = watch.overdue(|| self.resident()) {
                return Ok((self.kill(why, &watch), false));
            }
            self.stream
                .set_read_timeout(Some(watch.next_look()))
                .map_err(RuntimeError::Wire)?;
            match self.reader.read(&mut self.stream, patience.reply_bytes) {
                Ok(Received::NotYet) => {}
                // Each once and in this order: a clock that is told to start again would never run out.
                Ok(Received::Message(FromWorker::Preparing)) if watch.preparing.is_none() => {
                    watch.preparing = Some(Instant::now());
                }
                Ok(Received::Message(FromWorker::Started)) if watch.preparing.is_some() && watch.started.is_none() => {
                    watch.started = Some(Instant::now());
                }
                Ok(Received::Message(FromWorker::Done(outcome))) => {
                    let peak_rss_bytes = self.memory("VmHWM");
                    let again = self.wait_until_ready(AGAIN).is_ok();
                    return Ok((
                        Ended::Answered {
                            outcome,
                            peak_rss_bytes,
                        },
                        again,
                    ));
                }
                Ok(Received::Message(FromWorker::Failed(failure))) => return Err(failure.into()),
                // Words that no worker says, or none: whatever runs there is not to be trusted any more.
                Ok(Received::Message(_) | Received::Closed) | Err(_) => {
                    return Ok((self.died(watch.started), false));
                }
            }
        }
    }

    fn kill(&mut self, why: KilledFor, watch: &Watch) -> Ended {
        let peak_rss_bytes = self.memory("VmHWM");
        self.end();
        Ended::Killed {
            why,
            after: watch.started.map(|started| started.elapsed()),
            peak_rss_bytes,
        }
    }

    fn died(&mut self, started: Option<Instant>) -> Ended {
        let after = started.map(|started| started.elapsed());
        // It may still be on its way out: its own status says more than our signal would.
        let status = self.wait_briefly().map_or_else(|| "no answer".to_owned(), in_words);
        self.end();
        Ended::Died { status, after }
    }

    fn wait_briefly(&mut self) -> Option<ExitStatus> {
        for _ in 0..200 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    /// Resident memory in bytes. A living process whose memory cannot be read holds too much; one on its way out has
    /// none to read, so it gets a moment to be gone.
    fn resident(&mut self) -> u64 {
        match self.memory("VmRSS") {
            0 if self.wait_briefly().is_none() => u64::MAX,
            bytes => bytes,
        }
    }

    /// A figure of the process's memory in bytes; 0 where it cannot be read.
    fn memory(&self, name: &str) -> u64 {
        fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .ok()
            .and_then(|status| field(&status, name))
            .unwrap_or(0)
    }

    /// Makes `VmHWM` start anew, so that one guest's peak is not the next one's.
    fn forget_peak(&self) {
        // Where the kernel does not offer it, the peak is that of the worker's life.
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap_or_default();
    }

    /// SIGKILL, and no zombie. Both can only fail when the process is already gone.
    fn end(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The clock of one job.
struct Watch<'a> {
    patience: &'a Patience,
    handed_over: Instant,
    preparing: Option<Instant>,
    started: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(patience: &'a Patience) -> Self {
        Self {
            patience,
            handed_over: Instant::now(),
            preparing: None,
            started: None,
        }
    }

    fn left(&self) -> Option<Duration> {
        let (since, most) = match (self.started, self.preparing) {
            (Some(started), _) => (started, self.patience.run?),
            (None, Some(preparing)) => (preparing, self.patience.prepare),
            (None, None) => (self.handed_over, HAND_OVER),
        };
        Some(most.saturating_sub(since.elapsed()))
    }

    fn overdue(&self, rss_bytes: impl FnOnce() -> u64) -> Option<KilledFor> {
        if self.left() == Some(Duration::ZERO) {
            return Some(if self.started.is_some() {
                KilledFor::Time
            } else {
                KilledFor::Preparing
            });
        }
        let most = self.patience.rss_bytes?;
        (rss_bytes() > most).then_some(KilledFor::Memory)
    }

    fn next_look(&self) -> Duration {
        // A time-out of zero would mean none at all.
        let left = self.left().unwrap_or(LOOK_EVERY).max(Duration::from_micros(100));
        left.min(LOOK_EVERY)
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
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
    use super::*;

    #[test]
    fn memory_figures_are_read_by_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t      16 kB\n";
        assert_eq!(field(status, "VmHWM"), Some(2048 * 1024));
        assert_eq!(field(status, "VmRSS"), Some(16 * 1024));
        assert_eq!(field(status, "Vm"), None);
    }
}
