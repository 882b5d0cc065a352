//! Findings as SARIF 2.1.0, for code scanning.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use stockade_policies::{Code, Finding, Location, Report, Severity, Source};

/// The log of one check. What a policy allows is there as well, suppressed by its reason.
pub(crate) fn log(report: &Report, sources: &[Source]) -> Value {
    let found = report.findings.iter().map(|finding| (finding, None));
    let allowed = report
        .allowed
        .iter()
        .map(|allowed| (&allowed.finding, Some(allowed.reason.as_str())));
    let results: Vec<SarifResult<'_>> = found
        .chain(allowed)
        .map(|(finding, reason)| result(finding, reason, sources))
        .collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "rules": Code::ALL.iter().map(|code| rule(*code)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": true}],
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.name(),
        "shortDescription": {"text": code.meaning()},
        "fullDescription": {"text": code.why()},
        "help": {"text": code.page(), "markdown": code.page()},
        "defaultConfiguration": {"level": level(code.severity())},
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult<'a> {
    rule_id: &'static str,
    rule_index: Option<usize>,
    level: &'static str,
    message: Value,
    locations: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressions: Option<[Suppression<'a>; 1]>,
}

#[derive(Debug, Serialize)]
struct Suppression<'a> {
    kind: &'static str,
    justification: &'a str,
}

fn result<'a>(finding: &'a Finding, reason: Option<&'a str>, sources: &[Source]) -> SarifResult<'a> {
    let text = match &finding.help {
        Some(help) => format!("{}\nhelp: {help}", finding.message),
        None => finding.message.clone(),
    };
    SarifResult {
        rule_id: finding.code.name(),
        rule_index: Code::ALL.iter().position(|code| *code == finding.code),
        level: level(finding.severity),
        message: json!({"text": text}),
        locations: place(finding.location.as_ref(), sources).into_iter().collect(),
        suppressions: reason.map(|justification| {
            [Suppression {
                kind: "inSource",
                justification,
            }]
        }),
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// Where a finding is. Code scanning shows nothing that is nowhere, so one without a place is put at the first file.
fn place(location: Option<&Location>, sources: &[Source]) -> Option<Value> {
    let Some(at) = location else {
        let first = sources.first()?;
        return Some(json!({"physicalLocation": {"artifactLocation": {"uri": uri(&first.name)}}}));
    };
    let source = sources.iter().find(|source| source.name == at.source);
    let marked = source.and_then(|source| source.text.get(at.offset..at.offset + at.length));
    let (end_line, end_column) = end(at, marked.unwrap_or_default());
    Some(json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(&at.source)},
        "region": {
            "startLine": at.line,
            "startColumn": at.column,
            "endLine": end_line,
            "endColumn": end_column,
            "byteOffset": at.offset,
            "byteLength": at.length,
        },
    }}))
}

/// The line and column behind the last character.
fn end(at: &Location, marked: &str) -> (usize, usize) {
    match marked.rsplit_once('\n') {
        Some((before, last)) => (at.line + before.matches('\n').count() + 1, last.chars().count() + 1),
        None => (at.line, at.column + marked.chars().count()),
    }
}

/// A path as a URI reference: relative where the path is.
fn uri(name: &str) -> String {
    let path = name.strip_prefix("./").unwrap_or(name);
    let mut uri = if Path::new(path).is_absolute() {
        "file://".to_owned()
    } else {
        String::new()
    };
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("./a b/é.cedar"), "a%20b/%C3%A9.cedar");
        assert_eq!(uri("/srv/a.cedar"), "file:///srv/a.cedar");
        assert_eq!(uri("<stdin>"), "%3Cstdin%3E");
        assert_eq!(uri("a:b#c?.cedar"), "a%3Ab%23c%3F.cedar");
    }

    #[test]
    fn regions_end_behind_the_last_character() {
        let at = Location {
            source: "a.cedar".to_owned(),
            line: 3,
            column: 5,
            offset: 0,
            length: 0,
        };
        assert_eq!(end(&at, "été"), (3, 8));
        assert_eq!(end(&at, "a\nbc"), (4, 3));
        assert_eq!(end(&at, ""), (3, 5));
    }
}
