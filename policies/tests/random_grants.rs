//! Random policies on actions: a plan says what Cedar's authorizer says over the whole set, however little it kept of it.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test a panic is the report"
)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Ruling, Effect, Entities, Entity, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, SlotId, Template,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value as Json;
use stockade_policies::{
    Action, Capability, Code, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction, Stock,
    Value,
};

/// What this test is worth: fewer comparisons are a failure.
const POINTS: usize = 60_000;
/// Random sets at a time.
const SETS: u32 = 32;

const ENTITIES: &str = r#"[
  {"uid": {"type": "Profile", "id": "top"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Profile", "id": "side"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Profile", "id": "middle"}, "attrs": {}, "parents": [{"type": "Profile", "id": "top"}]},
  {"uid": {"type": "Profile", "id": "low"}, "attrs": {}, "parents": [{"type": "Profile", "id": "middle"}, {"type": "Profile", "id": "side"}]},
  {"uid": {"type": "Module", "id": "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}, "attrs": {"sha256": "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}, "parents": [{"type": "Profile", "id": "low"}, {"type": "Publisher", "id": "acme"}]},
  {"uid": {"type": "Caller", "id": "ann"}, "attrs": {"tenant": "blue"}, "parents": [{"type": "Profile", "id": "middle"}]},
  {"uid": {"type": "SqlFunction", "id": "abs"}, "attrs": {}, "parents": [{"type": "SqlFunctionClass", "id": "computing"}]},
  {"uid": {"type": "SqlFunction", "id": "random"}, "attrs": {}, "parents": [{"type": "SqlFunctionClass", "id": "random"}]},
  {"uid": {"type": "Capability", "id": "quiet"}, "attrs": {}, "parents": []},
  {"uid": {"type": "HostFunction", "id": "stockade#log"}, "attrs": {}, "parents": [{"type": "Capability", "id": "quiet"}]}
]"#;

fn principals() -> Vec<Principal> {
    vec![
        Principal::profile("top"),
        Principal::profile("low"),
        Principal::profile("side"),
        Principal::module(
            "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "low",
        ),
        Principal::module("other", "middle"),
        Principal::caller("ann", "middle"),
        Principal::caller("bob", "side"),
    ]
}

