//! The tests of the stock profiles, and that a suite notices what is wrong.

#![cfg(feature = "workbench")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

use std::fs;
use std::path::Path;

use stockade_policies::suite::{CaseResult, Problem, Suite, SuiteError, SuiteRun, TestFile, schema, stock_tests};
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};

/// The folder with the stock profiles, the examples and the schema of tests.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn suite_of(text: &str) -> Result<Suite, Vec<SuiteError>> {
    Suite::read(&[TestFile {
        name: "a.tests.yaml".to_owned(),
        text: text.to_owned(),
    }])
}

fn source(name: &str, text: impl Into<String>) -> Source {
    let is_json = Path::new(name).extension().is_some_and(|kind| kind == "json");
    Source {
        name: name.to_owned(),
        text: text.into(),
        kind: if is_json {
            SourceKind::Entities
        } else {
            SourceKind::Policies
        },
    }
}

/// A store without the stock: one profile `p`, one caller of the tenant `acme`.
fn store_of(policies: &str) -> PolicyStore {
    let entities = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;
    let sources = [source("a.cedar", policies), source("a.entities.json", entities)];
    PolicyStore::load(&sources, Stock::Without).unwrap_or_else(|error| panic!("{error}"))
}

fn run(policies: &str, tests: &str) -> SuiteRun {
    let suite = suite_of(tests).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let store = store_of(policies);
    let run = suite.run(&store, None);
    // Looking less closely finds the same, as long as Cedar and the plan agree.
    let first = run.cases.iter().find(|case| case.is_failed());
    assert_eq!(suite.first_failure(&store).as_ref(), first);
    run
}

