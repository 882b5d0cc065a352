//! The tests of the stock profiles, and that a suite notices what is wrong.

#![cfg(feature = "workbench")]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use stockade_policies::PolicyStore;
use stockade_policies::suite::{Suite, stock_tests};

#[test]
fn the_stock_profiles_do_what_their_tests_say_and_nothing_is_left_untested() {
    let suite = Suite::read(&stock_tests()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let store = PolicyStore::stock().unwrap();
    let run = suite.run(&store, None);
    let failed: Vec<_> = run.cases.iter().filter(|case| case.is_failed()).take(20).collect();
    assert_eq!(failed, [] as [&stockade_policies::suite::CaseResult; 0]);
    assert!(run.cases.len() > 5000, "only {} cases", run.cases.len());
    let coverage = run.coverage.unwrap();
    for (kind, share) in coverage.kinds() {
        assert_eq!(share.missing, [], "{kind}");
        assert!(share.total > 50, "{kind}: {}", share.total);
    }
    assert_eq!(suite.first_failure(&store), None);
}
