//! Each thing that can be wrong, provoked, beside the same thing done right.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use stockade_policies::{Code, PlanError, PolicyStore, Principal, Severity, Source, SourceKind, Stock, check};

struct Case {
    code: Code,
    /// Policies and entities that provoke it.
    wrong: (&'static str, &'static str),
    /// The same, done right.
    right: (&'static str, &'static str),
}

const NO_ENTITIES: &str = "[]";
const TEAM: &str =
    r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "pure"}]}]"#;

macro_rules! case {
    ($code:ident, $wrong:expr, $right:expr) => {
        Case {
            code: Code::$code,
            wrong: ($wrong, TEAM),
            right: ($right, TEAM),
        }
    };
    ($code:ident, entities $wrong:expr, $right:expr) => {
        Case {
            code: Code::$code,
            wrong: ("", $wrong),
            right: ("", $right),
        }
    };
}

#[expect(
    clippy::too_many_lines,
    reason = "a table: the code, what provokes it, and the same done right"
)]
fn cases() -> Vec<Case> {
    vec![
        case!(
            Syntax,
            r#"@id("a") permit (principal, action == Action::"readClock", resource) when { 1 + };
@id("b") permit (principal, action == Action::"readClock", resource);
@id("c") permit (principal action, resource);"#,
            r#"@id("a") permit (principal, action == Action::"readClock", resource); // all; of it"#
        ),
        case!(
            MissingId,
            r#"// who is this?
permit (principal in Profile::"team", action == Action::"readClock", resource);"#,
            r#"@id("team-clock") permit (principal in Profile::"team", action == Action::"readClock", resource);"#
        ),
        case!(
            DuplicateId,
            r#"@id("pure-deadline")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest") when { context.millis > 50 };"#,
            r#"@id("team-deadline")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest") when { context.millis > 50 };"#
        ),
        case!(
            Template,
            r#"@id("t") permit (principal in ?principal, action == Action::"readClock", resource);"#,
            r#"@id("t") permit (principal in Profile::"team", action == Action::"readClock", resource);"#
        ),
        case!(
            Validation,
            r#"@id("a")
permit (principal in Profile::"team", action == Action::"growMemory", resource == Meter::"store")
when { context.byte <= 5 };
@id("b")
permit (principal in Profile::"team", action == Action::"atach", resource);"#,
            r#"@id("a")
permit (principal in Profile::"team", action == Action::"growMemory", resource == Meter::"store")
when { context.bytes <= 50 * 1024 * 1024 };"#
        ),
        case!(
            ValidationWarning,
            r#"@id("never")
forbid (principal in Profile::"team", action == Action::"read", resource is Table);"#,
            r#"@id("sometimes")
forbid (principal in Profile::"team", action == Action::"read", resource is Column);"#
        ),
        case!(
            Entities,
            entities r#"[
  {"uid": {"type": "Profile", "id": "pure"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Table", "id": "main.t"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Module", "id": "ab"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Meter", "id": "store"}, "attrs": {}, "parents": []},
  {"uid": {"type": "SqlFunction", "id": "ABS"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Person", "id": "bob"}, "attrs": {}, "parents": []}
]"#,
            r#"[{"uid": {"type": "Module", "id": "ab"}, "attrs": {"sha256": "ab"}, "parents": [{"type": "Profile", "id": "pure"}]}]"#
        ),
        case!(Entities, entities "[\n  {\"uid\": ]\n", "[]"),
        case!(Entities, entities "{}", "[]"),
        case!(
            UnknownProfile,
            r#"@id("a") permit (principal in Profile::"taem", action == Action::"readClock", resource);
@id("b") permit (principal, action == Action::"readClock", resource) when { principal in Profile::"somebody-else" };"#,
            r#"@id("a") permit (principal in Profile::"team", action == Action::"readClock", resource);"#
        ),
        case!(
            UnknownProfile,
            entities r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "databse-only"}]}]"#,
            TEAM
        ),
        case!(
            ProfileCycle,
            entities r#"[
  {"uid": {"type": "Profile", "id": "a"}, "attrs": {}, "parents": [{"type": "Profile", "id": "b"}]},
  {"uid": {"type": "Profile", "id": "b"}, "attrs": {}, "parents": [{"type": "Profile", "id": "c"}]},
  {"uid": {"type": "Profile", "id": "c"}, "attrs": {}, "parents": [{"type": "Profile", "id": "a"}]}
]"#,
            r#"[
  {"uid": {"type": "Profile", "id": "a"}, "attrs": {}, "parents": [{"type": "Profile", "id": "b"}, {"type": "Profile", "id": "c"}]},
  {"uid": {"type": "Profile", "id": "b"}, "attrs": {}, "parents": [{"type": "Profile", "id": "c"}]},
  {"uid": {"type": "Profile", "id": "c"}, "attrs": {}, "parents": []}
]"#
        ),
        case!(
            ResourceId,
            r#"@id("case")
forbid (principal in Profile::"team", action == Action::"read", resource in Table::"main.Staff");
@id("database")
forbid (principal in Profile::"team", action == Action::"read", resource)
when { resource == Column::"staff.salary" };
@id("function")
forbid (principal in Profile::"team", action == Action::"callFunction", resource == SqlFunction::"TRIM");"#,
            r#"@id("case")
forbid (principal in Profile::"team", action == Action::"read", resource in Table::"main.staff");
@id("odd")
forbid (principal in Profile::"team", action == Action::"read", resource in Table::"main.\"year 2026\"");"#
        ),
        case!(
            MeterResource,
            r#"@id("a")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"store")
when { context.millis > 50 };
@id("b")
forbid (principal in Profile::"team", action in Action::"sqlMeters", resource == Meter::"guest");"#,
            r#"@id("a")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
when { context.millis > 50 };
@id("b")
forbid (principal in Profile::"team", action in Action::"meters", resource == Meter::"store");"#
        ),
        case!(
            MeterNotInterval,
            r#"@id("area")
permit (principal in Profile::"team", action == Action::"growMemory", resource == Meter::"store")
when { context.bytes * context.bytes <= 100 };"#,
            r#"@id("area")
permit (principal in Profile::"team", action == Action::"growMemory", resource == Meter::"store")
when { context.bytes * 3 + 1 <= 100 };"#
        ),
        case!(
            MeterWithHoles,
            r#"@id("odd")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
when { context.millis > 10 && context.millis < 20 };"#,
            r#"@id("odd")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
when { context.millis > 10 };"#
        ),
        case!(
            ForbidCanError,
            r#"@id("meter")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
when { context.millis * 2 > 100 };"#,
            r#"@id("meter")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
when { context.millis > 100 * 2 - 150 };"#
        ),
        case!(
            ForbidCanError,
            r#"@id("attribute")
forbid (principal in Profile::"team", action == Action::"insert", resource)
when { Table::"main.t".name == resource.name };"#,
            r#"@id("attribute")
forbid (principal in Profile::"team", action == Action::"insert", resource)
when { "t" == resource.name };"#
        ),
        case!(
            UnboundedMeter,
            r#"@id("plain")
permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest");
@id("hidden")
permit (principal in Profile::"team", action == Action::"callHost", resource == Meter::"guest")
when { context.count >= 0 };"#,
            r#"@id("plain")
permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 9000 };"#
        ),
        case!(
            ReservedAction,
            r#"@id("web")
permit (principal in Profile::"team", action == Action::"fetchHttp", resource == Host::"example.com");
@id("all-files")
permit (principal in Profile::"team", action in Action::"files", resource);"#,
            r#"@id("database")
permit (principal in Profile::"team", action in Action::"database", resource);"#
        ),
    ]
}

