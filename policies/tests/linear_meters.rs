//! Random policies on a meter: the plan stops exactly where Cedar's authorizer does, overflow included.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::LazyLock;

use cedar_policy::{Authorizer, Context, Decision, Entities, PolicySet, Request, RestrictedExpression, Schema};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use stockade_policies::{Code, Meter, PolicyStore, Principal, Source, SourceKind, Stock};

const PROFILE: &str = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;

/// Numbers where arithmetic goes wrong, and a few where it does not.
const NUMBERS: &[i64] = &[
    0,
    1,
    2,
    3,
    7,
    10,
    100,
    4096,
    4_194_304,
    i64::MAX / 2,
    i64::MAX - 1,
    i64::MAX,
    -1,
    -2,
    -10,
    i64::MIN / 2,
    i64::MIN + 1,
];

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![3 => prop::sample::select(NUMBERS), 1 => -200..200_i64]
}

/// An integer expression that is linear in the amount.
fn term() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => Just("context.bytes".to_owned()),
        1 => number().prop_map(|n| format!("({n})")),
        2 => (number(), number()).prop_map(|(a, b)| format!("(context.bytes * ({a}) + ({b}))")),
        1 => number().prop_map(|a| format!("(({a}) - context.bytes)")),
        1 => Just("(-(context.bytes))".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} - {b})")),
            // Small factors: the compiler follows numbers up to 128 bits and refuses what goes beyond.
            (inner.clone(), -9..10_i64).prop_map(|(a, n)| format!("({a} * ({n}))")),
            (inner.clone(), number(), inner)
                .prop_map(|(a, n, b)| format!("(if context.bytes < ({n}) then {a} else {b})")),
        ]
    })
}

