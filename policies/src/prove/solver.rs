//! The solver: another program, spoken to in SMT-LIB over a pipe, and never trusted to answer.
//!
//! What it says is read up to a limit, how long it takes is bounded by whoever asks, and it is killed when it is dropped.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cedar_policy_symcc::SmtLibScript as _;
use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver as Symbolic, SolverError as Broken};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The most that one answer may be, in bytes: far more than any model of the stock profiles.
const LONGEST_ANSWER: u64 = 16 << 20;

/// How long a solver may take to answer the first, trivial question.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What to do about it where there is none.
const GET_ONE: &str = "install cvc5 (Debian, Ubuntu: `apt-get install cvc5`; \
                       others: a release of https://github.com/cvc5/cvc5), or name one in the variable `CVC5`; \
                       the `cvc5` package of PyPI has no program in it";

/// Why there is no solver to ask.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SolverError {
    /// The program does not start.
    #[error("there is no solver: `{}` does not start: {source}; {GET_ONE}", program.display())]
    Missing {
        /// What was tried.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It starts, and is not cvc5 as it should be.
    #[error("`{}` does not answer as cvc5 does: {reason}; {GET_ONE}", program.display())]
    Strange {
        /// What was tried.
        program: PathBuf,
        /// What it did instead.
        reason: String,
    },
}

/// Which solver to ask, for how long, and how many at once.
#[derive(Debug, Clone)]
pub struct Solver {
    program: PathBuf,
    /// The longest that one query may take.
    pub(super) timeout: Duration,
    /// How many are asked at once.
    pub(super) processes: usize,
}

impl Solver {
    /// What the variable `CVC5` names, or else `cvc5` in the `PATH`: 60 seconds for a query, two processes.
    #[must_use]
    pub fn from_environment() -> Self {
        let named = std::env::var_os("CVC5").filter(|name| !name.is_empty());
        Self::at(named.unwrap_or_else(|| OsString::from("cvc5")))
    }

    /// This program.
    #[must_use]
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            timeout: Duration::from_mins(1),
            processes: 2,
        }
    }

    /// The longest that one query may take.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How many are asked at once; at least one is.
    #[must_use]
    pub fn with_processes(self, processes: usize) -> Self {
        Self {
            processes: processes.max(1),
            ..self
        }
    }

    /// The program that is asked.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts one and asks it something that only a solver with strings can answer.
    pub(super) async fn start(&self) -> Result<Process, SolverError> {
        let strange = |reason: String| SolverError::Strange {
            program: self.program.clone(),
            reason,
        };
        let mut process = Process::start(self).map_err(|source| SolverError::Missing {
            program: self.program.clone(),
            source,
        })?;
        match timeout(FIRST_ANSWER.min(self.timeout), process.first_answer()).await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(error)) => Err(strange(error.to_string())),
            Err(_) => Err(strange(format!(
                "it said nothing for {:?}",
                FIRST_ANSWER.min(self.timeout)
            ))),
        }
    }
}

/// A running solver.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: BufWriter<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Process {
    fn start(solver: &Solver) -> io::Result<Self> {
        // Its own limit ends it where ours cannot: when this process is killed while it computes.
        let own_limit = format!("--tlimit-per={}", solver.timeout.as_millis());
        let mut child = Command::new(&solver.program)
            .args(["--lang", "smt", "--strings-exp", &own_limit])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok(Self {
                child,
                stdin: BufWriter::new(stdin),
                stdout: BufReader::new(stdout),
                stderr,
            }),
            _ => Err(io::Error::other("it has no pipes")),
        }
    }

    async fn first_answer(&mut self) -> Result<(), Broken> {
        self.stdin.set_logic("ALL").await?;
        self.stdin.declare_const("text", "String").await?;
        self.stdin.assert("(str.contains text \"a\")").await?;
        match self.check_sat().await? {
            Decision::Sat => Ok(()),
            other => Err(Broken::UnrecognizedSolverOutput(format!("{other:?}").to_lowercase())),
        }
    }

    async fn line(&mut self, so_far: &mut String) -> Result<(), Broken> {
        let left = LONGEST_ANSWER.saturating_sub(so_far.len() as u64);
        let read = (&mut self.stdout).take(left).read_line(so_far).await?;
        if so_far.ends_with('\n') {
            Ok(())
        } else if read as u64 == left {
            Err(Broken::Solver(format!(
                "its answer is longer than {} MiB",
                LONGEST_ANSWER >> 20
            )))
        } else {
            Err(self.last_words().await)
        }
    }

    /// Why it went away.
    async fn last_words(&mut self) -> Broken {
        let mut said = String::new();
        let mut stderr = (&mut self.stderr).take(1000);
        // What it said last is a courtesy; that it is gone is the news.
        let _ = timeout(Duration::from_millis(200), stderr.read_to_string(&mut said)).await;
        let said = said.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
        let how = match timeout(Duration::from_millis(200), self.child.wait()).await {
            Ok(Ok(status)) => format!("it ended with {status}"),
            _ => "it closed its output".to_owned(),
        };
        Broken::Solver(format!("{how}{said}"))
    }

    /// The problem, where it died before it had read everything: then the pipe's error says less than its last words.
    async fn send(&mut self) -> Result<(), Broken> {
        match self.stdin.flush().await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.last_words().await),
        }
    }

    /// Ends it, and waits until it is gone.
    pub(super) async fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

impl Symbolic for Process {
    fn smtlib_input(&mut self) -> &mut (dyn AsyncWrite + Unpin + Send) {
        &mut self.stdin
    }

    async fn enable_models(&mut self) -> Result<(), Broken> {
        Ok(self.smtlib_input().set_option("produce-models", "true").await?)
    }

    async fn check_sat(&mut self) -> Result<Decision, Broken> {
        self.smtlib_input().check_sat().await?;
        self.send().await?;
        let mut answer = String::new();
        self.line(&mut answer).await?;
        match answer.trim() {
            "sat" => Ok(Decision::Sat),
            "unsat" => Ok(Decision::Unsat),
            "unknown" => Ok(Decision::Unknown),
            other => Err(unexpected(other)),
        }
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, Broken> {
        match self.check_sat().await? {
            Decision::Unsat => return Ok(DecisionWithModel::Unsat),
            Decision::Unknown => return Ok(DecisionWithModel::Unknown),
            Decision::Sat => {}
        }
        self.smtlib_input().get_model().await?;
        self.send().await?;
        let mut model = String::new();
        self.line(&mut model).await?;
        if model.trim() != "(" {
            return Err(unexpected(model.trim()));
        }
        loop {
            let start = model.len();
            self.line(&mut model).await?;
            if model.get(start..).is_some_and(|line| line.trim() == ")") {
                return Ok(DecisionWithModel::Sat { model });
            }
        }
    }
}

fn unexpected(said: &str) -> Broken {
    const SHOWN: usize = 120;
    let error = said.strip_prefix("(error \"").and_then(|said| said.strip_suffix("\")"));
    let cut: String = error.unwrap_or(said).chars().take(SHOWN).collect();
    match error {
        Some(_) => Broken::Solver(cut),
        None => Broken::UnrecognizedSolverOutput(cut),
    }
}
