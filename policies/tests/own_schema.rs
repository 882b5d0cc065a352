//! A user's own schema: what it may add, what it may not, and a plan that answers for it as Cedar's authorizer does.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;

use cedar_policy::{
    Authorizer, Context, Decision as Ruling, Entities, EntityUid, PolicySet, Request, Schema, SchemaFragment,
};
use serde_json::{Value, json};
use stockade_policies::{
    Action, Capability, Code, Finding, Grant, OwnQuestion, Plan, PolicyStore, Principal, Question, Resource, Severity,
    Source, SourceKind, Stock, check,
};

const SCHEMA: &str = r#"namespace Shop {
  entity Region;
  entity Mailbox in [Region] = { "owner": String, "shared"?: Bool };
  type Message = { "to": String, "bytes": Long };
  action outgoing;
  action sendMail in [outgoing] appliesTo {
    principal: [Module, Caller, Profile],
    resource: [Mailbox],
    context: { "message": Message, "copy"?: Mailbox }
  };
  action inspect in [outgoing] appliesTo {
    principal: [Module, Profile],
    resource: [Mailbox, Region, Table],
    context: {}
  };
  action closeShop appliesTo { principal: [Caller], resource: [Region], context: {} };
}
entity Printer;
action print appliesTo { principal: [Profile], resource: [Printer], context: { "pages": Long } };
"#;

const ENTITIES: &str = r#"[
  {"uid": {"type": "Profile", "id": "desk"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Profile", "id": "front"}, "attrs": {}, "parents": [{"type": "Profile", "id": "desk"}]},
  {"uid": {"type": "Profile", "id": "back"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Shop::Region", "id": "eu"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Shop::Mailbox", "id": "info"}, "attrs": {"owner": "ann", "shared": true}, "parents": [{"type": "Shop::Region", "id": "eu"}]},
  {"uid": {"type": "Shop::Mailbox", "id": "secret"}, "attrs": {"owner": "bob"}, "parents": []},
  {"uid": {"type": "Printer", "id": "laser"}, "attrs": {}, "parents": []},
  {"uid": {"type": "HostFunction", "id": "stockade#log"}, "attrs": {}, "parents": []}
]"#;

const POLICIES: &str = r#"@id("mail")
permit (principal in Profile::"desk", action == Shop::Action::"sendMail", resource in Shop::Region::"eu")
when { context.message.bytes <= 1000 };
@id("outgoing")
permit (principal in Profile::"front", action in Shop::Action::"outgoing", resource);
@id("no-secrets")
forbid (principal, action == Shop::Action::"sendMail", resource)
when { context has copy && context.copy == Shop::Mailbox::"secret" };
@id("not-shared")
forbid (principal in Profile::"back", action == Shop::Action::"sendMail", resource)
when { context has copy && context.copy has shared && context.copy.shared };
@id("back-mail")
permit (principal in Profile::"back", action == Shop::Action::"sendMail", resource)
when { resource.owner == "ann" || (context has copy && context.copy in Shop::Region::"eu") };
@id("tables")
permit (principal in Profile::"back", action == Shop::Action::"inspect", resource is Table)
when { resource in Database::"main" };
@id("print")
permit (principal in Profile::"desk", action == Action::"print", resource == Printer::"laser")
when { context.pages <= 10 };
@id("close")
permit (principal in Profile::"desk", action == Shop::Action::"closeShop", resource);
@id("log")
permit (principal in Profile::"desk", action == Action::"writeLog", resource);
"#;

fn source(name: &str, text: &str, kind: SourceKind) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    }
}

fn sources(schema: &str, policies: &str, entities: &str) -> Vec<Source> {
    vec![
        source("shop.cedarschema", schema, SourceKind::Schema),
        source("shop.cedar", policies, SourceKind::Policies),
        source("shop.entities.json", entities, SourceKind::Entities),
    ]
}

fn store() -> PolicyStore {
    PolicyStore::load(&sources(SCHEMA, POLICIES, ENTITIES), Stock::With).unwrap()
}

