//! Properties proven and refuted, with the real solver; and solvers that are none.
//!
//! Without cvc5 these tests fail and say how to get it: a proof that was skipped is no proof.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use stockade_policies::prove::{
    Counterexample, Proof, PropertiesText, ProveError, Solver, Verdict, Whose, equivalent, forbids_never_err, prove,
    read, stock,
};
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};

const ENTITIES: &str = r#"[
    {"uid": {"type": "Profile", "id": "reports"}, "attrs": {}, "parents": [{"type": "Profile", "id": "database-only"}]},
    {"uid": {"type": "Profile", "id": "plugin"}, "attrs": {}, "parents": [{"type": "Profile", "id": "standard"}]}
]"#;

fn store_with(policies: &str, entities: &str) -> PolicyStore {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let sources = [
        source("grants.cedar", policies, SourceKind::Policies),
        source("grants.entities.json", entities, SourceKind::Entities),
    ];
    PolicyStore::load(&sources, Stock::With).unwrap()
}

fn store(policies: &str) -> PolicyStore {
    store_with(policies, ENTITIES)
}

fn solver() -> Solver {
    Solver::from_environment()
}

fn quiet(_: usize, _: usize) {}

fn proof_of(store: &PolicyStore, property: &str) -> Proof {
    let text = PropertiesText {
        name: "grants.properties.yaml".to_owned(),
        text: format!(
            "properties:\n  - id: it\n    why: because\n    {}\n",
            property.replace('\n', "\n    ")
        ),
    };
    let proofs = prove(store, &read(&[text]).unwrap(), &solver(), &quiet).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(proofs.len(), 1);
    proofs[0].clone()
}

fn assert_proven(store: &PolicyStore, property: &str) {
    assert_eq!(proof_of(store, property).verdict, Verdict::Proven, "{property}");
}

fn broken(store: &PolicyStore, property: &str) -> Counterexample {
    match proof_of(store, property).verdict {
        Verdict::Broken { counterexample } => *counterexample,
        other => panic!("{property}: {other:?}"),
    }
}

fn deciding(counterexample: &Counterexample) -> Vec<&str> {
    counterexample
        .policies
        .iter()
        .map(|policy| policy.id.as_str())
        .collect()
}

const NO_SALARY: &str = r#"
@id("no-salary")
forbid (principal in Profile::"reports", action == Action::"read", resource)
when { resource.name == "salary" };
"#;

#[test]
fn the_stock_profiles_keep_their_promises() {
    let stock = [stock().unwrap(), vec![forbids_never_err()]].concat();
    let proofs =
        prove(&PolicyStore::stock().unwrap(), &stock, &solver(), &quiet).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(proofs.len(), stock.len());
    for proof in &proofs {
        assert_eq!(proof.verdict, Verdict::Proven, "{}", proof.id);
        assert!(proof.looked_at > 0, "{}", proof.id);
    }
}

#[test]
fn never_needs_its_forbid() {
    let property = "profiles: [reports]\nnever: [read]\nwhen: resource == Column::\"main.staff.salary\"";
    assert_proven(&store(NO_SALARY), property);
    let found = broken(&store(""), property);
    assert_eq!((found.profile.as_str(), found.action.as_str()), ("reports", "read"));
    assert_eq!(found.resource, "Column::\"main.staff.salary\"");
    assert!(found.allowed);
    assert_eq!(deciding(&found), ["capabilities-database-only-read"]);
    assert_eq!(found.policies[0].location.source, "stock/capabilities.cedar");
}

#[test]
fn never_sees_a_widened_principal() {
    let clock = |who: &str| format!("@id(\"clock\") permit ({who}, action == Action::\"readClock\", resource);");
    let property =
        "except: [plugin, standard, trusted, capabilities-standard, capabilities-elevated]\nnever: [readClock]";
    assert_proven(&store(&clock("principal in Profile::\"plugin\"")), property);
    let found = broken(&store(&clock("principal")), property);
    assert_eq!(deciding(&found), ["clock"]);
    assert_eq!(found.policies[0].location.line, 1);
}

#[test]
fn always_notices_a_forbid() {
    let property = "profiles: [reports]\nalways: [read]\nwhen: resource in Table::\"main.staff\"";
    assert_proven(&store(""), property);
    let found = broken(&store(NO_SALARY), property);
    assert!(!found.allowed);
    assert_eq!(found.resource, "Column::\"main.staff.salary\"");
    assert_eq!(deciding(&found), ["no-salary"]);
}

