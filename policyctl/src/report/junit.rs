//! A report as XML of `JUnit`: a suite for each way of playing, a test for each case.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use stockade_conformance::{CaseReport, Report, TrialReport, Verdict};

use super::people;
use crate::exit::Failure;
use crate::guest_text::one_line;

pub(super) fn xml(report: &Report) -> Result<String, Failure> {
    let mut suites: BTreeMap<String, TestSuite> = BTreeMap::new();
    for case in &report.cases {
        for trial in &case.trials {
            let name = trial.trial.name();
            let suite = suites.entry(name.clone()).or_insert_with(|| TestSuite::new(name));
            suite.add_test_case(test(case, trial));
        }
    }
    let mut junit = Junit::new(format!("stockade {}", report.subject));
    junit.add_test_suites(suites.into_values());
    junit.to_string().map_err(Failure::new)
}

fn test(case: &CaseReport, trial: &TrialReport) -> TestCase {
    let status = match &trial.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Failed(_) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Unknown(_) => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    let mut test = TestCase::new(case.id.as_str(), with_reason(status, &trial.verdict));
    test.set_classname(trial.trial.name());
    test.set_time(Duration::from_millis(trial.total_ms));
    test
}

fn with_reason(mut status: TestCaseStatus, verdict: &Verdict) -> TestCaseStatus {
    if let Some(because) = people::because(verdict) {
        status.set_message(one_line(&because));
    }
    status
}