fn principals() -> Vec<Principal> {
    ["desk", "front", "back", "pure"]
        .iter()
        .flat_map(|profile| {
            [
                Principal::profile(profile),
                Principal::module(&"ab".repeat(32), profile),
                Principal::caller("carol", profile),
            ]
        })
        .collect()
}

/// What Cedar's authorizer says, over everything that was loaded.
struct Oracle {
    schema: Schema,
    policies: PolicySet,
}

impl Oracle {
    fn new() -> Self {
        let ours = include_str!("../schema.cedarschema");
        let fragments = [ours, SCHEMA].map(|text| SchemaFragment::from_cedarschema_str(text).unwrap().0);
        Self {
            schema: Schema::from_schema_fragments(fragments).unwrap(),
            policies: POLICIES.parse().unwrap(),
        }
    }

    /// Nothing where Cedar refuses to be asked.
    fn allows(&self, principal: &Principal, question: &OwnQuestion<'_>) -> Option<bool> {
        let uid = |type_: &str, id: &str| -> EntityUid { format!("{type_}::{}", Value::from(id)).parse().unwrap() };
        let action: EntityUid = question.action.parse().ok()?;
        let context = Context::from_json_value(question.context.clone(), Some((&self.schema, &action))).ok()?;
        let resource = uid(question.resource_type, question.resource_id);
        let asker = uid(principal.kind.name(), &principal.id);
        let request = Request::new(asker, action, resource, context, Some(&self.schema)).ok()?;
        let mut entities: Vec<Value> = serde_json::from_str(ENTITIES).unwrap();
        let parents = json!([{"type": "Profile", "id": principal.profile}]);
        if principal.id != principal.profile {
            let attributes = principal
                .sha256
                .as_ref()
                .map_or(json!({}), |sha256| json!({"sha256": sha256}));
            let uid = json!({"type": principal.kind.name(), "id": principal.id});
            entities.push(json!({"uid": uid, "attrs": attributes, "parents": parents}));
        }
        if question.resource_type == "Table" {
            let (database, name) = question.resource_id.split_once('.').unwrap();
            let uid = json!({"type": "Table", "id": question.resource_id});
            let parents = json!([{"type": "Database", "id": database}]);
            entities.push(json!({"uid": uid, "attrs": {"name": name, "database": database}, "parents": parents}));
        }
        let entities = Entities::from_json_value(Value::from(entities), Some(&self.schema)).unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        Some(response.decision() == Ruling::Allow)
    }
}

fn contexts() -> Vec<Value> {
    let mut contexts = vec![
        json!({}),
        json!({"pages": 10}),
        json!({"pages": 11}),
        json!({"pages": "10"}),
        json!([]),
    ];
    for bytes in [0, 1000, 1001] {
        let message = json!({"to": "x", "bytes": bytes});
        contexts.push(json!({"message": message}));
        contexts.push(json!({"message": message, "extra": 1}));
        for copy in ["info", "secret", "undeclared"] {
            contexts.push(json!({"message": message, "copy": {"type": "Shop::Mailbox", "id": copy}}));
        }
        contexts.push(json!({"message": message, "copy": {"type": "Printer", "id": "laser"}}));
    }
    contexts
}

const RESOURCES: &[(&str, &str)] = &[
    ("Shop::Mailbox", "info"),
    ("Shop::Mailbox", "secret"),
    ("Shop::Mailbox", "un\"declared"),
    ("Shop::Region", "eu"),
    ("Shop::Region", "us"),
    ("Table", "main.t"),
    ("Table", "temp.t"),
    ("Printer", "laser"),
    ("Printer", "other"),
];

const ACTIONS: &[&str] = &[
    "Shop::Action::\"sendMail\"",
    "Shop::Action::\"inspect\"",
    "Shop::Action::\"closeShop\"",
    "Shop::Action::\"outgoing\"",
    "Action::\"print\"",
    "Action::\"writeLog\"",
    "Action::\"read\"",
    "Shop::Action::\"print\"",
];

