//! One adapter process, as the harness sees it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use super::lines::Lines;
use super::message::FromAdapter;
use super::subject::Allowance;
use super::warden::WARDEN_ARGUMENT;

/// Between two looks at an adapter that says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long an adapter may take to read what it is told.
const HAND_OVER: Duration = Duration::from_secs(10);

/// How long a process whose streams are closed may take to be gone.
const ON_ITS_WAY_OUT: Duration = Duration::from_millis(500);

/// How long killed processes may take to be gone.
const TO_BE_GONE: Duration = Duration::from_secs(5);

/// What an adapter may know of the environment: where its own programs are kept.
const ENVIRONMENT: &[&str] = &["HOME", "LANG", "PATH", "XDG_CACHE_HOME"];

/// The most of standard error that is kept, in bytes: the end of it.
const KEPT_OF_ERRORS: usize = 4096;

/// The most of standard error that is read between two looks, in bytes.
const ERRORS_AT_ONCE: usize = 1 << 20;

/// What an adapter did that adapters must not: nobody knows what became of the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterFault {
    /// There is no such program, or the system gives no process.
    #[error("the adapter cannot be started: {0}")]
    Start(#[source] io::Error),
    /// It could not be told or heard.
    #[error("the adapter cannot be reached: {0}")]
    Reach(#[from] io::Error),
    /// It did not say hello in time.
    #[error("the adapter said nothing")]
    Silent,
    /// It speaks another version.
    #[error("the adapter speaks version {theirs} of the protocol")]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// It claims what is no word of the vocabulary.
    #[error("the adapter claims `{0}`, which is no meter or action")]
    Claim(String),
    /// It said what is no message.
    #[error("the adapter said what is no message: `{line}`: {reason}")]
    Garbage {
        /// The beginning of the line.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It said more than it may.
    #[error("the adapter said more than {most} bytes")]
    Flood {
        /// The most that it may say.
        most: usize,
    },
    /// It spoke of a case that it was not given.
    #[error("the adapter answered for case `{theirs}`")]
    OtherCase {
        /// The case that it named.
        theirs: String,
    },
    /// It said what does not come now.
    #[error("the adapter said `{said}` out of turn")]
    OutOfTurn {
        /// The type of the message.
        said: &'static str,
    },
    /// It ended without an answer, by itself.
    #[error("the adapter ended with {status}: {last}")]
    Ended {
        /// Its exit status, in words.
        status: String,
        /// The last line of its standard error.
        last: String,
    },
}

/// What was heard of an adapter.
pub(super) enum Heard {
    Message(FromAdapter),
    NotYet,
    /// Nothing more will come.
    Closed,
}

/// A running adapter. Dropping it kills its process group.
pub(super) struct Adapter {
    child: Child,
    stream: UnixStream,
    errors: UnixStream,
    lines: Lines,
    said_last: Vec<u8>,
    resident_before: u64,
    peak: u64,
}

impl Adapter {
    /// Starts it in a process group of its own.
    pub(super) fn start(program: &Path, folder: &Path, allowance: Allowance) -> Result<Self, AdapterFault> {
        let (stream, theirs) = UnixStream::pair().map_err(AdapterFault::Start)?;
        let (errors, their_errors) = UnixStream::pair().map_err(AdapterFault::Start)?;
        let child = spawn(program, folder, theirs, their_errors).map_err(AdapterFault::Start)?;
        let adapter = Self {
            child,
            stream,
            errors,
            lines: Lines::new(&allowance),
            said_last: Vec::new(),
            resident_before: 0,
            peak: 0,
        };
        adapter.stream.set_read_timeout(Some(LOOK_EVERY))?;
        adapter.stream.set_write_timeout(Some(HAND_OVER))?;
        adapter.errors.set_nonblocking(true)?;
        Ok(adapter)
    }

    pub(super) fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Waits a moment for a line.
    pub(super) fn hear(&mut self) -> Result<Heard, AdapterFault> {
        self.hear_errors();
        if let Some(message) = self.lines.next_message()? {
            return Ok(Heard::Message(message));
        }
        // Looked at before reading: what a process said before it ended is there to be read then.
        let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
        let mut chunk = vec![0; 1 << 16];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Ok(Heard::Closed),
            Ok(count) => self.lines.take(chunk.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Heard::Closed),
            Err(error) if is_not_yet(&error) && has_ended => return Ok(Heard::Closed),
            Err(error) if is_not_yet(&error) => return Ok(Heard::NotYet),
            Err(error) => return Err(error.into()),
        }
        Ok(self.lines.next_message()?.map_or(Heard::NotYet, Heard::Message))
    }

    /// What was said that nobody has looked at.
    pub(super) const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Reads on, so that nobody waits for it, and keeps the end.
    fn hear_errors(&mut self) {
        let mut chunk = [0; 1 << 12];
        let mut read = 0;
        while read < ERRORS_AT_ONCE
            && let Ok(count) = self.errors.read(&mut chunk)
            && count > 0
        {
            read += count;
            self.said_last.extend(chunk.get(..count).unwrap_or_default());
            let beyond = self.said_last.len().saturating_sub(KEPT_OF_ERRORS);
            self.said_last.drain(..beyond);
        }
    }

    /// Counts memory from here on: what the adapter itself takes is not the guest's.
    pub(super) fn forget_memory(&mut self) {
        for process in self.group() {
            // Where the kernel does not offer it, the peak is that of the process's life.
            fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap_or_default();
        }
        self.resident_before = self.memory("VmRSS:");
        self.peak = 0;
    }

    /// The most memory that the process group was seen to take since, in bytes.
    pub(super) fn peak(&mut self) -> u64 {
        let now = self.memory("VmHWM:").saturating_sub(self.resident_before);
        self.peak = self.peak.max(now);
        self.peak
    }

    fn memory(&self, field: &str) -> u64 {
        self.group().iter().map(|process| memory(*process, field)).sum()
    }

    /// The living processes of the group.
    fn group(&self) -> Vec<u32> {
        let own = self.child.id();
        let Ok(processes) = fs::read_dir("/proc") else {
            return vec![own];
        };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|process| group_of(*process) == Some(own))
            .collect()
    }

    /// How it ended, if it did or is about to.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        for _ in 0..ON_ITS_WAY_OUT.as_millis() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
        None
    }

    /// What is to be said of an adapter that ended without an answer.
    pub(super) fn fault(&mut self, status: Option<ExitStatus>) -> AdapterFault {
        self.hear_errors();
        let said = String::from_utf8_lossy(&self.said_last);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        AdapterFault::Ended {
            status: status.map_or_else(|| "its streams closed".to_owned(), in_words),
            last: last.unwrap_or("it said nothing of why").chars().take(200).collect(),
        }
    }

    /// Ends every process of the group, and waits until they are gone: a signal that was sent is not yet a death.
    pub(super) fn end(&mut self) {
        let Some(group) = Pid::from_raw(self.child.id().cast_signed()) else {
            return;
        };
        // Whoever is gone already need not be killed.
        kill_process_group(group, Signal::KILL).unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        let begun = Instant::now();
        while !self.group().is_empty() && begun.elapsed() < TO_BE_GONE {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts this executable again, which becomes the program.
fn spawn(program: &Path, folder: &Path, stream: UnixStream, errors: UnixStream) -> io::Result<Child> {
    let output = stream.try_clone()?;
    let known = ENVIRONMENT.iter().filter_map(|name| Some((*name, env::var_os(name)?)));
    #[expect(clippy::disallowed_methods, reason = "the one place where an adapter is started")]
    Command::new("/proc/self/exe")
        .arg(WARDEN_ARGUMENT)
        .arg(program)
        .env_clear()
        .envs(known)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::from(OwnedFd::from(errors)))
        .spawn()
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// A figure of a process's memory in bytes; 0 for one that is gone.
fn memory(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let figure = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = figure.and_then(|figure| figure.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// The process group of a living process. One that is dead and not yet buried does nothing more.
fn group_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; behind it come the state, the parent and the group.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    fields.nth(1)?.parse().ok().filter(|_| !is_dead)
}

/// An exit status, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}
