//! Templates and the links that fill them: what they come to, and what is wrong with them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;

use stockade_policies::{
    Action, Bound, Code, Finding, Meter, PolicyStore, Principal, Question, Resource, Severity, Source, SourceKind,
    SqlAction, Stock,
};

const ENTITIES: &str = r#"[
  {"uid": {"type": "Profile", "id": "red"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Profile", "id": "blue"}, "attrs": {}, "parents": []}
]"#;

const TEMPLATES: &str = r#"// A ?principal in a comment is none.
@id("reader")
@reason("for ?principal")
permit (
  principal in ?principal, // not "?resource"
  action == Action::"read",
  resource in ?resource
) when { resource.name != "?principal" };

@id("memory")
permit (principal in ?principal, action == Action::"growMemory", resource == Meter::"store")
when { context.bytes <= 65536 };
"#;

const LINKS: &str = r#"[
  {"template_id": "reader", "link_id": "red-reads", "args": {"?principal": "Profile::\"red\"", "?resource": "Table::\"main.notes\""}},
  {"template_id": "reader", "link_id": "blue \"reads\"", "args": {"?resource": "Database::\"main\"", "?principal": "Profile::\"blue\""}},
  {"template_id": "memory", "link_id": "red-memory", "args": {"?principal": "Profile::\"red\""}}
]"#;

fn sources(policies: &str, links: &str) -> Vec<Source> {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    vec![
        source("grants.cedar", policies, SourceKind::Policies),
        source("grants.entities.json", ENTITIES, SourceKind::Entities),
        source("grants.links.json", links, SourceKind::Links),
    ]
}

/// What loading says, without the advice that `check` gives beyond it.
fn found(sources: &[Source], stock: Stock) -> Vec<Finding> {
    match PolicyStore::load(sources, stock) {
        Ok(store) => store.warnings().to_vec(),
        Err(error) => error.findings().to_vec(),
    }
}

fn findings(policies: &str, links: &str) -> Vec<Finding> {
    found(&sources(policies, links), Stock::Without)
}

/// The only finding, and what its place holds.
fn only(policies: &str, links: &str) -> (Finding, String) {
    let found = findings(policies, links);
    let [finding] = <[Finding; 1]>::try_from(found).unwrap();
    let place = finding.location.clone().unwrap();
    let source = sources(policies, links)
        .into_iter()
        .find(|source| source.name == place.source)
        .unwrap();
    let marked = source.text[place.offset..place.offset + place.length].to_owned();
    (finding, marked)
}

#[test]
fn a_link_is_an_ordinary_policy() {
    assert_eq!(findings(TEMPLATES, LINKS), []);
    let store = PolicyStore::load(&sources(TEMPLATES, LINKS), Stock::Without).unwrap();
    let plan = |profile: &str| store.plan(&Principal::profile(profile)).unwrap();
    assert_eq!(plan("red").bound(Meter::GrowMemory), Bound::Limited(65536));
    assert_eq!(plan("red").binding(Meter::GrowMemory), ["red-memory"]);
    assert_eq!(plan("blue").bound(Meter::GrowMemory), Bound::Limited(0));
    let reads = |profile: &str, resource: &Resource| {
        let decision = plan(profile).decide(&Question {
            action: Action::Sql(SqlAction::Read),
            resource,
            context: &[],
        });
        assert_eq!(decision.errors, [""; 0]);
        (decision.allowed, decision.policies)
    };
    let of = |allowed: bool, id: &str| (allowed, if allowed { vec![id.to_owned()] } else { vec![] });
    let notes = Resource::column("main", "notes", "body");
    let staff = Resource::column("main", "staff", "body");
    assert_eq!(reads("red", &notes), of(true, "red-reads"));
    assert_eq!(reads("red", &staff), of(false, ""));
    assert_eq!(reads("blue", &staff), of(true, "blue \"reads\""));
    assert_eq!(reads("blue", &Resource::column("temp", "staff", "body")), of(false, ""));
    // What stands in a string is no slot.
    assert_eq!(
        reads("red", &Resource::column("main", "notes", "?principal")),
        of(false, "")
    );
}