fn each_question(mut ask: impl FnMut(&OwnQuestion<'_>)) {
    for action in ACTIONS {
        for (resource_type, resource_id) in RESOURCES {
            for context in contexts() {
                ask(&OwnQuestion {
                    action,
                    resource_type,
                    resource_id,
                    context: &context,
                });
            }
        }
    }
}

#[test]
fn a_plan_answers_as_the_authorizer_does() {
    let (store, oracle) = (store(), Oracle::new());
    let (mut allowed, mut refused, mut denied) = (0, 0, 0);
    for principal in principals() {
        let plan = store.plan(&principal).unwrap();
        let crossed: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(crossed.digest(), plan.digest());
        each_question(|question| {
            let decision = plan.decide_own(question);
            assert_eq!(crossed.decide_own(question), decision);
            let ours = matches!(question.action, "Action::\"writeLog\"" | "Action::\"read\"");
            let expected = oracle.allows(&principal, question).filter(|_| !ours);
            match expected {
                Some(true) => allowed += 1,
                Some(false) => denied += 1,
                None => refused += 1,
            }
            assert_eq!(
                decision.allowed,
                expected == Some(true),
                "{principal:?} {question:?} {decision:?}"
            );
            assert!(
                expected.is_some() || !decision.errors.is_empty(),
                "{principal:?} {question:?}"
            );
        });
    }
    assert!(
        allowed > 50 && denied > 100 && refused > 1000,
        "{allowed} {denied} {refused}"
    );
}

#[test]
fn a_plan_carries_what_it_needs_and_no_more() {
    let store = store();
    let json = |profile: &str| serde_json::to_value(store.plan(&Principal::profile(profile)).unwrap()).unwrap();
    let pure = json("pure");
    assert_eq!(
        pure["own"]["answers"][1],
        json!({"action": "Shop::Action::\"inspect\"", "answer": {"known": {"allowed": false, "policies": []}}})
    );
    let front = json("front");
    let texts: BTreeSet<&str> = front["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["id"].as_str().unwrap())
        .collect();
    assert!(
        texts.contains("no-secrets") && !texts.contains("tables") && !texts.contains("back-mail"),
        "{texts:?}"
    );
    let back = json("back");
    let entities = back["own"]["entities"].as_str().unwrap();
    assert!(entities.contains("\"secret\"") && entities.contains("\"eu\""));
    assert!(
        !entities.contains("stockade#log") && !entities.contains("\"desk\""),
        "{entities}"
    );
    let unaware = PolicyStore::stock().unwrap().plan(&Principal::profile("pure")).unwrap();
    assert_eq!(
        serde_json::to_value(&unaware).unwrap()["own"],
        json!({"schemas": [], "answers": [], "entities": ""})
    );
    assert_eq!(unaware.own_actions().count(), 0);
}

#[test]
fn a_damaged_plan_denies() {
    let plan = store().plan(&Principal::profile("front")).unwrap();
    let question = OwnQuestion {
        action: ACTIONS[1],
        resource_type: "Shop::Region",
        resource_id: "eu",
        context: &json!({}),
    };
    assert!(plan.decide_own(&question).allowed);
    for (key, value) in [
        ("schemas", json!([])),
        ("schemas", json!(["entity ;"])),
        ("entities", json!("{")),
    ] {
        let mut damaged = serde_json::to_value(&plan).unwrap();
        damaged["own"][key] = value;
        let decision = serde_json::from_value::<Plan>(damaged).unwrap().decide_own(&question);
        assert!(!decision.allowed && !decision.errors.is_empty());
    }
    let mut damaged = serde_json::to_value(&plan).unwrap();
    damaged["own"]["answers"].as_array_mut().unwrap().reverse();
    assert!(serde_json::from_value::<Plan>(damaged).is_err());
    let mut damaged = serde_json::to_value(&plan).unwrap();
    damaged["policies"].as_array_mut().unwrap().pop();
    assert!(serde_json::from_value::<Plan>(damaged).is_err());
}

#[test]
fn check_lists_what_is_granted() {
    let report = check(&sources(SCHEMA, POLICIES, ENTITIES), Stock::Without);
    let advice = |finding: &Finding| finding.code == Code::MeterNeverGranted;
    assert!(report.findings.iter().all(advice), "{:?}", report.findings);
    let granted = |name: &str| -> Vec<(String, Grant, Vec<String>)> {
        let profile = report.profiles.iter().find(|profile| profile.name == name).unwrap();
        let own = profile.own.iter();
        own.map(|own| (own.action.clone(), own.grant, own.policies.clone()))
            .collect()
    };
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        granted("front"),
        [
            ("Action::\"print\"".to_owned(), Grant::Sometimes, ids(&["print"])),
            (
                "Shop::Action::\"inspect\"".to_owned(),
                Grant::Always,
                ids(&["outgoing"])
            ),
            (
                "Shop::Action::\"sendMail\"".to_owned(),
                Grant::Sometimes,
                ids(&["mail", "outgoing", "no-secrets"])
            ),
        ]
    );
}

/// `Shop::Action::"writeLog"` would be another action than ours. Cedar does not let a schema declare it, and a policy that
/// names it says nothing about ours.
#[test]
fn names_in_a_namespace_are_not_ours() {
    let schema = r#"namespace Shop { entity Thing; action "growMemory" appliesTo { principal: [Profile], resource: [Thing] }; }"#;
    assert_eq!(codes(schema, "", "[]"), [Code::Schema]);
    let schema = "namespace Shop { entity Profile; }";
    assert_eq!(codes(schema, "", "[]"), [Code::Schema]);
    let schema = "namespace Shop { entity Team; action log appliesTo { principal: [Profile], resource: [Team] }; }";
    let team = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}, {"uid": {"type": "Shop::Team", "id": "p"}, "attrs": {}, "parents": []}]"#;
    let policies =
        r#"@id("a") permit (principal == Profile::"p", action == Shop::Action::"log", resource == Shop::Team::"p");"#;
    let store = PolicyStore::load(&sources(schema, policies, team), Stock::Without).unwrap();
    assert_eq!(store.profiles(), ["p"]);
    let plan = store.plan(&Principal::profile("p")).unwrap();
    for action in Action::all() {
        assert_eq!(plan.bit(action), Some(false), "{}", action.id());
    }
}

