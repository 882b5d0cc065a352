//! A report in the Test Anything Protocol, version 14: <https://testanything.org/tap-version-14-specification.html>.

use stockade_conformance::Report;

use super::people;
use crate::guest_text::one_line;

pub(super) fn lines(report: &Report) -> String {
    let trials: Vec<_> = report
        .cases
        .iter()
        .flat_map(|case| case.trials.iter().map(move |trial| (case, trial)))
        .collect();
    let mut text = format!("TAP version 14\n1..{}\n", trials.len());
    for (number, (case, trial)) in (1..).zip(trials) {
        let because = people::because(&trial.verdict);
        let ok = if because.is_some() { "not ok" } else { "ok" };
        // A `#` would begin a directive.
        let name = one_line(&case.id).replace('\\', "\\\\").replace('#', "\\#");
        text.push_str(&format!("{ok} {number} - {}::{name}\n", trial.trial.name()));
        if let Some(because) = because {
            let quoted = serde_json::Value::from(one_line(&because));
            text.push_str(&format!("  ---\n  because: {quoted}\n  ...\n"));
        }
    }
    text
}
