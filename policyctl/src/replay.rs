//! `policyctl replay`

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use stockade_conformance::{
    Corpus, Endurance, Laboratory, Manner, Progress, Report, Rigour, Shard, Suite, endure, replay as play,
};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::journal::{Header, Journal};
use crate::report::people::tenths;
use crate::report::{self, ReportFormat};
use crate::scoreboard;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SubjectName {
    Reference,
    Undefended,
    Adapter(PathBuf),
}

impl From<&str> for SubjectName {
    fn from(text: &str) -> Self {
        match text {
            "reference" => Self::Reference,
            "undefended" => Self::Undefended,
            path => Self::Adapter(path.into()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Cases or folders of the corpus, or files and folders on disk; without any, the whole corpus in this program
    #[arg(value_name = "CASE|DIR")]
    pub cases: Vec<String>,
    /// Who is put to the test: `reference`, the runtime as users run it, each attack also undefended, to see that its harm is real; `undefended`, no fence at all; or the program of an adapter for another runtime, or a folder with a program `start` in it
    #[arg(long, value_name = "SUBJECT", default_value = "reference")]
    pub subject: SubjectName,
    /// Also run each attack with each of its layers alone, with each of them missing, and with all of them missing
    #[arg(long, conflicts_with = "subject")]
    pub prove: bool,
    /// Prove, and show a row for each attack with a column for each layer
    #[arg(long, conflicts_with_all = ["subject", "shuffle"])]
    pub matrix: bool,
    /// Also play so many variants of each attack in SQL: the same in other letters, comments, quotes and blanks
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    pub variants: u32,
    /// What the variants follow from
    #[arg(long, default_value = "1", requires = "variants")]
    pub seed: u64,
    /// Play attacks only, in the random order that follows from this, and count what they leave behind
    #[arg(long, value_name = "SEED", requires = "times", conflicts_with_all = ["subject", "prove"])]
    pub shuffle: Option<u64>,
    /// So many attacks in all: the whole selection, shuffled, again and again
    #[arg(long, value_name = "N", requires = "shuffle", value_parser = clap::value_parser!(u32).range(1..))]
    pub times: Option<u32>,
    /// Cases played at a time
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Play each trial so often: a case whose verdict is not always the same fails
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Play one part of so many, `1/4` for the first of four; `policyctl report` puts them together
    #[arg(long, value_name = "I/N", conflicts_with = "shuffle")]
    pub shard: Option<Shard>,
    /// Write each case to this file when it is done, and leave out what it has: to go on after an interruption
    #[arg(long, value_name = "FILE", conflicts_with = "shuffle")]
    pub journal: Option<PathBuf>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: ReportFormat,
}

/// Replays cases, and says which attacks were stopped.
pub(crate) fn replay(arguments: &Replay) -> Result<Exit, Failure> {
    let corpus = if arguments.cases.is_empty() {
        Corpus::embedded()?
    } else {
        Corpus::select(&arguments.cases)?
    }
    .with_variants(arguments.variants, arguments.seed);
    if let (Some(seed), Some(times)) = (arguments.shuffle, arguments.times) {
        return shuffled(&corpus, seed, times, jobs(arguments.jobs), arguments.format);
    }
    if let SubjectName::Adapter(path) = &arguments.subject {
        let format = match arguments.format {
            ReportFormat::Human => Format::Human,
            ReportFormat::Json => Format::Json,
            _ => return Err(Failure::new("where an adapter stands is shown as `human` or `json`")),
        };
        return scoreboard::of_one(path, &corpus, jobs(arguments.jobs), format);
    }
    let report = played(arguments, corpus)?;
    report::show(&report, arguments.format, arguments.matrix)?;
    Ok(report::verdict(&report))
}

fn played(arguments: &Replay, corpus: Corpus) -> Result<Report, Failure> {
    let begun = Instant::now();
    let manner = Manner {
        rigour: rigour(arguments),
        repeat: arguments.repeat,
        jobs: jobs(arguments.jobs),
        without: None,
    };
    let suite = Suite::of(&corpus, manner.rigour, manner.repeat);
    let corpus = match arguments.shard {
        Some(shard) => corpus.shard(shard),
        None => corpus,
    };
    let name = subject(&arguments.subject);
    let mut cases = match &arguments.journal {
        None => play(&corpus, manner, &Laboratory::new(manner.jobs)?, &show_progress),
        Some(path) => {
            let header = Header {
                suite: suite.clone(),
                subject: name.to_owned(),
                shard: arguments.shard,
            };
            let (journal, before) = Journal::open(path, &header)?;
            let rest = corpus.without(&before);
            let progress = |progress: Progress<'_>| {
                journal.write(progress.report);
                show_progress(progress);
            };
            let mut cases = play(&rest, manner, &Laboratory::new(manner.jobs)?, &progress);
            journal.finish()?;
            cases.extend(before);
            cases
        }
    };
    clear_progress();
    cases.sort_by(|one, other| one.id.cmp(&other.id));
    let mut report = Report::of(name, suite, cases, begun.elapsed());
    report.shard = arguments.shard;
    Ok(report)
}

/// As many as the machine has processors, where nobody says how many.
pub(crate) fn jobs(wanted: Option<usize>) -> usize {
    wanted
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
        .max(1)
}

fn shuffled(corpus: &Corpus, seed: u64, times: u32, jobs: usize, format: ReportFormat) -> Result<Exit, Failure> {
    let times = usize::try_from(times).map_err(Failure::new)?;
    let endured = endure(corpus, seed, times, jobs, &show_progress).map_err(Failure::new)?;
    clear_progress();
    match format {
        ReportFormat::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&endured)?)?,
        ReportFormat::Human => {
            write!(io::stdout(), "{}", endured_in_words(&endured))?;
            for fault in &endured.faults {
                writeln!(io::stderr(), "{}", one_line(fault))?;
            }
        }
        _ => return Err(Failure::new("what `--shuffle` counts is shown as `human` or `json`")),
    }
    Ok(if endured.passed() {
        Exit::Clean
    } else if endured.unknown > 0 {
        Exit::NoAnswer
    } else {
        Exit::Findings
    })
}

