//! `policyctl mutate`

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::Args;
use stockade_conformance::{Corpus, Laboratory, Trial, play};
use stockade_policies::mutate::{
    Attacked, Beyond, Killer, MutantReport, Mutation, Options, Progress, Report, Unnoticed, Verdict,
};
use stockade_policies::prove::{self, Solver};
use stockade_policies::suite::Suite;
use stockade_policies::{Source, Stock};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::test::{Named, suite_of};
use crate::{findings, sources};

/// The longest that a query about one mutant may take.
const LONGEST_PROOF: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Mutate {
    /// Policies (`.cedar`), entities (`.json`), tests (`.tests.yaml`) or folders of them; `NAME.tests.yaml` and
    /// `NAME.entities.json` beside `NAME.cedar` are read too. The policies and entities named here are mutated
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
    /// Judge by the tests alone, without replaying attacks against what they let through
    #[arg(long)]
    pub no_corpus: bool,
    /// Stop after this long; what is not judged by then counts as not killed
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Be content with this score; without it, any survivor is a finding
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub min_score: Option<u8>,
    /// Mutants judged at a time
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Makes small mistakes in policies, and says which of them nothing notices.
pub(crate) fn mutate(arguments: &Mutate) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let named = Named::by(&arguments.files)?;
    let sources = sources::read(&named.policies)?;
    let suite = suite(&named)?;
    let stock = sources::stock(arguments.no_stock, &sources);
    let mutation = mutation(&sources, stock)?;
    if let Some(failure) = suite.first_failure(mutation.original()) {
        return Err(Failure::new(format!(
            "the test `{}` at {} fails on the policies as they are: mend that first",
            one_line(&failure.name),
            failure.location
        )));
    }
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
        .max(1);
    let until = arguments.timeout.map(|seconds| begun + Duration::from_secs(seconds));
    let solver = Solver::from_environment().with_timeout(LONGEST_PROOF).with_processes(1);
    let proof = |unnoticed: &Unnoticed<'_>| is_proven(unnoticed, &solver);
    let range = Range::new(jobs, until)?;
    let attacks = |unnoticed: &Unnoticed<'_>| range.attack(unnoticed);
    let beyond = Beyond {
        proof: Some(&proof),
        attacks: (!arguments.no_corpus).then_some(&attacks as &(dyn Fn(&Unnoticed<'_>) -> Attacked + Sync)),
    };
    let report = mutation.judge(&suite, Options { jobs, until }, beyond, &show_progress);
    clear_progress();
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        Format::Human => write!(io::stdout(), "{}", for_people(&report))?,
    }
    exit(&report, arguments.min_score)
}

fn exit(report: &Report, min_score: Option<u8>) -> Result<Exit, Failure> {
    let score = report.score.unwrap_or(100.0);
    let is_enough = min_score.map(|least| score >= f64::from(least));
    if report.unjudged > 0 && is_enough != Some(true) {
        writeln!(
            io::stderr(),
            "time ran out before {} mutants were judged",
            report.unjudged
        )?;
        return Ok(Exit::NoAnswer);
    }
    Ok(if is_enough.unwrap_or(report.survived == 0) {
        Exit::Clean
    } else {
        Exit::Findings
    })
}

fn mutation(sources: &[Source], stock: Stock) -> Result<Mutation, Failure> {
    let mutation = Mutation::of(sources, stock).map_err(|error| {
        findings::show(error.findings(), sources);
        Failure::new("the policies do not load")
    })?;
    if mutation.is_empty() {
        return Err(Failure::new("there is no policy to mutate in these files"));
    }
    Ok(mutation)
}

/// The tests that were named, and those beside the policies.
fn suite(named: &Named) -> Result<Suite, Failure> {
    let suite = suite_of(&named.tests)?;
    if suite.is_empty() {
        return Err(Failure::new(
            "there is no test, so nothing would be noticed: write one in `NAME.tests.yaml` beside `NAME.cedar`, such as\n  \
             requests:\n    - principal: reports\n      action: read\n      resource: 'Column::\"main.staff.salary\"'\n      \
             expect: deny",
        ));
    }
    Ok(suite)
}

/// Whether the solver shows that the mutant allows the same. Where there is none, nothing is shown.
fn is_proven(unnoticed: &Unnoticed<'_>, solver: &Solver) -> bool {
    let Unnoticed { original, mutant, .. } = unnoticed;
    prove::equivalent(original, mutant, prove::Whose::Everybody, solver)
        .is_ok_and(|verdict| verdict == prove::Verdict::Proven)
}

/// Where attacks are replayed against mutants.
struct Range {
    corpus: Corpus,
    workers: usize,
    /// Worker processes, started when the first mutant needs them.
    laboratory: OnceLock<Option<Arc<Laboratory>>>,
    until: Option<Instant>,
}

impl Range {
    fn new(workers: usize, until: Option<Instant>) -> Result<Self, Failure> {
        Ok(Self {
            corpus: Corpus::embedded()?,
            workers,
            laboratory: OnceLock::new(),
            until,
        })
    }

    /// Replays every case of the profiles that the mutant touches, until one is no longer what it says. A case that comes
    /// to no verdict notices nothing.
    fn attack(&self, unnoticed: &Unnoticed<'_>) -> Attacked {
        let cases = self.corpus.cases().iter();
        let concerned = cases.filter(|case| case.policies.is_none() && unnoticed.profiles.contains(&case.profile));
        let mut laboratory = None;
        for case in concerned {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Attacked::Untried;
            }
            if laboratory.is_none() {
                let shared = self.laboratory.get_or_init(|| Laboratory::new(self.workers).ok());
                laboratory = shared.as_ref().map(|shared| shared.under(unnoticed.mutant.clone()));
            }
            let Some(laboratory) = &laboratory else {
                return Attacked::Untried;
            };
            if play(case, Trial::Fenced, &self.corpus, laboratory).is_ok_and(|played| !played.faults.is_empty()) {
                return Attacked::Noticed(case.id.clone());
            }
        }
        Attacked::Unnoticed
    }
}

fn show_progress(progress: Progress) {
    if io::stderr().is_terminal() {
        let line = format!("\r\x1b[K[{}/{}] mutants", progress.done, progress.total);
        // A progress line that cannot be shown is no reason to stop.
        write!(io::stderr(), "{line}").unwrap_or_default();
    }
}

fn clear_progress() {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r\x1b[K").unwrap_or_default();
    }
}

fn for_people(report: &Report) -> String {
    let mut text: String = report.survivors().map(survivor).collect();
    let by = |is: fn(&Killer) -> bool| {
        let killers = report.mutants.iter().filter_map(|mutant| match &mutant.verdict {
            Verdict::Killed { by } => Some(by),
            _ => None,
        });
        killers.filter(|killer| is(killer)).count()
    };
    let rows = [
        ("mutants", report.total),
        ("killed by tests", by(|killer| matches!(killer, Killer::Test(_)))),
        ("killed by check", by(|killer| matches!(killer, Killer::Check(_)))),
        ("killed by attacks", by(|killer| matches!(killer, Killer::Attack(_)))),
        ("equivalent", report.equivalent),
        ("stillborn", report.stillborn),
        ("unjudged", report.unjudged),
        ("survived", report.survived),
    ];
    for (name, count) in rows {
        text.push_str(&format!("{name:<18} {count:>6}\n"));
    }
    match report.score {
        Some(score) => text.push_str(&format!("{:<18} {:>6}\n", "score", shown(score))),
        None => text.push_str("no mutant could be killed\n"),
    }
    text
}

/// Rounded down: 100 % means all of them.
fn shown(score: f64) -> String {
    format!("{:.1} %", (score * 10.0).floor() / 10.0)
}

fn survivor(mutant: &MutantReport) -> String {
    let name = one_line(&mutant.subject);
    let mut text = format!("{}: `{name}` survives {}\n", mutant.location, mutant.operator.name());
    for line in &mutant.diff {
        text.push_str(&format!("  {}\n", one_line(line)));
    }
    if let Verdict::Survived { example } = &mutant.verdict {
        match example {
            Some(example) if !example.test.is_empty() => {
                text.push_str("  a test that notices, for `requests:`\n");
                for line in example.test.lines() {
                    text.push_str(&format!("    {}\n", one_line(line)));
                }
            }
            Some(example) => {
                let was = if example.allowed { "yes" } else { "no" };
                text.push_str(&format!("  {}? it was {was}\n", one_line(&example.question)));
            }
            None => text.push_str("  no request was found that tells it from the original\n"),
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_all() {
        assert_eq!(shown(100.0), "100.0 %");
        assert_eq!(shown(99.99), "99.9 %");
    }
}
