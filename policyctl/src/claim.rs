//! `policyctl claim` and `policyctl verify-claim`

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use stockade_conformance::{Claim, Corpus, Laboratory, Manner, Report, Rigour, Suite, replay as play};
use stockade_runtime::Layer;

use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::replay::{clear_progress, jobs, show_progress};

#[derive(Debug, Args)]
pub(crate) struct MakeClaim {
    /// Take a layer away from every run, to see that the claim misses it
    #[arg(long, value_name = "LAYER", value_parser = layer)]
    pub without: Option<Layer>,
    /// Cases played at a time
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyClaim {
    /// What `policyctl claim` wrote
    #[arg(value_name = "CLAIM")]
    pub claim: PathBuf,
    /// Cases played at a time
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

fn layer(name: &str) -> Result<Layer, String> {
    let known = || {
        Layer::ALL
            .iter()
            .map(|layer| layer.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = Layer::ALL.iter().copied().find(|layer| layer.name() == name);
    found.ok_or_else(|| format!("there is no such layer; there are {}", known()))
}

/// Plays everything, and writes what can be claimed.
pub(crate) fn claim(arguments: &MakeClaim) -> Result<Exit, Failure> {
    let claim = made(arguments.without, arguments.jobs)?;
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&claim)?)?;
    for reason in &claim.because {
        writeln!(io::stderr(), "{}", one_line(reason))?;
    }
    Ok(if claim.conformant { Exit::Clean } else { Exit::Findings })
}

/// Plays what was claimed again, and says what is different.
pub(crate) fn verify(arguments: &VerifyClaim) -> Result<Exit, Failure> {
    let name = arguments.claim.display().to_string();
    let text = fs::read_to_string(&arguments.claim)
        .map_err(|error| Failure::new(format!("cannot read claim `{name}`: {error}")))?;
    let claimed = Claim::parse(&name, &text)?;
    let suite = Suite::of(&Corpus::embedded()?, Rigour::Proof, 1);
    if let Some(reason) = claimed.cannot_be_verified(&suite) {
        return Err(Failure::new(format!(
            "claim `{name}` cannot be verified here: {reason}"
        )));
    }
    let found = made(None, arguments.jobs)?;
    let differences = claimed.differences(&found);
    for difference in &differences {
        writeln!(io::stdout(), "{}", one_line(difference))?;
    }
    if differences.is_empty() {
        let what = if found.conformant {
            "conformant"
        } else {
            "not conformant"
        };
        writeln!(
            io::stdout(),
            "{} verdicts are as claimed on {}: {what}",
            found.verdicts.len(),
            one_line(&claimed.date)
        )?;
        return Ok(Exit::Clean);
    }
    Ok(Exit::Findings)
}

fn made(without: Option<Layer>, wanted: Option<usize>) -> Result<Claim, Failure> {
    let corpus = Corpus::embedded()?;
    let manner = Manner {
        rigour: Rigour::Proof,
        repeat: 1,
        jobs: jobs(wanted),
        without,
    };
    let begun = Instant::now();
    let suite = Suite::of(&corpus, manner.rigour, manner.repeat);
    let cases = play(&corpus, manner, &Laboratory::new(manner.jobs)?, &show_progress);
    clear_progress();
    let mut report = Report::of("reference", suite, cases, begun.elapsed());
    report.machine.layers.retain(|layer| Some(*layer) != without);
    let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
    Ok(Claim::of(&report, today)?)
}