fn condition() -> impl Strategy<Value = String> {
    let comparison = (
        term(),
        prop::sample::select(&["<", "<=", ">", ">=", "==", "!="][..]),
        number(),
    )
        .prop_map(|(term, op, n)| format!("{term} {op} ({n})"));
    let leaf = prop_oneof![
        4 => number().prop_map(|n| format!("context.bytes <= ({n})")),
        4 => comparison,
        1 => (prop::collection::vec(number(), 1..4), term()).prop_map(|(set, term)| {
            let set: Vec<String> = set.iter().map(|n| format!("({n})")).collect();
            format!("[{}].contains({term})", set.join(", "))
        }),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

fn policy() -> impl Strategy<Value = (bool, bool, String)> {
    (prop::bool::weighted(0.3), any::<bool>(), condition())
}

/// Policies that mostly make one interval: a limit, and corrections to it.
fn policies() -> impl Strategy<Value = String> {
    prop::collection::vec(policy(), 1..5).prop_map(|policies| {
        let mut text = String::new();
        for (index, (forbids, unless, condition)) in policies.into_iter().enumerate() {
            let effect = if forbids { "forbid" } else { "permit" };
            let keyword = if unless { "unless" } else { "when" };
            text += &format!(
                "@id(\"p{index}\")\n{effect} (principal in Profile::\"p\", action == Action::\"growMemory\", \
                 resource == Meter::\"store\")\n{keyword} {{ {condition} }};\n"
            );
        }
        text
    })
}

fn sources(policies: &str) -> [Source; 2] {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    [
        source("random.cedar", policies, SourceKind::Policies),
        source("random.entities.json", PROFILE, SourceKind::Entities),
    ]
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::from_cedarschema_str(include_str!("../schema.cedarschema"))
        .unwrap()
        .0
});

/// What the authorizer says.
struct Oracle {
    policies: PolicySet,
    entities: Entities,
}

impl Oracle {
    fn new(policies: &str) -> Self {
        Self {
            policies: policies.parse().unwrap(),
            entities: Entities::from_json_str(PROFILE, Some(&SCHEMA)).unwrap(),
        }
    }

    fn allows(&self, amount: i64) -> bool {
        let request = Request::new(
            "Profile::\"p\"".parse().unwrap(),
            "Action::\"growMemory\"".parse().unwrap(),
            "Meter::\"store\"".parse().unwrap(),
            Context::from_pairs([("bytes".to_owned(), RestrictedExpression::new_long(amount))]).unwrap(),
            Some(&SCHEMA),
        )
        .unwrap();
        Authorizer::new()
            .is_authorized(&request, &self.policies, &self.entities)
            .decision()
            == Decision::Allow
    }
}

fn points(random: &[i64], bound: Option<u64>) -> Vec<i64> {
    let bound = bound.and_then(|most| i64::try_from(most).ok());
    let around = NUMBERS.iter().chain(random).copied().chain(bound);
    let mut points: Vec<i64> = around
        .flat_map(|n| [n.saturating_sub(1), n, n.saturating_add(1)])
        .filter(|n| *n >= 0)
        .collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// What this test is worth: fewer comparisons are a failure. `random_grants.rs` makes as many again.
const POINTS: usize = 60_000;

/// Compares at every break point and around it: how many amounts, and how many of them were permitted.
fn compare(policies: &str, random: &[i64]) -> Result<(usize, usize), TestCaseError> {
    let store = match PolicyStore::load(&sources(policies), Stock::Without) {
        Ok(store) => store,
        Err(error) => {
            // What is refused is refused for a reason about numbers, never because two answers differed.
            let fair = [
                Code::MeterWithHoles,
                Code::ForbidCanError,
                Code::UnboundedMeter,
                Code::ValidationWarning,
            ];
            for finding in error.findings() {
                prop_assert!(fair.contains(&finding.code), "{finding}\n{policies}");
            }
            return Ok((0, 0));
        }
    };
    let bound = store.plan(&Principal::profile("p")).unwrap().bound(Meter::GrowMemory);
    let oracle = Oracle::new(policies);
    let points = points(random, bound.limit());
    let mut allowed = 0;
    for point in &points {
        let permitted = bound.permits(point.unsigned_abs());
        let expected = oracle.allows(*point);
        // A total of zero uses nothing, whatever anybody permits.
        let harmless = *point == 0 && bound.limit() == Some(0);
        prop_assert!(
            permitted == expected || harmless,
            "{bound} permits {point}: {permitted}\n{policies}"
        );
        allowed += usize::from(expected);
    }
    Ok((points.len(), allowed))
}

#[test]
fn a_plan_stops_where_the_authorizer_stops() {
    let totals = std::cell::Cell::new((0, 0));
    // Many random sets are refused; others are made until enough amounts were compared.
    while totals.get().0 < POINTS {
        let before = totals.get().0;
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let inputs = (policies(), prop::collection::vec(0..=i64::MAX, 32));
        let outcome = runner.run(&inputs, |(policies, random)| {
            let (compared, allowed) = compare(&policies, &random)?;
            let (all, yes) = totals.get();
            totals.set((all + compared, yes + allowed));
            Ok(())
        });
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        assert!(totals.get().0 > before, "no random set loads");
    }
    let (compared, allowed) = totals.get();
    println!("{compared} amounts compared, {allowed} of them permitted");
    assert!(compared >= POINTS);
    assert!(
        allowed > compared / 20 && allowed < compared - compared / 20,
        "{allowed} of {compared}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hole_is_really_there(limit in 0..1000_i64, gap in 1..50_i64, width in 1..50_i64, at in 0..50_i64) {
        let from = limit + gap;
        let policies = format!(
            "@id(\"a\") permit (principal, action == Action::\"growMemory\", resource) when {{ context.bytes < {limit} }};\n\
             @id(\"b\") permit (principal, action == Action::\"growMemory\", resource) \
             when {{ context.bytes >= {from} && context.bytes < {from} + {width} }};"
        );
        let codes = |policies: &str| -> Vec<Code> {
            PolicyStore::load(&sources(policies), Stock::Without).err().iter().flat_map(stockade_policies::LoadError::findings).map(|finding| finding.code).collect()
        };
        prop_assert_eq!(codes(&policies), [Code::MeterWithHoles]);
        let filled = format!("{policies}\n@id(\"c\") permit (principal, action == Action::\"growMemory\", resource) \
             when {{ context.bytes <= {from} + {at} }};");
        prop_assert!(codes(&filled).is_empty());
    }
}

/// A few that were interesting once, so that they are tried every time.
#[test]
fn remembered_policies() {
    let cases = [
        (
            "permit",
            "when",
            "context.bytes * 4 > -9223372036854775807",
            Some((i64::MAX / 4).unsigned_abs()),
        ),
        ("permit", "unless", "context.bytes + 1 > 100", Some(99)),
        ("permit", "when", "!(context.bytes - 1 >= 10)", Some(10)),
        (
            "permit",
            "when",
            "(-(context.bytes)) > (-9223372036854775807)",
            Some(i64::MAX.unsigned_abs() - 1),
        ),
        ("permit", "when", "[0, 1, 2, 3].contains(context.bytes)", Some(3)),
        ("permit", "when", "context.bytes == context.bytes", None),
    ];
    for (effect, keyword, condition, expected) in cases {
        let policies = format!(
            "@id(\"p\") {effect} (principal, action == Action::\"growMemory\", resource == Meter::\"store\") \
             {keyword} {{ {condition} }};"
        );
        let store = PolicyStore::load(&sources(&policies), Stock::Without).unwrap();
        let bound = store.plan(&Principal::profile("p")).unwrap().bound(Meter::GrowMemory);
        assert_eq!(bound.limit(), expected, "{condition}");
        if let Some(most) = expected.and_then(|most| i64::try_from(most).ok()) {
            let oracle = Oracle::new(&policies);
            assert!(oracle.allows(most) && !oracle.allows(most + 1), "{condition}");
        }
    }
}