struct Asked {
    action: Action,
    resource: Resource,
    context: Vec<(&'static str, Value)>,
}

/// The questions that every set is asked, for every principal.
static QUESTIONS: LazyLock<Vec<Asked>> = LazyLock::new(|| {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut asked = Vec::new();
    let mut ask = |action, resource: &Resource, context: &[(&'static str, Value)]| {
        asked.push(Asked {
            action,
            resource: resource.clone(),
            context: context.to_vec(),
        });
    };
    let triggers = [vec![], vec![("trigger", text("t1"))], vec![("trigger", text("other"))]];
    for column in [
        "main.notes.body",
        "main.notes.salary",
        "main.staff.body",
        "temp.notes.body",
        "main.\"a.b\".c",
    ] {
        let column: Resource = format!("Column::{}", Json::from(column)).parse().unwrap();
        for context in &triggers {
            ask(Action::Sql(SqlAction::Read), &column, context);
            ask(Action::Sql(SqlAction::Update), &column, context);
        }
    }
    for table in [
        Resource::table("main", "notes"),
        Resource::table("main", "staff"),
        Resource::table("temp", "notes"),
    ] {
        for context in &triggers {
            ask(Action::Sql(SqlAction::Insert), &table, context);
        }
        for index in ["i", "notes_index"] {
            ask(Action::Sql(SqlAction::CreateIndex), &table, &[("index", text(index))]);
            ask(
                Action::Sql(SqlAction::CreateIndex),
                &table,
                &[("index", text(index)), ("trigger", text("t1"))],
            );
        }
    }
    for name in ["abs", "random", "undeclared"] {
        ask(Action::Sql(SqlAction::CallFunction), &Resource::sql_function(name), &[]);
    }
    for path in ["/data/a.db", "/data/in/b.db", "/etc/passwd", "/data/../etc"] {
        ask(
            Action::Sql(SqlAction::Attach),
            &Resource::path(path),
            &[("file", text(path))],
        );
    }
    for name in ["stockade#log", "other#log"] {
        ask(Action::Host(Capability::WriteLog), &Resource::host_function(name), &[]);
    }
    for name in ["main", "temp"] {
        ask(Action::Host(Capability::QueryDatabase), &Resource::database(name), &[]);
    }
    asked
});

type Text = BoxedStrategy<String>;

fn one_of(texts: &'static [&'static str]) -> Text {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

fn principal_scope() -> Text {
    one_of(&[
        "principal",
        "principal in Profile::\"top\"",
        "principal in Profile::\"middle\"",
        "principal in Profile::\"low\"",
        "principal in Profile::\"side\"",
        "principal == Profile::\"low\"",
        "principal == Module::\"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1\"",
        "principal == Caller::\"bob\"",
        "principal is Module",
        "principal is Caller in Profile::\"middle\"",
        "principal is Module in Publisher::\"acme\"",
    ])
}

/// What a policy is about: its actions, the scopes that its resource can have, and conditions that fit all of those.
const TOPICS: &[(&[&str], &[&str], &[&str])] = &[
    (
        &[
            "action == Action::\"read\"",
            "action in [Action::\"read\", Action::\"update\"]",
        ],
        &[
            "resource",
            "resource in Table::\"main.notes\"",
            "resource in Database::\"main\"",
            "resource == Column::\"main.notes.body\"",
            "resource is Column",
            "resource is Column in Table::\"main.staff\"",
        ],
        &[
            "resource.name == \"body\"",
            "resource.name like \"s*y\"",
            "resource.table like \"*t*\"",
            "[\"notes\", \"a.b\"].contains(resource.table)",
            "resource in [Table::\"main.staff\", Table::\"temp.notes\"]",
            "context has trigger",
            "(context has trigger && context.trigger == \"t1\")",
            "(if context has trigger then context.trigger like \"t*\" else resource.database == \"temp\")",
            "resource == Column::\"main.notes.salary\"",
        ],
    ),
    (
        &["action == Action::\"insert\""],
        &[
            "resource",
            "resource == Table::\"main.notes\"",
            "resource in Database::\"temp\"",
        ],
        &[
            "resource.name == \"notes\"",
            "resource.database != \"temp\"",
            "(context has trigger && context.trigger != \"t1\")",
            "resource in Database::\"main\"",
            "{a: resource.name, b: 1}.a like \"n*\"",
        ],
    ),
    (
        &["action == Action::\"createIndex\""],
        &[
            "resource",
            "resource == Table::\"main.notes\"",
            "resource in Database::\"temp\"",
        ],
        &[
            "context.index == \"i\"",
            "context.index like \"*_index\"",
            "context.index != resource.name",
            "(context has trigger && context.index == \"i\")",
        ],
    ),
    (
        &["action == Action::\"callFunction\""],
        &[
            "resource",
            "resource in SqlFunctionClass::\"computing\"",
            "resource == SqlFunction::\"undeclared\"",
        ],
        &[
            "resource in SqlFunctionClass::\"random\"",
            "[SqlFunction::\"abs\", SqlFunction::\"random\"].contains(resource)",
        ],
    ),
    (
        &["action == Action::\"attach\""],
        &[
            "resource",
            "resource in Path::\"/data\"",
            "resource == Path::\"/data/a.db\"",
        ],
        &[
            "resource.name like \"/data/*\"",
            "resource in Path::\"/data/in\"",
            "!(resource.name like \"*..*\")",
        ],
    ),
    (
        &["action == Action::\"writeLog\""],
        &["resource", "resource in Capability::\"quiet\""],
        &[
            "resource == HostFunction::\"stockade#log\"",
            "resource in Capability::\"quiet\"",
        ],
    ),
    (
        &["action == Action::\"queryDatabase\"", "action in Action::\"database\""],
        &["resource", "resource == Database::\"main\""],
        &["resource.name == \"temp\"", "resource == Database::\"main\""],
    ),
];

/// Conditions that fit every topic, because they are about who asks.
const ABOUT_ANYBODY: &[&str] = &[
    "true",
    "principal in Profile::\"top\"",
    "principal in [Profile::\"side\", Profile::\"middle\"]",
    "principal is Module",
    "(principal is Module && principal.sha256 == \"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1\")",
    "(principal is Caller && principal has tenant && principal.tenant like \"b*\")",
    "1 + 1 == 2",
];

fn condition(topic: usize) -> Text {
    let leaf = prop_oneof![3 => one_of(TOPICS[topic].2), 2 => one_of(ABOUT_ANYBODY)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
    .boxed()
}

/// One policy or template without its name; how its slots are filled.
#[derive(Debug, Clone)]
struct Draft {
    text: String,
    links: Vec<BTreeMap<&'static str, &'static str>>,
}

fn draft() -> BoxedStrategy<Draft> {
    let topic = 0..TOPICS.len();
    topic
        .prop_flat_map(|topic| {
            let clause = (any::<bool>(), condition(topic));
            let slots = prop::collection::vec(
                prop::sample::select(&["Profile::\"top\"", "Profile::\"low\"", "Profile::\"side\""][..]),
                1..3,
            );
            (
                prop::bool::weighted(0.2),
                principal_scope(),
                one_of(TOPICS[topic].0),
                one_of(TOPICS[topic].1),
                prop::collection::vec(clause, 0..3),
                prop::option::weighted(0.25, slots),
            )
        })
        .prop_map(|(forbids, principal, action, resource, clauses, slots)| {
            let effect = if forbids { "forbid" } else { "permit" };
            let principal = if slots.is_some() {
                "principal in ?principal".to_owned()
            } else {
                principal
            };
            let clauses: String = clauses
                .iter()
                .map(|(unless, condition)| format!("\n{} {{ {condition} }}", if *unless { "unless" } else { "when" }))
                .collect();
            Draft {
                text: format!("{effect} ({principal}, {action}, {resource}){clauses};"),
                links: slots
                    .into_iter()
                    .flatten()
                    .map(|profile| BTreeMap::from([("?principal", profile)]))
                    .collect(),
            }
        })
        .boxed()
}

fn sources(drafts: &[Draft]) -> [Source; 3] {
    let mut policies = String::new();
    let mut links = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        policies += &format!("@id(\"p{index}\")\n{}\n", draft.text);
        for (number, args) in draft.links.iter().enumerate() {
            let (template, link) = (format!("p{index}"), format!("p{index}-{number}"));
            links.push(serde_json::json!({"template_id": template, "link_id": link, "args": args}));
        }
    }
    let source = |name: &str, text: String, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    [
        source("random.cedar", policies, SourceKind::Policies),
        source("random.entities.json", ENTITIES.to_owned(), SourceKind::Entities),
        source("random.links.json", Json::from(links).to_string(), SourceKind::Links),
    ]
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::from_cedarschema_str(include_str!("../schema.cedarschema"))
        .unwrap()
        .0
});

/// What the authorizer says over the whole set, with links as Cedar makes them.
struct Oracle {
    policies: PolicySet,
}

fn uid(text: &str) -> EntityUid {
    text.parse().unwrap()
}

impl Oracle {
    fn new(drafts: &[Draft]) -> Self {
        let mut policies = PolicySet::new();
        for (index, draft) in drafts.iter().enumerate() {
            let id = PolicyId::new(format!("p{index}"));
            if draft.links.is_empty() {
                policies.add(Policy::parse(Some(id), &draft.text).unwrap()).unwrap();
                continue;
            }
            policies
                .add_template(Template::parse(Some(id.clone()), &draft.text).unwrap())
                .unwrap();
            for (number, args) in draft.links.iter().enumerate() {
                let link = PolicyId::new(format!("p{index}-{number}"));
                let values = args.values().map(|value| (SlotId::principal(), uid(value)));
                policies.link(id.clone(), link, values.collect()).unwrap();
            }
        }
        Self { policies }
    }