fn endured_in_words(endured: &Endurance) -> String {
    let Endurance {
        seed, attacks, held, ..
    } = endured;
    let mebibytes = |bytes: u64| bytes >> 20;
    format!(
        "{attacks} attacks in the order of seed {seed}: {held} stopped, {} not\n\
         left behind: {} processes, {} stages\n\
         this process held {} MiB after a tenth of them, {} MiB at the end\n\
         {} s in all\n",
        attacks - held,
        endured.processes_left,
        endured.files_left,
        mebibytes(endured.rss_early),
        mebibytes(endured.rss_late),
        tenths(endured.total_ms)
    )
}

fn rigour(arguments: &Replay) -> Rigour {
    match &arguments.subject {
        SubjectName::Undefended => Rigour::Undefended,
        SubjectName::Reference if arguments.prove || arguments.matrix => Rigour::Proof,
        SubjectName::Reference | SubjectName::Adapter(_) => Rigour::Standard,
    }
}

fn subject(name: &SubjectName) -> &'static str {
    match name {
        SubjectName::Undefended => "undefended",
        SubjectName::Reference | SubjectName::Adapter(_) => "reference",
    }
}

/// A line that changes, on a terminal.
pub(crate) fn show_progress(progress: Progress<'_>) {
    if io::stderr().is_terminal() {
        let line = format!(
            "\r\x1b[K[{}/{}] {}",
            progress.done,
            progress.total,
            one_line(progress.case)
        );
        // A progress line that cannot be shown is no reason to stop.
        write!(io::stderr(), "{line}").unwrap_or_default();
    }
}

/// Takes it away.
pub(crate) fn clear_progress() {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r\x1b[K").unwrap_or_default();
    }
}
