//! `policyctl prove`

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use stockade_policies::prove::{
    Counterexample, Proof, PropertiesText, Property, Solver, Verdict, forbids_never_err, prove as proofs_of, read,
    stock,
};

use crate::arguments::{Format, Policies};
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::sources;

/// How a properties file's name ends.
const PROPERTIES: &str = ".properties.yaml";

/// How long it may be silent, where somebody is watching.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// Policies, entities, properties (`.properties.yaml`), or folders of them; what lies beside `NAME.cedar` is read with it
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out, and what is proven of them
    #[arg(long)]
    pub no_stock: bool,
    /// Only properties with this in their id
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Say what would be proven
    #[arg(long)]
    pub list: bool,
    /// The longest that the solver may think about one question, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// How many solvers to run at once
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Proves properties of policies.
pub(crate) fn prove(arguments: &Prove) -> Result<Exit, Failure> {
    let (properties_files, policy_files) = sorted(&arguments.files)?;
    let properties = properties(arguments, &properties_files)?;
    if arguments.list {
        return list(&properties, arguments.format);
    }
    let store = sources::load(&Policies {
        files: policy_files,
        no_stock: arguments.no_stock,
    })?;
    let solver = Solver::from_environment()
        .with_timeout(Duration::from_secs(arguments.timeout))
        .with_processes(usize::from(arguments.jobs));
    let progress = Progress::start();
    let proofs = proofs_of(&store, &properties, &solver, &|done, all| progress.show(done, all));
    progress.clear();
    let proofs = proofs?;
    let report = Report::of(&proofs);
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        Format::Human => write!(io::stdout(), "{}", table(&report))?,
    }
    Ok(match (report.broken, report.unknown) {
        (0, 0) => Exit::Clean,
        (0, _) => Exit::NoAnswer,
        _ => Exit::Findings,
    })
}

/// The properties files and the others.
fn sorted(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
    let mut properties: Vec<PathBuf> = Vec::new();
    let mut policies: Vec<PathBuf> = Vec::new();
    for path in paths {
        if is_properties(path) {
            properties.push(path.clone());
            continue;
        }
        policies.push(path.clone());
        if path.is_dir() {
            let unreadable = |error| Failure::new(format!("cannot read folder `{}`: {error}", path.display()));
            let mut inside = Vec::new();
            for entry in fs::read_dir(path).map_err(unreadable)? {
                inside.extend(Some(entry.map_err(unreadable)?.path()).filter(|path| is_properties(path)));
            }
            inside.sort();
            properties.extend(inside);
        } else {
            let beside = path.with_extension(PROPERTIES.trim_start_matches('.'));
            properties.extend(Some(beside).filter(|beside| path.extension().is_some() && beside.is_file()));
        }
    }
    let mut seen = Vec::new();
    properties.retain(|path| {
        let is_new = !seen.contains(path);
        seen.push(path.clone());
        is_new
    });
    Ok((properties, policies))
}

fn is_properties(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.ends_with(PROPERTIES))
}

fn properties(arguments: &Prove, files: &[PathBuf]) -> Result<Vec<Property>, Failure> {
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        texts.push(PropertiesText {
            name: file.display().to_string(),
            text: sources::read_text(file)?,
        });
    }
    let mut all = if arguments.no_stock { Vec::new() } else { stock()? };
    all.extend(read(&texts)?);
    all.push(forbids_never_err());
    if let Some(twice) = all
        .iter()
        .enumerate()
        .find(|(index, one)| all.iter().take(*index).any(|other| other.id() == one.id()))
    {
        let (_, property) = twice;
        return Err(Failure::new(format!(
            "{}: `{}` is also the id of a stock property; `policyctl prove --list` shows them",
            property.location(),
            property.id()
        )));
    }
    if let Some(filter) = &arguments.filter {
        all.retain(|property| property.id().contains(filter));
        if all.is_empty() {
            return Err(Failure::new(format!(
                "no property has `{filter}` in its id; `policyctl prove --list` shows them all"
            )));
        }
    }
    Ok(all)
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    kind: stockade_policies::prove::DemandKind,
    why: &'a str,
    location: &'a stockade_policies::Location,
}

