//! `policyctl overhead`: what the fence costs, held against what was promised.

mod chart;
mod html;
mod markdown;
mod people;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use stockade_conformance::overhead::{Bound, Figure, Judged, Run, Targets, Verdict, judge};

use crate::exit::{Exit, Failure};

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverheadFormat {
    /// For people
    Human,
    /// For programs: the run and its verdicts
    Json,
    /// For a comment or a page
    Markdown,
    /// One page with charts that needs nothing else
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOverhead {
    /// What `ci/bench` measured, one file or every file of one run; none for the run whose figures the book has
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Also show what was timed side by side; pages always do
    #[arg(long)]
    pub comparisons: bool,
    /// Also write the files as one to this path
    #[arg(long, value_name = "FILE", requires = "runs")]
    pub save: Option<PathBuf>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: OverheadFormat,
}

/// What is shown.
struct Overhead<'a> {
    run: &'a Run,
    targets: &'a Targets,
    judged: Vec<Judged<'a>>,
}

impl Overhead<'_> {
    /// How many targets there are of each verdict.
    fn count(&self, wanted: Verdict) -> usize {
        let verdicts = self.judged.iter().flat_map(|judged| &judged.targets);
        verdicts.filter(|(_, verdict)| *verdict == wanted).count()
    }

    /// In one word: whether every target is met, or one is missed, or not all of them have a verdict.
    fn in_all(&self) -> Verdict {
        let worst_first = [Verdict::Missed, Verdict::NotMeasured, Verdict::Unsure];
        let found = worst_first.into_iter().find(|verdict| self.count(*verdict) > 0);
        found.unwrap_or(Verdict::Met)
    }

    fn summary(&self) -> String {
        format!(
            "{} targets met, {} missed, {} unsure, {} not measured",
            self.count(Verdict::Met),
            self.count(Verdict::Missed),
            self.count(Verdict::Unsure),
            self.count(Verdict::NotMeasured)
        )
    }

    /// What was measured on, in one line.
    fn host(&self) -> String {
        let host = &self.run.host;
        let gigabytes = host.memory_bytes.saturating_add(1 << 29) >> 30;
        format!(
            "{}: {} x {}, {gigabytes} GiB, Linux {}",
            self.run.date, host.processors, host.processor, host.kernel
        )
    }

    fn versions(&self) -> String {
        let versions = self.run.host.versions.iter();
        let named: Vec<String> = versions.map(|(name, version)| format!("{name} {version}")).collect();
        named.join(", ")
    }
}

/// What a figure of a slow build is worth.
const NOT_OPTIMISED: &str = "measured in a build that is not a release: no verdicts";

/// Reads a run, judges it, and shows it.
pub(crate) fn overhead(arguments: &ShowOverhead) -> Result<Exit, Failure> {
    let targets = Targets::published().map_err(Failure::new)?;
    let run = if arguments.runs.is_empty() {
        Run::published()?
    } else {
        Run::merged(arguments.runs.iter().map(read).collect::<Result<Vec<_>, Failure>>()?)?
    };
    if let Some(path) = &arguments.save {
        let text = serde_json::to_string_pretty(&run)? + "\n";
        let name = path.display();
        fs::write(path, text).map_err(|error| Failure::new(format!("cannot write run `{name}`: {error}")))?;
    }
    let overhead = Overhead {
        run: &run,
        targets: &targets,
        judged: judge(&run, &targets),
    };
    show(&overhead, arguments)?;
    Ok(
        if overhead.count(Verdict::Unsure) + overhead.count(Verdict::NotMeasured) > 0 {
            Exit::NoAnswer
        } else if overhead.count(Verdict::Missed) > 0 {
            Exit::Findings
        } else {
            Exit::Clean
        },
    )
}

fn read(path: &PathBuf) -> Result<(String, Run), Failure> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read run `{name}`: {error}")))?;
    let run = Run::parse(&name, &text)?;
    Ok((name, run))
}

fn show(overhead: &Overhead<'_>, arguments: &ShowOverhead) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match arguments.format {
        OverheadFormat::Human => {
            write!(out, "{}", people::verdicts(overhead))?;
            if arguments.comparisons {
                write!(out, "{}", people::comparisons(overhead))?;
            }
        }
        OverheadFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(&Answer::of(overhead))?)?,
        OverheadFormat::Markdown => write!(out, "{}", markdown::text(overhead, arguments.comparisons))?,
        OverheadFormat::Html => write!(out, "{}", html::page(overhead))?,
    }
    Ok(())
}

/// For programs.
#[derive(Serialize)]
struct Answer<'a> {
    run: &'a Run,
    verdicts: Vec<TargetVerdict<'a>>,
}

#[derive(Serialize)]
struct TargetVerdict<'a> {
    quantity: &'a str,
    what: &'a str,
    figure: Option<Figure>,
    #[serde(flatten)]
    bound: Bound,
    source: &'a str,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'a str>,
}

impl<'a> Answer<'a> {
    fn of(overhead: &'a Overhead<'_>) -> Self {
        let verdicts = overhead.judged.iter().flat_map(|judged| {
            judged.targets.iter().map(|(target, verdict)| TargetVerdict {
                quantity: &judged.quantity.id,
                what: &judged.quantity.what,
                figure: judged.figure,
                bound: target.bound,
                source: &target.source,
                verdict: *verdict,
                because: judged.because(),
            })
        });
        Self {
            run: overhead.run,
            verdicts: verdicts.collect(),
        }
    }
}
