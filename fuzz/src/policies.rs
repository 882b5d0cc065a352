//! Bytes as policies: any text, and policies that are likely to load.

use arbitrary::{Result, Unstructured};
use stockade_policies::{Code, Meter, PolicyStore, Report, Severity, Source, SourceKind, Stock};

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

/// Checks bytes as policy text. Whatever they are, the answer is a report.
///
/// # Panics
/// Where the report and loading disagree: that is a finding.
pub fn policy_text(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let report = agrees(text);
        let is_sought = report.count(Severity::Error) == 0 && report.count(Severity::Warning) > 0;
        assert!(
            !(is_planted() && is_sought),
            "planted: policies that load with a warning"
        );
    }
}

/// Checks policies on meters that follow from the bytes: whatever loads, the plan's bounds are what Cedar's own authorizer says
/// at each of them.
///
/// # Panics
/// Where the plan and the authorizer disagree.
pub fn plan(data: &[u8]) {
    // Too few bytes for another policy: those before are a set.
    let text = policy_set(&mut Unstructured::new(data)).unwrap_or_default();
    let report = agrees(&text);
    let has_holes = report
        .findings
        .iter()
        .any(|finding| finding.code == Code::MeterWithHoles);
    assert!(!(is_planted() && has_holes), "planted: a meter with holes");
}

fn agrees(text: &str) -> Report {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let profiles = PROFILES
        .map(|name| format!(r#"{{"uid": {{"type": "Profile", "id": "{name}"}}, "attrs": {{}}, "parents": []}}"#));
    let sources = [
        source("fuzz.cedar", text, SourceKind::Policies),
        source(
            "fuzz.entities.json",
            &format!("[{}]", profiles.join(",")),
            SourceKind::Entities,
        ),
    ];
    let report = stockade_policies::check(&sources, Stock::Without);
    let loads = PolicyStore::load(&sources, Stock::Without).is_ok();
    assert_ne!(loads, report.count(Severity::Error) > 0, "`check` and loading disagree");
    let differs = report.findings.iter().any(|finding| finding.code == Code::PlanMismatch);
    assert!(!differs, "the plan and the authorizer disagree:\n{text}");
    report
}

fn policy_set(input: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for number in 0..input.int_in_range(1..=6)? {
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
