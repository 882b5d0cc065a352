//! Each thing that can be wrong, as its page in `policies/diagnostics` shows it: provoked, and done right.

#![expect(clippy::panic, clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use stockade_policies::{Code, Finding, PlanError, PolicyStore, Principal, Severity, Source, SourceKind, Stock, check};

const NO_ENTITIES: &str = "[]";
const TEAM: &str =
    r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "pure"}]}]"#;

/// One example of a page.
struct Example {
    code: Code,
    /// It is what to avoid; otherwise, what to prefer.
    is_wrong: bool,
    files: Vec<(SourceKind, String)>,
}

impl Example {
    fn sources(&self) -> Vec<Source> {
        let shown = self.files.iter().map(|(kind, text)| source(*kind, text));
        let has_entities = self.files.iter().any(|(kind, _)| *kind == SourceKind::Entities);
        let team = (!has_entities).then(|| source(SourceKind::Entities, TEAM));
        shown.chain(team).collect()
    }

    fn shown(&self) -> String {
        format!("{}: {:?}", self.code, self.files)
    }
}

fn source(kind: SourceKind, text: &str) -> Source {
    let name = match kind {
        SourceKind::Policies => "grants.cedar",
        SourceKind::Entities => "grants.entities.json",
        SourceKind::Links => "grants.links.json",
        SourceKind::Schema => "grants.cedarschema",
    };
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    }
}

/// Every example and what is found in it, worked out once: loading takes long where nothing is optimised.
static CHECKED: LazyLock<Vec<(Example, Vec<Finding>)>> = LazyLock::new(|| {
    let checked = |example: Example| {
        let findings = check(&example.sources(), Stock::With).findings;
        (example, findings)
    };
    examples().into_iter().map(checked).collect()
});

/// What to avoid, and what is found in it.
fn wrong() -> impl Iterator<Item = &'static (Example, Vec<Finding>)> {
    CHECKED.iter().filter(|(example, _)| example.is_wrong)
}

/// The examples of every page, in order. A block starts a new one where the last one has its kind of file already.
fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for code in Code::ALL {
        for (info, body) in blocks(code.page()) {
            let (language, verdict) = info.split_once(' ').unwrap();
            let is_wrong = match verdict {
                "avoid" => true,
                "prefer" => false,
                other => panic!("{code} has a block that is `{other}`"),
            };
            let kind = match language {
                "cedar" => SourceKind::Policies,
                "json" => SourceKind::Entities,
                "links" => SourceKind::Links,
                "cedarschema" => SourceKind::Schema,
                other => panic!("{code} has a block in `{other}`"),
            };
            let goes_on = |last: &&mut Example| {
                last.code == *code
                    && last.is_wrong == is_wrong
                    && kind != SourceKind::Policies
                    && last.files.iter().all(|(known, _)| *known != kind)
            };
            match examples.last_mut().filter(goes_on) {
                Some(last) => last.files.push((kind, body)),
                None => examples.push(Example {
                    code: *code,
                    is_wrong,
                    files: vec![(kind, body)],
                }),
            }
        }
    }
    examples
}

/// The fenced blocks of a page: what stands behind the fence, and what is in it.
fn blocks(page: &str) -> Vec<(String, String)> {
    page.split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| {
            let (info, body) = block.split_once('\n').unwrap();
            (info.to_owned(), body.to_owned())
        })
        .collect()
}

fn sources((policies, entities): (&str, &str)) -> [Source; 2] {
    [
        source(SourceKind::Policies, policies),
        source(SourceKind::Entities, entities),
    ]
}

/// The codes of what is found in policies of a profile `team` that is nested in `pure`.
fn codes(policies: &str) -> Vec<Code> {
    codes_in(policies, TEAM)
}

fn codes_in(policies: &str, entities: &str) -> Vec<Code> {
    let findings = check(&sources((policies, entities)), Stock::With).findings;
    findings.iter().map(|finding: &Finding| finding.code).collect()
}

#[test]
fn what_a_page_avoids_is_found_and_what_it_prefers_is_clean() {
    for (example, findings) in CHECKED.iter() {
        if !example.is_wrong {
            assert_eq!(*findings, [], "{}", example.shown());
            continue;
        }
        assert!(!findings.is_empty(), "{} is not provoked", example.shown());
        for finding in findings {
            assert_eq!(finding.code, example.code, "{finding}");
            assert_eq!(finding.severity, example.code.severity(), "{finding}");
            assert!(finding.location.is_some(), "{finding}");
            assert!(
                finding.help.is_some() || finding.severity == Severity::Error,
                "{finding}"
            );
        }
    }
}