#[test]
fn a_link_is_located_at_its_template() {
    let store = PolicyStore::load(&sources(TEMPLATES, LINKS), Stock::Without).unwrap();
    let place = store.locate("red-memory").unwrap();
    assert_eq!(
        (place.source.as_str(), place.line, place.column),
        ("grants.cedar", 10, 1)
    );
    assert_eq!(store.locate("memory"), None);
}

#[test]
fn a_mistake_in_a_template_names_the_link() {
    let wrong =
        r#"@id("t") permit (principal in ?principal, action == Action::"growLog", resource == Meter::"store");"#;
    let links = r#"[{"template_id": "t", "link_id": "red-log", "args": {"?principal": "Profile::\"red\""}}]"#;
    for finding in findings(wrong, links) {
        assert!(
            finding
                .message
                .ends_with("template `t` is linked as `red-log` at grants.links.json:1:2"),
            "{finding}"
        );
        assert_eq!(finding.location.unwrap().to_string(), "grants.cedar:1:1");
    }
    let right = wrong.replace("store\");", "guest\") when { context.bytes <= 9 };");
    assert_eq!(findings(&right, links), []);
    let misspelt = right.replace("context.bytes", "context.byte");
    let [error] = <[Finding; 1]>::try_from(findings(&misspelt, links)).unwrap();
    assert_eq!(error.code, Code::Validation);
    assert!(error.message.contains("linked as `red-log`"), "{error}");
    let holes = right.replace("<= 9", "> 9");
    let [error] = <[Finding; 1]>::try_from(findings(&holes, links)).unwrap();
    assert_eq!(error.code, Code::MeterWithHoles);
    assert!(error.message.contains("linked as `red-log`"), "{error}");
}

#[test]
fn a_template_that_nobody_links_says_nothing() {
    let (finding, marked) = only(
        TEMPLATES,
        LINKS
            .rsplit_once(",\n")
            .map(|(rest, _)| format!("{rest}]"))
            .unwrap()
            .as_str(),
    );
    assert_eq!(
        (finding.code, finding.severity),
        (Code::UnlinkedTemplate, Severity::Warning)
    );
    assert_eq!(
        finding.message,
        "no link fills the template `memory`, so it says nothing"
    );
    assert_eq!(marked, "@id(\"memory\")");
    assert!(PolicyStore::load(&sources(TEMPLATES, "[]"), Stock::Without).is_ok());
}

#[test]
fn each_wrong_link_says_what_and_where() {
    let good = r#"{"template_id": "memory", "link_id": "red-memory", "args": {"?principal": "Profile::\"red\""}}"#;
    let template = TEMPLATES.split_once("\n\n").unwrap().1;
    assert_eq!(findings(template, &format!("[{good}]")), []);
    let cases: [(&str, &str, Code, &str); 11] = [
        (
            "\"template_id\": \"memory\"",
            "\"template_id\": \"memroy\"",
            Code::Link,
            "there is no template `memroy`",
        ),
        (
            r#"{"?principal": "Profile::\"red\""}"#,
            "{}",
            Code::Link,
            "nothing fills `?principal` of the template `memory`",
        ),
        (
            r#""args": {"#,
            r#""args": {"?resource": "Meter::\"store\"", "#,
            Code::Link,
            "the template `memory` has no slot `?resource`",
        ),
        (
            r#""args": {"#,
            r#""args": {"?principal": "Profile::\"blue\"", "#,
            Code::Link,
            "`?principal` is filled twice",
        ),
        (
            r#"Profile::\"red\""#,
            "red",
            Code::Link,
            "`?principal` is `red`, which is no entity",
        ),
        (
            r#"Profile::\"red\""#,
            r#"Table::\"main.t\""#,
            Code::Link,
            "`?principal` of `memory` is `Table::\"main.t\"`, which is never a principal",
        ),
        (
            r#"Profile::\"red\""#,
            r#"Person::\"red\""#,
            Code::Link,
            "`?principal` of `memory` is `Person::\"red\"`, which is never a principal",
        ),
        (
            "\"link_id\": \"red-memory\"",
            "\"link_id\": \"\"",
            Code::Link,
            "a link has no `link_id`",
        ),
        (
            "\"link_id\": \"red-memory\", ",
            "",
            Code::Link,
            "this is no link: missing field `link_id`",
        ),
        (
            "\"args\"",
            "\"note\": 1, \"args\"",
            Code::Link,
            "this is no link: unknown field `note`",
        ),
        (
            "\"link_id\": \"red-memory\"",
            "\"link_id\": \"memory\"",
            Code::DuplicateId,
            "the id `memory` is used twice",
        ),
    ];
    for (from, to, code, message) in cases {
        let wrong = good.replacen(from, to, 1);
        assert_ne!(wrong, good, "{from}");
        let found = findings(template, &format!("[\n  {wrong}\n]"));
        let finding = found.iter().find(|finding| finding.code == code).unwrap();
        assert!(finding.message.starts_with(message), "{finding}");
        assert_eq!(finding.severity, Severity::Error);
        assert_eq!(
            finding.location.as_ref().unwrap().to_string(),
            "grants.links.json:2:3",
            "{finding}"
        );
        assert!(finding.help.is_some(), "{finding}");
        let codes: BTreeSet<Code> = found.iter().map(|finding| finding.code).collect();
        assert!(codes.is_subset(&[code, Code::UnlinkedTemplate].into()), "{codes:?}");
    }
}

