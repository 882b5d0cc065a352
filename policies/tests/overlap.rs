//! What is called redundant, shadowed or never applying really is: without it, every answer is the same.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report"
)]

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use stockade_policies::{
    Action, Code, Finding, Meter, PolicyStore, Principal, Question, Resource, Source, SourceKind, Stock, Value, check,
};

const ENTITIES: &str = r#"[
  {"uid": {"type": "Profile", "id": "outer"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Profile", "id": "inner"}, "attrs": {}, "parents": [{"type": "Profile", "id": "outer"}]},
  {"uid": {"type": "Profile", "id": "other"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Module", "id": "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"}, "attrs": {"sha256": "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"}, "parents": [{"type": "Profile", "id": "inner"}, {"type": "Profile", "id": "other"}]}
]"#;

const PRINCIPALS: &[&str] = &[
    "principal",
    "principal in Profile::\"outer\"",
    "principal in Profile::\"inner\"",
    "principal in Profile::\"other\"",
    "principal == Profile::\"inner\"",
    "principal is Module",
    "principal is Module in Profile::\"inner\"",
    "principal == Module::\"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2\"",
];

const DEEDS: &[&str] = &[
    "action == Action::\"insert\", resource",
    "action == Action::\"insert\", resource in Database::\"main\"",
    "action == Action::\"insert\", resource in Table::\"main.staff\"",
    "action == Action::\"insert\", resource == Table::\"main.staff\"",
    "action in [Action::\"insert\", Action::\"delete\"], resource",
    "action in Action::\"sqlWrite\", resource is Table",
    "action == Action::\"growLog\", resource == Meter::\"guest\"",
    "action == Action::\"growLog\", resource",
    "action in [Action::\"growLog\", Action::\"growMemory\"], resource",
];

const ROW_CONDITIONS: &[&str] = &[
    "",
    "when { resource.name == \"staff\" }",
    "when { resource.name like \"st*\" }",
    "unless { context has trigger }",
    "when { resource.name like \"st*\" } unless { context has trigger }",
    "when { resource.name == \"staff\" && resource.name == \"orders\" }",
    "when { principal in Profile::\"other\" }",
    "unless { principal in Profile::\"other\" }",
    "when { context has trigger || !(context has trigger) }",
    "when { 1 > 2 || resource.name == \"orders\" }",
];

const AMOUNT_CONDITIONS: &[&str] = &[
    "when { context.bytes <= 10 }",
    "when { context.bytes <= 20 }",
    "unless { context.bytes > 15 }",
    "when { context.bytes > 15 }",
    "when { context.bytes > 10 && context.bytes <= 30 }",
    "when { context.bytes < 5 && context.bytes > 10 }",
    "when { context.bytes <= 10 } unless { principal is Module }",
    "when { context.bytes <= 20 && principal in Profile::\"inner\" }",
    "unless { context.bytes <= 10 }",
    "when { context.bytes >= 0 }",
];

fn policy() -> impl Strategy<Value = String> {
    let choice = (any::<bool>(), 0..PRINCIPALS.len(), 0..DEEDS.len(), 0..10_usize);
    choice.prop_map(|(forbids, principal, deed, condition)| {
        let effect = if forbids { "forbid" } else { "permit" };
        let conditions = if DEEDS[deed].contains("growLog") {
            AMOUNT_CONDITIONS
        } else {
            ROW_CONDITIONS
        };
        format!(
            "{effect} ({}, {}) {};",
            PRINCIPALS[principal], DEEDS[deed], conditions[condition]
        )
    })
}

fn sources(policies: &[(usize, String)]) -> [Source; 2] {
    let text: String = policies
        .iter()
        .map(|(id, text)| format!("@id(\"p{id}\")\n{text}\n"))
        .collect();
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    [
        source("p.cedar", &text, SourceKind::Policies),
        source("p.entities.json", ENTITIES, SourceKind::Entities),
    ]
}

/// Every answer to everything that these policies can be asked.
fn answers(store: &PolicyStore) -> Vec<String> {
    let mut answers = Vec::new();
    let principals = ["outer", "inner", "other"]
        .into_iter()
        .flat_map(|profile| [Principal::profile(profile), Principal::module("anything", profile)]);
    for principal in principals.chain([
        Principal::module(
            "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
            "inner",
        ),
        Principal::module(
            "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
            "other",
        ),
    ]) {
        // Without a plan nothing runs, which is an answer as well.
        let Ok(plan) = store.plan(&principal) else {
            answers.push(format!("{principal:?} does not run"));
            continue;
        };
        for meter in [Meter::GrowLog, Meter::GrowMemory] {
            answers.push(format!("{principal:?} {meter:?} {}", plan.bound(meter)));
        }
        for action in ["insert", "delete"].map(|id| Action::from_id(id).unwrap()) {
            for table in ["staff", "stock", "orders"] {
                for database in ["main", "temp"] {
                    let resource = Resource::table(database, table);
                    for context in [vec![], vec![("trigger", Value::Text("t".to_owned()))]] {
                        let question = Question {
                            action,
                            resource: &resource,
                            context: &context,
                        };
                        let allowed = plan.decide(&question).allowed;
                        answers.push(format!("{principal:?} {question:?} {allowed}"));
                    }
                }
            }
        }
    }
    answers
}

/// The number of the policy that a finding says does nothing, if it says so.
fn idle(finding: &Finding) -> Option<usize> {
    let says_so = matches!(finding.code, Code::RedundantPolicy | Code::ShadowedPolicy)
        || (finding.code == Code::ConstantCondition && finding.message.contains("never applies"));
    let id = finding.message.split("`p").nth(1)?.split('`').next()?;
    says_so.then(|| id.parse().unwrap())
}

/// Checks one set, and says how many of its policies are called idle.
fn checked(policies: &[(usize, String)]) -> Result<usize, TestCaseError> {
    let Ok(before) = PolicyStore::load(&sources(policies), Stock::Without) else {
        return Ok(0);
    };
    let findings = check(&sources(policies), Stock::Without).findings;
    let idle: Vec<usize> = findings.iter().filter_map(idle).collect();
    let without = |gone: &[usize]| -> Vec<(usize, String)> {
        policies.iter().filter(|(id, _)| !gone.contains(id)).cloned().collect()
    };
    // One after the other and all together: no finding leans on a policy that another finding takes away.
    let mut removals: Vec<Vec<usize>> = idle.iter().map(|id| vec![*id]).collect();
    removals.push(idle.clone());
    for gone in removals.iter().filter(|gone| !gone.is_empty()) {
        let after = PolicyStore::load(&sources(&without(gone)), Stock::Without).unwrap();
        let changed = answers(&before)
            .into_iter()
            .zip(answers(&after))
            .find(|(before, after)| before != after);
        prop_assert!(changed.is_none(), "{:?} without {:?} of {:#?}", changed, gone, policies);
    }
    Ok(idle.len())
}

#[test]
fn what_does_nothing_can_go() {
    let found = Cell::new(0);
    let config = ProptestConfig {
        cases: 80,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let sets = proptest::collection::vec(policy(), 2..7);
    TestRunner::new(config)
        .run(&sets, |texts| {
            let policies: Vec<(usize, String)> = texts.into_iter().enumerate().collect();
            found.set(found.get() + checked(&policies)?);
            Ok(())
        })
        .unwrap();
    assert!(found.get() > 20, "only {} policies were called idle", found.get());
}
