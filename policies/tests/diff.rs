//! Each kind of change, beside the same text changed in a way that means the same.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in a test a panic is the report"
)]

use proptest::prelude::*;
use stockade_policies::diff::{Change, Difference, Direction, Evidence, Example, Extent, What};
use stockade_policies::{
    Action, Bound, Capability, LoadError, Meter, PolicyStore, Principal, PrincipalKind, Question, Resource, Source,
    SourceKind, SqlAction, Stock, Value, diff,
};

/// `q` is in `p`.
const PROFILES: &str = r#"[
  {"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Profile", "id": "q"}, "attrs": {}, "parents": [{"type": "Profile", "id": "p"}]}
]"#;

fn store(policies: &str, entities: &str) -> PolicyStore {
    loaded(policies, entities, Stock::Without)
}

fn loaded(policies: &str, entities: &str, stock: Stock) -> PolicyStore {
    loads(policies, entities, stock).unwrap_or_else(|error| panic!("{error}\n{policies}"))
}

fn loads(policies: &str, entities: &str, stock: Stock) -> Result<PolicyStore, LoadError> {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let sources = [
        source("a.cedar", policies, SourceKind::Policies),
        source("a.entities.json", entities, SourceKind::Entities),
    ];
    PolicyStore::load(&sources, stock)
}

fn between(old: &str, new: &str) -> Difference {
    diff(&store(old, PROFILES), &store(new, PROFILES)).unwrap()
}

/// What changed for a profile.
fn changes<'a>(difference: &'a Difference, name: &str) -> &'a [Change] {
    let principal = Principal::profile(name);
    let found = difference.principals.iter().find(|found| found.principal == principal);
    found.map_or(&[], |found| &found.changes)
}

#[track_caller]
fn assert_no_change(old: &str, new: &str) {
    for (old, new) in [(old, new), (new, old)] {
        let difference = between(old, new);
        assert!(difference.is_empty(), "{difference:#?}");
        assert!(!difference.may_widen() && !difference.may_narrow());
    }
}

/// The one change of `q`, which goes this way, and the other way where old and new change places.
#[track_caller]
fn assert_change(old: &str, new: &str, direction: Direction) -> What {
    let there = between(old, new);
    let [change] = changes(&there, "q") else {
        panic!("{there:#?}");
    };
    assert_eq!(change.direction, direction, "{change:#?}");
    let back = between(new, old);
    let opposite = match direction {
        Direction::Widening => Direction::Narrowing,
        Direction::Narrowing => Direction::Widening,
        same => same,
    };
    assert_eq!(changes(&back, "q")[0].direction, opposite, "{back:#?}");
    change.what.clone()
}

