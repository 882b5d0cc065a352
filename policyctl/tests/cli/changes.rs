//! What authors of policies do with them: see what a change comes to, lay files out, start a folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::folder::{Folder, Ran};

const PROFILE: &str = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;

fn deadline(millis: u32) -> String {
    format!(
        "@id(\"d\")\npermit (\n  principal in Profile::\"p\",\n  action == Action::\"elapse\",\n  resource == Meter::\"guest\"\n)\nwhen {{ context.millis <= {millis} }};\n"
    )
}

/// `old` and `new`, folders that differ in a deadline.
fn sides(old: &str, new: &str) -> Folder {
    let folder = Folder::new();
    for (side, text) in [("old", old), ("new", new)] {
        fs::create_dir(folder.path(side)).unwrap();
        fs::write(folder.path(side).join("a.cedar"), text).unwrap();
        fs::write(folder.path(side).join("a.entities.json"), PROFILE).unwrap();
    }
    folder
}

fn diff(folder: &Folder, more: &[&str]) -> Ran {
    folder.run(&[&["diff", "--no-stock", "old", "new"], more].concat())
}

#[test]
fn a_difference_fails_where_it_was_asked_to() {
    let raised = sides(&deadline(500), &deadline(900));
    let lowered = sides(&deadline(900), &deadline(500));
    let same = sides(&deadline(500), &deadline(500).replace("500", "5 * 100"));
    let code = |folder: &Folder, fail_on: &str| diff(folder, &["--fail-on", fail_on]).code;
    for (fail_on, codes) in [
        ("none", [0, 0, 0]),
        ("widening", [1, 0, 0]),
        ("narrowing", [0, 1, 0]),
        ("any", [1, 1, 0]),
    ] {
        let got = [&raised, &lowered, &same].map(|folder| code(folder, fail_on));
        assert_eq!(got, codes.map(Some), "{fail_on}");
    }
    assert_eq!(diff(&raised, &[]).code, Some(0));
    assert_eq!(diff(&same, &[]).stdout, "no change in effect\n");
    let told = diff(&raised, &[]);
    assert_eq!(
        told.stdout,
        "profile p\n  widening   elapse                 500 ms -> 900 ms               d\n\n1 widening\n"
    );
    assert_eq!(told.stderr, "");
}

#[test]
fn a_difference_for_programs_and_for_pull_requests() {
    let raised = sides(&deadline(500), &deadline(900).replace("\"d\"", "\"a|b<x>\""));
    let json: serde_json::Value = serde_json::from_str(&diff(&raised, &["--format", "json"]).stdout).unwrap();
    let change = &json["principals"][0]["changes"][0];
    assert_eq!(change["direction"], "widening");
    assert_eq!(change["what"]["kind"], "bound");
    assert_eq!(change["what"]["new"]["bound"]["limited"], 900);
    let markdown = diff(&raised, &["--format", "markdown"]).stdout;
    assert!(
        markdown.contains("| **widening** | profile `p` | `elapse` | 500 ms | 900 ms | `d` → `a\\|b<x>` |"),
        "{markdown}"
    );
}

#[test]
fn a_side_that_does_not_load_is_no_answer() {
    let folder = sides(&deadline(500), "permit (principal action);");
    let ran = diff(&folder, &["--fail-on", "none"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("new/a.cedar:1"), "{ran:?}");
    assert!(
        ran.stderr.contains("error: the policies in `new` do not load"),
        "{ran:?}"
    );
    let both = folder.run(&["diff", "-", "-"]);
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[test]
fn files_are_laid_out_in_place() {
    let folder = Folder::new();
    let (untidy, tidy) = (deadline(500).replace("permit (\n  ", "permit("), deadline(500));
    fs::write(folder.path("a.cedar"), &untidy).unwrap();
    fs::set_permissions(folder.path("a.cedar"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a.cedar", folder.path("link.cedar")).unwrap();
    let checked = folder.run(&["fmt", "--check", "link.cedar"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert_eq!(
        checked.stdout,
        "link.cedar:2\n- permit(principal in Profile::\"p\",\n+ permit (\n+   principal in Profile::\"p\",\n1 file would be changed\n"
    );
    assert_eq!(fs::read_to_string(folder.path("a.cedar")).unwrap(), untidy);
    let ran = folder.run(&["fmt", "link.cedar"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(fs::read_to_string(folder.path("a.cedar")).unwrap(), tidy);
    assert!(folder.path("link.cedar").symlink_metadata().unwrap().is_symlink());
    let mode = fs::metadata(folder.path("a.cedar")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let names = fs::read_dir(folder.path(".")).unwrap().count();
    assert_eq!(names, 2, "nothing is left beside them");
    assert_eq!(folder.run(&["fmt", "--check", "."]).code, Some(0));
}

#[test]
fn what_does_not_parse_is_not_touched() {
    let folder = Folder::new();
    fs::write(folder.path("bad.cedar"), "permit (principal action);").unwrap();
    fs::write(folder.path("good.cedar"), deadline(500) + "\n\n\n").unwrap();
    let ran = folder.run(&["fmt", "."]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("bad.cedar:1"), "{ran:?}");
    assert_eq!(
        fs::read_to_string(folder.path("bad.cedar")).unwrap(),
        "permit (principal action);"
    );
    assert_eq!(fs::read_to_string(folder.path("good.cedar")).unwrap(), deadline(500));
    assert_eq!(folder.run(&["fmt", "gone.cedar"]).code, Some(2));
    assert_eq!(folder.run(&["fmt", "bad.json"]).code, Some(2));
}

#[test]
fn a_starter_is_written_once_and_is_clean() {
    let folder = Folder::new();
    let ran = folder.run(&["init", "fresh"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let checked = folder.run(&["check", "fresh/grants.cedar"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("profile plugin\n"), "{checked:?}");
    assert_eq!(folder.run(&["fmt", "--check", "fresh"]).code, Some(0));
    fs::write(folder.path("fresh/grants.cedar"), "// mine\n").unwrap();
    fs::remove_file(folder.path("fresh/grants.tests.yaml")).unwrap();
    let again = folder.run(&["init", "fresh"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(
        again
            .stderr
            .contains("left as it is: fresh/grants.cedar is there already"),
        "{again:?}"
    );
    assert_eq!(again.stdout, "wrote fresh/grants.tests.yaml\n");
    assert_eq!(
        fs::read_to_string(folder.path("fresh/grants.cedar")).unwrap(),
        "// mine\n"
    );
    fs::write(folder.path("file"), "").unwrap();
    assert_eq!(folder.run(&["init", "file"]).code, Some(2));
}

#[test]
fn every_shell_is_offered_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = folder.run(&["completions", shell]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for command in ["check", "diff", "fmt", "init", "replay"] {
            assert!(ran.stdout.contains(command), "{shell} {command}");
        }
    }
    assert_eq!(folder.run(&["completions", "csh"]).code, Some(2));
}
