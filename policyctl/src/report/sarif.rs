//! What failed in a replay, as SARIF 2.1.0 for code scanning.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use serde_json::{Value, json};
use stockade_conformance::{CaseReport, Report, Trial, TrialReport, Verdict};

use super::people;
use crate::guest_text::one_line;

/// A rule for each case that failed, and a result for each of its trials that did.
pub(super) fn log(report: &Report) -> Value {
    let failed: Vec<&CaseReport> = report.cases.iter().filter(|case| !case.passed()).collect();
    let rules: Vec<Value> = failed.iter().map(|case| rule(case)).collect();
    let results: Vec<Value> = failed
        .iter()
        .enumerate()
        .flat_map(|(index, case)| case.trials.iter().filter_map(move |trial| result(index, case, trial)))
        .collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{"executionSuccessful": report.summary.unknown == 0}],
            "results": results,
        }],
    })
}

fn rule(case: &CaseReport) -> Value {
    json!({
        "id": case.id,
        "shortDescription": {"text": format!("{} is not what its case says", case.id)},
        "fullDescription": {"text": case.why},
    })
}

fn result(index: usize, case: &CaseReport, trial: &TrialReport) -> Option<Value> {
    let because = people::because(&trial.verdict)?;
    let is_weakness = matches!(trial.verdict, Verdict::Failed(_)) && trial.trial == Trial::Fenced;
    Some(json!({
        "ruleId": case.id,
        "ruleIndex": index,
        "level": if is_weakness { "error" } else { "warning" },
        "message": {"text": format!("{}: {}", trial.trial.name(), one_line(&because))},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": format!("corpora/{}.yaml", case.id)}},
        }],
    }))
}