fn list(properties: &[Property], format: Format) -> Result<Exit, Failure> {
    let listed: Vec<Listed<'_>> = properties
        .iter()
        .map(|property| Listed {
            id: property.id(),
            kind: property.kind(),
            why: property.why(),
            location: property.location(),
        })
        .collect();
    match format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&listed)?)?,
        Format::Human => {
            let widest = listed.iter().map(|one| one.id.chars().count()).max().unwrap_or(0);
            for one in &listed {
                writeln!(io::stdout(), "{:<widest$}  {}", one_line(one.id), one_line(one.why))?;
            }
        }
    }
    Ok(Exit::Clean)
}

#[derive(Serialize)]
struct Report<'a> {
    proven: usize,
    broken: usize,
    unknown: usize,
    properties: &'a [Proof],
}

impl<'a> Report<'a> {
    fn of(proofs: &'a [Proof]) -> Self {
        let count = |is: fn(&Verdict) -> bool| proofs.iter().filter(|proof| is(&proof.verdict)).count();
        Self {
            proven: count(|verdict| matches!(verdict, Verdict::Proven)),
            broken: count(|verdict| matches!(verdict, Verdict::Broken { .. })),
            unknown: count(|verdict| matches!(verdict, Verdict::Unknown { .. })),
            properties: proofs,
        }
    }
}

fn table(report: &Report<'_>) -> String {
    let rows: String = report.properties.iter().map(row).collect();
    let Report {
        proven,
        broken,
        unknown,
        ..
    } = report;
    format!("{rows}{proven} proven, {broken} broken, {unknown} not known\n")
}

fn row(proof: &Proof) -> String {
    let id = one_line(&proof.id);
    let at = one_line(&proof.location.to_string());
    let why = one_line(&proof.why);
    match &proof.verdict {
        Verdict::Proven => format!("proven     {id}\n"),
        Verdict::Broken { counterexample } => format!("broken     {id}  ({at})\n  {why}\n{}", told(counterexample)),
        Verdict::Unknown { reason } => format!("not known  {id}  ({at})\n  {}\n", one_line(reason)),
    }
}

/// A counterexample in a few lines.
fn told(counterexample: &Counterexample) -> String {
    let Counterexample {
        profile,
        principal,
        action,
        resource,
        context,
        allowed,
        policies,
    } = counterexample;
    let may = if *allowed { "may" } else { "may not" };
    let member = if profile.is_empty() || *principal == format!("Profile::{profile:?}") {
        String::new()
    } else {
        format!(", a member of `{}`,", one_line(profile))
    };
    let mut text = format!(
        "  {}{member} {may} `{action}` {}\n",
        one_line(principal),
        one_line(resource)
    );
    for (name, value) in context {
        text.push_str(&format!("    with {name} {}\n", one_line(&value.to_string())));
    }
    for policy in policies {
        text.push_str(&format!(
            "    by `{}` at {}\n",
            one_line(&policy.id),
            one_line(&policy.location.to_string())
        ));
    }
    if policies.is_empty() {
        text.push_str("    by no policy: nothing permits it\n");
    }
    text
}

/// How far it is, where somebody watches who might think that nothing happens.
struct Progress {
    start: Instant,
    is_watched: bool,
}

impl Progress {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            is_watched: io::stderr().is_terminal(),
        }
    }

    fn show(&self, done: usize, all: usize) {
        if self.is_watched && self.start.elapsed() > SILENCE {
            // A line that cannot be shown is not missed.
            write!(io::stderr(), "\r{done} of {all} questions").unwrap_or_default();
        }
    }

    fn clear(&self) {
        if self.is_watched && self.start.elapsed() > SILENCE {
            write!(io::stderr(), "\r\u{1b}[K").unwrap_or_default();
        }
    }
}