#[test]
fn bounded_is_exact() {
    let store = store("");
    assert_proven(&store, "profiles: [reports]\nbounded: {growHeap: 16 MiB, elapse: 2 s}");
    let found = broken(&store, "profiles: [reports]\nbounded: {growHeap: 16777215 bytes}");
    assert_eq!(found.context, [("bytes".to_owned(), json!(16_777_216))].into());
    assert_eq!(found.resource, "Meter::\"connection\"");
    assert_eq!(deciding(&found), ["database-only-heap"]);
}

#[test]
fn the_rest_is_nothing() {
    let property = "profiles: [pure]\nbounded: {elapse: 100 ms, loadGuest: 1 MiB}\nrest: nothing";
    let found = broken(&store(""), property);
    assert_eq!(found.profile, "pure");
    assert!(!["elapse", "loadGuest"].contains(&found.action.as_str()));
}

#[test]
fn implies_compares_two_profiles() {
    let more =
        r#"@id("reports-clock") permit (principal in Profile::"reports", action == Action::"readClock", resource);"#;
    let property = "profiles: [reports]\nimplies: database-only";
    assert_proven(&store(NO_SALARY), property);
    let found = broken(&store(more), property);
    assert_eq!((found.action.as_str(), found.allowed), ("readClock", true));
    assert_eq!(deciding(&found), ["reports-clock"]);
    assert_proven(
        &store(more),
        "profiles: [reports]\nimplies: database-only\nactions: [sql]",
    );
    // What names a guest is the same for both.
    let named = r#"@id("one") permit (principal == Module::"x", action == Action::"readClock", resource);"#;
    assert_proven(&store(named), property);
}

#[test]
fn a_guest_that_is_declared_in_two_profiles_is_a_member_of_both() {
    let entities = ENTITIES.replacen(
        '[',
        r#"[{"uid": {"type": "Module", "id": "d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4"}, "attrs": {"sha256": "d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4"},
            "parents": [{"type": "Profile", "id": "reports"}, {"type": "Profile", "id": "plugin"}]},"#,
        1,
    );
    let property = "profiles: [reports]\nnever: [readClock]";
    assert_proven(&store(""), property);
    let found = broken(&store_with("", &entities), property);
    assert_eq!(
        found.principal,
        "Module::\"d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4\""
    );
}

