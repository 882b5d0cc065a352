//! The numbers of the stock profiles, and that Cedar's authorizer stops there as well.

#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tables are long, and a panic is the report"
)]

mod reference;

use std::collections::BTreeMap;

use reference::{Reference, principals};
use serde_json::json;
use stockade_policies::{Bound, Meter, PolicyStore, Principal, Severity, Stock, check};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;

/// Every bound of every stock profile. A meter that is missing is zero. Typed from the promises, never from the policies.
fn expected_bounds() -> BTreeMap<&'static str, Vec<(Meter, u64)>> {
    use Meter as M;
    let recommended = [
        (M::SqlLength, 1_000_000),
        (M::SqlSqlLength, 100_000),
        (M::SqlColumn, 100),
        (M::SqlExprDepth, 10),
        (M::SqlCompoundSelect, 3),
        (M::SqlVdbeOp, 25_000),
        (M::SqlFunctionArg, 8),
        (M::SqlLikePatternLength, 50),
        (M::SqlVariableNumber, 10),
        (M::SqlTriggerDepth, 10),
        (M::SqlParserDepth, 100),
        (M::SqlSchema, 1000),
        (M::SqlTriggerSteps, 100),
    ];
    let untrusted = [
        (M::GrowMemory, 4 * MIB),
        (M::GrowTable, 10_000),
        (M::AddInstance, 1),
        (M::AddMemory, 1),
        (M::AddTable, 2),
        (M::GrowStack, 512 * KIB),
        (M::Elapse, 500),
        (M::Compile, 2000),
        (M::LoadGuest, MIB),
        (M::TakeInput, MIB),
        (M::ReturnOutput, MIB),
        (M::PassBuffer, MIB),
        (M::GrowHeap, 4 * MIB),
        (M::GrowDatabase, 4 * MIB),
        (M::ReturnRows, 1000),
        (M::ReturnBytes, 1_000_000),
    ];
    let database_only = [
        (M::GrowMemory, 16 * MIB),
        (M::GrowTable, 10_000),
        (M::AddInstance, 1),
        (M::AddMemory, 1),
        (M::AddTable, 4),
        (M::GrowStack, 512 * KIB),
        (M::Elapse, 2000),
        (M::Compile, 2000),
        (M::LoadGuest, 4 * MIB),
        (M::TakeInput, MIB),
        (M::ReturnOutput, MIB),
        (M::GrowLog, 64 * KIB),
        (M::CallHost, 10_000),
        (M::PassBuffer, 64 * KIB),
        (M::GrowHeap, 16 * MIB),
        (M::GrowDatabase, 16 * MIB),
        (M::ReturnRows, 10_000),
        (M::ReturnBytes, 1_000_000),
    ];
    let standard = [
        (M::GrowMemory, 64 * MIB),
        (M::GrowTable, 10_000),
        (M::AddInstance, 1),
        (M::AddMemory, 1),
        (M::AddTable, 4),
        (M::GrowStack, MIB),
        (M::Elapse, 5000),
        (M::Compile, 5000),
        (M::LoadGuest, 8 * MIB),
        (M::TakeInput, 4 * MIB),
        (M::ReturnOutput, 4 * MIB),
        (M::GrowLog, 256 * KIB),
        (M::CallHost, 100_000),
        (M::PassBuffer, MIB),
        (M::GrowHeap, 64 * MIB),
        (M::GrowDatabase, 64 * MIB),
        (M::ReturnRows, 10_000),
        (M::ReturnBytes, 4 * MIB),
    ];
    let trusted = [
        (M::GrowMemory, 256 * MIB),
        (M::GrowTable, 100_000),
        (M::AddInstance, 1),
        (M::AddMemory, 1),
        (M::AddTable, 4),
        (M::GrowStack, MIB),
        (M::Elapse, 30_000),
        (M::Compile, 10_000),
        (M::LoadGuest, 16 * MIB),
        (M::TakeInput, 16 * MIB),
        (M::ReturnOutput, 16 * MIB),
        (M::GrowLog, MIB),
        (M::CallHost, 1_000_000),
        (M::PassBuffer, MIB),
        (M::GrowHeap, 256 * MIB),
        (M::GrowDatabase, 256 * MIB),
        (M::ReturnRows, 100_000),
        (M::ReturnBytes, 16 * MIB),
    ];
    let walkin = vec![
        (M::Elapse, 2000),
        (M::LoadGuest, 8192),
        (M::GrowHeap, 64 * MIB),
        (M::GrowDatabase, 10 * MIB),
        (M::ReturnRows, 10_000),
        (M::ReturnBytes, 1_000_000),
        (M::SqlLength, 1_000_000),
        (M::SqlSqlLength, 8192),
        (M::SqlColumn, 100),
        (M::SqlExprDepth, 50),
        (M::SqlCompoundSelect, 10),
        (M::SqlVdbeOp, 500_000),
        (M::SqlFunctionArg, 16),
        (M::SqlLikePatternLength, 100),
        (M::SqlVariableNumber, 100),
        (M::SqlTriggerDepth, 5),
        (M::SqlParserDepth, 100),
        (M::SqlSchema, 1000),
        (M::SqlTriggerSteps, 100),
    ];
    let pure = vec![
        (M::GrowMemory, 16 * MIB),
        (M::GrowTable, 10_000),
        (M::AddInstance, 1),
        (M::AddMemory, 1),
        (M::AddTable, 2),
        (M::GrowStack, 512 * KIB),
        (M::Elapse, 100),
        (M::Compile, 2000),
        (M::LoadGuest, MIB),
        (M::TakeInput, MIB),
        (M::ReturnOutput, MIB),
        (M::PassBuffer, MIB),
    ];
    let and_recommended = |bounds: &[(Meter, u64)]| [bounds, &recommended].concat();
    BTreeMap::from([
        ("capabilities-minimal", vec![]),
        ("capabilities-database-only", vec![]),
        ("capabilities-standard", vec![]),
        ("capabilities-elevated", vec![]),
        ("sqlite-recommended", recommended.to_vec()),
        ("untrusted", and_recommended(&untrusted)),
        ("database-only", and_recommended(&database_only)),
        ("standard", and_recommended(&standard)),
        ("trusted", and_recommended(&trusted)),
        ("walkin", walkin),
        ("pure", pure),
    ])
}

