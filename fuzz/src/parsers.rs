//! Text from strangers: cases, reports, claims. It is read or refused, and what is read is written and read again as the same.

use stockade_conformance::{Case, Claim, Modules, Report, Shard};

use crate::is_planted;

/// Reads bytes as each of them.
///
/// # Panics
/// Where what was read is not what is read again.
pub fn parsers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for id in ["sql/fuzz", "benign/sql/fuzz", "regression/sql/fuzz"] {
        let case = Case::parse(id, "fuzz.yaml", text, &Modules::new());
        assert!(!(is_planted() && case.is_ok()), "planted: a case");
    }
    if let Ok(report) = Report::parse("fuzz.json", text) {
        let again = serde_json::to_string(&report).unwrap_or_default();
        assert_eq!(Report::parse("again.json", &again).ok().as_ref(), Some(&report));
        if let Some(shard) = report.shard {
            assert_eq!(shard.to_string().parse::<Shard>(), Ok(shard), "there is no such shard");
        }
    }
    if let Ok(claim) = Claim::parse("fuzz.json", text) {
        let again = serde_json::to_string(&claim).unwrap_or_default();
        assert_eq!(Claim::parse("again.json", &again).ok(), Some(claim));
    }
}