#[test]
fn a_module_that_a_publisher_signed_is_a_member_too() {
    let key = r#""ed25519": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a""#;
    let publisher = |attributes: &str| {
        let acme =
            format!(r#"[{{"uid": {{"type": "Publisher", "id": "acme"}}, "attrs": {{{attributes}}}, "parents": []}},"#);
        ENTITIES.replacen('[', &acme, 1)
    };
    let clock = r#"@id("clock") permit (principal in Publisher::"acme", action == Action::"readClock", resource);"#;
    let property = "profiles: [reports]\nnever: [readClock]";
    // Nobody is in a publisher that has no key and is declared to be nobody's.
    assert_proven(&store_with(clock, &publisher("")), property);
    let found = broken(&store_with(clock, &publisher(key)), property);
    assert_eq!((found.action.as_str(), found.allowed), ("readClock", true));
    assert_eq!(deciding(&found), ["clock"]);
}

#[test]
fn a_property_of_no_request_is_not_proven() {
    let store = store("");
    for when in [
        "resource in Table::\"main.a\" && resource.database == \"temp\"",
        "principal in Profile::\"plugin\"",
        "1 > 2",
    ] {
        let proof = proof_of(&store, &format!("profiles: [reports]\nnever: [read]\nwhen: {when:?}"));
        let Verdict::Unknown { reason } = proof.verdict else {
            panic!("{:?}", proof.verdict)
        };
        assert_eq!(reason, "there is no such request, so it says nothing");
    }
}

#[test]
fn a_request_that_the_runtime_never_makes_is_no_counterexample() {
    // The schema table has one name, and this is not it; the solver cannot know.
    let proof = proof_of(
        &store(""),
        "profiles: [trusted]\nnever: [read]\nwhen: resource.table == \"sqlite_schema\"",
    );
    let Verdict::Unknown { reason } = proof.verdict else {
        panic!("{:?}", proof.verdict)
    };
    assert!(reason.contains("cedar's authorizer does not confirm it"), "{reason}");
}

#[test]
fn a_condition_that_errs_is_not_proven() {
    let proof = proof_of(
        &store(""),
        "profiles: [reports]\nnever: [elapse]\nwhen: context.millis * 2 > 4000",
    );
    let Verdict::Unknown { reason } = proof.verdict else {
        panic!("{:?}", proof.verdict)
    };
    assert!(reason.contains("overflows"), "{reason}");
}

#[test]
fn equivalent_sets_are_told_from_different_ones() {
    let compare = |old: &str, new: &str, whose| equivalent(&store(old), &store(new), whose, &solver()).unwrap();
    let same = NO_SALARY.replace(
        "when { resource.name == \"salary\" }",
        "unless { !(\"salary\" == resource.name) }",
    );
    assert_ne!(same, NO_SALARY);
    assert_eq!(compare(NO_SALARY, &same, Whose::Everybody), Verdict::Proven);
    assert_eq!(compare(NO_SALARY, "", Whose::Members("plugin")), Verdict::Proven);
    for whose in [Whose::Everybody, Whose::Members("reports")] {
        let Verdict::Broken { counterexample } = compare(NO_SALARY, "", whose) else {
            panic!("no difference")
        };
        assert_eq!(counterexample.profile, "reports");
        assert!(
            counterexample.allowed && counterexample.resource.ends_with(".salary\""),
            "{counterexample:?}"
        );
    }
}

#[test]
fn a_profile_that_is_nested_elsewhere_is_another() {
    let moved = ENTITIES.replace("\"standard\"", "\"database-only\"");
    let same = ENTITIES.replace(
        "\"id\": \"standard\"}",
        "\"id\": \"standard\"}, {\"type\": \"Profile\", \"id\": \"capabilities-standard\"}",
    );
    let old = store("");
    assert_eq!(
        equivalent(&old, &store_with("", &same), Whose::Everybody, &solver()).unwrap(),
        Verdict::Proven
    );
    let verdict = equivalent(&old, &store_with("", &moved), Whose::Everybody, &solver()).unwrap();
    let Verdict::Broken { counterexample } = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(counterexample.profile, "plugin");
}

/// A program in place of the solver.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str, script: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn refusal(&self) -> String {
        refused(&Solver::at(&self.0).with_timeout(Duration::from_millis(300)))
    }
}

