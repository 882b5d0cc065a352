//! Reports of a replay: in every form, from shards, after an interruption, and with a hostile guest's text in them.

use std::fs;

use serde_json::Value;

use crate::folder::{Folder, Ran};

const FORMATS: [&str; 7] = ["human", "json", "junit", "tap", "sarif", "markdown", "html"];

/// Four honest cases: they are played in a moment.
fn stage(folder: &Folder) {
    fs::create_dir_all(folder.path("corpora/benign")).unwrap();
    for number in 1..=4 {
        let case = format!(
            "why: x\nprofile: walkin\nguest: {{sql: select {number} as n}}\nexpect: completed\nreturns: {{rows: [[{number}]]}}\n"
        );
        fs::write(folder.path(&format!("corpora/benign/{number}.yaml")), case).unwrap();
    }
}

fn replay(folder: &Folder, more: &[&str]) -> Ran {
    folder.run(&[&["replay", "corpora", "--format", "json"], more].concat())
}

#[track_caller]
fn assert_no_answer(ran: &Ran, wanted: &str) {
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains(wanted), "{ran:?}");
}

#[test]
fn shards_are_one_replay_again() {
    let folder = Folder::new();
    stage(&folder);
    let cases = |text: &str| -> Vec<String> {
        let report: Value = serde_json::from_str(text).unwrap();
        let cases = report["cases"].as_array().unwrap();
        cases
            .iter()
            .map(|case| case["id"].as_str().unwrap().to_owned())
            .collect()
    };
    for shard in ["1/3", "2/3", "3/3"] {
        let ran = replay(&folder, &["--shard", shard]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        fs::write(folder.path(&format!("{}.json", shard.replace('/', "-"))), ran.stdout).unwrap();
    }
    let merged = folder.run(&["report", "--format", "json", "3-3.json", "1-3.json", "2-3.json"]);
    assert_eq!(cases(&merged.stdout), cases(&replay(&folder, &[]).stdout));
    fs::write(folder.path("all.json"), &merged.stdout).unwrap();

    assert_no_answer(&folder.run(&["report", "1-3.json", "3-3.json"]), "shard 2/3 is missing");
    assert_no_answer(
        &folder.run(&["report", "1-3.json", "1-3.json"]),
        "so has a report before it",
    );
    assert_no_answer(&folder.run(&["report", "1-3.json"]), "shard 2/3 is missing");
    assert_no_answer(&folder.run(&["replay", "--shard", "4/3"]), "is no shard");
    fs::write(
        folder.path("corpora/benign/1.yaml"),
        fs::read(folder.path("corpora/benign/2.yaml")).unwrap(),
    )
    .unwrap();
    let other = replay(&folder, &["--shard", "2/3"]);
    fs::write(folder.path("other.json"), other.stdout).unwrap();
    assert_no_answer(
        &folder.run(&["report", "1-3.json", "other.json", "3-3.json"]),
        "`other.json`: it is of another suite or corpus than `1-3.json`",
    );
}

#[test]
fn what_is_no_report_is_said_to_be_none() {
    let folder = Folder::new();
    stage(&folder);
    let report = replay(&folder, &[]).stdout;
    let with = |from: &str, to: &str| {
        assert!(report.contains(from), "{report}");
        fs::write(folder.path("report.json"), report.replacen(from, to, 1)).unwrap();
        folder.run(&["report", "report.json"])
    };
    assert_eq!(with("x", "x").code, Some(0));
    assert_no_answer(&with("{", "["), "this is no JSON");
    assert_no_answer(&with("\"report\"", "\"rapport\""), "this is no report of a replay");
    assert_no_answer(
        &with("\"report\": 1", "\"report\": 7"),
        "it is a report of version 7, and this program reads version 1",
    );
    assert_no_answer(
        &with("\"held\": 4", "\"held\": 3"),
        "its `summary` does not follow from its `cases`",
    );
    assert_no_answer(&folder.run(&["report", "gone.json"]), "cannot read report `gone.json`");
}

#[test]
fn an_interrupted_replay_goes_on() {
    let folder = Folder::new();
    stage(&folder);
    let whole = replay(&folder, &["--journal", "journal"]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let journal = fs::read_to_string(folder.path("journal")).unwrap();
    let lines: Vec<&str> = journal.lines().collect();
    assert_eq!(lines.len(), 5, "a header and four cases");
    // As a kill leaves it: two cases, and half of one.
    let half = &lines[3][..lines[3].len() / 2];
    fs::write(
        folder.path("journal"),
        format!("{}\n{}\n{}\n{half}", lines[0], lines[1], lines[2]),
    )
    .unwrap();
    let rest = replay(&folder, &["--journal", "journal"]);
    let verdicts = |ran: &Ran| -> Vec<String> {
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let cases = report["cases"].as_array().unwrap().iter();
        cases
            .map(|case| format!("{} {}", case["id"], case["trials"][0]["verdict"]))
            .collect()
    };
    assert_eq!(verdicts(&rest), verdicts(&whole));
    assert_eq!(fs::read_to_string(folder.path("journal")).unwrap().lines().count(), 5);
    assert_no_answer(
        &replay(&folder, &["--journal", "journal", "--repeat", "2"]),
        "it was begun with another",
    );
    fs::write(folder.path("journal"), "something else\n").unwrap();
    assert_no_answer(&replay(&folder, &["--journal", "journal"]), "it is no journal");
}

/// What a guest calls its column comes back in the reason why its case failed.
#[test]
fn no_report_is_written_by_a_guest() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("corpora/benign")).unwrap();
    let evil = "</td><script>alert(1)</script>\\u001b[2J|`<img src=x onerror=alert(1)>\\n1..0\\nok 1 - forged";
    let case = format!(
        "why: \"<b>why</b> {evil}\"\nprofile: walkin\nguest: {{sql: \"select 1 from \\\"{evil}\\\"\"}}\nexpect: completed\nreturns: {{rows: [[1]]}}\n"
    );
    fs::write(folder.path("corpora/benign/evil.yaml"), case).unwrap();
    let report = replay(&folder, &[]);
    assert_eq!(report.code, Some(1), "{report:?}");
    fs::write(folder.path("report.json"), &report.stdout).unwrap();
    for format in FORMATS {
        let ran = folder.run(&["report", "--format", format, "report.json"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let shown = ran.stdout + &ran.stderr;
        assert!(shown.contains("no such table"), "{format}: {shown}");
        assert!(!shown.contains('\u{1b}'), "{format}: {shown}");
        assert!(
            !shown
                .lines()
                .any(|line| line == "1..0" || line.starts_with("ok 1 - forged")),
            "{format}: {shown}"
        );
        if ["html", "junit", "markdown"].contains(&format) {
            assert!(
                !shown.contains("<script") && !shown.contains("<img") && !shown.contains("<b>"),
                "{format}: {shown}"
            );
        }
    }
}

#[test]
fn a_page_needs_nothing_and_runs_nothing() {
    let folder = Folder::new();
    stage(&folder);
    fs::write(folder.path("report.json"), replay(&folder, &[]).stdout).unwrap();
    let page = folder.run(&["report", "--format", "html", "report.json"]).stdout;
    for forbidden in ["<script", "src=", "href=", "url(", "@import", "onclick"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"), "{page}");
    assert_eq!(page.matches("<details ").count(), 4);
}

#[test]
fn what_is_no_claim_is_said_to_be_none() {
    let folder = Folder::new();
    let with = |text: &str| {
        fs::write(folder.path("claim.json"), text).unwrap();
        folder.run(&["verify-claim", "claim.json"])
    };
    assert_no_answer(&with("{"), "this is no JSON");
    assert_no_answer(&with("{}"), "this is no claim");
    assert_no_answer(
        &with("{\"claim\": 2}"),
        "it is a claim of version 2, and this program reads version 1",
    );
    assert_no_answer(&with("{\"claim\": 1, \"date\": 3}"), "invalid type");
    let claim = r#"{"claim": 1, "date": "2026-02-21", "subject": "reference",
        "suite": {"report": 1, "version": "0.1.0", "corpus": "00", "rigour": "proof", "repeat": 1},
        "machine": {"kernel": "", "layers": []}, "conformant": true, "because": [], "verdicts": {}}"#;
    assert_no_answer(&with(claim), "cannot be verified here: its corpus is 00");
    assert_no_answer(
        &with(&claim.replace("0.1.0", "0.0.9")),
        "it was made with version 0.0.9",
    );
    assert_no_answer(&folder.run(&["claim", "--without", "moat"]), "there is no such layer");
}

#[test]
fn the_published_schema_is_the_one_in_force() {
    let folder = Folder::new();
    let ran = folder.run(&["report", "--schema"]);
    let published = include_str!("../../../conformance/report.schema.json");
    assert_eq!(
        ran.stdout, published,
        "write it anew: policyctl report --schema > conformance/report.schema.json"
    );
}
