//! `policyctl test`: what passes, what fails, what has no answer, and every format of saying so.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::folder::{Folder, Ran};

/// How long a watched run may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const POLICY: &str = r#"@id("clock") permit (principal in Profile::"p", action == Action::"readClock", resource);"#;
const ENTITIES: &str = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;

/// A clock for `p` and for nobody else: everything there is to cover.
const FULL: &str = "
tables:
  - principals: [p, pure]
    actions: readClock
    resources: 'HostFunction::\"a # b\"'
    allow: [{principals: p, by: [clock]}]
";

/// One right answer, one wrong one, one that there is no profile for.
const MIXED: &str = "
requests:
  - {principal: p, action: readClock, resource: 'HostFunction::\"a # b\"', expect: allow}
  - {principal: p, action: readClock, resource: 'HostFunction::\"a # b\"', expect: deny}
  - {principal: nobody, action: readClock, resource: 'HostFunction::\"a # b\"', expect: deny}
";

fn folder(tests: &str) -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("clock.cedar"), POLICY).unwrap();
    fs::write(folder.path("clock.entities.json"), ENTITIES).unwrap();
    fs::write(folder.path("clock.tests.yaml"), tests).unwrap();
    folder
}

#[track_caller]
fn assert_ran(ran: &Ran, code: i32, wanted: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(ran.stdout.contains(wanted), "{ran:?}");
}

#[test]
fn policies_and_tests_bring_each_other() {
    let folder = folder(FULL);
    for files in [
        &[][..],
        &["."],
        &["clock.cedar"],
        &["clock.tests.yaml"],
        &["clock.cedar", "clock.entities.json"],
    ] {
        let ran = folder.run(&[&["test", "--min-coverage", "100"], files].concat());
        assert_ran(&ran, 0, "2 cases: 2 passed, 0 failed");
    }
}

#[test]
fn without_any_file_the_stock_is_tested() {
    let folder = Folder::new();
    let ran = folder.run(&["test", "--filter", "untrusted, the bound of elapse"]);
    assert_ran(&ran, 0, "3 cases: 3 passed, 0 failed");
    assert!(ran.stderr.contains("the stock profiles"), "{ran:?}");
}

#[test]
fn a_failure_says_where_and_what() {
    let folder = folder(&MIXED.replace("nobody", "p"));
    let ran = folder.run(&["test"]);
    assert_ran(
        &ran,
        1,
        "FAIL clock.tests.yaml:4:5\n  p, readClock on HostFunction::\"a # b\"\n  expected  denied\n  got       allowed by `clock`\n  \
         `clock` is at clock.cedar:1:1\n",
    );
    assert!(ran.stdout.ends_with("3 cases: 1 passed, 2 failed\n"), "{ran:?}");
    assert_ran(&folder.run(&["test", "--filter", "nothing has this name"]), 2, "");
}

#[test]
fn a_case_without_an_answer_is_no_answer() {
    let ran = folder(MIXED).run(&["test"]);
    assert_ran(&ran, 2, "unasked   profile `nobody` is not declared");
}

#[test]
fn what_is_not_covered_fails_where_that_is_asked_for() {
    let folder = folder(&FULL.replace("[p, pure]", "p"));
    let ran = folder.run(&["test"]);
    assert_ran(
        &ran,
        0,
        "not covered: clock.cedar:1:1: `clock` is never asked where it does not apply",
    );
    assert!(ran.stdout.contains("covered: policies 2 of 3"), "{ran:?}");
    assert_ran(&folder.run(&["test", "--min-coverage", "66"]), 0, "1 case: 1 passed");
    let short = "policies are covered to 66 %, less than 67 %";
    assert_ran(&folder.run(&["test", "--min-coverage", "67"]), 1, short);
    let ran = folder.run(&["test", "--min-coverage", "67", "--format", "tap"]);
    assert_eq!((ran.code, ran.stderr.trim_end()), (Some(1), short), "{ran:?}");
    assert_eq!(folder.run(&["test", "--min-coverage", "101"]).code, Some(2));
}