fn refused(solver: &Solver) -> String {
    let error = prove(&PolicyStore::stock().unwrap(), &stock().unwrap(), solver, &quiet).unwrap_err();
    assert!(matches!(error, ProveError::Solver(_)));
    error.to_string()
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn without_a_solver_it_says_how_to_get_one() {
    let said = Fake(PathBuf::from("/nowhere/cvc5")).refusal();
    assert!(
        said.starts_with("there is no solver: `/nowhere/cvc5` does not start: "),
        "{said}"
    );
    assert!(said.contains("apt-get install cvc5"), "{said}");
}

#[test]
fn a_solver_that_talks_nonsense_is_refused() {
    let said = Fake::new("nonsense", "while read line; do echo 'segmentation fault? maybe'; done").refusal();
    assert!(
        said.contains("does not answer as cvc5 does: unrecognized solver output: segmentation"),
        "{said}"
    );
    // One that says yes to everything has no strings either.
    let said = Fake::new("yes", "while read line; do echo unsat; done").refusal();
    assert!(said.contains("unsat"), "{said}");
}

#[test]
fn a_solver_that_ends_at_once_is_refused_with_its_last_words() {
    let said = Fake::new("ends", "echo 'no licence' >&2; exit 3").refusal();
    assert!(said.contains("it ended with exit status: 3"), "{said}");
}

#[test]
fn a_solver_that_floods_is_cut_off() {
    // As long as it takes: it is the amount that ends it.
    let fake = Fake::new("floods", "exec cat /dev/zero");
    let said = refused(&Solver::at(&fake.0));
    assert!(said.contains("longer than 16 MiB"), "{said}");
}

#[test]
fn a_solver_that_hangs_is_killed_and_gone() {
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hangs-{}.pid", std::process::id()));
    let said = Fake::new("hangs", &format!("echo $$ > {}\nexec sleep 600", note.display())).refusal();
    assert!(said.contains("it said nothing for 300ms"), "{said}");
    let pid = fs::read_to_string(&note).unwrap();
    fs::remove_file(&note).unwrap();
    // It is reaped when the runtime that started it comes round to it.
    let is_there = || Path::new("/proc").join(pid.trim()).exists();
    for _ in 0..500 {
        if !is_there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the solver is still there");
}

#[test]
fn a_solver_that_hangs_later_proves_nothing() {
    // It answers the first question, and nothing after it.
    let fake = Fake::new(
        "tires",
        "while read line; do case $line in *check-sat*) echo sat; exec sleep 600;; esac; done",
    );
    let solver = Solver::at(&fake.0).with_timeout(Duration::from_millis(300));
    let text =
        "properties:\n  - {id: it, why: because, never: [attach], profiles: [walkin], when: 'context.file == \"x\"'}";
    let properties = read(&[PropertiesText {
        name: "p.yaml".into(),
        text: text.into(),
    }])
    .unwrap();
    let proofs = prove(
        &store("@id(\"a\") permit (principal, action == Action::\"attach\", resource);"),
        &properties,
        &solver,
        &quiet,
    )
    .unwrap();
    let Verdict::Unknown { reason } = &proofs[0].verdict else {
        panic!("{proofs:?}")
    };
    assert!(
        reason.contains("no answer within 300ms") || reason.contains("given up"),
        "{reason}"
    );
}

fn unreadable(text: &str) -> String {
    let file = PropertiesText {
        name: "p.yaml".to_owned(),
        text: text.to_owned(),
    };
    read(&[file]).unwrap_err().to_string()
}

#[test]
fn stock_properties_are_about_stock_profiles() {
    let proofs = |policies: &str| {
        let mut properties = stock().unwrap();
        properties.retain(|property| property.id() == "nobody-attaches");
        prove(&store(policies), &properties, &solver(), &quiet)
            .unwrap()
            .remove(0)
            .verdict
    };
    let attach = |who: &str| format!("@id(\"a\") permit ({who}, action == Action::\"attach\", resource);");
    assert_eq!(proofs(&attach("principal in Profile::\"plugin\"")), Verdict::Proven);
    assert!(matches!(proofs(&attach("principal")), Verdict::Broken { .. }));
}

#[test]
fn bad_properties_say_where_and_how_to_mend_them() {
    let one = |rest: &str| format!("properties:\n  - id: it\n    why: because\n    {rest}\n");
    for (text, said) in [
        (one("nver: [attach]"), "did you mean `never`?"),
        (
            one("never: [atach]"),
            "there is no action `atach`; did you mean `attach`?",
        ),
        (one("never: []"), "no action is named"),
        (one("never: [attach]\n    always: [attach]"), "several or none"),
        (one("when: 'true'"), "several or none"),
        (
            one("bounded: {elaps: 3}"),
            "there is no meter `elaps`; did you mean `elapse`?",
        ),
        (
            one("bounded: {elapse: 4 MiB}"),
            "`elapse`: `4 MiB` is no amount of millis; write a whole number, `500 ms`, `2 s`",
        ),
        (one("bounded: {}"), "names no meter"),
        (one("never: [attach]\n    rest: nothing"), "`rest` goes with `bounded`"),
        (
            one("never: [attach]\n    when: 'true }; permit (principal, action, resource) when { true'"),
            "no condition",
        ),
        (
            one("never: [attach]\n    when: resource.nme == \"x\""),
            "`when` does not fit `attach`",
        ),
        (one("profiles: []\n    never: [attach]"), "`profiles` is empty"),
        ("properties: []".to_owned(), "nothing would be proven"),
        (
            "properties:\n  - {id: a, why: b, never: [attach]}\n  - {id: a, why: b, never: [attach]}".to_owned(),
            "is also the id of",
        ),
        ("- 1".to_owned(), "p.yaml:1: "),
    ] {
        let error = unreadable(&text);
        assert!(error.contains(said), "{text}\n{error}");
        assert!(error.starts_with("p.yaml:"), "{error}");
    }
    assert!(unreadable(&one("never: [atach]")).starts_with("p.yaml:4: "));
    assert!(unreadable(&one("bounded: {elaps: 3}")).starts_with("p.yaml:2: "));
}

#[test]
fn an_undeclared_profile_is_an_error_with_a_place() {
    let text = "properties:\n  - id: it\n    why: because\n    profiles: [repots]\n    never: [attach]";
    let properties = read(&[PropertiesText {
        name: "p.yaml".into(),
        text: text.into(),
    }])
    .unwrap();
    let error = prove(&store(""), &properties, &solver(), &quiet).unwrap_err();
    assert_eq!(
        error.to_string(),
        "p.yaml:2: property `it`: there is no profile `repots`; did you mean `reports`?"
    );
}