#[test]
fn a_profile_that_a_link_misspells_is_unknown() {
    let template = TEMPLATES.split_once("\n\n").unwrap().1;
    let links = r#"[{"template_id": "memory", "link_id": "m", "args": {"?principal": "Profile::\"rde\""}}]"#;
    let (finding, _) = only(template, links);
    assert_eq!(finding.code, Code::UnknownProfile);
    assert!(finding.help.unwrap().starts_with("did you mean `red`?"));
    assert!(finding.message.contains("linked as `m` at grants.links.json:1:2"));
}

#[test]
fn a_file_that_holds_no_links_is_refused() {
    let template = TEMPLATES.split_once("\n\n").unwrap().1;
    for (text, message, place) in [
        (
            "[\n  {\"template_id\" ]",
            "this is not JSON: expected `:`",
            "grants.links.json:2:18",
        ),
        ("{}", "this is JSON, but not an array of links", "grants.links.json:1:1"),
        (
            "[7]",
            "this is no link: invalid type: integer `7`, expected struct Link",
            "grants.links.json:1:2",
        ),
    ] {
        let found = findings(template, text);
        let finding = found.iter().find(|finding| finding.code == Code::Link).unwrap();
        assert_eq!(finding.message, message);
        assert_eq!(finding.location.as_ref().unwrap().to_string(), place);
    }
}

#[test]
fn two_links_with_one_name_are_refused_wherever_they_are() {
    let template = TEMPLATES.split_once("\n\n").unwrap().1;
    let link = |id: &str| {
        format!(r#"{{"template_id": "memory", "link_id": "{id}", "args": {{"?principal": "Profile::\"red\""}}}}"#)
    };
    let twice = format!("[{},\n{}]", link("a"), link("a"));
    let (finding, _) = only(template, &twice);
    assert_eq!(finding.code, Code::DuplicateId);
    assert_eq!(
        finding.help.as_deref(),
        Some("it is also used at grants.links.json:1:2")
    );
    let stock = found(&sources(template, &format!("[{}]", link("pure-deadline"))), Stock::With);
    assert_eq!(
        stock.iter().map(|finding| finding.code).collect::<Vec<_>>(),
        [Code::DuplicateId]
    );
    assert_eq!(findings(template, &format!("[{}, {}]", link("a"), link("b"))), []);
}

#[test]
fn a_template_needs_a_name() {
    let (finding, marked) = only(
        r#"permit (principal in ?principal, action == Action::"readClock", resource);"#,
        "[]",
    );
    assert_eq!(finding.code, Code::MissingId);
    assert!(marked.starts_with("permit"));
}
