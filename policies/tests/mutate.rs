//! Mutation testing of policies: the mistakes that are made, who notices them, and that the stock's tests notice all.

#![cfg(feature = "workbench")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use stockade_policies::mutate::{
    Attacked, Beyond, Killer, MutantReport, Mutation, Operator, Options, Report, Unnoticed, Verdict,
};
use stockade_policies::suite::{Suite, TestFile};
use stockade_policies::{Code, Source, SourceKind, Stock};

const TWO_JOBS: Options = Options { jobs: 2, until: None };

fn policies(text: &str) -> Source {
    Source {
        name: "team.cedar".to_owned(),
        text: text.to_owned(),
        kind: SourceKind::Policies,
    }
}

fn entities(text: &str) -> Source {
    Source {
        name: "team.entities.json".to_owned(),
        text: text.to_owned(),
        kind: SourceKind::Entities,
    }
}

fn suite(text: &str) -> Suite {
    let file = TestFile {
        name: "team.tests.yaml".to_owned(),
        text: text.to_owned(),
    };
    Suite::read(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
}

fn judged(sources: &[Source], suite: &Suite) -> Report {
    let mutation = Mutation::of(sources, Stock::With).unwrap_or_else(|error| panic!("{error}"));
    let report = mutation.judge(suite, TWO_JOBS, Beyond::default(), &|_| ());
    assert_eq!(report.total, mutation.len());
    report
}

/// What nobody notices, because nobody looks.
fn unobserved(policy: &str) -> Report {
    judged(&[policies(policy)], &Suite::read(&[]).unwrap())
}

/// The lines that one kind of mistake changes, without how they are laid out.
fn changes(report: &Report, operator: Operator) -> Vec<String> {
    let of_kind = report.mutants.iter().filter(|mutant| mutant.operator == operator);
    of_kind.map(change).collect()
}

fn change(mutant: &MutantReport) -> String {
    let lines = mutant.diff.iter().map(|line| {
        let (sign, text) = line.split_once(' ').unwrap();
        format!("{sign}{}", text.trim())
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn verdicts(report: &Report, operator: Operator) -> Vec<&Verdict> {
    let of_kind = report.mutants.iter().filter(|mutant| mutant.operator == operator);
    of_kind.map(|mutant| &mutant.verdict).collect()
}

const LOG: &str = r#"@id("log")
permit (principal in Profile::"pure", action == Action::"growLog", resource == Meter::"guest")
when { context.bytes <= 4 * 1024 };"#;

#[test]
fn a_policy_is_dropped_and_turned_round() {
    let report = unobserved(LOG);
    let dropped = changes(&report, Operator::DropPolicy);
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].starts_with("-@id(\"log\") -permit ("), "{dropped:?}");
    assert_eq!(changes(&report, Operator::FlipEffect), ["-permit ( +forbid ("]);
}

#[test]
fn clauses_are_dropped_and_negated() {
    let report = unobserved(LOG);
    let limit = "when { context.bytes <= (4 * 1024) };";
    assert_eq!(changes(&report, Operator::DropClause), [format!("-) -{limit} +);")]);
    assert_eq!(
        changes(&report, Operator::NegateClause),
        [format!("-{limit} +unless {{ context.bytes <= (4 * 1024) }};")]
    );
}

#[test]
fn bounds_move_by_one_and_by_ten() {
    let report = unobserved(LOG);
    let moved = [4097, 4095, 40960, 409]
        .map(|most| format!("-when {{ context.bytes <= (4 * 1024) }}; +when {{ context.bytes <= {most} }};"));
    assert_eq!(changes(&report, Operator::MoveBound), moved);
    let at_the_edge = unobserved(
        r#"@id("log")
        permit (principal in Profile::"pure", action == Action::"growLog", resource == Meter::"guest")
        when { context.bytes <= 9223372036854775807 };"#,
    );
    let moved = [9_223_372_036_854_775_806_i64, 922_337_203_685_477_580]
        .map(|most| format!("-when {{ context.bytes <= 9223372036854775807 }}; +when {{ context.bytes <= {most} }};"));
    assert_eq!(changes(&at_the_edge, Operator::MoveBound), moved);
}

#[test]
fn comparisons_change() {
    let report = unobserved(LOG);
    let changed = ["<", ">="].map(|comparison| {
        format!("-when {{ context.bytes <= (4 * 1024) }}; +when {{ context.bytes {comparison} (4 * 1024) }};")
    });
    assert_eq!(changes(&report, Operator::ChangeComparison), changed);
}

#[test]
fn scopes_are_widened() {
    let report = unobserved(
        r#"@id("read") permit (principal == Profile::"pure", action == Action::"read", resource is Column in Database::"main");"#,
    );
    assert_eq!(
        changes(&report, Operator::WidenPrincipal),
        [
            r#"-principal == Profile::"pure", +principal in Profile::"pure","#,
            r#"-principal == Profile::"pure", +principal,"#,
        ]
    );
    assert_eq!(
        changes(&report, Operator::WidenAction),
        [
            r#"-action == Action::"read", +action in Action::"sql","#,
            r#"-action == Action::"read", +action in Action::"sqlRead","#,
            r#"-action == Action::"read", +action,"#,
        ]
    );
    assert_eq!(
        changes(&report, Operator::WidenResource),
        [
            r#"-resource is Column in Database::"main" +resource is Column"#,
            r#"-resource is Column in Database::"main" +resource"#,
        ]
    );
}

#[test]
fn a_list_of_actions_loses_one_and_becomes_a_group() {
    let report = unobserved(
        r#"@id("rows") permit (principal in Profile::"pure", action in [Action::"insert", Action::"delete"], resource);"#,
    );
    let list = r#"-action in [Action::"insert", Action::"delete"],"#;
    assert_eq!(
        changes(&report, Operator::DropAction),
        [
            format!(r#"{list} +action in Action::"delete","#),
            format!(r#"{list} +action in Action::"insert","#),
        ]
    );
    assert_eq!(
        changes(&report, Operator::WidenAction),
        [
            format!(r#"{list} +action in Action::"sql","#),
            format!(r#"{list} +action in Action::"sqlWrite","#),
            format!("{list} +action,"),
        ]
    );
}

#[test]
fn another_entity_is_named() {
    let report = unobserved(
        r#"@id("tables") permit (principal in Profile::"pure", action == Action::"insert", resource in Database::"main")
        when { resource == Table::"main.a" || resource == Table::"main.b" };"#,
    );
    assert_eq!(
        changes(&report, Operator::SwapEntity),
        [
            r#"-principal in Profile::"pure", +principal in Profile::"sqlite-recommended","#,
            r#"-action == Action::"insert", +action == Action::"alterTable","#,
            r#"-resource in Database::"main" +resource in Database::"temp""#,
            r#"-when { (resource == Table::"main.a") || (resource == Table::"main.b") }; +when { (resource == Table::"main.b") || (resource == Table::"main.b") };"#,
            r#"-when { (resource == Table::"main.a") || (resource == Table::"main.b") }; +when { (resource == Table::"main.a") || (resource == Table::"main.a") };"#,
        ]
    );
}

#[test]
fn operands_are_dropped_negated_and_joined_otherwise_however_deep() {
    let report = unobserved(
        r#"@id("t") permit (principal in Profile::"pure", action == Action::"insert", resource)
        when { 1 < 2 || 3 < 4 && 5 < 6 };"#,
    );
    let after = |operator| -> Vec<String> {
        let whole = "-when { (1 < 2) || ((3 < 4) && (5 < 6)) }; +when { ";
        let changed = changes(&report, operator);
        let inside = changed
            .iter()
            .map(|change| change.strip_prefix(whole)?.strip_suffix(" };"));
        inside.map(|text| text.unwrap().to_owned()).collect()
    };
    assert_eq!(
        after(Operator::DropOperand),
        [
            "(3 < 4) && (5 < 6)",
            "1 < 2",
            "(1 < 2) || (5 < 6)",
            "(1 < 2) || (3 < 4)",
        ]
    );
    assert_eq!(
        after(Operator::NegateOperand),
        [
            "(!(1 < 2)) || ((3 < 4) && (5 < 6))",
            "(1 < 2) || (!((3 < 4) && (5 < 6)))",
            "(1 < 2) || ((!(3 < 4)) && (5 < 6))",
            "(1 < 2) || ((3 < 4) && (!(5 < 6)))",
        ]
    );
    assert_eq!(
        after(Operator::SwapConnective),
        ["(1 < 2) && ((3 < 4) && (5 < 6))", "(1 < 2) || ((3 < 4) || (5 < 6))",]
    );
}

#[test]
fn sets_lose_an_element_and_patterns_match_more() {
    let report = unobserved(
        r#"@id("t") permit (principal in Profile::"pure", action == Action::"attach", resource)
        when { context.file like "/data/*" }
        unless { ["a", "b"].contains(context.file) };"#,
    );
    assert_eq!(
        changes(&report, Operator::DropElement),
        [
            r#"-unless { ["a", "b"].contains(context.file) }; +unless { ["b"].contains(context.file) };"#,
            r#"-unless { ["a", "b"].contains(context.file) }; +unless { ["a"].contains(context.file) };"#,
        ]
    );
    assert_eq!(
        changes(&report, Operator::LoosenPattern),
        [
            r#"-when { context.file like "/data/*" } +when { context.file like "/data*" }"#,
            r#"-when { context.file like "/data/*" } +when { context.file like "*" }"#,
        ]
    );
}

const TEAM: &str =
    r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "walkin"}]}]"#;

#[test]
fn an_entity_loses_a_parent() {
    let report = judged(
        &[entities(TEAM)],
        &suite("bounds: [{principals: team, meters: {elapse: 2 s}}]"),
    );
    assert_eq!(
        changes(&report, Operator::DropParent),
        [r#"-Profile::"team" in Profile::"walkin""#]
    );
    assert_eq!(
        verdicts(&report, Operator::DropParent),
        [&Verdict::Killed {
            by: Killer::Test("team, the bound of elapse".to_owned())
        }]
    );
}

#[test]
fn a_module_that_is_no_longer_pinned_is_noticed_to_run_elsewhere() {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let pinned = format!(
        r#"[{{"uid": {{"type": "Module", "id": "{digest}"}}, "attrs": {{"sha256": "{digest}"}}, "parents": [{{"type": "Profile", "id": "walkin"}}]}}]"#
    );
    let report = judged(&[entities(&pinned)], &Suite::read(&[]).unwrap());
    let [Verdict::Survived { example: Some(example) }] = verdicts(&report, Operator::DropParent)[..] else {
        panic!("{report:#?}")
    };
    assert!(!example.allowed, "{example:?}");
    assert!(example.question.contains("may it run there"), "{example:?}");
}

#[test]
fn a_function_that_leaves_its_class_is_seen_among_all_others() {
    let classes = r#"[
        {"uid": {"type": "SqlFunction", "id": "team_one"}, "attrs": {}, "parents": [{"type": "SqlFunctionClass", "id": "computing"}]},
        {"uid": {"type": "SqlFunction", "id": "team_two"}, "attrs": {}, "parents": [{"type": "SqlFunctionClass", "id": "computing"}]}
    ]"#;
    let one = suite(
        r#"requests: [{principal: standard, action: callFunction, resource: 'SqlFunction::"team_one"', expect: allow}]"#,
    );
    let report = judged(&[entities(classes)], &one);
    let [
        Verdict::Killed { by: Killer::Test(_) },
        Verdict::Survived { example: Some(example) },
    ] = verdicts(&report, Operator::DropParent)[..]
    else {
        panic!("{report:#?}")
    };
    assert!(example.test.contains(r#"'SqlFunction::"team_two"'"#), "{example:?}");
}

/// Three policies whose only test looks at one of them.
const GRANTS: &str = r#"
@id("team-deadline")
forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
unless { context.millis <= 500 };

@id("team-tables")
forbid (principal in Profile::"team", action in [Action::"read", Action::"update"], resource)
unless { resource in [Table::"main.staff", Table::"main.rooms"] };

@id("team-argument")
forbid (principal in Profile::"team", action == Action::"pragma", resource)
when { context has argument && context.argument like "st*" };
"#;

#[test]
fn the_examples_printed_for_survivors_kill_them() {
    let sources = [entities(TEAM), policies(GRANTS)];
    let weak = "bounds:\n  - principals: team\n    meters: {elapse: 500 ms}\n";
    let report = judged(&sources, &suite(weak));
    assert!(report.killed > 0 && report.survived > 10, "{report:#?}");
    let mut tests = weak.to_owned() + "requests:\n";
    for survivor in report.survivors() {
        let Verdict::Survived { example: Some(example) } = &survivor.verdict else {
            panic!("nothing tells it apart: {survivor:#?}")
        };
        tests.push_str(&example.test);
    }
    let again = judged(&sources, &suite(&tests));
    assert_eq!(again.survivors().collect::<Vec<_>>(), [] as [&MutantReport; 0]);
    assert_eq!(again.killed, report.killed + report.survived);
    assert_eq!(again.score, Some(100.0));
}

#[test]
fn a_mutant_that_means_the_same_is_no_survivor() {
    let report = unobserved(LOG);
    // A meter is only ever asked about on the entity that it hangs on.
    assert_eq!(
        verdicts(&report, Operator::WidenResource),
        [&Verdict::Equivalent { proven: false }; 2]
    );
    // Nothing is in a column.
    let column = unobserved(
        r#"@id("c") forbid (principal, action == Action::"read", resource == Column::"main.staff.salary");"#,
    );
    assert_eq!(
        verdicts(&column, Operator::WidenResource)[0],
        &Verdict::Equivalent { proven: false }
    );
    assert!(matches!(
        verdicts(&column, Operator::WidenResource)[1],
        Verdict::Survived { example: Some(_) }
    ));
    // But paths are in paths.
    let path = unobserved(r#"@id("p") permit (principal, action == Action::"attach", resource == Path::"/data");"#);
    let [Verdict::Survived { example: Some(example) }, _] = verdicts(&path, Operator::WidenResource)[..] else {
        panic!("{path:#?}")
    };
    assert!(example.test.contains(r#"'Path::"/data/x"'"#), "{example:?}");
}

#[test]
fn guests_are_told_from_their_profile() {
    let report =
        unobserved(r#"@id("t") permit (principal == Profile::"pure", action == Action::"readClock", resource);"#);
    let [Verdict::Survived { example: Some(example) }, _] = verdicts(&report, Operator::WidenPrincipal)[..] else {
        panic!("{report:#?}")
    };
    assert!(example.question.starts_with("`Module::"), "{example:?}");
}

#[test]
fn what_loading_refuses_is_killed_by_check_and_what_cedar_refuses_was_never_born() {
    let report = unobserved(LOG);
    assert_eq!(
        verdicts(&report, Operator::NegateClause),
        [&Verdict::Killed {
            by: Killer::Check(Code::MeterWithHoles)
        }]
    );
    let groups = verdicts(&report, Operator::WidenAction);
    assert_eq!(groups.len(), 3);
    assert!(
        groups
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Stillborn { .. })),
        "{groups:?}"
    );
    assert_eq!(
        report.total,
        report.killed + report.equivalent + report.stillborn + report.survived + report.unjudged
    );
}

#[test]
fn what_time_does_not_reach_is_unjudged_and_not_killed() {
    let mutation = Mutation::of(&[policies(LOG)], Stock::With).unwrap();
    let options = Options {
        jobs: 2,
        until: Instant::now().checked_sub(Duration::from_secs(1)),
    };
    let report = mutation.judge(&Suite::read(&[]).unwrap(), options, Beyond::default(), &|_| ());
    assert_eq!((report.unjudged, report.killed), (mutation.len(), 0));
    assert_eq!(report.score, Some(0.0));
}

#[test]
fn the_order_and_the_verdicts_do_not_depend_on_the_jobs() {
    let mutation = Mutation::of(&[entities(TEAM), policies(GRANTS)], Stock::With).unwrap();
    let suite = suite("bounds: [{principals: team, meters: {elapse: 500 ms}}]");
    let with = |jobs| mutation.judge(&suite, Options { jobs, until: None }, Beyond::default(), &|_| ());
    assert_eq!(with(1), with(2));
}

#[test]
fn a_proof_is_asked_for_where_nothing_tells_the_mutant_apart() {
    // A text that no candidate contains: long enough to be neither named nor near.
    let hidden = r#"@id("t") permit (principal in Profile::"pure", action == Action::"attach", resource)
        when { context.file like "*a*" && context.file like "*b*" && !(context.file like "*ab*")
            && !(context.file like "*ba*") && !(context.file == "") };"#;
    let mutation = Mutation::of(&[policies(hidden)], Stock::With).unwrap();
    let asked = AtomicUsize::new(0);
    let proof = |_: &Unnoticed<'_>| {
        asked.fetch_add(1, Ordering::Relaxed);
        true
    };
    let beyond = Beyond {
        proof: Some(&proof),
        attacks: None,
    };
    let report = mutation.judge(&Suite::read(&[]).unwrap(), TWO_JOBS, beyond, &|_| ());
    let proven = report
        .mutants
        .iter()
        .filter(|mutant| mutant.verdict == Verdict::Equivalent { proven: true });
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 0);
    assert_eq!(proven.count(), asked);
    let told_apart = |mutant: &&MutantReport| matches!(mutant.verdict, Verdict::Survived { example: Some(_) });
    assert!(report.mutants.iter().any(|mutant| told_apart(&mutant)));
}

#[test]
fn attacks_are_asked_about_what_no_test_notices() {
    let mutation = Mutation::of(&[policies(LOG)], Stock::With).unwrap();
    let tests = suite("bounds: [{principals: pure, meters: {growLog: 4 KiB}}]");
    let attacks = |unnoticed: &Unnoticed<'_>| {
        assert!(!unnoticed.profiles.contains("pure"), "a test looks at it");
        Attacked::Noticed("an attack".to_owned())
    };
    let beyond = Beyond {
        proof: None,
        attacks: Some(&attacks),
    };
    let report = mutation.judge(&tests, TWO_JOBS, beyond, &|_| ());
    let by_attack = Verdict::Killed {
        by: Killer::Attack("an attack".to_owned()),
    };
    let noticed = report.mutants.iter().filter(|mutant| mutant.verdict == by_attack);
    let noticed: Vec<String> = noticed.map(change).collect();
    assert_eq!(noticed, [r#"-principal in Profile::"pure", +principal,"#]);
    assert_eq!(report.survived, 0);
    let untried = |_: &Unnoticed<'_>| Attacked::Untried;
    let beyond = Beyond {
        proof: None,
        attacks: Some(&untried),
    };
    let report = mutation.judge(&Suite::read(&[]).unwrap(), TWO_JOBS, beyond, &|_| ());
    assert_eq!(report.survived, 0);
    assert!(report.unjudged > 0);
}

fn stock_files() -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let kind = |path: &Path| match path.extension()?.to_str()? {
        "cedar" => Some(SourceKind::Policies),
        "json" => Some(SourceKind::Entities),
        _ => None,
    };
    let sources = files.iter().filter_map(|path| {
        Some(Source {
            name: format!("policies/profiles/{}", path.file_name()?.to_str()?),
            text: std::fs::read_to_string(path).unwrap(),
            kind: kind(path)?,
        })
    });
    sources.collect()
}

#[test]
fn every_mistake_in_the_stock_profiles_is_noticed() {
    let sources = stock_files();
    assert_eq!(Stock::beside(&sources), Stock::Without);
    assert_eq!(Stock::beside(&sources[1..]), Stock::With);
    let mutation = Mutation::of(&sources, Stock::Without).unwrap();
    let suite = Suite::read(&stockade_policies::suite::stock_tests()).unwrap();
    assert_eq!(suite.first_failure(mutation.original()), None);
    let report = mutation.judge(&suite, TWO_JOBS, Beyond::default(), &|_| ());
    let survivors: Vec<_> = report.survivors().take(10).collect();
    assert_eq!(survivors, [] as [&MutantReport; 0]);
    assert_eq!((report.unjudged, report.score), (0, Some(100.0)));
    assert!(report.total > 2500, "only {} mutants", report.total);
    assert!(
        report.killed > report.total / 2,
        "{} of {}",
        report.killed,
        report.total
    );
    for operator in Operator::ALL {
        let of_kind = verdicts(&report, *operator);
        let is_killed = |verdict: &&&Verdict| matches!(verdict, Verdict::Killed { .. });
        assert!(of_kind.iter().any(|verdict| is_killed(&verdict)), "{}", operator.name());
    }
}
