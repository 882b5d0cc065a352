//! Subjects behind adapters: what is known to fail is no finding, everything else is, and who is not there is named.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::folder::Folder;

/// It cannot fence, and says that it did: `attach` with a plan makes the file as it does without.
const LIAR: &str = r#"#!/bin/sh
read -r hello
echo '{"type":"hello","protocol":1,"subject":"liar","version":"1","kinds":["sql"],"meters":[],"actions":["attach"]}'
read -r run
echo x > loot
echo '{"type":"done","case":"sql/loot","class":"denied.sql-action"}'
"#;

const LOOT: &str = "
why: A guest that is denied ATTACH makes no file.
source: https://sqlite.org/lang_attach.html
cwe: [22]
threat: files
profile: walkin
guest:
  sql: attach '${outside}/loot' as loot; create table loot.t(x);
expect: denied.sql-action
stopped_by: [screen, authorizer, limits, landlock, seccomp]
control:
  file: loot
";

const GAP: &str = r#"
[[gap]]
outcome = "undetected"
reason = "It lies."
expires = 2999-12-31
cases = ["sql/loot"]
"#;

fn with_liar() -> Folder {
    let folder = Folder::new();
    for name in ["subjects/liar", "subjects/gone", "expectations", "corpora/sql"] {
        fs::create_dir_all(folder.path(name)).unwrap();
    }
    for (name, program) in [
        ("liar", LIAR),
        ("gone", "#!/bin/sh\necho 'not installed' >&2; exit 69\n"),
    ] {
        let start = folder.path(&format!("subjects/{name}/start"));
        fs::write(&start, program).unwrap();
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(folder.path("corpora/sql/loot.yaml"), LOOT).unwrap();
    folder
}

#[test]
fn a_failure_is_a_finding_until_it_is_written_down() {
    let folder = with_liar();
    let play = || folder.run(&["scoreboard", "--subjects", "subjects", "corpora"]);
    let ran = play();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("liar: sql/loot: undetected, and no gap says so"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("absent: gone: "), "{ran:?}");
    assert!(ran.stdout.contains("not installed"), "{ran:?}");
    fs::write(folder.path("expectations/liar.toml"), GAP).unwrap();
    assert_eq!(play().code, Some(0), "{:?}", play());
}

#[test]
fn a_gap_that_is_closed_is_a_finding() {
    let folder = with_liar();
    fs::write(folder.path("expectations/liar.toml"), GAP).unwrap();
    let honest = LIAR.replace(
        "echo x",
        "case $run in *'\"plan\":null'*) true ;; *) false ;; esac && echo x",
    );
    fs::write(folder.path("subjects/liar/start"), honest).unwrap();
    let ran = folder.run(&["replay", "--subject", "subjects/liar", "corpora"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr
            .contains("stopped, and a gap says `undetected`: strike it off"),
        "{ran:?}"
    );
}

#[test]
fn nobody_put_to_the_test_is_no_answer() {
    let folder = with_liar();
    let silent = folder.run(&["replay", "--subject", "subjects/gone", "corpora"]);
    assert_eq!(silent.code, Some(2), "{silent:?}");
    assert!(silent.stderr.contains("not installed"), "{silent:?}");
    let typo = folder.run(&["replay", "--subject", "referense", "corpora"]);
    assert_eq!(typo.code, Some(2), "{typo:?}");
    assert!(typo.stderr.contains("neither `reference`"), "{typo:?}");
    let unknown = folder.run(&["scoreboard", "--subjects", "subjects", "--only", "nobody", "corpora"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    let unclaimed = LIAR.replace(r#"["attach"]"#, "[]");
    fs::write(folder.path("subjects/liar/start"), unclaimed).unwrap();
    let skipped = folder.run(&["replay", "--subject", "subjects/liar", "corpora"]);
    assert_eq!(skipped.code, Some(2), "a skip is never a pass: {skipped:?}");
}