#[test]
fn every_page_says_what_and_why_and_shows_both() {
    let shown = |is_wrong| -> BTreeSet<Code> {
        CHECKED
            .iter()
            .filter(|(example, _)| example.is_wrong == is_wrong)
            .map(|(example, _)| example.code)
            .collect()
    };
    // A mismatch is a mistake in the compiler, whose own tests make one; what is too large for a page is in `hostile_input.rs`.
    let all: BTreeSet<Code> = Code::ALL
        .iter()
        .copied()
        .filter(|code| ![Code::PlanMismatch, Code::TooLarge].contains(code))
        .collect();
    assert_eq!(shown(true), all);
    assert_eq!(shown(false), all);
    for code in Code::ALL {
        assert!(code.page().starts_with(&format!("# {code}\n\n")), "{code}");
        assert!(
            code.meaning().ends_with('.') && !code.meaning().contains('\n'),
            "{code}"
        );
        assert!(code.why().len() > 40 && !code.why().starts_with("```"), "{code}");
    }
}

#[test]
fn every_page_is_a_codes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("diagnostics");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, Code::ALL.iter().map(|code| format!("{code}.md")).collect());
}

#[test]
fn the_codes_are_stable() {
    let list: String = Code::ALL.iter().fold(String::new(), |list, code| {
        list + &format!("{code} ({:?}): {}\n", code.severity(), code.meaning())
    });
    insta::assert_snapshot!(list);
}

#[test]
fn serialised_codes_are_their_names() {
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        assert_eq!(code.name().parse(), Ok(*code));
    }
    let unknown = "unscoped-permt".parse::<Code>().unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "no finding has the code `unscoped-permt`; did you mean `unscoped-permit`?"
    );
    let far = "x".parse::<Code>().unwrap_err().to_string();
    assert!(far.contains("the codes are syntax, missing-id"), "{far}");
}

#[test]
fn what_people_read() {
    let mut text = String::new();
    for (example, findings) in wrong() {
        for finding in findings {
            let place = finding.location.as_ref().unwrap();
            let from = example
                .sources()
                .into_iter()
                .find(|source| source.name == place.source)
                .unwrap();
            let marked = &from.text[place.offset..place.offset + place.length];
            let before = &from.text[..place.offset];
            assert_eq!(place.line, before.matches('\n').count() + 1, "{finding}");
            assert_eq!(
                place.column,
                before.rsplit('\n').next().unwrap().chars().count() + 1,
                "{finding}"
            );
            writeln!(text, "{:?}: {finding}\n  at: {marked}", finding.severity).unwrap();
            if let Some(help) = &finding.help {
                writeln!(text, "  help: {help}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn warnings_let_a_store_load_and_errors_do_not() {
    for code in Code::ALL {
        let Some((example, findings)) = wrong().find(|(example, _)| example.code == *code) else {
            continue;
        };
        let loaded = PolicyStore::load(&example.sources(), Stock::With);
        assert_eq!(
            loaded.is_err(),
            code.severity() == Severity::Error,
            "{}",
            example.shown()
        );
        if let Err(found) = loaded {
            assert_eq!(found.findings(), findings);
        }
    }
}

#[test]
fn the_stock_is_clean() {
    assert_eq!(check(&[], Stock::With).findings, []);
}

#[test]
fn a_limit_that_is_none_is_found_behind_a_condition() {
    let found = codes(
        r#"@id("hidden")
permit (principal in Profile::"team", action == Action::"callHost", resource == Meter::"guest")
when { context.count >= 0 };"#,
    );
    assert_eq!(found, [Code::UnboundedMeter, Code::ConstantCondition]);
}

#[test]
fn what_is_allowed_is_set_aside_with_its_reason() {
    let policies = r#"@id("log")
@allow("unscoped-permit: everybody may log; why not; unbounded-meter: the disk is large")
permit (principal, action in [Action::"writeLog", Action::"growLog"], resource);"#;
    let report = check(&sources((policies, TEAM)), Stock::With);
    assert_eq!(report.findings, []);
    let allowed: Vec<(Code, &str)> = report
        .allowed
        .iter()
        .map(|allowed| (allowed.finding.code, allowed.reason.as_str()))
        .collect();
    assert_eq!(
        allowed,
        [
            (Code::UnboundedMeter, "the disk is large"),
            (Code::UnscopedPermit, "everybody may log; why not")
        ]
    );
    let store = PolicyStore::load(&sources((policies, TEAM)), Stock::With).unwrap();
    assert_eq!(store.warnings(), [], "what is allowed is no warning at a load either");
}

#[test]
fn an_allowance_reaches_no_further_than_its_policy_and_its_code() {
    let elsewhere = r#"@id("log")
@allow("unscoped-permit: everybody may log")
permit (principal, action == Action::"writeLog", resource);
@id("clock")
permit (principal, action == Action::"readClock", resource);"#;
    assert_eq!(codes(elsewhere), [Code::UnscopedPermit]);
    let otherwise = r#"@id("log")
@allow("odd-amount: large logs")
permit (principal, action == Action::"writeLog", resource);"#;
    assert_eq!(codes(otherwise), [Code::UnusedAllow, Code::UnscopedPermit]);
    let twice = r#"@id("log")
@allow("unscoped-permit: everybody; unscoped-permit: once more")
permit (principal, action == Action::"writeLog", resource);"#;
    assert_eq!(codes(twice), [Code::UnusedAllow]);
}

#[test]
fn two_policies_that_say_the_same_are_one_too_many() {
    let report = check(
        &sources((
            r#"@id("first")
permit (principal in Profile::"team", action == Action::"readClock", resource);
@id("second")
permit (principal in Profile::"team", action == Action::"readClock", resource);"#,
            TEAM,
        )),
        Stock::With,
    );
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(found, ["`second` changes nothing: `first` permits all of it"]);
}

#[test]
fn of_two_kinds_of_guests_one_does_not_stand_for_the_other() {
    let report = check(
        &sources((
            r#"@id("modules")
permit (principal is Module in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 5000 };
@id("everybody")
permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 5000 };
@id("profiles")
permit (principal == Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 4000 };"#,
            TEAM,
        )),
        Stock::With,
    );
    let redundant = report
        .findings
        .iter()
        .filter(|finding| finding.code == Code::RedundantPolicy);
    let found: Vec<&str> = redundant.map(|finding| finding.message.as_str()).collect();
    assert_eq!(found, ["`modules` changes nothing: `everybody` permits all of it"]);
}

#[test]
fn a_policy_that_others_cover_together_is_redundant() {
    let found = codes(
        r#"@id("low")
permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 500 };
@id("high")
permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes > 500 && context.bytes <= 1000 };
@id("middle")
permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes >= 300 && context.bytes <= 700 };"#,
    );
    assert_eq!(found, [Code::RedundantPolicy]);
}