#[test]
fn programs_are_answered_in_their_formats() {
    let folder = folder(MIXED);
    let json: serde_json::Value = serde_json::from_str(&folder.run(&["test", "--format", "json"]).stdout).unwrap();
    let kinds: Vec<_> = (0..3).map(|at| json["cases"][at]["problem"]["kind"].as_str()).collect();
    assert_eq!(kinds, [None, Some("wrong"), Some("unasked")]);
    assert_eq!(json["cases"][1]["location"]["line"], 4);
    assert_eq!(json["coverage"]["policies"]["total"], 3);

    let tap = folder.run(&["test", "--format", "tap"]);
    let lines: Vec<&str> = tap.stdout.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "TAP version 14",
            "1..3",
            "ok 1 - p, readClock on HostFunction::\"a \\# b\"",
            "not ok 2 - p, readClock on HostFunction::\"a \\# b\"",
        ]
    );
    assert!(
        tap.stdout
            .contains("  expected: \"denied\"\n  got: \"allowed by `clock`\"\n  ...\n"),
        "{tap:?}"
    );

    let junit = folder.run(&["test", "--format", "junit"]);
    assert!(
        junit
            .stdout
            .contains("<testsuite name=\"clock.tests.yaml\" tests=\"3\" disabled=\"0\" errors=\"1\" failures=\"1\">"),
        "{junit:?}"
    );
    assert!(
        junit
            .stdout
            .contains("message=\"expected denied; got allowed by `clock`\""),
        "{junit:?}"
    );
    for ran in [tap, junit] {
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}

#[test]
fn no_test_is_no_answer() {
    let folder = folder("# nothing yet\nrequests: []\n");
    let refused = |arguments: &[&str], wanted: &str| {
        let ran = folder.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.contains(wanted), "{ran:?}");
    };
    refused(&["test"], "there is no test in `clock.tests.yaml`");
    fs::write(folder.path("clock.tests.yaml"), "requests: {").unwrap();
    refused(&["test"], "clock.tests.yaml:1");
    fs::remove_file(folder.path("clock.tests.yaml")).unwrap();
    refused(&["test"], "there is no test: write one in `NAME.tests.yaml`");
    refused(&["test", "."], "there is no `.tests.yaml` file in `.`");
    refused(&["test", "clock.cedar"], "there is no test");
    refused(&["test", "gone.tests.yaml"], "cannot read `gone.tests.yaml`");
    refused(&["test", "clock.txt"], "is neither a `.tests.yaml` nor");
    fs::write(folder.path("clock.tests.yaml"), FULL).unwrap();
    fs::write(folder.path("clock.cedar"), "permit (").unwrap();
    refused(&["test"], "the policies do not load");
}

#[test]
fn a_watched_test_runs_again_when_a_file_changes() {
    let folder = folder(FULL);
    let mut child = folder
        .command(&["test", "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, summaries) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in output
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.contains("passed"))
        {
            sender.send(line).unwrap();
        }
    });
    let first = summaries.recv_timeout(PATIENCE);
    // Another length as well, where the clock of the file system is coarse.
    fs::write(folder.path("clock.tests.yaml"), MIXED).unwrap();
    let second = summaries.recv_timeout(PATIENCE);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    assert_eq!(first.as_deref(), Ok("2 cases: 2 passed, 0 failed"));
    assert_eq!(second.as_deref(), Ok("3 cases: 1 passed, 2 failed"));
    let nothing = Folder::new().run(&["test", "--watch"]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    assert!(nothing.stderr.contains("name files to watch"), "{nothing:?}");
}

#[test]
fn the_schema_of_tests_is_printed() {
    let ran = Folder::new().run(&["test", "--schema"]);
    assert_eq!(ran.stdout, include_str!("../../../policies/tests.schema.json"));
}
