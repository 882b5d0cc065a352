//! A report for people: a table, and what failed.

use stockade_conformance::{CaseReport, Report, Tally, Trial, TrialReport, Verdict};

use crate::guest_text::one_line;

/// What was stopped, and what was not.
pub(super) fn table(report: &Report) -> String {
    let mut text = format!(
        "{:<12} {:>8} {:>8} {:>11}\n",
        "threat", "attacks", "stopped", "undetected"
    );
    let mut line = |name: &str, tally: Tally| {
        let Tally {
            cases,
            held,
            undetected,
        } = tally;
        text.push_str(&format!("{name:<12} {cases:>8} {held:>8} {undetected:>11}\n"));
    };
    let mut all = Tally::default();
    for (threat, tally) in &report.summary.attacks {
        line(&threat.to_string(), *tally);
        all.cases += tally.cases;
        all.held += tally.held;
        all.undetected += tally.undetected;
    }
    line("all attacks", all);
    let Tally { cases, held, .. } = report.summary.benign;
    text.push('\n');
    if cases > 0 {
        text.push_str(&format!(
            "honest guests: {cases}, completed {held}, refused {}\n",
            cases - held
        ));
    }
    let Tally { cases, held, .. } = report.summary.regressions;
    if cases > 0 {
        text.push_str(&format!("old faults: {cases}, came back {}\n", cases - held));
    }
    text.push_str(&closing(report, all.cases));
    text
}

fn closing(report: &Report, attacks: usize) -> String {
    let mut text = String::new();
    if report.subject == "reference" && attacks > 0 {
        let harmful = report.summary.harmful;
        text.push_str(&format!(
            "undefended, {harmful} of {attacks} attacks did their harm, seen from outside\n"
        ));
        if report.summary.compiled_out > 0 {
            text.push_str(&format!(
                "{} could not be tried undefended: what they use is not compiled in\n",
                report.summary.compiled_out
            ));
        }
    }
    let proofs = layer_trials(report);
    if proofs > 0 {
        text.push_str(&format!(
            "{proofs} runs with one layer alone, without one, or without all that stop an attack\n"
        ));
    }
    let counts = [
        (report.summary.failed, "failed"),
        (report.summary.unknown, "without a verdict"),
        (report.summary.flaky, "whose verdict is not always the same"),
    ];
    for (count, what) in counts {
        if count > 0 {
            text.push_str(&format!("cases {what}: {count}\n"));
        }
    }
    if let Some((case, millis)) = &report.summary.slowest {
        text.push_str(&format!(
            "{} s in all; slowest {case}, {millis} ms\n",
            tenths(report.total_ms)
        ));
    }
    text
}

/// Runs that prove single layers.
fn layer_trials(report: &Report) -> usize {
    let is_proof = |trial: &&TrialReport| matches!(trial.trial, Trial::Alone(_) | Trial::Without(_) | Trial::Missing);
    report
        .cases
        .iter()
        .flat_map(|case| &case.trials)
        .filter(is_proof)
        .count()
}

/// Seconds, with one digit.
pub(crate) fn tenths(millis: u64) -> String {
    format!("{}.{}", millis / 1000, millis % 1000 / 100)
}

/// Every case that did not pass, and why.
pub(super) fn failures(report: &Report) -> String {
    report.cases.iter().filter(|case| !case.passed()).map(failure).collect()
}

fn failure(case: &CaseReport) -> String {
    let bad: String = case.trials.iter().filter_map(reason).collect();
    format!("\n{}\n{bad}", case.id)
}

fn reason(trial: &TrialReport) -> Option<String> {
    let because = because(&trial.verdict)?;
    Some(format!("  {}: {}\n", trial.trial.name(), one_line(&because)))
}

/// Why a trial did not pass. It may quote the guest.
pub(super) fn because(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Passed => None,
        Verdict::Failed(faults) => Some(faults.join("; ")),
        Verdict::Unknown(error) => Some(format!("no verdict: {error}")),
    }
}