/// Each of these looks redundant or shadowed at a first glance, and is not.
#[test]
fn a_policy_that_does_something_is_left_alone() {
    for policies in [
        // A guard against what nothing permits yet.
        r#"@id("no-attach") forbid (principal in Profile::"team", action == Action::"attach", resource);"#,
        // The wider one asks for more.
        r#"@id("wide") permit (principal in Profile::"team", action == Action::"insert", resource)
when { resource.name like "log_*" };
@id("narrow") permit (principal in Profile::"team", action == Action::"insert", resource in Table::"main.staff");"#,
        // The wider one leaves a module out that the other does not.
        r#"@id("most") permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 5000 }
unless { principal == Module::"3584af5e1ab0b1da09b5326237be4b178de0bb388d6093efd94e6aec56c20a74" };
@id("all") permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 1000 };"#,
        // The forbid leaves something.
        r#"@id("clock") permit (principal in Profile::"team", action == Action::"readClock", resource);
@id("but") forbid (principal in Profile::"team", action == Action::"readClock", resource)
when { principal is Module };"#,
        r#"@id("log") permit (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 1000 };
@id("less") forbid (principal in Profile::"team", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes > 10 };"#,
        // The forbid is for those inside only.
        r#"@id("clock") permit (principal in Profile::"pure", action == Action::"readClock", resource);
@id("team-no-clock") forbid (principal in Profile::"team", action == Action::"readClock", resource);"#,
    ] {
        assert_eq!(codes(policies), [], "{policies}");
    }
}

#[test]
fn a_permit_that_several_forbids_cancel_together_is_shadowed() {
    let found = codes(
        r#"@id("ambient") permit (principal in Profile::"team", action in [Action::"readClock", Action::"readRandom"], resource);
@id("no-clock") forbid (principal in Profile::"pure", action == Action::"readClock", resource);
@id("no-chance") forbid (principal in Profile::"team", action == Action::"readRandom", resource);"#,
    );
    assert_eq!(found, [Code::ShadowedPolicy]);
}

