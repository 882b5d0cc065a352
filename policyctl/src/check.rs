//! `policyctl check`

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use stockade_policies::{Bound, Finding, Grant, Meter, ProfileReport, Report, Stock, Unit};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};
use crate::{findings, sources};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Policy files (`.cedar`), entity files (`.json`), folders of them, or `-` for policies on standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
    /// Show every profile, not only those that the files declare or change
    #[arg(long)]
    pub all: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Checks policy files, and shows what they come to.
pub(crate) fn check(arguments: &Check) -> Result<Exit, Failure> {
    let sources = sources::read(&arguments.files)?;
    let report = stockade_policies::check(&sources, sources::stock(arguments.no_stock));
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        Format::Human => {
            findings::show(&report.findings, &sources);
            let shown = if arguments.all || arguments.no_stock {
                report.profiles.clone()
            } else {
                changed(&report)
            };
            write!(io::stdout(), "{}{}", table(&shown), summary(&report.findings))?;
        }
    }
    Ok(if report.findings.is_empty() {
        Exit::Clean
    } else {
        Exit::Findings
    })
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
    let mut text = format!("profile {}\n", profile.name);
    for bound in &profile.bounds {
        let amount = amount(bound.bound, bound.meter);
        text.push_str(&row(bound.meter.action(), &amount, &bound.policies));
    }
    for capability in &profile.capabilities {
        let grant = match capability.grant {
            Grant::Always => "granted",
            Grant::Sometimes => "granted on some",
        };
        text.push_str(&row(capability.action.id(), grant, &capability.policies));
    }
    text
}

fn row(name: &str, value: &str, policies: &[String]) -> String {
    let policies = policies.join(", ");
    let line = format!("  {name:<22} {value:<18} {policies}");
    format!("{}\n", line.trim_end())
}

/// An amount as people read it: `4 MiB`, `500 ms`, `10000 rows`.
pub(crate) fn amount(bound: Bound, meter: Meter) -> String {
    let Bound::Limited(most) = bound else {
        return "unbounded".to_owned();
    };
    match meter.unit() {
        Unit::Bytes => bytes(most),
        Unit::Millis => format!("{most} ms"),
        unit => format!("{most} {}", unit.name()),
    }
}

fn bytes(most: u64) -> String {
    let binary = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = binary
        .into_iter()
        .find(|(shift, _)| most > 0 && most.is_multiple_of(1 << shift));
    match whole {
        Some((shift, unit)) => format!("{} {unit}", most >> shift),
        None => format!("{most} bytes"),
    }
}

fn summary(findings: &[Finding]) -> String {
    match findings.len() {
        0 => "no findings\n".to_owned(),
        1 => "1 finding\n".to_owned(),
        count => format!("{count} findings\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(amount(Bound::Limited(4 * 1024 * 1024), Meter::GrowMemory), "4 MiB");
        assert_eq!(amount(Bound::Limited(1_000_000), Meter::SqlLength), "1000000 bytes");
        assert_eq!(amount(Bound::Limited(0), Meter::GrowMemory), "0 bytes");
        assert_eq!(amount(Bound::Limited(500), Meter::Elapse), "500 ms");
        assert_eq!(amount(Bound::Unbounded, Meter::Elapse), "unbounded");
    }
}