fn codes(schema: &str, policies: &str, entities: &str) -> Vec<Code> {
    let found = check(&sources(schema, policies, entities), Stock::With).findings;
    found.iter().map(|finding| finding.code).collect()
}

#[test]
fn each_contradiction_says_what_and_where() {
    let cases = [
        (
            "entity Shop;\nentity Profile;",
            "`entity Profile` is in the built-in schema already",
            "shop.cedarschema:2:8",
        ),
        (
            "entity Shop;\naction read;",
            "`action read` is in the built-in schema already",
            "shop.cedarschema:2:8",
        ),
        (
            "entity Shop in [Nobody];",
            "failed to resolve type: Nobody",
            "shop.cedarschema:1:17",
        ),
        (
            "entity Shop = { \"a\": Strin };",
            "failed to resolve type: Strin",
            "shop.cedarschema:1:22",
        ),
        (
            "entity Shop = { \"a\": };",
            "unexpected token `}`",
            "shop.cedarschema:1:22",
        ),
        (
            "entity Shop; entity Shop;",
            "`Shop` is declared twice",
            "shop.cedarschema:1:",
        ),
        (
            "entity Shop;\naction open in [Action::\"network\"] appliesTo { principal: [Caller], resource: [Shop] };",
            "`Action::\"open\"` is put into the group `Action::\"network\"`",
            "shop.cedarschema:2:8",
        ),
        ("action a in [b]; action b in [a];", "cycle", "shop.cedarschema:1:"),
    ];
    for (schema, message, place) in cases {
        let found = check(&sources(schema, "", "[]"), Stock::With).findings;
        let [finding] = <[Finding; 1]>::try_from(found).unwrap();
        assert_eq!(
            (finding.code, finding.severity),
            (Code::Schema, Severity::Error),
            "{finding}"
        );
        assert!(finding.message.contains(message), "{finding}");
        let at = finding.location.unwrap().to_string();
        assert!(at.starts_with(place), "{message}: {at}");
    }
    assert_eq!(codes(SCHEMA, "", "[]"), []);
    let nobody = "entity Shop; entity Clerk; action open appliesTo { principal: [Clerk], resource: [Shop] };";
    let found = check(&sources(nobody, "", "[]"), Stock::With).findings;
    assert_eq!(
        found
            .iter()
            .map(|finding| (finding.code, finding.severity))
            .collect::<Vec<_>>(),
        [(Code::Schema, Severity::Warning)]
    );
}

