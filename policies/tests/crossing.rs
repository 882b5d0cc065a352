//! A plan that crosses to another process says the same there, and a damaged one says nothing.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod samples;

use samples::samples;
use stockade_policies::{
    Action, Bound, Meter, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction, Stock, Value,
};

fn plans() -> Vec<Plan> {
    let store = PolicyStore::stock().unwrap();
    let principals = [
        Principal::profile("walkin"),
        Principal::module(&"ab".repeat(32), "trusted"),
        Principal::caller("alice", "database-only"),
        Principal::profile("pure"),
    ];
    principals
        .iter()
        .map(|principal| store.plan(principal).unwrap())
        .collect()
}

fn say_the_same(one: &Plan, other: &Plan) {
    assert_eq!(one.principal(), other.principal());
    assert_eq!(one.digest(), other.digest());
    for meter in Meter::ALL {
        assert_eq!(one.bound(*meter), other.bound(*meter));
        assert_eq!(one.binding(*meter), other.binding(*meter));
    }
    for action in Action::all() {
        assert_eq!(one.bit(action), other.bit(action));
        for (resource, _) in samples()
            .iter()
            .filter(|(resource, _)| resource.kind() == action.resource())
        {
            let context: Vec<(&'static str, Value)> = action
                .context()
                .iter()
                .filter(|attribute| attribute.required)
                .map(|attribute| (attribute.name, Value::Text("x".to_owned())))
                .collect();
            let question = Question {
                action,
                resource,
                context: &context,
            };
            assert_eq!(
                one.decide(&question),
                other.decide(&question),
                "{} {resource}",
                action.id()
            );
        }
    }
}

#[test]
fn json_and_back() {
    for plan in plans() {
        let text = serde_json::to_string(&plan).unwrap();
        say_the_same(&plan, &serde_json::from_str(&text).unwrap());
    }
}

#[test]
fn messagepack_and_back() {
    for plan in plans() {
        let compact = rmp_serde::to_vec(&plan).unwrap();
        say_the_same(&plan, &rmp_serde::from_slice(&compact).unwrap());
        let named = rmp_serde::to_vec_named(&plan).unwrap();
        say_the_same(&plan, &rmp_serde::from_slice(&named).unwrap());
    }
}

#[test]
fn the_digest_is_of_what_the_plan_says() {
    let (one, other) = (plans(), plans());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.digest().len(), 64);
    }
    let store = PolicyStore::stock().unwrap();
    let digest = |profile: &str| store.plan(&Principal::profile(profile)).unwrap().digest().to_owned();
    assert_ne!(digest("untrusted"), digest("standard"));
}

#[test]
fn a_plan_for_another_vocabulary_is_refused() {
    let mut json = serde_json::to_value(&plans()[0]).unwrap();
    json["meters"].as_array_mut().unwrap().pop();
    assert!(serde_json::from_value::<Plan>(json).is_err());
    let mut json = serde_json::to_value(&plans()[0]).unwrap();
    json["answers"].as_array_mut().unwrap().swap(0, 1);
    assert!(serde_json::from_value::<Plan>(json).is_err());
    let mut json = serde_json::to_value(&plans()[0]).unwrap();
    json["policies"].as_array_mut().unwrap().clear();
    assert!(serde_json::from_value::<Plan>(json).is_err());
    let mut json = serde_json::to_value(&plans()[0]).unwrap();
    json["extra"] = serde_json::json!(1);
    assert!(serde_json::from_value::<Plan>(json).is_err());
}

#[test]
fn a_plan_whose_policies_are_damaged_denies() {
    let mut json = serde_json::to_value(&plans()[0]).unwrap();
    json["policies"][0]["text"] = serde_json::json!("permit (");
    let plan: Plan = serde_json::from_value(json).unwrap();
    let resource = Resource::column("main", "notes", "body");
    let decision = plan.decide(&Question {
        action: Action::Sql(SqlAction::Read),
        resource: &resource,
        context: &[],
    });
    assert!(!decision.allowed);
    assert_eq!(decision.errors.len(), 1);
    assert_eq!(plan.bound(Meter::Elapse), Bound::Limited(2000));
}

#[test]
fn a_question_of_the_wrong_shape_is_denied() {
    let walkin = &plans()[0];
    let table = Resource::table("main", "notes");
    let column = Resource::column("main", "notes", "body");
    let text = |text: &str| Value::Text(text.to_owned());
    let denied = |action: SqlAction, resource: &Resource, context: &[(&'static str, Value)]| {
        let decision = walkin.decide(&Question {
            action: Action::Sql(action),
            resource,
            context,
        });
        assert!(!decision.allowed && decision.errors.len() == 1, "{decision:?}");
        decision.errors[0].clone()
    };
    assert_eq!(
        denied(SqlAction::Read, &table, &[]),
        "`read` is asked about a `Column`, not about `Table::\"main.notes\"`"
    );
    assert_eq!(
        denied(SqlAction::CreateIndex, &table, &[]),
        "`createIndex` is asked without `index`"
    );
    assert_eq!(
        denied(SqlAction::Read, &column, &[("argument", text("x"))]),
        "`read` is not asked with a string `argument`"
    );
    assert_eq!(
        denied(SqlAction::Read, &column, &[("trigger", Value::Long(1))]),
        "`read` is not asked with a number `trigger`"
    );
    let twice = [("trigger", text("a")), ("trigger", text("b"))];
    denied(SqlAction::Read, &column, &twice);
}

#[test]
fn plans_are_shared_between_threads() {
    let plan = plans().swap_remove(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let plan = plan.clone();
            scope.spawn(move || {
                for round in 0..200 {
                    let resource = Resource::column("main", "notes", &format!("c{}", (thread + round) % 17));
                    let question = Question {
                        action: Action::Sql(SqlAction::Read),
                        resource: &resource,
                        context: &[],
                    };
                    assert!(plan.decide(&question).allowed);
                }
            });
        }
    });
}

/// What a condition asks of an entity that it names, or of the action, is still known where only the plan is.
#[test]
fn a_condition_finds_the_entities_that_it_names() {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let policies = r#"
        @id("nested") permit (principal, action == Action::"read", resource)
        when { Profile::"inner" in Profile::"outer" && resource.name like "n*" };
        @id("grouped") permit (principal, action, resource is Table)
        when { action in Action::"sqlWrite" && resource.name like "g*" };"#;
    let entities = r#"[
        {"uid": {"type": "Profile", "id": "outer"}, "attrs": {}, "parents": []},
        {"uid": {"type": "Profile", "id": "inner"}, "attrs": {}, "parents": [{"type": "Profile", "id": "outer"}]}]"#;
    let sources = [
        source("a.cedar", policies, SourceKind::Policies),
        source("a.entities.json", entities, SourceKind::Entities),
    ];
    let store = PolicyStore::load(&sources, Stock::Without).unwrap();
    let plan = store.plan(&Principal::profile("outer")).unwrap();
    let allows = |action: SqlAction, resource: Resource| {
        let question = Question {
            action: Action::Sql(action),
            resource: &resource,
            context: &[],
        };
        plan.decide(&question).allowed
    };
    assert!(allows(SqlAction::Read, Resource::column("main", "t", "name")));
    assert!(!allows(SqlAction::Read, Resource::column("main", "t", "other")));
    assert!(allows(SqlAction::Insert, Resource::table("main", "groups")));
    assert!(!allows(SqlAction::DropTable, Resource::table("main", "groups")));
    assert!(!allows(SqlAction::Insert, Resource::table("main", "others")));
}
