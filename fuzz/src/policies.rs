//! Bytes as policy text, whatever it is.

use std::hash::{DefaultHasher, Hash, Hasher};

use stockade_policies::{Code, Finding, LoadError, PolicyStore, Report, Severity, Source, SourceKind, Stock};

use crate::is_planted;

/// Profiles that policies may speak of: the stock's, which the seeds have, and one more.
const PROFILES: [&str; 8] = [
    "fuzz",
    "database-only",
    "pure",
    "sqlite-recommended",
    "standard",
    "trusted",
    "untrusted",
    "walkin",
];

/// One input in so many is read by `check` and by loading also where one of them would do.
const BOTH: u64 = 16;

/// Checks bytes as policy text. Whatever they are, the answer is a report.
///
/// # Panics
/// Where the report and loading disagree: that is a finding.
pub fn policy_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let sources = sources(text);
    let report = stockade_policies::check(&sources, Stock::Without);
    let is_refused = report.count(Severity::Error) > 0;
    // Most text is refused, and would be refused twice.
    if !is_refused || is_one_of_many(text) {
        agree(&report, &PolicyStore::load(&sources, Stock::Without));
    }
    has_no_mismatch(&report.findings, text);
    let is_sought = !is_refused && report.count(Severity::Warning) > 0;
    assert!(
        !(is_planted() && is_sought),
        "planted: policies that load with a warning"
    );
}

pub(crate) fn agree(report: &Report, loaded: &Result<PolicyStore, LoadError>) {
    let is_refused = report.count(Severity::Error) > 0;
    assert_ne!(loaded.is_ok(), is_refused, "`check` and loading disagree");
}

pub(crate) fn has_no_mismatch(findings: &[Finding], text: &str) {
    let differs = findings.iter().any(|finding| finding.code == Code::PlanMismatch);
    assert!(!differs, "the plan and the authorizer disagree:\n{text}");
}

/// The same inputs every time, and no telling which.
pub(crate) fn is_one_of_many(text: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish().is_multiple_of(BOTH)
}

/// The text, and the profiles that it speaks of: the plan of every one is compiled.
pub(crate) fn sources(text: &str) -> [Source; 2] {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let spoken_of = PROFILES.iter().filter(|name| **name == "fuzz" || text.contains(**name));
    let profiles: Vec<String> = spoken_of
        .map(|name| format!(r#"{{"uid": {{"type": "Profile", "id": "{name}"}}, "attrs": {{}}, "parents": []}}"#))
        .collect();
    [
        source("fuzz.cedar", text, SourceKind::Policies),
        source(
            "fuzz.entities.json",
            &format!("[{}]", profiles.join(",")),
            SourceKind::Entities,
        ),
    ]
}
