//! `policyctl check`: what it answers with, in each of its forms.

use std::fs;

use serde_json::Value;

use crate::folder::{Folder, Ran};

const TEAM: &str =
    r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "pure"}]}]"#;

/// An error, a warning and an allowed warning, each in a file of its own.
fn folder() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("set")).unwrap();
    let files = [
        ("set/team.entities.json", TEAM),
        (
            "set/1 loose.cedar",
            "@id(\"loose\")\npermit (principal, action == Action::\"writeLog\", resource);\n",
        ),
        (
            "set/2 allowed.cedar",
            "@id(\"allowed\") @allow(\"unscoped-permit: time, 100% of it\")\npermit (principal, action == Action::\"readClock\", resource);\n",
        ),
        (
            "wrong.cedar",
            "@id(\"wrong\") permit (principal in Profile::\"taem\", action == Action::\"readClock\", resource);\n",
        ),
    ];
    for (name, text) in files {
        fs::write(folder.path(name), text).unwrap();
    }
    folder
}

#[track_caller]
fn assert_code(ran: &Ran, code: i32) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).expect("the answer is one JSON object")
}

#[test]
fn errors_fail_and_warnings_only_where_they_are_denied() {
    let folder = folder();
    let warned = folder.run(&["check", "set"]);
    assert_code(&warned, 0);
    assert!(warned.stdout.ends_with("1 warning; 1 allowed\n"), "{warned:?}");
    assert_code(&folder.run(&["check", "--deny", "warnings", "set"]), 1);
    assert_code(&folder.run(&["check", "--deny", "warnings", "set/2 allowed.cedar"]), 0);
    assert_code(&folder.run(&["check", "wrong.cedar"]), 1);
    assert_code(&folder.run(&["check", "--deny", "warnings", "gone.cedar"]), 2);
}

#[test]
fn files_folders_and_standard_input_are_one_set() {
    let folder = folder();
    let files = ["check", "--format", "json", "set", "set/1 loose.cedar", "-"];
    let with = |id: &str| {
        let text = format!(
            "@id(\"{id}\") permit (principal, action in [Action::\"writeLog\", Action::\"readRandom\"], resource);"
        );
        fs::write(folder.path("input"), text).unwrap();
        let input = fs::File::open(folder.path("input")).unwrap();
        let output = folder.command(&files).stdin(input).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = report["findings"].as_array().unwrap().iter();
        let found = found.map(|finding| {
            let of = |value: &Value| value.as_str().unwrap().to_owned();
            (of(&finding["code"]), of(&finding["location"]["source"]))
        });
        (output.status.code(), found.collect::<Vec<_>>())
    };
    let found = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(code, source)| ((*code).to_owned(), (*source).to_owned()))
            .collect()
    };
    assert_eq!(with("loose"), (Some(1), found(&[("duplicate-id", "<stdin>")])));
    // In the order of the command line; a file that is named twice is read once.
    let both = [
        ("redundant-policy", "set/1 loose.cedar"),
        ("unscoped-permit", "set/1 loose.cedar"),
        ("unscoped-permit", "<stdin>"),
    ];
    assert_eq!(with("other"), (Some(0), found(&both)));
}

#[test]
fn json_has_the_findings_and_what_is_allowed() {
    let report = json(&folder().run(&["check", "--format", "json", "set"]));
    assert_eq!(report["findings"][0]["code"], "unscoped-permit");
    assert_eq!(report["findings"][0]["severity"], "warning");
    assert_eq!(report["allowed"][0]["finding"]["code"], "unscoped-permit");
    assert_eq!(report["allowed"][0]["reason"], "time, 100% of it");
    assert!(!report["profiles"].as_array().unwrap().is_empty());
}

