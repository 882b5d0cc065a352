//! `policyctl replay`

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use clap::{Args, ValueEnum};
use stockade_conformance::{
    CaseReport, Corpus, Endurance, Laboratory, Matrix, Progress, Report, Rigour, Tally, Trial, TrialReport, Verdict,
    endure, replay as play,
};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SubjectName {
    /// The runtime as users run it; each attack is also run undefended, to see that its harm is real
    Reference,
    /// No fence at all
    Undefended,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Cases or folders of the corpus, or files and folders on disk; without any, the whole corpus in this program
    #[arg(value_name = "CASE|DIR")]
    pub cases: Vec<String>,
    /// Who is put to the test
    #[arg(long, value_enum, default_value = "reference")]
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
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// What the marks of a matrix mean.
const LEGEND: &str = "x  stops it alone, and others do too    X  nothing else stops it    .  does not stop it    ?  this build cannot tell\n";

/// Replays cases, and says which attacks were stopped.
pub(crate) fn replay(arguments: &Replay) -> Result<Exit, Failure> {
    let corpus = if arguments.cases.is_empty() {
        Corpus::embedded()?
    } else {
        Corpus::select(&arguments.cases)?
    }
    .with_variants(arguments.variants, arguments.seed);
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
        .max(1);
    if let (Some(seed), Some(times)) = (arguments.shuffle, arguments.times) {
        return shuffled(&corpus, seed, times, jobs, arguments.format);
    }
    let laboratory = Laboratory::new(jobs)?;
    let begun = Instant::now();
    let cases = play(&corpus, rigour(arguments), &laboratory, jobs, &show_progress);
    clear_progress();
    let report = Report::of(subject(arguments.subject), cases, begun.elapsed());
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        Format::Human => {
            if arguments.matrix {
                writeln!(io::stdout(), "{}{LEGEND}", Matrix::of(&report.cases))?;
            }
            write!(io::stdout(), "{}", table(&report))?;
            write!(io::stderr(), "{}", failures(&report))?;
        }
    }
    Ok(if report.passed() {
        Exit::Clean
    } else if report.unknown > 0 {
        Exit::NoAnswer
    } else {
        Exit::Findings
    })
}

fn shuffled(corpus: &Corpus, seed: u64, times: u32, jobs: usize, format: Format) -> Result<Exit, Failure> {
    let times = usize::try_from(times).map_err(Failure::new)?;
    let endured = endure(corpus, seed, times, jobs, &show_progress).map_err(Failure::new)?;
    clear_progress();
    match format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&endured)?)?,
        Format::Human => {
            write!(io::stdout(), "{}", endured_in_words(&endured))?;
            for fault in &endured.faults {
                writeln!(io::stderr(), "{}", one_line(fault))?;
            }
        }
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
    match arguments.subject {
        SubjectName::Undefended => Rigour::Undefended,
        SubjectName::Reference if arguments.prove || arguments.matrix => Rigour::Proof,
        SubjectName::Reference => Rigour::Standard,
    }
}

fn subject(name: SubjectName) -> &'static str {
    match name {
        SubjectName::Reference => "reference",
        SubjectName::Undefended => "undefended",
    }
}

fn show_progress(progress: Progress<'_>) {
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

fn clear_progress() {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r\x1b[K").unwrap_or_default();
    }
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{:<12} {:>8} {:>8} {:>11}\n",
        "threat", "attacks", "stopped", "undetected"
    );
    let mut line = |name: &str, tally: Tally| {
        let Tally {
            cases,
            held,
            undetected,
        } = tally;
        text.push_str(&format!("{name:<12} {cases:>8} {held:>8} {undetected:>11}\n"));
    };
    let mut all = Tally::default();
    for (threat, tally) in &report.attacks {
        line(&threat.to_string(), *tally);
        all.cases += tally.cases;
        all.held += tally.held;
        all.undetected += tally.undetected;
    }
    line("all attacks", all);
    let Tally { cases, held, .. } = report.benign;
    text.push('\n');
    if cases > 0 {
        text.push_str(&format!(
            "honest guests: {cases}, completed {held}, refused {}\n",
            cases - held
        ));
    }
    let Tally { cases, held, .. } = report.regressions;
    if cases > 0 {
        text.push_str(&format!("old faults: {cases}, came back {}\n", cases - held));
    }
    text.push_str(&closing(report, all.cases));
    text
}

fn closing(report: &Report, attacks: usize) -> String {
    let mut text = String::new();
    if report.subject == "reference" && attacks > 0 {
        let harmful = report.harmful;
        text.push_str(&format!(
            "undefended, {harmful} of {attacks} attacks did their harm, seen from outside\n"
        ));
        if report.compiled_out > 0 {
            text.push_str(&format!(
                "{} could not be tried undefended: what they use is not compiled in\n",
                report.compiled_out
            ));
        }
    }
    let proofs = layer_trials(report);
    if proofs > 0 {
        text.push_str(&format!(
            "{proofs} runs with one layer alone, without one, or without all that stop an attack\n"
        ));
    }
    let failed = report
        .cases
        .iter()
        .filter(|case| !case.passed() && !case.is_unknown())
        .count();
    for (count, what) in [(failed, "failed"), (report.unknown, "without a verdict")] {
        if count > 0 {
            text.push_str(&format!("cases {what}: {count}\n"));
        }
    }
    if let Some((case, millis)) = &report.slowest {
        text.push_str(&format!(
            "{} s in all; slowest {case}, {millis} ms\n",
            tenths(report.total_ms)
        ));
    }
    text
}

/// Runs that prove single layers.
fn layer_trials(report: &Report) -> usize {
    let is_proof = |trial: &&TrialReport| matches!(trial.trial, Trial::Alone(_) | Trial::Without(_) | Trial::Missing);
    report
        .cases
        .iter()
        .flat_map(|case| &case.trials)
        .filter(is_proof)
        .count()
}

fn tenths(millis: u64) -> String {
    format!("{}.{}", millis / 1000, millis % 1000 / 100)
}

fn failures(report: &Report) -> String {
    report.cases.iter().filter(|case| !case.passed()).map(failure).collect()
}

fn failure(case: &CaseReport) -> String {
    let bad: String = case.trials.iter().filter_map(reason).collect();
    format!("\n{}\n{bad}", case.id)
}

fn reason(trial: &TrialReport) -> Option<String> {
    let because = match &trial.verdict {
        Verdict::Passed => return None,
        Verdict::Failed(faults) => faults.join("; "),
        Verdict::Unknown(error) => format!("no verdict: {error}"),
    };
    Some(format!("  {}: {}\n", trial.trial.name(), one_line(&because)))
}
