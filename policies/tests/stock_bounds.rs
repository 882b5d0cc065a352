//! That the stock profiles are in order, and that Cedar's authorizer stops where their plans do.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod reference;

use reference::{Reference, principals};
use serde_json::json;
use stockade_policies::{Meter, PolicyStore, Principal, Severity, Stock, check};

fn store() -> PolicyStore {
    PolicyStore::stock().unwrap()
}

#[test]
fn the_stock_profiles_have_no_findings() {
    let report = check(&[], Stock::With);
    assert_eq!(report.findings, []);
    assert_eq!(report.count(Severity::Error), 0);
    let names: Vec<&str> = report.profiles.iter().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names, store().profiles());
    assert_eq!(names.len(), 11);
}

fn allows(reference: &Reference, principal: &Principal, meter: Meter, amount: i64) -> bool {
    let resource = json!({"uid": {"type": "Meter", "id": meter.resource()}});
    reference.allows(
        principal,
        meter.action(),
        &resource,
        json!({ meter.unit().name(): amount }),
    )
}

/// What the bounds are is in `profiles/*.tests.yaml`.
#[test]
fn every_bound_is_where_the_authorizer_stops() {
    let (store, reference) = (store(), Reference::stock(&[], &[]));
    for profile in store.profiles() {
        for principal in principals(&profile) {
            let plan = store.plan(&principal).unwrap();
            for meter in Meter::ALL {
                let bound = plan.bound(*meter);
                let most = bound.limit().unwrap();
                for amount in [0, most, most + 1] {
                    let signed = i64::try_from(amount).unwrap();
                    let allowed = allows(&reference, &principal, *meter, signed);
                    // Nothing permitted and nothing used is the one point where the two may differ.
                    if amount > 0 || most > 0 {
                        assert_eq!(bound.permits(amount), allowed, "{profile} {} {amount}", meter.action());
                    }
                }
            }
        }
    }
}
