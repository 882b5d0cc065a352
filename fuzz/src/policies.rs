//! Bytes as policies: any text, and policies that are likely to load.

use std::hash::{DefaultHasher, Hash, Hasher};

use arbitrary::{Result, Unstructured};
use stockade_policies::{Code, Finding, LoadError, Meter, PolicyStore, Report, Severity, Source, SourceKind, Stock};

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

/// Loads policies on meters that follow from the bytes: whatever loads, the plan's bounds are what Cedar's own authorizer says
/// at each of them.
///
/// # Panics
/// Where the plan and the authorizer disagree, or loading and the report.
pub fn plan(data: &[u8]) {
    // Too few bytes for another policy: those before are a set.
    let text = policy_set(&mut Unstructured::new(data)).unwrap_or_default();
    let sources = sources(&text);
    let loaded = PolicyStore::load(&sources, Stock::Without);
    if is_one_of_many(&text) {
        agree(&stockade_policies::check(&sources, Stock::Without), &loaded);
    }
    let findings = match &loaded {
        Ok(store) => store.warnings(),
        Err(error) => error.findings(),
    };
    has_no_mismatch(findings, &text);
    let has_holes = findings.iter().any(|finding| finding.code == Code::MeterWithHoles);
    assert!(!(is_planted() && has_holes), "planted: a meter with holes");
}

fn agree(report: &Report, loaded: &std::result::Result<PolicyStore, LoadError>) {
    let is_refused = report.count(Severity::Error) > 0;
    assert_ne!(loaded.is_ok(), is_refused, "`check` and loading disagree");
}

fn has_no_mismatch(findings: &[Finding], text: &str) {
    let differs = findings.iter().any(|finding| finding.code == Code::PlanMismatch);
    assert!(!differs, "the plan and the authorizer disagree:\n{text}");
}

/// The same inputs every time, and no telling which.
fn is_one_of_many(text: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish().is_multiple_of(BOTH)
}

/// The text, and the profiles that it speaks of: the plan of every one is compiled.
fn sources(text: &str) -> [Source; 2] {
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

fn policy_set(input: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for number in 0..input.int_in_range(1..=3)? {
        let effect = input.choose(&["permit", "forbid"])?;
        let meter = *input.choose(Meter::ALL)?;
        let clause = input.choose(&["when", "unless"])?;
        let condition = condition(input, meter.unit().name(), 3)?;
        text.push_str(&format!(
            "@id(\"fuzz-{number}\") {effect} (principal in Profile::\"fuzz\", action == Action::\"{}\", \
             resource == Meter::\"{}\") {clause} {{ {condition} }};\n",
            meter.action(),
            meter.resource()
        ));
    }
    Ok(text)
}

/// Arithmetic about the one amount, as it stands in policies and as nobody would write it.
fn condition(input: &mut Unstructured<'_>, amount: &str, depth: u32) -> Result<String> {
    if depth > 0 && input.ratio(1, 3)? {
        let one = condition(input, amount, depth - 1)?;
        let other = condition(input, amount, depth - 1)?;
        return Ok(match input.int_in_range(0..=3)? {
            0 => format!("({one}) && ({other})"),
            1 => format!("({one}) || ({other})"),
            2 => format!("!({one})"),
            _ => format!("if {one} then {other} else {one}"),
        });
    }
    let comparison = input.choose(&["<=", "<", ">=", ">", "==", "!="])?;
    Ok(format!(
        "{} {comparison} {}",
        term(input, amount, 2)?,
        term(input, amount, 2)?
    ))
}

fn term(input: &mut Unstructured<'_>, amount: &str, depth: u32) -> Result<String> {
    if depth > 0 && input.ratio(1, 3)? {
        let operator = input.choose(&["+", "-", "*"])?;
        let one = term(input, amount, depth - 1)?;
        let other = term(input, amount, depth - 1)?;
        return Ok(format!("({one} {operator} {other})"));
    }
    Ok(match input.int_in_range(0..=4)? {
        0 | 1 => format!("context.{amount}"),
        2 => input.int_in_range(0..=4096i64)?.to_string(),
        3 => input
            .choose(&["9223372036854775807", "(-9223372036854775808)", "4611686018427387904"])?
            .to_string(),
        _ => input.arbitrary::<i32>()?.unsigned_abs().to_string(),
    })
}