fn sources((policies, entities): (&str, &str)) -> [Source; 2] {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    [
        source("grants.cedar", policies, SourceKind::Policies),
        source("grants.entities.json", entities, SourceKind::Entities),
    ]
}

#[test]
fn each_wrong_case_has_its_code_and_each_right_one_none() {
    for case in cases() {
        let wrong = check(&sources(case.wrong), Stock::With).findings;
        assert!(!wrong.is_empty(), "{} is not provoked", case.code);
        for finding in &wrong {
            assert_eq!(finding.code, case.code, "{finding}");
            assert!(finding.location.is_some(), "{finding}");
        }
        assert_eq!(
            check(&sources(case.right), Stock::With).findings,
            [],
            "{} has an unclean twin",
            case.code
        );
    }
}

#[test]
fn every_code_is_provoked() {
    let mut provoked: BTreeSet<Code> = cases().iter().map(|case| case.code).collect();
    // A mismatch is a mistake in the compiler; the compiler's own tests make one.
    provoked.insert(Code::PlanMismatch);
    assert_eq!(provoked, Code::ALL.iter().copied().collect());
}

#[test]
fn the_codes_are_stable() {
    let list: String = Code::ALL.iter().fold(String::new(), |list, code| {
        list + &format!("{code}: {}\n", code.meaning())
    });
    insta::assert_snapshot!(list);
}

