//! `policyctl report`, and how a replay's report is shown.

mod html;
mod junit;
mod markdown;
pub(crate) mod people;
mod sarif;
mod tap;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use stockade_conformance::{Matrix, Report};

use crate::exit::{Exit, Failure};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people: a table, and what failed
    Human,
    /// For programs, and for `policyctl report`
    Json,
    /// For CI: junit's XML
    Junit,
    /// Test Anything Protocol, version 14
    Tap,
    /// For code scanning: what failed
    Sarif,
    /// For a comment or a summary
    Markdown,
    /// One page that needs nothing else
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct ShowReport {
    /// What `policyctl replay --format json` wrote: one report, or every shard of one
    #[arg(required_unless_present = "schema", value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Print the JSON Schema of reports
    #[arg(long, exclusive = true)]
    pub schema: bool,
    /// Also show which layer stops which attack, where the replay proved it; pages always do
    #[arg(long)]
    pub matrix: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: ReportFormat,
}

/// What the marks of a matrix mean.
pub(crate) const LEGEND: &str = "x  stops it alone, and others do too    X  nothing else stops it    .  does not stop it    ?  this build cannot tell";

/// Puts reports together, and shows them as one.
pub(crate) fn report(arguments: &ShowReport) -> Result<Exit, Failure> {
    if arguments.schema {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&Report::schema())?)?;
        return Ok(Exit::Clean);
    }
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read report `{name}`: {error}")))?;
        let report = Report::parse(&name, &text)?;
        Ok((name, report))
    };
    let reports = arguments
        .reports
        .iter()
        .map(read)
        .collect::<Result<Vec<_>, Failure>>()?;
    let report = Report::merged(reports)?;
    show(&report, arguments.format, arguments.matrix)?;
    Ok(verdict(&report))
}

/// Writes a report to standard output.
pub(crate) fn show(report: &Report, format: ReportFormat, with_matrix: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        ReportFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(report)?)?,
        ReportFormat::Junit => writeln!(out, "{}", junit::xml(report)?)?,
        ReportFormat::Tap => write!(out, "{}", tap::lines(report))?,
        ReportFormat::Sarif => writeln!(out, "{}", serde_json::to_string_pretty(&sarif::log(report))?)?,
        ReportFormat::Markdown => write!(out, "{}", markdown::text(report))?,
        ReportFormat::Html => write!(out, "{}", html::page(report))?,
        ReportFormat::Human => {
            if with_matrix {
                writeln!(out, "{}{LEGEND}\n", Matrix::of(&report.cases))?;
            }
            write!(out, "{}", people::table(report))?;
            write!(io::stderr(), "{}", people::failures(report))?;
        }
    }
    Ok(())
}

/// What a report comes to.
pub(crate) fn verdict(report: &Report) -> Exit {
    if report.passed() {
        Exit::Clean
    } else if report.summary.unknown > 0 {
        Exit::NoAnswer
    } else {
        Exit::Findings
    }
}
