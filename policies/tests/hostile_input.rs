//! Too much, too deep, and round in circles: a finding in bounded time, and beside each the largest that loads.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use stockade_policies::{Code, Finding, PolicyStore, Principal, Severity, Source, SourceKind, Stock, check};

/// What a thread has by default. The tests run in such threads anyway; this does not depend on it.
const STACK: usize = 2 << 20;

fn source(name: &str, text: String, kind: SourceKind) -> Source {
    Source {
        name: name.to_owned(),
        text,
        kind,
    }
}

/// Checked, planned for and dropped on an ordinary thread's stack.
fn findings(sources: Vec<Source>) -> Vec<Finding> {
    let work = move || {
        // What is said beyond errors is advice, and none of it is about size.
        let mut found = check(&sources, Stock::Without).findings;
        found.retain(|finding| finding.severity == Severity::Error);
        let refused = !found.is_empty();
        match PolicyStore::load(&sources, Stock::Without) {
            Ok(store) => {
                assert!(!refused);
                for profile in store.profiles().iter().take(3) {
                    let plan = store.plan(&Principal::module("ab", profile)).unwrap();
                    let crossed: stockade_policies::Plan =
                        serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
                    assert_eq!(crossed.digest(), plan.digest());
                }
            }
            Err(error) => assert_eq!(error.findings(), found),
        }
        found
    };
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap()
}

fn codes(sources: Vec<Source>) -> Vec<Code> {
    findings(sources).iter().map(|finding| finding.code).collect()
}

fn policies(text: String) -> Vec<Source> {
    let profile = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;
    vec![
        source("a.cedar", text, SourceKind::Policies),
        source("a.entities.json", profile.to_owned(), SourceKind::Entities),
    ]
}

/// A policy on reading columns, so that its condition is kept, parsed again and evaluated.
fn with_condition(condition: &str) -> Vec<Source> {
    policies(format!(
        "@id(\"a\") permit (principal in Profile::\"p\", action == Action::\"createIndex\", resource)\nwhen {{ {condition} }};"
    ))
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    open.repeat(depth) + "resource.name == \"a\"" + &close.repeat(depth)
}

/// A condition that nests so deep.
type Condition = Box<dyn Fn(usize) -> String>;

#[test]
fn brackets_and_operators_may_nest_so_deep_and_no_deeper() {
    let cases: [(&str, usize, Condition); 8] = [
        ("(", 60, Box::new(|depth| nested("(", ")", depth))),
        ("!(", 49, Box::new(|depth| nested("!(", ")", depth))),
        (
            "&&",
            120,
            Box::new(|count| "resource.name != \"b\" && ".repeat(count / 2) + "true"),
        ),
        ("||", 240, Box::new(|count| "true || ".repeat(count) + "true")),
        ("+", 240, Box::new(|count| "1 + ".repeat(count) + "1 == 3")),
        (
            "if",
            120,
            Box::new(|count| "if resource.name like \"a\" then true else ".repeat(count) + "false"),
        ),
        (
            "[",
            60,
            Box::new(|depth| {
                format!(
                    "{}1{} == {}1{}",
                    "[".repeat(depth),
                    "]".repeat(depth),
                    "[".repeat(depth),
                    "]".repeat(depth)
                )
            }),
        ),
        (
            "{",
            60,
            Box::new(|depth| {
                format!(
                    "{}1{} == {}1{}",
                    "{a: ".repeat(depth),
                    "}".repeat(depth),
                    "{a: ".repeat(depth),
                    "}".repeat(depth)
                )
            }),
        ),
    ];
    for (what, most, condition) in cases {
        let fine = codes(with_condition(&condition(most)));
        assert!(!fine.contains(&Code::TooDeep), "{what} {fine:?}");
        assert!(fine.is_empty() || fine == [Code::ValidationWarning], "{what} {fine:?}");
        for depth in [3 * most, 10_000] {
            let text = condition(depth.min(1500));
            let found = findings(with_condition(&text));
            assert_eq!(
                found.iter().map(|finding| finding.code).collect::<Vec<_>>(),
                [Code::TooDeep],
                "{what} {depth}"
            );
            let place = found[0].location.as_ref().unwrap();
            assert!(place.line == 2 && place.column > 60, "{place}");
        }
    }
}

#[test]
fn a_line_of_brackets_is_refused_before_it_is_parsed() {
    for mark in ["(", "!", "[", "{", "-", "if ", "a.", "a::", "(!["] {
        let line = mark.repeat(60_000 / mark.len());
        let found = codes(policies(format!(
            "@id(\"a\") permit (principal, action, resource) when {{ {line} }};"
        )));
        let expected = if mark == "a::" { Code::Syntax } else { Code::TooDeep };
        assert_eq!(found, [expected], "{mark}");
        let longer = mark.repeat((1 << 20) / mark.len());
        assert_eq!(codes(policies(longer)), [Code::TooLarge], "{mark}");
    }
}

#[test]
fn a_policy_has_a_length() {
    let list = |count: usize| {
        let names: Vec<String> = (0..count).map(|index| format!("\"name-{index:08}\"")).collect();
        with_condition(&format!("[{}].contains(resource.name)", names.join(", ")))
    };
    assert_eq!(codes(list(3700)), []);
    assert_eq!(codes(list(3900)), [Code::TooLarge]);
}

