//! `policyctl check`

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use stockade_policies::{Code, Grant, ProfileReport, Report, Severity, Stock};

use crate::exit::{Exit, Failure};
use crate::guest_text::{harmless, one_line};
use crate::{findings, github, sarif, sources};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Policies (`.cedar`), entities (`.json`), links (`.links.json`), schemas (`.cedarschema`), folders of them, or `-` for policies on standard input
    #[arg(required_unless_present = "explain", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
    /// Show every profile, not only those that the files declare or change
    #[arg(long)]
    pub all: bool,
    /// Answer with exit code 1 for these as well
    #[arg(long, value_enum, value_name = "WHAT")]
    pub deny: Option<Deny>,
    /// Say what a code means, why it matters, what to avoid and what to prefer
    #[arg(long, value_name = "CODE", conflicts_with_all = ["files", "no_stock", "all", "deny"])]
    pub explain: Option<String>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: CheckFormat,
}

/// What fails a check beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deny {
    /// Warnings that no policy allows
    Warnings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people
    Human,
    /// For programs: one JSON object
    Json,
    /// For code scanning: SARIF 2.1.0
    Sarif,
    /// For GitHub: workflow commands, which become annotations
    Github,
}

/// Checks policy files, and shows what they come to.
pub(crate) fn check(arguments: &Check) -> Result<Exit, Failure> {
    if let Some(code) = &arguments.explain {
        return explain(code, arguments.format);
    }
    let sources = sources::read(&arguments.files)?;
    let stock = sources::stock(arguments.no_stock, &sources);
    let report = stockade_policies::check(&sources, stock);
    let mut out = io::stdout();
    match arguments.format {
        CheckFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        CheckFormat::Sarif => writeln!(out, "{}", serde_json::to_string_pretty(&sarif::log(&report, &sources))?)?,
        CheckFormat::Github => write!(out, "{}", github::commands(&report.findings))?,
        CheckFormat::Human => {
            findings::show(&report.findings, &sources);
            let shown = if arguments.all || stock == Stock::Without {
                report.profiles.clone()
            } else {
                changed(&report)
            };
            write!(out, "{}{}", table(&shown), summary(&report))?;
        }
    }
    let refused = report.count(Severity::Error)
        + match arguments.deny {
            Some(Deny::Warnings) => report.count(Severity::Warning),
            None => 0,
        };
    Ok(if refused == 0 { Exit::Clean } else { Exit::Findings })
}

/// One code, for programs.
#[derive(Debug, Serialize)]
struct Explained {
    code: Code,
    severity: Severity,
    meaning: &'static str,
    why: &'static str,
    page: &'static str,
}

fn explain(name: &str, format: CheckFormat) -> Result<Exit, Failure> {
    let code: Code = name.parse().map_err(Failure::new)?;
    match format {
        CheckFormat::Human => write!(io::stdout(), "{}", code.page())?,
        CheckFormat::Json => {
            let explained = Explained {
                code,
                severity: code.severity(),
                meaning: code.meaning(),
                why: code.why(),
                page: code.page(),
            };
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&explained)?)?;
        }
        CheckFormat::Sarif | CheckFormat::Github => {
            return Err(Failure::new(
                "`--explain` answers with `--format human` or `--format json`",
            ));
        }
    }
    Ok(Exit::Clean)
}

/// The profiles that are not as they are in the stock.
fn changed(report: &Report) -> Vec<ProfileReport> {
    let stock = stockade_policies::check(&[], Stock::With).profiles;
    report
        .profiles
        .iter()
        .filter(|profile| !stock.contains(profile))
        .cloned()
        .collect()
}

fn table(profiles: &[ProfileReport]) -> String {
    profiles.iter().map(|profile| profile_table(profile) + "\n").collect()
}

fn profile_table(profile: &ProfileReport) -> String {
    let mut text = format!("profile {}\n", one_line(&profile.name));
    for bound in &profile.bounds {
        let amount = bound.bound.shown(bound.meter.unit());
        text.push_str(&row(bound.meter.action(), &amount, &bound.policies));
    }
    for capability in &profile.capabilities {
        text.push_str(&row(
            capability.action.id(),
            granted(capability.grant),
            &capability.policies,
        ));
    }
    for own in &profile.own {
        text.push_str(&row(&harmless(&own.action), granted(own.grant), &own.policies));
    }
    text
}

fn granted(grant: Grant) -> &'static str {
    match grant {
        Grant::Always => "granted",
        Grant::Sometimes => "granted on some",
    }
}

fn row(name: &str, value: &str, policies: &[String]) -> String {
    let policies = one_line(&policies.join(", "));
    let line = format!("  {name:<22} {value:<18} {policies}");
    format!("{}\n", line.trim_end())
}

/// How many of each, in words: `1 error, 2 warnings`.
fn summary(report: &Report) -> String {
    let count = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    };
    let found: Vec<String> = [
        count(report.count(Severity::Error), "error"),
        count(report.count(Severity::Warning), "warning"),
        count(report.count(Severity::Note), "note"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let found = if found.is_empty() {
        "no findings".to_owned()
    } else {
        found.join(", ")
    };
    match report.allowed.len() {
        0 => format!("{found}\n"),
        allowed => format!("{found}; {allowed} allowed\n"),
    }
}