#[test]
fn two_files_that_declare_the_same_are_refused() {
    let mut all = sources(SCHEMA, "", "[]");
    all.push(source("other.cedarschema", "entity Printer;", SourceKind::Schema));
    let [finding] = <[Finding; 1]>::try_from(check(&all, Stock::With).findings).unwrap();
    assert_eq!(
        finding.to_string(),
        "other.cedarschema:1:8: `entity Printer` is declared twice (schema)"
    );
    let mut all = sources("entity Order in [Customer];", "", "[]");
    all.push(source("other.cedarschema", "entity Customer;", SourceKind::Schema));
    assert_eq!(check(&all, Stock::With).findings, []);
}

#[test]
fn own_policies_are_validated_and_linted() {
    let wrong = [
        (
            r#"@id("a") permit (principal, action == Shop::Action::"sendMial", resource);"#,
            Code::Validation,
        ),
        (
            r#"@id("a") permit (principal, action == Shop::Action::"sendMail", resource) when { context.pages == 1 };"#,
            Code::Validation,
        ),
        (
            r#"@id("a") forbid (principal, action == Shop::Action::"sendMail", resource) when { context.message.bytes + 1 > 5 };"#,
            Code::ForbidCanError,
        ),
    ];
    for (policy, code) in wrong {
        assert!(codes(SCHEMA, policy, "[]").contains(&code), "{policy}");
    }
    let right = r#"@id("a") forbid (principal, action == Shop::Action::"sendMail", resource) when { context.message.bytes > 5 };"#;
    assert_eq!(codes(SCHEMA, right, "[]"), []);
    let action = r#"[{"uid": {"type": "Shop::Action", "id": "sendMail"}, "attrs": {}, "parents": []}]"#;
    assert_eq!(codes(SCHEMA, "", action), [Code::Entities]);
}

/// A policy that is about everything is about the user's own actions too, and the built-in ones keep their answers.
#[test]
fn our_own_answers_do_not_change() {
    let without = PolicyStore::load(&sources("", POLICIES_OF_OURS, "[]")[1..], Stock::With).unwrap();
    let with = PolicyStore::load(&sources(SCHEMA, POLICIES_OF_OURS, "[]"), Stock::With).unwrap();
    for profile in without.profiles() {
        let principal = Principal::module(&"cd".repeat(32), &profile);
        let (one, other) = (without.plan(&principal).unwrap(), with.plan(&principal).unwrap());
        for action in Action::all() {
            assert_eq!(one.bit(action), other.bit(action), "{profile} {}", action.id());
        }
        let question = Question {
            action: Action::Host(Capability::WriteLog),
            resource: &Resource::host_function("stockade#log"),
            context: &[],
        };
        assert_eq!(one.decide(&question), other.decide(&question));
    }
}

const POLICIES_OF_OURS: &str = r#"@id("no-clock")
forbid (principal in Profile::"standard", action == Action::"readClock", resource);"#;