#[test]
fn ten_megabytes_are_refused() {
    let comment = |bytes: usize| {
        let mut sources = policies("// nothing\n".repeat(bytes / 11));
        sources.push(source("b.cedar", String::new(), SourceKind::Policies));
        sources
    };
    assert_eq!(codes(comment(10 << 20)), [Code::TooLarge]);
    assert_eq!(codes(comment((4 << 20) - 1000)), []);
    for kind in [SourceKind::Entities, SourceKind::Links, SourceKind::Schema] {
        let text = " ".repeat(10 << 20);
        let found = findings(vec![source("big", text, kind)]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].code, found[0].location.as_ref().unwrap().source.as_str()),
            (Code::TooLarge, "big")
        );
    }
}

fn numbered(count: usize) -> Vec<Source> {
    let policy = |index: usize| {
        format!("@id(\"{index}\") permit (principal == Profile::\"p\", action == Action::\"select\", resource);")
    };
    policies((0..count).map(policy).collect())
}

#[test]
fn a_hundred_thousand_policies_are_refused() {
    let short: String = "a;".repeat(100_000);
    assert_eq!(codes(policies(short)), [Code::TooLarge]);
    assert_eq!(codes(numbered(4097)), [Code::TooLarge]);
    assert_eq!(codes(numbered(1500)), []);
    let links = format!("[{}]", vec!["{}"; 5000].join(","));
    assert_eq!(
        codes(vec![source("a.links.json", links, SourceKind::Links)]),
        [Code::TooLarge]
    );
}

fn entities(rows: impl Iterator<Item = (String, Vec<String>)>) -> Vec<Source> {
    let uid = |id: &str| format!("{{\"type\": \"Profile\", \"id\": \"{id}\"}}");
    let rows: Vec<String> = rows
        .map(|(id, parents)| {
            let parents: Vec<String> = parents.iter().map(|parent| uid(parent)).collect();
            format!(
                "{{\"uid\": {}, \"attrs\": {{}}, \"parents\": [{}]}}",
                uid(&id),
                parents.join(",")
            )
        })
        .collect();
    vec![source(
        "a.entities.json",
        format!("[{}]", rows.join(",\n")),
        SourceKind::Entities,
    )]
}

fn chain(length: usize, back: bool) -> Vec<Source> {
    entities((0..length).map(|index| {
        let above = if index + 1 < length {
            Some(index + 1)
        } else {
            back.then_some(0)
        };
        (
            format!("p{index:04}"),
            above.map(|above| format!("p{above:04}")).into_iter().collect(),
        )
    }))
}

#[test]
fn profiles_are_counted_and_circles_are_found() {
    assert_eq!(codes(chain(200, false)), []);
    assert_eq!(codes(chain(200, true)), [Code::ProfileCycle]);
    assert_eq!(codes(chain(512, true)), [Code::ProfileCycle]);
    assert_eq!(codes(chain(513, false)), [Code::TooLarge]);
    assert_eq!(codes(chain(20_000, true)), [Code::TooLarge]);
    let everybody: Vec<String> = (0..150).map(|index| format!("p{index:04}")).collect();
    let others = |id: &String| everybody.iter().filter(|other| *other != id).cloned().collect();
    let dense = everybody.iter().map(|id| (id.clone(), others(id)));
    assert_eq!(codes(entities(dense)), [Code::ProfileCycle]);
}

#[test]
fn policies_times_profiles_are_counted() {
    let profiles = |count: usize| entities((0..count).map(|index| (format!("p{index:04}"), vec![])));
    let everywhere: String = (0..60)
        .map(|index| {
            format!(
                "@id(\"{index}\") permit (principal, action in [Action::\"read\", Action::\"select\"], resource);\n"
            )
        })
        .collect();
    let with = |count: usize, text: &str| {
        let mut sources = profiles(count);
        sources.push(source("a.cedar", text.to_owned(), SourceKind::Policies));
        sources
    };
    assert_eq!(codes(with(20, &everywhere)), []);
    let everything: String = (0..200)
        .map(|index| format!("@id(\"{index}\") forbid (principal, action in Action::\"meters\", resource) when {{ {index} > 500 }};\n"))
        .collect();
    assert_eq!(codes(with(400, &everything)), [Code::TooLarge]);
}

#[test]
fn deep_json_and_schemas_are_refused() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(
        codes(vec![source("a.json", deep(100_000), SourceKind::Entities)]),
        [Code::Entities]
    );
    let attribute = format!(
        "[{{\"uid\": {{\"type\": \"Caller\", \"id\": \"a\"}}, \"attrs\": {{\"tenant\": {}}}, \"parents\": []}}]",
        deep(50_000)
    );
    assert_eq!(
        codes(vec![source("a.json", attribute, SourceKind::Entities)]),
        [Code::Entities]
    );
    let link = format!("[{{\"template_id\": {}}}]", deep(50_000));
    assert_eq!(
        codes(vec![source("a.links.json", link, SourceKind::Links)]),
        [Code::Link]
    );
    let schema = |depth: usize| {
        let type_ = "Set<".repeat(depth) + "Long" + &">".repeat(depth);
        vec![source(
            "a.cedarschema",
            format!("entity A = {{ \"a\": {type_} }};"),
            SourceKind::Schema,
        )]
    };
    assert_eq!(codes(schema(60)), []);
    assert_eq!(codes(schema(70)), [Code::TooDeep]);
    assert_eq!(codes(schema(100_000)), [Code::TooDeep]);
}