    fn allows(&self, principal: &Principal, entities: &Entities, asked: &Asked) -> bool {
        let context = asked.context.iter().map(|(name, value)| {
            let Value::Text(text) = value else {
                panic!("only strings are asked with")
            };
            ((*name).to_owned(), RestrictedExpression::new_string(text.clone()))
        });
        let request = Request::new(
            uid(&format!(
                "{}::{}",
                principal.kind.name(),
                Json::from(principal.id.as_str())
            )),
            uid(&format!("Action::{}", Json::from(asked.action.id()))),
            uid(&asked.resource.to_string()),
            Context::from_pairs(context).unwrap(),
            Some(&SCHEMA),
        )
        .unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.policies, entities);
        let is_forbid = |error: &AuthorizationError| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            self.policies.policy(error.policy_id()).unwrap().effect() == Effect::Forbid
        };
        response.decision() == Ruling::Allow && !response.diagnostics().errors().any(is_forbid)
    }
}

/// Everything that is declared, the principal, and a resource with what follows from its name.
fn world(principal: &Principal, resource: &Resource) -> Entities {
    let parents = |resource: &Resource| {
        resource
            .parents()
            .iter()
            .map(|parent| uid(&parent.to_string()))
            .collect()
    };
    let mut entities = Entities::from_json_str(ENTITIES, Some(&SCHEMA)).unwrap();
    let asker = uid(&format!(
        "{}::{}",
        principal.kind.name(),
        Json::from(principal.id.as_str())
    ));
    let mut more = Vec::new();
    if entities.get(&asker).is_none() {
        let sha256 = principal
            .sha256
            .iter()
            .map(|text| ("sha256".to_owned(), RestrictedExpression::new_string(text.clone())));
        let profile = uid(&format!("Profile::{}", Json::from(principal.profile.as_str())));
        more.push(Entity::new(asker, sha256.collect(), [profile].into()).unwrap());
    }
    let resource_uid = uid(&resource.to_string());
    if entities.get(&resource_uid).is_none() {
        let attributes = resource.attributes().into_iter();
        let attributes = attributes.map(|(name, value)| (name.to_owned(), RestrictedExpression::new_string(value)));
        more.push(Entity::new(resource_uid, attributes.collect(), parents(resource)).unwrap());
    }
    entities = entities.add_entities(more, Some(&SCHEMA)).unwrap();
    entities
}

