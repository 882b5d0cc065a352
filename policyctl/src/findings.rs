//! Findings for people: the place in the text, what is wrong and how to mend it.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity as Shade, SourceCode,
};
use stockade_policies::{Finding, Severity, Source};

use crate::guest_text::harmless;

/// More than anybody reads at a terminal; mending the first ones often mends the rest.
const MOST_SHOWN: usize = 100;

/// Shows findings on standard error.
pub(crate) fn show(findings: &[Finding], sources: &[Source]) {
    // Where standard error is closed there is nobody to show them to.
    for finding in findings.iter().take(MOST_SHOWN) {
        writeln!(io::stderr(), "{}", rendered(finding, sources)).unwrap_or_default();
    }
    if let more @ 1.. = findings.len().saturating_sub(MOST_SHOWN) {
        writeln!(io::stderr(), "and {more} more; `policyctl check --format json` has all").unwrap_or_default();
    }
}

fn rendered(finding: &Finding, sources: &[Source]) -> String {
    let location = finding.location.as_ref();
    let source = location.and_then(|at| sources.iter().find(|source| source.name == at.source));
    let shown = Shown {
        finding,
        message: harmless(&finding.message),
        source: source.map(|source| NamedSource::new(&source.name, source.text.clone())),
    };
    let mut text = String::new();
    let rendering = GraphicalReportHandler::new_themed(theme()).render_report(&mut text, &shown);
    if rendering.is_err() || source.is_none() {
        return plain(finding);
    }
    text
}

/// The same on one line, as compilers write it.
fn plain(finding: &Finding) -> String {
    let at = finding.location.as_ref().map_or(String::new(), |at| format!("{at}: "));
    let help = finding
        .help
        .as_ref()
        .map_or(String::new(), |help| format!("\n  help: {}", harmless(help)));
    let word = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    format!("{at}{word}[{}]: {}{help}", finding.code, harmless(&finding.message))
}

fn theme() -> GraphicalTheme {
    let may_colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if may_colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    }
}

struct Shown<'a> {
    finding: &'a Finding,
    message: String,
    source: Option<NamedSource<String>>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.finding, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.finding.code))
    }

    fn severity(&self) -> Option<Shade> {
        Some(match self.finding.severity {
            Severity::Error => Shade::Error,
            Severity::Warning => Shade::Warning,
            Severity::Note => Shade::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.finding.help.as_ref()?;
        Some(Box::new(harmless(help)))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source.as_ref()?)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let at = self.finding.location.as_ref()?;
        let label = LabeledSpan::new(None, at.offset, at.length);
        Some(Box::new(std::iter::once(label)))
    }
}