#[test]
fn serialised_codes_are_their_names() {
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
    }
}

#[test]
fn what_people_read() {
    let mut text = String::new();
    for case in cases() {
        for finding in check(&sources(case.wrong), Stock::With).findings {
            let place = finding.location.as_ref().unwrap();
            let from = sources(case.wrong)
                .into_iter()
                .find(|source| source.name == place.source)
                .unwrap();
            let marked = &from.text[place.offset..place.offset + place.length];
            writeln!(text, "{:?}: {finding}\n  at: {marked}", finding.severity).unwrap();
            if let Some(help) = finding.help {
                writeln!(text, "  help: {help}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn warnings_let_a_store_load_and_errors_do_not() {
    for case in cases() {
        let findings = check(&sources(case.wrong), Stock::With).findings;
        let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
        let loaded = PolicyStore::load(&sources(case.wrong), Stock::With);
        assert_eq!(loaded.is_err(), refused, "{}", case.code);
        assert_eq!(
            refused,
            !matches!(case.code, Code::UnboundedMeter | Code::ReservedAction),
            "{}",
            case.code
        );
        if let Err(found) = loaded {
            assert_eq!(found.findings(), findings);
        }
    }
}

#[test]
fn an_inherited_mistake_is_reported_once() {
    let wrong = r#"@id("odd")
forbid (principal, action == Action::"elapse", resource == Meter::"guest")
when { context.millis > 10 && context.millis < 20 };"#;
    assert_eq!(check(&sources((wrong, TEAM)), Stock::With).findings.len(), 1);
}

#[test]
fn a_mistake_that_only_modules_meet_is_found() {
    let wrong = r#"@id("odd")
forbid (principal is Module, action == Action::"elapse", resource == Meter::"guest")
when { context.millis > 10 && context.millis < 20 };"#;
    let codes: Vec<Code> = check(&sources((wrong, TEAM)), Stock::With)
        .findings
        .iter()
        .map(|finding| finding.code)
        .collect();
    assert_eq!(codes, [Code::MeterWithHoles]);
}

#[test]
fn the_example_is_clean_and_takes_away() {
    let policies = include_str!("../examples/grants.cedar");
    let entities = include_str!("../examples/grants.entities.json");
    let report = check(&sources((policies, entities)), Stock::With);
    assert_eq!(report.findings, []);
    assert!(report.profiles.iter().any(|profile| profile.name == "reports"));
}

#[test]
fn an_unknown_profile_is_not_planned_for() {
    let store = PolicyStore::stock().unwrap();
    let error = store.plan(&Principal::profile("walk-in")).unwrap_err();
    assert_eq!(
        error,
        PlanError::UnknownProfile {
            name: "walk-in".to_owned(),
            nearest: Some("walkin".to_owned())
        }
    );
    assert_eq!(
        error.to_string(),
        "profile `walk-in` is not declared; did you mean `walkin`?"
    );
}

#[test]
fn a_pinned_module_runs_where_it_is_pinned() {
    let entities = r#"[
  {"uid": {"type": "Module", "id": "ab"}, "attrs": {"sha256": "ab"}, "parents": [{"type": "Profile", "id": "untrusted"}]},
  {"uid": {"type": "Module", "id": "cd"}, "attrs": {"sha256": "cd"}, "parents": [{"type": "Publisher", "id": "acme"}]}
]"#;
    let store = PolicyStore::load(&sources(("", entities)), Stock::With).unwrap();
    assert!(store.plan(&Principal::module("ab", "untrusted")).is_ok());
    assert!(store.plan(&Principal::module("cd", "trusted")).is_ok());
    let error = store.plan(&Principal::module("ab", "trusted")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`ab` is not in profile `trusted`, only in `capabilities-minimal`, `sqlite-recommended`, `untrusted`"
    );
}

#[test]
fn nothing_is_clean_and_grants_nothing() {
    assert_eq!(check(&[], Stock::Without).findings, []);
    assert_eq!(
        PolicyStore::load(&[], Stock::Without).unwrap().profiles(),
        Vec::<String>::new()
    );
    let report = check(&sources(("// nothing yet\n", NO_ENTITIES)), Stock::Without);
    assert!(report.findings.is_empty() && report.profiles.is_empty());
}