fn examples(what: What) -> Vec<Example> {
    match what {
        What::Action { examples, .. } => examples,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn extents(what: &What) -> (Extent, Extent) {
    match what {
        What::Action { old, new, .. } => (old.extent, new.extent),
        other => panic!("{other:?}"),
    }
}

fn elapse(id: &str, most: &str) -> String {
    format!(
        r#"@id("{id}") permit (principal in Profile::"q", action == Action::"elapse", resource == Meter::"guest") when {{ context.millis <= {most} }};"#
    )
}

fn read(id: &str, effect: &str, condition: &str) -> String {
    format!(
        r#"@id("{id}") {effect} (principal in Profile::"q", action == Action::"read", resource) when {{ {condition} }};"#
    )
}

#[test]
fn a_bound_moves() {
    let what = assert_change(&elapse("a", "500"), &elapse("b", "2000"), Direction::Widening);
    let What::Bound { old, new } = what else {
        panic!("{what:?}")
    };
    assert_eq!(
        (old.meter, old.bound, new.bound),
        (Meter::Elapse, Bound::Limited(500), Bound::Limited(2000))
    );
    assert_eq!(
        (old.policies, new.policies),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
}

#[test]
fn a_bound_appears_and_vanishes() {
    let what = assert_change("", &elapse("a", "500"), Direction::Widening);
    assert!(matches!(what, What::Bound { old, .. } if old.bound == Bound::Limited(0) && old.policies.is_empty()));
    let free =
        r#"@id("a") permit (principal in Profile::"q", action == Action::"elapse", resource == Meter::"guest");"#;
    let what = assert_change(&elapse("a", "500"), free, Direction::Widening);
    assert!(matches!(what, What::Bound { new, .. } if new.bound == Bound::Unbounded));
}

#[test]
fn a_bound_that_is_said_otherwise_does_not_change() {
    assert_no_change(&elapse("a", "500"), &elapse("renamed", "5 * 100"));
    let split = format!("{}\n{}", elapse("a", "500"), elapse("b", "300"));
    assert_no_change(&elapse("a", "500"), &split);
    let forbidden =
        r#"@id("f") forbid (principal, action == Action::"elapse", resource) unless { context.millis <= 500 };"#;
    assert_no_change(&elapse("a", "500"), &format!("{}\n{forbidden}", elapse("a", "9000")));
    let largest = i64::MAX.to_string();
    let free =
        r#"@id("a") permit (principal in Profile::"q", action == Action::"elapse", resource == Meter::"guest");"#;
    assert_no_change(&elapse("a", &largest), free);
}

#[test]
fn an_action_is_gained() {
    let granted = r#"@id("c") permit (principal in Profile::"q", action == Action::"readClock", resource);"#;
    let what = assert_change("", granted, Direction::Widening);
    assert_eq!(extents(&what), (Extent::Nothing, Extent::Everything));
    assert!(examples(what).is_empty(), "every question is an example");
    let on_one = r#"@id("c") permit (principal in Profile::"q", action == Action::"readClock", resource == HostFunction::"stockade#clock_now_ms");"#;
    let what = assert_change("", on_one, Direction::Widening);
    assert_eq!(extents(&what), (Extent::Nothing, Extent::Some));
    assert_eq!(examples(what)[0].resource, r#"HostFunction::"stockade#clock_now_ms""#);
    let what = assert_change(on_one, granted, Direction::Widening);
    assert_eq!(extents(&what), (Extent::Some, Extent::Everything));
    assert_eq!(examples(what)[0].resource, r#"HostFunction::"x""#);
}

#[test]
fn an_action_that_is_granted_otherwise_does_not_change() {
    let scope = |id: &str, action: &str| {
        format!(r#"@id("{id}") permit (principal in Profile::"q", action {action}, resource);"#)
    };
    let apart = [
        scope("a", r#"== Action::"readClock""#),
        scope("b", r#"== Action::"readRandom""#),
    ]
    .concat();
    let together = scope("both", r#"in [Action::"readRandom", Action::"readClock"]"#);
    assert_no_change(&apart, &together);
    let reordered = [
        scope("b", r#"== Action::"readRandom""#),
        scope("a", r#"== Action::"readClock""#),
    ]
    .concat();
    assert_no_change(&apart, &reordered);
    let reformatted = apart
        .replace(", ", "\n  ,\t// why\n ")
        .replace("@id", "@reason(\"new\") @id");
    assert_no_change(&apart, &reformatted);
}

#[test]
fn a_condition_on_the_resource_changes() {
    let old = read("r", "permit", r#"resource in Table::"main.staff""#);
    let wider = read("r", "permit", r#"resource in Database::"main""#);
    let example = &examples(assert_change(&old, &wider, Direction::Widening))[0];
    assert!(!example.old.allowed && example.new.allowed);
    assert_eq!(example.resource, r#"Column::"main.x.x""#);
    let other = read("r", "permit", r#"resource in Table::"main.rooms""#);
    let found = examples(assert_change(&old, &other, Direction::Both));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].resource, r#"Column::"main.rooms.x""#);
    assert_eq!(found[1].resource, r#"Column::"main.staff.x""#);
}

#[test]
fn a_forbid_is_dropped() {
    let permit = read("r", "permit", r#"resource in Table::"main.staff""#);
    let forbid = read("no-salary", "forbid", r#"resource == Column::"main.staff.salary""#);
    let example = &examples(assert_change(
        &format!("{permit}{forbid}"),
        &permit,
        Direction::Widening,
    ))[0];
    assert_eq!(example.resource, r#"Column::"main.staff.salary""#);
    assert_eq!(example.old.policies, ["no-salary"]);
    assert_eq!(example.new.policies, ["r"]);
}

#[test]
fn a_condition_on_the_context_changes() {
    let pragma = |condition: &str| {
        format!(
            r#"@id("p") permit (principal in Profile::"q", action == Action::"pragma", resource == Pragma::"user_version") {condition};"#
        )
    };
    let old = pragma("unless { context has argument }");
    let new = pragma(r#"when { if context has argument then context.argument == "7" else true }"#);
    let example = &examples(assert_change(&old, &new, Direction::Widening))[0];
    assert_eq!(example.context["argument"], "7");
    assert_no_change(&old, &pragma("when { !(context has argument) }"));
}

#[test]
fn a_pattern_changes() {
    let old = read("r", "permit", r#"resource.table like "report_*""#);
    let wider = read("r", "permit", r#"resource.table like "report*""#);
    let example = &examples(assert_change(&old, &wider, Direction::Widening))[0];
    assert_eq!(example.resource, r#"Column::"main.report.x""#);
}

#[test]
fn residuals_that_are_said_otherwise_do_not_change() {
    let (a, b) = (r#"resource in Table::"main.a""#, r#"resource in Table::"main.b""#);
    let apart = [read("a", "permit", a), read("b", "permit", b)].concat();
    assert_no_change(&apart, &read("both", "permit", &format!("{b} || {a}")));
    assert_no_change(
        &apart,
        &read("both", "permit", r#"resource in [Table::"main.a", Table::"main.b"]"#),
    );
    let in_scope =
        r#"@id("a") permit (principal in Profile::"q", action == Action::"read", resource in Table::"main.a");"#;
    assert_no_change(&read("a", "permit", a), in_scope);
    let scoped = read("a", "permit", &format!("{a} && principal in Profile::\"p\""));
    assert_no_change(&read("a", "permit", a), &scoped);
    let except = format!("{}{}", read("a", "permit", "true"), read("f", "forbid", b));
    assert_no_change(&except, &read("a", "permit", &format!("!({b})")));
    let turned = |condition| read("a", "permit", condition);
    assert_no_change(
        &turned("resource.table == resource.name"),
        &turned("resource.name == resource.table"),
    );
}

#[test]
fn what_moves_to_the_profile_above_changes_only_that() {
    let own = [
        elapse("a", "500"),
        read("r", "permit", r#"resource in Table::"main.a""#),
    ]
    .concat();
    let difference = between(&own, &own.replace("Profile::\"q\"", "Profile::\"p\""));
    assert_eq!(changes(&difference, "q"), []);
    assert_eq!(changes(&difference, "p").len(), 2);
    assert!(difference.may_widen() && !difference.may_narrow());
}

#[test]
fn nesting_counts_by_what_it_comes_to() {
    let policies = [
        elapse("a", "500").replace("\"q\"", "\"p\""),
        read("r", "permit", "true"),
    ]
    .concat();
    let apart = PROFILES.replace(r#"[{"type": "Profile", "id": "p"}]"#, "[]");
    let difference = diff(&store(&policies, PROFILES), &store(&policies, &apart)).unwrap();
    let [Change { direction, what, .. }] = changes(&difference, "q") else {
        panic!("{difference:#?}")
    };
    assert_eq!(*direction, Direction::Narrowing);
    assert!(matches!(what, What::Bound { new, .. } if new.bound == Bound::Limited(0)));
    let unused = [read("r", "permit", "true")].concat();
    assert!(
        diff(&store(&unused, PROFILES), &store(&unused, &apart))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn profiles_come_and_go() {
    let policies = [elapse("a", "500").replace("\"q\"", "\"p\"")].concat();
    let only_p = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;
    let (without, with) = (store(&policies, only_p), store(&policies, PROFILES));
    let added = diff(&without, &with).unwrap();
    assert_eq!(changes(&added, "p"), []);
    let [profile, bound] = changes(&added, "q") else {
        panic!("{added:#?}")
    };
    assert_eq!(profile.what, What::Profile { is_declared: true });
    assert!(matches!(&bound.what, What::Bound { new, .. } if new.bound == Bound::Limited(500)));
    assert!(added.may_widen() && !added.may_narrow());
    let removed = diff(&with, &without).unwrap();
    assert_eq!(changes(&removed, "q")[0].what, What::Profile { is_declared: false });
    assert!(!removed.may_widen() && removed.may_narrow());
}

#[test]
fn guests_stand_apart_only_where_they_differ() {
    let for_callers = |most: u32| elapse("a", "500") + &elapse("c", &format!("{most} && principal is Caller"));
    let difference = between(&for_callers(600), &for_callers(900));
    let kinds: Vec<_> = difference.principals.iter().map(|found| found.principal.kind).collect();
    assert_eq!(kinds, [PrincipalKind::Caller]);
    let same = between(&for_callers(600), &for_callers(600).replace("500", "550"));
    assert_eq!(changes(&same, "q").len(), 1);
    assert_eq!(
        same.principals.len(),
        1,
        "the caller's bound is 600 on both sides: {same:#?}"
    );
}

#[test]
fn a_guest_that_is_only_named_counts() {
    let named = |caller: &str| {
        format!(r#"@id("a") permit (principal == Caller::"{caller}", action == Action::"attach", resource);"#)
    };
    let difference = between("", &named("alice"));
    let who: Vec<(&str, &str)> = difference
        .principals
        .iter()
        .map(|found| (found.principal.id.as_str(), found.principal.profile.as_str()))
        .collect();
    assert_eq!(who, [("alice", "p"), ("alice", "q")]);
    assert!(difference.may_widen());
    let moved = between(&named("alice"), &named("bob"));
    assert!(moved.may_widen() && moved.may_narrow());
    let everybody = r#"@id("a") permit (principal is Caller, action == Action::"attach", resource);"#;
    let who: Vec<String> = between("", &format!("{everybody}{}", named("alice").replace("\"a\"", "\"b\"")))
        .principals
        .into_iter()
        .map(|found| found.principal.id)
        .collect();
    assert_eq!(who.iter().filter(|id| *id == "anybody").count(), 2, "{who:?}");
}

#[test]
fn a_pinned_module_is_set_free() {
    let module = |parents: &str| {
        let digest = "ab".repeat(32);
        let row = format!(
            r#", {{"uid": {{"type": "Module", "id": "{digest}"}}, "attrs": {{"sha256": "{digest}"}}, "parents": [{parents}]}}]"#
        );
        PROFILES.trim_end_matches(']').to_owned() + &row
    };
    let policies = elapse("a", "500");
    let pinned = |profile: &str| module(&format!(r#"{{"type": "Profile", "id": "{profile}"}}"#));
    let between = |old: &str, new: &str| diff(&store(&policies, old), &store(&policies, new)).unwrap();
    let freed = between(&pinned("p"), PROFILES);
    let [only] = freed.principals.as_slice() else {
        panic!("{freed:#?}")
    };
    assert_eq!(only.principal.kind, PrincipalKind::Module);
    assert_eq!(
        (only.changes[0].direction, &only.changes[0].what),
        (
            Direction::Widening,
            &What::Confinement {
                old: Some(vec!["p".to_owned()]),
                new: None
            }
        )
    );
    assert!(!between(PROFILES, &pinned("p")).may_widen());
    assert!(between(&pinned("p"), &pinned("p")).is_empty());
    // Into a profile that may run for 500 ms, and one that may not run at all.
    let moved = between(&pinned("p"), &pinned("q"));
    let [only] = moved.principals.as_slice() else {
        panic!("{moved:#?}")
    };
    assert!(
        only.changes
            .iter()
            .any(|change| matches!(&change.what, What::Bound { .. })),
        "{moved:#?}"
    );
}

#[test]
fn what_is_declared_about_a_resource_counts() {
    let function = |class: &str| {
        let row = format!(
            r#", {{"uid": {{"type": "SqlFunction", "id": "ours"}}, "attrs": {{}}, "parents": [{{"type": "SqlFunctionClass", "id": "{class}"}}]}}]"#
        );
        PROFILES.trim_end_matches(']').to_owned() + &row
    };
    let policies = r#"@id("f") permit (principal in Profile::"q", action == Action::"callFunction", resource in SqlFunctionClass::"computing");"#;
    let (old, new) = (
        store(policies, &function("clock")),
        store(policies, &function("computing")),
    );
    let difference = diff(&old, &new).unwrap();
    let [change] = changes(&difference, "q") else {
        panic!("{difference:#?}")
    };
    assert_eq!(change.widening, Evidence::Shown);
    assert_eq!(examples(change.what.clone())[0].resource, r#"SqlFunction::"ours""#);
    assert!(diff(&old, &old).unwrap().is_empty());
}

#[test]
fn what_cannot_be_told_counts_as_wider() {
    // It is `ba` that makes the difference, and neither pattern suggests it.
    let in_any_order = read(
        "r",
        "permit",
        r#"resource.table like "*a*" && resource.table like "*b*""#,
    );
    let in_order = read("r", "permit", r#"resource.table like "*a*b*""#);
    let unknown = between(&in_order, &in_any_order);
    let [change] = changes(&unknown, "q") else {
        panic!("{unknown:#?}")
    };
    assert_eq!(
        (change.direction, change.narrowing),
        (Direction::Unknown, Evidence::Excluded)
    );
    assert!(examples(change.what.clone()).is_empty());
    assert!(unknown.may_widen() && !unknown.may_narrow());
    let back = between(&in_any_order, &in_order);
    assert!(!back.may_widen() && back.may_narrow(), "{back:#?}");
}

#[test]
fn the_stock_does_not_differ_from_itself() {
    let stock = PolicyStore::stock().unwrap();
    assert!(diff(&stock, &stock).unwrap().is_empty());
}

#[test]
fn the_example_of_the_book() {
    let example = include_str!("../examples/grants.cedar");
    let entities = include_str!("../examples/grants.entities.json");
    let old = loaded(example, entities, Stock::With);
    let new = loaded(
        &example.replace("main.staff.salary", "main.staff.pay"),
        entities,
        Stock::With,
    );
    let difference = diff(&old, &new).unwrap();
    let names: Vec<&str> = difference
        .principals
        .iter()
        .map(|found| found.principal.id.as_str())
        .collect();
    assert_eq!(names, ["reports"]);
    let [change] = changes(&difference, "reports") else {
        panic!("{difference:#?}")
    };
    assert_eq!(change.direction, Direction::Both);
    let found: Vec<String> = examples(change.what.clone())
        .into_iter()
        .map(|example| example.resource)
        .collect();
    assert_eq!(found, [r#"Column::"main.staff.salary""#, r#"Column::"main.staff.pay""#]);
}

// ---------- random edits ----------

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(&["main.staff", "main.notes", "temp.staff"][..])
            .prop_map(|table| format!("resource in Table::\"{table}\"")),
        Just(r#"resource == Column::"main.staff.salary""#.to_owned()),
        Just(r#"resource in Database::"main""#.to_owned()),
        Just(r#"["staff", "notes"].contains(resource.table)"#.to_owned()),
        prop::sample::select(&["st*", "*aff", "n*t*", "*"][..])
            .prop_map(|pattern| format!("resource.table like \"{pattern}\"")),
        prop::sample::select(&["salary", "name"][..]).prop_map(|name| format!("resource.name == \"{name}\"")),
        Just("context has trigger".to_owned()),
        Just(r#"context has trigger && context.trigger == "log""#.to_owned()),
    ];
    leaf.prop_recursive(2, 5, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn policy() -> impl Strategy<Value = String> {
    let effect = || prop_oneof![2 => Just("permit"), 1 => Just("forbid")];
    let profile = prop::sample::select(&["p", "q"][..]);
    prop_oneof![
        3 => (effect(), profile.clone(), condition()).prop_map(|(effect, profile, condition)| {
            format!(r#"{effect} (principal in Profile::"{profile}", action == Action::"read", resource) when {{ {condition} }};"#)
        }),
        1 => (profile.clone(), prop::sample::select(&[5_u32, 6, 70, 900][..])).prop_map(|(profile, most)| {
            format!(r#"permit (principal in Profile::"{profile}", action == Action::"elapse", resource == Meter::"guest") when {{ context.millis <= {most} }};"#)
        }),
        1 => (effect(), profile).prop_map(|(effect, profile)| {
            format!(r#"{effect} (principal in Profile::"{profile}", action == Action::"readClock", resource);"#)
        }),
    ]
}

fn named(policies: &[String]) -> String {
    let with_id = |(index, text): (usize, &String)| format!("@id(\"n{index}\") {text}\n");
    policies.iter().enumerate().map(with_id).collect()
}

/// One question.
type Asked = (Action, Resource, Vec<(&'static str, Value)>);

/// Questions that owe nothing to the ones that `diff` thinks of.
fn sample() -> Vec<Asked> {
    let mut sample = vec![(
        Action::Host(Capability::ReadClock),
        Resource::host_function("stockade#clock_now_ms"),
        vec![],
    )];
    let trigger = |name: &str| vec![("trigger", Value::Text(name.to_owned()))];
    for database in ["main", "temp", "loot"] {
        for table in ["staff", "notes", "stuff", "riffraff", "knot", "other"] {
            for column in ["salary", "name", "id"] {
                for context in [vec![], trigger("log"), trigger("other")] {
                    let resource = Resource::column(database, table, column);
                    sample.push((Action::Sql(SqlAction::Read), resource, context));
                }
            }
        }
    }
    sample
}

/// Whether any sampled question, or any amount, is allowed by one side and denied by the other.
fn is_wider(from: &PolicyStore, to: &PolicyStore, profile: &str) -> bool {
    let plan = |store: &PolicyStore| store.plan(&Principal::profile(profile)).unwrap();
    let (from, to) = (plan(from), plan(to));
    let amounts = [1, 5, 6, 7, 70, 71, 900, 901];
    let wider_bound =
        |amount: &u64| to.bound(Meter::Elapse).permits(*amount) && !from.bound(Meter::Elapse).permits(*amount);
    let wider_answer = |(action, resource, context): &Asked| {
        let question = Question {
            action: *action,
            resource,
            context,
        };
        to.decide(&question).allowed && !from.decide(&question).allowed
    };
    amounts.iter().any(wider_bound) || sample().iter().any(wider_answer)
}

fn known(difference: &Difference, profile: &str, evidence: impl Fn(&Change) -> Evidence) -> (bool, bool) {
    let all = changes(difference, profile);
    (
        all.iter().any(|change| evidence(change) == Evidence::Shown),
        all.iter().any(|change| evidence(change) == Evidence::Open),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the sample shows, `diff` shows; and what `diff` does not call possible, no sample shows.
    #[test]
    fn no_widening_is_missed(
        common in prop::collection::vec(policy(), 0..3),
        dropped in prop::collection::vec(policy(), 0..2),
        added in prop::collection::vec(policy(), 0..2),
    ) {
        let (before, now) = ([common.clone(), dropped].concat(), [added, common].concat());
        // Some random conditions can never hold, and Cedar says so.
        let stores = [before, now].map(|policies| loads(&named(&policies), PROFILES, Stock::Without).ok());
        let [Some(old), Some(new)] = stores else { return Err(TestCaseError::reject("a policy is impossible")) };
        let difference = diff(&old, &new).unwrap();
        for profile in ["p", "q"] {
            let (widens, narrows) = (is_wider(&old, &new, profile), is_wider(&new, &old, profile));
            let (shown, open) = known(&difference, profile, |change| change.widening);
            prop_assert!(!widens || shown, "missed a widening of {profile}\n{difference:#?}");
            prop_assert!(widens || shown || open || changes_only_narrow(&difference, profile));
            let (shown_back, _) = known(&difference, profile, |change| change.narrowing);
            prop_assert!(!narrows || shown_back, "missed a narrowing of {profile}\n{difference:#?}");
            for change in changes(&difference, profile) {
                if let What::Action { action, examples, .. } = &change.what {
                    for example in examples {
                        prop_assert!(holds(&old, &new, profile, *action, example), "{example:?}");
                    }
                }
            }
        }
    }
}

fn changes_only_narrow(difference: &Difference, profile: &str) -> bool {
    changes(difference, profile)
        .iter()
        .all(|change| change.widening == Evidence::Excluded && change.direction == Direction::Narrowing)
}

/// The example is decided as it says, when asked again.
fn holds(old: &PolicyStore, new: &PolicyStore, profile: &str, action: Action, example: &Example) -> bool {
    let resource: Resource = example.resource.parse().unwrap();
    let context: Vec<(&'static str, Value)> = action
        .context()
        .iter()
        .filter_map(|attribute| {
            let value = example.context.get(attribute.name)?;
            Some((attribute.name, Value::Text(value.as_str().unwrap().to_owned())))
        })
        .collect();
    let decide = |store: &PolicyStore| {
        let plan = store.plan(&Principal::profile(profile)).unwrap();
        plan.decide(&Question {
            action,
            resource: &resource,
            context: &context,
        })
    };
    decide(old) == example.old && decide(new) == example.new && example.old.allowed != example.new.allowed
}

/// Nobody knows the digest of a module that has not come yet, so a policy that asks for one is not compared.
#[test]
fn a_policy_about_digests_is_never_called_unchanged() {
    let digest = "ab".repeat(32);
    let with = |condition: &str| {
        format!(
            "@id(\"x\") permit (principal is Module in Profile::\"p\", action == Action::\"readClock\", resource) \
             when {{ {condition} }};"
        )
    };
    for condition in [
        format!("principal.sha256 == \"{digest}\""),
        "principal.sha256 like \"89*\"".to_owned(),
        "!(principal.sha256 like \"0*\")".to_owned(),
    ] {
        let difference = between("", &with(&condition));
        assert!(difference.may_widen(), "{condition}: {difference:#?}");
        let same = between(&with(&condition), &with(&condition));
        assert!(!same.may_widen(), "{condition}: {same:#?}");
    }
}

/// A guest is never the profile: what is said of that alone is not what is said of its members.
#[test]
fn the_members_of_a_profile_are_compared_too() {
    let policy = |scope: &str| format!("@id(\"x\") permit ({scope}, action == Action::\"readClock\", resource);");
    let difference = between(
        &policy("principal == Profile::\"p\""),
        &policy("principal in Profile::\"p\""),
    );
    assert!(difference.may_widen(), "{difference:#?}");
    let telling = "@id(\"x\") permit (principal in Profile::\"p\", action == Action::\"readClock\", resource) \
                   when { !(principal is Profile) };";
    assert!(between("", telling).may_widen());
}

#[test]
fn what_a_publisher_may_is_shown_as_what_it_signed_may() {
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let acme = format!(
        r#", {{"uid": {{"type": "Publisher", "id": "acme"}}, "attrs": {{"ed25519": "{key}"}}, "parents": []}}]"#
    );
    let entities = PROFILES.trim_end().trim_end_matches(']').to_owned() + &acme;
    let clock = r#"@id("clock") permit (principal in Publisher::"acme", action == Action::"readClock", resource);"#;
    let (without, with) = (store("", &entities), store(clock, &entities));
    for (old, new, direction) in [
        (&without, &with, Direction::Widening),
        (&with, &without, Direction::Narrowing),
    ] {
        let difference = diff(old, new).unwrap();
        let found: Vec<&Principal> = difference.principals.iter().map(|found| &found.principal).collect();
        let signed = |profile: &str| {
            let anybody = "0".repeat(64);
            Principal::module(&anybody, profile).signed_by("acme")
        };
        assert_eq!(found, [&signed("p"), &signed("q")]);
        let changes = difference.principals.iter().flat_map(|found| &found.changes);
        assert!(changes.clone().count() == 2 && changes.clone().all(|change| change.direction == direction));
    }
    // What its key is worth changes too, where it had none before.
    let keyless = entities.replace(&format!(r#""ed25519": "{key}""#), "");
    assert!(diff(&store(clock, &keyless), &with).unwrap().may_widen());
}