fn store() -> PolicyStore {
    PolicyStore::stock().unwrap()
}

#[test]
fn the_stock_profiles_have_no_findings() {
    let report = check(&[], Stock::With);
    assert_eq!(report.findings, []);
    assert_eq!(report.count(Severity::Error), 0);
    let names: Vec<&str> = report.profiles.iter().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names, expected_bounds().into_keys().collect::<Vec<_>>());
}

#[test]
fn every_bound_is_the_promised_one() {
    let store = store();
    for (profile, expected) in expected_bounds() {
        for principal in principals(profile) {
            let plan = store.plan(&principal).unwrap();
            for meter in Meter::ALL {
                let promised = expected
                    .iter()
                    .find(|(named, _)| named == meter)
                    .map_or(0, |(_, most)| *most);
                assert_eq!(
                    plan.bound(*meter),
                    Bound::Limited(promised),
                    "{profile} {}",
                    meter.action()
                );
                assert_eq!(
                    plan.binding(*meter).is_empty(),
                    promised == 0,
                    "{profile} {}",
                    meter.action()
                );
            }
        }
    }
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

#[test]
fn every_bound_is_where_the_authorizer_stops() {
    let (store, reference) = (store(), Reference::stock(&[], &[]));
    for (profile, expected) in expected_bounds() {
        for principal in principals(profile) {
            let plan = store.plan(&principal).unwrap();
            for meter in Meter::ALL {
                let promised = expected
                    .iter()
                    .find(|(named, _)| named == meter)
                    .map_or(0, |(_, most)| *most);
                for amount in [0, promised, promised + 1] {
                    let signed = i64::try_from(amount).unwrap();
                    let allowed = allows(&reference, &principal, *meter, signed);
                    // Nothing permitted and nothing used is the one point where the two may differ.
                    if amount > 0 || promised > 0 {
                        assert_eq!(
                            plan.bound(*meter).permits(amount),
                            allowed,
                            "{profile} {} {amount}",
                            meter.action()
                        );
                    }
                }
            }
        }
    }
}
