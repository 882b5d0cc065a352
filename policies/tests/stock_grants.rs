//! That a plan decides about the stock profiles' grants what Cedar decides. What they grant is in `profiles/*.tests.yaml`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod reference;
mod samples;

use reference::{Reference, principals};
use samples::samples;
use serde_json::{Value as Json, json};
use stockade_policies::{
    Action, Bound, Meter, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction, Stock,
    Value, ValueKind,
};

fn store() -> PolicyStore {
    PolicyStore::stock().unwrap()
}

/// The shortest context that the action allows, and the longest.
fn contexts(action: Action) -> [Vec<(&'static str, Value)>; 2] {
    let value = |kind| match kind {
        ValueKind::Text => Value::Text("x".to_owned()),
        ValueKind::Long => Value::Long(1),
    };
    [false, true].map(|all| {
        let taken = action.context().iter().filter(|attribute| all || attribute.required);
        taken.map(|attribute| (attribute.name, value(attribute.kind))).collect()
    })
}

fn as_json(context: &[(&'static str, Value)]) -> Json {
    let fields = context.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => json!(text),
            Value::Long(number) => json!(number),
        };
        ((*name).to_owned(), value)
    });
    Json::Object(fields.collect())
}

fn compare_with_authorizer(plan: &Plan, reference: &Reference) -> (usize, usize) {
    let (mut allowed, mut denied) = (0, 0);
    for action in Action::all() {
        for (resource, row) in samples()
            .iter()
            .filter(|(resource, _)| resource.kind() == action.resource())
        {
            for context in contexts(action) {
                let decision = plan.decide(&Question {
                    action,
                    resource,
                    context: &context,
                });
                let expected = reference.allows(plan.principal(), action.id(), row, as_json(&context));
                let asked = format!("{} {} {resource} {context:?}", plan.principal().profile, action.id());
                assert_eq!(decision.allowed, expected, "{asked}");
                assert!(decision.errors.is_empty(), "{asked}: {:?}", decision.errors);
                assert!(
                    !decision.allowed || !decision.policies.is_empty(),
                    "{asked} is allowed by nobody"
                );
                let again = plan.decide(&Question {
                    action,
                    resource,
                    context: &context,
                });
                assert_eq!(decision, again, "{asked}");
                if expected { allowed += 1 } else { denied += 1 }
            }
        }
    }
    (allowed, denied)
}

fn decides_as_the_authorizer(profile: &str) {
    let (store, reference) = (store(), Reference::stock(&[], &[]));
    for principal in principals(profile) {
        let (allowed, denied) = compare_with_authorizer(&store.plan(&principal).unwrap(), &reference);
        assert!(denied > 0, "{profile}");
        assert_eq!(allowed == 0, profile == "pure", "{profile}");
    }
}

#[test]
fn untrusted_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("untrusted");
}

#[test]
fn database_only_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("database-only");
}

#[test]
fn standard_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("standard");
}

#[test]
fn trusted_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("trusted");
}

#[test]
fn walkin_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("walkin");
}

#[test]
fn pure_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("pure");
}

fn allows(plan: &Plan, action: Action, resource: &Resource) -> bool {
    let [required, _] = contexts(action);
    plan.decide(&Question {
        action,
        resource,
        context: &required,
    })
    .allowed
}

#[test]
fn bits_need_no_cedar() {
    let plan = store().plan(&Principal::profile("walkin")).unwrap();
    assert_eq!(plan.bit(Action::Sql(SqlAction::Select)), Some(true));
    assert_eq!(plan.bit(Action::Sql(SqlAction::Attach)), Some(false));
    assert_eq!(plan.bit(Action::Sql(SqlAction::Read)), None);
    let pure = store().plan(&Principal::profile("pure")).unwrap();
    assert!(Action::all().all(|action| pure.bit(action) == Some(false)));
}

#[test]
fn a_denial_names_the_policy_that_denies() {
    let plan = store().plan(&Principal::profile("walkin")).unwrap();
    let resource = Resource::path("/etc/passwd");
    let context = [("file", Value::Text("/etc/passwd".to_owned()))];
    let decision = plan.decide(&Question {
        action: Action::Sql(SqlAction::Attach),
        resource: &resource,
        context: &context,
    });
    assert!(!decision.allowed);
    assert_eq!(decision.policies, ["walkin-no-other-database"]);
    assert_eq!(
        store().locate("walkin-no-other-database").unwrap().source,
        "stock/walkin.cedar"
    );
}

#[test]
fn the_example_does_what_it_says() {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let policies = include_str!("../examples/grants.cedar");
    let entities = include_str!("../examples/grants.entities.json");
    let sources = [
        source("grants.cedar", policies, SourceKind::Policies),
        source("grants.entities.json", entities, SourceKind::Entities),
    ];
    let store = PolicyStore::load(&sources, Stock::With).unwrap();
    let plan = store.plan(&Principal::profile("reports")).unwrap();
    let reads = |table: &str, column: &str| {
        allows(
            &plan,
            Action::Sql(SqlAction::Read),
            &Resource::column("main", table, column),
        )
    };
    assert!(reads("staff", "name") && reads("departments", "id") && reads("STAFF", "Name"));
    assert!(!reads("staff", "salary") && !reads("staff", "SALARY") && !reads("payroll", "name"));
    assert_eq!(plan.bound(Meter::Elapse), Bound::Limited(500));
    assert_eq!(
        plan.binding(Meter::Elapse),
        ["database-only-deadline", "reports-deadline"]
    );
    let reference = Reference::stock(&[policies], &[entities]);
    for principal in principals("reports") {
        compare_with_authorizer(&store.plan(&principal).unwrap(), &reference);
    }
}