#[test]
fn a_profile_that_is_not_meant_to_run_lacks_nothing() {
    let team = |parents: &str| {
        format!(r#"[{{"uid": {{"type": "Profile", "id": "team"}}, "attrs": {{}}, "parents": [{parents}]}}]"#)
    };
    let part = r#"@id("heap") permit (principal in Profile::"team", action == Action::"growHeap", resource == Meter::"connection")
when { context.bytes <= 8 * 1024 * 1024 };"#;
    let inside = r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": []},
{"uid": {"type": "Profile", "id": "app"}, "attrs": {}, "parents": [{"type": "Profile", "id": "team"}, {"type": "Profile", "id": "untrusted"}]}]"#;
    assert_eq!(codes_in(part, &team("")), [Code::MeterNeverGranted]);
    assert_eq!(codes_in(part, inside), [], "others are nested in it");
    assert_eq!(codes_in("", &team("")), [], "it grants nothing at all");
    let shut = r#"@id("no-modules") forbid (principal in Profile::"team", action == Action::"compile", resource == Meter::"guest");"#;
    let untrusted = team(r#"{"type": "Profile", "id": "untrusted"}"#);
    assert_eq!(codes_in(shut, &untrusted), [], "a kind of guest is shut out on purpose");
    let small = r#"@id("parser") forbid (principal in Profile::"team", action == Action::"sqlParserDepth", resource == Meter::"connection")
when { context.depth > 49 };"#;
    assert_eq!(
        codes_in(small, &untrusted),
        [Code::MeterNeverGranted],
        "no statement is parsed with less than 50"
    );
    let only_a_clock =
        r#"@id("clock") permit (principal in Profile::"team", action == Action::"readClock", resource);"#;
    assert_eq!(codes_in(only_a_clock, &team("")), [Code::MeterNeverGranted]);
    let declared = check(
        &sources(("", &team(r#"{"type": "Profile", "id": "sqlite-recommended"}"#))),
        Stock::With,
    );
    let [finding] = declared.findings.as_slice() else {
        panic!("a profile that has half of everything: {declared:?}")
    };
    assert_eq!(
        finding.location.as_ref().map(|at| at.source.as_str()),
        Some("grants.entities.json")
    );
}

#[test]
fn danger_is_seen_through_groups_and_open_scopes() {
    let found = |policy: &str| {
        let report = check(&sources((policy, TEAM)), Stock::With);
        let danger = report
            .findings
            .into_iter()
            .find(|finding| finding.code == Code::DangerousGrant);
        danger.map(|finding| finding.message)
    };
    let granted = |policy: &str, danger: &str| {
        let message = found(policy).unwrap_or_default();
        assert!(message.contains(danger), "{policy}: {message}");
    };
    granted(
        r#"@id("a") permit (principal in Profile::"team", action in Action::"sqlAdmin", resource);"#,
        "`attach`",
    );
    granted(
        r#"@id("a") permit (principal in Profile::"team", action, resource) when { principal is Caller };"#,
        "databaseAdmin",
    );
    granted(
        r#"@id("a") permit (principal in Profile::"team", action == Action::"callFunction", resource)
unless { resource in SqlFunctionClass::"altering" };"#,
        "load_extension",
    );
    granted(
        r#"@id("a") permit (principal in Profile::"team", action == Action::"pragma", resource == Pragma::"writable_schema")
when { context has argument && context.argument == "on" };"#,
        "pragma writable_schema",
    );
    assert_eq!(
        found(
            r#"@id("a") permit (principal in Profile::"team", action in Action::"sqlAdmin", resource);
@id("b") forbid (principal in Profile::"team", action in Action::"sqlAdmin", resource);"#
        ),
        None,
        "what is forbidden again is not granted"
    );
    assert_eq!(
        found(r#"@id("a") @reason(" ") permit (principal in Profile::"team", action == Action::"attach", resource);"#),
        Some("`a` grants `attach` and says no reason".to_owned()),
        "a blank reason is none"
    );
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
  {"uid": {"type": "Module", "id": "abababababababababababababababababababababababababababababababab"}, "attrs": {"sha256": "abababababababababababababababababababababababababababababababab"}, "parents": [{"type": "Profile", "id": "untrusted"}]},
  {"uid": {"type": "Module", "id": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"}, "attrs": {"sha256": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"}, "parents": [{"type": "Publisher", "id": "acme"}]}
]"#;
    let store = PolicyStore::load(&sources(("", entities)), Stock::With).unwrap();
    assert!(
        store
            .plan(&Principal::module(
                "abababababababababababababababababababababababababababababababab",
                "untrusted"
            ))
            .is_ok()
    );
    assert!(
        store
            .plan(&Principal::module(
                "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
                "trusted"
            ))
            .is_ok()
    );
    let error = store
        .plan(&Principal::module(
            "abababababababababababababababababababababababababababababababab",
            "trusted",
        ))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`abababababababababababababababababababababababababababababababab` is not in profile `trusted`, only in `capabilities-minimal`, `sqlite-recommended`, `untrusted`"
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