/// One set of policies against the authorizer: how many answers were compared, and how many of them were yes.
fn compare(drafts: &[Draft], worlds: &[Vec<Entities>]) -> Result<(usize, usize), TestCaseError> {
    let store = match PolicyStore::load(&sources(drafts), Stock::Without) {
        Ok(store) => store,
        Err(error) => {
            // Some random policies can never apply, and nothing else is wrong with any.
            for finding in error.findings() {
                prop_assert!(finding.code == Code::ValidationWarning, "{finding}\n{drafts:#?}");
            }
            return Ok((0, 0));
        }
    };
    let oracle = Oracle::new(drafts);
    let (mut compared, mut allowed) = (0, 0);
    for (principal, worlds) in principals().iter().zip(worlds) {
        let plan = store.plan(principal).unwrap();
        let crossed: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        for (asked, world) in QUESTIONS.iter().zip(worlds) {
            let expected = oracle.allows(principal, world, asked);
            let question = Question {
                action: asked.action,
                resource: &asked.resource,
                context: &asked.context,
            };
            let decision = crossed.decide(&question);
            prop_assert!(
                decision.allowed == expected,
                "{} {} {:?} as {principal:?}: {decision:?}, not {expected}\n{}",
                asked.action.id(),
                asked.resource,
                asked.context,
                sources(drafts)[0].text
            );
            if let Some(bit) = plan.bit(asked.action) {
                prop_assert_eq!(bit, expected);
            }
            compared += 1;
            allowed += usize::from(expected);
        }
    }
    Ok((compared, allowed))
}

#[test]
fn a_plan_decides_as_the_authorizer_does() {
    let worlds: Vec<Vec<Entities>> = principals()
        .iter()
        .map(|principal| {
            QUESTIONS
                .iter()
                .map(|asked| world(principal, &asked.resource))
                .collect()
        })
        .collect();
    let totals = std::cell::Cell::new((0, 0));
    // A set that does not load costs nothing and shows nothing; others are made until there are enough.
    while totals.get().0 < POINTS {
        let before = totals.get().0;
        let mut runner = TestRunner::new(Config {
            cases: SETS,
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&prop::collection::vec(draft(), 2..14), |drafts| {
            let (compared, allowed) = compare(&drafts, &worlds)?;
            let (all, yes) = totals.get();
            totals.set((all + compared, yes + allowed));
            Ok(())
        });
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        assert!(totals.get().0 > before, "no random set loads");
    }
    let (compared, allowed) = totals.get();
    println!("{compared} answers compared, {allowed} of them yes");
    assert!(compared >= POINTS);
    // Both answers are met often, so that neither is right by being the only one.
    let seldom = compared / 50;
    assert!(
        allowed > seldom && compared - allowed > seldom,
        "{allowed} of {compared} are yes"
    );
}