#[test]
fn the_stock_profiles_do_what_their_tests_say_and_nothing_is_left_untested() {
    let suite = Suite::read(&stock_tests()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let store = PolicyStore::stock().unwrap();
    let run = suite.run(&store, None);
    let failed: Vec<_> = run.cases.iter().filter(|case| case.is_failed()).take(20).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let coverage = run.coverage.unwrap();
    for (kind, share) in coverage.kinds() {
        assert_eq!(share.missing, [], "{kind}");
        assert!(share.total > 100, "{kind}: only {} to cover", share.total);
    }
    assert_eq!(suite.first_failure(&store), None);
}

#[test]
fn the_example_is_tested_in_full() {
    let read = |name: &str| fs::read_to_string(folder().join("examples").join(name)).unwrap();
    let sources = ["grants.cedar", "grants.entities.json"].map(|name| source(name, read(name)));
    let store = PolicyStore::load(&sources, Stock::With).unwrap();
    let run = suite_of(&read("grants.tests.yaml")).unwrap().run(&store, None);
    assert!(run.cases.iter().all(|case| !case.is_failed()), "{:#?}", run.cases);
    let coverage = run.coverage.unwrap();
    assert!(coverage.is_full(), "{coverage:#?}");
    assert_eq!(coverage.policies.total, 9, "three policies of its own");
}

#[test]
fn every_test_beside_a_stock_profile_is_a_stock_test() {
    let known: Vec<String> = stock_tests().into_iter().map(|file| file.name).collect();
    for entry in fs::read_dir(folder().join("profiles")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(stem) = name.strip_suffix(".cedar") {
            assert!(
                known.contains(&format!("stock/{stem}.tests.yaml")),
                "{stem} has no tests"
            );
        }
        if name.ends_with(".tests.yaml") {
            assert!(known.contains(&format!("stock/{name}")), "{name} is run by nobody");
        }
    }
}

/// One change of each sort that a careless edit makes. `policyctl mutate` makes all of them.
#[test]
fn the_tests_of_the_stock_notice_a_careless_edit() {
    let edits = [
        ("untrusted.cedar", "context.millis <= 500 ", "context.millis <= 501 "),
        ("untrusted.cedar", "context.millis <= 500 ", "context.millis < 500 "),
        (
            "walkin.cedar",
            "principal in Profile::\"walkin\",\n  action in Action::\"sqlTransaction\"",
            "principal == Profile::\"walkin\",\n  action in Action::\"sqlTransaction\"",
        ),
        (
            "standard.cedar",
            "principal in Profile::\"standard\",\n  action == Action::\"elapse\"",
            "principal,\n  action == Action::\"elapse\"",
        ),
        ("walkin.cedar", "[\"bytecode\",\n   ", "["),
        ("walkin.cedar", "unless { context has argument }", ""),
        (
            "walkin.cedar",
            "action in [Action::\"attach\", Action::\"detach\"]",
            "action == Action::\"attach\"",
        ),
        (
            "capabilities.cedar",
            "action == Action::\"readClock\"",
            "action in Action::\"ambient\"",
        ),
        (
            "capabilities.cedar",
            "resource in Database::\"main\"\n)\nunless\n",
            "resource\n)\nunless\n",
        ),
        ("capabilities.cedar", "  resource.table like \"pragma_*\" ||\n", ""),
        (
            "capabilities.cedar",
            "resource in SqlFunctionClass::\"computing\"",
            "resource",
        ),
        (
            "functions.json",
            "\"id\": \"zeroblob\"}, \"attrs\": {}, \"parents\": [{\"type\": \"SqlFunctionClass\", \"id\": \"computing\"}]",
            "\"id\": \"zeroblob\"}, \"attrs\": {}, \"parents\": []",
        ),
        (
            "profiles.json",
            "{\"type\": \"Profile\", \"id\": \"capabilities-standard\"}, {",
            "{",
        ),
    ];
    let suite = Suite::read(&stock_tests()).unwrap();
    let files = [
        "profiles.json",
        "functions.json",
        "capabilities.cedar",
        "sqlite-recommended.cedar",
        "untrusted.cedar",
        "database-only.cedar",
        "standard.cedar",
        "trusted.cedar",
        "walkin.cedar",
        "pure.cedar",
    ];
    let texts = files.map(|file| (file, fs::read_to_string(folder().join("profiles").join(file)).unwrap()));
    for (edited, from, to) in edits {
        let sources = texts.iter().map(|(file, text)| {
            if *file != edited {
                return source(file, text.as_str());
            }
            assert!(text.contains(from), "{file} has no `{from}`");
            source(file, text.replacen(from, to, 1))
        });
        let store = PolicyStore::load(&sources.collect::<Vec<_>>(), Stock::Without).unwrap();
        assert!(
            suite.first_failure(&store).is_some(),
            "nobody notices {edited}: `{from}` to `{to}`"
        );
    }
}

#[test]
fn the_published_schema_is_the_generated_one() {
    let published = fs::read_to_string(folder().join("tests.schema.json")).unwrap();
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert_eq!(
        published, generated,
        "write it anew: policyctl test --schema > policies/tests.schema.json"
    );
}

/// `p` may read `main` but not secrets, up to a second.
const POLICIES: &str = r#"
@id("read")
permit (principal in Profile::"p", action == Action::"read", resource in Database::"main");

@id("no-secrets")
forbid (principal in Profile::"p", action == Action::"read", resource)
when { resource.table like "secret_*" || resource.name == "secret" };

@id("time")
permit (principal in Profile::"p", action == Action::"elapse", resource == Meter::"guest")
when { context.millis <= 1000 };
"#;

/// The problem of the only case that fails, and its line.
fn problem(policies: &str, tests: &str) -> (Problem, usize) {
    let run = run(policies, tests);
    let failed: Vec<_> = run.cases.into_iter().filter(CaseResult::is_failed).collect();
    let [failed] = <[_; 1]>::try_from(failed).unwrap_or_else(|failed| panic!("{failed:#?}"));
    (failed.problem.unwrap(), failed.location.line)
}

fn wrong(expected: &str, got: &str) -> Problem {
    Problem::Wrong {
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}

#[test]
fn a_wrong_answer_says_what_was_expected_and_who_decided() {
    let request = |column: &str, expect: &str| {
        format!(
            "requests:\n  - principal: p\n    action: read\n    resource: Column::\"{column}\"\n    expect: {expect}\n"
        )
    };
    assert_eq!(
        run(POLICIES, &request("main.t.c", "allow\n    by: [read]")).cases.len(),
        1
    );
    for (tests, expected, got) in [
        (request("main.t.c", "deny"), "denied", "allowed by `read`"),
        (request("loot.t.c", "allow"), "allowed", "denied: no policy permits it"),
        (request("main.secret_t.c", "allow"), "allowed", "denied by `no-secrets`"),
        (
            request("main.t.c", "allow\n    by: []"),
            "allowed by no policy",
            "allowed by `read`",
        ),
        (
            request("loot.t.c", "deny\n    by: [read]"),
            "denied by `read`",
            "denied: no policy permits it",
        ),
        (
            request("main.t.secret", "deny\n    by: []"),
            "denied: no policy permits it",
            "denied by `no-secrets`",
        ),
    ] {
        assert_eq!(problem(POLICIES, &tests), (wrong(expected, got), 2), "{tests}");
    }
    let failed = run(POLICIES, &request("main.t.c", "deny")).cases;
    let [decided] = failed[0].policies.as_slice() else {
        panic!("{failed:?}")
    };
    assert_eq!(
        decided.location.as_ref().map(ToString::to_string).as_deref(),
        Some("a.cedar:2:1")
    );
    assert_eq!(failed[0].name, "p, read on Column::\"main.t.c\"");
}

#[test]
fn a_wrong_bound_is_noticed_on_both_sides_and_where_nothing_is_permitted() {
    let bounds = |meters: &str| format!("bounds:\n- principals: p\n  {meters}\n");
    for good in [
        "meters: {elapse: 1 s}",
        "only: {elapse: {most: 1000, by: [time]}}",
        "meters: {growLog: 0}",
    ] {
        assert!(
            run(POLICIES, &bounds(good)).cases.iter().all(|case| !case.is_failed()),
            "{good}"
        );
    }
    let by_time = "1000 ms by `time`";
    for (meters, expected, got) in [
        ("meters: {elapse: 999}", "999 ms", by_time),
        ("meters: {elapse: 1001}", "1001 ms", by_time),
        ("meters: {elapse: unbounded}", "unbounded", by_time),
        ("only: {}", "0 ms", by_time),
        ("meters: {elapse: {most: 1 s, by: []}}", "1000 ms by no policy", by_time),
        ("meters: {growLog: 1 KiB}", "1 KiB", "0 bytes by no policy"),
    ] {
        assert_eq!(problem(POLICIES, &bounds(meters)).0, wrong(expected, got), "{meters}");
    }
}

#[test]
fn an_amount_can_be_asked_about_by_itself() {
    let ask = |millis: &str, expect: &str| {
        format!("requests:\n- {{principal: p, action: elapse, context: {{millis: {millis}}}, expect: {expect}}}\n")
    };
    assert!(!run(POLICIES, &ask("1000", "allow")).cases[0].is_failed());
    assert!(!run(POLICIES, &ask("1001", "deny")).cases[0].is_failed());
    assert_eq!(
        problem(POLICIES, &ask("1001", "allow")).0,
        wrong("allowed", "denied: no policy permits it")
    );
}

#[test]
fn a_table_denies_what_no_line_allows() {
    let table = |rest: &str| {
        format!(
            "tables:\n- principals: [p, {{caller: guest, in: p}}]\n  actions: [read, update]\n  resources: [Column::\"main.t.c\", \
             Column::\"loot.t.c\"]\n  {rest}\n"
        )
    };
    let good = "allow:\n    - {actions: read, resources: Column::\"main.t.c\", by: [read]}";
    let run_of = |rest: &str| run(POLICIES, &table(rest)).cases;
    assert_eq!(run_of(good).len(), 8);
    assert!(run_of(good).iter().all(|case| !case.is_failed()));
    let failed = |rest: &str| run_of(rest).iter().filter(|case| case.is_failed()).count();
    assert_eq!(failed("expect: deny"), 2, "both may read main");
    assert_eq!(failed("expect: allow"), 6);
    assert_eq!(failed("allow:\n    - actions: read"), 2, "nobody may read loot");
    assert_eq!(
        failed(&format!("by: [time]\n  {good}")),
        6,
        "the other cells are decided by nobody"
    );
}

#[test]
fn what_cannot_be_asked_is_said() {
    let request = |principal: &str, by: &str| {
        format!(
            "requests:\n- {{principal: {principal}, action: read, resource: 'Column::\"main.t.c\"', expect: allow, by: [{by}]}}\n"
        )
    };
    let unasked = |tests: &str| match problem(POLICIES, tests).0 {
        Problem::Unasked { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        unasked(&request("q", "read")),
        "profile `q` is not declared; did you mean `p`?"
    );
    assert_eq!(
        unasked(&request("p", "raed")),
        "there is no policy `raed`; did you mean `read`?"
    );
    let entity = "entities: [{uid: {type: Table, id: main.t}, attrs: {}, parents: []}]\n";
    assert!(unasked(&format!("{entity}{}", request("p", "read"))).contains("Table"));
}

#[test]
fn a_file_brings_its_own_guests() {
    let policies = r#"@id("acme") permit (principal in Profile::"p", action == Action::"select", resource)
        when { principal is Caller && principal has tenant && principal.tenant == "acme" };"#;
    let tests = "
entities:
  - {uid: {type: Caller, id: ada}, attrs: {tenant: acme}, parents: [{type: Profile, id: p}]}
  - {uid: {type: Caller, id: bob}, attrs: {tenant: other}, parents: [{type: Profile, id: p}]}
tables:
  - principals: [p, {caller: ada, in: p}, {caller: bob, in: p}, {caller: eve, in: p}]
    actions: select
    resources: Database::\"main\"
    allow: [{principals: {caller: ada, in: p}}]
";
    let run = run(policies, tests);
    assert_eq!(run.cases.len(), 4);
    assert!(run.cases.iter().all(|case| !case.is_failed()), "{:#?}", run.cases);
    let conditions = run.coverage.unwrap().conditions;
    assert_eq!((conditions.total, conditions.missing.as_slice()), (8, &[][..]));
}

#[test]
fn what_was_not_seen_is_listed_with_its_place() {
    let missing = |tests: &str| {
        let coverage = run(POLICIES, tests).coverage.unwrap();
        let rows = coverage
            .kinds()
            .into_iter()
            .flat_map(|(_, share)| share.missing.clone());
        rows.map(|one| format!("{} {}", one.location.map_or(0, |at| at.line), one.what))
            .collect::<Vec<_>>()
    };
    let read = |columns: &str| {
        format!(
            "bounds: [{{principals: p, meters: {{elapse: 1 s}}}}]\ntables:\n- {{principals: p, actions: read, expect: deny, \
             resources: [{columns}]}}\n"
        )
    };
    // Nothing but the bound, and a column elsewhere.
    assert_eq!(
        missing("bounds: [{principals: p, meters: {elapse: 1 s}}]"),
        [
            "2 `read` never decides",
            "2 `read` never applies",
            "2 `read` is never asked where it does not apply",
            "5 `no-secrets` never decides",
            "5 `no-secrets` never applies",
            "5 `no-secrets` is never asked where it does not apply",
            "7 `no-secrets`: `resource.table like \"secret_*\" || resource.name == \"secret\"` is never true",
            "7 `no-secrets`: `resource.table like \"secret_*\" || resource.name == \"secret\"` is never false",
            "7 `no-secrets`: `resource.table like \"secret_*\"` is never true",
            "7 `no-secrets`: `resource.table like \"secret_*\"` is never false",
            "7 `no-secrets`: `resource.name == \"secret\"` is never true",
            "7 `no-secrets`: `resource.name == \"secret\"` is never false",
            "2 `p` is never allowed `read`",
            "2 `p` is never denied `read`",
        ]
    );
    // The second operand is looked at only where the first is false.
    let all = "Column::\"main.secret_t.c\", Column::\"loot.t.c\", Column::\"loot.t.secret\"";
    assert_eq!(
        missing(&read(all)),
        ["2 `read` never decides", "2 `p` is never allowed `read`"],
        "what a forbid beats has applied and not decided"
    );
    assert_eq!(
        missing(&read("Column::\"main.secret_t.secret\", Column::\"loot.t.c\"")),
        [
            "2 `read` never decides",
            "7 `no-secrets`: `resource.name == \"secret\"` is never true",
            "2 `p` is never allowed `read`",
        ]
    );
    // An amount on one side of the edge is not the edge.
    let tests = "requests:\n- {principal: p, action: elapse, context: {millis: 1}, expect: allow}\n";
    let rows = missing(tests);
    assert!(
        rows.contains(&"9 the bound of `elapse` is not tested for `p`".to_owned()),
        "{rows:#?}"
    );
    assert!(
        rows.contains(&"11 `time`: `context.millis <= 1000` is never false".to_owned()),
        "{rows:#?}"
    );
}

#[test]
fn a_policy_that_can_fail_has_to_be_seen_failing() {
    let policies = r#"@id("time") permit (principal in Profile::"p", action == Action::"elapse", resource)
        when { context.millis + 5 <= 100 };"#;
    let bound = "bounds: [{principals: p, meters: {elapse: 95}}]\n";
    let missing = |tests: &str| run(policies, tests).coverage.unwrap().policies.missing;
    let [failing] = <[_; 1]>::try_from(missing(bound)).unwrap();
    assert_eq!(failing.what, "`time` never fails, and it can");
    let most = format!(
        "{bound}requests: [{{principal: p, action: elapse, context: {{millis: {}}}, expect: deny}}]",
        i64::MAX
    );
    assert_eq!(missing(&most), []);
}

#[test]
fn part_of_a_suite_has_no_coverage() {
    let suite = suite_of("bounds: [{principals: p, only: {elapse: 1 s}}]").unwrap();
    let run = suite.run(&store_of(POLICIES), Some("growLog"));
    assert_eq!((run.cases.len(), run.coverage), (1, None));
    assert_eq!(suite.run(&store_of(POLICIES), Some("a.tests")).cases.len(), suite.len());
}

/// Each mistake, the line it is on, and what is said about it.
#[test]
fn mistakes_are_said_with_their_line() {
    let table = |rest: &str| {
        format!("tables:\n- principals: [p, q]\n  actions: read\n  resources:\n  - Column::\"main.t.c\"\n{rest}")
    };
    let rows = [
        ("requests:\n  - principal: p\n    expcet: deny\n".to_owned(), 3, "did you mean `expect`?"),
        ("requets: []\n".to_owned(), 1, "did you mean `requests`?"),
        ("requests:\n  - {principal: p, action: read, expect: maybe}\n".to_owned(), 2, "`allow`"),
        ("requests: [\n".to_owned(), 2, "did not find expected node content"),
        (
            "requests:\n- {principal: p, action: select, resource: 'Database::\"main\"', expect: allow}\n- principal: p\n  action: raed\n  expect: deny\n"
                .to_owned(),
            4,
            "there is no action `raed`; did you mean `read`?",
        ),
        ("requests: [{principal: p, action: read, expect: deny}]".to_owned(), 1, "add `resource: Column::\"…\"`"),
        (
            "requests:\n- principal: p\n  action: read\n  resource: Table::\"main.t\"\n  expect: deny\n".to_owned(),
            4,
            "`read` is not done to Table::\"main.t\"; name a `Column`",
        ),
        (
            "requests:\n- principal: p\n  action: read\n  resource: Column::\"t.c\"\n  expect: deny\n".to_owned(),
            4,
            "a column is named with its table",
        ),
        (
            "requests:\n- {principal: p, action: savepoint, resource: 'Database::\"main\"', context: {operation: BEGIN}, expect: deny}\n"
                .to_owned(),
            2,
            "`savepoint` is never asked without `name`",
        ),
        (
            "requests:\n- {principal: p, action: select, resource: 'Database::\"main\"', context: {triger: t}, expect: deny}\n".to_owned(),
            2,
            "`select` has no `triger` in its context; did you mean `trigger`?",
        ),
        (
            "requests:\n- {principal: p, action: select, resource: 'Database::\"main\"', context: {trigger: 1}, expect: deny}\n".to_owned(),
            2,
            "`trigger` cannot be `1`; it is a string",
        ),
        ("requests: [{principal: p, action: sqlRead, expect: deny}]".to_owned(), 1, "`sqlRead` is a group of actions"),
        ("requests: [{principal: p, action: fetchHttp, expect: deny}]".to_owned(), 1, "it is reserved: guests have no sockets"),
        ("requests: [{principal: p, action: elapse, expect: deny}]".to_owned(), 1, "write `context: {millis: 1000}`"),
        (
            "requests: [{principal: p, action: elapse, resource: 'Meter::\"store\"', context: {millis: 1}, expect: deny}]".to_owned(),
            1,
            "`elapse` does not hang on `Meter::\"store\"`",
        ),
        (
            "requests: [{principal: p, action: elapse, context: {millis: -1}, expect: deny}]".to_owned(),
            1,
            "`millis` is not a number from 0",
        ),
        ("requests: [{principal: {in: p}, action: elapse, expect: deny}]".to_owned(), 1, "either a `caller` or a `module`"),
        (
            "requests: [{principal: {module: abc, in: p}, action: elapse, expect: deny}]".to_owned(),
            1,
            "`abc` is no digest of a module",
        ),
        (
            "bounds:\n- principals: p\n  meters:\n    elapse: 1 s\n    growMemroy: 1 MiB\n".to_owned(),
            5,
            "there is no meter `growMemroy`; did you mean `growMemory`?",
        ),
        ("bounds:\n- principals: p\n  meters:\n    elapse: 1 MiB\n".to_owned(), 4, "`1 MiB` is no amount of millis"),
        ("bounds:\n- principals: p\n  meters: {elapse: 1, elapse: 2}\n".to_owned(), 3, "`elapse` is said twice"),
        ("bounds:\n- principals: p\n  meters: {elapse: 1}\n  only: {}\n".to_owned(), 4, "`meters` and `only` stand side by side"),
        ("bounds:\n- principals: p\n".to_owned(), 2, "this asks nothing"),
        (table("  allow:\n  - actions: update\n"), 7, "`update` is not in the table; add it to `actions`"),
        (table("  allow:\n  - resources: Table::\"main.t\"\n"), 7, "this line is about no cell of the table"),
        (
            table("  allow:\n  - actions: read\n  - resources: Column::\"main.u.c\"\n"),
            8,
            "`Column::\"main.u.c\"` is not in the table; add it to `resources`",
        ),
        (table("  allow:\n  - principals: r\n"), 7, "`r` is not in the table; add it to `principals`"),
        (table("  allow:\n  - principals: p\n  deny:\n  - principals: q\n  - actions: read\n"), 10, "is said twice; line 7"),
        (table("  - Table::\"main.t\"\n"), 6, "no action of the table is done to Table::\"main.t\""),
        (table("  context: {argument: x}\n"), 6, "no action of the table has `argument` in its context"),
        (
            "tables:\n- principals: p\n  actions: [read, select]\n  resources: Column::\"main.t.c\"\n".to_owned(),
            3,
            "`select` is asked about no resource of the table",
        ),
        ("tables:\n- principals: p\n  actions: [elapse]\n  resources: []\n".to_owned(), 3, "put it under `bounds`"),
    ];
    for (text, line, message) in rows {
        let errors = suite_of(&text).map(|_| ()).expect_err(&text);
        let said = errors[0].to_string();
        assert_eq!(errors[0].location.line, line, "{text}{said}");
        assert!(said.contains(message), "{text}{said}");
    }
}

#[test]
fn an_empty_suite_says_that_it_is() {
    assert!(suite_of("{}").unwrap().is_empty());
    assert!(!suite_of("bounds: [{principals: p, only: {}}]").unwrap().is_empty());
}