#[test]
fn sarif_has_rules_regions_and_suppressions() {
    let folder = folder();
    let ran = folder.run(&["check", "--format", "sarif", "--deny", "warnings", "./set"]);
    assert_code(&ran, 1);
    let log = json(&ran);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for rule in rules {
        for text in [&rule["shortDescription"], &rule["fullDescription"], &rule["help"]] {
            assert!(!text["text"].as_str().unwrap().is_empty(), "{rule}");
        }
        assert!(rule.get("helpUri").is_none(), "{rule}");
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{log}");
    for result in results {
        assert_eq!(
            rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]["id"],
            result["ruleId"]
        );
        assert_eq!(result["level"], "warning");
    }
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "set/1%20loose.cedar");
    let region = [
        &place["region"]["startLine"],
        &place["region"]["startColumn"],
        &place["region"]["endColumn"],
    ];
    assert_eq!(region.map(|number| number.as_u64().unwrap()), [2, 9, 18]);
    assert!(results[0].get("suppressions").is_none());
    assert_eq!(results[1]["suppressions"][0]["kind"], "inSource");
    assert_eq!(results[1]["suppressions"][0]["justification"], "time, 100% of it");
    let clean = json(&folder.run(&["check", "--format", "sarif", "set/team.entities.json"]));
    assert_eq!(clean["runs"][0]["results"], Value::Array(Vec::new()));
}

#[test]
fn github_gets_one_escaped_command_for_each_finding() {
    let folder = folder();
    fs::write(
        folder.path("set/3,odd.cedar"),
        "@id(\"wrong\") permit (principal in Profile::\"taem\\r\\n::error::50%\", action == Action::\"readClock\", resource);\n",
    )
    .unwrap();
    let ran = folder.run(&["check", "--format", "github", "set"]);
    assert_code(&ran, 1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(lines[0].starts_with("::error file=set/3%2Codd.cedar,line=1,col=1,title=validation-warning::"));
    assert!(
        lines[1].starts_with("::error file=set/3%2Codd.cedar,line=1,col=35,title=unknown-profile::profile `taem"),
        "{ran:?}"
    );
    assert!(lines.iter().all(|line| line.contains("50%25")), "{ran:?}");
    fs::remove_file(folder.path("set/3,odd.cedar")).unwrap();
    let ran = folder.run(&["check", "--format", "github", "set"]);
    assert_code(&ran, 0);
    assert!(
        ran.stdout
            .starts_with("::warning file=set/1 loose.cedar,line=2,col=9,title=unscoped-permit::"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("%0Ahelp: "), "{ran:?}");
}

#[test]
fn a_code_is_explained_without_any_file() {
    let folder = Folder::new();
    let page = folder.run(&["check", "--explain", "redundant-policy"]);
    assert_code(&page, 0);
    assert!(page.stdout.starts_with("# redundant-policy\n"), "{page:?}");
    assert!(
        page.stdout.contains("```cedar avoid") && page.stdout.contains("```cedar prefer"),
        "{page:?}"
    );
    let explained = json(&folder.run(&["check", "--explain", "syntax", "--format", "json"]));
    assert_eq!(explained["severity"], "error");
    assert_eq!(explained["meaning"], "The text is not a Cedar policy.");
    let near = folder.run(&["check", "--explain", "redundant-polcy"]);
    assert_code(&near, 2);
    assert!(near.stderr.contains("did you mean `redundant-policy`?"), "{near:?}");
    let far = folder.run(&["check", "--explain", "E0001"]);
    assert_code(&far, 2);
    assert!(far.stderr.contains("the codes are syntax, "), "{far:?}");
    assert_code(&folder.run(&["check", "--explain", "syntax", "--format", "sarif"]), 2);
    assert_code(&folder.run(&["check"]), 2);
}

#[test]
fn a_hundred_findings_are_shown_and_the_rest_counted() {
    let folder = Folder::new();
    let policies: String = (0..103)
        .map(|index| format!("@id(\"p{index}\") permit (principal in Profile::\"p{index}\", action == Action::\"readClock\", resource);\n"))
        .collect();
    fs::write(folder.path("many.cedar"), policies).unwrap();
    let ran = folder.run(&["check", "many.cedar"]);
    assert_code(&ran, 1);
    assert_eq!(ran.stderr.matches("unknown-profile").count(), 100, "{ran:?}");
    assert!(
        ran.stderr
            .ends_with("and 3 more; `policyctl check --format json` has all\n"),
        "{ran:?}"
    );
    assert!(ran.stdout.ends_with("103 errors\n"), "{ran:?}");
    let report = json(&folder.run(&["check", "--format", "json", "many.cedar"]));
    assert_eq!(report["findings"].as_array().unwrap().len(), 103);
}
