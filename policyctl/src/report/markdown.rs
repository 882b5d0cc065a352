//! A report as Markdown, for a comment or a job's summary.

use stockade_conformance::{Report, Tally, Verdict};

use super::people;
use crate::guest_text::one_line;

/// Failures that are shown; of more, only the number.
const SHOWN: usize = 50;

pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "## Stockade: {}\n\n| | cases | held | undetected |\n|---|---:|---:|---:|\n",
        cell(&report.subject)
    );
    let summary = &report.summary;
    let attacks = summary
        .attacks
        .iter()
        .map(|(threat, tally)| (threat.to_string(), tally));
    let others = [("honest guests", &summary.benign), ("old faults", &summary.regressions)];
    for (name, tally) in attacks.chain(others.map(|(name, tally)| (name.to_owned(), tally))) {
        let Tally {
            cases,
            held,
            undetected,
        } = tally;
        text.push_str(&format!("| {name} | {cases} | {held} | {undetected} |\n"));
    }
    text.push_str(&format!(
        "\n{} cases, {} failed, {} without a verdict, {} s; corpus `{}`, version {}, kernel {}.\n",
        report.cases.len(),
        summary.failed,
        summary.unknown,
        people::tenths(report.total_ms),
        report.suite.corpus.get(..12).unwrap_or_default(),
        report.suite.version,
        cell(&report.machine.kernel),
    ));
    text + &failures(report)
}

fn failures(report: &Report) -> String {
    let failed: Vec<String> = report
        .cases
        .iter()
        .flat_map(|case| case.trials.iter().map(move |trial| (case, trial)))
        .filter(|(_, trial)| trial.verdict != Verdict::Passed)
        .map(|(case, trial)| {
            let because = people::because(&trial.verdict).unwrap_or_default();
            format!("| {} | {} | {} |\n", cell(&case.id), trial.trial.name(), cell(&because))
        })
        .collect();
    if failed.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n| case | trial | because |\n|---|---|---|\n{}",
        failed.iter().take(SHOWN).cloned().collect::<String>()
    );
    if failed.len() > SHOWN {
        text.push_str(&format!("\nand {} more\n", failed.len() - SHOWN));
    }
    text
}

/// Text of a guest's making in a cell: no mark-up, no HTML, no new row.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in one_line(text).chars() {
        if character.is_ascii_punctuation() && !".,:/-()=".contains(character) {
            safe.push_str(&format!("&#{};", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    safe
}
